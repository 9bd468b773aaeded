"""R4a-R8 as properties: whatever a chain does, the orchestrator's state stays sound."""
from dataclasses import replace

import numpy as np
import pandas as pd
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from scrapeopt.core.calendar import SyncWindow
from scrapeopt.grouping.events import DIVERGENCE_DETECTED, HEALTHY, GroupState, StoreGroup, event_from_record
from scrapeopt.grouping.events import event_record
from scrapeopt.grouping.linkage import largest_agreeing_set
from scrapeopt.groups import GroupOrchestrator
from scrapeopt.overlap import MatchRule, PriceMatrix

N_PRODUCTS = 24
CATEGORIES = np.array(["Dairy", "Fresh", "Pantry", ""])[np.arange(N_PRODUCTS) % 4]
START = np.datetime64("2026-11-23T02:00", "ns")
RULE = MatchRule(match_threshold=0.8, range_threshold=0.8, min_shared=4)


def vector(zone, week, stray):
    "Prices of a store: its zone's of that week; a stray one changes a category or, at 2, everything."
    prices = np.random.default_rng([zone, week]).integers(100, 999, N_PRODUCTS).astype(np.int32)
    if stray: prices[(CATEGORIES == "Dairy") | (stray == 2)] += 1000 + stray
    if zone == 3: prices[::2] = -1  # a small format
    return prices


visits = st.tuples(st.integers(0, 7), st.integers(0, 3), st.integers(0, 2), st.integers(0, 2))  # who, zone, week, stray
batches = st.lists(st.tuples(st.integers(1, 60), st.lists(visits, max_size=6)), min_size=1, max_size=6)


@st.composite
def histories(draw):
    "A chain of 2 to 8 stores in up to two clusters, scraped once or not at all, then in batches some hours apart."
    n = draw(st.integers(2, 8))
    clusters = draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=n, max_size=n))
    first = [(s, draw(st.integers(0, 2)), 0, 0) for s in range(n) if draw(st.integers(0, 9))]
    return clusters, [(1, first), *draw(batches)]


def play(clusters, batches, orchestrator):
    "Run the batches; yields (store table, fresh, prices, state before, events, state after)."
    ids = [f"s{i}" for i in range(len(clusters))]
    table = pd.DataFrame({"company": "Shop", "store_id": ids, "cluster": clusters,
                          "cluster_name": [f"C{c}" if c >= 0 else "" for c in clusters]})
    known: dict[str, tuple[np.datetime64, np.ndarray]] = {}
    state, now = GroupState("Shop"), START
    for hours, seen in batches:
        fresh = set()
        for s, zone, week, stray in seen:
            if s >= len(ids): continue
            now = now + np.timedelta64(1, "m")
            known[ids[s]] = (now, vector(zone, week, stray))
            fresh.add(ids[s])
        if not fresh: continue
        names = sorted(known)
        prices = PriceMatrix(np.array(names), np.array([known[s][0] for s in names]),
                             np.stack([known[s][1] for s in names]), np.arange(N_PRODUCTS).astype(str), CATEGORIES)
        events = orchestrator.run(state, prices, fresh, table)
        after = state.replay(events)
        yield table, fresh, prices, state, events, after
        state, now = after, now + np.timedelta64(hours, "h")


ORCHESTRATORS = st.sampled_from([GroupOrchestrator(RULE, SyncWindow(), threshold=0.8, seeding=seeding)
                                 for seeding in ("baseline", "geography")])


@examples(150)
@given(histories(), ORCHESTRATORS)
def test_R5_to_R8_state_stays_sound(history, orchestrator):
    for table, _, prices, _, _, state in play(*history, orchestrator):
        everyone = set(table.store_id)
        full = [s for g in state.active() for s in g.members]
        assert len(full) == len(set(full)), "a store in two full groups"
        assert set(full) <= everyone and full == [s for s in full if s in prices], "a member that was never scraped"
        for category in {"Dairy", "Fresh", "Pantry"}:
            there = [s for g in state.active(category) for s in g.members]
            assert len(there) == len(set(there)), "a store in two groups of a category"
            assert not set(there) & set(full), "a store in a full group and in a category group (R8)"
        for group in state.groups.values():
            assert not group.candidates, "candidates are cleared after a run (R9)"
            if group.is_active: assert group.ambassador in group.members and len(group.members) >= 2
            else: assert not group.members
        assert not state.active(""), "products without a category make no category group"


@examples(60)
@given(histories(), ORCHESTRATORS)
def test_R9_events_are_the_whole_truth(history, orchestrator):
    "The same batch gives the same events; events survive JSON; nothing fresh, nothing happens."
    for table, fresh, prices, before, events, after in play(*history, orchestrator):
        assert orchestrator.run(before, prices, sorted(fresh, reverse=True), table) == events or _has_nan(events)
        back = [event_from_record(type(e).__name__, event_record(e)) for e in events]
        assert before.replay(back) == after
        assert orchestrator.run(after, prices, [], table) == []


