"""Stores close, open, move, change their sign and do not answer (R15): what a cell cannot show of it."""
import json

import numpy as np
import pandas as pd
import pytest
from effort import drilled
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from small_chain import NEWER_TABLES, THURSDAY, ZONES, land, lines, new_workspace, scrape_all, scraped_once
from small_chain import shelf, stores
from typer.testing import CliRunner

from scrapeopt import storage
from scrapeopt.analysis.metrics import find_out
from scrapeopt.analysis.status import status, store_story
from scrapeopt.cli import app
from scrapeopt.core.errors import InputError
from scrapeopt.core.store_changes import change_sentences
from scrapeopt.storage.repository import read_groups
from scrapeopt.storage.tables import STATE_VERSION, connect, migrate, state_version
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace, load_stores

W, F = "Woolworths", "Fruit/Veg & Co."
DAY, WEEK = pd.Timedelta(days=1), pd.Timedelta(days=7)
POLICIES = ["document", "delegated"]
LONER = "0007"  # has so many prices of its own that it is in no group


@pytest.fixture(params=POLICIES)
def policy(request) -> str: return request.param


@pytest.fixture
def ws(policy, tmp_path) -> Workspace:
    "A workspace with clustered stores that nobody has scraped."
    return new_workspace(tmp_path / "ws", policy=policy)


@pytest.fixture
def grouped(policy, tmp_path) -> Workspace:
    "A workspace in which all stores were scraped, and have their groups."
    return scraped_once(tmp_path / "ws", policy)


def without(*gone: str) -> pd.DataFrame:
    "The list of the chain without some stores."
    return stores().query("store_id not in @gone")


def group_of(ws: Workspace, store: str, company: str = W):
    "The full group of a store, None for an outlier."
    return ws.groups(company).group_of(store)


def invoke(ws: Workspace, *arguments: str):
    "What a command says."
    return CliRunner().invoke(app, [*arguments, "-w", str(ws.path)], catch_exceptions=False)


def kinds(ws: Workspace, store: str) -> list[str]: return ws.events(W, store=store)["kind"].tolist()


def test_a_retired_store_leaves_everything_but_the_past(grouped):
    title = group_of(grouped, "0001").ambassador
    members = group_of(grouped, title).members
    later = THURSDAY + DAY
    counts = grouped.import_stores(without(title), replace=True, now=later)
    assert counts.set_index("company").loc[W, ["missing", "retired"]].tolist() == [1, 1]
    assert title not in grouped.stores(W)["store_id"].tolist()
    assert title not in {t.store_id for t in grouped.queue(50, now=later + WEEK)}
    assert grouped.prices(W, title, now=later).empty and not grouped.prices(W, now=later).empty
    assert len(grouped.prices(W, title, as_of=later - pd.Timedelta(hours=1))) == 60
    heir = group_of(grouped, min(members - {title})).ambassador
    times = grouped.stores(W).set_index("store_id")["last_scraped"]
    assert heir == times[[*sorted(members - {title})]].idxmax()
    assert kinds(grouped, title)[-3:] == ["StoreRetired", "StoreLeft", "AmbassadorChanged"]
    (chapter,) = store_story(grouped, title, W)
    assert chapter.standing.startswith("retired since 2026-11-20 02:00 UTC, last scraped 2026-11-19")


def test_a_story_that_is_told_as_of_a_moment_ends_there(grouped):
    title = group_of(grouped, "0001").ambassador
    grouped.import_stores(without(title), replace=True, now=THURSDAY + 2 * DAY)
    times = [f"{THURSDAY + days * DAY:%Y-%m-%dT%H:%M}" for days in (1, 3)]
    before, after = (invoke(grouped, "explain", title, "--company", W, "--now", at).stdout for at in times)
    assert f"{W} {title}, " in before and ": Ambassador of [" in before and "retired" not in before
    assert after == invoke(grouped, "explain", title, "--company", W).stdout and ": retired since" in after
    with grouped.read() as session: then = read_groups(session, grouped.company(session, W), THURSDAY + DAY)
    assert f"({len(then.group_of(title).members)} stores)" in before


def test_stores_are_clustered_at_a_moment_like_all_else(grouped):
    assert invoke(grouped, "cluster-stores", "--now", "2026-11-20T02:00Z").exit_code == 0
    with pytest.raises(InputError, match="--now 'soon' is no time"): invoke(grouped, "cluster-stores", "--now", "soon")


