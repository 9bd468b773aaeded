"""Whatever writes may be killed, thrice in a row, on either database: run again, it ends as if nothing had happened."""
import random
import signal
import time
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from effort import drilled
from drill_world import NOW, WEEK, Outcome, Trap, W, commands, duplicate, everything, fill_in, land_trouble, make
from drill_world import make_database, older, remove, run, state_url
from small_chain import PRODUCTS, ZONES, lines, scrape_all, shelf, stores
from sqlalchemy import create_engine, text

from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

AT = f"--now {NOW:%Y-%m-%dT%H:%M}"
LEASE_S = 0.3
SCRAPE = f"scrape -n 12 --retries 0 --command 'cp {{yard}}/shelves/{{{{store_id}}}} {{{{output}}}}' {AT}"


@dataclass(frozen=True)
class Job:
    "A command that writes, and what it finds."
    stage: str  # of `STAGES`
    line: str
    done: str = ""  # in what a rerun says, where there was nothing left to do for it


JOBS = {
    "init": Job("none", "init {ws} --db {db} --policy document", done="is a workspace already"),
    "import": Job("listed", "import-stores {yard}/more.csv -w {ws}"),
    "replace": Job("taken", f"import-stores {{yard}}/fewer.csv --replace -w {{ws}} {AT}"),
    "cluster": Job("listed", "cluster-stores -w {ws} --min-samples 2"),
    "cluster again": Job("taken", "cluster-stores -w {ws} --eps-km 0.5 --min-samples 2"),
    "update": Job("landed", f"update-db -w {{ws}} {AT}"),
    "scrape": Job("listed", f"{SCRAPE} -w {{ws}}"),
    "scrape and update": Job("listed", f"{SCRAPE} --update -w {{ws}}"),
    "prices to Parquet": Job("taken", f"prices -w {{ws}} --out {{ws}}/out.parquet {AT}"),
    "prices to CSV": Job("taken", f"prices -w {{ws}} --out {{ws}}/out.csv {AT}"),
    "prices to a table": Job("taken", f"prices -w {{ws}} --out {{out}} {AT}"),
    "reanalyse": Job("taken", f"reanalyse -w {{ws}} {AT}"),
    "migration": Job("older", "groups -w {ws}"),
    "doctor": Job("taken", "doctor --mend -w {ws}"),
    "tidy": Job("taken", "tidy -w {ws}"),
    "backup": Job("taken", "db backup {ws}/backup -w {ws}"),
    "restore": Job("kept", "db restore {yard}/stage-kept.backup -w {ws}"),
    "upgrade": Job("older", "db upgrade -w {ws}"),
}
READY = [name for name, job in JOBS.items() if job.line.split()[0] in commands()]


def taken(folder: Path, server: str | None, policy: str) -> Workspace:
    ws = make(folder, server, policy)
    for week in (0, 1):
        scrape_all(ws, week)
        update_db(ws, now=NOW + WEEK)
    return ws


def landed(folder: Path, server: str | None, policy: str) -> None:
    ws = make(folder, server, policy)
    scrape_all(ws, companies=[W])
    update_db(ws, now=NOW)
    land_trouble(ws)


def of_old(folder: Path, server: str | None, policy: str) -> None: older(taken(folder, server, policy), server)


def kept(folder: Path, server: str | None, policy: str) -> None:
    "A backup lies beside it, and more has happened since."
    ws = taken(folder, server, policy)
    assert run(["db", "backup", f"{folder}.backup", "-w", str(folder)], folder.parent / "box").code == 0
    scrape_all(ws, 2, companies=[W])
    update_db(ws, now=NOW + 2 * WEEK)


# "none": there is no workspace yet
STAGES = {"listed": make, "landed": landed, "taken": taken, "older": of_old, "kept": kept}


