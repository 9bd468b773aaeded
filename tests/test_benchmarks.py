"Every peer of the benchmarks gives our answers, and a quick run ends in a page."
import json
from functools import partial

import numpy as np
import pytest

from scrapeopt.core.bitplanes import pair_counts, pair_counts_plain
from scrapeopt.core.prices import NOT_SOLD

chain, peers = (pytest.importorskip(f"benchmarks.{m}", reason="benchmarks/ is not part of the installed package")
                for m in ("chain", "peers"))


def toy(stores=12, products=300):
    "A small chain; its last store sells nothing."
    prices = chain.Chain(products, zones=3).prices(0, stores)
    prices[-1] = NOT_SOLD
    return prices


CASES = {"a chain": toy(), "one product": toy(products=1), "one store": toy()[:1],
         "the same price everywhere": np.full((5, 70), 199, np.int32)}
each_case = pytest.mark.parametrize("prices", CASES.values(), ids=CASES.keys())


def needs(library):
    "Skip where a peer's library is missing."
    if library: pytest.importorskip(library, reason=f"{library} is not installed; `make test` installs what it needs")


@each_case
@pytest.mark.parametrize("library, peer", [
    ("", "numba_loop"), ("", "numpy_rows"), ("scipy", "scipy_cdist"), ("", "one_hot_blas"), ("scipy", "one_hot_sparse"),
    ("duckdb", "duckdb_pairs"), ("polars", "polars_pairs")])
def test_all_pairs(library, peer, prices):
    needs(library)
    peers.same_counts(peer, getattr(peers, peer)(prices), pair_counts(prices))


@each_case
@pytest.mark.parametrize("library, peer", [("numkong", "numkong_differences"), ("simsimd", "simsimd_differences")])
def test_kernels(library, peer, prices):
    needs(library)
    f, hot, sold = getattr(peers, peer), peers.hot_bits(prices), peers.padded_bits(prices >= 0)
    if not hot.size: pytest.skip("no price occurs twice: there is no bit to compare")
    peers.same_counts(peer, peers.from_bit_differences(f(sold), f(hot), sold, hot), pair_counts(prices))


@each_case
@pytest.mark.parametrize("library, peer", [("duckdb", "duckdb"), ("polars", "polars"), ("", "numpy"), ("", "numba")])
def test_one_against_many(library, peer, prices):
    needs(library)
    row, n = prices[0].copy(), len(prices)
    row[::7] = NOT_SOLD
    row[3:4] = 2**31 - 1
    if peer == "duckdb": task = partial(peers.duckdb_row, peers.duckdb_table(prices), n)
    elif peer == "polars":
        import polars as pl
        task = partial(peers.polars_row, pl.DataFrame(peers.long_table(prices)), n)
    else: task = partial(getattr(peers, f"{peer}_row"), prices)
    want = [counts[0, 1:] for counts in pair_counts_plain(np.vstack([row, prices]))]
    peers.same_counts(peer, task(row), want)


@pytest.mark.parametrize("library, peer", [
    ("datasketch", "datasketch_signature"), ("rensa", "rensa_signature"), ("", "simhash_signature")])
def test_signatures_are_alike_where_stores_are(library, peer):
    needs(library)
    a, b, other = (chain.Chain(2000, zones=3).store(s) for s in (0, 3, 1))
    def values(row):
        signature = getattr(peers, peer)(row)
        return np.unpackbits(signature) if peer == "simhash_signature" else getattr(signature, "hashvalues", signature)
    assert (values(a) == values(a)).all()
    assert (values(a) == values(b)).mean() > (values(a) == values(other)).mean()


def test_make_bench_runs_every_benchmark_but_the_long_one():
    from benchmarks.__main__ import benchmarks
    found = benchmarks()
    assert "overlap" in found and not {"leaderboard", "chain", "peers", "page"} & set(found)


def test_an_unequal_answer_ends_the_run():
    shared, equal = pair_counts(CASES["a chain"])
    with pytest.raises(AssertionError, match="a peer: other equal counts"):
        peers.same_counts("a peer", (shared, equal + 1), (shared, equal))


def test_a_part_of_the_chain_is_the_same_as_in_the_whole():
    whole = chain.Chain(200, zones=4, per_zone=2)
    assert (whole.prices(0, 9)[4:7] == chain.Chain(200, zones=4, per_zone=2).prices(4, 7)).all()


@pytest.mark.slow
def test_a_quick_run_writes_figures_and_a_page(tmp_path):
    for library in ("polars", "duckdb", "numkong", "simsimd", "datasketch", "rensa"):
        needs(library)
    from benchmarks.overlap import SECTIONS, main
    from benchmarks.page import TEXTS
    main(["--quick", "--out", str(tmp_path)])
    results, page = json.loads((tmp_path / "overlap.json").read_text()), (tmp_path / "benchmarks.md").read_text()
    assert results.keys() >= SECTIONS.keys()
    assert all(f"## {title}" in page for title, _ in TEXTS.values())
    assert "| pair_counts | 60 stores |" in page
    assert all(len(p.read_bytes()) < 60_000 for p in (tmp_path / "_static").iterdir())