def test_the_log_replays_to_the_state(grouped):
    grouped.import_stores(without("0001", "0005", "0006"), replace=True, now=THURSDAY + DAY)
    grouped.import_stores(without("0005"), now=THURSDAY + 2 * DAY)
    with grouped.begin() as session:
        row = grouped.company(session, W)
        then, now = read_groups(session, row, THURSDAY + 3 * DAY), read_groups(session, row)
    assert then.retired == now.retired == {"0005"} and then.groups == now.groups


def test_of_two_one_is_left_and_the_group_is_dissolved(grouped):
    assert group_of(grouped, "0006").members == {"0005", "0006"}
    grouped.import_stores(without("0005"), replace=True)
    assert group_of(grouped, "0006") is None
    assert kinds(grouped, "0006")[-1] == "GroupDissolved"
    assert len(grouped.prices(W, "0006", now=THURSDAY)) == 60  # what it showed itself


def test_a_store_that_comes_back_is_placed_with_one_scrape(grouped):
    for _ in range(4): grouped.record_failures({(W, "0002"): False}, THURSDAY + DAY)
    grouped.import_stores(without("0002"), replace=True, now=THURSDAY + DAY)
    (change, _) = sorted(load_stores(grouped, stores(), now=THURSDAY + 2 * DAY), key=lambda c: c.company != W)
    assert change.reopened == ("0002",) and change.retired == ()
    row = grouped.stores(W).set_index("store_id").loc["0002"]
    assert (row["failures"], row["cluster_name"]) == (0, grouped.stores(W)["cluster_name"].iloc[0])
    assert "0002" in {t.store_id for t in grouped.queue(12, now=THURSDAY + WEEK)}
    scrape_all(grouped, 1, [W], only={"0001", "0002", "0004"})
    update_db(grouped)
    assert group_of(grouped, "0002") is not None and group_of(grouped, "0002") == group_of(grouped, "0001")


def test_a_store_retired_during_discovery_is_not_waited_for(ws):
    scrape_all(ws, companies=[W], only=set(ZONES[W]) - {"0003"})
    update_db(ws)
    assert 0 not in ws.groups(W).formed and status(ws, W)["mode"].tolist() == ["discovery"]
    ws.import_stores(without("0003"), replace=True)
    assert status(ws, W)["mode"].tolist() == ["optimization"]
    update_db(ws)
    assert 0 in ws.groups(W).formed
    assert {s for g in ws.groups(W).active() for s in g.members} == set(ZONES[W]) - {"0003", LONER}
    assert len(ws.queue(10, company=W, now=THURSDAY + WEEK)) == 6


def test_a_list_of_one_company_retires_nobody_of_another(grouped):
    before = grouped.groups(F)
    grouped.import_stores(without("0001").query("company == @W"), replace=True)
    assert len(grouped.stores(F)) == 5 and grouped.groups(F) == before


@pytest.mark.parametrize("listed", [
    stores().assign(store_id=lambda d: "9" + d["store_id"]),  # other ids
    stores().query("company == @F").assign(company=W),  # another company's list
    stores().assign(company=lambda d: d["company"].str.upper())])  # another spelling
def test_a_list_that_would_retire_everybody_is_refused(grouped, listed):
    before, log = grouped.stores(), len(grouped.events())
    with pytest.raises(InputError, match=r"is it the right file|write it as before"):
        grouped.import_stores(listed, replace=True)
    pd.testing.assert_frame_equal(grouped.stores(), before)
    assert len(grouped.events()) == log and grouped.companies() == [F, W]


def test_a_rename_is_no_move_and_a_move_clusters_anew(grouped):
    before = grouped.stores()
    (change,) = load_stores(grouped, stores().query("company == @W").assign(name="new", address="1 High St"))
    assert (len(change.changed), change.moved, change.new) == (7, (), ())
    pd.testing.assert_series_equal(grouped.stores()["cluster"], before["cluster"])
    far = stores().query("company == @W")
    far.loc[far["store_id"] == "0004", "lat"] = -17.96
    (change,) = load_stores(grouped, far)
    after = grouped.stores(W).set_index("store_id")
    assert change.moved == ("0004",) and after.loc["0004", "cluster"] == -1
    (km,) = change.moved_km
    assert 1400 < km < 1700 and f"1 store of {W} moved by {km:,.0f} km: 0004" in change_sentences(change)
    assert after["address"].unique().tolist() == ["1 High St"]  # this list has no addresses
    assert after["cluster_name"].drop("0004").tolist() == before.query("company == @W")["cluster_name"].tolist()[:6]
    assert group_of(grouped, "0004") is not None  # it may price as before, wherever it is


