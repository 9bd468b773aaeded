"""scrape_queue with real processes: scrapers that work, hang, fail, say nothing or too much, and a Ctrl-C."""
import gzip
import shlex
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest

from scrapeopt.core.errors import InputError
from scrapeopt.discovery import ScrapeTask
from scrapeopt.scrape import scrape_queue
from scrapeopt.storage.leases import in_the_works, renew_leases, take_leases
from scrapeopt.workspace import Workspace

NOW = pd.Timestamp("2026-11-23 02:00", tz="UTC")
NAME = "20261123T020000Z.jsonl"


class Folder:
    "What scrape_queue needs of a workspace."
    def __init__(self, path): self.path, self.heard = path, []
    def record_failures(self, results, now): self.heard.append(results)
    def lease(self, stores): return nullcontext(stores)


@pytest.fixture
def workspace(tmp_path): return Folder(tmp_path / "ws")


def task(store_id, company="Coles"): return ScrapeTask(company, store_id, "discovery", "primary", "Perth")


def spider(tmp_path, body):
    "A scraper in Python; it finds `company`, `store` and `out` (a Path) ready."
    path = tmp_path / "spider.py"
    path.write_text("import os, sys, time, subprocess, pathlib\ncompany, store, out = sys.argv[1:4]\n"
                    "out = pathlib.Path(out)\n" + textwrap.dedent(body))
    return shlex.join([sys.executable, str(path)]) + " {company} {store_id} {output}"


def scrape(workspace, stores, command, **options):
    return scrape_queue(workspace, [task(s) for s in stores], command, progress=False,
                        **{"pause_s": 0.01, "now": NOW, **options})


def files(workspace):
    return sorted(p.relative_to(workspace.path).as_posix() for p in workspace.path.rglob("*") if p.is_file())


def alive(pid):
    "Whether a process still runs; one that has ended and waits for its parent does not."
    try: return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError: return False


def test_the_twin_as_a_scraper(workspace, tmp_path):
    from scrapeopt.twin import Twin, save_twins
    stores = pd.DataFrame({"store_id": ["a", "b c"], "lat": -31.9, "lon": 115.9})
    twin = Twin(stores, company="Harris Farm", n_products=50, start=NOW)
    save_twins(tmp_path / "twins", twin)
    command = shlex.join([sys.executable, "-m", "scrapeopt.twin", str(tmp_path / "twins")])
    command += " {company} {store_id} {output} --at {time}"
    tasks = [task(s, "Harris Farm") for s in ("a", "b c")]
    report = scrape_queue(workspace, tasks, command, now=NOW, progress=False)
    assert report.done == tuple(tasks) and not report.failed
    assert files(workspace) == [f"inbox/Harris Farm/{s}/{NAME}" for s in ("a", "b c")]
    text = (workspace.path / files(workspace)[1]).read_text()
    assert len(text.splitlines()) == (twin.scrape("b c") >= 0).sum()
    assert workspace.heard == [{("Harris Farm", "a"): True, ("Harris Farm", "b c"): True}]


def test_a_timeout_ends_the_scraper_and_its_children(workspace, tmp_path):
    command = spider(tmp_path, """
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
        out.parent.joinpath("pids").write_text(f"{os.getpid()} {child.pid}")
        out.write_text("half a line")
        time.sleep(60)
        """)
    report = scrape(workspace, ["1"], command, timeout_s=1.5, retries=0)
    assert [(f.reason, f.attempts) for f in report.failed] == [("timeout after 1.5 s", 1)]
    pids = (workspace.path / "inbox/Coles/1/pids").read_text().split()
    time.sleep(0.2)
    assert not [pid for pid in pids if alive(pid)]
    assert files(workspace) == ["inbox/Coles/1/pids"]


def test_what_a_scraper_leaves_behind_ends_with_it(workspace, tmp_path):
    command = spider(tmp_path, """
        child = subprocess.Popen(["sleep", "3600"])  # holds the error output open; nobody waits for it
        out.write_text(f'{{"pid": {child.pid}}}')
        """)
    assert not scrape(workspace, ["1"], command).failed
    pid = (workspace.path / f"inbox/Coles/1/{NAME}").read_text().split()[1].rstrip("}")
    time.sleep(0.2)
    assert not alive(pid)


