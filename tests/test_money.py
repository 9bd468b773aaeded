"""What is kept keeps its currency: under both policies nothing is relabelled, nothing compared across."""
import json
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from effort import drilled
from small_chain import NEWER_TABLES
from sqlalchemy import create_engine, text
from templates import copy_of

from scrapeopt.core.errors import InputError
from scrapeopt.reanalysis import reanalyse
from scrapeopt.storage.event_log import change_counts
from scrapeopt.storage.tables import STATE_VERSION, migrate, state_version
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

POLICIES = ("document", "delegated")
EVE = pd.Timestamp("2025-12-31 06:00", tz="UTC")  # a Wednesday; on New Year's Day the lev went
HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
STORES = [f"S{i}" for i in range(6)]  # the first three and the last three price alike
RATE = 1.95583  # lev for a euro


def shelf(store: str, week: int, currency: str = "BGN") -> np.ndarray:
    "Sixty prices in hundredths of the currency."
    zone = STORES.index(store) // 3
    cents = np.random.default_rng(week).integers(40, 800, 60) * 5 + 55 * zone * (np.arange(60) % 3 == 0)
    return cents if currency == "BGN" else (cents / RATE).round().astype(int)


def land(ws: Workspace, store: str, at: pd.Timestamp, cents, currency: str | None = None) -> None:
    told = {} if currency is None else {"currency": currency}
    path = ws.inbox("Mart", store) / f"{at:%Y%m%dT%H%M%SZ}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"product_id": f"P{i:02d}", "price": f"{c / 100:.2f}"} | told) + "\n"
                            for i, c in enumerate(cents) if c >= 0))


def reopened(ws: Workspace, **settings) -> Workspace:
    "The workspace with other settings of the company."
    file = ws.path / "scrapeopt.toml"
    own = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    text = re.sub(r"\n\[companies\.Mart\]\n.*", "", file.read_text(), flags=re.S)
    file.write_text(f"{text}\n[companies.Mart]\n{own}")
    return Workspace.open(ws.path)


LEV, EURO = ({"currency": c, "timezone": "Europe/Sofia", "changeover": "monday"} for c in ("BGN", "EUR"))


def built_mart(path: Path, policy: str) -> Workspace:
    "Six stores in two groups, all seen in lev on New Year's Eve."
    ws = reopened(Workspace.create(path, policy=policy), **LEV)
    ws.import_stores(pd.DataFrame([("Mart", s, s, 42.69 + i / 200, 23.32) for i, s in enumerate(STORES)],
                                  columns=["company", "store_id", "name", "lat", "lon"]))
    ws.cluster(min_samples=2)
    for i, s in enumerate(STORES): land(ws, s, EVE + i * HOUR, shelf(s, 0))
    update_db(ws)
    return ws


@pytest.fixture(params=[drilled("document"), "delegated"])
def mart(request, tmp_path) -> Workspace: return copy_of(built_mart, tmp_path / "ws", request.param)


def members(ws: Workspace) -> list[list[str]]:
    return sorted(sorted(g.members) for g in ws.groups("Mart").active())


def told(ws: Workspace, store: str, now: pd.Timestamp, **how) -> pd.DataFrame:
    table = ws.prices(store=store, now=now, **how)
    assert not table.duplicated(["store_id", "product_id"]).any()
    return table.assign(cents=[int(p * 100) for p in table["price"]])


@pytest.mark.slow
def test_a_changed_setting_changes_nothing_that_is_kept(mart):
    before = {s: mart.prices(store=s, now=EVE + DAY) for s in STORES}
    ws = reopened(mart, **EURO)
    for s in STORES: pd.testing.assert_frame_equal(ws.prices(store=s, now=EVE + DAY), before[s])
    assert set(ws.prices()["currency"]) == {"BGN"}
    assert not update_db(ws).events
    again = reopened(ws, **LEV)  # a slip of the pen
    for s in STORES: pd.testing.assert_frame_equal(again.prices(store=s, now=EVE + DAY), before[s])


