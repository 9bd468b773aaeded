"""Maps and report in a real browser: opened from disk, without a network, wide and narrow, light and dark."""
import browser
import numpy as np
import pandas as pd
import pytest
import small_chain
from templates import made_once

from scrapeopt.analysis.report import report_folder, write_report
from scrapeopt.core.map_drawing import store_link
from scrapeopt.analysis.group_map import GROUP_OUTLIER, groups_frame
from scrapeopt.analysis.web_map import draw_maps, groups_html
from scrapeopt.clustering import clusters_html
from scrapeopt.workspace import Workspace

pytestmark = [pytest.mark.browser, pytest.mark.slow]

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

NOW = small_chain.THURSDAY + pd.Timedelta("9D")
NO_TILES = "http://127.0.0.1:9/{z}/{x}/{y}.png"


def drawn(folder):
    "A workspace with a report and with maps that lead to it; they are drawn first, so that it leads to them."
    ws = small_chain.scraped_in_two_weeks(folder)
    draw_maps(ws, basemap=NO_TILES)
    write_report(ws, now=NOW)
    draw_maps(ws, basemap=NO_TILES)
    return ws


@pytest.fixture(scope="module")
def workspace(): return Workspace.open(made_once(drawn))  # nobody changes it


@pytest.fixture(scope="module")
def maps(workspace): return [workspace.path / "maps" / name for name in ("clusters.html", "groups.html")]


@pytest.fixture(scope="module")
def report(workspace):
    found, = (workspace.path / "reports").glob("*.html")
    return found


@pytest.mark.parametrize("name", ["clusters.html", "groups.html"])
def test_map_is_fine(maps, name, chromium):
    ways = [*browser.WAYS, (1024, "light"), (1024, "dark")]
    browser.assert_page_is_fine(next(p for p in maps if p.name == name), chromium, ways=ways)


def test_report_is_fine(report, chromium): browser.assert_page_is_fine(report, chromium)


@pytest.mark.usefixtures("words_only")
def test_report_with_problems_is_fine(tmp_path, chromium):
    late = write_report(small_chain.scraped_in_two_weeks(tmp_path / "ws"), now=NOW + pd.Timedelta("30D"))
    browser.assert_page_is_fine(late, chromium, ways=browser.WAYS[2:])


def test_reports_of_beginnings_are_fine(tmp_path, chromium):
    ws = Workspace.create(tmp_path / "ws", policy="document")
    browser.assert_page_is_fine(write_report(ws), chromium, ways=browser.WAYS[2:])
    (ws.path / "scrapeopt.toml").write_text("eps_kn = 3")
    with pytest.raises(ValueError, match="eps_km"): report_folder(ws.path, out=tmp_path / "broken.html")
    browser.assert_page_is_fine(tmp_path / "broken.html", chromium, ways=browser.WAYS[2:])


CUT_OFF = """[...document.querySelectorAll(".box, td")].filter(e => e.scrollWidth > e.clientWidth + 1).length"""


@pytest.mark.parametrize("width", [390, 320])
def test_a_telephone_shows_whole_figures(report, maps, chromium, width):
    "Each row of a table is a card there, each cell beside its heading."
    for file in (report, *maps):
        with browser.opened(chromium, file, width=width) as page:
            assert page.locator(".cards td").count() and page.evaluate(CUT_OFF) == 0
            shown = page.locator("picture img").evaluate_all("all => all.map(e => e.naturalWidth)")
            assert all(wide <= 4 * 110 for wide in shown)  # no picture of a desk, shrunk: maps, too
            label = page.locator(".cards td").first
            assert label.evaluate("e => getComputedStyle(e, '::before').content").strip('"')


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


AWAY = """away => {  // a map that is off the page for a moment has no size
    const box = Bokeh.index.roots[0].el.parentElement
    box.style.display = away ? "none" : ""
    if (away) Object.defineProperty(Bokeh.documents[0].roots()[0], "inner_width", {value: 0, configurable: true})
    else delete Bokeh.documents[0].roots()[0].inner_width
    dispatchEvent(new Event("resize")) }"""


def test_a_map_that_has_no_size_for_a_moment_is_drawn_as_before(maps, chromium):
    with browser.opened(chromium, maps[-1], browser.NARROW) as page:
        page.wait_for_function(READY)
        before = page.evaluate(RANGES)
        page.evaluate(AWAY, True)
        page.wait_for_timeout(400)
        page.evaluate(AWAY, False)
        page.wait_for_timeout(400)
        assert page.evaluate(RANGES) == pytest.approx(before, rel=0.01)  # and nothing was said in the console


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


RANGES = """() => { const f = Bokeh.documents[0].roots()[0]
                     return [f.x_range.start, f.x_range.end, f.y_range.start, f.y_range.end] }"""
READY = "Bokeh.documents[0].roots()[0].x_range.start != null && document.querySelector('#stores option')"
BOX = "() => ['x', 'y', 'width', 'height'].map(a => +document.querySelector('.overview .here').getAttribute(a))"


def story(page): return page.locator(".story").inner_text()


