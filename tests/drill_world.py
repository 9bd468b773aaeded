"""What the drills share: workspaces on either database, commands in children that die or fail, and a state as rows."""
import builtins
import errno
import gzip
import hashlib
import io
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
from small_chain import PRODUCTS, THURSDAY, ZONES, land, land_spot_check, lines, new_workspace, scrape_all, shelf
from sqlalchemy import Engine, MetaData, event, make_url, select
from typed import CHILDREN

from scrapeopt.core.errors import InputError
from scrapeopt.storage.repository import read_groups
from scrapeopt.storage.snapshots import read_snapshot
from scrapeopt.storage.overview import OUTLOOK
from scrapeopt.storage.tables import Base, connect
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

W, F = ZONES
HOUR, DAY, WEEK = pd.Timedelta(hours=1), pd.Timedelta(days=1), pd.Timedelta(days=7)
NOW = THURSDAY + pd.Timedelta(days=9)
OF_A_RUN = {"alembic_version", "lease", "run"}  # tables that tell of runs, not of the chain


# --- workspaces, whose state lies in SQLite or on a server

def database_name(folder: Path) -> str: return "w" + hashlib.sha1(str(folder).encode()).hexdigest()[:20]


def state_url(folder: Path, server: str | None) -> str | None:
    "Where the state of a workspace lies; None: in its folder."
    if server is None: return None
    url = make_url(server).set(drivername="postgresql+psycopg", database=database_name(folder))
    return url.render_as_string(hide_password=False)


def tell_server(server: str, *commands: str) -> None:
    "Make or drop databases."
    import psycopg
    with psycopg.connect(server, autocommit=True) as connection:
        for command in commands: connection.execute(command)


def make_database(folder: Path, server: str) -> None:
    tell_server(server, f"CREATE DATABASE {database_name(folder)}")


def make(folder: Path, server: str | None, policy: str = "document") -> Workspace:
    "A new workspace with the stores of the small chain, clustered."
    if server: make_database(folder, server)
    new_workspace(folder, state_url(folder, server), policy)
    with (folder / "scrapeopt.toml").open("a") as settings: settings.write(f"\n[companies.{W}]\nspot_checks = true\n")
    return Workspace.open(folder)


def duplicate(before: Path, after: Path, server: str | None) -> Path:
    "Copy a workspace with its state, once whoever had it open is gone."
    shutil.copytree(before, after)
    if server:
        tell_server(server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                            f"WHERE datname = '{database_name(before)}'",
                    f"CREATE DATABASE {database_name(after)} TEMPLATE {database_name(before)}")
        settings = after / "scrapeopt.toml"
        settings.write_text(settings.read_text().replace(database_name(before), database_name(after)))
    return after


def remove(folder: Path, server: str | None) -> None:
    "Remove a workspace with its state."
    shutil.rmtree(folder, ignore_errors=True)
    if server: tell_server(server, f"DROP DATABASE IF EXISTS {database_name(folder)} WITH (FORCE)")


def land_trouble(ws: Workspace) -> None:
    "Land files for an update that has everything to do: checks, a formation, and every kind of trouble."
    scrape_all(ws, 1, companies=[W], only={"0001", "0002", "0005", "0006"})
    land(ws, W, "0007", THURSDAY + WEEK + HOUR, lines(shelf(W, "0007", 1, zone=0)))  # it changed its zone
    land(ws, W, "0003", THURSDAY - WEEK, lines(shelf(W, "0003")))  # history
    land(ws, W, "0004", THURSDAY + WEEK, lines(shelf(W, "0004", 1), PRODUCTS[:9]))  # partial
    land(ws, W, "0003", THURSDAY + 9 * HOUR, [*lines(shelf(W, "0003")), "broken", '{"product_id": "1", "price": "-1"}'])
    land(ws, W, "0001", THURSDAY, lines(shelf(W, "0001") + 5))  # conflict
    torn = land(ws, W, "0002", THURSDAY + 2 * WEEK, lines(shelf(W, "0002")))
    torn.with_name(torn.name + ".gz").write_bytes(gzip.compress(torn.read_bytes())[:-9])
    torn.unlink()
    twice = ws.inbox(W, "0001") / f"{THURSDAY + WEEK:%Y%m%dT%H%M%SZ}.jsonl"
    twice.with_name(twice.name + ".gz").write_bytes(gzip.compress(twice.read_bytes()))
    for store, at in (("0003", 2 * HOUR), ("0007", 3 * HOUR), ("0007", 2 * HOUR), ("0002", -WEEK)):
        land_spot_check(ws, W, store, THURSDAY + WEEK + at, [*lines(shelf(W, store, 1), PRODUCTS[:12]), "broken"])
    land_spot_check(ws, W, "0001", THURSDAY + WEEK, ["broken"])
    stray = ws.path / "inbox" / W / "none" / twice.name
    stray.parent.mkdir()
    stray.write_text("{}\n")
    scrape_all(ws, companies=[F])  # its groups are formed in this update


