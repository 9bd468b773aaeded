"Several companies at once, each on a worker of a real Dask cluster, with the state on a real server."
import gzip
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import meeting_policy
import nbs
import pandas as pd
import pytest
from clusters import Cluster, can_hide, dask_cluster
from drill_world import NOW, duplicate, everything, make_database, remove, state_url
from small_chain import PRODUCTS, THURSDAY, land, lines, shelf
from sqlalchemy import text

from scrapeopt import side_by_side
from scrapeopt.company_update import UpdateReport
from scrapeopt.core.backends import work_on
from scrapeopt.core.errors import InputError
from scrapeopt.core.parallel import Elsewhere, elsewhere, sent_to
from scrapeopt.outlooks import renew_outlooks
from scrapeopt.reanalysis import reanalyse
from scrapeopt.storage.home import at_work, hold_number, is_held, lock_company
from scrapeopt.storage.ingest import find_files
from scrapeopt.storage.overview import read_outlook
from scrapeopt.storage.sent_files import in_place
from scrapeopt.storage.settings_file import change_settings
from scrapeopt.storage.token_store import hold_bucket, load_bucket, pay_scrapes
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

NAMES = ["Aldi", "Coles", "Fruit & Co.", "IGA", "Woolworths"]
STORES = {"1": 0, "2": 0, "3": 0, "4": 1, "5": 1}  # with their zones
WEEK = pd.Timedelta(days=7)
REFUSED = {"Aldi": 1, "IGA": 1}  # files of `land_trouble` that are put into quarantine: the conflict, the torn archive


def scrape(ws: Workspace, week: int) -> None:
    "Land a file of each store; prices differ between companies."
    for k, company in enumerate(NAMES):
        for i, (store, zone) in enumerate(STORES.items()):
            at = THURSDAY + week * WEEK + i * pd.Timedelta(minutes=10)
            land(ws, company, store, at, lines(shelf(company, store, week + 10 * k, zone)))


def land_trouble(ws: Workspace) -> None:
    "A torn archive, bad lines, a conflict, and a store that changed its zone."
    torn = land(ws, "IGA", "1", THURSDAY + WEEK + pd.Timedelta(hours=3), lines(shelf("IGA", "1", 1, 0)))
    torn.with_name(torn.name + ".gz").write_bytes(gzip.compress(torn.read_bytes())[:-9])
    torn.unlink()
    land(ws, "Coles", "2", THURSDAY + WEEK + pd.Timedelta(hours=3), [*lines(shelf("Coles", "2", 11, 0)), "broken"])
    land(ws, "Aldi", "1", THURSDAY, lines(shelf("Aldi", "1", 0, 0) + 5))
    land(ws, "Aldi", "3", THURSDAY + WEEK + pd.Timedelta(hours=4), lines(shelf("Aldi", "3", 1, 1), PRODUCTS[:9]))


def chain(folder: Path, server: str | None, policy: str = "document") -> Workspace:
    "Five companies with one budget; all stores were scraped once, and again, which waits to be taken in."
    table = [(c, s, f"Store {s}", -31.95 + i / 100, 115.85) for c in NAMES for i, s in enumerate(STORES)]
    if server: make_database(folder, server)
    ws = Workspace.create(folder, state_url(folder, server), policy)
    change_settings(folder / "scrapeopt.toml", {"budget": 40, "save_days": 3, "min_samples": 2}).save()
    ws = Workspace.open(folder)
    ws.import_stores(pd.DataFrame(table, columns=["company", "store_id", "name", "lat", "lon"]))
    ws.cluster()
    scrape(ws, 0)
    assert update_db(ws, now=NOW).files == len(table)
    scrape(ws, 1)
    if "IGA" in NAMES: land_trouble(ws)
    ws.engine.dispose()
    return ws


@pytest.fixture
def two(tmp_path, postgres):
    "Two workspaces alike, on a server; the first is to be updated in one process."
    here = chain(tmp_path / "here", postgres).path
    there = duplicate(here, tmp_path / "there", postgres)
    yield here, there
    for folder in (here, there): remove(folder, postgres)


@pytest.fixture
def place(tmp_path) -> Path:
    (tmp_path / "cluster").mkdir()
    return tmp_path / "cluster"


BOTH = Path(f"{nbs.ROOT}{os.pathsep}{Path(__file__).parent}")  # workers find the package and these modules


def on_each(cluster: Cluster, trap: Callable, *args: object) -> None:
    "Set a trap on each worker."
    from distributed import Client
    with Client(cluster.address, set_as_default=False) as client: client.run(trap, *args)


def log_of(task: Callable) -> tuple[object, list[logging.LogRecord]]:
    "What a task gives, and what scrapeopt logs meanwhile."
    class Kept(logging.Handler):
        def emit(self, record): records.append(record)
    records, handler, log = list[logging.LogRecord](), Kept(), logging.getLogger("scrapeopt")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    return task(), records


def events(records: list[logging.LogRecord], event: str) -> list[dict]:
    return [r.facts for r in records if getattr(r, "event", "") == event]


