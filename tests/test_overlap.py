"""Properties of the overlap floor, and what it says of recorded price panels."""
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panels import PANELS, konzum
from price_matrices import matrices

from scrapeopt.core.errors import InputError
from scrapeopt.core.prices import NOT_SOLD
from scrapeopt.overlap import MatchRule, auto_threshold, find_homes, jaccard_overlap, one_vs_many, overlap_by_category
from scrapeopt.overlap import overlap_matrix, price_matrix, range_overlap, true_overlap
from scrapeopt.core.bitplanes import pair_counts_plain, price_planes

@given(matrices(min_side=1))
@settings(deadline=None)
def test_matrix_agrees_with_the_vector_functions_and_stays_in_bounds(prices):
    m = overlap_matrix(prices)
    for name in ("shared", "equal", "true", "jaccard"):
        np.testing.assert_array_equal(getattr(m, name), getattr(m, name).T)
    np.testing.assert_array_equal(m.sold, (prices != NOT_SOLD).sum(1))
    np.testing.assert_array_equal(np.isnan(m.range), np.repeat(m.sold[:, None] == 0, len(m.sold), axis=1))
    assert (m.equal <= m.shared).all() and (m.shared <= np.minimum(m.sold[:, None], m.sold)).all()
    for share in (m.true, m.range, m.jaccard):
        assert share.dtype == np.float32
        known = share[~np.isnan(share)]
        assert ((known >= 0) & (known <= 1)).all()
    both = m.sold > 0
    assert (m.jaccard <= np.minimum(m.range, m.range.T))[np.ix_(both, both)].all()  # a union holds either catalogue
    i, j = 0, len(prices) - 1
    for share, alone in ((m.true, true_overlap), (m.range, range_overlap), (m.jaccard, jaccard_overlap)):
        np.testing.assert_array_equal(share[i, j], np.float32(alone(prices[i], prices[j])))


@given(matrices(), st.data())
@settings(deadline=None)
def test_categories_sum_to_the_whole(prices, data):
    n = prices.shape[1]
    categories = np.array(data.draw(st.lists(st.sampled_from("abc"), min_size=n, max_size=n)), dtype=str)
    parts, whole = overlap_by_category(prices, categories), overlap_matrix(prices)
    assert set(parts) == set(categories)
    for of in ("shared", "equal", "sold"):
        np.testing.assert_array_equal(sum(getattr(part, of) for part in parts.values()) + 0 * getattr(whole, of),
                                      getattr(whole, of))
    for name, part in parts.items():
        np.testing.assert_array_equal(part.equal, pair_counts_plain(prices[:, categories == name])[1])


@given(matrices(min_side=1))
@settings(deadline=None)
def test_one_against_many_is_a_row_of_all_pairs(prices):
    shared, equal = pair_counts_plain(prices)
    for got, want in zip(one_vs_many(prices[0], prices), (shared[0], equal[0]), strict=True):
        np.testing.assert_array_equal(got, want)


@given(matrices(min_side=1), st.sampled_from([.3, .5, .95, 1]), st.sampled_from([.3, .5, .95, 1]))
@settings(deadline=None)
def test_R7_homes_are_what_both_stages_let_pass_the_best_first(prices, match, supply):
    rule = MatchRule(match, supply)
    homes = find_homes(prices[0], prices, rule)
    shared, equal = (counts[0] for counts in pair_counts_plain(prices))
    sold = (prices != NOT_SOLD).sum(1)
    fits = rule.in_range(shared, sold[0]) & rule.match(shared, equal, sold[0], sold)
    assert sorted(homes.position) == np.flatnonzero(fits).tolist()
    assert (np.diff(homes.true) <= 0).all()
    for k, true, held in zip(homes.position, homes.true, homes.range, strict=True):
        assert true == np.float32(true_overlap(prices[0], prices[k]))
        assert held == np.float32(range_overlap(prices[0], prices[k]))


@given(matrices(min_side=1), st.data())
@settings(deadline=None)
def test_what_a_mask_hides_counts_as_not_sold(prices, data):
    by_price = data.draw(st.booleans())
    shape = prices.shape if by_price else prices.shape[1:]
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random(shape) < 0.4
    m, plain = overlap_matrix(prices, mask), pair_counts_plain(np.where(mask, NOT_SOLD, prices))
    np.testing.assert_array_equal(m.shared, plain[0])
    np.testing.assert_array_equal(m.equal, plain[1])