def test_a_cluster_that_is_split_holds_nobody_up(grouped):
    listed = stores().query("company == @W")
    listed.loc[listed["store_id"].isin(["0003", "0004"]), "lat"] -= 3
    load_stores(grouped, listed)
    assert len(set(grouped.stores(W)["cluster"])) == 2
    assert len(grouped.queue(20, company=W, now=THURSDAY + WEEK)) == 7
    before = grouped.groups(W)
    update_db(grouped)
    assert grouped.groups(W).groups == before.groups


def test_a_new_store_gets_a_cluster_and_is_placed_with_one_scrape(grouped):
    new = pd.DataFrame([(W, "0008", "Store 8", -31.955, 115.85)], columns=stores().columns)
    grouped.import_stores(pd.concat([stores(), new]))
    assert grouped.stores(W).set_index("store_id").loc["0008", "cluster"] == 0
    first = grouped.queue(1, company=W, now=THURSDAY + DAY)[0]
    assert (first.store_id, first.mode) == ("0008", "discovery")
    land(grouped, W, "0008", THURSDAY + pd.Timedelta(hours=8), lines(shelf(W, "0005")))
    update_db(grouped)
    assert group_of(grouped, "0008").members == {"0005", "0006", "0008"}


def test_a_rebrand_is_told_and_retired_where_it_was(grouped):
    signs = without("0007").query("company == @W")
    renamed = stores().query("store_id == '0007'").assign(company="Metro")
    told = load_stores(grouped, pd.concat([signs, renamed]))
    assert [c.rebranded for c in told if c.company == W] == [(("0007", "Metro"),)]
    assert [c.missing for c in told] == [(), ()]  # it is told once
    assert "0007" in grouped.stores(W)["store_id"].tolist()
    load_stores(grouped, renamed, replace=True)  # the new company's list alone will do
    assert "0007" not in grouped.stores(W)["store_id"].tolist() and len(grouped.stores(W)) == 6
    assert grouped.stores("Metro")["store_id"].tolist() == ["0007"]
    assert "a store of Metro" in grouped.events(W, "0007")["words"].iloc[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("words_only")
@pytest.mark.parametrize("policy", [drilled("document"), "delegated"], indirect=True)
def test_a_store_without_coordinates_is_grouped_by_its_prices_and_drawn_on_no_map(grouped, tmp_path):
    new = pd.DataFrame([(W, "0008", "Store 8", None, None)], columns=stores().columns)
    with pytest.raises(InputError, match="missing coordinates in row 13"):
        grouped.import_stores(pd.concat([stores(), new], ignore_index=True))
    grouped.import_stores(pd.concat([stores(), new], ignore_index=True), need_coordinates=False)
    assert grouped.stores(W).set_index("store_id").loc["0008", "cluster"] == -1
    assert grouped.cluster(min_samples=2).query("store_id == '0008'")["cluster"].tolist() == [-1]
    land(grouped, W, "0008", THURSDAY + pd.Timedelta(hours=8), lines(shelf(W, "0005")))
    update_db(grouped)
    assert "0008" in group_of(grouped, "0005").members
    for command in (("visualize-clusters", "--basemap", "none", "--out", str(tmp_path / "maps")),
                    ("report", "--now", f"{THURSDAY + DAY:%FT%T}", "--out", str(tmp_path / "r.html")),
                    ("cluster-stores",), ("queue",)):
        assert invoke(grouped, *command).exit_code == 0


@pytest.mark.usefixtures("words_only")
@pytest.mark.parametrize("policy", [drilled("document"), "delegated"])
def test_a_chain_without_any_coordinates_is_grouped(tmp_path, policy):
    ws = Workspace.create(tmp_path / "ws", policy=policy)
    ws.import_stores(stores().assign(lat=np.nan, lon=np.nan), need_coordinates=False)
    assert set(ws.cluster()["cluster"]) == {-1}
    assert len(ws.queue(20)) == 12
    scrape_all(ws)
    update_db(ws)
    scrape_all(ws, 1)
    update_db(ws)
    assert sorted(len(g.members) for g in ws.groups(W).active()) == [2, 4]
    assert invoke(ws, "report", "--out", str(tmp_path / "report.html")).exit_code == 0
    with pytest.raises(InputError, match="no store has coordinates"): invoke(ws, "visualize-clusters")


def test_files_of_a_retired_store_are_history_or_wait_for_a_person(grouped):
    noon = THURSDAY + pd.Timedelta(hours=10)
    grouped.import_stores(without("0001"), replace=True, now=noon)
    before, groups = len(grouped.events()), grouped.groups(W)
    early = land(grouped, W, "0001", noon - pd.Timedelta(hours=1), lines(shelf(W, "0001")))
    late = land(grouped, W, "0001", noon + pd.Timedelta(hours=1), lines(shelf(W, "0001")))
    report = update_db(grouped)
    assert (report.files, report.quarantined) == (1, 1) and not early.exists() and not late.exists()
    assert "0001 of Woolworths is retired since 2026-11-19 12:00 UTC" in report.problems[0]
    assert len(grouped.events()) == before and grouped.groups(W) == groups
    assert grouped.prices(W, "0001").empty and grouped.prices(W, "0001", as_of=noon - pd.Timedelta(minutes=1)).size


@pytest.mark.parametrize("scraped", [True, False])
def test_status_and_report_count_the_same_unreachable_stores(ws, scraped):
    if scraped:
        scrape_all(ws)
        update_db(ws)
    for k in range(3): ws.record_failures({(W, "0002"): False, (W, "0003"): False}, THURSDAY + (k + 1) * DAY)
    ws.record_failures({(W, "0004"): False}, THURSDAY + DAY)
    found = [p for p in find_out(ws, now=THURSDAY + 4 * DAY).problems if p.what.startswith("Unreachable")]
    assert status(ws).set_index("company")["unreachable"].to_dict() == {W: 2, F: 0}
    assert [p.which for p in found] == [("0002", "0003")] and "--replace" in found[0].todo
    ws.import_stores(without("0002"), replace=True)
    assert status(ws, W)["unreachable"].tolist() == [1]


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "days"), [("delegated", 32), *(drilled(policy, 80) for policy in POLICIES)],
                         indirect=["policy"])
