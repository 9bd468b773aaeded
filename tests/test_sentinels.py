"Which group a store belongs to, by a few products: errors, effort and odd input, beyond what the notebooks show."
import numpy as np
import pandas as pd
import pytest
from effort import drilled

from scrapeopt.core.calendar import SyncWindow
from scrapeopt.core.errors import InputError
from scrapeopt.core.price_week import expected_week
from scrapeopt.grouping import sentinels
from scrapeopt.grouping.evidence_context import LatestSnapshots
from scrapeopt.grouping.sentinel_table import FOLLOWED, sentinel_table
from scrapeopt.grouping.sentinels import find_home_group, first_belief, information, likely_home, next_sentinels, update

TODAY = 20_777  # local day, a Friday; the changeover was on Wednesday


def chain(groups=6, products=400, stores=3, seed=0, varies=.3, departments=8):
    "Price lists of some groups (rows), their members' newest snapshots, and who is a member of what."
    rng = np.random.default_rng(seed)
    usual = rng.integers(100, 2000, products)
    apart = rng.random((groups, products)) < varies
    lists = np.where(apart, usual + 10 * rng.integers(1, 5, (groups, products)), usual)
    members = {f"[{g}]": [f"{g}-{i}" for i in range(stores)] for g in range(groups)}
    latest = LatestSnapshots.empty([s for names in members.values() for s in names], products)
    latest.week = expected_week(SyncWindow(changeover=2))
    latest.categories = (np.arange(products) % departments).astype(str)
    for i, store in enumerate(latest.stores):
        latest.put(store, lists[i // stores].astype(np.int32), TODAY - 1, pd.Timestamp(TODAY - 1, unit="D", tz="UTC"))
    return lists.astype(np.int32), latest, members


@pytest.fixture(scope="module")
def small():
    lists, latest, members = chain()
    return lists, latest, members, sentinel_table(latest, members, TODAY)


def asks(prices): return lambda lines: prices[lines]


# ---- right answers

@pytest.mark.parametrize("page", [1, 3, 12])
def test_every_group_is_found(small, page):
    lists, _, members, table = small
    homes = [find_home_group(table, asks(prices), page=page) for prices in lists]
    assert [home.group for home in homes] == list(members)
    assert all(len(home.products) <= page * home.requests for home in homes)
    assert all(len(set(home.products)) == len(home.products) for home in homes)  # nothing is asked for twice


def test_a_stranger_belongs_to_none(small):
    table = small[3]
    home = find_home_group(table, lambda lines: np.full(len(lines), 77_777))
    assert home.sure and home.group is None


def draw(table, rng, group, followed):
    "A store as the table expects it: it follows a group on some lines, and is a stranger on the others."
    member = rng.random(len(table.lines)) < followed
    prob = np.where(member[:, None], table.member[:, :, group], table.stranger)
    answer = (rng.random(len(prob))[:, None] > np.cumsum(prob, 1)).sum(1)
    priced = np.pad(table.answers, ((0, 0), (0, 1)), constant_values=2**30)
    shown = np.take_along_axis(priced, np.minimum(answer, priced.shape[1] - 1)[:, None], 1)[:, 0]
    return lambda lines: shown[np.searchsorted(table.lines, lines)]


def test_promises_are_kept_where_stores_are_as_expected(small):
    "At .99, one store in a hundred is put wrong: members and strangers drawn from what the table expects."
    table, rng, wrong, n = small[3], np.random.default_rng(1), {True: 0, False: 0}, 250
    for is_member in wrong:
        for _ in range(n):
            group = int(rng.integers(len(table.groups)))
            followed = 1. if is_member else float(rng.choice(FOLLOWED[:-1], p=table.steps))
            home = find_home_group(table, draw(table, rng, group, followed))
            wrong[is_member] += home.sure and home.group != (table.groups[group] if is_member else None)
    assert max(wrong.values()) <= 8  # 2.5 expected at most, and three standard deviations more


@pytest.mark.parametrize("n", [60, drilled(5000)])
def test_twenty_groups_in_five_requests_with_one_wrong_in_a_hundred(n):
    "Four products a request: of members as of strangers no more than 1% are put wrong (and what chance may add)."
    _, latest, members = chain(groups=20, products=1000, seed=n)
    table, rng, wrong, requests = sentinel_table(latest, members, TODAY), np.random.default_rng(n), [0, 0], [0, 0]
    for is_member in (False, True):
        for _ in range(n):
            group = int(rng.integers(len(table.groups)))
            followed = 1. if is_member else float(rng.choice(FOLLOWED[:-1], p=table.steps))
            home = find_home_group(table, draw(table, rng, group, followed), page=4)
            wrong[is_member] += home.sure and home.group != (table.groups[group] if is_member else None)
            requests[is_member] += home.requests
    assert max(wrong) <= .01 * n + 3 * (.01 * n)**.5, wrong
    assert max(requests) <= 5 * n, requests


def test_a_group_that_was_long_in_doubt_needs_more():
    "The same belief is enough after a dozen products, and not after forty."
    _, latest, members = chain()
    table = sentinel_table(latest, members, TODAY)
    weight = np.full((6, len(FOLLOWED)), 0.008 / (6 * len(FOLLOWED) - 1))
    weight[2, -1] = .992
    told = [likely_home(table, sentinels.Belief(weight), tuple(range(k))) for k in (12, 40)]
    assert [(home.sure, home.group) for home in told] == [(True, "[2]"), (False, None)]


def test_twins_are_not_told_apart_by_force():
    "Two groups with one price list: neither is named."
    lists, latest, members = chain(groups=3)
    for store in members["[1]"]: latest.prices[latest.row[store]] = lists[0]
    table = sentinel_table(latest, members, TODAY)
    home = find_home_group(table, asks(lists[0]))
    assert not home.sure and home.group is None and .4 < home.prob < .6
    assert find_home_group(table, asks(lists[2])).group == "[2]"


def test_one_group_alone_and_a_chain_that_prices_alike():
    lists, latest, members = chain(groups=1)
    table = sentinel_table(latest, members, TODAY)
    assert find_home_group(table, asks(lists[0]), budget=200).group == "[0]"
    same, latest, members = chain(groups=4, varies=0)
    home = find_home_group(sentinel_table(latest, members, TODAY), asks(same[0]))
    assert home.group is None  # nothing tells them apart


def test_the_order_of_answers_does_not_matter(small):
    lists, _, _, table = small
    lines = table.lines[:20].tolist()
    there = update(table, first_belief(table), {line: int(lists[2][line]) for line in lines})
    back = update(table, first_belief(table), {line: int(lists[2][line]) for line in reversed(lines)})
    one_by_one = first_belief(table)
    for line in lines: one_by_one = update(table, one_by_one, {line: int(lists[2][line])})
    assert np.allclose(there.weight, back.weight) and np.allclose(there.weight, one_by_one.weight)
    assert there.weight.sum() == pytest.approx(1)


def test_products_of_a_spot_check_tell_the_home_as_well(small):
    "Thirty products drawn at random, whatever they tell, are read by the same table."
    lists, latest, members, _ = small
    drawn = np.random.default_rng(0).choice(400, 30, replace=False)
    table = sentinel_table(latest, members, TODAY, also=drawn.tolist())
    belief = update(table, first_belief(table), {int(line): int(lists[4][line]) for line in drawn})
    assert likely_home(table, belief).group == "[4]"


def test_an_old_list_is_read_with_care():
    "Half of the lines changed since a group was seen; its stores are found all the same, and no other is named."
    lists, latest, members = chain(groups=5)
    for store in members["[3]"]: latest.days[latest.row[store]] = TODAY - 4
    now = lists.copy()
    moved = np.random.default_rng(3).random(lists.shape[1]) < .35
    now[:, moved] += 300
    for row, store in enumerate(latest.stores): latest.prices[row] = (lists if store[0] == "3" else now)[int(store[0])]
    table = sentinel_table(latest, members, TODAY)
    homes = [find_home_group(table, asks(prices)) for prices in now]
    assert [home.group for home in homes] == list(members)


def test_lines_that_stores_price_themselves_are_no_sentinels():
    lists, latest, members = chain(stores=6)
    own, rng = np.arange(400) < 40, np.random.default_rng(0)
    for row in range(len(latest.stores)): latest.prices[row, own] += rng.integers(1, 400, 40).astype(np.int32)
    table = sentinel_table(latest, members, TODAY)
    asked = [line for prices in lists for line in find_home_group(table, asks(prices)).products]
    assert min(asked) >= 40


# ---- effort

def test_the_next_question_does_not_depend_on_the_number_of_products():
    "What is looked at for a question: some hundred lines of 2,000 products, and of 20,000."
    for products in (2_000, 20_000):
        _, latest, members = chain(groups=20, products=products)
        table = sentinel_table(latest, members, TODAY)
        assert information(table, first_belief(table)).size <= 256 + 2 * 240
        assert table.member.size < 2**18


def test_a_page_looks_at_few_branches(small, monkeypatch):
    "Twelve questions at a time: no more than sixteen beliefs are followed for each."
    calls = []
    real = sentinels.information
    monkeypatch.setattr(sentinels, "information", lambda *given: calls.append(1) or real(*given))
    assert len(next_sentinels(small[3], first_belief(small[3]), 12)) == 12
    assert len(calls) <= 1 + 11 * sentinels.MAX_BRANCHES


# ---- odd input

@pytest.mark.parametrize("answer, got", [(lambda n: np.full(n + 1, 100), "100"), (lambda n: np.full(n, 1.5), "1.5"),
                                         (lambda n: np.full(n, -2), "-2"), (lambda n: ["a"] * n, "a")])
def test_answers_that_are_no_prices_are_refused(small, answer, got):
    with pytest.raises(InputError, match=rf"ask: 1 whole-number prices? .*{got}"):
        find_home_group(small[3], lambda lines: answer(len(lines)))


@pytest.mark.parametrize("given, said", [({"page": 0}, "page: at least 1 product is needed, got 0"),
                                         ({"budget": -1}, "budget: at least 1 product is needed, got -1"),
                                         ({"sure": 1.0}, "sure: a share above 0 and below 1 is needed, got 1.0")])
def test_settings_that_cannot_be_are_refused(small, given, said):
    with pytest.raises(InputError, match=said): find_home_group(small[3], asks(small[0][0]), **given)


def test_a_shop_that_sells_none_of_it_is_not_asked_for_ever(small):
    home = find_home_group(small[3], lambda lines: np.full(len(lines), -1), page=12)
    assert not home.sure and home.group is None and len(home.products) == sentinels.BUDGET


# ---- twins: the benchmark in short

def test_homes_on_a_small_twin():
    benchmark = pytest.importorskip("benchmarks.sentinels", reason="benchmarks/ is not part of the installed package")
    found = benchmark.summary(list(benchmark.measure(benchmark.QUICK, ("four at a time", "strangers rare"))))
    rows = found.set_index(["known", "way", "who"])
    assert (rows["wrong"].xs("members", level="who") <= .01).all()
    assert (rows.loc[(slice(None), "four at a time", "strangers"), "wrong"] <= .01).all()
    assert (rows.loc[("this week", slice(None), "members"), "requests"] <= 6).all()  # of eight; five is asked of many