def _has_nan(events): return any(e.overlap != e.overlap for e in events if hasattr(e, "overlap"))


@examples(60)
@given(histories())
def test_R4a_every_member_matches_its_ambassador(history):
    "After formation from the baseline, the next check with the same data would confirm everybody."
    clusters, batches = history
    for _, _, prices, _, events, state in play(clusters, batches[:1], GroupOrchestrator(RULE, threshold=0.8)):
        for group in state.active():
            mine = prices.prices[prices.row(group.ambassador)]
            for s in group.members:
                theirs = prices.prices[prices.row(s)]
                both = (mine >= 0) & (theirs >= 0)
                assert (mine == theirs)[both].mean() >= 0.8
        seeded = [e for e in events if type(e).__name__ == "MonolithSeeded"]
        complete = {c for c in set(clusters) - {-1} if all(f"s{i}" in prices for i, k in enumerate(clusters) if k == c)}
        assert state.formed == complete
        assert {e.cluster for e in seeded} == {c for c in complete if clusters.count(c) >= 2}


@examples(200)
@given(st.integers(2, 7), st.data())
def test_R5_to_the_letter(n, data):
    "One group, one check: the outcome is what the table of R5 says."
    ids = [f"s{i}" for i in range(n)]
    moved = [False] + data.draw(st.lists(st.booleans(), min_size=n - 1, max_size=n - 1))
    candidates = data.draw(st.sets(st.sampled_from(ids), min_size=1))
    order = data.draw(st.permutations(range(n)))  # who was scraped when
    prices = PriceMatrix(np.array(ids), START + np.array(order) * np.timedelta64(1, "h"),
                         np.stack([vector(1 if m else 0, 0, 0) for m in moved]),
                         np.arange(N_PRODUCTS).astype(str), np.full(N_PRODUCTS, ""))
    status = data.draw(st.sampled_from([HEALTHY, DIVERGENCE_DETECTED]))
    group = StoreGroup("[Shop-C0]", "Shop", frozenset(ids), "s0", status=status)
    table = pd.DataFrame({"company": "Shop", "store_id": ids, "cluster": 0, "cluster_name": "C0"})
    before = replace(GroupState("Shop").put(group), formed=frozenset({0}))
    events = GroupOrchestrator(RULE, threshold=0.8).run(before, prices, candidates, table)
    after = before.replay(events).groups["[Shop-C0]"]
    judged = sorted(candidates - {"s0"}, key=lambda s: -order[ids.index(s)])
    confirmed = [s for s in judged if not moved[ids.index(s)]]
    rogues = set(judged) - set(confirmed)
    others = set(ids) - rogues - {"s0"}
    got, stay = (after.members, after.ambassador, after.status), set(ids) - rogues
    if not judged: assert got == (set(ids), "s0", status)
    elif confirmed: assert got == (stay, confirmed[0], HEALTHY)
    elif others: assert got == (stay, "s0", DIVERGENCE_DETECTED)
    else: assert not after.is_active


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_R6_largest_agreeing_set_on_equal_prices(labels):
    "Where matching is transitive, the set found is the largest there is, the first of equals."
    labels = np.array(labels)
    best = max(np.unique(labels), key=lambda v: ((labels == v).sum(), -np.flatnonzero(labels == v)[0]))
    assert largest_agreeing_set(labels[:, None] == labels[None, :]) == list(np.flatnonzero(labels == best))


@given(st.integers(1, 9), st.data())
def test_R6_every_pair_of_the_set_matches(n, data):
    match = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=n, max_size=n)))
    match = match | match.T
    chosen = largest_agreeing_set(match)
    assert all(match[i, j] for i in chosen for j in chosen if i != j)
    assert not any(all(match[k, i] for i in chosen) for k in range(n) if k not in chosen), "not maximal"


def prices_of(*vectors):
    "One snapshot each of s0, s1, ..., an hour apart."
    times = START + np.arange(len(vectors)) * np.timedelta64(1, "h")
    ids = np.array([f"s{i}" for i in range(len(vectors))])
    return PriceMatrix(ids, times, np.stack(vectors), np.arange(N_PRODUCTS).astype(str), CATEGORIES)


def one_batch(prices, fresh, *groups, clusters=None):
    "The state after one batch on `groups`; all stores lie in the formed cluster 0 unless told otherwise."
    before = replace(GroupState("Shop"), formed=frozenset({0}))
    for group in groups: before = before.put(group)
    table = pd.DataFrame({"company": "Shop", "store_id": prices.stores, "cluster": clusters or 0})
    table["cluster_name"] = [f"C{c}" for c in table["cluster"]]
    return before.replay(GroupOrchestrator(RULE, threshold=0.8).run(before, prices, fresh, table))


