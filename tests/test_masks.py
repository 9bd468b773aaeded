"""What a mask finds, and whom it must not flatter."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panels import walmart
from price_matrices import matrices

from scrapeopt.core.errors import InputError
from scrapeopt.grouping.masks import CLEARANCE_SHARE, learn_mask, near_stores
from scrapeopt.overlap import MatchRule, auto_threshold, overlap_matrix
from scrapeopt.core.prices import NOT_SOLD


def chain(zones, seed, products=900, store_priced=30, clearance=0.004):
    "(prices, zone of each store, store-priced lines) of a made-up company with full and small stores."
    rng = np.random.default_rng(seed)
    zone, lists = np.repeat(np.arange(len(zones)), zones), np.tile(rng.integers(100, 2000, products), (len(zones), 1))
    for z in range(1, len(zones)): lists[z] += rng.integers(5, 90, products) * (rng.random(products) < 0.3)
    prices, own = lists[zone], np.isin(np.arange(products), rng.choice(products, store_priced, replace=False))
    prices[:, own] += rng.integers(-50, 50, (len(zone), store_priced))
    prices = np.where(rng.random(prices.shape) < clearance, prices // 2, prices)
    sold = rng.random(prices.shape) < np.where(rng.random(len(zone)) < 0.7, 0.97, 0.6)[:, None]
    return np.where(sold, prices, NOT_SOLD).astype(np.int32), zone, own


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("zones", [(40,), (12,), (18, 14, 8), (9,) * 8, (30, 8)])
def test_store_priced_lines_are_found_and_zones_stay_apart(zones, seed):
    prices, zone, own = chain(zones, seed)
    mask = learn_mask(prices)
    assert (mask.store_priced & own).sum() >= 0.95 * own.sum()
    assert (mask.store_priced & own).sum() >= 0.95 * mask.store_priced.sum()
    m, upper = overlap_matrix(prices, mask.hidden), np.triu_indices(len(prices), 1)
    same = (zone[:, None] == zone)[upper]
    assert m.true[upper][same].mean() > 0.99
    if len(zones) > 1:
        np.testing.assert_array_equal(MatchRule(auto_threshold(m.true[upper]).value).matches(m)[upper], same)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("cheaper", [-30, 30])
def test_a_stranger_is_not_flattered(share, cheaper):
    prices = chain((20, 15), seed=1)[0]
    own = np.random.default_rng(2).random(prices.shape[1]) < share
    prices = np.vstack([prices, np.where(own & (prices[0] > 0), prices[0] + cheaper, prices[0]).astype(np.int32)])
    mask = learn_mask(prices)
    assert mask.clearance[-1].mean() < 0.01  # what store 0, its model, has on clearance
    without_lines = overlap_matrix(prices, mask.store_priced).true[-1, :20]
    assert overlap_matrix(prices, mask.hidden).true[-1, :20].max() <= without_lines.max() + 0.01


ZONES = [([20, 12, 8], .30), ([20, 12, 8], .16), ([20, 12, 8], .10), ([40], .3), ([5, 5], .3), ([6] * 8, .2),
         ([40, 1], .3), ([4] * 15 + [1] * 15, .2)]
each_company = pytest.mark.parametrize(("sizes", "differ"), ZONES)
each_seed = pytest.mark.parametrize("seed", range(3))


def company(sizes, differ, products=2000, own=0.03, clearance=0.005, seed=0):
    "A made-up company: zones of `sizes` stores; (prices, zone, true store-priced lines, true clearance entries)."
    rng = np.random.default_rng(seed)
    zone = np.repeat(np.arange(len(sizes)), sizes)
    lists = rng.integers(200, 2000, products) + (rng.random((len(sizes), products)) < differ) * rng.integers(
        1, 400, (len(sizes), products)) * rng.choice([-1, 1], (len(sizes), products))
    lists, own = np.abs(lists), rng.random(products) < own
    prices = np.abs(lists[zone] + own * rng.integers(-40, 40, (len(zone), products)))
    down, sold = rng.random(prices.shape) < clearance, rng.random(prices.shape) < 0.9
    prices = np.where(sold, np.where(down, prices // 2, prices), NOT_SOLD).astype(np.int32)
    return prices, zone, own, down & sold


@each_company
@each_seed
def test_R4_store_priced_lines_are_found_and_no_others(sizes, differ, seed):
    prices, _, own, _ = company(sizes, differ, seed=seed)
    found = learn_mask(prices).store_priced
    assert (found & own).sum() >= .95 * own.sum()
    assert (found & own).sum() >= .95 * found.sum()


@each_seed
@pytest.mark.parametrize("sizes", [[20, 12, 8], [40], [6] * 8])
def test_R4_clearance_is_found_and_little_else(sizes, seed):
    prices, _, own, down = company(sizes, .2, seed=seed)
    found = learn_mask(prices).clearance
    assert not found[:, own].any()
    assert (found & down).sum() >= .85 * (down & ~own).sum()
    assert (found & down).sum() >= .95 * found.sum()


@each_company
@each_seed
def test_R4_masked_matches_are_the_zones(sizes, differ, seed):
    prices, zone, _, _ = company(sizes, differ, seed=seed)
    masked = overlap_matrix(prices, learn_mask(prices).hidden)
    upper = np.triu_indices(len(zone), 1)
    threshold = auto_threshold(masked.true[upper])
    np.testing.assert_array_equal(MatchRule(threshold.value).matches(masked), zone[:, None] == zone)
    assert masked.true[zone[:, None] == zone].mean() > .985


@each_seed
@pytest.mark.parametrize("differ", [.08, .12, .2, .3])
def test_R4_a_lone_store_of_another_zone_is_not_flattered(differ, seed):
    prices, zone, _, _ = company([20, 15], .3, own=0, clearance=.003, seed=seed)
    rng = np.random.default_rng(seed + 100)
    kin = prices[zone == 0].max(axis=0)
    change = rng.integers(1, 40, kin.size) * rng.choice([-1, 1], kin.size) * (rng.random(kin.size) < differ)
    prices = np.vstack([prices, np.where(kin != NOT_SOLD, kin + change, NOT_SOLD)]).astype(np.int32)
    mask = learn_mask(prices)
    raw, masked = overlap_matrix(prices), overlap_matrix(prices, mask.hidden)
    assert not mask.clearance[-1].any()
    assert abs(masked.true[-1, :-1].max() - raw.true[-1, :-1].max()) < .01


@each_seed
@pytest.mark.parametrize("differ", [.3, .5, .9])
def test_R4_stores_without_kin_teach_nothing(differ, seed):
    mask = learn_mask(company([1] * 30, differ, seed=seed)[0])
    assert not mask.store_priced.any() and not mask.clearance.any()


@given(matrices())
@settings(deadline=None)
def test_any_matrix_gets_a_mask_within_its_bounds(prices):
    mask = learn_mask(prices)
    assert mask.hidden.shape == prices.shape
    sold = prices != NOT_SOLD
    assert not (mask.clearance & ~sold).any()
    assert (mask.clearance.sum(1) <= CLEARANCE_SHARE * sold.sum(1)).all()


@given(matrices(min_side=1), st.integers(1, 9))
@settings(deadline=None)
def test_neighbours_are_others_the_nearest_first(prices, near):
    m = overlap_matrix(prices)
    for s, row in enumerate(near_stores(m, near)):
        known = row[row >= 0]
        assert s not in known and len(set(known)) == len(known)
        assert (np.diff(m.true[s, known]) <= 0).all()


def test_recorded_walmart_is_no_less_alike_under_its_mask():
    prices = walmart(11620).prices
    mask, raw = learn_mask(prices), overlap_matrix(prices)
    near = near_stores(raw, 1)[:, 0]
    rows = np.arange(len(prices))
    assert (overlap_matrix(prices, mask.hidden).true[rows, near] >= raw.true[rows, near]).all()
    assert mask.store_priced.mean() < 0.1


def test_wrong_input_names_the_argument():
    prices = chain((6,), seed=0)[0]
    m = overlap_matrix(prices)
    for args, name in (((prices / 2,), "prices"), ((prices, m, 0), "near"), ((prices, m, "5"), "near"),
                       ((prices[1:], m), "m")):
        with pytest.raises(InputError, match=rf"^{name}: "): learn_mask(*args)
