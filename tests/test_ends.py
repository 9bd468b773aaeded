"""A command that is told to end takes with it what it has started: JupyterLab, scrapers, a shop."""
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from small_chain import new_workspace

from scrapeopt.cli import main
from scrapeopt.commands.collect import Remembered
from scrapeopt.discovery import ScrapeTask
from scrapeopt.scrape import output_path

ENDS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
LAB = """
import os, pathlib, signal, subprocess, sys, time
if {stubborn}: signal.signal(signal.SIGTERM, signal.SIG_IGN)
kernel = subprocess.Popen(["sleep", "60"])
pathlib.Path({pids!r}).write_text(f"{{os.getpid()}} {{kernel.pid}}")
time.sleep(60)
"""
PROGRAM = """
import signal
from scrapeopt import cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and one under nohup this
cli.main()
"""
COMMAND = """
import signal, sys
from scrapeopt import cli
from scrapeopt.commands import jupyter
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and one under nohup this
jupyter.lab_command = lambda *_: [sys.executable, "-c", {lab!r}]
jupyter.LAB_ENDS_S = 0.5
cli.main()
"""


def alive(pid):
    "Whether a process still runs; one that has ended and waits for its parent does not."
    try: return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError: return False


def wait_for(condition, seconds=30.0):
    "Whether it came true in time."
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until: time.sleep(0.05)
    return condition()


def dashboard(tmp_path, stubborn=False):
    "A dashboard with a program in the place of JupyterLab, and the processes of that."
    new_workspace(tmp_path / "ws").engine.dispose()
    pids = tmp_path / "pids"
    program = COMMAND.format(lab=LAB.format(pids=str(pids), stubborn=stubborn))
    command = subprocess.Popen([sys.executable, "-c", program, "dashboard", "-w", str(tmp_path / "ws")])
    assert wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    return command, pids.read_text().split()


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("stubborn", [False, True])
def test_the_dashboard_takes_jupyterlab_with_it(end, stubborn, tmp_path):
    command, pids = dashboard(tmp_path, stubborn)
    command.send_signal(end)
    assert command.wait(20) == (0 if end == signal.SIGINT else 128 + end)
    assert wait_for(lambda: not any(map(alive, pids)), 5)


def test_two_signals_in_a_row_do_not_cut_that_short(tmp_path):
    command, pids = dashboard(tmp_path, stubborn=True)
    for end in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP): command.send_signal(end)
    assert command.wait(20) in (128 + signal.SIGHUP, 128 + signal.SIGTERM)
    assert wait_for(lambda: not any(map(alive, pids)), 5)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a process that its parent has died")
def test_a_dashboard_that_is_killed_leaves_no_jupyterlab(tmp_path):
    command, pids = dashboard(tmp_path)
    command.kill()
    command.wait(5)
    gone = wait_for(lambda: not alive(pids[0]), 5)
    os.kill(int(pids[1]), signal.SIGKILL)  # a real JupyterLab ends its kernels
    assert gone


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_twin_serve_ends(end, tmp_path):
    from scrapeopt.twin import Twin, save_twins
    stores = pd.DataFrame({"store_id": ["a"], "lat": -31.9, "lon": 115.9})
    save_twins(tmp_path, Twin(stores, company="Coles", n_products=5, start=pd.Timestamp("2026-11-02", tz="UTC")))
    words = [sys.executable, "-c", PROGRAM, "twin", "serve", str(tmp_path), "--port", "0"]
    shop = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "the shop is open" in shop.stdout.readline()
    shop.send_signal(end)
    _, said = shop.communicate(timeout=20)
    assert (shop.returncode, said) == (0 if end == signal.SIGINT else 128 + end, "")


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_scrape_ends_its_scrapers(end, tmp_path):
    ws = new_workspace(tmp_path / "ws")
    pid = tmp_path / "pid"
    command = f"sh -c 'echo $$ > {pid}; exec sleep 60' sh {{output}}"
    words = [sys.executable, "-c", PROGRAM, "scrape", "-w", str(ws.path), "-n", "1", "--command", command]
    run = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert wait_for(lambda: pid.exists() and pid.read_text().strip())
    run.send_signal(end)
    _, said = run.communicate(timeout=20)
    assert run.returncode == (130 if end == signal.SIGINT else 128 + end) and "Traceback" not in said
    assert "stopped: 0 stores landed and count; 1 store that had not was given back. Go on with the same" in said
    assert wait_for(lambda: not alive(pid.read_text().strip()), 5)
    assert not [p for p in (ws.path / "inbox").rglob("*") if p.is_file()]


