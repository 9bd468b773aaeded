"Spot checks at the door and in the state: what their files may not move, and what they leave behind."
import gzip
import json

import pandas as pd
import pytest
from small_chain import LATER, PRODUCTS, THURSDAY, ZONES, land, land_spot_check, lines, scraped_once, shelf
from sqlalchemy import select
from typed import typed

from scrapeopt.analysis.problems import find_problems
from scrapeopt.storage.backup import restore_backup, write_backup
from scrapeopt.storage.tables import CompanySpotBeliefs, Store, StoreSpotCheck
from scrapeopt.storage.token_store import load_bucket
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace, budget_day

W, HOUR, DAY = "Woolworths", pd.Timedelta(hours=1), pd.Timedelta(days=1)
NOON = THURSDAY + DAY


@pytest.fixture
def ws(tmp_path) -> Workspace: return scraped_once(tmp_path / "ws", "delegated")


def with_settings(ws: Workspace, text: str, top: str = "") -> Workspace:
    "The workspace with more in its settings."
    file = ws.path / "scrapeopt.toml"
    file.write_text(top + file.read_text() + text)
    return Workspace.open(ws.path)


def asking(ws: Workspace) -> Workspace: return with_settings(ws, '\n[companies."Woolworths"]\nspot_checks = true\n')


def spot(ws: Workspace, store: str, at: pd.Timestamp, text: list[str]): return land_spot_check(ws, W, store, at, text)


def some(store: str, week: int = 1, products=slice(0, 8)) -> list[str]:
    "What a store answers when it is asked for a few products."
    return lines(shelf(W, store, week)[products], PRODUCTS[products])


def seen(ws: Workspace) -> tuple:
    "All that a spot check may not move."
    shown = ws.stores().drop(columns="failures").to_json(date_format="iso")
    return shown, ws.groups(W), sorted((ws.path / "prices").rglob("*.parquet"))


def kept(ws: Workspace) -> list[tuple]:
    with ws.read() as session:
        return [tuple(row) for row in session.execute(
            select(Store.store_id, StoreSpotCheck.products, StoreSpotCheck.bad_lines, StoreSpotCheck.currency)
            .join(Store, Store.id == StoreSpotCheck.store_pk).order_by(StoreSpotCheck.at, Store.store_id))]


def beliefs_rows(ws: Workspace) -> int:
    with ws.read() as session: return len(session.scalars(select(CompanySpotBeliefs.at)).all())


def test_where_nobody_uses_them_they_are_kept_and_move_nothing(ws):
    before, prices = seen(ws), ws.prices(now=NOON)
    spot(ws, "0002", NOON, [*some("0002"), '{"product_id": "100008", "price": null}', "torn"])
    report = update_db(ws, now=LATER)
    assert (report.files, report.rows, report.quarantined, report.partial) == (1, 9, 1, 0)
    assert kept(ws) == [("0002", 9, 1, "AUD")] and beliefs_rows(ws) == 0
    assert seen(ws) == before and ws.prices(now=NOON).equals(prices)
    assert not list((ws.path / "inbox").rglob("*.jsonl")) and list((ws.path / "archive").rglob("*.spot.jsonl"))
    [line] = (ws.path / "quarantine").rglob("*.spot.jsonl")
    assert json.loads(line.read_text())["line"] == 10


def test_the_same_again_is_no_news_and_another_of_that_time_is_refused(ws):
    ws = asking(ws)
    spot(ws, "0002", NOON, some("0002"))
    update_db(ws, now=LATER)
    before, rows = kept(ws), beliefs_rows(ws)
    path = spot(ws, "0002", NOON, some("0002"))
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    again = update_db(ws, now=LATER)
    assert (again.files, again.events, kept(ws), beliefs_rows(ws)) == (0, (), before, rows)
    spot(ws, "0002", NOON, some("0002", week=2))
    [problem] = update_db(ws, now=LATER).problems
    assert "has a spot check of that time already, with other content" in problem and kept(ws) == before


@pytest.mark.parametrize("text, why", [
    ([], "it answers for no product"), (["tea is sold out"], "line 1: not JSON"),
    (['{"product_id": "100000", "price": "1.00", "store_id": "0003"}'], "0003")])
def test_an_answer_for_nothing_is_put_aside_with_its_reason(ws, text, why):
    spot(ws, "0002", NOON, text)
    report = update_db(ws, now=LATER)
    assert report.files == 0 and report.quarantined == 1 and why in report.problems[0] and kept(ws) == []