def template(folder: Path, server: str | None = None, policy: str = "document") -> Workspace:
    "A workspace whose next update has everything to do."
    ws = make(folder, server, policy)
    scrape_all(ws, companies=[W])
    update_db(ws)
    land_trouble(ws)
    ws.engine.dispose()
    return ws


# --- a state as rows

def learned(value: object) -> object:
    "What a column holds, without the outlook: it is for people, and as old as the update after which they looked."
    return {k: v for k, v in value.items() if k != OUTLOOK} if isinstance(value, dict) else value


def natural_rows(engine: Engine) -> dict[str, list[tuple[str, ...]]]:
    "All tables without their surrogate ids: what a row points at is named by its own columns."
    keys, tables = dict[str, dict[int, str]](), dict[str, list[tuple[str, ...]]]()
    with engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            if table.name in OF_A_RUN: continue
            points = {c.name: next(iter(c.foreign_keys)).column.table.name for c in table.columns if c.foreign_keys}
            shown = [c.name for c in table.columns if c.name != "id"]
            order = [table.c.id] if "id" in table.c else []
            found = [row._mapping for row in connection.execute(select(table).order_by(*order))]
            named = [tuple(str(keys[points[c]].get(row[c]) if c in points else learned(row[c])) for c in shown)
                     for row in found]
            if order: keys[table.name] = {row["id"]: repr(name) for row, name in zip(found, named, strict=True)}
            by_company = sorted(named, key=lambda row: row[0])  # the log of each keeps its order
            tables[table.name] = by_company if table.name == "group_event" else sorted(named)
    return tables


FAR = pd.Timestamp("2031-01-01", tz="UTC")  # after all that happens here


def files_of(folder: Path) -> dict[str, bytes]:
    "What lies in the inbox, the archive and in quarantine."
    return {str(p.relative_to(folder)): p.read_bytes() for part in ("inbox", "archive", "quarantine")
            for p in sorted((folder / part).rglob("*")) if p.is_file() and p.suffix != ".part"}


def check_groups(ws: Workspace) -> None:
    "A store is in one full group at most, titles and Candidates are members', and the log tells the same groups."
    for company in ws.companies():
        with ws.begin() as session:
            row = ws.company(session, company)
            state, told = read_groups(session, row), read_groups(session, row, pd.Timestamp("2200-01-01", tz="UTC"))
        full = [g for g in state.groups.values() if g.is_active and g.category is None]
        members = [store for g in full for store in g.members]
        assert len(members) == len(set(members)) and not set(members) & state.retired
        assert all(g.ambassador in {None, *g.members} and g.candidates <= g.members for g in full)
        assert told.groups == state.groups, company


def check_whole(ws: Workspace) -> None:
    "No hole, no orphan, nothing unfinished, and a doctor who finds nothing."
    check_groups(ws)
    # A scraper may outlive its killed run and leave a .part in the inbox, which the next scrape of its store removes.
    assert not [p for part in ("archive", "quarantine", "prices") for p in (ws.path / part).rglob("*.part")]
    if find_spec("scrapeopt.storage.doctor"):
        from scrapeopt.storage.doctor import examine
        assert [found.words() for found in examine(ws, now=FAR)] == [], "the doctor found something"
    else:
        there = {str(p.relative_to(ws.path)) for p in (ws.path / "prices").rglob("*.parquet")}
        assert there == {path for _, path in named_paths(ws)}