class Yard:
    "Every stage of a workspace on one database, what each job makes of it, and how long it takes."

    def __init__(self, folder: Path, server: str | None, policy: str):
        self.folder, self.server, self.policy = folder, server, policy
        self.expected, self.undisturbed = dict[str, object](), dict[str, Outcome]()
        stores().assign(lon=115.86).pipe(lambda d: pd.concat([d, d.assign(store_id=d.store_id + "x")])).to_csv(
            folder / "more.csv", index=False)
        stores()[lambda d: ~d.store_id.isin(["0001", "d=1"])].to_csv(folder / "fewer.csv", index=False)
        shelves = folder / "shelves"
        shelves.mkdir()
        for company, zone in ZONES.items():
            for store in zone: (shelves / store).write_text("\n".join(lines(shelf(company, store), PRODUCTS)) + "\n")

    def stage(self, name: str) -> Path:
        "The workspace that jobs of a stage begin with."
        folder = self.folder / f"stage-{name}"
        if not folder.exists() and name != "none":
            STAGES[name](folder, self.server, self.policy)
        return folder

    def workspace(self, name: str) -> Path:
        "A workspace of our own at the stage of a job."
        folder, before = self.folder / "try" / "ws", self.stage(JOBS[name].stage)
        remove(folder, self.server)
        if before.exists(): duplicate(before, folder, self.server)
        elif self.server: make_database(folder, self.server)
        return folder

    def words(self, name: str, folder: Path) -> list[str]:
        "The command line."
        url = state_url(folder, self.server)
        return fill_in(JOBS[name].line, {
            "ws": folder, "yard": self.folder, "db": url or "sqlite:///state.db", "out": url or f"sqlite:///{folder}/out.db"})

    def run(self, name: str, folder: Path, **how) -> Outcome:
        "Run a job; what a killed one had leased is free a moment later."
        return run(self.words(name, folder), folder.parent / "box", lease_s=LEASE_S, **how)

    def calm(self, name: str) -> Outcome:
        "A job that nobody disturbs."
        if name not in self.expected:
            folder = self.workspace(name)
            self.undisturbed[name] = self.run(name, folder)
            assert self.undisturbed[name].code in (0, 2), self.undisturbed[name].error
            self.expected[name] = self.look(name, folder)
        return self.undisturbed[name]

    def look(self, name: str, folder: Path) -> object:
        "The state, and what was written out of it."
        written = {p.name: p.read_bytes() for p in sorted(folder.glob("out.*")) if p.suffix in (".parquet", ".csv")}
        if name == "prices to a table": written |= {"table": table_of(state_url(folder, self.server), folder)}
        return everything(folder), written

    def disturb(self, name: str, kills: list[Trap | float]) -> int:
        "Kill a job again and again, then let it end; how many of the kills came in time."
        calm, folder, cut = self.calm(name), self.workspace(name), 0
        for kill in kills:
            how = {"trap": kill} if isinstance(kill, Trap) else {"seconds": kill * calm.seconds}
            cut += self.run(name, folder, **how).code == -signal.SIGKILL
            time.sleep(LEASE_S)  # what a killed run had leased is free then
        last = self.run(name, folder)
        in_time = last.code == calm.code or (JOBS[name].done and JOBS[name].done in last.error) or last.code == 0
        assert in_time and "Traceback" not in last.error, (name, kills, last)
        assert self.look(name, folder) == self.expected[name], (name, kills)
        return cut


def table_of(url: str | None, folder: Path) -> list[tuple[str, ...]]:
    "The table of prices that was written into a database."
    if url is None:
        with sqlite3.connect(folder / "out.db") as connection: rows = connection.execute("SELECT * FROM prices")
        return sorted(tuple(map(str, row)) for row in rows)
    engine = create_engine(url)
    with engine.connect() as c: rows = sorted(tuple(map(str, row)) for row in c.execute(text("SELECT * FROM prices")))
    engine.dispose()
    return rows


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def yard(request, tmp_path_factory) -> Yard:
    "SQLite with policy delegated, PostgreSQL with document."
    server = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    return Yard(tmp_path_factory.mktemp(request.param), server, "document" if server else "delegated")


def moments(name: str, calm: Outcome, chance: random.Random, i: int, of: int) -> list[Trap | float]:
    "When to kill: at a writing call or at a moment, spread over the run; three times in a row for each third one."
    calls, again = [Trap(chance.randint(1, max(1, calm.calls))), Trap(1 + calm.calls * i // of)], i % 3 == 2
    at_a_call = i % 2 == 0
    first = calls[1] if at_a_call else (i + chance.random()) / of
    return [first, chance.random(), calls[0]] if again else [first]


@pytest.mark.parametrize("name", ["scrape and update", drilled("replace")])
def test_R9_killed_three_times_in_a_row(tmp_path, name):
    yard = Yard(tmp_path, None, "delegated")
    calls = yard.calm(name).calls
    assert yard.disturb(name, [Trap(calls // 3), Trap(calls // 2), Trap(calls - 1)]) >= 2


@pytest.mark.slow
def test_R19_killed_when_all_has_landed_and_nothing_is_given_back_yet(tmp_path):
    "The next run, which has no store to ask, gives back what the dead one had leased."
    yard = Yard(tmp_path, None, "delegated")
    calls = yard.calm("scrape").calls
    assert sum(yard.disturb("scrape", [Trap(calls - k)]) for k in range(6)) >= 2  # a busy machine takes fewer calls


KILLS = 500


@pytest.mark.drill
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", READY)
def test_R9_five_hundred_kills(yard, name):
    "The share of one command on one database."
    share, cut, i = KILLS // (2 * len(READY)) + 1, 0, 0
    chance = random.Random(name)
    while cut < share and i < 3 * share:
        cut += yard.disturb(name, moments(name, yard.calm(name), chance, i % share, share))
        i += 1
    print(f"{name}: {cut} kills in {i} trials, {yard.calm(name).calls} calls")
    assert cut >= share, f"only {cut} of {share} kills came in time"
