"""Every page of the documentation, opened from disk as a reader without a network would: `make docs` writes them."""
import re
from collections.abc import Iterator
from typing import Any

import nbs
import pytest
from browser import NARROW, SCHEMES, WIDE, assert_page_is_fine, chromium, opened

HTML = nbs.ROOT / "_build" / "html"
PAGES = sorted(p.relative_to(HTML).as_posix() for p in HTML.rglob("*.html") if "_static" not in p.parts)
built = pytest.mark.skipif(not PAGES, reason="the site is not built: make docs")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as b: yield b


@built
@pytest.mark.parametrize("page", PAGES or ["none"])
def test_page_is_fine(browser, page):
    "The front page in all four ways; others in two, which have both widths and both schemes; source code in one."
    ways = [(w, s) for w in (NARROW, WIDE) for s in SCHEMES]
    if page != "index.html": ways = [ways[0], ways[-1]][:1 if page.startswith("_modules/") else 2]
    for width, scheme in ways: assert_page_is_fine(HTML / page, browser, widths=(width,), schemes=(scheme,))


@built
def test_the_first_screen_shows_the_result(browser):
    with opened(browser, HTML / "index.html") as page:
        for what in ("h1", "article img", "strong:has-text('scrapes instead of')", "pre:has-text('make demo')"):
            box = page.locator(what).first.bounding_box()
            assert box and box["y"] + box["height"] <= 900, f"{what} is below the first screen: {box}"


@built
def test_search_works_without_a_network(browser):
    with opened(browser, HTML / "index.html") as page:
        page.locator("input[name=q]").first.fill("match_threshold")
        page.locator("input[name=q]").first.press("Enter")
        page.wait_for_selector("ul.search li a")
        page.locator("ul.search li a").first.click()
        assert "match_threshold" in page.locator("article").inner_text()


@built
def test_sidebar_has_its_groups(browser):
    with opened(browser, HTML / "index.html") as page:
        groups = page.locator(".sidebar-tree .caption-text").all_text_contents()
    assert groups == ["Start", "Tutorials", "Method", "Production", "Proof", "Desk", "Reference", "Figures"]


@built
@pytest.mark.parametrize("page", PAGES or ["none"])
def test_pictures_have_words(page):
    "axe-core takes a file's name for words; a picture here says more."
    article = re.search(r"<article.*?</article>", (HTML / page).read_text(encoding="utf-8"), re.S)
    alts = [re.search(r'alt="([^"]*)"', image) for image in re.findall(r"<img[^>]*>", article[0] if article else "")]
    assert all(alt and len(alt[1]) > 15 for alt in alts), [alt and alt[1] for alt in alts]