def named_paths(ws: Workspace) -> list[tuple[Any, ...]]:
    "The snapshots that the state names: their store and their path."
    table = Base.metadata.tables["snapshot"]
    with ws.engine.connect() as connection: return list(connection.execute(select(table.c.store_pk, table.c.path)))


def everything(folder: Path) -> dict[str, object]:
    "A workspace without its surrogate ids: all tables, all files with their content, and the prices that are served."
    ws = Workspace.open(folder)
    check_whole(ws)
    snapshots = {path: [c.tolist() for c in read_snapshot(folder / path)] for _, path in named_paths(ws)}
    try: prices = ws.prices(now=NOW).astype(str).to_dict("list")
    except InputError as e: prices = {"none": str(e).replace(str(folder), "")}
    tables = natural_rows(ws.engine)
    ws.engine.dispose()
    return tables | {"files": files_of(folder), "snapshots": snapshots, "prices": prices,
                     "settings": [line for line in (folder / "scrapeopt.toml").read_text().splitlines()
                                  if not line.startswith("db_url")]}


def older(ws: Workspace, server: str | None, version: str = "0004") -> None:
    "Put the state of a workspace back to what an earlier version of the package would have kept of it."
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    import scrapeopt.storage as storage
    home = f"{storage.__path__[0]}/migrations"
    scripts = ScriptDirectory(home, version_locations=[home])
    now = MetaData()
    now.reflect(ws.engine)
    with ws.engine.connect() as c: rows = {t.name: [dict(r._mapping) for r in c.execute(select(t))] for t in
                                           now.sorted_tables if t.name != "alembic_version"}
    ws.engine.dispose()
    if server: tell_server(server, f"DROP DATABASE {database_name(ws.path)} WITH (FORCE)",
                           f"CREATE DATABASE {database_name(ws.path)}")
    else:
        for file in ws.path.glob("state.db*"): file.unlink()
    engine = connect(state_url(ws.path, server) or "sqlite:///state.db", ws.path)
    with EnvironmentContext(Config(attributes={"folder": None}), scripts,
                            fn=lambda seen, _: scripts._upgrade_revs(version, seen)) as env, engine.begin() as c:
        env.configure(connection=c, transactional_ddl=True)
        env.run_migrations()
        then = MetaData()
        then.reflect(c)
        for table in then.sorted_tables:
            kept = [{k: v for k, v in row.items() if k in table.c} for row in rows.get(table.name, [])]
            if kept and table.name != "alembic_version": c.execute(table.insert(), kept)
    engine.dispose()


# --- commands in children

@dataclass(frozen=True)
class Trap:
    "A call that writes, and what becomes of it."
    nth: int  # 1, 2, ... of all that a command makes, commits among them if it kills; 0: none, they are counted
    error: int | None = None  # errno; None: the process is killed before the call
    server: int | None = None  # or this process, a server's, ends at once


@dataclass(frozen=True)
class Outcome:
    "How a command ended."
    code: int  # exit code, or minus the signal
    said: str  # standard output
    error: str  # standard error
    seconds: float
    calls: int  # that write, as far as it came


class Watched:
    "An open file whose writes are calls, too."

    def __init__(self, file: Any, call: Callable[[object], None], path: object):
        self._file, self._call, self._path = file, call, path

    def write(self, content: Any) -> Any:
        self._call(self._path)
        return self._file.write(content)

    def __getattr__(self, name: str) -> Any: return getattr(self._file, name)
    def __enter__(self) -> "Watched": return self
    def __exit__(self, *_: object) -> None: self._file.close()


