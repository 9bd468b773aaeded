"""Whatever is typed for any option of any command: done, or one sentence and exit code 2; never a traceback."""
import contextlib
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import typer
from effort import drilled, one_in
from small_chain import scraped_once, stores

from scrapeopt.cli import app, main

ODD = ["", " ", "nan", "inf", "-inf", "-1", "0", "1.5", "1e308", str(10**20), "x", "a\0b", "\udcff", "a\nb", "🙂",
       "x" * 5000, "..", "/", "none/at/all", "stores.csv", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00+14:00",
       "2026-11-23T02:00+25:00", "NaT", "now", "-", "--", "1,", "{output}", "$(touch x)", "sqlite://", "http://"]
SMALL = {"scrape": ["-n", "1", "--command", "false {output}", "--retries", "0"], "history": ["--product", "100000"],
         "import-stores": ["stores.csv"], "explain": ["0001"], "compare": ["0001", "0002"], "init": ["new"]}
SLOW = {"report", "visualize-clusters", "backtest", "tune", "twin", "example", "demo", "dashboard"}  # see below
WORKSPACES = {name: command for name, command in typer.main.get_command(app).commands.items() if name not in SLOW}
OPTIONS = [(name, option.opts[0]) for name, command in WORKSPACES.items() for option in command.params
           if option.param_type_name == "option" and not getattr(option, "is_flag", False)]


def paths_of(command, words=()):
    "Each place of a command, or of those below it, where a path is typed: what to type before it."
    for name, below in getattr(command, "commands", {}).items(): yield from paths_of(below, (*words, name))
    for asked in command.params:
        if asked.metavar in ("FILE", "DIR"): yield (*words, *asked.opts[:asked.param_type_name == "option"])


PATHS = sorted(paths_of(typer.main.get_command(app)))


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    "A small workspace, and a list of stores beside it."
    folder = tmp_path_factory.mktemp("arguments")
    scraped_once(folder / "ws").engine.dispose()
    stores().to_csv(folder / "stores.csv", index=False)
    return folder


