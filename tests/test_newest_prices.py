"""What lies side by side for speed is never the truth: with it, without it and with it damaged the same is served."""
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from effort import all_but
from small_chain import PRODUCTS, THURSDAY, land, lines, scrape_all, scraped_in_two_weeks, shelf

from scrapeopt.core.errors import LeftOutWarning
from scrapeopt.storage.doctor import examine, mend
from scrapeopt.storage.newest_prices import INDEX, open_newest, write_newest
from scrapeopt.storage.tidy import tidy
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

COMPANY, NOW = "Woolworths", THURSDAY + pd.Timedelta(days=15)


@pytest.fixture(params=["document", "delegated"])
def ws(request, tmp_path) -> Workspace:
    "Scraped in three weeks, in the third only in part, with what updates leave side by side."
    ws = scraped_in_two_weeks(tmp_path / "ws", request.param)
    scrape_all(ws, 2, only=["0001", "0005", "a"])
    update_db(ws, now=NOW)
    return ws


def served(ws: Workspace) -> list[dict]:
    "All that is served: at once, of each store, and of some products."
    asked = [{}, *({"company": COMPANY, "store": s} for s in ("0001", "0002", "0007")),
             *({"product": p} for p in PRODUCTS[::20])]
    return [ws.prices(now=NOW, **question).to_dict("list") for question in asked]


def damages(folder: Path) -> dict:
    "What may happen to the files, by name."
    def each(change):
        for file in sorted(folder.glob("*.i32")): change(file)
    return {
        "no folder": lambda: shutil.rmtree(folder), "no index": lambda: (folder / INDEX).unlink(),
        "index cut off": lambda: (folder / INDEX).write_bytes((folder / INDEX).read_bytes()[:-9]),
        "index of something else": lambda: (folder / INDEX).write_text('["products"]'),
        "no blocks": lambda: each(Path.unlink), "blocks cut off": lambda: each(lambda f: os.truncate(f, 31)),
        "empty blocks": lambda: each(lambda f: os.truncate(f, 0)),
        "blocks of zeros": lambda: each(lambda f: f.write_bytes(bytes(f.stat().st_size)))}


def test_the_same_is_served_with_it_without_it_and_with_it_damaged(ws):
    folder = open_newest(ws.path, COMPANY).folder
    assert len(open_newest(ws.path, COMPANY).rows) == 7
    whole, kept = served(ws), folder.with_name("kept")
    shutil.copytree(folder, kept)
    for damage in damages(folder).values():
        damage()
        assert served(ws) == whole
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept, folder)


@pytest.mark.parametrize("damage", all_but({name: name for name in damages(Path())}, "no index", "blocks of zeros"))
def test_the_next_update_comes_to_the_same(ws, damage):
    other = shutil.copytree(ws.path, ws.path.with_name("other"))
    damages(open_newest(other, COMPANY).folder)[damage]()
    ends = []
    for one in (ws, Workspace.open(other)):
        for store in ("0002", "0003"): land(one, COMPANY, store, NOW, lines(shelf(COMPANY, store, 3)))
        events = update_db(one, now=NOW + pd.Timedelta(hours=1)).events
        ends.append(([event["words"] for event in events], served(one)))
        assert len(open_newest(one.path, COMPANY).rows) == 7
    assert ends[0] == ends[1]


def opened(monkeypatch, ask) -> list[str]:
    "The stores whose snapshots a question opens."
    stores, really = list[str](), pq.ParquetFile
    monkeypatch.setattr(pq, "ParquetFile", lambda path, **how: (stores.append(Path(path).parent.name), really(path))[1])
    ask()
    return sorted({name.removeprefix("store=") for name in stores})


def test_an_update_opens_what_was_scraped_since(ws, monkeypatch):
    land(ws, COMPANY, "0002", NOW, lines(shelf(COMPANY, "0002", 3)))
    assert opened(monkeypatch, lambda: update_db(ws, COMPANY, now=NOW)) == ["0001", "0002", "0005"]
    land(ws, COMPANY, "0003", NOW, lines(shelf(COMPANY, "0003", 3)))
    assert opened(monkeypatch, lambda: update_db(ws, COMPANY, now=NOW)) == ["0002", "0003"]
    assert opened(monkeypatch, lambda: ws.prices(company=COMPANY, product=PRODUCTS[0], now=NOW)) == ["0003"]


@pytest.mark.parametrize("harm", [lambda f: f.unlink(), lambda f: f.write_bytes(f.read_bytes()[:-30]),
                                  lambda f: f.write_bytes(f.read_bytes()[::-1])])
def test_a_snapshot_that_is_lost_is_still_told(ws, harm):
    [file] = [f for f in (ws.path / "prices").rglob("store=0004/*.parquet") if f.stem > "20261125"]
    harm(file)
    with pytest.warns(LeftOutWarning, match="Woolworths 0004: its snapshot of 2026-11-2[67] is lost"):
        ws.prices(company=COMPANY, store="0004", now=NOW)


def test_compacted_snapshots_are_read_anew_once(ws, monkeypatch):
    whole = served(ws)
    tidy(ws, now=NOW + pd.Timedelta(days=400))
    assert served(ws) == whole


def test_a_disk_that_takes_none_of_it_costs_nothing_else(ws, monkeypatch):
    folder = open_newest(ws.path, COMPANY).folder
    shutil.rmtree(folder.parent)
    folder.parent.write_text("in the way")
    land(ws, COMPANY, "0002", NOW, lines(shelf(COMPANY, "0002", 3)))
    report = update_db(ws, COMPANY, now=NOW)
    assert (report.files, report.problems) == (1, ())


def test_the_doctor_holds_it_against_the_snapshots(ws):
    known = open_newest(ws.path, COMPANY)
    stamps = {store: row.stamp for store, row in known.rows.items()}
    assert examine(ws, now=NOW) == []
    wrong = np.arange(len(PRODUCTS), dtype=np.int32)
    write_newest(known, stamps, PRODUCTS, {"0002": wrong, "0003": wrong})
    found = examine(ws, now=NOW)
    assert [(f.kind, f.company, f.which.endswith(INDEX)) for f in found] == [("side_by_side", COMPANY, True)] * 2
    assert len(mend(ws, found)) == 1 and examine(ws, now=NOW) == []