def test_a_retry_helps(workspace, tmp_path):
    command = spider(tmp_path, f"""
        tries = pathlib.Path({str(tmp_path / 'tries')!r})
        n = len(tries.read_text()) if tries.exists() else 0
        tries.write_text("x" * (n + 1))
        out.write_text("torn" if n < 2 else "whole")
        sys.exit(n < 2)
        """)
    report = scrape(workspace, ["1"], command, retries=2)
    assert len(report.done) == 1 and (tmp_path / "tries").read_text() == "xxx"
    assert (workspace.path / f"inbox/Coles/1/{NAME}").read_text() == "whole"
    (tmp_path / "tries").unlink()
    report = scrape(workspace, ["2"], command, retries=1)
    assert [(f.reason, f.attempts) for f in report.failed] == [("exit code 1", 2)]
    assert not (workspace.path / f"inbox/Coles/2/{NAME}").exists()


def test_pauses_grow(workspace, tmp_path, monkeypatch):
    pauses = []
    class Stopped(threading.Event):
        def wait(self, timeout=None):
            if timeout: pauses.append(timeout)
            return super().wait(timeout and 0)
    monkeypatch.setattr(threading, "Event", Stopped)
    scrape(workspace, ["1"], spider(tmp_path, "sys.exit(1)"), retries=2, pause_s=40)
    assert pauses == [40, 80]


@pytest.mark.parametrize("body", ["pass", "out.touch()", "out.mkdir()"])
def test_writing_nothing_is_a_failure(workspace, tmp_path, body):
    report = scrape(workspace, ["1"], spider(tmp_path, body), retries=0)
    assert not report.done and [f.task.store_id for f in report.failed] == ["1"]
    assert files(workspace) == []
    assert workspace.heard == [{("Coles", "1"): False}]


def test_the_last_lines_of_the_error_output_are_kept(workspace, tmp_path):
    command = spider(tmp_path, """
        for i in range(100_000): print("line", i, file=sys.stderr)
        sys.exit(7)
        """)
    failure, = scrape(workspace, ["1"], command, retries=0).failed
    assert failure.reason == "exit code 7"
    assert failure.detail.splitlines() == [f"line {i}" for i in range(99_995, 100_000)]


def test_stale_parts_of_the_store_are_removed(workspace, tmp_path):
    for store in ("1", "2"):
        (workspace.path / f"inbox/Coles/{store}").mkdir(parents=True)
        (workspace.path / f"inbox/Coles/{store}/20261122T020000Z.jsonl.part").write_text("torn")
    scrape(workspace, ["1"], spider(tmp_path, "out.write_text('{}')"))
    assert files(workspace) == [f"inbox/Coles/1/{NAME}", "inbox/Coles/2/20261122T020000Z.jsonl.part"]


@pytest.mark.parametrize("store", ["../../../evil", "..", ".hidden", "a/b", "$(touch x)", "; touch x", "ä %2F"])
def test_no_store_id_leaves_the_inbox_or_reaches_a_shell(workspace, tmp_path, store):
    "The id arrives whole, and exactly one file lands, two folders below the inbox."
    report = scrape(workspace, [store], spider(tmp_path, "out.write_text(store)"))
    assert len(report.done) == 1
    landed, = files(workspace)
    assert landed.startswith("inbox/Coles/") and landed.count("/") == 3
    assert (workspace.path / landed).read_text() == store
    assert sorted(p.name for p in tmp_path.iterdir()) == ["spider.py", "ws"]


def test_several_at_a_time_and_no_store_twice(workspace, tmp_path):
    command = spider(tmp_path, """
        print("started", file=out.open("a"))
        meet = out.parent.parent.parent.parent / "meet"
        meet.mkdir(exist_ok=True); (meet / store).touch()
        until = time.monotonic() + 20
        while len(list(meet.iterdir())) < 3 and time.monotonic() < until: time.sleep(0.02)
        sys.exit(len(list(meet.iterdir())) < 3)
        """)
    report = scrape(workspace, ["1", "2", "3", "1"], command, workers=3, retries=0)  # each waits for the others
    assert [t.store_id for t in report.done] == ["1", "2", "3"]


def test_bad_settings_are_told_before_anything_runs(workspace, tmp_path):
    command = spider(tmp_path, "out.write_text('{}')")
    for options in ({"workers": 0}, {"timeout_s": 0}, {"retries": -1}):
        with pytest.raises(InputError, match="scrape_queue needs"): scrape(workspace, ["1"], command, **options)
    with pytest.raises(InputError, match="company and a store_id"): scrape(workspace, [""], command)
    with pytest.raises(InputError, match="no program"): scrape(workspace, ["1"], "no-such-spider {output}")
    assert not workspace.path.exists() and not workspace.heard