def test_a_store_that_does_not_answer_is_asked_for_ever(grouped, days):
    day, asked = THURSDAY + WEEK, []
    for k in range(days):
        now = day + k * DAY
        if "0001" in {t.store_id for t in grouped.queue(50, now=now)}:
            asked.append(k)
            grouped.record_failures({(W, "0001"): False}, now)
    waits = np.diff(asked)
    assert waits.tolist()[:5] == [1, 1, 2, 4, 8] and 8 < waits[5:].max() <= 14 and asked[-1] > days - 20


def test_keep_good_imports_the_good_rows_and_replaces_only_what_the_list_lacks(grouped, tmp_path):
    listed = without("0001").astype({"lat": object})
    listed.loc[listed["store_id"] == "0002", "lat"] = 200
    listed.loc[listed["store_id"] == "0003", "lat"] = "north"
    listed.to_csv(tmp_path / "s.csv", index=False)
    before = grouped.stores()
    command = ("import-stores", str(tmp_path / "s.csv"), "--replace")
    with pytest.raises(InputError, match="in row 2"): invoke(grouped, *command)
    pd.testing.assert_frame_equal(grouped.stores(), before)
    assert not (tmp_path / "s.bad.csv").exists()
    told = json.loads(invoke(grouped, *command, "--keep-good", "--json").stdout)
    bad = pd.read_csv(tmp_path / "s.bad.csv", dtype=str)
    assert bad["store_id"].tolist() == ["0002", "0003"] and bad["lat"].tolist() == ["200", "north"]
    assert [row["row"] for row in told["bad_rows"]] == [1, 2] and told["bad_file"] == str(tmp_path / "s.bad.csv")
    woolworths = next(c for c in told["companies"] if c["company"] == W)
    assert (woolworths["missing"], woolworths["retired"], woolworths["stores"]) == (["0001"], ["0001"], 4)
    assert grouped.stores(W)["store_id"].tolist() == ["0002", "0003", "0004", "0005", "0006", "0007"]


