"""What the audits say is what is true: under both policies, by the twin, which knows."""
import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from effort import drilled
from hypothesis import given
from hypothesis import strategies as st

from scrapeopt.analysis.metrics import weighted_audits
from scrapeopt.analysis.savings import audited_share
from scrapeopt.analysis.status import status_rows
from scrapeopt.commands.demo import make_workspace, price_matrix
from scrapeopt.grouping.audited_accuracy import Calendar, StoreAudit, audit_weights, served_days, weighted_share
from scrapeopt.twin import archetype_twin
from scrapeopt.update import update_db

DAYS = 42
OTHERS = [("delegated", 1), ("document", 0), ("document", 1)]  # policy, seed
INFERRED = ("inferred_group", "inferred_category")


def scrape(ws, twin, stores):
    "Put what some stores show into the inbox, and take it in."
    for store in stores:
        shelf = zip(twin.products.index, twin.scrape(store), strict=True)
        lines = [json.dumps({"product_id": p, "price": f"{c / 100:.2f}"}) for p, c in shelf if c >= 0]
        path = ws.inbox(twin.chain.company, store) / f"{twin.now:%Y%m%dT%H%M%SZ}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    update_db(ws, now=twin.now)


def evening(ws, twin):
    "How many inferred prices are served now, and how many of them are right."
    served = ws.prices(now=twin.now)
    inferred = price_matrix(twin, served[served["source"].isin(INFERRED)])
    return np.array([(inferred >= 0).sum(), ((inferred == twin.truth()) & (inferred >= 0)).sum()])


def lived(path, policy, seed):
    "A workspace after six weeks of a few scrapes a day, when it is, and the share right on the last 28 evenings."
    twin = archetype_twin("state_zones", n_stores=36, n_products=80, seed=seed)
    ws, days = make_workspace(path, {twin.chain.company: twin}, policy), []
    scrape(ws, twin, twin.stores.index)
    twin.advance(pd.Timedelta("24h"))
    for day in range(DAYS):
        scrape(ws, twin, [task.store_id for task in ws.queue(4, now=twin.now)])
        twin.advance(pd.Timedelta("10h"))
        if day >= DAYS - 28: days.append(evening(ws, twin))
        twin.advance(pd.Timedelta("14h"))
    prices, right = np.sum(days, axis=0)
    return ws, twin.now - pd.Timedelta("14h"), right / prices


@pytest.fixture(scope="module", params=[("delegated", 0), *map(drilled, OTHERS)], ids=lambda p: f"{p[0]}-{p[1]}")
def world(request, tmp_path_factory):
    return lived(tmp_path_factory.mktemp("audited") / "ws", *request.param)


@pytest.mark.slow
def test_audited_and_true_accuracy_agree_within_the_interval(world):
    ws, now, truth = world
    audits = weighted_audits(ws, ws.companies()[0], now)
    share = audited_share(audits)
    plain = audits["right"].sum() / audits["prices"].sum()
    assert share.low <= truth <= share.high, (str(share), truth)
    assert abs(share.value - truth) < 0.025 and share.high - share.low < 0.25, (str(share), truth, plain)
    if ws.settings.policy == "delegated": assert plain < truth - 0.03  # what the queue asks is more often wrong


@pytest.mark.slow
def test_everybody_tells_the_same_figure(world):
    ws, now, _ = world
    share = audited_share(weighted_audits(ws, ws.companies()[0], now))
    (row,) = status_rows(ws, now=now.to_pydatetime())
    assert row["accuracy"] == pytest.approx(share.value, abs=1e-12) and row["accuracy_days"] == 28


# ---- the weights -----------------------------------------------------------------------------------------------------

stores = st.sampled_from([f"s{k}" for k in range(8)])
groups = {"[A]": {"s0", "s1", "s2", "s3"}, "[B]": {"s4", "s5", "s6"}}
logs = st.lists(st.tuples(stores, st.integers(980, 1040)), max_size=60)
audit_lists = st.lists(st.builds(lambda s, g, n, p, t: StoreAudit(s, g, n, round(n * p), t), stores,
                                 st.sampled_from([*groups, "[Gone]"]), st.integers(1, 500), st.floats(0, 1),
                                 st.booleans()), min_size=1, max_size=30)


def by_the_day(log, days, changeover, span):
    "The store-days of `served_days`, counted one by one."
    found = Counter()
    for group, members in groups.items():
        for day in days:
            seen = [(s, d) for s, d in log if s in members and days.start - 21 <= d <= day]
            monday = None if changeover is None else day - (day + 3 - changeover) % 7
            week = {s for s, d in seen if monday is not None and d >= monday}
            last = max((d for _, d in seen), default=None)
            own = {s for s, d in seen if d == last}
            timely = bool(week) if changeover is not None else last is not None and day - last <= span
            found[group, timely] += len(members - (week or own))
    return {stratum: n for stratum, n in found.items() if n}


@given(logs, st.sampled_from([None, 0, 2, 6]), st.integers(0, 3))
def test_store_days_are_those_counted_one_by_one(log, changeover, span):
    days = range(1010, 1040)
    assert served_days(groups, log, days, Calendar(changeover, span)) == by_the_day(log, days, changeover, span)


@given(audit_lists, logs)
def test_weights_share_out_what_was_served(audits, log):
    served = served_days(groups, log, range(1010, 1040), Calendar(2, 2))
    weights = audit_weights(audits, served)
    assert min(weights) >= 0 and (not sum(weights) or 0 <= weighted_share(audits, weights) <= 1)
    whole = {timely: sum(n for (_, flag), n in served.items() if flag is timely) for timely in (True, False)}
    kinds = {a.timely for a in audits}
    if not any(whole[kind] for kind in kinds): return  # nothing of what was audited is served: all stores count alike
    for kind in kinds:
        there = sum(w for w, a in zip(weights, audits, strict=True) if a.timely is kind)
        assert there == pytest.approx(whole[kind])


@given(audit_lists)
def test_asking_a_store_again_with_the_same_outcome_changes_nothing(audits):
    served = served_days(groups, [("s0", 1011), ("s4", 1020)], range(1010, 1040), Calendar(2, 2))
    once = {(a.store, a.group, a.timely): a for a in audits}
    twice = [*once.values(), next(iter(once.values()))]
    shares = [weighted_share(some, audit_weights(some, served)) for some in (list(once.values()), twice)]
    assert shares[0] is None or shares[1] == pytest.approx(shares[0])
