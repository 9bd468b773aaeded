"""Policies in production: a small twin, run through the real update and queue for a few weeks under either of them."""
import numpy as np
import pandas as pd
import pytest

from scrapeopt.analysis import reanalyse
from scrapeopt.clustering import InputError
from scrapeopt.overview import status
from scrapeopt.reanalysis import Reanalysed
from scrapeopt.state import InferenceAudit, Store
from scrapeopt.twin import ARCHETYPES, Twin, perth_stores, scrape_lines
from scrapeopt.update import UpdateReport, update_db
from scrapeopt.workspace import Workspace

W, DAYS, PER_DAY = "Woolworths", 17, 2
START = pd.Timestamp("2026-11-03 03:00", tz="UTC")  # a Tuesday, 11:00 in Perth


def open_workspace(path, policy: str | None) -> Workspace:
    "A workspace with twelve stores; Perth changes its prices on Wednesdays, but nobody says so."
    ws = Workspace.create(path)
    text = (path / "scrapeopt.toml").read_text() + f'\n[companies.{W}]\ntimezone = "Australia/Perth"\n'
    if policy: text = text.replace('# policy = "document"', f'policy = "{policy}"')
    (path / "scrapeopt.toml").write_text(text)
    ws = Workspace.open(path)
    ws.import_stores(twin().stores.reset_index(names="store_id"))
    ws.cluster(min_samples=2, eps_km=60)
    return ws


def twin() -> Twin: return Twin(perth_stores(W, 12), n_products=200, start=START, model=ARCHETYPES["dominicks"])


def land(ws: Workspace, world: Twin, store: str) -> None:
    "Scrape a store into the inbox."
    path = ws.inbox(W, store) / f"{world.now:%Y%m%dT%H%M%SZ}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(scrape_lines(world.chain, world.sites[store], world.now)) + "\n")


def live(ws: Workspace, days: int = DAYS) -> tuple[list[list], float]:
    "Scrape all stores, then the queue of every day; the queues, and the share of served prices that are right."
    world, queues = twin(), []
    for store in world.stores.index: land(ws, world, store)
    update_db(ws)
    for _ in range(days):
        world.advance(pd.Timedelta("1D"))
        queues.append(ws.queue(PER_DAY, now=world.now))
        for task in queues[-1]: land(ws, world, task.store_id)
        update_db(ws)
    served = ws.prices(now=world.now).set_index(["store_id", "product_id"])["price"].astype(float)
    shops = pd.MultiIndex.from_product([world.stores.index, world.products.index])
    true = pd.Series(world.truth().ravel(), shops)
    true = true[true >= 0]
    return queues, float(((served * 100).round().reindex(true.index) == true).mean())


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    "Both policies after the same weeks."
    made = {}
    for policy in ("document", "delegated"):
        ws = open_workspace(tmp_path_factory.mktemp(policy) / "ws", policy)
        made[policy] = ws, *live(ws)
    return made


def test_R13_groups_are_formed_and_the_queue_goes_by_worth(lived):
    ws, queues, right = lived["delegated"]
    reasons = {task.reason for queue in queues for task in queue}
    assert "refresh" in reasons and reasons <= {"refresh", "health_check", "tie_breaker", "outlier"}
    assert all(len(q) == len({t.store_id for t in q}) <= PER_DAY for q in queues)
    assert ws.groups(W).active() and ws.groups(W).formed
    assert {"GroupFounded", "ChangesSeen", "ClusterFormed"} <= set(ws.events(W).kind)
    assert right > 0.8


def test_R13_the_changeover_is_learned_and_the_scheduler_goes_by_it(lived):
    ws, *_ = lived["delegated"]
    assert ws.scheduler(W).situation.week.evidence > 0


def test_the_state_is_what_its_events_tell(lived):
    from scrapeopt.groups import GroupState, event_from_record
    from scrapeopt.state import GroupEvent
    for ws, *_ in lived.values():
        with ws.begin() as session: log = [event_from_record(e.kind, e.record) for e in session.query(GroupEvent)]
        told, kept = GroupState(W).replay(log), ws.groups(W)
        assert (told.groups, told.formed, told.threshold) == (kept.groups, kept.formed, kept.threshold)


def test_document_is_the_default(lived, tmp_path):
    ws, queues, _ = lived["document"]
    plain = open_workspace(tmp_path / "ws", None)
    assert (plain.settings.policy, live(plain, 8)[0]) == ("document", queues[:8])
    kinds = set(ws.events(W).kind)
    assert "MonolithSeeded" in kinds and not kinds & {"ChangesSeen", "GroupsMerged"}
    assert {t.reason for q in queues for t in q} <= {"tie_breaker", "outlier", "health_check"}


def test_one_option_overrides_the_setting(lived):
    ws, *_ = lived["document"]
    now = START + pd.Timedelta(days=DAYS + 7)
    assert {t.reason for t in ws.queue(12, now=now, policy="delegated")} & {"refresh"}
    with pytest.raises(InputError, match="use one of document, delegated"): ws.queue(1, policy="greedy")