def apart(cluster: Cluster, folder: Path) -> tuple[UpdateReport, list[logging.LogRecord]]:
    "An update by the workers of a cluster, and its log."
    def run():
        with work_on("dask", cluster.address): return update_db(Workspace.open(folder), now=NOW + WEEK)
    return log_of(run)


def tokens(folder: Path) -> float:
    ws = Workspace.open(folder)
    with ws.read() as session: return load_bucket(session, ws.settings, 0).tokens


@pytest.mark.slow
def test_state_and_report_are_those_of_one_process(two, place):
    here, there = two
    before = tokens(there)
    expected = update_db(Workspace.open(here), now=NOW + WEEK)
    with dask_cluster(place) as cluster: report, log = apart(cluster, there)
    assert events(log, "companies sent to workers") == [{"companies": 5}] and not events(log, "companies stay here")
    assert report == expected and report.files == 27 and report.quarantined == 3 and len(report.problems) == 4
    assert everything(there) == everything(here) and tokens(there) == tokens(here) != before
    taken = [(f["company"], f["store"]) for f in events(log, "file taken")]
    assert len(taken) == 27 and {r.process for r in log if r.event == "file taken"}.isdisjoint({os.getpid()})
    assert len(events(log, "group event")) == len(report.events) > 0


@pytest.mark.slow
def test_two_companies_are_in_their_transactions_at_once(two, place, tmp_path, monkeypatch):
    "Each waits for another one in its transaction: one after the other, nobody would come."
    here, there = two
    update_db(Workspace.open(here), now=NOW + WEEK)
    (tmp_path / "meeting").mkdir()
    monkeypatch.setenv("SCRAPEOPT_TEST_MEETING", str(tmp_path / "meeting"))
    monkeypatch.setenv("SCRAPEOPT_POLICY", "meeting_policy:meeting")
    with dask_cluster(place, home=BOTH) as cluster: report, log = apart(cluster, there)
    assert not [p for p in report.problems if "nobody else came" in p] and report.files == 27, report.problems
    assert events(log, "companies sent to workers")
    monkeypatch.delenv("SCRAPEOPT_POLICY")
    assert everything(there) == everything(here)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "nth", "told"), [
    ("take_in", 2, 27),  # half of the files of a company have their snapshots
    ("pay_for", 1, 27),  # all is written, and not committed
    ("clear_file", 3, None)])  # it is committed, and half of the files are in the archive
def test_a_worker_that_is_killed_costs_its_task_only(two, place, tmp_path, name, nth, told):
    here, there = two
    expected = update_db(Workspace.open(here), now=NOW + WEEK)
    with dask_cluster(place, home=BOTH) as cluster:
        on_each(cluster, meeting_policy.die_before, name, nth, str(tmp_path / "mark"))
        report, log = apart(cluster, there)
        assert sum(worker.poll() is not None for worker in cluster.workers) == 1
    assert everything(there) == everything(here)
    if told is not None: assert report == expected
    else:  # what the dead worker had committed it tells nobody; nothing of it is told as an error
        assert 20 <= report.files < 27 and set(report.problems) <= set(expected.problems)
        (gone,) = events(log, "files gone")
        assert gone["files"] == nth - 1 + REFUSED.get(gone["company"], 0)


@pytest.mark.slow
def test_a_company_that_fails_costs_the_others_nothing(two, place):
    here, there = two
    expected = update_db(Workspace.open(here), now=NOW + WEEK)
    with dask_cluster(place, home=BOTH) as cluster:
        on_each(cluster, meeting_policy.fail_for, "judge_new", "Coles")
        report, _ = apart(cluster, there)
    assert {*report.problems} - {*expected.problems} == {"Coles: unexpected: KeyError: '0047'; please report it"}
    left = {p.parts[-3] for p in (there / "inbox").rglob("*.jsonl")}
    assert left == {"Coles"} and report.files == 27 - 6
    assert update_db(Workspace.open(there), now=NOW + WEEK).files == 6
    assert everything(there) == everything(here)


@pytest.mark.slow
def test_workers_without_the_folder_read_files_and_no_more(two, place):
    here, there = two
    if not can_hide(there): pytest.skip("needs mounts of its own: run as root, with unshare")
    expected = update_db(Workspace.open(here), now=NOW + WEEK)
    with dask_cluster(place, hidden=there) as cluster: report, log = apart(cluster, there)
    assert "does not see" in events(log, "companies stay here")[0]["why"]
    assert report == expected and everything(there) == everything(here)


@pytest.mark.slow
def test_a_worker_that_comes_later_without_the_folder_touches_nothing(two, place, monkeypatch):
    "Nobody noticed when the workers were asked: the company is updated here all the same."
    here, there = two
    if not can_hide(there): pytest.skip("needs mounts of its own: run as root, with unshare")
    expected = update_db(Workspace.open(here), now=NOW + WEEK)
    monkeypatch.setattr(side_by_side, "why_they_stay", lambda *_: "")
    with dask_cluster(place, hidden=there) as cluster: report, _ = apart(cluster, there)
    assert report == expected and everything(there) == everything(here)