@given(matrices(min_side=1), matrices(min_side=1), st.data())
@settings(deadline=None)
def test_a_standing_matrix_takes_new_snapshots(prices, news, data):
    width = min(prices.shape[1], news.shape[1])
    prices, news = prices[:, :width].copy(), news[:4, :width]
    m, planes = overlap_matrix(prices), price_planes(prices)
    for row in news:
        at = data.draw(st.integers(0, len(prices)))
        planes = planes.with_store(row, at if at < len(prices) else None)
        m = m.with_store(planes, at)
        prices = np.vstack([prices[:at], row[None], prices[at + 1:]])
        for counts, plain in zip((m.shared, m.equal), pair_counts_plain(prices), strict=True):
            np.testing.assert_array_equal(counts, plain)
        np.testing.assert_array_equal(m.sold, (prices != NOT_SOLD).sum(1))


@pytest.mark.slow
def test_other_integers_layouts_and_read_only_arrays_count_the_same():
    prices = np.random.default_rng(0).integers(-1, 5, (7, 30))  # int64
    frozen = prices.astype(np.int32)
    frozen.flags.writeable = False
    want = overlap_matrix(prices.astype(np.int32)).equal
    for same in (prices, np.asfortranarray(prices), prices.astype(np.int16), frozen, prices.tolist()):
        np.testing.assert_array_equal(overlap_matrix(same).equal, want)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(1, 30))
