"""The reference pages are made of the code: every command with its options, every setting, every name to import."""
import re
import subprocess
import sys

import nbs
import pytest
from typer.testing import CliRunner

from scrapeopt.cli import app
from scrapeopt.storage.settings import TEMPLATE, CompanySettings, Settings

sys.path.insert(0, str(nbs.ROOT / "tools"))
import reference

COMMANDS = dict(reference.commands())
PAGE = reference.commands_page({})
SETTINGS = reference.settings_page()


def section(path: str) -> str:
    "What the page says of a command."
    return PAGE.partition(f"({reference.anchor(path)})=\n")[2].partition("\n(command-")[0]


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_that_help_lists_is_on_the_page(path):
    help_ = CliRunner().invoke(app, [*path.split()[1:], "--help"], env={"COLUMNS": "300", "NO_COLOR": "1"}).output
    listed = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", "\n".join(
        line[:60] for line in help_.splitlines() if re.match(r"[│\s]*[*\s]*-", line)))) - {"--help"}
    assert listed <= set(re.findall(r"--[a-z][\w-]*", section(path)))
    assert reference.promise(COMMANDS[path]) in PAGE


def test_no_command_is_missing():
    "Those that `scrapeopt --help` lists, and those below them."
    top = {path.split()[1] for path in COMMANDS}
    assert top == set(reference.application().list_commands(None)) and "scrapeopt db restore" in COMMANDS


def test_defaults_and_limits_are_those_of_the_code():
    "One of each kind: a number, a word in another's help, a switch, limits, something that must be given."
    assert "| `--days` `N` | 56, or all that the panel has |" in section("scrapeopt tune")
    assert "(1 to 36,500)" in section("scrapeopt tune")
    assert "| `--save-days` `X` | `1.0` |" in section("scrapeopt backtest")
    assert "| `--keep-good` |  |" in section("scrapeopt import-stores")
    assert "| `--product` `TEXT` | must be given |" in section("scrapeopt history")
    assert "scrapeopt compare STORE STORE [OPTIONS]" in section("scrapeopt compare")


@pytest.mark.parametrize(("path", "codes"), [("scrapeopt scrape", {0, 1, 2}), ("scrapeopt update-db", {0, 2}),
                                             ("scrapeopt queue", {0, 2})])
def test_exit_codes_are_those_that_a_command_raises(path, codes):
    assert reference.exit_codes(reference.callback(COMMANDS[path])) == codes


def test_exit_codes_are_explained():
    told = set(map(int, re.findall(r"^\| `(\d)` \|", (nbs.ROOT / "docs/commands.md").read_text("utf-8"), re.M)))
    assert {code for c in COMMANDS.values() for code in reference.exit_codes(reference.callback(c))} <= told


def test_examples_were_typed_in_a_notebook():
    "Each belongs to its command, and the cell that ran it is there."
    found = reference.examples()
    assert len(found) > 12 and "scrapeopt prices" in found
    for path, lines in found.items():
        assert len(lines) <= reference.EXAMPLES
        for line, notebook in lines:
            assert f"{line} ".startswith(f"{path} ")
            assert any(line in cell.source for cell in nbs.code(notebook))


def test_keys_of_an_answer_are_named_with_their_place():
    answer = {"files": 2, "events": [{"at": "now", "store": None}, {"store": "7", "why": ["a", "b"]}], "none": [],
              "all": {"equal": 1}}
    assert dict(reference.json_keys(answer)) == {"files": 2, "events[].at": "now", "events[].store": "7",
                                                 "events[].why": ["a", "b"], "none": [], "all.equal": 1}
    assert dict(reference.json_keys([{"x": 1}])) == {"[].x": 1}


@pytest.mark.parametrize("key", [*Settings.model_fields, *CompanySettings.model_fields])
def test_every_setting_is_on_the_page(key):
    if key in ("defaults", "companies"): return  # tables of settings
    said = SETTINGS.partition(f"(setting-{key})=\n")[2].partition("\n(setting-")[0]
    fields = dict(re.findall(r"^:([a-z ]+): (.+)$", said, re.M))
    assert fields.keys() == {"takes", "default", "change it"} and fields["change it"].endswith(".")
    meaning = said.split("\n\n")[1].strip()
    assert meaning, f"the code says nothing of {key}"
    goes_on = re.match(r"(?:of|that|or|from|until|where its|\"\":) ", meaning)
    assert not goes_on, f"what the code says of {key} cannot be read by itself: {meaning}"


def test_what_a_setting_takes_is_what_pydantic_holds_it_to():
    entries = {e.key: e for part in reference.settings_parts().values() for e in part}
    assert entries["match_threshold"].takes == '`"auto"` or a number > 0, <= 1'
    assert entries["workers"].takes == "a whole number >= 1, <= 1,000"
    assert entries["zero_is_a_price"].takes == "`true` or `false`"
    assert entries["after_ingest"].takes == '`"archive"` or `"delete"`'
    assert entries["currency"].takes == "three capital letters, such as `EUR`" and entries["budget"].default == "none"


def test_the_file_that_init_writes_holds_the_settings_of_the_page():
    written = set(re.findall(r"^(?:# *)?([a-z_]+) = ", TEMPLATE, re.M))
    assert written == {e.key for part in reference.settings_parts().values() for e in part}


@pytest.mark.slow
def test_what_one_imports_can_be_imported():
    "Each import on the page works in a fresh Python, and `Workspace` stands first."
    page = reference.api_page()
    lines = re.findall(r"^from scrapeopt[\w.]* import \w+$", page, re.M)
    assert lines[0] == "from scrapeopt import Workspace" and len(lines) == page.count("\n## ") + 1
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
    assert {name for _, name in reference.public_paths()} >= {"update_db", "scrape_queue", "Twin", "overlap_matrix"}