def dairy(*members): return StoreGroup("[Shop-C0/Dairy]", "Shop", frozenset(members), members[0], category="Dairy")


def test_R8_a_store_that_joins_a_full_group_leaves_its_category_groups():
    home = StoreGroup("[Shop-C0]", "Shop", frozenset({"s0", "s1"}), "s0")
    same, other = vector(0, 0, 0), vector(1, 0, 0)
    state = one_batch(prices_of(same, same, same, other, other), {"s2"}, home, dairy("s2", "s3", "s4"))
    assert state.groups["[Shop-C0]"].members == {"s0", "s1", "s2"}
    assert state.groups["[Shop-C0/Dairy]"].members == {"s3", "s4"}
    assert state.groups["[Shop-C0/Dairy]"].ambassador == "s4", "the title passes to the most recent of those who stay"
    state = one_batch(prices_of(same, same, same, other), {"s2"}, home, dairy("s2", "s3"))
    assert not state.groups["[Shop-C0/Dairy]"].is_active, "one store alone is no group"


def test_R8_a_store_that_founds_a_full_group_leaves_its_category_groups():
    same, other = vector(0, 0, 0), vector(1, 0, 0)
    state = one_batch(prices_of(same, same, other, other + 1), {"s0"}, dairy("s1", "s2", "s3"))
    assert state.active()[0].members == {"s0", "s1"}
    assert state.groups["[Shop-C0/Dairy]"].members == {"s2", "s3"}


def test_R4a_stores_of_a_cluster_still_being_discovered_wait():
    same = vector(0, 0, 0)
    state = one_batch(prices_of(same, same, same), {"s0", "s1"}, clusters=[7, 7, 0])
    assert state.formed == {0, 7} and state.active()[0].members == {"s0", "s1", "s2"}
    table = pd.DataFrame({"company": "Shop", "store_id": ["s0", "s1", "s2"], "cluster": [7, 0, 7], "cluster_name": "C"})
    before = replace(GroupState("Shop"), formed=frozenset({0}))
    events = GroupOrchestrator(RULE, threshold=0.8).run(before, prices_of(same, same), {"s0"}, table)
    assert not before.replay(events).groups, "s1 matches s0, but s2 of its cluster is not scraped yet: s0 must wait"


def test_R7_two_stages_and_the_best_match_wins():
    full, small = vector(0, 0, 0), vector(0, 0, 0)
    small[::2] = -1
    near = full.copy()
    near[:3] += 1
    groups = [StoreGroup("[Shop-C0]", "Shop", frozenset({"s0", "s1"}), "s0"),
              StoreGroup("[Shop-C0-2]", "Shop", frozenset({"s4", "s5"}), "s4"),
              StoreGroup("[Shop-C0-3]", "Shop", frozenset({"s2", "s3"}), "s2")]
    state = one_batch(prices_of(near, near, full, full, small, small, full), {"s6"}, *groups)
    assert state.group_of("s6").name == "[Shop-C0-3]", "s4 has the same prices, but lacks half of the range"


def test_R7_a_rogue_is_tried_once():
    "A fresh Rogue is not tried a second time as a fresh outlier, where it would meet the group that cast it out."
    same, other = vector(0, 0, 0), vector(1, 0, 0)
    group = StoreGroup("[Shop-C0]", "Shop", frozenset({"s0", "s1", "s2"}), "s0")
    before = replace(GroupState("Shop").put(group), formed=frozenset({0}))
    table = pd.DataFrame({"company": "Shop", "store_id": ["s0", "s1", "s2"], "cluster": 0, "cluster_name": "C0"})
    events = GroupOrchestrator(RULE, threshold=0.8).run(before, prices_of(same, same, other), {"s2"}, table)
    assert [type(e).__name__ for e in events].count("OutlierKept") == 1


def test_R4a_regional_outliers_wait_for_the_first_cluster():
    "Regional stores scraped early join the group that they price like; without any cluster they group at once."
    same, ids = vector(0, 0, 0), [f"s{i}" for i in range(5)]
    prices = prices_of(*[same] * 5)
    table = pd.DataFrame({"company": "Shop", "store_id": ids, "cluster": [-1, -1, 0, 0, 0],
                          "cluster_name": ["", "", "C0", "C0", "C0"]})
    orchestrator, state = GroupOrchestrator(RULE, threshold=0.8), GroupState("Shop")
    early = state.replay(orchestrator.run(state, prices.select(ids[:2]), ids[:2], table))
    assert not early.groups
    late = early.replay(orchestrator.run(early, prices, ids[2:], table))
    assert [g.members for g in late.active()] == [set(ids)]
    nowhere = table.assign(cluster=-1, cluster_name="")
    alone = state.replay(orchestrator.run(state, prices.select(ids[:2]), ids[:2], nowhere))
    assert [g.name for g in alone.active()] == ["[Shop-regional]"]