def set_trap(root: Path, trap: Trap, calls: list[int]) -> None:
    "From now on count the calls that write below a folder, and let the trap snap."
    def call(path: object) -> None:
        calls[0] += 1
        if calls[0] != trap.nth: return
        if trap.server is not None:
            os.kill(trap.server, signal.SIGQUIT)
            time.sleep(0.5)
        elif trap.error is None: os.kill(os.getpid(), signal.SIGKILL)
        else: raise OSError(trap.error, os.strerror(trap.error), str(path))

    def inside(path: object) -> bool:
        return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(str(root))

    def guard(module: Any, name: str, writes: Callable[..., bool]) -> None:
        real = getattr(module, name)
        def guarded(path: Any, *args: Any, **kwargs: Any) -> Any:
            if writes(path, *args): call(path)
            return real(path, *args, **kwargs)
        setattr(module, name, guarded)

    for name in ("mkdir", "replace", "rename", "link"): guard(os, name, lambda path, *_: inside(path))
    guard(os, "fsync", lambda *_: True)
    guard(os, "open", lambda path, flags, *_: inside(path) and bool(flags & (os.O_WRONLY | os.O_RDWR)))
    plain = io.open

    def opened(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not (inside(path) and set(mode) & set("wax+")): return plain(path, mode, *args, **kwargs)
        call(path)
        return Watched(plain(path, mode, *args, **kwargs), call, path)

    io.open = builtins.open = opened
    if trap.error is None: event.listen(Engine, "commit", lambda _: call("a commit"))


def fill_database(pages: int) -> None:
    "From now on SQLite's disk is full once a state has grown by some pages."
    @event.listens_for(Engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        have = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {max(1, have + pages)}")


def obey(words: list[str], box: Path, root: Path, trap: Trap, pages: int | None, lease_s: float, outlooks: bool,
         started: Any) -> None:
    "The child: run a command of `scrapeopt`, with everything that it prints in a box."
    from scrapeopt import outlooks as looks
    from scrapeopt.cli import main
    from scrapeopt.storage import leases
    for number, name in ((1, "out"), (2, "err")): os.dup2(os.open(box / name, os.O_CREAT | os.O_WRONLY), number)
    leases.LEASE, calls = pd.Timedelta(seconds=lease_s), [0]
    if pages is not None: fill_database(pages)
    if not outlooks: looks.renew_outlooks = lambda *_: looks.UpdateReport()
    set_trap(root, trap, calls)
    started.send(time.monotonic())
    code: object = 1  # of a traceback
    try: code = main(words)
    except SystemExit as e:
        code = e.code
        raise
    finally:
        sys.stdout.flush()
        started.send((time.monotonic(), calls[0], code or 0))


LOST_CODE = 255  # what multiprocessing says where its server of children did not hear how one ended


def run(words: list[str], box: Path, *, trap: Trap = Trap(0), seconds: float | None = None,
        pages: int | None = None, lease_s: float = 300.0, outlooks: bool = True) -> Outcome:
    """Run a command in a child; kill it after some seconds, or in a trap below the folder of the box.

    Without `outlooks` an update leaves them out: they take most of its time, and no file is written for them.
    """
    shutil.rmtree(box, ignore_errors=True)
    box.mkdir(parents=True)
    ours, its = CHILDREN.Pipe(duplex=False)
    child = CHILDREN.Process(target=obey, args=(words, box, box.parent, trap, pages, lease_s, outlooks, its))
    child.start()
    its.close()
    begin = ours.recv()
    if seconds is not None:
        time.sleep(max(0.0, begin + seconds - time.monotonic()))
        child.kill()
    try: end, calls, code = ours.recv()
    except EOFError: end, calls, code = time.monotonic(), 0, None
    child.join(120)
    if child.exitcode != LOST_CODE or code is None: code = child.exitcode
    return Outcome(code, (box / "out").read_text(), (box / "err").read_text(), end - begin, calls)


def one_sentence(outcome: Outcome) -> bool:
    "Whether a command that failed said so in plain words, and did not fall over."
    told = outcome.error.strip().splitlines()
    return outcome.code == 2 and bool(told) and all(line.startswith("scrapeopt: ") for line in told)


def fill_in(line: str, places: Mapping[str, object]) -> list[str]:
    "The words of a command line."
    return [word.format_map(dict(places)) for word in shlex.split(line)]


def commands() -> set[str]:
    "The commands that this version of the package has."
    from scrapeopt.cli import app
    names = {c.name or c.callback.__name__.replace("_", "-") for c in app.registered_commands}
    return names | {g.name for g in app.registered_groups}


FAULTS = (errno.ENOSPC, errno.EACCES, errno.EIO)
