"""Overlap of stores: all pairs, one store against many, finding matches; ours beside what one could pick instead.

Run it with `make bench`. Every answer is checked against ours before anything is timed; the methods take turns, and
what counts are ratios within one run, as machines are busy with other things too.
"""
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import peers
from benchmarks.chain import Chain
from benchmarks.clock import Task, medians, seconds_of, warmed
from benchmarks.page import asked, machine, write_page
from scrapeopt.core.fingerprints import FingerprintIndex
from scrapeopt.core.bitplane_kernels import count_band
from scrapeopt.core.bitplanes import PricePlanes, _tiles, codebook, count_parts, join_planes
from scrapeopt.core.bitplanes import matching_pairs, pack, pair_counts, price_planes, row_counts

AT_LEAST = 0.95  # the True Overlap of a match
Row = dict[str, Any]  # of a table of results, by column
Tick = Callable[[str], None]  # shows what runs now


@dataclass(frozen=True)
class Sizes:
    "How much work; all in stores but for the products and the rounds."
    products: int = 25_000
    stores: int = 1_000
    slow: int = 240  # for peers that would take minutes
    joins: int = 400  # for databases
    ambassadors: int = 100_000
    per_zone: int = 20  # Ambassadors that are alike
    piece: int = 2_000  # stores made and packed at a time
    scans: int = 20  # queries that are timed
    recalls: int = 4_000  # queries whose recall is measured
    hashed: int = 1_500  # stores with set hashes
    growth: tuple[int, ...] = (250, 500, 1_000, 2_000, 4_000, 8_000)
    rounds: int = 5
    slow_rounds: int = 3


QUICK = Sizes(products=600, stores=60, slow=24, joins=24, ambassadors=2_000, per_zone=10, piece=500, scans=4,
              recalls=100, hashed=60, growth=(30, 60, 120), rounds=2, slow_rounds=1)


def result_rows(seconds: dict[str, float], size: str, targets: dict[str, float]) -> list[Row]:
    "Rows of a table from median times, the first of which is ours."
    ours = next(iter(seconds.values()))
    return [{"method": name, "size": size, "seconds": s, "ratio": s / ours, "target": targets.get(name)}
            for name, s in seconds.items()]


def compared(tasks: dict[str, Task], size: str, rounds: int, targets: dict[str, float], tick: Tick) -> list[Row]:
    "Check that all tasks give the counts of the first, then time them in turns."
    answers = warmed(tasks, tick)
    ours = next(iter(answers.values()))
    for name, answer in answers.items(): peers.same_counts(name, answer, ours)
    return result_rows(medians(tasks, rounds, tick), size, targets)


def all_pairs(sizes: Sizes, tick: Tick) -> list[Row]:
    "Section 1: both counts of all pairs, from the int32 matrix, preparation included."
    tick("stores")
    prices, rows = Chain(sizes.products).prices(0, max(sizes.stores, sizes.slow, sizes.joins)), []
    targets = {"numba int32 loop": 15, "scipy cdist": 20, "DuckDB self-join": 300, "Polars self-join": 300}
    groups: list[tuple[int, int, dict[str, Callable]]] = [
        (sizes.stores, sizes.rounds, {"numba int32 loop": peers.numba_loop}),
        (sizes.stores, sizes.slow_rounds, {"one-hot, BLAS": peers.one_hot_blas}),
        (sizes.stores, sizes.slow_rounds, {"scipy cdist": peers.scipy_cdist}),
        (sizes.slow, sizes.slow_rounds, {"numpy, row by row": peers.numpy_rows,
                                         "one-hot, scipy.sparse": peers.one_hot_sparse}),
        (sizes.joins, sizes.slow_rounds, {"DuckDB self-join": peers.duckdb_pairs,
                                          "Polars self-join": peers.polars_pairs})]
    for n, rounds, methods in groups:
        tasks = {name: partial(f, prices[:n]) for name, f in {"pair_counts": pair_counts, **methods}.items()}
        rows += compared(tasks, f"{n:,} stores", rounds, targets, tick)
    return rows


def planes_counts(planes: PricePlanes) -> peers.Counts:
    "The counts of all pairs, from stores that are packed."
    shared, equal = count_parts(planes)
    return shared[0], equal[0]