@pytest.fixture
def here(master, tmp_path, monkeypatch):
    "A copy of them in the current folder."
    shutil.copytree(master, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("SCRAPEOPT_BASEMAP", "none")
    return tmp_path / "here"


def run(capfd, *words):
    "Exit code and standard error."
    try: code = main([str(word) for word in words]) or 0
    except SystemExit as e: code = e.code
    return code, capfd.readouterr().err


def files(folder: Path) -> set[str]:
    "Everything in it that a refused command must not have made."
    return {str(p) for p in folder.rglob("*") if not p.name.startswith(("state.db", ".lock"))}


@pytest.mark.drill  # some ten minutes
@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_no_value_of_an_option_gives_a_traceback(command, option, here, capfd):
    for value in ODD:
        before = files(here)
        where = [] if option in ("--workspace", "--db") or command == "init" else ["-w", "ws"]
        code, said = run(capfd, command, *SMALL.get(command, []), *where, option, value)
        assert code in (0, 1, 2), (value, code)
        if code != 2: continue
        if said and not said.startswith("Usage"):
            assert all(line.startswith("scrapeopt: ") for line in said.splitlines()), (value, said)
            assert len(said.splitlines()) == 1 or command in ("update-db", "scrape"), (value, said)
        if said: assert files(here) == before, value


@pytest.mark.slow
@pytest.mark.parametrize("command", ["import-stores", "explain", drilled("compare"), drilled("init")])
def test_no_argument_gives_a_traceback(command, here, capfd):
    for value in ODD:
        if command == "init" and value in ("x", "now", "NaT"): continue
        words = [value] * (2 if command == "compare" else 1)
        code, said = run(capfd, command, *([] if command == "init" else ["-w", "ws"]), "--", *words)
        assert code in (0, 1, 2) and "Traceback" not in said, (value, code)


@pytest.mark.parametrize("words", [
    ("report", "--out", "/"), ("report", "--out", "stores.csv"), ("report", "--out", "ws"), ("report", "--company", ""),
    ("report", "--now", "9999-12-31"), ("visualize-clusters", "--company", "\udcff"), ("reanalyse", "--every", "junk"),
    ("reanalyse", "--every", "inf"), ("prices", "--out", "sqlite:///ws/state.db"), ("prices", "--out", "ws.csv/x.csv"),
    ("prices", "--product", "999"), ("prices", "--product", "999", "--out", "x.csv"), ("history", "--product", "999"),
    ("compare", "0001", "999"), ("queue", "--cluster", "Perth", "--cluster", "X"), ("queue", "--cluster", "X"),
    ("scrape", "--command", "true {output}", "--timeout", "nan"),
    ("scrape", "--command", "true {output}", "--timeout", "inf")])
def test_one_sentence_and_nothing_made(words, here, capfd):
    before = files(here)
    code, said = run(capfd, words[0], "-w", "ws", *words[1:])
    assert code == 2 and (said.startswith("Usage") or (said.startswith("scrapeopt: ") and said.count("\n") == 1)), said
    assert files(here) == before


SENSELESS = [
    ("backtest", "--n-stores", 10**20), ("backtest", "--days", 10**20), ("backtest", "--budget", "nan"),
    ("backtest", "--budget", "inf"), ("backtest", "--window-hours", "nan"), ("backtest", "--window-hours", "inf"),
    ("backtest", "--save-days", "nan"), ("backtest", "--save-days", "inf"), ("backtest", "--threshold", "nan"),
    ("backtest", "--out", "none/x.csv"), ("backtest", "--panel", "panel.csv", "--out", "panel.csv"),
    ("tune", "--plot", "none/x.png"), ("tune", "--budgets", "nan"), ("tune", "--jobs", "0"),
    ("tune", "--target", "nan"),
    ("twin", "create", "twins", "--products", 10**20), ("twin", "create", "stores.csv"), ("twin", "serve", "none")]


@pytest.mark.slow
@pytest.mark.parametrize("words", one_in(3, zip(SENSELESS)))
def test_a_simulation_that_makes_no_sense_is_refused_at_once(words, here, capfd):
    rows = {"store": "a", "product": "1", "date": ["2026-01-01", "2026-01-02"], "price": "1.00"}
    pd.DataFrame(rows).to_csv("panel.csv")
    before = files(here)
    code, said = run(capfd, *words)
    assert code == 2 and (said.startswith("Usage") or said.count("\n") == 1), said
    assert files(here) == before


NUMBERS = ["inf", "-inf", "nan", "-1", "1e308", str(10**20), "true", '"x"', '""', "[]", "{}", "1979-05-27T07:32:00Z"]


@pytest.mark.slow
@pytest.mark.parametrize("key", one_in(3, [
    "eps_km", "min_samples", "window_hours", "match_threshold", "range_threshold", "min_shared", "budget", "save_days",
    "accuracy_floor", "max_bad_share", "min_size_share", "workers", "timeout_s", "retries", "lock_wait_s", "seed",
    "delay_s", "per_host", "start_delay_s",
    "defaults.decimals", "companies.Woolworths.decimals"]))
def test_no_number_of_the_settings_gives_a_traceback(key, here, capfd):
    file, refused = here / "ws/scrapeopt.toml", 0
    text, (table, _, name) = file.read_text(), key.rpartition(".")
    for value in NUMBERS:
        file.write_text(f"{text}\n[{table}]\n{name} = {value}\n" if table else f"{name} = {value}\n{text}")
        code, said = run(capfd, "queue", "-n", 1, "-w", "ws")
        assert code in (0, 2) and said.count("\n") == (code == 2), (value, said)
        if code == 2: assert name in said, said
        refused += code == 2
    assert refused >= 8


@pytest.mark.parametrize("value", ["", " ", "nan", "inf", "x", "["])
@pytest.mark.parametrize("name", ["EPS_KM", "DB_URL", "POLICY", "BUDGET", "SEED", "COMPANIES", "WORKSPACE"])
def test_no_environment_variable_gives_a_traceback(name, value, here, capfd, monkeypatch):
    monkeypatch.setenv(f"SCRAPEOPT_{name}", value)
    code, said = run(capfd, "status", *([] if name == "WORKSPACE" else ["-w", "ws"]))
    assert code in (0, 2) and said.count("\n") <= 1, said


DEEP = "[" * 50_000 + "]" * 50_000


@pytest.mark.parametrize("content", [
    f'{{"type": "FeatureCollection", "features": {DEEP}}}',
    f'{{"type": "FeatureCollection", "crs": {DEEP}, "features": []}}',
    DEEP, f'{{"features": [{{"properties": {{"a": {DEEP}}}}}]}}'])
def test_a_list_that_is_nested_deep_is_refused(content, here, capfd):
    Path("deep.geojson").write_text(content)
    for words in (("import-stores", "deep.geojson", "-w", "ws"), ("backtest", "--panel", "deep.geojson")):
        code, said = run(capfd, *words)
        assert code == 2 and "nested too deep" in said and said.count("\n") == 1


@pytest.mark.parametrize("header", ["company,store_id,store_id,lat,lon", "company,Store ID,store-id,lat,lon",
                                    "company,store_id,Lat,lat,lon", "company,store no,Store No.,lat,lon"])
def test_two_columns_of_one_name_are_refused(header, here, capfd):
    Path("two.csv").write_text(f"{header}\nA,1,-31,-31,115\n")
    code, said = run(capfd, "import-stores", "two.csv", "-w", "ws")
    assert code == 2 and "two columns of one name" in said
    with contextlib.suppress(OSError): os.remove("two.csv")


@pytest.mark.parametrize("words", PATHS, ids=" ".join)
def test_a_url_is_no_path(words, tmp_path, monkeypatch, capfd):
    "Where a path is asked for, a folder called `s3:` would be made here."
    monkeypatch.chdir(tmp_path)
    code, told = run(capfd, *words, "s3://shop/x.parquet")
    assert code == 2 and "s3://shop/x.parquet is a URL" in " ".join(told.replace("│", " ").split()), told
    assert not list(tmp_path.iterdir())


def test_every_command_that_writes_a_file_is_asked_for_a_url():
    assert {("report", "--out"), ("panel",), ("db", "backup"), ("visualize-clusters", "--out"), ("init",)} <= set(PATHS)
