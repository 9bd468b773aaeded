"Work on a real Dask cluster: the results of one process, row for row, whatever dies meanwhile."
import os
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import nbs
import numpy as np
import pandas as pd
import pytest
from clusters import Cluster, can_hide, dask_cluster, kill, seen_by_workers
from drill_world import NOW, duplicate, everything, remove, template
from effort import drilled

from scrapeopt import company_update
from scrapeopt.analysis.tuning import TwinWorld
from scrapeopt.backtest import replay_each, sweep
from scrapeopt.cli import main
from scrapeopt.core import backends, bitplanes
from scrapeopt.core.backends import WorkersLost, work_on
from scrapeopt.core.errors import InputError
from scrapeopt.core.parallel import as_done, elsewhere, sent_to
from scrapeopt.overlap import overlap_by_category, overlap_matrix
from scrapeopt.storage import sent_files
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

pytestmark = pytest.mark.slow
BUSY = TwinWorld(n_stores=8, n_products=40)
SWEEP = ({"small": BUSY}, ["round_robin", "document"], [1, 2], [0, 1])


def waiting(folder: Path) -> list[str]: return sorted(p.name for p in (folder / "inbox").rglob("*") if p.is_file())


def parts(folder: Path) -> list[Path]: return list(folder.rglob("*.part"))


def twins(tmp_path: Path, server: str | None = None, policy: str = "document") -> tuple[Path, Path]:
    "Two workspaces whose next update has everything to do; the first of them is updated here."
    template(tmp_path / "here", server, policy)
    there = duplicate(tmp_path / "here", tmp_path / "there", server)
    update_db(Workspace.open(tmp_path / "here"))
    return tmp_path / "here", there


def on(cluster: Cluster, folder: Path): return work_on("dask", cluster.address, folder / "scrapeopt.toml")


def after_first_file(monkeypatch, happens) -> None:
    "Let something happen once, when the first file of an update is taken in."
    todo, real = [happens], company_update.take_in

    def take_in(*args):
        if todo: todo.pop()()
        return real(*args)
    monkeypatch.setattr(company_update, "take_in", take_in)


def same_update(cluster: Cluster, here: Path, there: Path) -> None:
    with on(cluster, there): report = update_db(Workspace.open(there))
    assert report.files == 17, report.problems
    assert everything(there) == everything(here)


def same_table(cluster: Cluster, here: Path, there: Path, name: str) -> None:
    with on(cluster, there): rows = Workspace.open(there).write_prices(there / name, now=NOW)
    assert Workspace.open(here).write_prices(here / name, now=NOW) == rows > 700
    read = pd.read_parquet if name.endswith(".parquet") else pd.read_csv
    pd.testing.assert_frame_equal(read(there / name), read(here / name))


def plain(table: pd.DataFrame) -> pd.DataFrame: return table.drop(columns="seconds")


def same_matrices(cluster: Cluster, monkeypatch) -> None:
    monkeypatch.setattr(bitplanes, "FAR", 0)
    prices = np.random.default_rng(1).integers(-1, 5, (150, 300)).astype(np.int32)
    category = np.arange(300) % 3
    one, each = overlap_matrix(prices), overlap_by_category(prices, category)
    with work_on("dask", cluster.address): far, far_each = overlap_matrix(prices), overlap_by_category(prices, category)
    for a, b in [(one, far), *((each[name], far_each[name]) for name in each)]:
        assert (a.shared == b.shared).all() and (a.equal == b.equal).all() and (a.sold == b.sold).all()


def told_by(capsys, *words: str) -> str:
    "The one sentence that a command ends with."
    with pytest.raises(SystemExit) as ended: main(words)
    said = capsys.readouterr().err.strip()
    assert ended.value.code == 2 and len(said.splitlines()) == 1 and "Traceback" not in said, said
    return said


def test_a_cluster_gives_what_one_process_gives(tmp_path, monkeypatch):
    (tmp_path / "cluster").mkdir()
    here, there = twins(tmp_path)
    table, twin = sweep(*SWEEP, n_jobs=1, days=3), BUSY(0)
    asked = twin, ["round_robin", "document"], 2, {"days": 3, "seed": 3}
    local = replay_each(*asked)
    with dask_cluster(tmp_path / "cluster") as cluster:
        same_update(cluster, here, there)
        assert not parts(there)
        for name in ("prices.parquet", "prices.csv"): same_table(cluster, here, there, name)
        same_matrices(cluster, monkeypatch)
        with work_on("dask", cluster.address): far, replays = sweep(*SWEEP, days=3), replay_each(*asked)
    pd.testing.assert_frame_equal(plain(far), plain(table))
    for a, b in zip(local, replays, strict=True):
        pd.testing.assert_frame_equal(a.daily, b.daily)
        assert a.groups.equals(b.groups) and (a.counts == b.counts).all()


