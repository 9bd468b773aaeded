import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    "The folder of public data sets that some tests try the package on; they are not part of the project."
    folder = Path(os.environ.get("SCRAPEOPT_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no public data sets: put them in ../shared/data or name their folder in SCRAPEOPT_SHARED_DATA")
    return folder
