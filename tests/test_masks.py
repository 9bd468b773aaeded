"""What a mask finds, and whom it must not flatter."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panels import walmart
from price_matrices import matrices

from scrapeopt.clustering import InputError
from scrapeopt.masks import CLEARANCE_SHARE, learn_mask, near_stores
from scrapeopt.overlap import MatchRule, auto_threshold, overlap_matrix
from scrapeopt.planes import NOT_SOLD


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
    for args, name in (((prices / 2,), "prices"), ((prices, m, 0), "near"), ((prices[1:], m), "m")):
        with pytest.raises(InputError, match=rf"^{name}: "): learn_mask(*args)
