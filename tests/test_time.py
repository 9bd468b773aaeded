"""R16: time runs one way, in whatever order files arrive and whatever clocks do; under both policies."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from effort import drilled
from templates import copy_of

from scrapeopt.core.calendar import SyncWindow, local_day
from scrapeopt.storage.token_store import load_bucket, pay_scrapes
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace, budget_day

POLICIES = ("document", "delegated")
HOUR, DAY, WEEK = pd.Timedelta(hours=1), pd.Timedelta(days=1), pd.Timedelta(days=7)
THURSDAY = pd.Timestamp("2026-10-15 02:00", tz="UTC")  # 10:00 in Perth; prices change on Wednesdays at midnight
STORES = ["A", "B", "C", "D", "O"]  # four price alike, O is an outlier


def shelf(store: str, week: int) -> np.ndarray:
    return np.random.default_rng([week, store == "O"]).integers(20, 400, 60) * 5


def land(ws: Workspace, store: str, at: pd.Timestamp, cents) -> Path:
    path = ws.inbox("Shop", store) / f"{at:%Y%m%dT%H%M%SZ}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"product_id": f"P{i:02d}", "price": f"{c / 100:.2f}"}) + "\n"
                            for i, c in enumerate(cents)))
    return path


def built_shop(path: Path, policy: str, timezone: str = "Australia/Perth", changeover: str = "wednesday",
               top: str = ""):
    Workspace.create(path, policy=policy)
    file = path / "scrapeopt.toml"
    own = f'\n[companies.Shop]\ntimezone = "{timezone}"\nchangeover = "{changeover}"\n'
    file.write_text(top + file.read_text() + own)
    ws = Workspace.open(path)
    ws.import_stores(pd.DataFrame([("Shop", s, s, -31.95 + i / 200, 115.85) for i, s in enumerate(STORES)],
                                  columns=["company", "store_id", "name", "lat", "lon"]))
    ws.cluster(min_samples=2)
    return ws


def new_shop(path: Path, policy: str, *how: str) -> Workspace: return copy_of(built_shop, path, policy, *how)


def seen_shop(path: Path, policy: str) -> Workspace:
    "All stores seen a week ago; B, C and O again this Thursday."
    ws = new_shop(path, policy)
    for i, s in enumerate(STORES): land(ws, s, THURSDAY + i * HOUR, shelf(s, 0))
    update_db(ws)
    for i, s in enumerate(("B", "C", "O")): land(ws, s, THURSDAY + WEEK + i * HOUR, shelf(s, 1))
    update_db(ws)
    return ws


@pytest.fixture(params=[drilled("document"), "delegated"])
def shop(request, tmp_path) -> Workspace: return copy_of(seen_shop, tmp_path / "ws", request.param)


def outcome(ws: Workspace, now: pd.Timestamp = THURSDAY + WEEK + DAY, fields=("price", "source", "source_store")):
    "Groups, titles, and what is served for everybody."
    state = ws.groups("Shop")
    groups = {g.name: (g.members, g.ambassador, g.status, g.candidates) for g in state.active()}
    table = ws.prices(now=now)
    assert not table.duplicated(["store_id", "product_id"]).any()
    return groups, table.set_index(["store_id", "product_id"])[list(fields)].to_dict("index")


def right(ws: Workspace, store: str, week: int, now: pd.Timestamp) -> float:
    table = ws.prices(store=store, now=now)
    return float(np.mean([int(p * 100) for p in table["price"]] == shelf(store, week)))


@pytest.mark.parametrize(("store", "late"), [
    ("C", -HOUR),  # the Ambassador's, from just before the one that counts
    drilled("C", -pd.Timedelta(minutes=2)), drilled("B", -10 * HOUR), ("O", -HOUR), drilled("O", -2 * DAY),
    ("B", -3 * WEEK)])
def test_a_file_older_than_the_stores_newest_moves_nothing(shop, store, late):
    newest = shop.stores().set_index("store_id").loc[store, "last_scraped"]
    before = outcome(shop)
    land(shop, store, newest + late, shelf("O" if store != "O" else "A", 7))  # with prices of another world
    report = update_db(shop)
    assert (report.files, report.events, report.problems) == (1, (), ())
    assert outcome(shop) == before
    assert shop.stores().set_index("store_id").loc[store, "last_scraped"] == newest


@pytest.mark.parametrize("prices_of", ["its group", "elsewhere"])
def test_a_late_file_across_a_changeover_judges_nobody(shop, prices_of):
    "D's file of Monday, of the old price week, comes after B and C were seen in the new one."
    groups, _ = outcome(shop)
    land(shop, "D", THURSDAY + 4 * DAY, shelf("D", 0) if prices_of == "its group" else shelf("O", 5))
    update_db(shop)
    assert outcome(shop)[0] == groups
    assert right(shop, "D", 1, THURSDAY + WEEK + DAY) == 1  # as its group told before


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_a_late_file_during_discovery(tmp_path, policy):
    "The files of three stores come in any order, one of them a day late: the groups are those of the right order."
    found = []
    for order in (("A", "B", "C", "D", "O"), ("O", "D", "B", "C", "A")):
        ws = new_shop(tmp_path / "".join(order), policy)
        for s in order:
            land(ws, s, THURSDAY + STORES.index(s) * HOUR, shelf(s, 0))
            update_db(ws)
        found.append((sorted(sorted(g.members) for g in ws.groups("Shop").active()), outcome(ws, fields=("price",))[1]))
    assert found[0] == found[1] and found[0][0] == [["A", "B", "C", "D"]]


def test_two_files_of_a_store_in_one_update(shop):
    "The newest counts, the older is history; of one day as of two."
    at = THURSDAY + 2 * WEEK
    land(shop, "A", at, shelf("O", 9))
    land(shop, "A", at + HOUR, shelf("A", 2))
    land(shop, "B", at - DAY, shelf("B", 2))
    land(shop, "B", at + 2 * HOUR, shelf("B", 2))
    assert update_db(shop).files == 4
    assert sorted(outcome(shop)[0].values())[0][0] == {"A", "B", "C", "D"}
    for s in ("A", "B", "C", "D"): assert right(shop, s, 2, at + DAY) == 1
    assert right(shop, "O", 1, at + DAY) == 1


@pytest.mark.parametrize("ahead", [HOUR + pd.Timedelta(seconds=1), drilled(DAY), drilled(10 * 365 * DAY)])
def test_a_file_from_the_future_goes_to_quarantine(shop, ahead):
    now, before = THURSDAY + WEEK + DAY, outcome(shop)
    path = land(shop, "A", now + ahead, shelf("A", 1))
    land(shop, "D", now, shelf("D", 1))
    report = update_db(shop, now=now)
    assert (report.files, report.quarantined) == (1, 1) and "set the clock of the scraper" in report.problems[0]
    assert not path.exists() and len(list((shop.path / "quarantine").rglob("*.rejected"))) == 1
    assert shop.stores().set_index("store_id").loc["A", "last_scraped"] == THURSDAY
    assert outcome(shop)[0].keys() == before[0].keys()
    assert right(shop, "A", 1, now) == 1  # by its group
    path.parent.mkdir(exist_ok=True)
    land(shop, "A", now, shelf("A", 1))  # under the right name
    assert not update_db(shop, now=now).problems and right(shop, "A", 1, now) == 1


def test_a_clock_that_is_an_hour_ahead_is_forgiven(shop):
    now = THURSDAY + WEEK + DAY
    land(shop, "A", now + HOUR, shelf("A", 1))
    assert update_db(shop, now=now).problems == ()
    table = shop.prices(now=now)
    assert table["confidence"].between(0, 1).all()
    assert "A" not in {t.store_id for t in shop.queue(9, now=now)}  # it counts as seen


@pytest.mark.slow
@pytest.mark.parametrize("shop", [drilled("document"), "delegated"], indirect=True)
def test_the_command_line_says_it_and_ends_with_two(shop):
    land(shop, "A", pd.Timestamp("2136-11-12 05:00", tz="UTC"), shelf("A", 1))
    code = "from scrapeopt.cli import main; main()"
    run = [sys.executable, "-c", code, "update-db", "-w", str(shop.path)]
    done = subprocess.run(run, capture_output=True, text=True, env={"PYTHONPATH": str(Path(__file__).parents[1])})
    assert done.returncode == 2 and "its name says 2136-11-12 05:00 UTC" in done.stderr
    assert "Traceback" not in done.stderr
    land(shop, "D", THURSDAY + WEEK + DAY, shelf("D", 1))
    early = subprocess.run([*run, "--now", "2026-10-22T02:00Z"], capture_output=True, text=True,
                           env={"PYTHONPATH": str(Path(__file__).parents[1])})
    assert early.returncode == 2 and "more than an hour ahead of the clock" in early.stderr


def test_a_clock_that_jumps_back(shop):
    "Now is before all that was seen: nothing breaks, and a sentence says so."
    back, before = THURSDAY - 30 * DAY, outcome(shop)
    (problem,) = update_db(shop, now=back).problems
    assert "5 of its stores were scraped later" in problem and "set the clock right" in problem
    assert outcome(shop) == before
    served = shop.prices(now=back)
    assert len(served) == 5 * 60 and served["confidence"].between(0, 1).all()
    shop.queue(5, now=back)
    assert not update_db(shop, now=THURSDAY + WEEK + DAY).problems


@pytest.mark.parametrize("policy", POLICIES)
def test_a_failure_in_the_future_holds_nobody_back(tmp_path, policy):
    "A store that failed while the clock was ten years ahead is asked again now, not in ten years."
    ws = new_shop(tmp_path / "ws", policy)
    for i, s in enumerate(STORES): land(ws, s, THURSDAY + i * HOUR, shelf(s, 0))
    update_db(ws)
    for _ in range(4): ws.record_failures({("Shop", "A"): False}, THURSDAY + 3650 * DAY)
    assert "A" in {t.store_id for t in ws.queue(9, now=THURSDAY + WEEK)}
    ws.record_failures({("Shop", "A"): False}, THURSDAY + WEEK)
    assert "A" not in {t.store_id for t in ws.queue(9, now=THURSDAY + WEEK + 3 * DAY)}  # a pause as ever


def test_a_budget_that_was_counted_ahead_goes_on_from_today(tmp_path):
    ws = new_shop(tmp_path / "ws", "delegated", "Australia/Perth", "wednesday", "budget = 3\nsave_days = 1\n")
    with ws.begin() as session: pay_scrapes(session, ws.settings, 3, budget_day(session, THURSDAY + 3650 * DAY))
    for day in range(1, 4): update_db(ws, now=THURSDAY + day * DAY)
    with ws.begin() as session:
        assert load_bucket(session, ws.settings, budget_day(session, THURSDAY + 4 * DAY)).tokens > 0
    assert ws.queue(now=THURSDAY + 4 * DAY)


@pytest.mark.parametrize(("timezone", "midnight"), [
    ("Europe/Sofia", "2026-03-29"), ("Europe/Sofia", "2026-10-25"),  # clocks change at three and four in the morning
    ("America/Santiago", "2026-09-06"), ("America/Santiago", "2026-04-05"),  # at midnight itself: 00:00 is 01:00, 23:00
    ("Australia/Sydney", "2026-04-05"), ("Australia/Sydney", "2026-10-04")])
def test_a_changeover_in_the_night_in_which_clocks_change(timezone, midnight):
    "All those nights are of a Sunday: what was seen before its first moment is of the week before."
    window, day = SyncWindow(hours=200, changeover=6, timezone=timezone), pd.Timestamp(midnight)
    first = day.tz_localize(timezone, nonexistent="shift_forward", ambiguous=True).tz_convert("UTC")
    second = pd.Timedelta(seconds=1)
    assert window.last_changeover(first) == window.last_changeover(first + 25 * HOUR) == first
    assert window.last_changeover(first - second) == (day - WEEK).tz_localize(timezone).tz_convert("UTC")
    assert not window.comparable(first - second, first) and window.comparable(first, first + 6 * DAY)
    assert int(local_day(first, timezone)) - int(local_day(first - second, timezone)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("timezone", "midnight"), [("America/Santiago", "2026-09-06"), ("Europe/Sofia", "2026-03-29")])
def test_stores_are_judged_across_that_night_as_across_any(tmp_path, policy, timezone, midnight):
    ws = new_shop(tmp_path / "ws", policy, timezone, "sunday")
    first = pd.Timestamp(midnight).tz_localize(timezone, nonexistent="shift_forward").tz_convert("UTC")
    for i, s in enumerate(STORES): land(ws, s, first - 6 * HOUR + i * HOUR, shelf(s, 0))
    update_db(ws)
    assert {t.store_id for t in ws.queue(9, now=first - HOUR)} == set()  # all were seen in this week
    assert {t.store_id for t in ws.queue(9, now=first + HOUR)} >= {"A", "O"}
    for s, hours in (("A", 1), ("B", 2)): land(ws, s, first + hours * HOUR, shelf(s, 1))
    update_db(ws)
    groups = outcome(ws, now=first + DAY)[0]
    assert [members for members, *_ in groups.values()] == [{"A", "B", "C", "D"}]
    assert right(ws, "C", 1, first + DAY) == 1 and right(ws, "O", 0, first + DAY) == 1