def split_again(number: int) -> tuple[str, float, float]:
    "A task that would split further: its worker, and when it began and ended."
    import time

    from distributed import get_worker
    from joblib import Parallel, delayed
    began = time.time()
    Parallel(n_jobs=2)(delayed(time.sleep)(.2) for _ in range(2))
    return get_worker().address, began, time.time()


def test_a_worker_does_one_task_at_a_time_also_where_tasks_would_split(tmp_path):
    both = Path(f"{nbs.ROOT}{os.pathsep}{Path(__file__).parent}")  # workers find the package and this module
    with dask_cluster(tmp_path, home=both) as cluster, work_on("dask", cluster.address):
        done = sorted(times for _, times in as_done(split_again, [(k,) for k in range(6)]))
    for (worker, _, end), (next_worker, begin, _) in pairwise(done): assert worker != next_worker or begin >= end


@pytest.mark.parametrize("policy", ["document", drilled("delegated")])
def test_workers_that_have_no_folder_in_common_with_us_read_all_the_same(tmp_path, policy, monkeypatch):
    "To them the folder of the workspace is empty; a worker that dies has its file sent to another one."
    (tmp_path / "cluster").mkdir()
    here, there = twins(tmp_path, policy=policy)
    if not can_hide(there): pytest.skip("needs mounts of its own: run as root, with unshare")
    with dask_cluster(tmp_path / "cluster", hidden=there) as cluster, monkeypatch.context() as patch:
        assert not seen_by_workers(cluster, next((there / "inbox").rglob("*.jsonl")))
        after_first_file(patch, lambda: kill(cluster.workers[0]))
        with work_on("dask", cluster.address): report = update_db(Workspace.open(there))
    assert report.files == 17 and everything(there) == everything(here) and not parts(there)


def test_workers_that_see_the_inbox_are_told_where_a_file_lies(tmp_path, monkeypatch):
    here, there = twins(tmp_path)

    def not_here(path: Path) -> bytes: raise AssertionError(f"{path} was read to be sent")
    with dask_cluster(tmp_path) as cluster, monkeypatch.context() as patch:
        patch.setattr(sent_files, "content_of", not_here)  # in this process alone
        with work_on("dask", cluster.address): report = update_db(Workspace.open(there))
    assert report.files == 17 and everything(there) == everything(here) and not parts(there)


def test_a_file_that_a_worker_does_not_see_after_all_is_read_here(tmp_path):
    "As by one that came later than the question."
    (tmp_path / "cluster").mkdir()
    here, there = twins(tmp_path)
    if not can_hide(there): pytest.skip("needs mounts of its own: run as root, with unshare")
    with dask_cluster(tmp_path / "cluster", hidden=there) as cluster, work_on("dask", cluster.address):
        late = replace(elsewhere(), ask=lambda question, *about: [True])
        with sent_to(late): report = update_db(Workspace.open(there))
    assert report.files == 17 and everything(there) == everything(here) and not parts(there)


def test_what_dies_costs_what_it_was_doing(tmp_path, monkeypatch, capsys):
    "First a worker dies, and nobody notices; then the scheduler, and that is one sentence, and the next run goes on."
    (tmp_path / "cluster").mkdir()
    here, there = twins(tmp_path)
    again = shutil.copytree(there, tmp_path / "again")
    with dask_cluster(tmp_path / "cluster") as cluster:
        with monkeypatch.context() as patch:
            after_first_file(patch, lambda: kill(cluster.workers[0]))
            same_update(cluster, here, there)
        assert cluster.workers[0].returncode is not None and cluster.workers[1].poll() is None
        files = waiting(again)
        with monkeypatch.context() as patch:
            after_first_file(patch, lambda: kill(cluster.scheduler))
            told = told_by(capsys, "update-db", "-w", str(again), "--now", "2026-12-05", *cluster.options())
    assert "was lost in the middle of the work" in told
    assert 0 < len(waiting(again)) < len(files) and not parts(again)  # the first company was whole before it was lost
    update_db(Workspace.open(again))
    assert everything(again) == everything(here)