def kernel(sizes: Sizes, tick: Tick) -> list[Row]:
    "Section 2: the kernels alone, each on bits that were prepared for it."
    tick("bits")
    prices = Chain(sizes.products).prices(0, sizes.stores)
    planes, hot, sold = price_planes(prices), peers.hot_bits(prices), peers.padded_bits(prices >= 0)
    want = planes_counts(planes)
    n, book = len(prices), planes.book
    alone = partial(count_band, planes.records, book.planes, book.starts, book.edges, _tiles(0, n, n), 0, n,
                    *np.zeros((2, 1, n, n), np.int32))
    tasks: dict[str, Task] = {"the kernel of count_parts": alone,
                              "count_parts: and leftovers, both halves": partial(planes_counts, planes)}
    for name, f in (("NumKong", peers.numkong_differences), ("SimSIMD", peers.simsimd_differences)):
        tick(name)
        peers.same_counts(name, peers.from_bit_differences(f(sold), f(hot), sold, hot), want)
        tasks[f"{name}, both counts"] = lambda f=f: (f(sold), f(hot))
        tasks[f"{name}, equal prices only"] = partial(f, hot)
    targets = {"NumKong, both counts": 2, "SimSIMD, both counts": 2}
    return result_rows(medians(tasks, sizes.rounds, tick), f"{len(prices):,} stores", targets)


def threshold(sizes: Sizes, tick: Tick) -> list[Row]:
    "Section 3: only the pairs that match, beside all counts."
    planes = price_planes(Chain(sizes.products).prices(0, sizes.stores))
    ours, counts = f"matching_pairs, {AT_LEAST}", "count_parts"
    tasks: dict[str, Task] = {ours: partial(matching_pairs, planes, AT_LEAST), counts: partial(planes_counts, planes)}
    answers = warmed(tasks, tick)
    found, (shared, equal) = answers[ours], answers[counts]
    i, j = np.nonzero(np.triu((shared > 0) & (equal >= AT_LEAST * shared), 1))
    if not (np.array_equal(found.first, i) and np.array_equal(found.second, j)):
        raise AssertionError("matching_pairs: other pairs than the counts tell")
    size = f"{len(planes):,} stores, {len(found):,} matches"
    return result_rows(medians(tasks, sizes.rounds, tick), size, {})


def packed_row(row: np.ndarray, planes: PricePlanes, others: np.ndarray | None = None) -> peers.Counts:
    "The counts of a store, from its int32 prices, with stores that are packed."
    return row_counts(pack(row[None], planes.book), 0, planes, others)


def one_against_many(sizes: Sizes, tick: Tick) -> list[Row]:
    "Section 4: one store from its int32 prices; each way has the Ambassadors ready in its own form."
    import polars as pl

    n, chain = sizes.stores, Chain(sizes.products)
    prices, rogues = chain.prices(0, n), [chain.store(n + k) for k in range(sizes.scans)]
    planes, table, frame = price_planes(prices), peers.duckdb_table(prices), pl.DataFrame(peers.long_table(prices))
    ways: dict[str, Callable[[np.ndarray], peers.Counts]] = {
        "pack, row_counts": partial(packed_row, planes=planes), "numba int32 loop": partial(peers.numba_row, prices),
        "numpy": partial(peers.numpy_row, prices), "DuckDB join": partial(peers.duckdb_row, table, n),
        "Polars join": partial(peers.polars_row, frame, n)}

    def all_of(way: Callable[[np.ndarray], peers.Counts]) -> peers.Counts:
        shared, equal = zip(*map(way, rogues), strict=True)
        return np.array(shared), np.array(equal)

    tasks: dict[str, Task] = {name: partial(all_of, way) for name, way in ways.items()}
    rows = compared(tasks, f"{n:,} Ambassadors", sizes.rounds, {"DuckDB join": 100, "Polars join": 100}, tick)
    return [row | {"seconds": row["seconds"] / len(rogues)} for row in rows]


# Section 5: finding the matches

def is_match(counts: peers.Counts) -> np.ndarray:
    "Which stores match, from their counts."
    shared, equal = counts
    return (shared > 0) & (equal >= AT_LEAST * shared)