def test_an_empty_queue_is_done(workspace, tmp_path):
    report = scrape(workspace, [], spider(tmp_path, "pass"))
    assert repr(report).startswith("0 of 0 stores scraped") and report.table().empty and not workspace.heard


def test_ctrl_c_leaves_whole_files_and_no_process(tmp_path):
    "Store 1 is done, 2 and 3 hang with half a file, 4 has not begun."
    command = spider(tmp_path, """
        out.write_text("whole" if store == "1" else "half")
        (out.parents[3] / f"pid{store}").write_text(str(os.getpid()))
        if store != "1": time.sleep(60)
        """)
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(f"""
        import contextlib, json, pathlib, signal, sys
        from scrapeopt.discovery import ScrapeTask
        from scrapeopt.scrape import scrape_queue
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
        class Folder:
            path = pathlib.Path({str(tmp_path / 'ws')!r})
            def record_failures(self, results, now): print("heard", sorted(results.items()), flush=True)
            def lease(self, stores): return contextlib.nullcontext(stores)
        tasks = [ScrapeTask("Coles", s, "discovery", "primary", "Perth") for s in "1234"]
        scrape_queue(Folder(), tasks, {command!r}, workers=2, progress=False)
        """))
    process = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    until = time.monotonic() + 60
    pids = [tmp_path / f"ws/pid{i}" for i in (1, 2, 3)]
    while not all(p.exists() and p.read_text() for p in pids) and time.monotonic() < until: time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in err
    assert out == "heard [(('Coles', '1'), True)]\n"
    landed = [p for p in (tmp_path / "ws/inbox").rglob("*") if p.is_file()]
    assert [p.read_text() for p in landed] == ["whole"]
    assert [p.suffix for p in landed] == [".jsonl"]
    assert not [p for p in pids if alive(p.read_text())]
    assert not (tmp_path / "ws/pid4").exists()


def test_a_command_that_is_terminated_ends_its_scrapers(tmp_path):
    "SIGTERM, as a service manager sends it, ends what was started as Ctrl-C does."
    command = spider(tmp_path, """
        (out.parents[3] / f"pid{store}").write_text(str(os.getpid()))
        time.sleep(60)
        """)
    ws = Workspace.create(tmp_path / "ws")
    ws.import_stores(pd.DataFrame([("Coles", "1", "", -31.9, 115.8)],
                                  columns=["company", "store_id", "name", "lat", "lon"]))
    ws.cluster(min_samples=1)
    words = [sys.executable, "-m", "scrapeopt.cli", "scrape", "-w", str(ws.path), "-n", "1", "--command", command]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until, pid = time.monotonic() + 60, ws.path / "pid1"
    while not (pid.exists() and pid.read_text()) and time.monotonic() < until: time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert not alive(pid.read_text()) and not [p for p in (ws.path / "inbox").rglob("*") if p.is_file()]


def test_two_runs_at_once_do_not_touch_each_others_files(workspace, tmp_path):
    "The second run comes to store 1 while the first one writes; both land whole files."
    command = spider(tmp_path, """
        for _ in range(8):
            with out.open("a") as file: file.write("a line\\n")
            time.sleep(0.1)
        """)
    program = f"""
import contextlib, pathlib, pandas as pd
from scrapeopt.discovery import ScrapeTask
from scrapeopt.scrape import scrape_queue
from scrapeopt.storage.leases import in_the_works, renew_leases, take_leases
from scrapeopt.workspace import Workspace
class Folder:
    path = pathlib.Path({str(workspace.path)!r})
    def record_failures(self, results, now): pass
    def lease(self, stores): return contextlib.nullcontext(stores)
pathlib.Path({str(tmp_path / 'ready')!r}).touch()
task = ScrapeTask("Coles", "1", "discovery", "primary", "Perth")
scrape_queue(Folder(), [task], {command!r}, retries=0, progress=False, now=pd.Timestamp("2026-11-22 02:00"))
"""
    other = subprocess.Popen([sys.executable, "-c", program])
    parts = workspace.path / "inbox/Coles/1"
    until = time.monotonic() + 60
    while not list(parts.glob("*.part")) and time.monotonic() < until: time.sleep(0.02)
    report = scrape(workspace, ["1"], command)
    assert other.wait(30) == 0 and len(report.done) == 1
    landed = [p for p in parts.iterdir() if p.is_file()]
    assert [p.suffix for p in landed] == [".jsonl"] * len(landed) and len(landed) == 2
    assert {p.read_text() for p in landed} == {"a line\n" * 8}


