"""The wheel has all that the code reads and nothing else, and works where no repository is near."""
import subprocess
import sys
import tarfile
from email.parser import BytesParser

import nbs
import packaged
import pytest

from scrapeopt.core.extras import EXTRAS

TWIN = "import sys; from scrapeopt.commands.demo import make_twins; " \
       "make_twins('twin', n_products=60, n_stores={'Coles': 8, 'Woolworths': 10})"
SCRAPE = ["scrape", "-n", "18", "--update", "--command",
          "python -m scrapeopt.twin twin {company} {store_id} {output} --at 20261102T010000Z"]


@pytest.fixture(scope="module")
def built(tmp_path_factory): return packaged.build(tmp_path_factory.mktemp("built"))


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built):
    listed = {f for f in packaged.contents(built.wheel) if ".dist-info/" not in f}
    assert listed == {f for f in packaged.known_files() if f.startswith("scrapeopt/")}
    kinds = {f.rpartition(".")[2] for f in listed}
    assert {"html", "npz", "js", "typed", "service", "in"} <= kinds and "ipynb" not in kinds
    assert "scrapeopt/storage/migrations/v0001.py" in listed and "scrapeopt/commands/schedules/crontab" in listed


def test_the_sdist_makes_the_same_wheel(built):
    assert packaged.contents(built.from_sdist) == packaged.contents(built.wheel)
    with tarfile.open(built.sdist) as tar: folders = {n.split("/")[1] for n in tar.getnames() if n.count("/") > 1}
    assert folders == {"scrapeopt", "scrapeopt.egg-info"}


def test_the_wheel_says_what_it_is(built):
    inside = packaged.contents(built.wheel)
    told = BytesParser().parsebytes(next(v for k, v in inside.items() if k.endswith("/METADATA")))
    assert set(told.get_all("Provides-Extra")) == {"all", "dev", *(extra.name for extra in EXTRAS)}
    assert told["License-Expression"] or told["License"] == "Apache-2.0"
    assert any(k.endswith("LICENSE") for k in inside) and "# scrapeopt" in told.get_payload()
    assert all(not r.startswith(("nbdev", "ipywidgets")) for r in told.get_all("Requires-Dist") if ";" not in r)


@pytest.mark.slow
def test_commands_find_their_files_in_the_wheel(built, tmp_path):
    """Unpacked in front of everything else, every kind of file that a command reads: migrations, templates, land,
    pages. Nothing is compiled, which takes longer than all the rest, and which the drill does."""
    site, here = tmp_path / "site", tmp_path / "here"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", built.wheel, site], check=True)
    here.mkdir()
    def typed(*words, codes=(0,)):
        return packaged.ran([sys.executable, *words], here, codes, PYTHONPATH=str(site), NUMBA_DISABLE_JIT="1")

    def scrapeopt(*words, codes=(0,)): return typed("-m", "scrapeopt.cli", *words, codes=codes)
    assert typed("-c", "import scrapeopt; print(scrapeopt.__file__)").startswith(str(site))
    typed("-c", TWIN)
    scrapeopt("init", "perth")
    newest = max(f for f in packaged.contents(built.wheel) if "migrations/v" in f)[-7:-3]
    assert newest in scrapeopt("db", "current", "-w", "perth")
    scrapeopt("db", "upgrade", "-w", "perth")
    scrapeopt("import-stores", "twin/stores.csv", "-w", "perth")
    assert "perth.html" in scrapeopt("report", "-w", "perth", "--out", "perth.html", codes=(0, 2))
    scrapeopt("visualize-clusters", "-w", "perth", "--out", "maps", "--basemap", "none")
    assert "OnCalendar" in scrapeopt("schedule", "systemd", "-w", "perth", "--command", "cp x {output}")


@pytest.mark.drill
@pytest.mark.timeout(1800)
def test_a_fresh_environment_elsewhere_runs_the_whole_of_it(built, tmp_path):
    "First as a cron machine has it, then with maps."
    bin_ = packaged.environment(tmp_path / "venv", built.wheel)
    path = {"PATH": f"{bin_}:/usr/bin:/bin"}
    def scrapeopt(*words, codes=(0,)): return packaged.ran([bin_ / "scrapeopt", *words], tmp_path, codes, **path)
    def perth(*words, codes=(0,)): return scrapeopt("-w", "perth", *words, codes=codes)
    where = packaged.ran([bin_ / "python", "-c", "import scrapeopt; print(scrapeopt.__file__)"], tmp_path)
    assert where.startswith(str(tmp_path)) and str(nbs.ROOT) not in where
    scrapeopt("init", "perth")
    (tmp_path / "stores.csv").write_text("company,store_id,name,lat,lon\nColes,1,Here,-31.9,115.8\n")
    lacking = perth("import-stores", "stores.csv", codes=(2,))
    assert "scrapeopt[maps]" in lacking and lacking.count("\n") == 1
    packaged.environment(tmp_path / "venv", f"{built.wheel}[maps]")
    packaged.ran([bin_ / "python", "-c", TWIN], tmp_path)
    perth("import-stores", "twin/stores.csv")
    assert "Perth" in perth("cluster-stores", "--eps-km", "30", "--min-samples", "3")
    assert "primary" in perth("queue", "-n", "4")
    assert "scraped 18 of 18 stores" in perth(*SCRAPE)
    assert "0 files" in perth("update-db") and "18" in perth("status", codes=(0, 2))
    assert "wrote" in perth("prices", "--out", "prices.parquet") and (tmp_path / "prices.parquet").stat().st_size > 1000
    assert "state and files are whole" in perth("doctor")
    perth("db", "current")
    perth("db", "upgrade")
    perth("report", "--out", "perth.html", codes=(0, 2))
    assert ".png" in perth("visualize-clusters", "--out", "maps", "--basemap", "none")
    assert "OnCalendar" in perth("schedule", "systemd", "--command", "cp x {output}")