def test_R4_a_match_needs_enough_shared_products_and_never_none(a, b, shared, least):
    rule, shared = MatchRule(min_shared=least), min(shared, a, b)
    needed = max(1, min(least, (min(a, b) + 1) // 2))
    assert rule.needed(a, b) == rule.needed(b, a) == needed
    assert bool(rule.match(shared, shared, a, b)) == (shared >= needed)
    assert not rule.match(0, 0, a, b)


@given(st.integers(20, 100_000), st.integers(1, 1000), st.data())
def test_R4_the_threshold_is_exact_at_its_boundary(shared, thousandths, data):
    equal = data.draw(st.one_of(st.integers(0, shared), st.just(-(-shared * thousandths // 1000)),
                                st.just(-(-shared * thousandths // 1000) - 1)))
    match = MatchRule(match_threshold=thousandths / 1000).match(shared, equal, shared, shared)
    assert bool(match) == (1000 * equal >= thousandths * shared)


def chain(sizes, differ, products=3000, own=0.02, clearance=0.01, seed=0):
    "A made-up company: zones of `sizes` stores, each repricing a share `differ` of the lines; (prices, zone)."
    rng = np.random.default_rng(seed)
    zone = np.repeat(np.arange(len(sizes)), sizes)
    lists = rng.integers(100, 2000, products) + (rng.random((len(sizes), products)) < differ) * rng.integers(
        1, 400, (len(sizes), products))
    prices = lists[zone] + (rng.random(products) < own) * rng.integers(-40, 40, (len(zone), products))
    prices = np.where(rng.random(prices.shape) < clearance, prices // 2, prices)
    return np.where(rng.random(prices.shape) < 0.9, prices, NOT_SOLD).astype(np.int32), zone


def learned(prices):
    m = overlap_matrix(prices)
    return auto_threshold(m.true[np.triu_indices(len(prices), 1)]), m


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("sizes", "differ"), [
    ([20, 12, 8], 0.30), ([20, 12, 8], 0.16), ([20, 12, 8], 0.10), ([20, 12, 8], 0.06),  # zones .5, .7, .8, .88 alike
    ([5, 5], 0.3), ([6] * 8, 0.2), ([40, 1], 0.3), ([4] * 15 + [1] * 15, 0.2)])
def test_R4_the_learned_threshold_separates_the_zones(sizes, differ, seed):
    prices, zone = chain(sizes, differ, seed=seed)
    threshold, m = learned(prices)
    assert threshold.has_valley
    np.testing.assert_array_equal(MatchRule(threshold.value).matches(m), zone[:, None] == zone)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("sizes", "differ"), [([40], 0.3), ([100], 0.3), ([10], 0.3), ([2, 2], 0.3), ([1] * 40, 0.16)])
def test_R4_one_zone_few_pairs_or_no_zones_leave_the_default(sizes, differ, seed):
    threshold, _ = learned(chain(sizes, differ, seed=seed)[0])
    assert (threshold.value, threshold.has_valley) == (0.95, False)


def hills(*means_spreads_pairs):
    "True Overlaps in hills of the given mean, spread and number of pairs."
    rng = np.random.default_rng(0)
    return np.concatenate([np.clip(rng.normal(*hill), 0, 1) for hill in means_spreads_pairs])


@pytest.mark.parametrize(("values", "between"), [
    (hills((.5, .03, 1500), (.85, .01, 400), (.96, .006, 200)), (.88, .95)),  # states, zones: the topmost valley
    (hills((.5, .03, 400), (.94, .002, 60), (.97, .002, 180), (1, 0, 140)), (.88, .94)),  # tidy and untidy, one zone
    (hills((.3, .15, 2000), (.95, .01, 100)), (.89, .94))])  # a broad lower hill
def test_R4_the_topmost_of_separate_hills_counts(values, between):
    threshold = auto_threshold(values)
    assert threshold.has_valley and between[0] < threshold.value < between[1]


@pytest.mark.parametrize("values", [
    hills((.9, .01, 400), (.99, .002, 9)),  # a handful of twins is no hill
    hills((.9, .01, 4000), (.99, .002, 30)),  # nor is one pair in a hundred and thirty
    hills((.5, .01, 9), (.96, .01, 400)),
    np.r_[np.linspace(.75, .86, 15), np.linspace(.885, 1, 15)],  # a gap narrower than the hill is wide is chance
    hills((.94, .002, 60), (.97, .002, 180), (1, 0, 140))])
def test_R4_what_is_no_valley_leaves_the_default(values):
    threshold = auto_threshold(values)
    assert (threshold.value, threshold.has_valley) == (0.95, False)


@given(st.lists(st.floats(0, 1) | st.just(float("nan")), max_size=200))
@settings(deadline=None)
def test_R4_auto_threshold_always_answers(values):
    threshold = auto_threshold(np.array(values))
    assert threshold.pairs == threshold.counts.sum() == sum(v == v for v in values)
    assert 0 < threshold.value <= 1 and (threshold.has_valley or threshold.value == 0.95)


@st.composite
def dense(draw):
    "A price matrix with names, in which every store sells something and every product is sold."
    prices = draw(matrices(min_side=1))
    prices = prices[(prices != NOT_SOLD).any(1)]
    prices = prices[:, (prices != NOT_SOLD).any(0)] if len(prices) else prices[:, :0]
    n, text = prices.shape[1], st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
    names = draw(st.lists(text, min_size=n, max_size=n, unique=True))
    return prices, np.array(sorted(names), dtype=str)


MAKES = {
    "list": list,
    "object": lambda x: np.array(x, dtype=object),
    "str": lambda x: x,
    "arrow": lambda x: pa.array(list(x)),
    "dictionary": lambda x: pa.array(list(x)).dictionary_encode(),
    "pandas": lambda x: pd.Series(list(x), dtype="str"),
    "categorical": lambda x: pd.Categorical(list(x), [*sorted(set(x)), "a category in no row"]),
}


@given(dense(), st.sampled_from(list(MAKES)), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_price_matrix_round_trip(chain, make, random):
    prices, products = chain
    categories, snapshots = np.array([f"c{i % 3}" for i in range(len(products))], dtype=str), []
    for i, row in enumerate(prices):
        sold = np.flatnonzero(row != NOT_SOLD)
        random.shuffle(sold)
        snapshots.append((f"s{i}", pd.Timestamp("2026-01-01", tz="UTC"), MAKES[make](products[sold]), row[sold],
                          MAKES[make](categories[sold])))
    pm = price_matrix(iter(snapshots))
    np.testing.assert_array_equal(pm.prices, prices)
    assert pm.prices.dtype == np.int32 and pm.times.dtype == np.dtype("datetime64[ns]")
    assert (pm.products == products).all() and (pm.categories == categories).all()
    assert [pm.row(store) for store in pm.stores] == list(range(len(prices)))
    if len(prices): np.testing.assert_array_equal(pm.select(pm.stores[::-1]).prices, prices[::-1])
    assert sum(pm.of_category(c).prices.shape[1] for c in set(categories)) == len(products)


@given(st.lists(st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=4, max_size=4), min_size=1, max_size=7))
def test_R8_a_product_has_the_category_that_most_stores_give_it(kinds):
    ids = ["p0", "p1", "p2", "p3"]
    pm = price_matrix((f"s{i}", None, ids, np.arange(4), row) for i, row in enumerate(kinds))
    for product, category in enumerate(pm.categories):
        given_ = [row[product] for row in kinds if row[product]]
        assert category == (min(given_, key=lambda k: (-given_.count(k), k)) if given_ else "")


def test_price_matrix_times_zones_categories_and_empty_snapshots():
    perth = pd.Timestamp("2026-11-23 10:00", tz="Australia/Perth")
    pm = price_matrix([("b", perth, ["x"], np.array([5]), ["new"]),
                       ("a", None, ["x", "y"], np.array([5, NOT_SOLD]), ["old", None]),
                       ("c", np.datetime64("2026-11-23T01:00"), [], np.array([], np.int32), [])])
    assert pm.stores.tolist() == ["b", "a", "c"]
    assert pm.times[0] == np.datetime64("2026-11-23T02:00") and np.isnat(pm.times[1])
    assert pm.products.tolist() == ["x", "y"] and pm.categories.tolist() == ["new", ""]  # R8: a tie, the first by name
    assert pm.prices.tolist() == [[5, -1], [5, -1], [-1, -1]]


@pytest.mark.parametrize(("change", "word"), [
    ({1: "noon"}, "time"), ({2: ["x"]}, "'a'"), ({2: ["x", "x"]}, "'x'"), ({2: ["x", ""]}, "product_ids"),
    ({2: ["x", None]}, "product_ids"), ({2: [1, 2]}, "product_ids"), ({2: ["x", 2]}, "product_ids"),
    ({3: np.array([1.0, 2.0])}, "prices"), ({3: np.array([1, -2])}, "prices"), ({3: np.array([1, 2**40])}, "prices"),
    ({4: [1, 2]}, "categories"), ({4: ["c"]}, "categories")])
def test_a_wrong_snapshot_gets_one_sentence_that_names_store_and_column(change, word):
    good = ["a", pd.NaT, ["x", "y"], np.array([1, 2]), ["c", "c"]]
    price_matrix([good])
    with pytest.raises(InputError, match=word) as refusal:
        price_matrix([[change.get(i, part) for i, part in enumerate(good)]])
    assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match="'a' is there twice"): price_matrix([good, good])


@pytest.mark.parametrize("wrong", [np.ones((2, 3)), np.ones(3, int), np.ones((1, 2, 3), int), np.full((2, 3), -2),
                                   np.full((2, 3), 2**40), np.ones((2, 3), bool), np.array([["1"]])])
def test_a_wrong_matrix_gets_one_sentence_that_names_the_argument(wrong):
    for refuse in (overlap_matrix, lambda p: overlap_by_category(p, np.array(["c"] * 3)),
                   lambda p: one_vs_many(np.ones(3, int), p)):
        with pytest.raises(InputError, match=r"^prices: "): refuse(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("name", PANELS)
def test_R4_recorded_panels_get_a_sensible_threshold(name):
    pm = PANELS[name]()
    threshold, m = learned(pm.prices)
    assert threshold.pairs == (m.shared[np.triu_indices(len(pm.stores), 1)] > 0).sum() > 0
    assert 0.6 < threshold.value <= 1
    assert threshold.has_valley or threshold.value == 0.95


def test_recorded_konzum_has_one_pair_of_like_stores_and_too_few_pairs_to_learn_from():
    pm = konzum()
    threshold, m = learned(pm.prices)
    assert not threshold.has_valley
    assert np.triu(MatchRule().matches(m), 1).sum() == 1
