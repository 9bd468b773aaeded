"Memory stays flat as a company grows: what is held grows by the bytes that a price takes, and by no tables beside it."
import subprocess
import sys
from pathlib import Path

import pytest

big = pytest.importorskip("benchmarks.big", reason="benchmarks/ is not part of the installed package")

HELD_BYTES = 24  # bytes a price that may be held at once: it is kept as five, and before and after an update
WORK_MB = 120  # of blocks, which are as large for a small company as for a large one, and of noise
PEAK_MB = 1_000  # at twenty million rows

UPDATE = "from scrapeopt.update import update_db; update_db(workspace, now=now)"
WRITE = "workspace.write_prices(out, now=now)"
CHILD = """
import sys, pandas as pd
from scrapeopt.workspace import Workspace
workspace, out, now = Workspace.open(sys.argv[1]), sys.argv[2], pd.Timestamp("2026-11-26 12:00", tz="UTC")
{work}
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to read a peak from")


def peak_mb(work: str, folder: Path, out: Path) -> float:
    "The most memory that a process of its own had while it did some work on a workspace."
    words = [sys.executable, "-c", CHILD.format(work=work), str(folder), str(out)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1]) / 1024


def peaks(tmp_path: Path, policy: str, stores: int, products: int, suffix: str) -> dict[str, float]:
    "The peaks of forming all groups at once, and of writing all prices."
    folder = tmp_path / f"{policy}-{stores}"
    big.make_workspace(folder, big.BigChain(stores, products, zones=4), policy)
    return {"update": peak_mb(UPDATE, folder, tmp_path), "prices": peak_mb(WRITE, folder, tmp_path / f"all{suffix}")}


@pytest.mark.slow
@pytest.mark.parametrize("policy, suffix", [("document", ".parquet"), ("delegated", ".parquet"), ("delegated", ".csv")])
def test_memory_grows_by_what_is_held_and_no_more(tmp_path, policy, suffix):
    small, large = (peaks(tmp_path, policy, stores, 12_000, suffix) for stores in (40, 200))
    for work, peak in large.items():
        assert peak - small[work] < 160 * 12_000 * HELD_BYTES / 1e6 + WORK_MB, (work, small, large)


@pytest.mark.drill
@pytest.mark.parametrize("stores, products", [(800, 26_042), (200, 104_166)])
@pytest.mark.parametrize("policy", ["document", "delegated"])
def test_twenty_million_rows_fit_into_a_gigabyte(tmp_path, policy, stores, products):
    found = peaks(tmp_path, policy, stores, products, ".parquet")
    assert max(found.values()) < PEAK_MB, found
