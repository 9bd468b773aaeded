"""R9: whatever kills update_db, and whenever: run it again, and the state is that of a run that nothing killed."""
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from effort import one_in
from drill_world import CHILDREN, F, W, everything, template
from sqlalchemy import event

from scrapeopt import company_update as module
from scrapeopt import side_by_side
from scrapeopt.storage import ingest
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, dict[str, object]]:
    "The folder before the update, and everything after it."
    before, after = (tmp_path_factory.mktemp("crash") / name for name in ("before", "after"))
    template(before)
    shutil.copytree(before, after)
    report = update_db(Workspace.open(after))
    assert (report.files, report.partial) == (17, 1) and len(report.problems) == 10
    assert {"MonolithSeeded", "StoreOutcast", "StoreJoined", "CandidatesCleared"} <= {e["kind"] for e in report.events}
    return before, everything(after)


def run(folder: str, started) -> None:
    "The child: open and update."
    started.send(time.monotonic())
    update_db(Workspace.open(folder))
    started.send(time.monotonic())


def killed_after(folder: Path, seconds: float | None) -> tuple[bool, float]:
    "Run an update in a child and kill it after some time; whether it was killed, and how long it ran."
    mine, its = CHILDREN.Pipe(duplex=False)
    child = CHILDREN.Process(target=run, args=(str(folder), its))
    child.start()
    its.close()
    begin = mine.recv()
    if seconds is not None:
        time.sleep(max(0.0, begin + seconds - time.monotonic()))
        child.kill()
    child.join(60)
    took = mine.recv() - begin if child.exitcode == 0 else time.monotonic() - begin
    return child.exitcode == -signal.SIGKILL, took


def check_kills(undisturbed, tmp_path: Path, kills: int) -> None:
    "Kill an update at moments spread over its run, one in each slice of it, and compare after a second run."
    before, expected = undisturbed
    shutil.copytree(before, tmp_path / "timed")
    _, duration = killed_after(tmp_path / "timed", None)
    chance, cut = random.Random(kills), 0
    for i in range(kills):
        folder = tmp_path / str(i)
        shutil.copytree(before, folder)
        killed, _ = killed_after(folder, duration * (i + chance.random()) / kills)
        cut += killed
        update_db(Workspace.open(folder))
        assert everything(folder) == expected, f"kill {i}"
        shutil.rmtree(folder)
    assert cut >= kills / 2, "most runs ended before they could be killed"


@pytest.mark.slow
def test_R9_killed_at_random_moments_and_run_again(undisturbed, tmp_path):
    check_kills(undisturbed, tmp_path, 2)


@pytest.mark.drill
def test_R9_killed_at_fifty_random_moments_and_run_again(undisturbed, tmp_path):
    check_kills(undisturbed, tmp_path, 50)


def run_until(folder: str, name: str, nth: int, after: bool) -> None:
    "The child: update until `name` happens for the `nth` time, and die before or after it."
    home = next(m for m in (side_by_side, module, ingest) if hasattr(m, name) or name == "commit")  # which calls it
    calls, real = [0], getattr(home, name, None)

    def counted(*args, **kwargs):
        calls[0] += 1
        if calls[0] == nth and not after: os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs) if real else None
        if calls[0] == nth: os.kill(os.getpid(), signal.SIGKILL)
        return result

    ws = Workspace.open(folder)
    if name == "commit": event.listen(ws.engine, name, counted)  # just before the database commits
    else: setattr(home, name, counted)
    update_db(ws)


POINTS = [("to_quarantine", 1, True), ("write_part", 1, False), ("put_in_place", 3, True),
          ("quarantine_lines", 1, True), ("record_snapshots", 1, True), ("judge_new", 1, False),
          ("save_events", 1, True), ("clear_file", 1, False), ("clear_file", 4, True), ("update_company", 1, True),
          ("save_events", 2, True), ("clear_file", 12, True),
          *(("commit", nth, False) for nth in (3, 4, 5, 6))]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "nth", "after"), one_in(4, POINTS), ids=lambda v: str(v))
def test_R9_killed_between_two_steps_and_run_again(undisturbed, tmp_path, name, nth, after):
    before, expected = undisturbed
    shutil.copytree(before, tmp_path / "ws")
    child = CHILDREN.Process(target=run_until, args=(str(tmp_path / "ws"), name, nth, after))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL  # it came to this point
    update_db(Workspace.open(tmp_path / "ws"))
    assert everything(tmp_path / "ws") == expected


def test_R9_a_failing_rule_leaves_the_state_and_the_inbox_as_they_were(undisturbed, tmp_path, monkeypatch):
    before, expected = undisturbed
    shutil.copytree(before, tmp_path / "ws")
    ws = Workspace.open(tmp_path / "ws")
    snapshots, groups = len(ws.newest(W).stores), ws.groups(W)
    monkeypatch.setattr(module, "save_events", lambda *a: 1 / 0)
    report = update_db(ws)
    assert report.files == 0 and sum("unexpected: ZeroDivisionError" in p for p in report.problems) == 2
    monkeypatch.undo()
    assert (len(ws.newest(W).stores), ws.groups(W), len(ws.events(F))) == (snapshots, groups, 0)
    update_db(ws)
    assert everything(tmp_path / "ws") == expected
