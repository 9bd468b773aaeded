"What a queue asks of disk and database does not grow with the company; seconds are a benchmark's business."
import re
from contextlib import contextmanager

import pandas as pd
import pytest
from sqlalchemy import event

from scrapeopt.grouping.events import StoreLeft
from scrapeopt.grouping.evidence_context import EvidenceContext
from scrapeopt.scheduler import ScrapeScheduler
from scrapeopt.storage import latest_snapshots, lost_snapshots, repository, snapshots
from scrapeopt.storage.doctor import examine
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

large = pytest.importorskip("benchmarks.large_state", reason="benchmarks/ is not part of the installed package")
NOW = pd.Timestamp("2026-11-26 12:00", tz="UTC")  # a Thursday, a week after all stores were scraped
SMALL, WIDE = large.LargeState(60, 4, 30), large.LargeState(240, 16, 30)
POLICIES = ("document", "delegated")


@contextmanager
def asked_of(workspace):
    "The statements that a workspace sends to its database while the block runs."
    found = list[str]()

    def note(_connection, _cursor, statement, *_): found.append(statement)

    event.listen(workspace.engine, "before_cursor_execute", note)
    try: yield found
    finally: event.remove(workspace.engine, "before_cursor_execute", note)


@pytest.fixture
def looked_at(monkeypatch):
    "The files whose ends are looked at; a snapshot that is read for its prices fails the test."
    found, look = [], lost_snapshots.file_damage

    def note(path):
        found.append(path)
        return look(path)

    def refuse(*_): raise AssertionError("a queue read prices")

    monkeypatch.setattr(lost_snapshots, "file_damage", note)
    monkeypatch.setattr(snapshots, "read_place", refuse)
    monkeypatch.setattr(latest_snapshots, "open_newest", refuse)
    monkeypatch.setattr(lost_snapshots, "LOOKED_AT", 20)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_a_queue_asks_the_same_of_a_company_four_times_as_large(policy, tmp_path, looked_at):
    asked, looks = [], []
    for of in (SMALL, WIDE):
        workspace = large.make_large(tmp_path / str(of.stores), of, policy)
        with asked_of(workspace) as statements: tasks = workspace.queue(10, now=NOW)
        assert len(tasks) == 10
        asked.append(len(statements))
        looks.append(len(looked_at))
        looked_at.clear()
    assert asked[0] == asked[1]
    assert looks == [20, 20]  # LOOKED_AT of them, whatever there is


@pytest.mark.parametrize("policy", POLICIES)
def test_stores_are_read_once_for_all_companies(policy, tmp_path):
    of = large.LargeState(40, 2, 30, companies=3)
    workspace = large.make_large(tmp_path, of, policy)
    with asked_of(workspace) as statements: tasks = workspace.queue(30, now=NOW)
    assert {task.company for task in tasks} == {of.company(k) for k in range(3)}
    assert sum("store.address" in s for s in statements) == 3  # once a company
    assert not any("company_1" in s for s in statements)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_no_company_is_asked_for_all_that_can_be_paid(policy, tmp_path, monkeypatch):
    of = large.LargeState(80, 4, 30, companies=4)
    workspace, asked, offers = large.make_large(tmp_path, of, policy), [], ScrapeScheduler.offers

    def note(self, n, mode="auto"):
        asked.append(n)
        return offers(self, n, mode)

    monkeypatch.setattr(ScrapeScheduler, "offers", note)
    tasks = workspace.queue(40, now=NOW)
    assert len(tasks) == 40
    assert asked == [20] * 4  # companies alike: twice the even share was enough


def test_a_lost_snapshot_is_found_within_a_round_of_days(tmp_path, monkeypatch):
    monkeypatch.setattr(lost_snapshots, "LOOKED_AT", 20)
    workspace = large.make_large(tmp_path, SMALL, "delegated")
    file = next((tmp_path / "prices").rglob("store=S00017/*.parquet"))
    file.unlink()
    first = [workspace.queue(60, now=NOW + pd.Timedelta(days=k))[0] for k in range(3)]
    assert [task.store_id == "S00017" for task in first].count(True) == 1
    assert any("S00017" in found.words() for found in examine(workspace, now=NOW))  # the doctor looks at all


def test_an_update_writes_the_links_that_changed(tmp_path):
    asked = []
    for of in (SMALL, WIDE):
        workspace = large.make_large(tmp_path / str(of.stores), of, "document")
        with workspace.begin() as session:
            company = workspace.company(session, of.company(0))
            before = repository.read_groups(session, company)
            group = next(iter(before.groups.values()))
            leaver = max(group.members)
            out = StoreLeft(company=company.name, at=large.SECOND, group=group.name, store=leaver, why="a test")
            with asked_of(workspace) as statements: after = repository.save_events(session, company, before, [out])
            assert repository.read_groups(session, company) == after
        links = [s for s in statements if re.match(r"(INSERT|DELETE).*store_group_(membership|candidate)", s)]
        asked.append((len(statements), len(links)))
    assert asked[0] == asked[1]
    assert asked[0][1] == 1


def test_a_scrape_is_judged_without_asking_every_store_when_it_was_seen(tmp_path, monkeypatch):
    "Every scrape is held against all groups, and a group whose members have not changed knows who was seen of it."
    asked, fresh = [], EvidenceContext.is_fresh

    def note(self, day):
        asked[-1] += 1
        return fresh(self, day)

    monkeypatch.setattr(EvidenceContext, "is_fresh", note)
    for of in (SMALL, WIDE):
        workspace = large.make_large(tmp_path / str(of.stores), of, "delegated")
        large.scrape_some(workspace, of, of.stores // 5)
        asked.append(0)
        update_db(workspace, now=NOW)
    assert asked[1] < 4 * asked[0] * 2, asked  # four times as many stores, scrapes and groups


def test_what_is_written_is_what_an_update_could_have_left(tmp_path):
    workspace = large.make_large(tmp_path, large.LargeState(60, 4, 30, companies=2), "delegated")
    assert examine(Workspace.open(tmp_path), now=NOW) == []
    large.scrape_some(workspace, large.LargeState(60, 4, 30, companies=2), 8)
    report = update_db(workspace, now=NOW)
    assert (report.files, report.problems) == (8, ())
