"""Airflow, Prefect and Dagster run the files that `scrapeopt schedule` writes for them, each in its own environment."""
import os
import re
import shutil
import sys
from pathlib import Path

import nbs
import packaged
import pandas as pd
import pytest

from scrapeopt.commands.demo import make_twins, make_workspace

pytestmark = [pytest.mark.drill, pytest.mark.timeout(3600)]

SCRAPER = """
import os, pathlib, subprocess, sys
company, store_id, output = sys.argv[1:]
for token in pathlib.Path("tokens").glob("*"):  # each lets one scrape fail
    try: token.unlink()
    except FileNotFoundError: continue
    sys.exit("the shop answered 503")
sys.exit(subprocess.call([sys.executable, "-m", "scrapeopt.twin", "twin", company, store_id, output,
                          "--at", "20261102T010000Z"]))
"""
COMMAND = "python my_scraper.py {company} {store_id} {output}"
AT_ONCE = {"minutes=15": "seconds=1", "seconds=900": "seconds=1", "to_wait=900": "to_wait=1"}
QUIET = {"DO_NOT_TRACK": "1", "SCRAPEOPT_RETRIES": "0", "PYTHONPATH": str(nbs.ROOT)}  # this very copy
PREFECT = """
import sys; sys.path.insert(0, "files")
import scrapeopt_flow
print("ended", scrapeopt_flow.scrapeopt_prices(return_state=True).type.value)
"""
AIRFLOW = """
import sys; sys.path.insert(0, "files")
import scrapeopt_dag
print("ended", scrapeopt_dag.scrapeopt_prices().test().state)
"""
PLATFORMS = {  # what is installed; what is run, `python` being the platform's own; how it says that it was done, or not
    "prefect": ("prefect>=3.4,<4", ["python", "-c", PREFECT], "ended COMPLETED", "ended FAILED"),
    "dagster": ("dagster>=1.10,<2", ["dagster", "job", "execute", "-f", "files/scrapeopt_job.py", "-j",
                                     "scrapeopt_prices"], "RUN_SUCCESS", "RUN_FAILURE"),
    "airflow": ("apache-airflow>=3.1,<4", ["python", "-c", AIRFLOW], "ended success", "ended failed"),
}


def home(folder: Path) -> dict[str, str]:
    "Where the platforms keep what is theirs, and that they tell nobody."
    (folder / "dagster_home").mkdir(exist_ok=True)
    (folder / "dagster_home/dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return QUIET | {
        "PREFECT_HOME": str(folder / "prefect_home"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300", "DAGSTER_HOME": str(folder / "dagster_home"),
        "AIRFLOW_HOME": str(folder / "airflow_home"), "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "files"), "HOME": str(folder)}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    "A folder with a shop, a scraper and a workspace."
    folder = tmp_path_factory.mktemp("shop")
    twins = make_twins(folder / "twin", n_products=60, n_stores={"Coles": 8, "Woolworths": 10})
    make_workspace(folder / "perth", twins).engine.dispose()
    (folder / "my_scraper.py").write_text(SCRAPER)
    return folder


def scrapeopt(folder: Path, *words: str) -> str:
    "What a command prints, typed in a folder."
    at_hand = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    return packaged.ran([sys.executable, "-m", "scrapeopt.cli", *words], folder, **at_hand, **QUIET)


def written(folder: Path, kind: str) -> None:
    "Write the file of a platform, as somebody types it; a retry comes at once."
    scrapeopt(folder, "schedule", kind, "-w", "perth", "-n", "4", "--command", COMMAND, "--out", "files")
    path, = (folder / "files").iterdir()
    text, changed = re.subn(r"(minutes=15|seconds=900|to_wait=900)", lambda m: AT_ONCE[m[1]], path.read_text())
    assert changed == 1
    path.write_text(text)


def answer(folder: Path) -> tuple[list[str], pd.DataFrame]:
    "The stores that were scraped, and all prices but for the times at which this was."
    scrapeopt(folder, "prices", "-w", "perth", "--out", "prices.csv")
    prices = pd.read_csv(folder / "prices.csv").drop(columns=["scraped_at", "confidence"])
    return sorted(p.parent.name for p in (folder / "perth/archive").rglob("*.jsonl")), prices


@pytest.mark.parametrize("kind", PLATFORMS)
def test_a_platform_runs_its_file(kind, shop, tmp_path):
    what, words, good, bad = PLATFORMS[kind]
    kept = os.environ.get("SCRAPEOPT_PLATFORMS")  # a folder for environments that stay, while one works on this
    bin_ = packaged.environment(Path(kept) / kind if kept else tmp_path / "venv", what)
    here, plain = tmp_path / "here", tmp_path / "plain"
    for folder in (here, plain): shutil.copytree(shop, folder)
    written(here, kind)
    given = home(here) | {"PATH": f"{bin_}:/usr/bin:/bin"}
    if kind == "airflow": packaged.ran([bin_ / "airflow", "db", "migrate"], here, **given)

    def run() -> str:
        return packaged.ran([bin_ / words[0], *words[1:]], here, (0, 1), trace=True, **given)

    assert good in (said := run()) and "scraped 4 of 4 stores" in said, said
    scrapeopt(plain, "scrape", "-w", "perth", "-n", "4", "--update", "--command", COMMAND)
    (stores, prices), (plain_stores, plain_prices) = answer(here), answer(plain)
    assert stores == plain_stores and len(stores) == 4
    pd.testing.assert_frame_equal(prices, plain_prices)

    (here / "tokens").mkdir()
    for token in "abcd": (here / "tokens" / token).touch()
    said = run()  # exit code 1 is tried again, with the stores that failed
    assert good in said and "scraped 0 of 4 stores" in said and "scraped 4 of 4 stores" in said, said
    assert len(answer(here)[0]) == 8

    (here / "my_scraper.py").unlink()
    said = run()  # exit code 2 is not: a person is needed
    assert bad in said and said.count("there is no file 'my_scraper.py'") == 1, said
