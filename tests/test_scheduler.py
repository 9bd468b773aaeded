"""Properties of the optimization queue and of the move from phase 1 to phase 2."""
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapeopt.core.errors import InputError
from scrapeopt.core.calendar import SyncWindow
from scrapeopt.grouping.events import DIVERGENCE_DETECTED, HEALTHY, GroupState, StoreGroup
from scrapeopt.policies.base import Learned
from scrapeopt.scheduler import ScrapeScheduler

NOW = pd.Timestamp("2026-11-27 01:00", tz="UTC")
WEDNESDAY = SyncWindow(changeover=2, timezone="Australia/Perth")


@st.composite
def situations(draw):
    "A company in phase 2: no two stores were scraped at one time; full groups share no store, category groups may."
    count = draw(st.integers(1, 24))
    hours = draw(st.permutations(range(1, 12 * count, 12)))  # some before the changeover, some after
    stores = pd.DataFrame({"company": "C", "store_id": [f"s{i}" for i in range(count)], "failures": 0})
    stores["cluster"] = draw(st.lists(st.sampled_from([-1, 0, 0, 1]), min_size=count, max_size=count))
    stores["cluster_name"] = stores["cluster"].map({-1: "", 0: "Perth", 1: "Bunbury"})
    stores["last_scraped"] = NOW - pd.to_timedelta(hours, unit="h")
    if draw(st.booleans()): stores.loc[draw(st.integers(0, count - 1)), "last_scraped"] = pd.NaT
    closed = draw(st.sets(st.sampled_from(stores["store_id"].tolist()), max_size=3))
    stores.loc[stores["store_id"].isin(closed), "failures"] = 3
    home = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))  # 4: in no full group
    groups = [draw(a_group(f"[C-{i}]", [s for s, h in zip(stores["store_id"], home, strict=True) if h == i]))
              for i in set(home) - {4}]
    loose = [s for s, h in zip(stores["store_id"], home, strict=True) if h == 4]
    for category in ("Dairy", "Pantry") if loose else ():
        members = draw(st.lists(st.sampled_from(loose), min_size=1, unique=True))
        groups.append(replace(draw(a_group(f"[C-{category}]", members)), category=category))
    return stores, groups, draw(st.sampled_from([WEDNESDAY, SyncWindow()]))


@st.composite
def a_group(draw, name, members):
    "A group of these members in any condition."
    checked = draw(st.one_of(st.none(), st.integers(0, 500).map(lambda h: NOW - pd.Timedelta(hours=h))))
    return StoreGroup(name, "C", frozenset(members), draw(st.sampled_from(members)), checked_at=checked,
                      status=draw(st.sampled_from([HEALTHY, DIVERGENCE_DETECTED])),
                      is_active=draw(st.sampled_from([True, True, True, False])))


def by_the_letter(stores, groups, window, n, strangers=()):
    "R12 as plainly as can be, and nobody twice on one day: (store, reason, group)."
    today = NOW.tz_convert(window.timezone).normalize()
    done = set(stores.loc[stores["last_scraped"] >= today, "store_id"])
    pattern = the_whole_pattern(stores, groups, window, len(stores), strangers)
    return [pick for pick in pattern if pick[0] not in done][:n]