def test_a_spot_check_of_a_time_that_is_none_is_put_aside(ws):
    for name in ("monday.spot.jsonl", "16000101T000000Z.spot.jsonl", "20361119T000000Z.spot.jsonl"):
        path = land(ws, W, "0002", NOON, some("0002"))
        path.rename(path.with_name(name))
    report = update_db(ws, now=NOON)
    assert (report.files, report.quarantined, len(report.problems)) == (0, 3, 3) and kept(ws) == []


def test_what_is_learned_is_kept_and_an_older_one_teaches_nothing(ws):
    ws = asking(ws)
    spot(ws, "0002", NOON, some("0002"))
    report = update_db(ws, now=LATER)
    assert beliefs_rows(ws) == 1 and any(e["kind"] == "SpotChecked" for e in report.events)
    with ws.read() as session: assert session.scalar(select(CompanySpotBeliefs.at)) == NOON
    late, older = NOON - HOUR, THURSDAY - DAY
    before = beliefs_rows(ws)
    for at in (late, older): spot(ws, "0002", at, some("0002", week=3))
    quiet = update_db(ws, now=LATER)
    assert quiet.files == 2 and quiet.events == () and beliefs_rows(ws) == before


def test_a_spot_check_costs_its_share_of_a_scrape(ws):
    ws = with_settings(ws, '\n[companies."Woolworths"]\nspot_checks = true\n', 'budget = 4\n')
    def left():
        with ws.read() as session: return load_bucket(session, ws.settings, budget_day(session, NOON)).tokens
    ws.record_failures({}, NOON)
    before = left()
    spot(ws, "0002", NOON, some("0002", products=slice(0, 15)))  # of the sixty that it sells
    update_db(ws, now=NOON + HOUR)
    assert before - left() == pytest.approx(0.25)


def test_whether_they_come_together_or_one_by_one_the_state_is_the_same(tmp_path):
    "As far as the order of days goes; within a day spot checks come first."
    ends = []
    for together in (True, False):
        ws = asking(scraped_once(tmp_path / f"ws-{together}", "delegated"))
        for day in range(1, 4):
            at = THURSDAY + day * DAY
            spot(ws, "0002", at, some("0002", 0))
            if day == 2: land(ws, W, "0003", at, lines(shelf(W, "0003", 0)))
            if not together: update_db(ws, now=LATER)
        update_db(ws, now=LATER)
        with ws.read() as session:
            content = session.scalar(select(CompanySpotBeliefs.content).order_by(CompanySpotBeliefs.at.desc()))
        ends.append((ws.events().words.tolist(), content))
    assert ends[0] == ends[1]


def test_a_backup_brings_them_back_and_the_doctor_finds_nothing(ws, tmp_path):
    ws = asking(ws)
    spot(ws, "0002", NOON, some("0002"))
    update_db(ws, now=LATER)
    file = write_backup(ws, tmp_path / "monday.backup").file
    spot(ws, "0003", NOON + DAY, some("0003"))
    update_db(ws, now=LATER)
    before = kept(ws)
    restored = restore_backup(ws.path, file)
    assert restored.taken_back == 1  # the file that is newer than the backup, and not the one that it knows
    ws = Workspace.open(ws.path)
    update_db(ws, now=LATER)
    assert kept(ws) == before
    doctor = typed("-w", ws.path, "doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr


def test_their_files_are_packed_and_go_like_those_of_scrapes(ws):
    spot(ws, "0002", NOON, some("0002"))
    update_db(ws, now=LATER)
    def tidied(at): return typed("-w", ws.path, "tidy", "--now", f"{at:%Y-%m-%d}").returncode
    assert tidied(NOON + 30 * DAY) == 0
    assert [p.name for p in (ws.path / "archive").rglob("*.spot.*")] == [f"{NOON:%Y%m%dT%H%M%SZ}.spot.jsonl.gz"]
    assert tidied(NOON + 500 * DAY) == 0 and not list((ws.path / "archive").rglob("*.spot.*"))
    assert len(kept(ws)) == 1


def test_whose_spot_checks_are_answered_has_no_stale_prices(ws):
    "A spot check is a look at the store; where nobody makes use of it, it is none."
    later = THURSDAY + 20 * DAY
    for store in ZONES[W]: spot(ws, store, later - HOUR, some(store))
    update_db(ws, now=later)
    def kinds(ws): return {p.kind for p in find_problems(ws, W, later.to_pydatetime())} & {"stale", "old_prices"}
    assert kinds(ws) == {"stale"} and kinds(asking(ws)) == set()