def packed_and_indexed(chain: Chain, sizes: Sizes, tick: Tick) -> tuple[PricePlanes, FingerprintIndex]:
    "All Ambassadors as planes and in an index of product sketches; piece by piece, as int32 they are 100 KB each."
    index, packs, book = FingerprintIndex(kind="sketch"), [], None
    for first in range(0, sizes.ambassadors, sizes.piece):
        tick(f"{first:,} Ambassadors")
        prices = chain.prices(first, min(first + sizes.piece, sizes.ambassadors))
        if book is None:
            # Spread over the piece, so that many zones have a say in which prices are common.
            book = codebook(prices[::max(1, len(prices) // 128)][:128], sizes.ambassadors)
        packs.append(pack(prices, book))
        index.add(prices)
    return join_planes(packs), index


def proposed_matches(index: FingerprintIndex, planes: PricePlanes, row: np.ndarray) -> np.ndarray:
    "The Ambassadors that match a store: the index proposes, the exact counts decide."
    found = np.asarray(index.propose(row, at_least=AT_LEAST), np.int64)
    return np.sort(found[is_match(packed_row(row, planes, found))])


def scanned_matches(planes: PricePlanes, row: np.ndarray) -> np.ndarray:
    "The Ambassadors that match a store, from the exact counts with all of them."
    return np.flatnonzero(is_match(packed_row(row, planes)))


def sketch_recall(chain: Chain, sizes: Sizes, planes: PricePlanes, index: FingerprintIndex,
                  tick: Tick) -> dict[str, float]:
    "How many true pairs the index proposes; the true ones are sought within the zone, as all of the timed queries lay."
    true = found = proposals = 0
    step = max(1, sizes.ambassadors // sizes.recalls)
    for s in range(0, sizes.ambassadors, step):
        tick(f"recall, {s:,}")
        mates = np.arange(s // sizes.per_zone * sizes.per_zone, (s // sizes.per_zone + 1) * sizes.per_zone)
        mates = mates[(mates != s) & (mates < sizes.ambassadors)]
        matches = mates[is_match(row_counts(planes, s, planes, mates))]
        got = np.asarray(index.propose(chain.store(s), at_least=AT_LEAST))
        true, found, proposals = true + len(matches), found + np.isin(matches, got).sum(), proposals + len(got)
    asked = len(range(0, sizes.ambassadors, step))
    return {"pairs": true, "recall": found / max(true, 1), "proposed": proposals / asked / sizes.ambassadors}


def search(sizes: Sizes, tick: Tick) -> list[Row]:
    "Section 5a: the matches of a store among very many, by exact scan and by product sketch."
    chain = Chain(sizes.products, zones=-(-sizes.ambassadors // sizes.per_zone), per_zone=sizes.per_zone, seed=1)
    planes, index = packed_and_indexed(chain, sizes, tick)
    asked = np.linspace(0, sizes.ambassadors - 1, sizes.scans).astype(int)
    rows = [chain.store(int(s)) for s in asked]
    for s, row in zip(asked, rows, strict=True):
        exact, quick = scanned_matches(planes, row), proposed_matches(index, planes, row)
        if not np.isin(quick, exact).all(): raise AssertionError("the index found what does not match")
        if (exact // sizes.per_zone != s // sizes.per_zone).any():
            raise AssertionError("a match of another zone: the recall would not count it")
    tasks: dict[str, Task] = {
        "sketch proposes, counts decide": lambda: [proposed_matches(index, planes, row) for row in rows],
        "exact scan": lambda: [scanned_matches(planes, row) for row in rows]}
    seconds = {name: s / len(rows) for name, s in medians(tasks, sizes.slow_rounds, tick).items()}
    timed = result_rows(seconds, f"{sizes.ambassadors:,} Ambassadors", {"exact scan": 50})
    timed[0] |= sketch_recall(chain, sizes, planes, index, tick)
    timed[1] |= {"recall": 1.0}
    return timed


def pair_recall(passes: np.ndarray, true: np.ndarray) -> dict[str, float]:
    "Recall and share of all pairs that pass, from symmetric (n, n) matrices."
    upper = np.triu(np.ones_like(true), 1)
    pairs = int((true & upper).sum())
    return {"pairs": pairs, "recall": float((passes & true & upper).sum() / max(1, pairs)),
            "proposed": float((passes & upper).sum() / upper.sum())}


def minhash_lsh(signatures: list, at: float) -> tuple[np.ndarray, float, float]:
    "Which pairs datasketch's LSH proposes; seconds to insert a signature and to ask for one."
    from datasketch import MinHashLSH

    n, lsh = len(signatures), MinHashLSH(threshold=at, num_perm=len(signatures[0].hashvalues))
    insert, _ = seconds_of(lambda: [lsh.insert(i, s) for i, s in enumerate(signatures)])
    ask, answers = seconds_of(lambda: [lsh.query(s) for s in signatures])
    passes = np.zeros((n, n), bool)
    for i, found in enumerate(answers): passes[i, found] = True
    return passes | passes.T, insert / n, ask / n


def scan(signatures: np.ndarray, near: Callable) -> tuple[np.ndarray, float]:
    "Which pairs of signatures are `near`, each asked against all; seconds for each that is asked."
    seconds, rows = seconds_of(lambda: [near(signatures, s) for s in signatures])
    return np.array(rows), seconds / len(signatures)


def set_hashes(sizes: Sizes, tick: Tick) -> list[Row]:
    "Section 5b: what set hashes make of the same question, on a smaller sample."
    n = sizes.hashed
    prices = Chain(sizes.products, zones=-(-n // sizes.per_zone), per_zone=sizes.per_zone, seed=1).prices(0, n)
    found, true, rows = matching_pairs(price_planes(prices), AT_LEAST), np.zeros((n, n), bool), []
    true[found.first, found.second] = true[found.second, found.first] = True

    def add(method: str, sign: float, ask: float, passes: np.ndarray) -> None:
        rows.append({"method": method, "size": f"{n:,} stores", "sign": sign, "seconds": ask,
                     **pair_recall(passes, true)})

    made = {}
    for name, f in (("datasketch", peers.datasketch_signature), ("rensa", peers.rensa_signature),
                    ("SimHash", peers.simhash_signature)):
        tick(f"{name} signatures")
        f(prices[0])  # loads the library
        seconds, signatures = seconds_of(lambda f=f: [f(row) for row in prices])
        made[name] = (seconds / n, signatures)
    sign, signatures = made["datasketch"]
    for at in (.8, .5):
        passes, _, ask = minhash_lsh(signatures, at)
        add(f"datasketch MinHash LSH, Jaccard {at}", sign, ask, passes)
    sign, signatures = made["rensa"]
    for at in (.8, .45):
        passes, ask = scan(np.array(signatures), lambda all_, one, at=at: (all_ == one).mean(1) >= at)
        add(f"rensa MinHash scan, Jaccard {at}", sign, ask, passes)
    sign, signatures = made["SimHash"]
    for bits in (10, 22):
        passes, ask = scan(np.array(signatures),
                           lambda all_, one, bits=bits: np.bitwise_count(all_ ^ one).sum(1) <= bits)
        add(f"SimHash scan, {bits} of 64 bits differ", sign, ask, passes)
    return rows


def growth(sizes: Sizes, tick: Tick) -> list[Row]:
    "Section 6: time and memory as the number of stores grows."
    tick("stores")
    prices, rows = Chain(sizes.products).prices(0, max(sizes.growth)), []
    for n in sizes.growth:
        some = prices[:n]
        planes = price_planes(some)
        tasks: dict[str, Task] = {"counts": partial(pair_counts, some), "planes": partial(price_planes, some),
                                  "matching": partial(matching_pairs, planes, AT_LEAST)}
        rounds = sizes.rounds if n <= 2_000 else sizes.slow_rounds
        seconds = medians(tasks, rounds, lambda name, n=n: tick(f"{n:,} stores, {name}"))
        rows.append({"stores": n, "seconds": seconds["counts"], "per_pair": seconds["counts"] / (n * (n - 1) / 2),
                     "prepared": seconds["planes"] / seconds["counts"], "matching": seconds["matching"],
                     "bytes": planes.nbytes / n, "int32": 4 * sizes.products})
    return rows


SECTIONS = {"all_pairs": all_pairs, "kernel": kernel, "threshold": threshold, "one_against_many": one_against_many,
            "search": search, "set_hashes": set_hashes, "growth": growth}


def run(sizes: Sizes) -> dict[str, Any]:
    "All sections, with a progress bar."
    bar = Progress(SpinnerColumn(), TextColumn("{task.description:<42}"), BarColumn(), TimeElapsedColumn())
    results: dict[str, Any] = {"machine": machine(), "sizes": asdict(sizes)}
    with bar:
        task = bar.add_task("", total=len(SECTIONS))
        for name, section in SECTIONS.items():
            def tick(what: str, name: str = name) -> None: bar.update(task, description=f"{name}: {what}")
            results[name] = section(sizes, tick)
            bar.advance(task)
    return results


def main(args: list[str] | None = None) -> None:
    "Run the benchmarks, keep the figures, write the page."
    given = asked(__doc__, "small sizes", args)
    results = run(QUICK if given.quick else Sizes())
    (given.out / "overlap.json").write_text(json.dumps(results, indent=1, default=float) + "\n", encoding="utf-8")
    write_page(results, given.pages)
    print(pd.DataFrame(results["all_pairs"]).to_string())


if __name__ == "__main__": main()