def the_whole_pattern(stores, groups, window, n, strangers=()):
    "R12 written as slowly and plainly as can be: (store, reason, group)."
    never = pd.Timestamp.min.tz_localize("UTC")
    last = {s: never if pd.isna(t) else t
            for s, t, f in zip(stores["store_id"], stores["last_scraped"], stores["failures"], strict=True) if f < 3}
    today = NOW.tz_convert(window.timezone).normalize()
    recent = window.last_changeover(NOW) or today
    period = window.last_changeover(NOW) or today - pd.Timedelta(days=6)
    free = {s for s, t in last.items() if t < recent}
    active = sorted((g for g in groups if g.is_active), key=lambda g: (g.checked_at or never, g.name))
    full = [g for g in active if g.category is None and g.members & last.keys()]
    alone = last.keys() - set().union(*(g.members for g in full))
    queue, clock = [], dict(last)

    def queued(): return {q[0] for q in queue}
    def members(g, among): return sorted((g.members & among) - queued(), key=lambda s: (
        g.status == DIVERGENCE_DETECTED and s == g.ambassador, last[s]))
    def speak(store, reason, name):
        queue.append((store, reason, name))
        clock[store] = NOW + pd.Timedelta(len(queue), "s")
    def check(g, stores):
        for s in stores: speak(s, "tie_breaker" if g.status == DIVERGENCE_DETECTED else "health_check", g.name)
    def spoke(group, since): return [s for s in group & last.keys() if clock[s] >= since]
    def turn(g): return max(map(clock.get, spoke(g.members, period)), default=never)

    cut = [g for g in full if len(heard := spoke(g.members, recent)) % 2 and max(last.values()) in map(last.get, heard)]
    for g in active:
        if g.status == DIVERGENCE_DETECTED:
            able = sorted(g.members & free or {s for s in g.members & last.keys() if last[s] < today},
                          key=lambda s: (s == g.ambassador, last[s]))
            for s in able[:1]:
                if s not in queued(): speak(s, "tie_breaker", g.name)
    decided = queued()
    for g in full:
        if g.name in strangers and not spoke(g.members, period):
            lead = g.ambassador if g.ambassador in last else min(g.members & last.keys(), key=last.get)
            speak(lead, "summit", g.name)
            cut = [g]
    for g in cut:
        if not g.members & decided: check(g, members(g, free)[:1])
    while True:
        lone = sorted((alone & free) - queued(), key=last.get)
        able = [g for g in full if members(g, free)]
        u, g = len(spoke(alone, period)), sum(turn(g) > never for g in full)
        if u == len(alone) and g == len(full): first = lone and able and last[lone[0]] < min(map(turn, able))
        else: first = u * len(full) <= g * len(alone)
        if lone and (first or not able): speak(lone[0], "outlier", None)
        elif able:
            g = min(able, key=lambda g: (turn(g), full.index(g)))
            check(g, members(g, free)[:2 - len(spoke(g.members, recent)) % 2])
        else: break
    if window.changeover is None:
        for s in sorted(last.keys() - free - queued(), key=last.get):
            home = [g for g in full if s in g.members]
            if home: check(home[0], [s])
            else: speak(s, "outlier", None)
    return queue[:n]


def queue_of(stores, groups, window, n, **more):
    tasks = ScrapeScheduler(stores, groups, now=NOW, window=window, **more).get_optimization_mode_queue(n)
    return [(t.store_id, t.reason, t.group) for t in tasks]


@given(situations(), st.integers(0, 30))
def test_R12_the_queue_is_the_rule_to_the_letter(situation, n):
    stores, groups, window = situation
    assert queue_of(stores, groups, window, n) == by_the_letter(stores, groups, window, n)


def never_compared(groups): return Learned(groups_never_compared=frozenset(g.name for g in groups[::2]))


@given(situations(), st.integers(0, 30))
def test_R3_the_queue_with_a_summit_is_the_rule_to_the_letter(situation, n):
    stores, groups, window = situation
    learned = never_compared(groups)
    today = stores["last_scraped"] >= NOW.tz_convert(window.timezone).normalize()  # nobody is asked twice a day
    expected = [q for q in by_the_letter(stores, groups, window, 99, learned.groups_never_compared)
                if q[0] not in set(stores["store_id"][today])]
    assert queue_of(stores, groups, window, n, learned=learned) == expected[:n]


@given(situations())
def test_R3_a_group_comes_to_a_summit_once_a_price_week_and_only_if_nobody_of_it_was_heard(situation):
    stores, groups, window = situation
    learned = never_compared(groups)
    queue = queue_of(stores, groups, window, 99, learned=learned)
    asked = [name for _, reason, name in queue if reason == "summit"]
    assert len(asked) == len(set(asked)) and set(asked) <= learned.groups_never_compared
    period = window.last_changeover(NOW) or NOW.tz_convert(window.timezone).normalize() - pd.Timedelta(days=6)
    row = stores.set_index("store_id")
    for g in (g for g in groups if g.name in asked):
        reachable = [s for s in g.members if row.loc[s, "failures"] < 3]
        assert g.category is None and not (row.loc[reachable, "last_scraped"] >= period).any()
        store = next(s for s, reason, name in queue if reason == "summit" and name == g.name)
        assert (store == g.ambassador) == (g.ambassador in reachable)
        stores.loc[stores["store_id"] == store, "last_scraped"] = NOW - pd.Timedelta("1min")
    assert not [q for q in queue_of(stores, groups, window, 99, learned=learned) if q[1] == "summit"]


