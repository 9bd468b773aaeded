"""Maps of groups: every store is on them, told apart by colour and marker, with tiles or without."""
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import combinations, pairwise
from threading import Thread

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from effort import examples
import small_chain
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scrapeopt.clustering import cluster_stores
from scrapeopt.core import map_drawing
from scrapeopt.core.errors import InputError
from scrapeopt.core.land import Window, land_outline
from scrapeopt.core.map_drawing import PALETTE, draw_overview, frame_map
from scrapeopt.analysis.group_map import AMBASSADOR, GROUP_OUTLIER, MEMBER, UNSCRAPED, group_styles, groups_frame
from scrapeopt.analysis.group_map import plot_groups
from scrapeopt.analysis.web_map import background, draw_maps, groups_html, places_around
from scrapeopt.storage.store_file import read_stores
from scrapeopt.workspace import Workspace

mpl.use("Agg")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory): return small_chain.scraped_once(tmp_path_factory.mktemp("maps") / "ws")


@pytest.fixture(autouse=True)
def nothing_missed(monkeypatch):
    "Each test asks tile servers anew."
    monkeypatch.setattr(map_drawing, "TILES_AWAY", set())


@pytest.fixture
def tiles():
    "A tile server on loopback: its URL, and what it was asked for."
    asked, buffer = [], BytesIO()
    Image.new("RGB", (256, 256), "#77aadd").save(buffer, "PNG")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            self.wfile.write(buffer.getvalue())

        def log_message(self, *_): pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{{z}}/{{x}}/{{y}}.png", asked
    server.shutdown()


# ---- the frame ----------------------------------------------------------------------------------------------------

def test_frame_says_who_stands_for_whom(workspace):
    frame = groups_frame(workspace)
    assert len(frame) == sum(map(len, small_chain.ZONES.values()))
    assert not frame.duplicated(["company", "store_id"]).any()
    for company in small_chain.ZONES:
        mine, state = frame[frame["company"] == company], workspace.groups(company)
        for group in state.active():
            inside = mine[mine["group"] == group.name]
            assert set(inside["store_id"]) == group.members
            assert inside.loc[inside["ambassador"], "store_id"].tolist() == [group.ambassador]
        assert set(mine.loc[mine["group"].isna(), "store_id"]) == set(mine["store_id"]) - state.grouped()
    assert (frame["ambassador"] == (frame["role"] == AMBASSADOR)).all()


def test_age_is_never_below_zero_and_is_counted_to_now(workspace):
    past = groups_frame(workspace, now=small_chain.THURSDAY - pd.Timedelta("30D"))
    assert past["age_days"].min() == 0  # a clock before the newest scrape is moved on to it
    later = groups_frame(workspace, now=small_chain.THURSDAY + pd.Timedelta("7D"))
    assert later["age_days"].between(6.9, 7).all()


def test_frame_of_a_workspace_that_was_just_made(tmp_path):
    empty = groups_frame(Workspace.create(tmp_path / "a"))
    assert empty.empty and {"group", "ambassador", "age_days", "role"} <= set(empty.columns)
    fresh = groups_frame(small_chain.new_workspace(tmp_path / "b"))
    assert set(fresh["role"]) == {UNSCRAPED} and fresh["age_days"].isna().all() and not fresh["ambassador"].any()
    with pytest.raises(InputError, match="no company is named 'Aldi'"):
        groups_frame(Workspace.open(tmp_path / "b"), "Aldi")


# ---- styles and picture -------------------------------------------------------------------------------------------

@given(st.lists(st.one_of(st.none(), st.integers(0, 80).map(str)), max_size=200))
def test_styles_tell_groups_apart(groups):
    styles, sizes = group_styles(groups), pd.Series(groups, dtype=object).dropna().value_counts()
    assert set(styles) == set(sizes.index)
    assert all(sizes[a] >= sizes[b] for a, b in pairwise(styles))
    assert all(a.colour != b.colour and a.marker != b.marker for a, b in pairwise(list(styles.values())[:49]))
    assert len(set(list(styles.values())[:49])) == min(len(styles), 49)


