"""What fingerprints may and may not miss."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from price_matrices import matrices

from scrapeopt.core.errors import InputError
from scrapeopt.core.fingerprints import KINDS, SKETCH, Digest, FingerprintIndex, MinHash, ProductSketch, SimHash
from scrapeopt.core.fingerprints import least_equal, sketch_products
from scrapeopt.core.bitplanes import matching_pairs, price_planes
from scrapeopt.core.prices import NOT_SOLD


def mixed_chain(stores, products, zones, seed):
    "A chain of stores with ranges from a third to nearly all products; some stores price lines by themselves."
    rng = np.random.default_rng(seed)
    base = rng.integers(100, 2000, products)
    lists = np.where(rng.random((zones, products)) < 0.3, base + rng.integers(5, 300, (zones, products)), base)
    prices = lists[rng.integers(0, zones, stores)]
    own = rng.random(prices.shape) < rng.choice([0, 0.01, 0.024], stores)[:, None]
    prices = np.where(own, rng.integers(100, 2000, prices.shape), prices)
    sold = rng.random(prices.shape) < rng.choice([0.35, 0.6, 0.95], stores)[:, None]
    return np.where(sold, prices, NOT_SOLD).astype(np.int32)


def missed(prices, at_least=0.95):
    "(true pairs, those of them that the sketch does not propose, share of all stores that it proposes)"
    pairs, index = matching_pairs(price_planes(prices), at_least), FingerprintIndex().add(prices)
    proposed = np.zeros((len(prices), len(prices)), bool)
    for s, row in enumerate(prices): proposed[s, index.propose(row, at_least)] = True
    return len(pairs), int((~proposed[pairs.first, pairs.second]).sum()), proposed.mean()


def test_the_sketch_misses_nothing_among_mixed_formats():
    true, lost, share = missed(mixed_chain(400, 3000, 12, seed=0))
    assert true > 5000
    assert lost == 0
    assert share < 2 * 2 * true / 400**2 + 1 / 400


@pytest.mark.drill
def test_the_sketch_misses_at_most_one_in_ten_thousand():
    counts = np.array([missed(mixed_chain(1000, 4000, 12, seed)) for seed in range(1, 5)])
    true, lost = counts[:, 0].sum(), counts[:, 1].sum()
    assert true > 50_000
    assert lost <= 1e-4 * true


@given(matrices(min_side=1))
@settings(deadline=None)
def test_a_catalogue_within_the_sketch_is_judged_exactly(prices):
    pairs, index = matching_pairs(price_planes(prices), 0.95), FingerprintIndex().add(prices)
    proposed = np.array([np.isin(np.arange(len(prices)), index.propose(row)) for row in prices])
    assert proposed[pairs.first, pairs.second].all()
    assert proposed.diagonal().all()


@given(matrices(min_side=1))
@settings(deadline=None)
def test_the_digest_finds_identical_rows_and_no_others(prices):
    index = FingerprintIndex("digest").add(prices)
    for row in prices: assert index.propose(row).tolist() == np.flatnonzero((prices == row).all(1)).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_stores_can_be_added_in_pieces(kind):
    prices = mixed_chain(30, 200, 3, seed=3)
    prices[4] = NOT_SOLD
    whole, pieces = FingerprintIndex(kind).add(prices), FingerprintIndex(kind)
    for piece in np.split(prices, [1, 1, 17]): pieces.add(piece)
    np.testing.assert_array_equal(whole.signatures, pieces.signatures)
    assert len(pieces) == 30
    for i in (0, 4, 29): assert i in pieces.propose(prices[i])


def test_many_signatures_are_scanned_on_all_cores_alike():
    prices = mixed_chain(50, 700, 4, seed=5)
    few, many = FingerprintIndex().add(prices), FingerprintIndex().add(np.tile(prices, (500, 1)))
    want = np.isin(np.arange(50), few.propose(prices[3]))
    np.testing.assert_array_equal(many.propose(prices[3]), np.flatnonzero(np.tile(want, 500)))


def test_the_choice_of_products_hangs_on_their_ids_alone():
    ids = [f"p{i}" for i in range(5000)]
    chosen = {ids[k] for k in sketch_products(ids)}
    assert len(chosen) == SKETCH
    assert {ids[::-1][k] for k in sketch_products(ids[::-1])} == chosen
    grown = ids + [f"new{i}" for i in range(500)]
    assert len({grown[k] for k in sketch_products(grown)} & chosen) > 0.85 * SKETCH


@given(st.floats(0.5, 1))
def test_the_least_grows_with_what_is_shared_and_never_asks_for_more_than_the_share(at_least):
    least, shared = least_equal(at_least), np.arange(SKETCH + 1)
    assert (np.diff(least) >= 0).all() and (least <= shared).all() and (least <= np.ceil(at_least * shared)).all()


def test_ids_set_strictness_and_own_kinds():
    prices = mixed_chain(12, 900, 2, seed=8)
    for kind in (ProductSketch([f"p{i}" for i in range(900)]), MinHash(16, 0.2), SimHash(64), Digest()):
        assert 5 in FingerprintIndex(kind).add(prices).propose(prices[5])
    assert len(FingerprintIndex(SimHash(64)).add(prices).propose(prices[5])) == 12


def test_a_sketch_of_a_larger_catalogue_is_refused():
    prices = mixed_chain(5, 900, 2, seed=1)
    sketch = ProductSketch([f"p{i}" for i in range(900)])
    FingerprintIndex(sketch).add(prices)
    with pytest.raises(InputError, match=r"^products: "): FingerprintIndex(sketch).add(prices[:, :100])


@pytest.mark.parametrize(("act", "argument"), [
    (lambda index, p: FingerprintIndex("md5"), "kind"), (lambda index, p: index.add(p[:, 1:]), "prices"),
    (lambda index, p: index.add(p / 2), "prices"), (lambda index, p: index.add(p[0]), "prices"),
    (lambda index, p: index.add(p - 5000), "prices"), (lambda index, p: index.propose(p[0, 1:]), "row"),
    (lambda index, p: index.propose(p[0] / 2), "row"), (lambda index, p: index.propose(p[0], 0), "at_least")])
def test_wrong_input_gets_one_sentence_that_names_the_argument(act, argument):
    prices = mixed_chain(5, 50, 2, seed=1)
    index = FingerprintIndex().add(prices)
    with pytest.raises(InputError, match=rf"^{argument}: "): act(index, prices)
    assert len(index) == 5