def test_the_map_opens_on_the_largest_cluster_with_all_stores_in_the_overview(workspace, chromium, tmp_path):
    near = groups_frame(workspace)
    far = near.head(2).assign(store_id=["N1", "N2"], lat=[-17.96, -20.3], lon=[122.23, 118.6], cluster=-1,
                              cluster_name="", group=None, ambassador=False, role=GROUP_OUTLIER)
    stores = pd.concat([near, far], ignore_index=True)
    with browser.opened(chromium, groups_html(stores, tmp_path / "groups.html")) as page:
        page.wait_for_function(READY)
        options = page.locator("#view option").all_inner_texts()
        assert options[0] == f"All stores ({len(stores)})" and len(options) > 1
        near, box = page.evaluate(RANGES), page.evaluate(BOX)
        assert page.locator("#view option:checked").inner_text().startswith("Perth")
        page.locator("#all").focus()
        page.keyboard.press("Enter")
        far, wide = page.evaluate(RANGES), page.evaluate(BOX)
        assert page.locator("#view option:checked").inner_text() == options[0]
        assert far[1] - far[0] > 3 * (near[1] - near[0]) and wide[2] > 3 * box[2]
        page.select_option("#view", index=1)
        again = page.evaluate(RANGES)
        assert again[1] - again[0] == pytest.approx(near[1] - near[0], rel=0.05)
        page.locator(".overview").click(position={"x": 60, "y": 5})  # its upper edge
        assert page.evaluate(RANGES)[2] > again[3] and page.evaluate(BOX)[1] < box[1]


UNEVEN = """() => {  // rows of pixels of more than one colour, in a strip right of the axis of latitudes
    const view = Bokeh.index.roots[0], box = view.frame.bbox, ratio = devicePixelRatio
    const layers = [...view.canvas_view.shadow_el.querySelectorAll("canvas")], seen = new Set()
    for (const layer of layers) {
        const strip = [(box.x + 4) * ratio, box.y * ratio, 30 * ratio, box.height * ratio]
        const pixels = layer.getContext("2d").getImageData(...strip)
        for (let y = 0; y < pixels.height; y++) {
            const row = pixels.data.slice(y * pixels.width * 4, (y + 1) * pixels.width * 4)
            const points = new Set(Array.from({length: pixels.width}, (_, x) => row.slice(4 * x, 4 * x + 4).join()))
            if (points.size > 1) seen.add(y)
        } }
    return seen.size }"""


def test_no_tick_is_left_on_the_map(tmp_path, chromium):
    "A row of pixels beside the axis is of one colour: grid, land or paper from side to side."
    inland = pd.DataFrame({"company": "Shop", "store_id": list("abcdef"), "name": "x", "lat": np.linspace(-30, -24, 6),
                           "lon": np.linspace(125, 131, 6), "cluster": -1, "cluster_name": ""})  # no shore in sight
    page_file = clusters_html(inland, tmp_path / "clusters.html")
    for scheme in browser.SCHEMES:
        with browser.opened(chromium, page_file, scheme=scheme) as page:
            page.wait_for_function(READY)
            page.wait_for_timeout(500)
            assert page.evaluate(UNEVEN) == 0


def test_a_store_is_found_by_id_and_by_name_with_the_keyboard(maps, workspace, chromium):
    known = workspace.stores()
    store = known.iloc[-1]
    with browser.opened(chromium, maps[-1]) as page:
        page.wait_for_function(READY)
        assert page.locator("#stores option").count() == len(known) and not page.locator(".story").is_visible()
        for words in (store["store_id"], f"{store['store_id']} {store['name']}".lower(), store["name"]):
            page.evaluate("location.hash = ''")
            page.locator("#find").fill("")
            page.locator("#find").focus()
            page.keyboard.type(words)
            page.keyboard.press("Enter")
            page.wait_for_function("location.hash.includes('store=')")
            page.wait_for_function("store => document.querySelector('#chosen').textContent.includes(store)",
                                   arg=store["store_id"])  # the page hears of its new address a little later
            told = story(page)
            assert store["company"] in told and "Last scraped" in told and "Why" in told
        page.locator("#find").fill("nowhere at all")
        page.keyboard.press("Enter")
        assert page.locator(".find [role=status]").inner_text() == "No store on this map is called that."


def test_a_click_on_a_store_tells_its_story(maps, chromium):
    with browser.opened(chromium, maps[-1]) as page:
        page.wait_for_function(READY)
        page.wait_for_timeout(300)
        at = page.evaluate(WHERE)
        page.mouse.click(at["x"], at["y"])
        page.wait_for_selector(".story:not([hidden])")  # of one of the two chains that have a store there
        if not page.locator("#chosen").inner_text().startswith(at["store"]):
            page.locator(".story dd a", has_text=f"Store {at['store']}").click()
            page.wait_for_function("store => document.querySelector('#chosen').textContent.startsWith(store)",
                                   arg=at["store"])
        assert f"store={at['store']}" in page.url


def test_a_link_opens_the_map_at_a_store(maps, workspace, chromium, tmp_path):
    store = workspace.stores().iloc[0]
    page_file = tmp_path / "link.html"
    link = store_link("there", store["company"], store["store_id"], maps[-1].as_uri())
    page_file.write_text(GOOD.format(f"<p>{link}</p>"))
    with browser.opened(chromium, page_file) as page:
        page.get_by_text("there").click()
        page.wait_for_selector(".story:not([hidden])")
        assert page.locator("#chosen").inner_text() == f"{store['store_id']} {store['name']}"
        page.evaluate("location.hash = '#store=none+such'")
        page.wait_for_function("document.querySelector('.find [role=status]').textContent.includes('none such')")


def test_the_report_leads_to_the_map_and_back(maps, report, chromium):
    with browser.opened(chromium, report) as page:
        page.locator("a[href*='groups.html#store=']").first.click()
        page.wait_for_selector(".story:not([hidden])")
        assert page.url.startswith(maps[-1].as_uri())
        page.get_by_role("link", name="The newest report on these stores").click()
        page.wait_for_url(f"{report.parent.as_uri()}/*.html")
        assert page.locator("h1").inner_text().startswith("Prices of")


def test_the_report_needs_no_script(report, chromium):
    with browser.opened(chromium, report, browser.NARROW, java_script_enabled=False) as page:
        assert page.locator("h1").inner_text().startswith("Prices of")
        assert page.locator("figure img").count() >= 6
