"Work on Ray and on Spark, where they are installed: `pip install ray joblibspark pyspark`; Spark needs Java, too."
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from drill_world import NOW, duplicate, everything, template

from scrapeopt.core import backends
from scrapeopt.core.backends import work_on
from scrapeopt.core.errors import InputError
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

pytestmark = pytest.mark.slow
RAY = Path(sys.executable).with_name("ray")
PORT = 6398


@pytest.fixture
def ray_cluster():
    "The address of a Ray cluster of two processes."
    pytest.importorskip("ray", reason="pip install ray")
    start = "start", "--head", "--num-cpus", "2", "--include-dashboard=false", "--port", str(PORT)
    subprocess.run([RAY, *start, "--disable-usage-stats"], check=True, capture_output=True)
    yield f"127.0.0.1:{PORT}"
    subprocess.run([RAY, "stop"], check=True, capture_output=True)


def same_as_here(tmp_path: Path, backend: str, address: str) -> None:
    "An update and its table, by workers, are those of this process."
    template(tmp_path / "here")
    there = duplicate(tmp_path / "here", tmp_path / "there", None)
    update_db(Workspace.open(tmp_path / "here"))
    with work_on(backend, address):
        report = update_db(Workspace.open(there))
        assert report.files == 17, report.problems
        assert Workspace.open(there).write_prices(there / "far.csv", now=NOW) > 700
    assert everything(there) == everything(tmp_path / "here")
    Workspace.open(tmp_path / "here").write_prices(there / "near.csv", now=NOW)
    assert (there / "far.csv").read_bytes() == (there / "near.csv").read_bytes()


def test_ray_gives_what_one_process_gives(tmp_path, ray_cluster): same_as_here(tmp_path, "ray", ray_cluster)


def test_spark_gives_what_one_process_gives(tmp_path):
    pytest.importorskip("joblibspark", reason="pip install joblibspark pyspark")
    if not shutil.which("java"): pytest.skip("Spark needs Java")
    same_as_here(tmp_path, "spark", "local[2]")


@pytest.mark.parametrize(("backend", "module", "address"), [
    ("ray", "ray", "127.0.0.1:9"), ("spark", "joblibspark", "spark://127.0.0.1:9")])
def test_nobody_there_is_one_sentence_at_once(backend, module, address, monkeypatch):
    pytest.importorskip(module)
    monkeypatch.setattr(backends, "CONNECT_S", 1.0)
    with pytest.raises(InputError, match=f"no .* answers at {address}.*mend --address"):
        work_on(backend, address).__enter__()
