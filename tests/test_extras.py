"The plain install does a cron machine's work; what it lacks is told in one sentence, with the command to type."
import configparser
import importlib.metadata
import json
import subprocess
import sys

import nbs
import pandas as pd
import pytest
from effort import drilled
from small_chain import THURSDAY, new_workspace, scrape_all

from scrapeopt.core.extras import EXTRAS, absence

# Runs a command as if the packages of some extras, and what they alone bring, were not there.
CHILD = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in {modules!r}: raise ModuleNotFoundError(f"No module named {{top!r}}", name=top)
sys.meta_path.insert(0, Absent())
from scrapeopt.cli import main
{run}
"""
# Several commands in a row, since it takes longer to begin than to do them: the code, the words, what was said.
EACH = """
import io, json
from contextlib import redirect_stderr, redirect_stdout
for words in json.loads(sys.argv[1]):
    said, told, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(said), redirect_stderr(told):
        try: main(words)
        except SystemExit as e: code = e.code or 0
    print(json.dumps([code, words, said.getvalue(), told.getvalue()]))
"""
BEHIND = {"geopandas", "duckdb", "shapely", "rasterio", "PIL", "IPython", "traitlets", "geopy", "xyzservices"}
MODULES = {extra.name: extra.modules for extra in EXTRAS}
SCRAPER = """
import json, sys
with open(sys.argv[1], "w") as file:
    for k in range(9): print(json.dumps({"product_id": f"p{k}", "price": "2.50"}), file=file)
"""


EVERYTHING = frozenset().union(*MODULES.values()) | BEHIND


def typed(ws, *words, without=EVERYTHING):
    "A command on a machine that lacks modules: its exit code, what it said, and what it complained of."
    code = CHILD.format(modules=set(without), run="main()")
    done = subprocess.run([sys.executable, "-c", code, *words, "-w", str(ws.path)], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def ws(tmp_path_factory):
    ws = new_workspace(tmp_path_factory.mktemp("plain") / "ws")
    scrape_all(ws)
    return ws


@pytest.mark.slow
def test_a_cron_machine_needs_no_extra(ws, tmp_path):
    (tmp_path / "scraper.py").write_text(SCRAPER)
    at = ("--now", f"{THURSDAY + pd.Timedelta('1D'):%Y-%m-%dT%H:%M}")
    scrape = ("scrape", "-n", "2", "--update", "--command", f"{sys.executable} {tmp_path}/scraper.py {{output}}")
    written = [("prices", "--out", str(tmp_path / f"p{kind}")) for kind in (".csv", ".parquet")]
    asked = [("update-db",), ("queue", "-n", "3"), ("status",), *written, scrape, ("tidy",)]
    lines = [[*words, "-w", str(ws.path)] for words in [*((*words, *at) for words in asked), ("groups",), ("doctor",)]]
    code = CHILD.format(modules=set(EVERYTHING), run=EACH)
    done = subprocess.run([sys.executable, "-c", code, json.dumps(lines)], capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [words for _, words, *_ in found] == lines
    for code, words, said, told in found:
        assert code in (0, 2) and "Traceback" not in told and "not installed" not in told, (words, said, told)
        assert said, words
    assert (tmp_path / "p.parquet").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize(("words", "extra"), [
    drilled(("cluster-stores",), "maps"), (("report",), "maps"), drilled(("visualize-clusters",), "maps"),
    (("dashboard",), "dashboard"), (("scrape", "--spider", "shop.py:Shop"), "scrape"),
    (("update-db", "--backend", "dask", "--address", "tcp://127.0.0.1:9"), "dask")])
def test_what_is_missing_is_one_sentence_with_what_to_type(ws, words, extra, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").touch()
    code, _, told = typed(ws, *words, without=MODULES[extra])
    assert code == 2 and len(told.strip().splitlines()) == 1 and f"[{extra}]" in told and "pip install" in told, told


def test_a_server_without_its_driver_is_one_sentence(tmp_path):
    code = CHILD.format(modules=set(MODULES["postgres"]), run="main()")
    words = ["init", str(tmp_path / "ws"), "--db", "postgresql://somebody@127.0.0.1:1/prices"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 2 and "[postgres]" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_bucket_without_its_packages_is_one_sentence(tmp_path):
    code = CHILD.format(modules=set(MODULES["s3"]), run="main()")
    words = ["init", str(tmp_path / "ws"), "--files", "s3://bucket/prices"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 2 and "[s3]" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "ws").exists()


def test_what_settings_ini_installs_for_an_extra_is_what_is_looked_for():
    ini = configparser.ConfigParser(delimiters=["="])
    ini.read(nbs.ROOT / "settings.ini", encoding="utf-8")
    homes = importlib.metadata.packages_distributions()
    for extra in EXTRAS:
        wanted = {r.split(">")[0].split("[")[0].lower() for r in ini["DEFAULT"][f"{extra.name}_requirements"].split()}
        known = {dist.lower() for module in extra.modules for dist in homes.get(module, ())}
        assert wanted <= known, extra.name


def test_what_is_always_there_is_no_extra():
    assert absence(ModuleNotFoundError(name="pandas")) is None
    assert "[maps]" in absence(ModuleNotFoundError(name="sklearn.base"))
