"""The counting kernels against their plain twin, bit for bit."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panels import MORE, PANELS
from price_matrices import INT32_MAX, matrices

from scrapeopt.core.bitplane_kernels import ROUNDING, TILE
from scrapeopt.core.bitplanes import codebook, count_bands, count_parts, join_planes, matching_pairs
from scrapeopt.core.bitplanes import pack, pair_counts, pair_counts_plain, price_planes, row_counts
from scrapeopt.core.prices import NOT_SOLD


def chain(stores, products, zones, own=0.02, seed=0):
    "A random chain of several formats, with prices of the stores' own; int32 (stores, products)."
    rng = np.random.default_rng(seed)
    lists = rng.integers(100, 2000, (zones, products))
    lists = np.where(rng.random(products) < 0.4, lists[0], lists)
    prices = lists[rng.integers(0, zones, stores)]
    prices = np.where(rng.random(prices.shape) < own, rng.integers(100, 2000, prices.shape), prices)
    sold = rng.random(prices.shape) < rng.choice([0.3, 0.7, 0.95], stores)[:, None]
    return np.where(sold, prices, NOT_SOLD).astype(np.int32)


def same(got, want):
    "Assert that counts are equal, as int32."
    for quick, plain in zip(got, want, strict=True):
        assert quick.dtype == np.int32
        np.testing.assert_array_equal(quick, plain)


def check_all(prices):
    "Assert that every way to count `prices` gives the plain counts."
    shared, equal = plain = pair_counts_plain(prices)
    planes = price_planes(prices)
    same(pair_counts(prices), plain)
    for i in range(0, len(prices), 1 + len(prices) // 5): same(row_counts(planes, i, planes), (shared[i], equal[i]))
    for at_least in (0.3, 0.95, 1):
        pairs = matching_pairs(planes, at_least)
        i, j = np.nonzero(np.triu((shared > 0) & (equal >= at_least * shared - ROUNDING), 1))
        assert (pairs.first.tolist(), pairs.second.tolist()) == (i.tolist(), j.tolist())
        same((pairs.shared, pairs.equal), (shared[i, j], equal[i, j]))


@pytest.mark.slow
@given(matrices())
@settings(deadline=None)
def test_every_way_to_count_is_the_plain_twin_bit_for_bit(prices): check_all(prices)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 0), (3, 0), (1, 1), (1, 70), (2, 1), (5, 513), (65, 1000),
                                   (131, 90)])
def test_odd_shapes(shape):
    rng = np.random.default_rng(sum(shape))
    for prices in (np.full(shape, NOT_SOLD, np.int32), rng.integers(-1, 3, shape, np.int32),
                   rng.integers(-1, 1000, shape, np.int32),
                   rng.integers(INT32_MAX - 1, INT32_MAX, shape, np.int32, endpoint=True)):
        check_all(prices)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("stores", "products", "zones", "own"), [
    (300, 1500, 8, 0.02), (150, 700, 150, 0), (90, 2100, 3, 0.5), (260, 64, 40, 0.1)])
def test_random_chains(stores, products, zones, own, seed): check_all(chain(stores, products, zones, own, seed))


def test_a_thousand_prices_of_one_product():
    prices = np.stack([np.arange(1000), np.repeat(np.arange(500), 2), np.repeat([7, 8, 9, INT32_MAX], 250),
                       np.full(1000, 5), np.arange(1000) % 300], axis=1).astype(np.int32)
    check_all(np.random.default_rng(0).permuted(prices, axis=0))
    check_all(np.repeat(prices[:, :1], 3, axis=1))


@pytest.mark.parametrize("name", PANELS | MORE)
def test_recorded_panels(name):
    prices = (PANELS | MORE)[name]().prices
    assert len(prices) >= 4
    check_all(prices)


@given(matrices(), st.data())
@settings(deadline=None)
def test_parts_are_counted_apart_and_what_is_in_none_is_left_out(prices, data):
    part = np.array(data.draw(st.lists(st.integers(-1, 3), min_size=prices.shape[1], max_size=prices.shape[1])), int)
    planes = price_planes(prices, part)
    shared, equal = count_parts(planes)
    assert len(shared) == max(part.max(initial=0), 0) + 1
    for k in range(len(shared)): same((shared[k], equal[k]), pair_counts_plain(prices[:, part == k]))
    np.testing.assert_array_equal(planes.sold, (prices[:, part >= 0] != NOT_SOLD).sum(1))


@pytest.mark.parametrize("rows", [1, TILE, 3 * TILE, 10_000])
def test_bands_hold_each_pair_once_and_report_progress(rows):
    prices, steps = chain(200, 300, 5), []
    def track(tops):
        for top in tops:
            steps.append(top)
            yield top
    plain = pair_counts_plain(prices)
    for top, shared, equal in count_bands(price_planes(prices), track, rows):
        for band, whole in zip((shared[0], equal[0]), plain, strict=True):
            np.testing.assert_array_equal(band, np.triu(whole[top:top + len(band)], top))
    assert steps == list(range(0, 200, max(TILE, rows) // TILE * TILE))


@given(matrices(min_side=1), st.data())
@settings(deadline=None)
def test_stores_can_be_taken_joined_and_packed_by_a_foreign_codebook(prices, data):
    n = len(prices)
    book = codebook(prices[:data.draw(st.integers(0, n))], n)  # knows some of the stores only, perhaps none
    cut = data.draw(st.integers(0, n))
    planes = join_planes([pack(prices[:cut], book), pack(prices[cut:], book)])
    same((x[0] for x in count_parts(planes)), pair_counts_plain(prices))
    rows = np.array(data.draw(st.permutations(range(n)))[:data.draw(st.integers(1, n))])
    same((x[0] for x in count_parts(planes.take(rows))), pair_counts_plain(prices[rows]))
    same(row_counts(planes, 0, planes, rows), (x[0][rows] for x in pair_counts_plain(prices)))


def test_many_stores_are_counted_on_all_cores_alike():
    few = chain(40, 120, 4)
    planes = price_planes(np.tile(few, (300, 1)))  # 12,000 stores
    shared, equal = pair_counts_plain(few)
    same(row_counts(planes, 7, planes), (np.tile(shared[7], 300), np.tile(equal[7], 300)))


def test_planes_are_small():
    prices = chain(400, 4000, 6)
    assert price_planes(prices).nbytes < prices.nbytes / 5