@pytest.mark.parametrize("words, where, sentence", [
    ("update-db", "scrapeopt.update.update_db", "all else waits in the inbox. Go on with the same command"),
    ("reanalyse", "scrapeopt.reanalysis.reanalyse_each", "all else is as it was"),
    ("tidy", "scrapeopt.storage.tidy.tidy", "what was tidied up stays so"),
    ("prices --out prices.csv", "scrapeopt.workspace.Workspace.write_prices", "nothing was written"),
    ("tune --cache kept --n-stores 8", "scrapeopt.analysis.tuning.tune", "finished runs are kept in kept"),
    ("tune --n-stores 8", "scrapeopt.analysis.tuning.tune", "nothing was kept. With --cache DIR"),
    ("backtest --n-stores 8", "scrapeopt.backtest.replay_each", "keeps nothing before its end"),
    ("report", "scrapeopt.analysis.report.report_folder", "no page was written"),
    ("cluster-stores", "scrapeopt.workspace.Workspace.cluster", "companies that were clustered stay so"),
    ("visualize-clusters", "scrapeopt.analysis.web_map.draw_maps", "maps that were drawn are whole"),
    ("doctor", "scrapeopt.storage.doctor.examine", "nothing was changed"),
    ("doctor --mend", "scrapeopt.storage.doctor.examine", "what was mended stays so"),
    ("db backup kept", "scrapeopt.storage.backup.write_backup", "no backup was made"),
    ("db restore kept", "scrapeopt.storage.backup.restore_backup", "the state is as it was, or restored"),
    ("demo somewhere", "scrapeopt.commands.demo.run_demo", "somewhere holds the days that were lived so far")])
def test_long_commands_that_are_stopped_say_how_they_go_on(words, where, sentence, tmp_path, monkeypatch, capsys):
    def stop(*_, **__): raise KeyboardInterrupt
    if "--n-stores" not in words and "demo" not in words: words += f" -w {new_workspace(tmp_path / 'ws').path}"
    monkeypatch.setattr(where, stop)
    with pytest.raises(SystemExit) as end: main(words.split())
    said = capsys.readouterr().err
    assert end.value.code == 130 and "scrapeopt: stopped: " in said and sentence in said


def test_a_scrape_that_is_stopped_counts_what_has_landed(tmp_path):
    ws = new_workspace(tmp_path / "ws")
    company = ws.companies()[0]
    ids = ws.stores(company)["store_id"].head(3)
    tasks = [ScrapeTask(company, str(store), "discovery", "primary", "") for store in ids]

    def scrape(tasks):
        path = output_path(ws.path, tasks[0], "20261102T020000Z")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
        raise KeyboardInterrupt
    run = Remembered(scrape, datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(KeyboardInterrupt): run(tasks)
    assert run.stopped_words(ws.path).startswith("1 store landed and counts; 2 stores that had not were given back. Go")


def test_a_command_under_nohup_outlives_its_terminal(tmp_path):
    program = "import signal, os; signal.signal(signal.SIGHUP, signal.SIG_IGN); import scrapeopt.cli as c; " \
              "c.be_a_process(); os.kill(os.getpid(), signal.SIGHUP); print('still here')"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "still here\n"
