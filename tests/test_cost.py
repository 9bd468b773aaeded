"What the page of cost says follows from what was measured, peers answer as we do, and an update reads little twice."
import json

import numpy as np
import pandas as pd
import pytest
from small_chain import THURSDAY, land, lines, scrape_all, scraped_in_two_weeks, shelf
from sqlalchemy import event

from scrapeopt.storage.newest_prices import NewestPrices, open_newest, stamp_of, write_newest
from scrapeopt.storage.queries import newest_snapshots
from scrapeopt.storage.snapshots import kept_snapshots
from scrapeopt.storage.tables import Store
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

cost, cost_work = (pytest.importorskip(f"benchmarks.{m}", reason="benchmarks/ is not part of the installed package")
                   for m in ("cost", "cost_work"))
SIZES, COMPANY, NOW = (50, 200, 800, 3_200), "Woolworths", THURSDAY + pd.Timedelta(days=15)


def rows(power, slower=1.0):
    "Every job by every way, growing by a power; ours take `slower` times as long as the peers."
    return [{"work": work, "who": who, "stores": n, "rows": 1, "cpu": own * n**power, "start": .5, "mb": 200.0,
             "next": own * n**power if cost.AGAIN[work] else None}
            for n in SIZES for work in cost.WORKS for who in cost.WAYS
            for own in [1e-3 * (1 if who in cost.PEERS else slower)]]


def test_the_power_is_the_slope_over_all_sizes():
    found = cost.series(rows(.5), "one store", "DuckDB")
    assert list(found) == list(SIZES) and cost.exponent(found) == pytest.approx(.5)


@pytest.mark.parametrize("power, slower, missed", [(0, .2, 0), (.5, .2, 2), (0, 3, 5), (0, 1, 2)])
def test_what_was_missed_is_told(power, slower, missed):
    met = [ok for *_, ok in cost.targets(rows(power, slower))]
    assert met.count(False) == missed and cost.target_table(rows(power, slower)).count("**missed**") == missed


def test_the_page_has_a_row_a_job_and_a_picture(tmp_path):
    cost.write_page({"machine": {"cores": 2}, "products": 4_000, "rows": rows(.5)}, tmp_path)
    page = (tmp_path / "cost.md").read_text()
    assert "| one store | DuckDB | 0.0071 s | 0.014 s | 0.028 s | 0.057 s | 0.50 |" in page
    assert "0.5 s for scrapeopt, 0.5 s for pandas" in page
    assert (tmp_path / "_static" / "bench_cost.svg").exists()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    "A tiny company ready to be measured: its workspace, and the folder with what the peers know."
    out = tmp_path_factory.mktemp("cost")
    return cost.ready(out, stores=14, products=300).folders["delegated"], out


@pytest.mark.parametrize("peer", cost.PEERS)
def test_peers_answer_questions_as_we_do(prepared, peer):
    pytest.importorskip(peer.lower(), reason=f"{peer} is not installed; `make test` installs what it needs")
    for work in cost.QUESTIONS:
        for turn in range(3):
            ours, theirs = (way[work](*prepared, turn) for way in (cost.OURS, cost.PEERS[peer]))
            assert theirs == ours and ours[0] > 0


def overlaps(folder, out, peer, work):
    "The overlaps that a peer has written: a row each store, a column each scraped one; and how many rows it has read."
    read = cost.PEERS[peer][work](folder, out, 0)[0]
    told = pd.read_parquet(out / "overlaps.parquet").reset_index()
    if "filename" in told: told["store_id"] = told["filename"].str.extract("store=([^/]*)", expand=False)
    scraped = sorted(store for store, _ in cost_work.inbox_files(folder))
    return told.set_index("store_id").sort_index()[scraped].astype(float), read


def test_peers_find_the_same_overlaps_and_write_as_many_prices(prepared):
    for peer in cost.PEERS:
        pytest.importorskip(peer.lower(), reason=f"{peer} is not installed; `make test` installs what it needs")
    folder, out = prepared
    for work in cost.UPDATES:
        found, read = zip(*(overlaps(folder, out, peer, work) for peer in cost.PEERS), strict=True)
        assert len({*read}) == 1 and found[0].max().max() <= 1 < len(found[0]) <= 14
        for other in found[1:]: pd.testing.assert_frame_equal(other, found[0], check_names=False)
    written = {way[cost.PRICES](folder, out, 0)[0] for way in cost.PEERS.values()}
    assert len(written) == 1 and written.pop() == len(pd.read_parquet(out / "duckdb.parquet"))


@pytest.mark.slow
def test_a_quick_run_writes_figures_and_a_page(tmp_path):
    for library in ("polars", "duckdb"): pytest.importorskip(library)
    cost.main(["--quick", "--out", str(tmp_path)])
    results, page = json.loads((tmp_path / "cost.json").read_text()), (tmp_path / "cost.md").read_text()
    assert {(r["work"], r["who"]) for r in results["rows"]} == {(w, who) for w in cost.WORKS for who in cost.WAYS}
    assert "## What was to be reached" in page and (tmp_path / "_static" / "bench_cost.svg").exists()


# --- what an update does once, and not for every store

@pytest.fixture
def ws(tmp_path) -> Workspace:
    "Scraped in three weeks, in the third only in part, with what updates leave side by side."
    ws = scraped_in_two_weeks(tmp_path / "ws", "delegated")
    scrape_all(ws, 2, only=["0001", "0005", "a"])
    update_db(ws, now=NOW)
    return ws


def update_of_one(ws, store="0002"):
    "An update that takes in one store."
    land(ws, COMPANY, store, NOW, lines(shelf(COMPANY, store, 3)))
    return update_db(ws, COMPANY, now=NOW)


def test_what_lies_side_by_side_is_read_once_and_once_more_where_it_is_written(ws, monkeypatch):
    read, really = [], NewestPrices.block
    monkeypatch.setattr(NewestPrices, "block", lambda self, number: (read.append(number), really(self, number))[1])
    assert update_of_one(ws).files == 1
    assert len(read) <= 2 * len(open_newest(ws.path, COMPANY).blocks)


def test_an_update_loads_the_rows_of_scraped_stores_only(ws):
    loaded = []
    note = lambda row, context: loaded.append(row.store_id)  # noqa: E731 - to be taken away again
    event.listen(Store, "load", note)
    try: assert update_of_one(ws).files == 1
    finally: event.remove(Store, "load", note)
    assert set(loaded) == {"0002"}


def test_what_lies_there_of_another_state_is_replaced(ws):
    with ws.read() as session:
        newest = newest_snapshots(session, ws.company(session, COMPANY))
        kept = {k.store_id: k for k in kept_snapshots(newest)}
    known, stamp = open_newest(ws.path, COMPANY), stamp_of(ws.path, kept["0003"])
    strange = [*known.products, "of another state"]
    write_newest(known, {s: row.stamp for s, row in known.rows.items()} | {"0003": stamp}, strange,
                 {"0003": np.full(len(strange), 99, np.int32)})
    served = ws.prices(company=COMPANY, store="0003", now=NOW)
    assert update_of_one(ws).files == 1
    after = open_newest(ws.path, COMPANY)
    assert "of another state" not in after.products and len(after.rows) == 7
    assert served["price"].max() > 1
