"""The dashboard in JupyterLab, driven by a real browser, by mouse and by keyboard, light and dark, wide and narrow."""
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import browser
import pytest
from effort import drilled
import small_chain

from scrapeopt.storage.folders import folder_name
from scrapeopt.storage.settings import read_settings

pytestmark = [pytest.mark.browser, pytest.mark.slow]
pytest.importorskip("jupyterlab", reason="jupyterlab is not installed: pip install jupyterlab")
START_S, STEP_MS = 60, 60_000  # a busy machine takes its time
OPEN_LAB = ["--ip=127.0.0.1", "--allow-root", "--IdentityProvider.token=", "--ServerApp.password=",
            "--ServerApp.disable_check_xsrf=True", "--ServerApp.terminals_enabled=False"]
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
DESK = ".scrapeopt-dashboard"
JUPYTERS_OWN = "Canceled future for create_subshell_request"  # of a kernel that is not quite there, said by JupyterLab


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def jupyterlab(folder, home):
    "The address of a JupyterLab that `scrapeopt dashboard` started on a workspace."
    port = free_port()
    env = os.environ | {f"JUPYTER{name}": str(home / name) for name in
                        ("_CONFIG_DIR", "_DATA_DIR", "_RUNTIME_DIR", "LAB_WORKSPACES_DIR", "LAB_SETTINGS_DIR")}
    command = [
        sys.executable,
        "-m",
        "scrapeopt.cli",
        "dashboard",
        "-w",
        str(folder),
        "--no-browser",
        "--port",
        str(port),
    ]
    with (home / "lab.log").open("w") as log:
        server = subprocess.Popen([*command, "--", *OPEN_LAB], env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=5).read()
                break
            except OSError:
                if time.monotonic() > end or server.poll() is not None:
                    pytest.fail((home / "lab.log").read_text()[-2000:])
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # JupyterLab, its kernel, and the command that waits for it
        server.wait(30)


@contextmanager
def opened(address, chromium, home, width=1440, scheme="light"):
    "The page with the notebook run; it must ask nobody else, and put no error into the console."
    themes = home / "LAB_SETTINGS_DIR" / "@jupyterlab" / "apputils-extension" / "themes.jupyterlab-settings"
    themes.parent.mkdir(parents=True, exist_ok=True)
    themes.write_text(json.dumps({"theme": THEMES[scheme]}))
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(STEP_MS)
    wrong = []
    page.on("request", lambda r: wrong.append(r.url) if r.url.startswith("http") and not r.url.startswith(address)
            else None)
    page.on("pageerror", lambda e: None if JUPYTERS_OWN in str(e) else wrong.append(f"error: {e}"))
    page.goto(f"{address}/lab/tree/dashboard.ipynb?reset")
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    run_all(page)
    page.wait_for_selector(f"{DESK} .lm-TabBar-tab")
    yield page
    asked = page.locator(".Toastify__toast").all_inner_texts()  # whether it may fetch news, say
    page.close()
    assert not wrong and not asked, (wrong, asked)


def run_all(page):
    "Run the notebook; while its kernel is not quite there, JupyterLab ignores that, or asks for a kernel."
    prompt, ask = page.locator(".jp-CodeCell .jp-InputPrompt").first, page.locator(".jp-Dialog .jp-mod-accept")
    for _ in range(20):
        if ask.count(): ask.click()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_timeout(2500)
        if not ask.count() and prompt.inner_text() != "[ ]:": return
    raise AssertionError("the notebook does not run")


def panel(page, title):
    "Open a tab; what is in it."
    page.locator(f"{DESK} .lm-TabBar-tab", has_text=title).click()
    here = page.locator(f"{DESK} .widget-tab-contents > *:visible").first
    here.locator(".widget-html-content:has(> *)").first.wait_for()
    return here


def captions(here): return here.locator("figcaption:visible").all_inner_texts()


def wait_until(ready, what):
    "Wait for something that the page or the disk will show."
    end = time.monotonic() + STEP_MS / 1000
    while not ready():
        if time.monotonic() > end: pytest.fail(what() if callable(what) else what)
        time.sleep(0.2)


