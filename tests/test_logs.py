"""The log of a command: on standard error, a line an event, as much as was asked for; the library is silent."""
import json
import logging
import subprocess
import sys

import pytest
from small_chain import new_workspace, scrape_all, scraped_once

from scrapeopt.cli import main


def command(capfd, *words):
    "Exit code, standard output, and the lines of standard error."
    try: code = main([str(word) for word in words]) or 0
    except SystemExit as e: code = e.code
    out, err = capfd.readouterr()
    return code, out, err.splitlines()


@pytest.fixture(autouse=True)
def quiet_afterwards():
    "Leave the logger as a library has it."
    logger = logging.getLogger("scrapeopt")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture
def waiting(tmp_path):
    "A workspace with files in its inbox, one of them of no known store."
    ws = new_workspace(tmp_path / "ws")
    scrape_all(ws)
    stray = ws.path / "inbox/Woolworths/none/20261119T020000Z.jsonl"
    stray.parent.mkdir(parents=True)
    stray.write_text("{}\n")
    ws.engine.dispose()
    return ws.path


@pytest.mark.usefixtures("no_outlooks")
@pytest.mark.parametrize("words", [
    ("-v", "update-db", "--log-format", "json"), ("--log-format=json", "update-db", "--verbose"),
    ("--log-format", "json", "-v", "update-db")])
def test_json_lines_have_stable_keys(waiting, words, capfd):
    code, _, lines = command(capfd, *words, "-w", waiting)
    told = [json.loads(line) for line in lines if line.startswith("{")]
    assert code == 2 and all({"time", "level", "event", "what"} <= set(line) for line in told)
    events = [line["event"] for line in told]
    assert events.count("file taken") == 12 and events.count("file put aside") == 1 and "group event" in events
    assert [line for line in lines if not line.startswith("{")] == [
        line for line in lines if line.startswith("scrapeopt: ")]  # what a command says of its own stays
    taken = next(line for line in told if line["event"] == "file taken")
    assert {"company", "store", "file"} <= set(taken)


@pytest.mark.parametrize(("words", "expected"), [
    ((), []), (("-q",), []), (("-v",), ["lease taken", "store scraped", "lease ended"]),
    (("-vv",), ["queue given", "lease taken", "store scraped", "lease ended"])])
def test_as_much_as_was_asked_for(waiting, words, expected, capfd):
    scraper = """sh -c 'echo "{{\\"product_id\\": 1, \\"price\\": 2}}" > "$1"' sh {output}"""
    code, _, lines = command(capfd, "scrape", "-n", 1, "--command", scraper, *words, "-w", waiting)
    assert code == 0 and [line.split(" ", 2)[2].partition(":")[0] for line in lines] == expected
    assert [line.split()[1] for line in lines] == ["DEBUG" if e == "queue given" else "INFO" for e in expected]


def test_a_failure_is_in_the_log_with_its_cause(waiting, capfd):
    words = ("scrape", "-n", 1, "--command", "false {output}", "--retries", 0, "-v", "-w", waiting)
    assert any("store failed: company " in line and "why exit code 1" in line for line in command(capfd, *words)[2])


def test_another_format_is_refused(waiting, capfd):
    code, _, lines = command(capfd, "status", "--log-format", "xml", "-w", waiting)
    assert code == 2 and any("is not text or json" in line for line in lines)


@pytest.mark.slow
def test_the_library_shows_nothing_itself(waiting):
    program = f"""
import logging, scrapeopt
from scrapeopt import Workspace, update_db
update_db(Workspace.open({str(waiting)!r}))
assert [type(h) for h in logging.getLogger("scrapeopt").handlers] == [logging.NullHandler]
logging.basicConfig(level="INFO", format="%(name)s %(message)s")
update_db(Workspace.open({str(waiting)!r}))
Workspace.open({str(waiting)!r}).lease({{("Woolworths", "0001")}}).__enter__()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0)
    assert [line.partition(":")[0] for line in done.stderr.splitlines()][:1] == ["scrapeopt lease taken"]


def test_help_stays_light_and_names_the_options():
    program = "import sys\nfrom scrapeopt import cli\n" \
              "try: cli.main(['--help'])\nexcept SystemExit: pass\n" \
              "print([m for m in ('pandas', 'sqlalchemy', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert out.endswith("[]\n") and "--log-format" in out and "--quiet" in out


# ---- the run log -----------------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("no_outlooks")
def test_status_tells_what_ran(tmp_path, capfd):
    ws = scraped_once(tmp_path / "ws")
    ws.engine.dispose()
    assert command(capfd, "update-db", "-w", ws.path)[0] == 0
    assert command(capfd, "reanalyse", "-w", ws.path)[0] == 0
    assert command(capfd, "import-stores", tmp_path / "none.csv", "-w", ws.path)[0] == 2
    rows = json.loads(command(capfd, "status", "--json", "-w", ws.path)[1])
    runs = [(run["command"], run["exit_code"], run["state"]) for run in rows[0]["runs"]]
    assert runs[0][:2] == ("import-stores", 2) and ("reanalyse", 0, "ended") in runs
    assert "none.csv cannot be read" in rows[0]["runs"][0]["outcome"] and rows[0]["runs"] == rows[1]["runs"]
    assert "reanalyse just now: done" in command(capfd, "status", "-w", ws.path)[1]


def test_a_run_that_was_killed_is_named_until_it_ran_again(tmp_path, capfd):
    ws = new_workspace(tmp_path / "ws")
    ws.engine.dispose()
    program = "import os, signal, sys\nfrom scrapeopt import cli, update\n" \
              "update.update_db = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\ncli.main()"
    run = subprocess.run([sys.executable, "-c", program, "update-db", "-w", str(ws.path)])
    assert run.returncode == -9
    assert "update-db was killed just now" in command(capfd, "status", "-w", ws.path)[1]
    command(capfd, "update-db", "-w", ws.path)
    assert "was killed" not in command(capfd, "status", "-w", ws.path)[1]


@pytest.mark.usefixtures("no_outlooks")
@pytest.mark.parametrize("sql", [
    "DROP TABLE run", "CREATE TRIGGER no BEFORE INSERT ON run BEGIN SELECT RAISE(ABORT, 'full'); END"])
def test_a_log_that_cannot_be_written_stops_no_command(waiting, sql, capfd):
    import sqlite3
    with sqlite3.connect(waiting / "state.db") as c: c.execute(sql)
    code, out, _ = command(capfd, "update-db", "-w", waiting)
    assert code == 2 and out.startswith("12 files")
