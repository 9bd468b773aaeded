"""What needs a person reaches one, once a day; and whatever becomes of the message, the run goes on."""
import json
import re
import shlex
from datetime import timedelta

import pytest
import small_chain
from small_chain import LATER, THURSDAY, land, lines, shelf
from typer.testing import CliRunner

from scrapeopt.analysis.notices import hand_over
from scrapeopt.cli import app
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

pytestmark = pytest.mark.usefixtures("no_outlooks")
NOON = THURSDAY.to_pydatetime() + timedelta(hours=10)


def typed(command, ws, *words):
    "A command on a workspace: its exit code, standard output and standard error."
    result = CliRunner().invoke(app, [command, "-w", str(ws.path), *map(str, words)], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def at(hours: float) -> tuple[str, str]:
    "The moment so many hours after noon."
    return "--now", (NOON + timedelta(hours=hours)).isoformat()


@pytest.fixture
def troubled(tmp_path) -> Workspace:
    "A workspace with a store that does not answer."
    ws = small_chain.scraped_once(tmp_path / "ws")
    for _ in range(3): ws.record_failures({("Woolworths", "0003"): False})
    return ws


def test_the_same_problem_is_told_once_a_day(troubled):
    told = [typed("notify", troubled, *at(hours)) for hours in (0, 1, 23, 24.5, 25)]
    assert [out.startswith("scrapeopt, workspace ws: a problem needs") for _, out, _ in told] == [
        True, False, False, True, False]
    assert {code for code, _, _ in told} == {2} and "1 problem needs a person; none told now" in told[1][1]
    assert "Unreachable: 1 of 7 stores" in typed("notify", troubled, "--all", *at(26))[1]


def test_what_spreads_or_comes_back_is_told_at_once(troubled):
    typed("notify", troubled, *at(0))
    for _ in range(3): troubled.record_failures({("Woolworths", "0004"): False})
    assert "0003, 0004" in typed("notify", troubled, *at(1))[1]
    for hour, store in enumerate(("0003", "0004"), 1):
        land(troubled, "Woolworths", store, THURSDAY + timedelta(hours=hour), lines(shelf("Woolworths", store)))
    update_db(troubled, now=LATER)
    assert typed("notify", troubled, *at(2))[:2] == (0, "nothing needs a person\n")
    for _ in range(3): troubled.record_failures({("Woolworths", "0003"): False})
    assert "Unreachable" in typed("notify", troubled, *at(3))[1]


def test_a_command_gets_the_letter(troubled, tmp_path):
    letter = tmp_path / "letter"
    code, out, _ = typed("notify", troubled, "--command", f"tee {shlex.quote(str(letter))}", *at(0))
    assert (code, out) == (2, "1 problem needs a person; 1 told now\n")
    assert "What to do: Look at the scraper's message" in letter.read_text()
    code, out, _ = typed("notify", troubled, "--json", "--all", "--command", f"tee {shlex.quote(str(letter))}", *at(1))
    assert json.loads(letter.read_text()) == json.loads(out)
    assert json.loads(out)["problems"][0]["kind"] == "unreachable"


@pytest.mark.parametrize(("hook", "said"), [
    ("sh -c 'echo no such host >&2; exit 67'", "sh ended with 67: no such host"), ("false", "false ended with 1"),
    ("no-such-command-anywhere", "cannot be started"), ("'", "quote it as for a shell")])
def test_what_did_not_arrive_is_told_again(troubled, hook, said):
    code, _, error = typed("notify", troubled, "--command", hook, *at(0))
    assert code == 2 and said in error and error.count("\n") == 1
    assert "Unreachable" in typed("notify", troubled, *at(1))[1]


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    alive = tmp_path / "alive"
    hook = f"sh -c 'sleep 3; touch {alive}; sleep 99'"
    assert "took longer than 0.5 s" in hand_over(hook, "a letter", timeout_s=0.5)
    assert hand_over("sleep 3.5", "") is None and not alive.exists()


def test_a_command_that_does_not_read_is_no_fault():
    assert hand_over("true", "x" * 1_000_000) is None


def test_no_password_is_in_a_letter(troubled, tmp_path):
    settings = troubled.path / "scrapeopt.toml"
    settings.write_text(settings.read_text() + "\n# postgresql+psycopg://shop:s3cret@db.example/prices\n")
    settings.chmod(0o644)
    for words in ((), ("--json", "--all")):
        told = "".join(map(str, typed("notify", troubled, *words)))
        assert "others can read it" in told and "s3cret" not in told


@pytest.mark.parametrize("hook", ["false", "no-such-command-anywhere", "sh -c 'kill -9 $$'"])
def test_a_run_goes_on_whatever_becomes_of_the_message(troubled, hook):
    text = (troubled.path / "scrapeopt.toml").read_text()
    (troubled.path / "scrapeopt.toml").write_text(f"notify_command = {json.dumps(hook)}\n{text}")
    land(troubled, "Woolworths", "0001", THURSDAY + timedelta(days=1), lines(shelf("Woolworths", "0001")))
    code, out, error = typed("update-db", troubled)
    assert code == 0 and out.startswith("1 file with 60 prices")
    assert re.search("notify_command: .*(ended with|cannot be started)", error) and "Traceback" not in error


def test_a_run_tells_by_the_command_of_the_settings(troubled, tmp_path):
    letter = tmp_path / "letter"
    text = (troubled.path / "scrapeopt.toml").read_text()
    (troubled.path / "scrapeopt.toml").write_text(f"notify_command = {json.dumps(f'tee {letter}')}\n{text}")
    assert typed("status", troubled, *at(0))[0] == 2 and not letter.exists()  # nobody is told by who looks
    assert typed("update-db", troubled) == (0, "0 files with 0 prices; 0 of them partial; 0 lines or files in "
                                               "quarantine\n", "")
    assert "Unreachable" in letter.read_text()


def test_a_folder_that_cannot_be_written_still_tells(troubled, monkeypatch):
    def full(*_): raise OSError(28, "No space left on device")
    monkeypatch.setattr("scrapeopt.analysis.notices.write_whole", full)
    code, out, error = typed("notify", troubled, *at(0))
    assert code == 2 and "Unreachable" in out and "No space left on device" in error
