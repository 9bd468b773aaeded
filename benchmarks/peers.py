"""What one could pick instead: one small function for each peer, all with the same answer.

Of all pairs: (shared, equal), int (n, n): the products both stores sell, those of them at the same price. Of one
store and many: the same two counts, (n,). Libraries are imported where they are used, so that one may be missing.
"""
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
from numba import njit, prange

Counts = tuple[np.ndarray, np.ndarray]
THREADS = 2


def same_counts(name: str, got: Counts, want: Counts) -> None:
    "Stop the run if a peer's answer is not ours: a comparison of different work means nothing."
    for what, a, b in zip(("shared", "equal"), got, want, strict=True):
        if not np.array_equal(a, b): raise AssertionError(f"{name}: other {what} counts than ours")


# All pairs, from the int32 matrix

@njit(parallel=True)
def numba_loop(prices: np.ndarray) -> Counts:
    "The obvious loop over pairs and products, compiled, on all cores."
    n, products = prices.shape
    shared, equal = np.zeros((n, n), np.int32), np.zeros((n, n), np.int32)
    for i in prange(n):
        for j in range(i, n):
            both = same = np.int32(0)
            for p in range(products):
                a, b = prices[i, p], prices[j, p]
                both += (a >= 0) & (b >= 0)
                same += (a >= 0) & (a == b)
            shared[i, j] = shared[j, i] = both
            equal[i, j] = equal[j, i] = same
    return shared, equal


def numpy_rows(prices: np.ndarray) -> Counts:
    "Each row against all rows after it."
    n, sold = len(prices), prices >= 0
    shared, equal = np.zeros((2, n, n), np.int32)
    for i in range(n):
        both = sold[i:] & sold[i]
        shared[i, i:] = shared[i:, i] = np.count_nonzero(both, axis=1)
        equal[i, i:] = equal[i:, i] = np.count_nonzero(both & (prices[i:] == prices[i]), axis=1)
    return shared, equal


def from_differences(sold_differs: np.ndarray, price_differs: np.ndarray, sold: np.ndarray, products: int) -> Counts:
    "The counts from how many products differ in being sold and in price; not sold twice is no difference in price."
    either = sold[:, None] + sold
    shared = (either - sold_differs) // 2
    return shared, products - price_differs - (products - either + shared)


def scipy_cdist(prices: np.ndarray) -> Counts:
    "scipy's Hamming distance, once for prices and once for what is sold."
    from scipy.spatial.distance import cdist

    products, sold = prices.shape[1], prices >= 0
    x = prices.astype(float)
    by_sold, by_price = (np.rint(cdist(a, a, "hamming") * products).astype(np.int64) for a in (sold, x))
    return from_differences(by_sold, by_price, sold.sum(1), products)