@given(situations(), st.integers(0, 30))
def test_R12_a_larger_budget_only_adds_at_the_end(situation, n):
    stores, groups, window = situation
    assert queue_of(stores, groups, window, n) == queue_of(stores, groups, window, 99)[:n]


@given(situations())
def test_R12_no_store_twice_none_unreachable_and_every_scrape_has_a_reason(situation):
    stores, groups, window = situation
    queue = queue_of(stores, groups, window, 99)
    row = stores.set_index("store_id")
    by_name = {g.name: g for g in groups}
    assert len(queue) == len({s for s, _, _ in queue})
    for store, reason, name in queue:
        assert row.loc[store, "failures"] < 3
        if name: assert by_name[name].is_active and store in by_name[name].members
        since = window.last_changeover(NOW)
        if since is not None and row.loc[store, "last_scraped"] >= since: assert reason == "tie_breaker"
        if reason == "tie_breaker": assert by_name[name].status == DIVERGENCE_DETECTED
        if reason == "health_check": assert by_name[name].status == HEALTHY
        assert not name or not by_name[name].category or reason == "tie_breaker"
        if reason == "outlier": assert not any(store in g.members for g in groups if g.is_active and not g.category)


@given(situations())
def test_R12_without_a_changeover_every_reachable_store_gets_its_turn(situation):
    stores, groups, _ = situation
    queue = queue_of(stores, groups, SyncWindow(), 99)
    askable = (stores["failures"] < 3) & ~(stores["last_scraped"] >= NOW.normalize())  # nobody twice on one day
    assert {s for s, _, _ in queue} == set(stores.loc[askable, "store_id"])


@given(situations())
def test_R12_the_ambassador_breaks_a_tie_only_when_nobody_else_can(situation):
    stores, groups, window = situation
    last = stores[stores["failures"] < 3].set_index("store_id")["last_scraped"]
    today = NOW.tz_convert(window.timezone).normalize()
    since = window.last_changeover(NOW) or today
    for g in groups:
        if g.status != DIVERGENCE_DETECTED or not g.is_active: continue
        able = {s for s in g.members if s in last and not last[s] >= since} or {
            s for s in g.members if s in last and not last[s] >= today}
        picked = [(s, r) for s, r, _ in queue_of(stores, [g], window, 1)]
        if able: assert picked[0][1] == "tie_breaker" and (picked[0][0] == g.ambassador) == (able == {g.ambassador})


def healthy(groups): return [replace(g, status=HEALTHY) for g in groups]


@given(situations(), st.integers(1, 30))
def test_R12_queues_of_one_give_what_one_queue_gives(situation, n):
    "Each store is scraped before the next queue is asked for, and its group may or may not have been judged by it."
    stores, groups, window = situation
    stores, groups = stores.copy(), healthy(groups)
    learned = never_compared(groups)
    at_once = queue_of(stores, groups, window, n, learned=learned)
    for i, task in enumerate(at_once):
        now = NOW + pd.Timedelta(i, "s")
        tasks = ScrapeScheduler(
            stores, groups, now=now, window=window, learned=learned).get_optimization_mode_queue(1)
        assert [(t.store_id, t.reason, t.group) for t in tasks] == [task]
        stores.loc[stores["store_id"] == task[0], "last_scraped"] = now
        groups = [replace(g, checked_at=now) if task[0] in g.members and i % 3 else g for g in groups]


@given(situations())
def test_R12_a_pilot_sees_its_own_clusters_only(situation):
    stores, groups, window = situation
    if not (stores["cluster"] == 0).any(): return
    perth = stores[stores["cluster"] == 0]
    assert queue_of(stores, groups, window, 99, clusters=["Perth"]) == queue_of(perth, groups, window, 99)


