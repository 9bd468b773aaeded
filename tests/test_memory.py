"Memory stays flat as a company grows: what is held grows by the bytes that a price takes, and by no tables beside it."
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scrapeopt import overlap
from scrapeopt.core.bitplanes import pair_counts_plain
from scrapeopt.grouping import belief_state
from scrapeopt.storage import price_query

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


def test_counts_by_blocks_of_products_are_those_of_all(monkeypatch):
    monkeypatch.setattr(overlap, "PACKED_CELLS", 20_000)
    prices = np.random.default_rng(0).integers(-1, 6, (30, 5_000)).astype(np.int32)
    names, at = np.arange(5_000).astype(str), np.zeros(30, "datetime64[ns]")
    matrix = overlap.PriceMatrix(names[:30], at, prices, names, np.full(5_000, ""))
    (shared, equal), found = pair_counts_plain(prices), overlap.overlap_matrix(prices)
    assert len(matrix.planes) > 1
    assert (found.shared == shared).all() and (found.equal == equal).all()
    for others in (np.arange(30), np.array([3, 9])):  # itself among them
        counts = matrix.counts(3, others)
        assert (counts[0] == shared[3, others]).all() and (counts[1] == equal[3, others]).all()
        assert (matrix.shared(3, others) == shared[3, others]).all()


def test_prices_by_small_blocks_are_those_of_large_ones(tmp_path, monkeypatch):
    workspace = big.make_workspace(tmp_path / "small", big.BigChain(9, 60, zones=2), "document")
    now = pd.Timestamp("2026-11-26 12:00", tz="UTC")
    whole = workspace.prices(now=now)
    for module, name, cells in ((price_query, "CHUNK_CELLS", 240), (price_query, "PART_CELLS", 120),
                                (belief_state, "FUSED_CELLS", 60), (price_query, "BATCH_ROWS", 100)):
        monkeypatch.setattr(module, name, cells)
        pd.testing.assert_frame_equal(workspace.prices(now=now), whole)


@pytest.mark.slow
@pytest.mark.parametrize("policy, suffix", [("document", ".parquet"), *(
    pytest.param("delegated", suffix, marks=pytest.mark.drill) for suffix in (".parquet", ".csv"))])
def test_memory_grows_by_what_is_held_and_no_more(tmp_path, policy, suffix):
    small, large = (peaks(tmp_path, policy, stores, 12_000, suffix) for stores in (40, 120))
    for work, peak in large.items():
        assert peak - small[work] < 80 * 12_000 * HELD_BYTES / 1e6 + WORK_MB, (work, small, large)


@pytest.mark.drill
@pytest.mark.parametrize("stores, products", [(800, 26_042), (200, 104_166)])
@pytest.mark.parametrize("policy", ["document", "delegated"])
def test_twenty_million_rows_fit_into_a_gigabyte(tmp_path, policy, stores, products):
    found = peaks(tmp_path, policy, stores, products, ".parquet")
    assert max(found.values()) < PEAK_MB, found