def test_one_scrape_of_a_member_tells_the_new_prices_of_its_group(mart):
    ws, now, groups = reopened(mart, **EURO), EVE + 2 * DAY, members(mart)
    land(ws, "S1", now, shelf("S1", 0, "EUR"))
    report = update_db(ws)
    assert report.events[0]["kind"] == "CurrencyChanged"
    assert "ChangesSeen" not in {e["kind"] for e in report.events}  # nothing changed between lev and euro
    assert members(ws) == groups and not len(ws.audits("Mart"))
    for s in STORES:
        table = told(ws, s, now)
        assert len(table) == 60
        if STORES.index(s) < 3:
            assert set(table["currency"]) == {"EUR"} and (table["cents"] == shelf(s, 0, "EUR")).all()
            assert set(table["source"]) == ({"direct_scrape"} if s == "S1" else {"inferred_group"})
        else:
            assert set(table["currency"]) == {"BGN"} and (table["cents"] == shelf(s, 0)).all()


def test_each_product_has_one_row_with_its_own_currency(mart):
    "What the member seen in euro does not sell stays in lev; what a store was never seen to sell is not served."
    ws, now = reopened(mart, **EURO), EVE + 2 * DAY
    euro = shelf("S1", 0, "EUR")
    euro[40:] = -1
    land(ws, "S1", now, euro)
    update_db(ws)
    table = told(ws, "S0", now).set_index("product_id")
    assert len(table) == 60 and (table["currency"] == ["EUR"] * 40 + ["BGN"] * 20).all()
    assert (table["cents"].to_numpy() == [*euro[:40], *shelf("S0", 0)[40:]]).all()
    assert len(told(ws, "S1", now)) == 40


def test_no_verdict_no_audit_no_change_across(mart):
    "Same numbers in another currency are no match, other numbers no divergence, however close in time."
    ws = reopened(mart, **EURO)
    for i, s in enumerate(STORES[:3]): land(ws, s, EVE + (8 + i) * HOUR, shelf("S5", 0))  # numbers of the other group
    report = update_db(ws)
    kinds = {e["kind"] for e in report.events}
    assert not kinds & {"StoreOutcast", "StoreJoined", "GroupsMerged", "DivergenceDetected", "ChangesSeen"}
    assert not len(ws.audits("Mart")) and members(ws) == [STORES[:3], STORES[3:]]
    reanalyse(ws, now=EVE + DAY)
    assert members(ws) == [STORES[:3], STORES[3:]]
    assert set(ws.newest("Mart").stores) == set(STORES[:3])  # side by side only what can be compared


def test_in_the_new_currency_stores_are_judged_as_ever(mart):
    ws = reopened(mart, **EURO)
    for i, s in enumerate(STORES):
        land(ws, s, EVE + 6 * DAY + i * HOUR, shelf("S5" if s == "S2" else s, 1, "EUR"))  # S2 goes over to the others
    update_db(ws)
    for i, s in enumerate(STORES): land(ws, s, EVE + 7 * DAY + i * HOUR, shelf("S5" if s == "S2" else s, 1, "EUR"))
    update_db(ws)
    assert members(ws) == [["S0", "S1"], ["S2", "S3", "S4", "S5"]]
    assert set(ws.prices(now=EVE + 7 * DAY)["currency"]) == {"EUR"}


def test_the_price_week_begins_anew(mart):
    for w in range(1, 5):
        for i, s in enumerate(STORES): land(mart, s, EVE + w * 7 * DAY + i * HOUR, shelf(s, w))
        update_db(mart)
    with mart.begin() as session:
        row = mart.company(session, "Mart")
        assert change_counts(session, row).seen.sum() > 1000
    ws, switch = reopened(mart, **EURO), EVE + 5 * 7 * DAY
    land(ws, "S0", switch, shelf("S0", 5, "EUR"))
    update_db(ws)
    with ws.begin() as session:
        assert change_counts(session, ws.company(session, "Mart")).seen.sum() == 0
        assert change_counts(session, ws.company(session, "Mart"), switch - DAY).seen.sum() > 1000
    assert set(told(ws, "S1", switch - DAY, as_of=switch - DAY)["currency"]) == {"BGN"}  # the table of that day
    assert set(told(ws, "S1", switch)["currency"]) == {"EUR"}