def two_processes() -> Elsewhere: return Elsewhere("loky", 2)


@pytest.mark.slow
def test_where_the_state_is_a_file_companies_go_one_after_the_other(tmp_path):
    ws = chain(tmp_path / "ws", None)
    def run():
        with sent_to(two_processes()): return update_db(Workspace.open(ws.path), now=NOW + WEEK)
    report, log = log_of(run)
    assert report.files == 27 and "one writer" in events(log, "companies stay here")[0]["why"]
    assert {r.process for r in log if r.event == "file taken"} == {os.getpid()}


@pytest.mark.slow
def test_a_company_that_somebody_else_updates_is_left_alone(two, monkeypatch):
    "A worker has outlived the run that sent it."
    here, there = two
    update_db(Workspace.open(here), now=NOW + WEEK)
    ws, other = Workspace.open(there), Workspace.open(there)
    hurried = Workspace(ws.path, ws.settings.model_copy(update={"lock_wait_s": 0.3}), ws.engine)
    with lock_company(other.engine, "IGA", 0): report = update_db(hurried, now=NOW + WEEK)
    assert [p for p in report.problems if "IGA" in p] == [
        "IGA: a worker of an earlier run is still updating it; gave up after 0.3 s, try again later"]
    assert update_db(ws, now=NOW + WEEK).files == 5
    assert everything(there) == everything(here)


@pytest.mark.slow
@pytest.mark.parametrize("change", [update_db, reanalyse, Workspace.cluster])
def test_nobody_changes_a_workspace_while_a_worker_is_still_at_work(two, change):
    "The run that sent it was killed, and with it the lock of the workspace went."
    _, there = two
    ws, before = Workspace.open(there), everything(there)
    hurried = Workspace(ws.path, ws.settings.model_copy(update={"lock_wait_s": 0.3}), ws.engine)
    told = "a worker of an earlier run is still updating a company; gave up after 0.3 s"
    with at_work(ws.engine, 0), at_work(ws.engine, 0), pytest.raises(InputError, match=told): change(hurried)
    assert everything(there) == before
    change(hurried)


@pytest.mark.slow
def test_a_task_whose_sender_is_gone_does_nothing(two):
    _, there = two
    ws, files = Workspace.open(there), list((there / "inbox").rglob("*.jsonl"))
    with hold_number(ws.engine) as number:
        errand = side_by_side.Errand(there, side_by_side.open_settings(ws.settings), number, NOW + WEEK, logging.INFO)
        assert is_held(ws.engine, number) and side_by_side.cannot_update(errand, in_place(files[0])) == ""
        assert not is_held(ws.engine, number + 1)
    assert "whoever has sent it is gone" in side_by_side.cannot_update(errand, in_place(files[0]))
    found, _ = find_files(there, ws.stores(), None)
    done = side_by_side.update_there(errand, "IGA", [f for f in found if f.company == "IGA"])
    assert done.report is None and [r.event for r in done.lines] == ["company left"]
    assert sorted((there / "inbox").rglob("*.jsonl")) == sorted(files)


@pytest.mark.slow
def test_outlooks_by_workers_are_those_of_one_process(tmp_path, place, monkeypatch):
    "Also where the state is a file."
    monkeypatch.setattr(f"{__name__}.NAMES", ["Aldi", "Coles"])
    here = chain(tmp_path / "here", None, "delegated")
    there = duplicate(here.path, tmp_path / "there", None)
    assert renew_outlooks(here).problems == ()
    with dask_cluster(place) as cluster, work_on("dask", cluster.address):
        assert elsewhere().ask(os.getpid) != [os.getpid()] * 2
        assert renew_outlooks(Workspace.open(there)).problems == ()
    outlooks = []
    for folder in (here.path, there):
        ws = Workspace.open(folder)
        with ws.read() as session: outlooks.append([read_outlook(session, ws.company(session, c)) for c in NAMES])
    assert outlooks[0] == outlooks[1] and None not in outlooks[0]


def pay(ws: Workspace, day: int) -> None:
    with ws.begin() as session:
        hold_bucket(session)
        pay_scrapes(session, ws.settings, 2, day)


@pytest.mark.slow
def test_two_transactions_that_pay_at_once_both_pay(two):
    "The second waits for the first to end, and only then looks what is left."
    _, there = two
    ws, before, day = Workspace.open(there), tokens(there), 10**6
    with ThreadPoolExecutor() as pool:
        with ws.begin() as session:
            hold_bucket(session)
            pay_scrapes(session, ws.settings, 3, day)
            session.flush()
            other = pool.submit(pay, Workspace.open(there), day)
            for _ in range(200):
                with ws.engine.connect() as c: waits = c.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))
                if waits or other.done(): break
                time.sleep(0.1)
        other.result()
    assert waits == 1 and before > 0
    with ws.read() as session: assert load_bucket(session, ws.settings, day).tokens == 160 - 5
