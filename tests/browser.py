"""A page is looked at as a reader would: in Chromium, from disk, without a network, on a desk and on a telephone."""
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--force-color-profile=srgb"]
WIDE, NARROW = 1280, 390  # CSS pixels: a desk, a telephone
SCHEMES = ("light", "dark")
WAYS = [(width, scheme) for width in (WIDE, NARROW) for scheme in SCHEMES]
SETTLED = "!window.Bokeh || Bokeh.documents.every(d => d.is_idle)"
LOCAL = ("file:", "data:", "blob:", "about:")
AXE = {"resultTypes": ["violations"],
       "preload": False,  # it would ask for the stylesheets again, which file:// does not give
       "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@contextmanager
def chromium() -> Iterator[Any]:
    "Debian's Chromium, driven by Playwright; the test is skipped where either is missing."
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or pytest.skip("no chromium")
    with api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=ARGS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, path: Path, width: int = WIDE, scheme: str = "light", **context: Any) -> Iterator[Any]:
    """The page at `path`, loaded without a network; when it is left, any error or outside request so far fails."""
    visit = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, **context)
    page, wrong = visit.new_page(), list[str]()
    page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda e: wrong.append(f"error: {e}"))
    page.on("requestfailed", lambda r: wrong.append(f"not loaded: {r.url[:200]}"))
    page.on("request", lambda r: None if r.url.startswith(LOCAL) else wrong.append(f"asked: {r.url}"))
    page.goto(path.resolve().as_uri(), wait_until="load")
    page.wait_for_function(SETTLED)
    yield page
    visit.close()
    assert not wrong, f"{path.name} at {width} px, {scheme}:\n" + "\n".join(wrong)


def overflow(page: Any) -> list[str]:
    "What sticks out of the page on the right; what scrolls inside a box of its own does not."
    return page.evaluate("""() => {
        const width = document.documentElement.clientWidth
        if (document.documentElement.scrollWidth <= width) return []
        const out = [...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > width + 1)
        const name = e => `${e.tagName.toLowerCase()}.${e.className?.baseVal ?? e.className}`
        const found = out.slice(-5).map(e => `${name(e)} ends at ${Math.round(e.getBoundingClientRect().right)} px`)
        return [`the page is ${document.documentElement.scrollWidth} px wide`, ...found] }""")


def without_repeats(page: Any) -> None:
    "Take off the page what looks like others before it: words of highlighted code, rows of tables and long lists."
    page.evaluate("""() => {
        const seen = new Set(), place = document.createComment('')
        for (const box of document.querySelectorAll('.highlight pre, .sig')) {
            box.replaceWith(place)  // off the page it is changed without being laid out each time
            for (const e of [...box.querySelectorAll('span, em')].reverse()) {
                const key = `${e.className} in ${e.parentElement.className} in ${box.className}`
                if (seen.has(key) && !e.querySelector('a, button')) e.replaceWith(e.textContent); else seen.add(key)
            }
            place.replaceWith(box)
        }
        const more = ['table.dataframe tbody tr', '.sidebar-tree li', '.toc-tree li', '.genindextable li', 'dd ul li']
        for (const row of document.querySelectorAll(more.map(s => s + ':nth-child(n+4)').join())) row.remove() }""")


def violations(
    page: Any,
    ignore: tuple[str, ...] = (),  # rules
    part: str | None = None,  # a selector: others have made the rest of the page; None: all of it
) -> list[str]:
    "What axe-core finds wrong: labels, contrast, landmarks, language, title, and the like."
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
    found = axe.Axe().run(page, context=part, options=AXE).response["violations"]
    return [f"{v['id']}: {v['help']}: " + "; ".join(f"{n['target']} {n['html'][:120]}" for n in v["nodes"][:4])
            for v in found if v["id"] not in ignore]


def assert_page_is_fine(
    path: Path,  # an HTML file
    browser: Any = None,  # what `chromium()` gave, to open many pages with one; None: a new one
    ignore: tuple[str, ...] = (),  # axe-core rules that a page made by others cannot keep; say why where it is called
    ways: Sequence[tuple[int, str]] = WAYS,  # that axe-core looks at: widths in CSS pixels with light or dark; (): none
) -> None:
    """Open an HTML file from disk with the network off, wide and narrow, light and dark: no error in the console, no
    request to elsewhere, nothing missing, no overflow, and axe-core content."""
    if browser is None:
        with chromium() as own: return assert_page_is_fine(path, own, ignore, ways)
    def look(check: Callable[[Any], list[str]], ways: Sequence[tuple[int, str]]) -> None:
        for width, scheme in ways:
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(SETTLED)
            for _ in range(40 if figures else 0):  # they may still be drawn anew
                if check is not overflow or not check(page): break
                page.wait_for_timeout(250)
            assert not (found := check(page)), f"{path.name} at {width} px, {scheme}:\n" + "\n".join(found)
    with opened(browser, path, *(ways or WAYS)[0]) as page:
        figures = page.evaluate("!!window.Bokeh")
        look(overflow, WAYS[::3])
        if not ways: return
        without_repeats(page)
        look(lambda page: violations(page, ignore), ways)