def other_code(folder: Path, version: str | None = None) -> Path:
    "A folder with a scrapeopt that is not quite this one."
    shutil.copytree(nbs.ROOT / "scrapeopt", folder / "scrapeopt", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "scrapeopt" / "overlap.py").open("a") as file: file.write("# another line\n")
    if version is not None:
        (folder / f"scrapeopt-{version}.dist-info").mkdir()
        (folder / f"scrapeopt-{version}.dist-info" / "METADATA").write_text(f"Name: scrapeopt\nVersion: {version}\n")
    return folder


def test_a_cluster_that_is_no_good_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(backends, "CONNECT_S", 2.0)
    ws = template(tmp_path / "ws")
    before = everything(ws.path), waiting(ws.path)
    command = "update-db", "-w", str(ws.path), "--backend", "dask"
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in told_by(capsys, *command, "--address", "tcp://127.0.0.1:9")
    assert "needs the address" in told_by(capsys, *command)
    assert "of no use without --backend" in told_by(capsys, "backtest", "--address", "tcp://127.0.0.1:9")
    assert "there are dask, ray, spark" in told_by(capsys, "tune", "--backend", "flink")
    (tmp_path / "cluster").mkdir()
    with dask_cluster(tmp_path / "cluster", workers=0) as cluster:
        assert "has no workers" in told_by(capsys, *command, "--address", cluster.address)
        for name, version, words in (("code", None, "runs other code"), ("version", "9.9", "has scrapeopt 9.9")):
            (tmp_path / name).mkdir()
            cluster.add_worker(other_code(tmp_path / name, version))
            cluster.wait()
            assert words in told_by(capsys, *command, "--address", cluster.address)
            kill(cluster.workers.pop())
        cluster.add_worker()
        cluster.wait()
        with pytest.raises(InputError, match="does not see"):
            work_on("dask", cluster.address, tmp_path / "elsewhere" / "scrapeopt.toml").__enter__()
    assert (everything(ws.path), waiting(ws.path)) == before


def test_an_update_after_a_scrape_goes_where_the_settings_say(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(backends, "CONNECT_S", 1.0)
    monkeypatch.setenv("SCRAPEOPT_BACKEND", "dask")
    monkeypatch.setenv("SCRAPEOPT_BACKEND_ADDRESS", "tcp://127.0.0.1:9")
    ws = template(tmp_path / "ws")
    before = waiting(ws.path)
    with pytest.raises(SystemExit) as ended:
        main(("scrape", "-n", "1", "-w", str(ws.path), "--retries", "0", "--update", "--command", "false {output}"))
    assert ended.value.code == 2 and "no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
    assert waiting(ws.path) == before


def test_where_no_worker_is_left_the_work_ends(tmp_path, monkeypatch):
    "What was measured until then is kept, and not measured again."
    monkeypatch.setattr(backends, "NO_WORKERS_S", 2.0)
    kept = tmp_path / "kept"

    def last_goes(rows):
        for row in rows:
            yield row
            kill(cluster.workers[0])
    lost = pytest.raises(WorkersLost)
    with dask_cluster(tmp_path, workers=1) as cluster, lost, work_on("dask", cluster.address):
        sweep(*SWEEP, days=3, cache=kept, track=last_goes)
    first = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.json")}
    assert 0 < len(first) < 8
    table = sweep(*SWEEP, days=3, cache=kept, n_jobs=1)
    assert {name: (kept / name).stat().st_mtime_ns for name in first} == first and len(list(kept.glob("*.json"))) == 8
    assert len(table) == 8 and table["score"].notna().all()


@pytest.mark.drill
@pytest.mark.parametrize("policy", ["document", "delegated"])
def test_a_cluster_on_a_server_s_state(tmp_path, postgres, policy):
    here, there = twins(tmp_path, postgres, policy)
    (tmp_path / "cluster").mkdir()
    try:
        with dask_cluster(tmp_path / "cluster", workers=3) as cluster:
            same_update(cluster, here, there)
            same_table(cluster, here, there, "prices.parquet")
    finally:
        for folder in (here, there): remove(folder, postgres)


@pytest.mark.drill
@pytest.mark.parametrize("nth", range(1, 8))
def test_a_worker_is_killed_at_any_moment(tmp_path, monkeypatch, nth):
    "While the nth row of a sweep is put down, the worker that is the oldest goes, and another one comes."
    table = sweep(*SWEEP, n_jobs=1, days=20)
    with dask_cluster(tmp_path) as cluster:
        def track(rows):
            for k, row in enumerate(rows, 1):
                if k == nth:
                    kill(cluster.workers[0])
                    cluster.add_worker()
                yield row
        with work_on("dask", cluster.address): far = sweep(*SWEEP, days=20, track=track)
    pd.testing.assert_frame_equal(plain(far), plain(table))