def slider(here, name):
    "The handle of the slider with a name."
    return here.locator(".widget-slider", has=here.page.get_by_text(name, exact=True)).locator(".noUi-handle")


def readout(here, name):
    return here.locator(".widget-slider", has=here.page.get_by_text(name, exact=True)).locator(".widget-readout")


def stores_on(page, number):
    "Where the stores are on a map, brought to the middle of the page, in pixels of the page: id -> x, y."
    return page.evaluate("""number => {
        const drawn = [...document.querySelectorAll('.scrapeopt-dashboard .live-canvas')]
            .filter(e => e.offsetParent)[number]
        drawn.scrollIntoView({block: 'center'})
        const canvas = drawn.getBoundingClientRect()
        for (const view of Object.values(Bokeh.index).flatMap(v => v.roots ? [...v.roots] : [v]))
            if (view.el && Math.abs(view.el.getBoundingClientRect().y - canvas.y) < 2 && view.el.isConnected) {
                const source = view.model.document.get_model_by_name('stores'), box = view.el.getBoundingClientRect()
                const at = (i) => [view.frame.x_scale.compute(source.data.x[i]) + box.x,
                                   view.frame.y_scale.compute(source.data.y[i]) + box.y]
                return Object.fromEntries(source.data.store_id.map((s, i) => [s, at(i)]))
            }}""", number)


FOUND = """() => { for (const doc of Bokeh.documents) {
    const found = doc.get_model_by_name('found'), stores = doc.get_model_by_name('stores')
    if (found && found.data.x.length) return stores.data.store_id[stores.data.x.indexOf(found.data.x[0])]
} }"""


def story(here): return here.locator(".said .heading").first


@pytest.fixture(scope="module")
def workspace(tmp_path_factory): return small_chain.scraped_once(tmp_path_factory.mktemp("dashboard") / "ws")


@pytest.fixture(scope="module")
def home(tmp_path_factory): return tmp_path_factory.mktemp("jupyter")


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as started: yield started


@pytest.fixture(scope="module")
def address(workspace, home):
    with jupyterlab(workspace.path, home) as started: yield started


@pytest.fixture(scope="module")
def page(address, chromium, home):
    "A page on a desk, for tests that look at one tab each: to open it takes longer than what they do."
    with opened(address, chromium, home) as it: yield it


def overflow(page):
    "What sticks out of the dashboard on the right, is cut off, or is too small to read."
    return page.evaluate("""() => {
        const desk = document.querySelector('.scrapeopt-dashboard'), right = desk.getBoundingClientRect().right
        const seen = [...desk.querySelectorAll('*')].filter(e => e.offsetParent)
        const name = e => `${e.className}: ${e.textContent.slice(0, 40)}`
        const out = seen.filter(e => e.getBoundingClientRect().right > right + 1 && !e.closest('.rows'))
        const words = seen.filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
        const small = words.filter(e => parseFloat(getComputedStyle(e).fontSize) < 12)
        const cut = seen.filter(e => e.matches('button') && e.scrollWidth > e.clientWidth + 1)
        return [...out.map(e => 'sticks out: ' + name(e)), ...small.map(e => 'small: ' + name(e)),
                ...cut.map(e => 'cut off: ' + name(e))].slice(0, 8) }""")


LOOKS = [drilled(1440, "light"), drilled(1440, "dark"), drilled(1024, "light"), (1024, "dark")]


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_every_panel_fits_and_follows_the_theme(address, chromium, home, width, scheme):
    with opened(address, chromium, home, width, scheme) as page:
        for title, least in (("Clusters", 1), ("Overlap", 3), ("Groups", 2)):
            here = panel(page, title)
            wait_until(lambda here=here, least=least: here.locator(".live-canvas .bk-Figure:visible").count() >= least,
                       f"{title} draws no {least} pictures")
            assert all(captions(here)) and not overflow(page), overflow(page)
            controls, picture = (here.locator(s).first.bounding_box() for s in
                                 (".widget-dropdown", ".live-canvas .bk-Figure:visible"))
            assert picture["x"] >= controls["x"] + controls["width"]  # beside the controls, never below them
            tracks = here.locator(".noUi-target:visible")
            assert all(track.bounding_box()["width"] >= 160 for track in tracks.all())
            lists = here.locator("select:visible")
            assert all("%23888" in e.evaluate("e => getComputedStyle(e).backgroundImage") for e in lists.all())  # arrow
        ink = page.evaluate("getComputedStyle(document.querySelector('.live-canvas')).color")
        drawn = page.evaluate("""[...[...Bokeh.documents.at(-1).all_models].filter(m => m.type.endsWith('Axis'))]
                              .map(m => m.major_label_text_color)""")
        assert set(drawn) == {ink}
        brightness = sum(map(float, ink.partition("(")[2].rstrip(")").split(",")[:3]))
        assert (brightness > 380) == (scheme == "dark")
        assert "press Measure" in panel(page, "Budget").inner_text() and not overflow(page)
        found = browser.violations(page, part=DESK)
        assert not found, "\n".join(found)