def price_columns(prices: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    "A column for each (product, price): the store and the column of each price, and how many columns there are."
    store, product = np.nonzero(prices >= 0)
    keys = product * 2**32 + prices[store, product]
    kinds, column = np.unique(keys, return_inverse=True)
    return store, column, len(kinds)


def one_hot_blas(prices: np.ndarray, width: int = 2000) -> Counts:
    "float32 matrices of ones and zeros, multiplied; some products at a time, as one-hot prices need much memory."
    sold = (prices >= 0).astype(np.float32)
    equal = np.zeros((len(prices), len(prices)), np.float32)
    for left in range(0, prices.shape[1], width):
        store, column, columns = price_columns(prices[:, left:left + width])
        hot = np.zeros((len(prices), columns), np.float32)
        hot[store, column] = 1
        equal += hot @ hot.T
    return (sold @ sold.T).astype(np.int32), equal.astype(np.int32)


def one_hot_sparse(prices: np.ndarray) -> Counts:
    "The same with scipy's sparse matrices."
    from scipy.sparse import csr_array

    store, column, columns = price_columns(prices)
    hot = csr_array((np.ones(len(store), np.int32), (store, column)), (len(prices), columns))
    sold = csr_array((prices >= 0).astype(np.int32))
    return (sold @ sold.T).toarray(), (hot @ hot.T).toarray()


def long_table(prices: np.ndarray) -> dict[str, np.ndarray]:
    "A row for each price: store, product, price."
    store, product = np.nonzero(prices >= 0)
    return {"store": store.astype(np.int32), "product": product.astype(np.int32), "price": prices[store, product]}


def counts_of_pairs(n: int, i: np.ndarray, j: np.ndarray, shared: np.ndarray, equal: np.ndarray) -> Counts:
    "Matrices from the pairs i <= j that a query found."
    both, same = np.zeros((2, n, n), np.int64)
    both[i, j] = both[j, i] = shared
    same[i, j] = same[j, i] = equal
    return both, same


def duckdb_pairs(prices: np.ndarray) -> Counts:
    "A self-join on the product, in DuckDB."
    found = duckdb_table(prices).execute("""
        select a.store i, b.store j, count(*) shared, count(*) filter (a.price = b.price) equal
        from t a join t b on a.product = b.product and a.store <= b.store group by all""").fetchnumpy()
    return counts_of_pairs(len(prices), *(found[k] for k in ("i", "j", "shared", "equal")))


def polars_pairs(prices: np.ndarray) -> Counts:
    "A self-join on the product, in Polars' streaming engine."
    import polars as pl

    t = pl.LazyFrame(long_table(prices))
    pairs = t.join(t, on="product", suffix="_b").filter(pl.col("store") <= pl.col("store_b"))
    found = pairs.group_by("store", "store_b").agg(
        pl.len().alias("shared"), (pl.col("price") == pl.col("price_b")).sum().alias("equal"))
    return counts_of_pairs(len(prices), *found.collect(engine="streaming").to_numpy().T)


# The pair kernel, on prepared bits

def hot_bits(prices: np.ndarray, block: int = 2000) -> np.ndarray:
    "A bit for each (product, price) that two stores or more have, uint8 (n, bytes): what a one-hot kernel reads."
    parts = []
    for left in range(0, prices.shape[1], block):
        store, column, columns = price_columns(prices[:, left:left + block])
        hot = np.zeros((len(prices), columns), bool)
        hot[store, column] = True
        parts.append(hot[:, hot.sum(0) > 1])  # a price of one store is never equal to another's
    return padded_bits(np.concatenate(parts, axis=1))


def padded_bits(flags: np.ndarray) -> np.ndarray:
    "Bits packed into whole cache lines, as kernels like them."
    bits = np.packbits(np.ascontiguousarray(flags), axis=1)
    return np.pad(bits, ((0, 0), (0, -bits.shape[1] % 64)))


def numkong_differences(bits: np.ndarray) -> np.ndarray:
    "Bits that differ, of all pairs, by NumKong; the triangle is cut so that each thread has as much to do."
    import numkong as nk

    n = len(bits)
    out = nk.zeros((n, n), dtype="uint32")
    cuts = [round(n * (1 - (1 - t / THREADS) ** .5)) for t in range(THREADS + 1)]

    def rows(t: int) -> None:
        nk.hammings_symmetric(bits, dtype="uint1", out=out, start_row=cuts[t], end_row=cuts[t + 1])

    with ThreadPoolExecutor(THREADS) as pool: list(pool.map(rows, range(THREADS)))
    return np.asarray(out)


def simsimd_differences(bits: np.ndarray) -> np.ndarray:
    "Bits that differ, of all pairs, by SimSIMD, on two threads."
    import simsimd

    return np.asarray(simsimd.cdist(bits, bits, "hamming", dtype="bin8", out_dtype="uint32", threads=THREADS))


def from_bit_differences(sold_differs: np.ndarray, hot_differs: np.ndarray, sold: np.ndarray,
                         hot: np.ndarray) -> Counts:
    "The counts from the bits that differ; only what is above the diagonal is read."
    def common(bits: np.ndarray, differs: np.ndarray) -> np.ndarray:
        ones = np.bitwise_count(bits).sum(1, dtype=np.int64)
        upper = np.triu((ones[:, None] + ones - differs) // 2, 1)
        return upper + upper.T

    shared, equal = common(sold, sold_differs), common(hot, hot_differs)
    for counts in (shared, equal): np.fill_diagonal(counts, np.bitwise_count(sold).sum(1, dtype=np.int64))
    return shared, equal


# One store against many

def duckdb_table(prices: np.ndarray) -> Any:
    "A connection that holds the prices as a table."
    import duckdb

    con = duckdb.connect(config={"threads": THREADS})
    con.register("source", pd.DataFrame(long_table(prices)))
    con.execute("create table t as select * from source")
    return con


def counts_of_row(n: int, store: np.ndarray, shared: np.ndarray, equal: np.ndarray) -> Counts:
    "Vectors from the stores that a query found."
    both, same = np.zeros((2, n), np.int64)
    both[store], same[store] = shared, equal
    return both, same


def duckdb_row(con: Any, n: int, row: np.ndarray) -> Counts:
    "A join of the one store's products with the table."
    product = np.flatnonzero(row >= 0)
    con.register("one", pd.DataFrame({"product": product.astype(np.int32), "price": row[product]}))
    found = con.execute("""
        select t.store, count(*) shared, count(*) filter (t.price = one.price) equal
        from t join one on t.product = one.product group by all""").fetchnumpy()
    return counts_of_row(n, *(found[k] for k in ("store", "shared", "equal")))


def polars_row(table: Any, n: int, row: np.ndarray) -> Counts:
    "The same join in Polars; `table` is the Ambassadors' frame."
    import polars as pl

    product = np.flatnonzero(row >= 0)
    one = pl.LazyFrame({"product": product.astype(np.int32), "own": row[product]})
    found = table.lazy().join(one, on="product").group_by("store").agg(
        pl.len().alias("shared"), (pl.col("price") == pl.col("own")).sum().alias("equal"))
    return counts_of_row(n, *found.collect(engine="streaming").to_numpy().T)


def numpy_row(prices: np.ndarray, row: np.ndarray) -> Counts:
    "One broadcast comparison."
    both = (prices >= 0) & (row >= 0)
    return np.count_nonzero(both, axis=1), np.count_nonzero(both & (prices == row), axis=1)


@njit(parallel=True)
def numba_row(prices: np.ndarray, row: np.ndarray) -> Counts:
    "The obvious loop, compiled, on all cores."
    n = len(prices)
    shared, equal = np.zeros(n, np.int32), np.zeros(n, np.int32)
    for i in prange(n):
        both = same = np.int32(0)
        for p in range(row.size):
            a, b = row[p], prices[i, p]
            both += (a >= 0) & (b >= 0)
            same += (a >= 0) & (a == b)
        shared[i], equal[i] = both, same
    return shared, equal


# Signatures of sets

def tokens(row: np.ndarray) -> np.ndarray:
    "The set that a store is to a set hash: a well-mixed uint64 for each product it sells, with its price."
    product = np.flatnonzero(row >= 0).astype(np.uint64)
    x = product << np.uint64(32) | row[row >= 0].astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the mixer of SplitMix64
        x = (x ^ x >> np.uint64(shift)) * np.uint64(factor)
    return x ^ x >> np.uint64(31)


def datasketch_signature(row: np.ndarray, permutations: int = 128) -> Any:
    "datasketch's MinHash; the tokens are hashed already."
    from datasketch import MinHash

    sketch = MinHash(num_perm=permutations, seed=1, hashfunc=lambda token: token)
    sketch.update_batch((tokens(row) >> np.uint64(32)).tolist())
    return sketch


def rensa_signature(row: np.ndarray, permutations: int = 128) -> np.ndarray:
    "rensa's MinHash: uint32 (permutations,)."
    from rensa import RMinHash

    own = tokens(row)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(own, np.array([0, own.size], np.uint64), permutations, 1)
    return np.array(matrix.to_rows()[0], np.uint32)


def simhash_signature(row: np.ndarray) -> np.ndarray:
    "SimHash: each of 64 bits is what most tokens have there; uint8 (8,)."
    bits = np.unpackbits(tokens(row).view(np.uint8).reshape(-1, 8), axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a store that sells nothing has no mean
        return np.packbits(bits.mean(0) > .5)