def test_R8_a_new_clustering_puts_nobody_in_two_full_groups():
    "Stores that have a full group keep it when a finer clustering gives them a new cluster."
    same = vector(0, 0, 0)
    group = StoreGroup("[Shop-C0]", "Shop", frozenset({"s0", "s1", "s2", "s3"}), "s0")
    state = one_batch(prices_of(*[same] * 6), {"s0"}, group, clusters=[0, 0, 5, 5, 6, 6])
    assert [sorted(g.members) for g in state.active()] == [["s0", "s1", "s2", "s3"], ["s4", "s5"]]
    assert state.formed == {0, 5, 6}


def test_R8_a_category_rogue_finds_one_group():
    "Two Rogues of one category group found a group together, and neither joins another one beside it."
    base = vector(0, 0, 0)
    prices = np.stack([vector(z, 0, 0) for z in (1, 2, 0, 0, 3)])
    prices[:2, CATEGORIES == "Dairy"] = base[CATEGORIES == "Dairy"]
    prices[2:4, CATEGORIES == "Dairy"] += 7
    state = one_batch(prices_of(*prices), {"s2", "s3"}, dairy("s0", "s1", "s2", "s3"))
    grouped = [s for g in state.active("Dairy") for s in g.members]
    assert len(grouped) == len(set(grouped))


def later(prices, **hours):
    "The prices with some stores scraped that many hours after the start."
    times = prices.times.copy()
    for store, h in hours.items(): times[prices.row(store)] = START + np.timedelta64(h, "h")
    return replace(prices, times=times)


def test_R5_one_confirmed_is_enough_also_over_several_days():
    "b is confirmed by a, c fails against b: some confirmed, so the group is healthy."
    same, other = vector(0, 0, 0), vector(1, 0, 0)
    group = StoreGroup("[Shop-C0]", "Shop", frozenset({"s0", "s1", "s2", "s3"}), "s0")
    prices = later(prices_of(same, same, other, same), s0=0, s1=40, s2=80, s3=0)
    after = one_batch(prices, {"s1", "s2"}, group).groups["[Shop-C0]"]
    assert (after.status, after.ambassador, after.members) == (HEALTHY, "s1", {"s0", "s1", "s3"})


def test_R6_an_agreeing_pair_is_heard_although_a_later_candidate_is_alone():
    same = vector(0, 0, 0)
    group = StoreGroup("[Shop-C0]", "Shop", frozenset({"s0", "s1", "s2", "s3"}), "s0")
    prices = later(prices_of(same, same, same, same), s0=0, s1=200, s2=201, s3=300)
    after = one_batch(prices, {"s1", "s2", "s3"}, group).groups["[Shop-C0]"]
    assert after.ambassador == "s2" and len(after.members) == 4


def test_R6_a_lone_candidate_is_no_check():
    "It waits for company, so the group keeps its place in the order of health checks (R12)."
    same, seen = vector(0, 0, 0), pd.Timestamp(START, tz="UTC")
    group = StoreGroup("[Shop-C0]", "Shop", frozenset({"s0", "s1", "s2"}), "s0", checked_at=seen)
    after = one_batch(later(prices_of(same, same, same), s0=0, s1=200), {"s1"}, group).groups["[Shop-C0]"]
    assert after.checked_at == seen and not after.candidates


def test_R4_without_a_valley_the_default_stands_whatever_was_learned_before():
    same = vector(0, 0, 0)
    before = replace(GroupState("Shop"), threshold=0.5)
    table = pd.DataFrame({"company": "Shop", "store_id": ["s0", "s1", "s2"], "cluster": 0, "cluster_name": "C0"})
    events = GroupOrchestrator(MatchRule(min_shared=4)).run(before, prices_of(same, same, same), {"s0"}, table)
    assert before.replay(events).threshold == 0.95


def test_R7_every_rogue_is_tried_for_a_home_before_it_is_company():
    "s4 matches s3 and the group of s0; s3 matches s4 only. s4 goes home, it is not drawn into a group with s3."
    home, near = vector(0, 0, 0), vector(0, 0, 0)
    near[:4] += 1  # s4: 20 of 24 equal with home
    far = near.copy()
    far[20:] += 1  # s3: 20 of 24 equal with s4, 16 of 24 with home
    group = StoreGroup("[Shop-C0]", "Shop", frozenset({"s0", "s1"}), "s0")
    state = one_batch(prices_of(home, home, vector(1, 0, 0), far, near), {"s3", "s4"}, group)
    assert state.group_of("s4").name == "[Shop-C0]"
