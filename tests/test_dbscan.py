"What a cell of core/dbscan cannot show: scikit-learn's labels for any cloud, any reach, ties and far edges included."
from unittest import mock

import numpy as np
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from scrapeopt import clustering
from scrapeopt.clustering import StoreClusterer
from scrapeopt.core.dbscan import dbscan_labels
from scrapeopt.core.geo import EARTH_RADIUS_KM

HALF_ROUND_KM = np.pi * EARTH_RADIUS_KM


@st.composite
def clouds(draw):
    "Degrees of stores in towns anywhere, on lattices, alone on the globe, and many in one place."
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    n = draw(st.integers(1, 150))
    towns = draw(st.lists(st.tuples(st.sampled_from([-90, -89.99, -45.0, 0, 52.1, 89.9, 90]),
                                    st.sampled_from([-180, -179.99, 0, 115.9, 179.9, 180])), min_size=1, max_size=4))
    spread = draw(st.sampled_from([0, 1e-9, 1e-4, 0.02, 0.3, 5, 60]))  # degrees
    at = np.array(towns, float)[rng.integers(len(towns), size=n)] + rng.normal(scale=spread, size=(n, 2))
    if pitch := draw(st.sampled_from([None, 0.1, 0.5, 7.5])): at = np.round(at / pitch) * pitch
    if draw(st.booleans()): at = at[rng.integers(n, size=n)]  # many of them twice
    return np.column_stack([at[:, 0].clip(-90, 90), (at[:, 1] + 180) % 360 - 180])


def by_formula(degrees, eps, min_samples):
    "scikit-learn, comparing each pair by its formula: trees add up distances and may lose a last digit."
    model = DBSCAN(eps=eps, min_samples=min_samples, metric="haversine", algorithm="brute")
    return model.fit_predict(np.radians(degrees))


@pytest.mark.slow
@examples(400)
@given(clouds(), st.floats(-9, np.log10(HALF_ROUND_KM)).map(lambda x: 10**x), st.integers(1, 10))
def test_R1_any_cloud_and_any_reach(degrees, eps_km, min_samples):
    eps = min(eps_km / EARTH_RADIUS_KM, 3.1415)
    np.testing.assert_array_equal(dbscan_labels(np.radians(degrees), eps, min_samples),
                                  by_formula(degrees, eps, min_samples))


@pytest.mark.slow
@examples(200)
@given(clouds(), st.sampled_from([0.1, 0.5, 1.0, 1.5, 7.5, 15.0, 90.0]), st.integers(1, 10))
def test_R1_ties(degrees, eps_degrees, min_samples):
    "On lattices many stores are exactly eps apart, but for the last digit of the formula."
    eps = np.radians(eps_degrees)
    np.testing.assert_array_equal(dbscan_labels(np.radians(degrees), eps, min_samples),
                                  by_formula(degrees, eps, min_samples))


@examples(60)
@given(clouds(), st.sampled_from([0.01, 5.0, 300.0, 12_000.0, 20_000.0, 20_016.0, 50_000.0]), st.integers(1, 10))
def test_R1_one_answer_whatever_the_number_of_stores(degrees, eps_km, min_samples):
    model = StoreClusterer(eps_km=eps_km, min_samples=min_samples)
    few = model.fit_predict(degrees)
    with mock.patch.object(clustering, "FEW", 0): np.testing.assert_array_equal(model.fit_predict(degrees), few)
    if eps_km >= HALF_ROUND_KM: assert set(few) == {0 if len(degrees) >= min_samples else -1}


@pytest.mark.parametrize("eps_km", [2.0, 20.0])
def test_R1_a_large_chain(eps_km):
    rng = np.random.default_rng(0)
    towns = np.column_stack([rng.uniform(-60, 70, 300), rng.uniform(-180, 180, 300)])
    degrees = towns[rng.integers(300, size=25_000)] + rng.normal(0, 0.05, (25_000, 2))
    degrees[:, 1] = (degrees[:, 1] + 180) % 360 - 180
    theirs = DBSCAN(eps=eps_km / EARTH_RADIUS_KM, min_samples=5, metric="haversine").fit_predict(np.radians(degrees))
    assert len(degrees) > clustering.FEW
    np.testing.assert_array_equal(StoreClusterer(eps_km=eps_km).fit_predict(degrees), theirs)
    assert theirs.max() > 100


def test_R1_a_crowd_in_one_place_is_no_more_work():
    "Pairs of a crowd are not looked at: 200,000 stores in two places would be 20 thousand million of them."
    degrees = np.repeat([[-31.95, 115.86], [-31.95, 115.9]], 100_000, axis=0)
    for eps_km, clusters in ((1e-6, 2), (1.0, 2), (20.0, 1)):
        assert StoreClusterer(eps_km=eps_km).fit_predict(degrees).max() + 1 == clusters
