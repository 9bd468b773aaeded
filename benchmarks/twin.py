"What the twin costs: a scrape, a day of the truth of a whole chain, and the scraper's process beside NumPy's import."
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from time import process_time

import pandas as pd

from scrapeopt.twin import Twin, archetype_twin, save_twins

RUNS = 7  # the fastest counts, as whatever else runs only adds
SCRAPE_MS, TRUTH_MS = 5.0, 60.0  # targets, milliseconds of processor time
START_RATIO = 1.5  # target: processor time of `python -m scrapeopt.twin` over that of `import numpy`


def fastest(work: Callable[[], object]) -> float:
    "Milliseconds of processor time, the least of `RUNS`."
    def once() -> float:
        start = process_time()
        work()
        return 1000 * (process_time() - start)
    return min(once() for _ in range(RUNS))


def process(*words: str) -> float:
    "Milliseconds of processor time of a Python process, the least of `RUNS`."
    def used() -> float: return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])

    def once() -> float:
        before = used()
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        return 1000 * (used() - before)
    return min(once() for _ in range(RUNS))


def twin_figures() -> pd.DataFrame:  # index: what; columns figure, target, unit
    "Each figure beside its target."
    perth, chain = Twin(), archetype_twin("state_zones", n_stores=300)
    perth.scrape("W001")  # lines and zones are drawn once
    chain.truth()
    with tempfile.TemporaryDirectory() as folder:
        save_twins(folder, perth)
        scraper = process("-m", "scrapeopt.twin", folder, "Woolworths", "W001", "-", "--at", "20261123T020000Z")
    rows = {"a scrape of 2,000 products": (fastest(lambda: perth.scrape("W001")), SCRAPE_MS, "ms"),
            "a day of the truth, 300 stores": (fastest(chain.truth), TRUTH_MS, "ms"),
            "the scraper's process": (scraper / process("-c", "import numpy"), START_RATIO, "x import numpy")}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["figure", "target", "unit"])


if __name__ == "__main__": print(twin_figures().round(2).to_string())