@pytest.mark.parametrize("policy", ["document", "delegated"])
def test_R9_the_same_files_twice_are_a_no_op(lived, policy):
    ws, *_ = lived[policy]
    before = ws.groups(W), ws.events().words.tolist(), ws.audits(W)
    for path in (ws.path / "archive").rglob("*.jsonl"):
        (ws.path / "inbox" / path.relative_to(ws.path / "archive")).write_bytes(path.read_bytes())
    assert update_db(ws) == UpdateReport()
    assert (ws.groups(W), ws.events().words.tolist()) == before[:2]
    pd.testing.assert_frame_equal(ws.audits(W), before[2])


def test_R9_days_that_come_at_once_are_judged_one_by_one(tmp_path):
    together, apart = (open_workspace(tmp_path / name, "delegated") for name in ("a", "b"))
    world = twin()
    for day in range(3):
        for store in world.stores.index[day:: 2]:
            for ws in (together, apart): land(ws, world, store)
        update_db(apart)
        if day == 0: update_db(together)
        world.advance(pd.Timedelta("1D"))
    update_db(together)
    assert together.groups(W).groups == apart.groups(W).groups
    assert together.events().words.tolist() == apart.events().words.tolist()


def test_R9_a_crash_in_the_rules_changes_nothing(tmp_path, monkeypatch):
    crashed, whole = (open_workspace(tmp_path / name, "delegated") for name in ("a", "b"))
    world = twin()
    for _ in range(2):
        for ws in (crashed, whole):
            for store in world.stores.index: land(ws, world, store)
        with monkeypatch.context() as patched:
            patched.setattr("scrapeopt.update.save_events", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError): update_db(crashed)
        for ws in (crashed, whole): update_db(ws)
        world.advance(pd.Timedelta("1D"))
    assert crashed.groups(W) == whole.groups(W) and crashed.events().equals(whole.events())
    pd.testing.assert_frame_equal(crashed.audits(W), whole.audits(W))


@pytest.mark.parametrize("policy", ["document", "delegated"])
def test_R10_every_scrape_audits_what_was_inferred(lived, policy):
    ws, *_ = lived[policy]
    audits = ws.audits(W)
    assert len(audits) and (audits.right <= audits.prices).all() and audits.confidence.between(0, 1).all()
    assert not audits.duplicated(["store_id", "at", "group"]).any()
    row = status(ws).iloc[0]
    assert row.audited == audits.prices.sum() and row.right == pytest.approx(audits.right.sum() / row.audited)


def test_R10_an_audit_is_what_was_served_against_what_came(tmp_path):
    ws, world = open_workspace(tmp_path / "ws", "delegated"), twin()
    for store in world.stores.index: land(ws, world, store)
    update_db(ws)
    world.advance(pd.Timedelta("1D"))
    group = max(ws.groups(W).active(), key=lambda g: len(g.members))
    first, second, *_ = sorted(group.members)
    land(ws, world, first)
    update_db(ws)
    world.advance(pd.Timedelta("6h"))
    claimed = ws.prices(W, second, now=world.now)
    claimed = claimed[claimed.source == "inferred_group"]
    land(ws, world, second)
    update_db(ws)
    shown = dict(zip(world.products.index, world.scrape(second), strict=True))
    cents = np.array([shown[p] for p in claimed.product_id])
    right = (cents == (claimed.price.astype(float) * 100).round().to_numpy()) & (cents >= 0)
    audit = ws.audits(W).iloc[-1]
    assert (audit.store_id, audit.group) == (second, group.name)
    assert (audit.prices, audit.right) == ((cents >= 0).sum(), right.sum())
    assert audit.timely


@pytest.mark.parametrize("policy", ["document", "delegated"])
def test_R11_analysed_twice_is_a_no_op(lived, policy):
    ws, *_ = lived[policy]
    now = START + pd.Timedelta(days=DAYS)
    assert type(reanalyse(ws, now=now)[0]) is Reanalysed and status(ws).reanalysed[0] == now
    before = ws.groups(W)
    assert [type(e) for e in reanalyse(ws, now=now)] == [Reanalysed] and ws.groups(W) == before
    month = pd.Timedelta("28D")
    assert reanalyse(ws, every=month, now=now + pd.Timedelta("27D")) == []
    assert len(reanalyse(ws, every=month, now=now + month)) == 1


def test_R10_a_weak_group_is_analysed_again_once(tmp_path):
    ws, world = open_workspace(tmp_path / "ws", "document"), twin()
    for store in world.stores.index: land(ws, world, store)
    update_db(ws)
    group = max(ws.groups(W).active(), key=lambda g: len(g.members))
    with ws.begin() as session:
        key = session.query(Store).filter_by(store_id=min(group.members)).one().id
        session.add(InferenceAudit(store_pk=key, at=START, group_name=group.name, source="inferred_group", prices=200,
                                   right=90, timely=True, confidence=0.9))
    assert status(ws).weak[0] == [group.name]
    for _ in range(2):
        world.advance(pd.Timedelta("1h"))
        land(ws, world, world.stores.index[0])
        update_db(ws)
    log = ws.events(W)
    assert log.words[log.kind == "Reanalysed"].tolist() == [
        f"1 groups of {W} were analysed again: {group.name}, 45.0% of audited prices right"]


def test_an_older_workspace_gets_its_table_of_audits(tmp_path):
    ws = open_workspace(tmp_path / "ws", None)
    with ws.engine.begin() as c:
        c.exec_driver_sql("DROP TABLE inference_audit")
        c.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    assert Workspace.open(ws.path).audits(W).empty