def _as_seen(colours: list[str], kind: np.ndarray) -> np.ndarray:
    "Colours through eyes with a deficiency: linear RGB by the matrix of Vienot, Brettel and Mollon, 1999."
    rgb = np.array([mpl.colors.to_rgb(c) for c in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ kind.T


DEFICIENCIES = {"protanopia": [[0.112, 0.888, 0], [0.112, 0.888, 0], [0.004, -0.004, 1]],
                "deuteranopia": [[0.292, 0.708, 0], [0.292, 0.708, 0], [-0.022, 0.022, 1]]}


def _closest(colours: list[str], deficiency: str) -> float:
    "How far the two most alike colours are apart."
    seen = _as_seen(colours, np.array(DEFICIENCIES[deficiency]))
    return np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(len(colours), 1)].min()


@pytest.mark.parametrize("name", DEFICIENCIES)
def test_the_palette_survives_a_colour_deficiency(name):
    assert _closest(list(PALETTE), name) > 0.1


def test_an_ordinary_palette_does_not():
    assert _closest(["#D62728", "#2CA02C"], "deuteranopia") < 0.1  # a red and a green of many charts


def _table(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    groups = np.array([f"[G{i}]" for i in range(30)] + [None], dtype=object)[rng.integers(0, 31, n)]
    return pd.DataFrame({"store_id": np.arange(n).astype(str), "name": "x", "lat": rng.uniform(-35, -31, n),
                         "lon": rng.uniform(115, 118, n), "group": groups, "ambassador": False})


def test_picture_holds_every_store_and_the_legend_is_off_it():
    stores = _table(2000)
    stores["ambassador"] = stores["group"].notna() & ~stores.duplicated("group")
    ax = plot_groups(stores)
    drawn = sum(len(c.get_offsets()) for c in ax.collections)
    assert drawn == 2000 + 30  # and a ring for each Ambassador
    ax.figure.draw_without_rendering()
    legend = ax.get_legend().get_window_extent()
    assert legend.x0 >= ax.get_window_extent().x1 and legend.x1 <= ax.figure.bbox.x1
    words = [t.get_text() for t in ax.get_legend().get_texts()]
    shown = sum(int(re.search(r"\((\d+)\)$", w)[1]) for w in words if not w.startswith(AMBASSADOR))
    assert shown == 2000 and "Ambassador (30)" in words


def test_picture_of_one_store_and_of_no_groups():
    assert plot_groups(_table(1)).get_title() == "1 store, 1 group"
    ax = plot_groups(_table(5).assign(group=None))
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [f"{GROUP_OUTLIER} (5)"]


@pytest.mark.parametrize("scheme", ["black", "#e9eaec"])
def test_rings_have_the_colour_of_text(scheme):
    with mpl.rc_context({"text.color": scheme}):
        ax = plot_groups(_table(3).assign(group="[G]", ambassador=[True, False, False]))
    assert mpl.colors.same_color(ax.collections[-1].get_edgecolor(), scheme)


# ---- tiles --------------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_tiles_become_part_of_page_and_picture(workspace, tiles, tmp_path):
    url, asked = tiles
    drawn = draw_maps(workspace, "Woolworths", out=tmp_path, basemap=url)
    assert asked and all(p.stat().st_size > 10_000 for p in drawn)
    page = drawn[-1].read_text(encoding="utf-8")
    assert 'data-layer="background"' in page and "data:image/png;base64," in page
    assert url.split("{")[0] not in page  # the reader's browser asks nobody
    plot = Image.open(next(p for p in drawn if p.name.endswith("-groups.png"))).convert("RGB")
    at_60_percent = np.abs(np.array(plot, int) - [0xAD, 0xCC, 0xEB]).max(axis=-1) <= 2  # the tile over white
    assert at_60_percent.mean() > 0.05


def test_a_raster_file_needs_no_server(workspace, tiles, tmp_path):
    import contextily
    raster = tmp_path / "perth.tif"
    contextily.bounds2raster(115.5, -32.3, 116.2, -31.6, str(raster), ll=True, source=tiles[0], zoom=8)
    tiles[1].clear()
    page = groups_html(groups_frame(workspace), tmp_path / "groups.html", basemap=raster).read_text(encoding="utf-8")
    assert 'data-layer="background"' in page and not tiles[1]


def test_no_tiles_is_said_on_the_page_and_in_the_log(workspace, tmp_path, caplog):
    dead = "http://127.0.0.1:9/{z}/{x}/{y}.png"
    page = groups_html(groups_frame(workspace), tmp_path / "groups.html", basemap=dead).read_text(encoding="utf-8")
    assert "No background tiles could be had from http://127.0.0.1:9" in page and 'data-layer="background"' not in page
    assert caplog.messages == [
        "basemap: no tiles from http://127.0.0.1:9 (ConnectionError); maps show the outline of the land instead"]
    assert "No background tiles" not in groups_html(groups_frame(workspace), tmp_path / "b.html").read_text()


@pytest.mark.slow
def test_all_maps_of_a_run_are_one_wait_and_one_notice(workspace, tmp_path, caplog):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_): pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        away = f"http://127.0.0.1:{server.server_port}"
        drawn = draw_maps(workspace, out=tmp_path, basemap=away + "/{z}/{x}/{y}.png")
        before = len(asked)
        draw_maps(workspace, out=tmp_path / "again", basemap=away + "/{z}/{x}/{y}.png")
        server.shutdown()
    assert len(drawn) == 6 and [m for m in caplog.messages if "no tiles" in m] == [
        f"basemap: no tiles from {away} (HTTPError); maps show the outline of the land instead"]
    assert 0 < before == len(asked)


def _land(ax): return ax.findobj(lambda artist: artist.get_gid() == "land")


def _notice(ax): return [t.get_text() for t in ax.texts if t.get_gid() == "notice"]


def test_the_land_lies_under_a_picture_until_tiles_come(tiles):
    stores = _table(5)
    assert len(_land(plot_groups(stores))) == 2 and _notice(plot_groups(stores)) == []  # shores and borders
    assert _land(plot_groups(stores, basemap=tiles[0])) == [] and _notice(plot_groups(stores, basemap=tiles[0])) == []
    dead = plot_groups(stores, basemap="http://127.0.0.1:9/{z}/{x}/{y}.png")
    assert len(_land(dead)) == 2 and _notice(dead) == ["no tiles from http://127.0.0.1:9: outline by Natural Earth"]


@pytest.mark.slow
@given(st.floats(-80, 80), st.floats(-180, 180), st.floats(0.001, 60), st.floats(0.001, 60))
@examples(25)
def test_any_place_has_a_map_with_an_overview_and_no_stray_ticks(lat, lon, high, wide):
    figure = mpl.figure.Figure(figsize=(5, 4), layout="constrained")
    ax, lats, lons = figure.subplots(), np.array([lat, min(lat + high, 85)]), np.array([lon, lon + wide])
    frame_map(ax, lats, lons)
    small = draw_overview(ax, lats, lons)
    figure.draw_without_rendering()
    assert not [*small.get_xticklabels(), *small.get_yticklabels()]
    for axis in (ax.xaxis, ax.yaxis):
        inside = [t.label1 for t in axis.get_major_ticks() if axis.get_view_interval()[0] <= t.get_loc() <=
                  axis.get_view_interval()[1]]
        words = [label.get_text() for label in inside]
        assert len(set(words)) == len(words) >= 2 and "-0" not in words
        boxes = [label.get_window_extent() for label in inside]
        assert not any(a.overlaps(b) for a, b in pairwise(boxes)), words


@given(st.floats(-60, 75), st.floats(-180, 180), st.floats(0.01, 300))
@examples(25)
def test_the_outline_is_closed_and_finer_where_one_looks(lat, lon, span):
    window = Window(lon, lon + span, lat, lat + span / 2)
    found, coarse = land_outline([window]), land_outline([])
    rings = [ring for shape in found.shapes for ring in shape]
    assert all(len(ring) > 3 and (ring[0] == ring[-1]).all() for ring in rings)
    def corners(outline): return sum(window.holds(ring).sum() for shape in outline.shapes for ring in shape)
    assert corners(found) >= corners(coarse)


@pytest.mark.parametrize("basemap", ["nowhere.tif", "http://host/tiles"])
def test_a_bad_basemap_is_named(workspace, tmp_path, basemap):
    with pytest.raises(InputError, match=re.escape(basemap)): background((0, 1), (0, 1), basemap)
    with pytest.raises(InputError, match=re.escape(basemap)):
        groups_html(groups_frame(workspace), tmp_path / "x.html", basemap=basemap)
    assert not (tmp_path / "x.html").exists()


# ---- the page -----------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_maps_of_groups_come_with_the_groups(tmp_path, workspace):
    before = draw_maps(small_chain.new_workspace(tmp_path / "ws"), basemap="none")
    after = draw_maps(workspace, out=tmp_path, basemap="none")
    assert [p.name for p in before] == ["Fruit%2FVeg & Co..png", "Woolworths.png", "clusters.html"]
    assert {p.name for p in after} - {p.name for p in before} == {
        "Fruit%2FVeg & Co.-groups.png", "Woolworths-groups.png", "groups.html"}
    with pytest.raises(InputError, match="import-stores"): draw_maps(Workspace.create(tmp_path / "empty"))


def test_names_of_stores_are_text_on_the_page(tmp_path, workspace):
    nasty = "</script><script>alert(1)</script>"
    frame = groups_frame(workspace).assign(name=nasty, cluster_name=nasty, group=nasty)
    page = groups_html(frame, tmp_path / "x.html").read_text(encoding="utf-8")
    assert nasty not in page and "alert(1)" in page


@given(st.floats(-60, 60), st.floats(-180, 180), st.floats(0.01, 20))
@examples(100)
def test_places_lie_around_the_stores(lat, lon, span):
    found = places_around(np.array([lat, lat + span]), np.array([lon, lon + span]))
    assert len(found) <= 24
    margin = max(span, 0.1) / 20
    assert found["lat"].between(lat - margin, lat + span + margin).all()
    assert found["lon"].between(lon - margin, lon + span + margin).all()


@pytest.mark.parametrize(("lat", "lon", "size"), [(40.58, 22.88, 0.12), (37.9, 23.65, 0.1), (-34.1, 150.8, 0.5)])
def test_no_name_of_a_town_lies_on_another_or_reaches_over_the_edge(lat, lon, size):
    found = places_around(np.array([lat, lat + size]), np.array([lon, lon + size]))
    wide = found["name"].str.len() * size / 30  # a letter is a thirtieth of the narrowest map
    left = found["lon"] - wide * found["align"].map({"left": 0, "center": 0.5, "right": 1}).astype(float)
    assert len(found) > 2 and left.min() >= lon - size / 20 and (left + wide).max() <= lon + size * 21 / 20
    for a, b in combinations(found.index, 2):
        assert left[a] + wide[a] < left[b] or left[b] + wide[b] < left[a] or abs(
            found["lat"][a] - found["lat"][b]) > size / 12


# ---- real stores --------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_real_chains_are_drawn(shared_data, tmp_path):
    stores = cluster_stores(read_stores(shared_data / "au_store_locations" / "coles_woolworths_2024.csv"))
    frame = stores.assign(group=stores["cluster_name"].where(stores["cluster"] >= 0), partly="", failures=0,
                          last_scraped=pd.Timestamp("2026-11-24", tz="UTC"), age_days=1.0, ambassador=False,
                          role=np.where(stores["cluster"] >= 0, MEMBER, GROUP_OUTLIER))
    page = groups_html(frame, tmp_path / "au.html")
    assert page.stat().st_size < 4e6
    text = page.read_text(encoding="utf-8")
    assert all(f'"{s}"' in text for s in frame["store_id"])


def test_a_picture_that_cannot_be_finished_leaves_the_one_before(workspace, tmp_path, monkeypatch):
    "A disk that is full, or Ctrl-C, in the middle of a picture."
    paths = draw_maps(workspace, out=tmp_path, basemap="none")
    before = {path: path.read_bytes() for path in paths}

    def cut_short(figure, file, **_):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mpl.figure.Figure, "savefig", cut_short)
    with pytest.raises(OSError, match="No space left"): draw_maps(workspace, out=tmp_path, basemap="none")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
