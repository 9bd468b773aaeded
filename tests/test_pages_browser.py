"""Maps and report in a real browser: opened from disk, without a network, wide and narrow, light and dark."""
import browser
import pandas as pd
import pytest
import small_chain

from scrapeopt.analysis.report import report_folder, write_report
from scrapeopt.update import update_db
from scrapeopt.analysis.web_map import draw_maps
from scrapeopt.workspace import Workspace

pytestmark = pytest.mark.browser

GOOD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title>
<meta name="viewport" content="width=device-width"></head>
<body><main><h1>A page</h1><p>Some words.</p>{}</main></body></html>"""
FAULTS = {
    "wider": ('<div style="width:900px">x</div>', "wide"),
    "contrast": ('<p style="color:#ccc">pale words</p>', "color-contrast"),
    "no alternative": ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">', "image-alt"),
    "outside": ('<img alt="x" src="http://127.0.0.1:9/x.png">', "asked: http://127.0.0.1:9/x.png"),
    "missing": ('<img alt="x" src="nowhere.png">', "not loaded"),
    "console": ("<script>console.error('broken')</script>", "console: broken"),
    "script": ("<script>nothing.there()</script>", "error: nothing is not defined"),
}


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as b: yield b


def test_a_good_page_is_fine(tmp_path, chromium):
    page = tmp_path / "page.html"
    page.write_text(GOOD.format(""))
    browser.assert_page_is_fine(page, chromium)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_sees(fault, tmp_path, chromium):
    page, (body, told) = tmp_path / "page.html", FAULTS[fault]
    page.write_text(GOOD.format(body))
    with pytest.raises(AssertionError, match=told): browser.assert_page_is_fine(page, chromium)


# ---- map and report -----------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    ws = small_chain.new_workspace(tmp_path_factory.mktemp("pages") / "ws")
    small_chain.scrape_all(ws)
    update_db(ws)
    small_chain.scrape_in_two_days(ws, 1)
    return ws


@pytest.fixture(scope="module")
def maps(workspace): return draw_maps(workspace, basemap="http://127.0.0.1:9/{z}/{x}/{y}.png")


@pytest.mark.parametrize("name", ["clusters.html", "groups.html"])
def test_map_is_fine(maps, name, chromium):
    browser.assert_page_is_fine(next(p for p in maps if p.name == name), chromium)


def test_report_is_fine(workspace, chromium):
    now = small_chain.THURSDAY + pd.Timedelta("8D")
    browser.assert_page_is_fine(write_report(workspace, now=now), chromium)
    browser.assert_page_is_fine(write_report(workspace, now=now + pd.Timedelta("30D")), chromium, ways=browser.WAYS[2:])


def test_reports_of_beginnings_are_fine(tmp_path, chromium):
    ws = Workspace.create(tmp_path / "ws", policy="document")
    browser.assert_page_is_fine(write_report(ws), chromium, ways=browser.WAYS[2:])
    (ws.path / "scrapeopt.toml").write_text("eps_kn = 3")
    with pytest.raises(ValueError, match="eps_km"): report_folder(ws.path, out=tmp_path / "broken.html")
    browser.assert_page_is_fine(tmp_path / "broken.html", chromium, ways=browser.WAYS[2:])


SHOWN = """name => Bokeh.documents[0].roots()[0].renderers.filter(r => r.visible && r.tags.includes(name)).length"""


def test_layers_are_switched_by_keyboard(maps, workspace, chromium):
    groups = sum(len(workspace.groups(c).active()) for c in workspace.companies())
    with browser.opened(chromium, maps[-1]) as page:
        page.wait_for_function("Bokeh.documents[0].roots()[0].x_range.start != null")
        assert page.evaluate(SHOWN, "groups") == groups and page.evaluate(SHOWN, "ages") == 0
        for name in ("groups", "ages", "ambassadors"):
            page.locator(f'input[data-layer="{name}"]').focus()
            page.keyboard.press("Space")
        assert [page.evaluate(SHOWN, n) for n in ("groups", "ages", "ambassadors")] == [0, 1, 0]
        page.keyboard.press("Space")
        page.locator('input[data-layer="groups"]').check()
        page.locator('fieldset:has-text("Each group") input').first.uncheck()
        assert page.evaluate(SHOWN, "groups") == groups - 1


def test_the_map_jumps_to_a_cluster_without_distortion(maps, chromium):
    metres = """() => { const f = Bokeh.documents[0].roots()[0]
                        return [(f.x_range.end - f.x_range.start) / f.inner_width,
                                (f.y_range.end - f.y_range.start) / f.inner_height] }"""
    with browser.opened(chromium, maps[-1], browser.NARROW) as page:
        page.wait_for_function("Bokeh.documents[0].roots()[0].x_range.start != null")
        page.select_option("#view", index=1)
        x, y = page.evaluate(metres)
        assert x == pytest.approx(y, rel=1e-6) and x < 1000
        page.set_viewport_size({"width": 800, "height": 500})
        page.wait_for_timeout(600)
        x, y = page.evaluate(metres)
        assert x == pytest.approx(y, rel=0.02)


WHERE = """() => {  // a store of a group, in pixels of the window
    const f = Bokeh.documents[0].roots()[0], view = Bokeh.index.roots[0], box = view.frame.bbox
    const at = view.el.getBoundingClientRect(), part = (v, range) => (v - range.start) / (range.end - range.start)
    const data = f.renderers.find(r => r.tags.includes("groups")).data_source.data
    return {store: data.store_id[0], x: at.x + box.x + part(data.x[0], f.x_range) * box.width,
            y: at.y + box.y + (1 - part(data.y[0], f.y_range)) * box.height} }"""
TOLD = """() => {  // the words of all tooltips, which live in shadow roots
    const all = n => [n, ...[...n.children, ...(n.shadowRoot ? [n.shadowRoot] : [])].flatMap(all)]
    return all(document.body).filter(e => e.matches?.(".bk-Tooltip")).map(e => e.shadowRoot.textContent).join(" ") }"""


def test_the_pointer_on_a_store_tells_its_name(maps, chromium):
    with browser.opened(chromium, maps[-1]) as page:
        page.wait_for_function("Bokeh.documents[0].roots()[0].x_range.start != null")
        page.wait_for_timeout(300)
        at = page.evaluate(WHERE)
        page.mouse.move(at["x"] - 3, at["y"])
        page.mouse.move(at["x"], at["y"])
        page.wait_for_timeout(500)
        assert f"Store {at['store']}" in page.evaluate(TOLD)


def test_the_report_needs_no_script(workspace, chromium):
    path = write_report(workspace, now=small_chain.THURSDAY + pd.Timedelta("9D"))
    with browser.opened(chromium, path, browser.NARROW, java_script_enabled=False) as page:
        assert page.locator("h1").inner_text().startswith("Prices of")
        assert page.locator("figure img").count() >= 6