@given(situations(), st.integers(0, 30), st.sets(st.integers(0, 1)))
def test_R12_auto_discovers_first_and_optimizes_once_groups_are_formed(situation, n, formed):
    stores, groups, window = situation
    state = GroupState("C", {g.name: g for g in groups}, formed=frozenset(formed))
    scheduler = ScrapeScheduler(stores, state, now=NOW, window=window)
    auto, discovery = scheduler.get_queue(n), scheduler.get_queue(n, "discovery")
    known, answers = stores["last_scraped"].notna(), stores["failures"] == 0
    sizes = stores.loc[known & answers & (stores["cluster"] >= 0), "cluster"].value_counts()
    unfinished = set(stores.loc[~known & answers, "cluster"])  # a cluster whose discovery goes on holds up no other
    ready = all(c in formed or c in unfinished for c in sizes.index[sizes >= 2])
    assert auto[:len(discovery)] == discovery
    assert {t.store_id for t in discovery} <= set(stores.loc[stores["last_scraped"].isna(), "store_id"])
    rest = auto[len(discovery):]
    assert {t.mode for t in rest} <= {"optimization"}
    if not ready: assert not rest
    taken = {t.store_id for t in discovery}
    wanted = [t for t in scheduler.get_queue(99, "optimization") if t.store_id not in taken]
    if ready: assert rest == wanted[:n - len(discovery)]


def two_stores():
    return pd.DataFrame({"company": "C", "store_id": ["a", "b"], "cluster": 0, "cluster_name": "Perth",
                         "last_scraped": [NOW - pd.Timedelta(days=9), NOW - pd.Timedelta(hours=1)]})


def test_R12_groups_may_come_as_a_state_a_mapping_or_any_iterable():
    group = StoreGroup("[C-Perth]", "C", frozenset({"a", "b"}), "b")
    state = GroupState("C", {group.name: group}, formed=frozenset({0}))
    queues = [ScrapeScheduler(two_stores(), groups, now=NOW).get_queue(5)
              for groups in (state, state.groups, [group], iter([group]))]
    assert queues[0] and all(q == queues[0] for q in queues)


def test_R12_a_store_scraped_at_the_changeover_is_not_due():
    stores = two_stores().assign(last_scraped=pd.Timestamp("2026-11-25", tz="Australia/Perth").tz_convert("UTC"))
    assert queue_of(stores, [], WEDNESDAY, 5) == []
    assert len(queue_of(stores.assign(last_scraped=stores["last_scraped"] - pd.Timedelta("1s")), [], WEDNESDAY, 5)) == 2


@pytest.mark.parametrize(("bad", "words"), [
    (lambda s: ScrapeScheduler(s, [], now=NOW, policy="greedy"), "use one of delegated, document"),
    (lambda s: ScrapeScheduler(s, [], now=NOW).get_queue(1, "turbo"), "auto, discovery, optimization"),
    (lambda s: ScrapeScheduler(s, [], now=NOW).get_optimization_mode_queue(-1), "got -1"),
    (lambda s: ScrapeScheduler(s, [], now=NOW, clusters=["Freo"]), "there are Perth"),
    (lambda s: ScrapeScheduler(s, [], now=pd.NaT), "now"),
    (lambda s: ScrapeScheduler(s.drop(columns="last_scraped"), [], now=NOW), "no column last_scraped"),
    (lambda s: ScrapeScheduler(s, [StoreGroup("[D]", "D", frozenset())], now=NOW), "[D] is of D"),
])
def test_bad_input_is_told_in_one_sentence(bad, words):
    with pytest.raises(InputError) as error: bad(two_stores())
    assert words in str(error.value) and "\n" not in str(error.value)


def test_an_empty_company_has_an_empty_queue():
    stores = two_stores().iloc[:0]
    scheduler = ScrapeScheduler(stores, [], now=NOW)
    assert scheduler.get_queue(5) == scheduler.get_optimization_mode_queue(5) == []
    assert scheduler.situation.order == []
