"""Many processes at once in one workspace: no good file is lost, no store is asked by two, nobody falls over."""
import itertools
import json
import random
import shlex
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from drill_world import HOUR, Outcome, Trap, check_groups, check_whole, commands, files_of, make, named_paths, run
from small_chain import THURSDAY, ZONES, lines, shelf, stores

from scrapeopt.storage.leases import in_the_works
from scrapeopt.workspace import Workspace

SCRAPER = """
echo "begin $1/$2 $(date +%s%N)" >> {log}
mark=$(cat /proc/sys/kernel/random/uuid)
case $mark in
  00*) echo "failed $1/$2 $(date +%s%N)" >> {log}; exit 1;;
esac
cat {shelves}/"$2" > "$3"
printf '{{"product_id": "%s", "price": "1.00"}}\\n' $mark >> "$3"
echo "$mark $1/$2 $(date +%s%N)" >> {log}
"""
LATER = "--now 2030-01-01"
OPERATIONS = {  # how often, and the command line; {at}: a moment of its own
    "scrape": (6, "scrape -n 3 --retries 0 --command {scraper} --now {at}"),
    "scrape by the clock": (2, "scrape -n 2 --retries 0 --command {scraper}"),
    "scrape and update": (2, f"scrape -n 3 --retries 0 --update --command {{scraper}} {LATER}"),
    "update-db": (5, f"update-db {LATER}"),
    "queue": (2, "queue -n 5 --json --now {at}"),
    "status": (2, "status --json --now {at}"),
    "groups": (1, "groups --json"),
    "prices": (1, "prices --out {out} --now {at}"),
    "cluster-stores": (1, "cluster-stores --min-samples 2"),
    "import-stores": (1, "import-stores {stores}"),
    "reanalyse": (1, "reanalyse --now {at}"),
    "doctor": (1, "doctor"),
}
# Why a command may end with exit code 2.
ASIDE = ("is being changed by another scrapeopt", "is in use by another program", "put into quarantine",
         " WARNING lock waited for: ")  # which says nothing of the outcome


@dataclass
class Crowd:
    "A workspace, a scraper that keeps a log, and what was done."
    folder: Path
    server: str | None
    moments: Iterator[int] = field(default_factory=itertools.count)  # hours since the chain opened
    done: list[tuple[str, Outcome]] = field(default_factory=list)

    def __post_init__(self):
        make(self.folder / "ws", self.server).engine.dispose()
        shelves = self.folder / "shelves"
        shelves.mkdir()
        for company, zone in ZONES.items():
            for store in zone: (shelves / store).write_text("\n".join(lines(shelf(company, store))) + "\n")
        stores().to_csv(self.folder / "stores.csv", index=False)
        script = SCRAPER.format(log=self.folder / "log", shelves=shelves)
        (self.folder / "scraper.sh").write_text(script)
        (self.folder / "log").touch()

    def words(self, name: str, walker: int) -> list[str]:
        "The command line of an operation."
        scraper = f"sh {self.folder}/scraper.sh {{company}} {{store_id}} {{output}}"
        at = THURSDAY + next(self.moments) * 3 * HOUR
        line = OPERATIONS[name][1].format(
            scraper=shlex.quote(scraper), at=f"{at:%Y-%m-%dT%H:%M}", stores=self.folder / "stores.csv",
            out=self.folder / f"out{walker}.csv")
        return [*shlex.split(line), "-w", str(self.folder / "ws")]

    def walk(self, walker: int, operations: int) -> None:
        "One of the crowd: one operation after the other, and a look at the whole now and then."
        chance = random.Random(walker)
        known = {name: often for name, (often, line) in OPERATIONS.items() if line.split()[0] in commands()}
        for i, name in enumerate(chance.choices(list(known), list(known.values()), k=operations)):
            outcome = run(self.words(name, walker), self.folder / f"box{walker}", trap=Trap(0))
            self.done.append((name, outcome))
            if i % 10 == 9: self.look()

    def look(self) -> None:
        "What holds at every moment at which nobody changes the state."
        ws = Workspace.open(self.folder / "ws")
        with ws.lock(120):
            check_groups(ws)
            assert not [path for _, path in named_paths(ws) if not (ws.path / path).is_file()]
        ws.engine.dispose()

    def check_commands(self) -> None:
        "Every command ended, and with a sentence where it could not do its work."
        for name, outcome in self.done:
            assert outcome.code in (0, 1, 2) and "Traceback" not in outcome.error, (name, outcome)
            assert outcome.code != 1 or name.startswith("scrape"), (name, outcome)
            told = outcome.error.splitlines() if outcome.code == 2 and name != "status" else []
            assert all(any(reason in line for reason in ASIDE) for line in told), (name, outcome)
            if "--json" in OPERATIONS[name][1]: json.loads(outcome.said)

    def check_turns(self) -> int:
        "No two scrapers were at a store at once; how many were there in all."
        spans = dict[str, list[tuple[str, int]]]()
        for line in (self.folder / "log").read_text().splitlines():
            what, rest = line.split(" ", 1)
            store, at = rest.rsplit(" ", 1)
            spans.setdefault(store, []).append((what, int(at)))
        for store, told in spans.items():
            kinds = ["begin" if what == "begin" else "end" for what, _ in sorted(told, key=lambda t: t[1])]
            assert kinds == ["begin", "end"] * (len(kinds) // 2), (store, told)
        return sum(len(told) for told in spans.values()) // 2

    def check_files(self) -> int:
        "Every file of a scraper that ended well is there once; how many those are."
        marks = {line.split()[0] for line in (self.folder / "log").read_text().splitlines()} - {"begin", "failed"}
        found = Counter(mark.decode() for path, content in files_of(self.folder / "ws").items() if ".reason" not in path
                        for mark in {line[16:52] for line in content.splitlines()} if mark.decode() in marks)
        assert set(found) == marks and set(found.values()) <= {1}, (marks - set(found), found.most_common(3))
        return len(marks)


def check_crowd(folder: Path, server: str | None, walkers: int, operations: int) -> None:
    "Let them all go, and see that everything is there."
    crowd = Crowd(folder, server)
    with ThreadPoolExecutor(walkers) as pool:
        for walk in [pool.submit(crowd.walk, w, operations) for w in range(walkers)]: walk.result()
    crowd.check_commands()
    scrapes, kept = crowd.check_turns(), crowd.check_files()
    ws = Workspace.open(folder / "ws")
    assert not in_the_works(ws) and kept > walkers * operations / 3
    last = run([*shlex.split(f"update-db {LATER}"), "-w", str(ws.path)], folder / "box")
    assert "Traceback" not in last.error and not list((ws.path / "inbox").rglob("*.jsonl"))
    assert crowd.check_files() == kept
    check_whole(ws)
    ws.engine.dispose()
    print(f"{len(crowd.done)} operations, {scrapes} scrapes, {kept} files, "
          f"{Counter(outcome.code for _, outcome in crowd.done)}")


@pytest.mark.slow
def test_R19_three_at_once(tmp_path): check_crowd(tmp_path, None, 3, 5)


@pytest.mark.drill
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_R19_eight_at_once(tmp_path, request, database):
    check_crowd(tmp_path, request.getfixturevalue("postgres") if database == "postgresql" else None, 8, 200)
