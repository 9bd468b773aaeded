"""Ranges change: for good, for a season, by a torn page; in a workspace, under both policies."""
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from effort import drilled
from templates import copy_of

from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
BEGIN = pd.Timestamp("2026-09-03 02:00", tz="UTC")  # a Thursday in Perth
STORES, RANGE = ("A", "B", "C", "D", "E"), 60  # E opens later


def cents(week: int) -> np.ndarray:
    "What every store of the chain charges in a week, in cents; the range may grow to twice its size."
    return np.random.default_rng(week).integers(20, 400, 2 * RANGE) * 5


def land(ws: Workspace, store: str, week: int, sold: range, day: int = 0) -> None:
    "A scrape of some of the products."
    at = BEGIN + week * 7 * DAY + day * DAY + STORES.index(store) * HOUR
    path = ws.inbox("Shop", store) / f"{at:%Y%m%dT%H%M%SZ}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"product_id": f"P{i:03d}", "price": f"{cents(week)[i] / 100:.2f}"}) + "\n"
                            for i in sold))


def taken(ws: Workspace, store: str, week: int, n: int, day: int = 0, since: int = 0) -> bool:
    "Scrape `n` products of a store: whether the snapshot was believed."
    land(ws, store, week, range(since, since + n), day)
    report = update_db(ws)
    assert report.files == 1 and report.partial == len(report.problems)
    return not report.partial


def served(ws: Workspace, store: str, week: int, day: int = 1) -> set[str]:
    table = ws.prices(store=store, now=BEGIN + week * 7 * DAY + day * DAY)
    assert not table["product_id"].duplicated().any()
    return set(table["product_id"])


def ids(n: int, since: int = 0) -> set[str]: return {f"P{i:03d}" for i in range(since, since + n)}


def built_shop(path: Path, policy: str) -> Workspace:
    "Four stores that price alike, with sixty products each."
    Workspace.create(path, policy=policy)
    with (path / "scrapeopt.toml").open("a") as f:
        f.write('\n[companies.Shop]\ntimezone = "Australia/Perth"\nchangeover = "wednesday"\n')
    ws = Workspace.open(path)
    ws.import_stores(pd.DataFrame([("Shop", s, s, -31.95 + i / 200, 115.85) for i, s in enumerate(STORES[:4])],
                                  columns=["company", "store_id", "name", "lat", "lon"]))
    ws.cluster(min_samples=2)
    for s in STORES[:4]: land(ws, s, 0, range(RANGE))
    update_db(ws)
    return ws


@pytest.fixture(params=[drilled("document"), "delegated"])
def shop(request, tmp_path) -> Workspace: return copy_of(built_shop, tmp_path / "ws", request.param)


def members(ws: Workspace) -> list[list[str]]: return [sorted(g.members) for g in ws.groups("Shop").active()]


def test_a_range_that_shrank_for_good_is_the_new_usual(shop):
    assert [taken(shop, "A", w, 33) for w in (1, 2, 3, 4)] == [False, False, True, True]
    assert served(shop, "A", 4) == ids(33) and members(shop) == [list(STORES[:4])]
    assert served(shop, "B", 4) == ids(60)  # the others sell what they sold


def test_and_one_that_grew_back_is_taken_at_once(shop):
    for w in (1, 2, 3): taken(shop, "A", w, 30)
    assert taken(shop, "A", 4, 60) and served(shop, "A", 4) == ids(60)
    assert not taken(shop, "A", 5, 30)  # now sixty are usual again


def test_a_season_with_a_small_range_leaves_the_usual_one(shop):
    assert [taken(shop, "A", w, n) for w, n in ((1, 30), (2, 31), (3, 60))] == [False, False, True]
    assert [taken(shop, "A", w, n) for w, n in ((4, 30), (5, 30))] == [False, False]  # counted anew
    assert served(shop, "A", 5) == ids(60)


def test_small_scrapes_that_disagree_are_never_believed(shop):
    assert not any(taken(shop, "A", w, n) for w, n in ((1, 30), (2, 20), (3, 10), (4, 25), (5, 8), (6, 14)))
    assert served(shop, "A", 6) == ids(60)


def test_a_doubled_range_is_taken_and_served(shop):
    assert taken(shop, "A", 1, 120) and served(shop, "A", 1) == ids(120)
    assert [taken(shop, "A", w, 60) for w in (2, 3, 4)] == [False, False, True]  # half of it again: believed in the end
    assert served(shop, "A", 4) == ids(60)


def test_new_products_reach_the_others_through_the_group(shop):
    assert taken(shop, "A", 1, 66) and taken(shop, "C", 1, 66)  # two that agree
    assert served(shop, "B", 1) == ids(66)  # nobody sold the six when B was seen
    assert taken(shop, "B", 1, 60, day=1) and served(shop, "B", 1, day=2) == ids(60)  # B does not sell them


def test_another_range_of_the_same_size_is_no_torn_page(shop):
    assert taken(shop, "A", 1, 60, since=30)
    assert served(shop, "A", 1) == ids(60, since=30)


def test_a_first_scrape_that_is_a_stump_waits_for_a_whole_one(shop):
    stores = pd.DataFrame([("Shop", "E", "E", -31.94, 115.85)], columns=["company", "store_id", "name", "lat", "lon"])
    shop.import_stores(stores)
    shop.cluster(min_samples=2)
    assert not taken(shop, "E", 1, 3)
    assert not served(shop, "E", 1) and shop.stores().set_index("store_id").loc["E", "failures"] == 1
    assert taken(shop, "E", 1, 60, day=2) and served(shop, "E", 1, day=3) == ids(60)
    assert shop.stores().set_index("store_id").loc["E", "failures"] == 0


def test_a_late_small_file_counts_for_no_new_usual(shop):
    "Only what came after the last whole snapshot can agree on a new range."
    assert taken(shop, "A", 3, 60)
    for day in (0, 1, 2): assert not taken(shop, "A", 1, 30, day=day)
    assert not taken(shop, "A", 4, 30) and served(shop, "A", 4) == ids(60)