def test_a_late_file_is_in_the_money_of_its_time(mart):
    ws = reopened(mart, **EURO)
    land(ws, "S1", EVE + 2 * DAY, shelf("S1", 0, "EUR"))
    update_db(ws)
    land(ws, "S0", EVE - DAY, shelf("S0", 9))  # no currency told
    land(ws, "S2", EVE - DAY, shelf("S2", 9), "BGN")
    before = ws.prices(now=EVE + 2 * DAY)
    report = update_db(ws)
    assert (report.files, report.quarantined, report.partial) == (2, 0, 0)
    pd.testing.assert_frame_equal(ws.prices(now=EVE + 2 * DAY), before)
    past = told(ws, "S0", EVE - HOUR, as_of=EVE - HOUR)
    assert set(past["currency"]) == {"BGN"} and (past["cents"] == shelf("S0", 9)).all()


def test_lines_in_another_currency_stay_bad(mart):
    ws = reopened(mart, **EURO)
    land(ws, "S1", EVE + 2 * DAY, shelf("S1", 0), "BGN")
    report = update_db(ws)
    assert report.quarantined == 60 and "currency 'BGN' is not the company's EUR" in report.problems[0]
    assert set(told(ws, "S1", EVE + 2 * DAY)["currency"]) == {"BGN"}  # as it was on New Year's Eve


def test_a_new_currency_may_bring_other_decimals(mart, tmp_path):
    with pytest.raises(InputError, match="decimals = 3, but its prices are kept with 2"):
        reopened(mart, **LEV, decimals=3)
    ws = reopened(mart, **EURO, decimals=3)
    path = ws.inbox("Mart", "S4") / "20260102T060000Z.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f'{{"product_id": "P{i:02d}", "price": "1.0{i % 10}5"}}\n' for i in range(60)))
    update_db(ws)
    table = ws.prices(now=EVE + 2 * DAY).set_index(["store_id", "product_id"])
    assert table.loc[("S3", "P07"), ["price", "currency"]].tolist() == [Decimal("1.075"), "EUR"]
    assert table.loc[("S0", "P07"), ["price", "currency"]].tolist() == [Decimal(int(shelf("S0", 0)[7])) / 100, "BGN"]
    for out in ("p.csv", "p.parquet"): assert ws.write_prices(tmp_path / out, now=EVE + 2 * DAY) == 360
    assert pd.read_csv(tmp_path / "p.csv").groupby("currency").size().to_dict() == {"BGN": 180, "EUR": 180}


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_discovery_that_a_switch_cuts_in_two_goes_on(tmp_path, policy):
    "Groups are formed of prices in one currency: stores seen in the old one only are asked for again."
    ws = reopened(Workspace.create(tmp_path / "ws", policy=policy), **LEV)
    ws.import_stores(pd.DataFrame([("Mart", s, s, 42.69 + i / 200, 23.32) for i, s in enumerate(STORES)],
                                  columns=["company", "store_id", "name", "lat", "lon"]))
    ws.cluster(min_samples=2)
    for i, s in enumerate(STORES[:4]): land(ws, s, EVE + i * HOUR, shelf(s, 0))
    update_db(ws)
    ws = reopened(ws, **EURO)
    for day in (1, 2, 3):
        now = EVE + day * DAY
        for i, task in enumerate(ws.queue(4, now=now)):
            land(ws, task.store_id, now + i * HOUR, shelf(task.store_id, 0, "EUR"))
        update_db(ws)
    assert members(ws) == [STORES[:3], STORES[3:]]
    assert set(ws.prices(now=EVE + 3 * DAY)["currency"]) == {"EUR"}


def test_an_old_state_is_filled_from_the_files(mart):
    "Before version 0006 a snapshot's row did not name its currency; its file did, whatever the settings said since."
    engine = create_engine(f"sqlite:///{mart.path / 'state.db'}")
    with engine.begin() as c:
        for table in NEWER_TABLES: c.execute(text(f"DROP TABLE {table}"))
        for column in ("currency", "decimals"): c.execute(text(f"ALTER TABLE snapshot DROP COLUMN {column}"))
        c.execute(text("UPDATE company SET currency = 'EUR'"))  # relabelled, as it went then
        c.execute(text("UPDATE alembic_version SET version_num = '0005'"))
    damaged = sorted((mart.path / "prices").rglob("*.parquet"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    ws = Workspace.open(mart.path)
    assert state_version(ws.engine) == STATE_VERSION and not migrate(ws.engine)
    with ws.begin() as session: kept = session.execute(text("SELECT currency, decimals FROM snapshot")).all()
    assert sorted(kept) == [("BGN", 2)] * 5 + [("EUR", 2)]  # of the damaged one nothing better is known