def test_the_worst_problem_is_whole_and_the_others_open_by_keyboard(page):
    box = page.locator(f"{DESK} .odd")
    box.locator("li").first.wait_for()
    shown = box.locator("li:visible")
    assert box.evaluate("e => e.scrollHeight <= e.clientHeight + 1") and "What to do" in shown.first.inner_text()
    more = box.locator("details > summary")
    if not more.count(): return
    assert shown.count() == 1
    more.focus()
    page.keyboard.press("Enter")
    wait_until(lambda: f"and {shown.count() - 1} more" == more.inner_text(), "the others do not open")


def test_mouse_and_keyboard_open_the_same_story(page):
    here = panel(page, "Clusters")
    here.locator(".live-canvas .bk-Figure:visible").first.wait_for()
    page.wait_for_timeout(500)
    x, y = min(stores_on(page, 0).items())[1]
    page.mouse.move(x, y)
    page.locator(".bk-Tooltip").first.wait_for(state="attached")  # the pointer is told the name
    layers = page.evaluate("""['bk-Tooltip', 'bk-Menu'].map(name => {
        const e = document.querySelector('.' + name) ?? document.body.appendChild(document.createElement('div'))
        e.classList.add(name)
        return +getComputedStyle(e).zIndex })""")
    assert layers[0] < layers[1]  # a menu that is open lies over it
    page.mouse.click(x, y)
    story(here).wait_for()
    told = story(here).inner_text()
    here.get_by_role("button", name="Close the story").click()
    story(here).wait_for(state="detached")
    search = here.get_by_label("find a store")
    search.focus()
    page.keyboard.type(told.split()[0])
    page.keyboard.press("Enter")
    story(here).wait_for()
    assert story(here).inner_text() == told
    assert "Last scraped" in here.locator(".said").first.inner_text()
    here.get_by_label("map of").select_option(label="all stores")
    wait_until(lambda: page.evaluate(FOUND) == told.split()[0], "the store that was found is not marked")
    search.fill("nowhere at all")
    search.press("Enter")
    here.get_by_text("no store is called so").wait_for()


def test_the_keyboard_moves_sliders_saves_and_undoes(page, workspace):
    file = workspace.path / "scrapeopt.toml"
    before = file.read_text()
    here = panel(page, "Clusters")
    slider(here, "eps_km").focus()
    start = int(readout(here, "eps_km").inner_text())
    for _ in range(7): page.keyboard.press("ArrowRight")
    here.get_by_text(f"+eps_km = {start + 7} ").wait_for()  # not 26.999999999999996
    for name in ("Save to scrapeopt.toml", "Undo"):
        press = here.get_by_role("button", name=name, exact=True)
        press.focus()
        page.keyboard.press("Space")
        here.locator(".good", has_text="Saved" if name.startswith("Save") else "Undone").wait_for()
        if name == "Undo": continue
        after = file.read_text()
        changed = [line for line in after.splitlines() if line not in before.splitlines()]
        assert len(changed) == 1 and changed[0].startswith(f"eps_km = {start + 7} "), changed
        assert read_settings(file).eps_km == start + 7
    assert file.read_text() == before