@pytest.mark.parametrize(("rows", "said"), [
    ("Mart,1,a,0,0", "coordinates 0, 0 in row 1"), ("Mart,1,a,,5", "missing coordinates in row 1"),
    ("Mart,1,a,5,5\nMart,1,b,5,6", "duplicate store_id in row 1"), ("Mart,,a,5,5", "empty store_id in row 1"),
    ("Mart,1,a,5,181", "longitude outside")])
def test_a_bad_row_stops_the_import_and_keep_good_says_that_none_is_good(tmp_path, rows, said):
    ws, file = Workspace.create(tmp_path / "ws"), tmp_path / "s.csv"
    file.write_text(f"company,store_id,name,lat,lon\n{rows}\n")
    with pytest.raises(InputError, match=said): invoke(ws, "import-stores", str(file))
    with pytest.raises(InputError, match="none of its"): invoke(ws, "import-stores", str(file), "--keep-good")
    assert ws.companies() == [] and len(pd.read_csv(tmp_path / "s.bad.csv")) == rows.count("\n") + 1


def test_an_older_state_keeps_stores_and_links_and_may_then_lose_a_store(tmp_path):
    ws = Workspace.create(tmp_path / "ws", policy="document")
    ws.import_stores(stores())
    ws.cluster(min_samples=2)
    scrape_all(ws)
    update_db(ws)
    before, served = ws.stores(), ws.prices()
    with ws.engine.begin() as c:
        for table in NEWER_TABLES: c.exec_driver_sql(f"DROP TABLE {table}")
        c.exec_driver_sql("ALTER TABLE store DROP COLUMN retired_at")
        for column in ("currency", "decimals"): c.exec_driver_sql(f"ALTER TABLE snapshot DROP COLUMN {column}")
        c.exec_driver_sql("UPDATE alembic_version SET version_num = '0004'")
    again = Workspace.open(ws.path)
    assert state_version(again.engine) == STATE_VERSION
    pd.testing.assert_frame_equal(again.stores(), before)
    assert again.prices()["price"].tolist() == served["price"].tolist()
    with again.engine.connect() as c: assert c.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    again.import_stores(without("0001"), replace=True)
    assert len(again.stores()) == 11


def test_a_state_of_the_first_version_takes_stores_without_coordinates(tmp_path):
    folder = f"{storage.__path__[0]}/migrations"
    engine, scripts = connect("sqlite:///old.db", tmp_path), ScriptDirectory(folder, version_locations=[folder])
    with EnvironmentContext(Config(), scripts, fn=lambda seen, _: scripts._upgrade_revs("0004", seen)) as env, \
            engine.begin() as c:
        env.configure(connection=c, transactional_ddl=True)
        env.run_migrations()
        c.exec_driver_sql("INSERT INTO company (id, name, currency, timezone, decimals) "
                          "VALUES (1, 'W', 'AUD', 'UTC', 2)")
        for i, lat in ((1, -31.9), (2, 52.125)):
            c.exec_driver_sql("INSERT INTO store (id, company_id, store_id, name, lat, lon, failures) "
                              "VALUES (?, 1, ?, 'x', ?, 5.5, 0)", (i, str(i), lat))
        c.exec_driver_sql("INSERT INTO snapshot (store_pk, scraped_at, path, rows, bad_lines, digest, partial) "
                          "VALUES (2, '2026-01-01', 'p', 1, 0, '', 0)")
    assert migrate(engine)
    with engine.begin() as c:
        assert c.exec_driver_sql("SELECT lat, lon, retired_at FROM store ORDER BY id").all() == [
            (-31.9, 5.5, None), (52.125, 5.5, None)]
        c.exec_driver_sql("INSERT INTO store (company_id, store_id, name, failures) VALUES (1, '3', 'x', 0)")
        assert c.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        assert c.exec_driver_sql("SELECT count(*) FROM snapshot JOIN store ON store.id = store_pk").scalar() == 1


def test_what_is_exported_may_be_imported(grouped):
    (first, second) = load_stores(grouped, grouped.stores(), replace=True)
    assert (first.changed, first.moved, first.new, first.missing, second.changed) == ((), (), (), (), ())