def one_city(path, stores):
    "A workspace with stores of one company in one cluster."
    ws = Workspace.create(path)
    ws.import_stores(pd.DataFrame([("Coles", s, "", -31.9 - i / 100, 115.8) for i, s in enumerate(stores)],
                                  columns=["company", "store_id", "name", "lat", "lon"]))
    ws.cluster(min_samples=1)
    return ws


def test_R19_two_runs_at_once_share_no_store(tmp_path):
    ws = one_city(tmp_path / "ws", "ABCDEF")
    command = spider(tmp_path, """
        (pathlib.Path(sys.argv[0]).parent / f"{store}-{os.getpid()}").touch()
        while not (pathlib.Path(sys.argv[0]).parent / "go").exists(): time.sleep(0.05)
        out.write_text('{"product_id": "1", "price": "1.00"}')
        """)
    words = [sys.executable, "-m", "scrapeopt.cli", "scrape", "-w", str(ws.path), "-n", "4", "--command", command]
    runs = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    until = time.monotonic() + 60
    while len(in_the_works(ws)) < 6 and time.monotonic() < until: time.sleep(0.1)  # both have begun
    assert ws.queue(10) == []
    (tmp_path / "go").touch()
    said = [run.communicate(timeout=60)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert sorted(p.name.partition("-")[0] for p in tmp_path.glob("[A-F]-*")) == list("ABCDEF")
    assert not in_the_works(ws)


def test_R19_a_killed_run_frees_its_stores_and_a_living_one_keeps_them(tmp_path, monkeypatch):
    monkeypatch.setattr("scrapeopt.storage.leases.LEASE", pd.Timedelta(seconds=2))
    ws, stores = one_city(tmp_path / "ws", "AB"), {("Coles", "A")}
    with ws.lease(stores):
        time.sleep(3)
        assert in_the_works(ws) == stores and [t.store_id for t in ws.queue(5)] == ["B"]
    monkeypatch.setattr("scrapeopt.storage.leases.LEASE", pd.Timedelta("1h"))  # which no busy machine outlasts
    killed, now = "a run that is killed", pd.Timestamp.now("UTC")
    with ws.begin() as session: take_leases(session, stores, killed, now)
    assert [t.store_id for t in ws.queue(5)] == ["B"]
    with ws.begin() as session: renew_leases(session, killed, now - pd.Timedelta("1h"))  # its last sign of life
    assert sorted(t.store_id for t in ws.queue(5)) == ["A", "B"]


def test_two_scrapes_of_a_store_in_one_second_are_two_files(workspace, tmp_path, monkeypatch):
    "Of which none is lost, be the first one taken in by then or not."
    monkeypatch.setattr("scrapeopt.scrape.pd.Timestamp.now", lambda tz: NOW, raising=False)
    for text in ("first", "second", "third"):
        assert scrape(workspace, ["1"], f"sh -c 'echo {text} > $0' {{output}}", now=None).done
        if text == "first":
            (workspace.path / "archive/Coles/1").mkdir(parents=True)
            (workspace.path / f"inbox/Coles/1/{NAME}").rename(workspace.path / f"archive/Coles/1/{NAME}")
    found = {p.name: p.read_text() for p in workspace.path.rglob("*.jsonl")}
    assert found == {NAME: "first\n", NAME.replace("00Z", "01Z"): "second\n", NAME.replace("00Z", "02Z"): "third\n"}


def test_two_scrapes_of_one_set_time_are_two_files_unless_they_say_the_same(workspace, tmp_path):
    "A replay that was killed writes its file again; another scrape of that time loses nothing, be it taken in or not."
    inbox, archive = workspace.path / "inbox/Coles/1", workspace.path / "archive/Coles/1"
    archive.mkdir(parents=True)
    for text, names in (("first", ["00Z"]), ("first", ["00Z"]), ("second", ["00Z", "01Z"])):
        assert scrape(workspace, ["1"], f"sh -c 'echo {text} > $0' {{output}}", now=NOW).done
        assert sorted(p.name for p in inbox.iterdir()) == [NAME.replace("00Z", name) for name in names]
    (archive / f"{NAME}.gz").write_bytes(gzip.compress((inbox / NAME).read_bytes()))
    (inbox / NAME).unlink()
    for text in ("first", "third"):
        assert scrape(workspace, ["1"], f"sh -c 'echo {text} > $0' {{output}}", now=NOW).done
    found = {p.name: p.read_text() for p in inbox.iterdir()}
    assert found == {NAME: "first\n", NAME.replace("00Z", "01Z"): "second\n", NAME.replace("00Z", "02Z"): "third\n"}