def test_every_control_of_the_overlap_answers(page, workspace):
    here = panel(page, "Overlap")
    window = here.get_by_label("window")  # a choice: there is nothing to type
    window.select_option(label="24 h")
    here.get_by_text("+window_hours = 24").wait_for()
    for name in ("threshold", "range"):
        slider(here, name).focus()
        was = readout(here, name).inner_text()
        page.keyboard.press("ArrowLeft")
        wait_until(lambda name=name, was=was: slider(here, name).get_attribute("aria-valuetext") ==
                   f"{float(readout(here, name).inner_text()):g}", "the value text is not the value that is seen")
        assert slider(here, name).get_attribute("aria-label") == name
        wait_until(lambda name=name, was=was: readout(here, name).inner_text() != was, f"{name} does not move")
    here.get_by_text("+match_threshold").wait_for()
    here.get_by_label("beside the groups in force").check()
    wait_until(lambda: any("As the sliders stand" in c for c in captions(here)) and
               any(c.startswith("The groups in force") for c in captions(here)), lambda: str(captions(here)))
    here.get_by_role("button", name="As in force").click()
    here.get_by_text("Nothing new to save.").wait_for()
    here.get_by_role("button", name="Use the suggestion").click()
    here.get_by_label("mask store-priced lines").check()
    category = here.get_by_label("category")
    category.select_option(index=1)
    here.get_by_label("map of").select_option(label="all stores")
    company = folder_name(sorted(small_chain.ZONES)[0])
    for button, file in (("Export table (CSV)", f"{company}-overlap.csv"),
                         ("Export pictures (PNG)", f"{company}-overlap-map.png")):
        here.get_by_role("button", name=button).click()
        wait_until((workspace.path / "exports" / file).is_file, f"{file} is not written")
    here.get_by_text("Written: exports/").wait_for()


def test_groups_of_another_day_and_whom_a_threshold_moves(page):
    here = panel(page, "Groups")
    here.get_by_text("is the threshold in force").wait_for()
    slider(here, "what if").focus()
    page.keyboard.press("End")
    here.get_by_text("would leave").first.wait_for()
    group = here.get_by_label("group", exact=True)
    if group.locator("option").count() > 1: group.select_option(index=1)
    day = page.locator(f"{DESK} input[type=date]")
    day.fill("2020-01-01")  # long before anything was known
    day.press("Tab")
    page.get_by_text("As it was known at the end of Wednesday, 01 January 2020").wait_for()
    page.get_by_text("Nothing was known on").wait_for()
    page.get_by_role("button", name="Now", exact=True).click()
    page.get_by_text("is the threshold in force").wait_for()
    company = page.locator(f"{DESK} select").first
    company.select_option(index=1)
    page.get_by_text(f"In force in {sorted(small_chain.ZONES)[1]}").wait_for()
    page.get_by_role("button", name="Read again").click()
    page.get_by_text(f"In force in {sorted(small_chain.ZONES)[1]}").wait_for()


OFF_AND_BACK = """async figure => {  // another frame comes, and before it is drawn it is off the page for a while
    const box = figure.closest('.scrapeopt-live'), home = box.parentElement, after = box.nextSibling
    const old = box.querySelector('.live-canvas > *'), told = box.querySelector('.live-frame script')
    const frame = JSON.parse(told.textContent)
    told.textContent = JSON.stringify({...frame, scene: frame.scene + 0.5})
    await Promise.resolve()
    await Promise.resolve()
    const drawing = !old.isConnected
    box.remove()
    await new Promise(done => setTimeout(done, MS))
    home.insertBefore(box, after)
    return drawing
}"""


@pytest.mark.parametrize("ms", [drilled(0), 400])
def test_a_picture_taken_off_the_page_is_drawn_when_it_is_back(page, ms):
    here = panel(page, "Clusters")
    drawn = here.locator(".live-canvas .bk-Figure:visible").first
    drawn.wait_for()
    assert drawn.evaluate(OFF_AND_BACK.replace("MS", str(ms)))
    drawn.wait_for()


def test_long_work_is_cancelled(page):
    here = panel(page, "Budget")
    here.get_by_role("button", name="Measure").click()
    cancel = here.get_by_role("button", name="Cancel")
    assert cancel.evaluate("e => e.scrollWidth <= e.clientWidth + 1")
    cancel.click()
    here.get_by_text("Stopped: cancelled after").wait_for(timeout=180_000)
    here.locator("button:enabled", has_text="Measure").wait_for()
