"""Every page of the documentation, opened from disk as a reader without a network would: `make docs` writes them."""
import html
import re
from collections.abc import Iterator, Sequence
from typing import Any

import nbs
import pytest
from browser import WAYS, assert_page_is_fine, chromium, opened
from effort import drilled

from tools import pages

pytestmark = pytest.mark.slow
HTML = nbs.ROOT / "_build" / "html"
PAGES = sorted(p.relative_to(HTML).as_posix() for p in HTML.rglob("*.html") if "_static" not in p.parts)
built = pytest.mark.skipif(not PAGES, reason="the site is not built: make docs")
CODE = [p for p in PAGES if p.startswith("_modules/")]  # all made by one template
READ = [p for p in PAGES if p not in CODE]
ONE_OF_A_KIND = {"core/index.html", "glossary.html", "genindex.html", "search.html", "commands.html", "settings.html",
                 "api.html", "rooms.html", "tutorials/how_it_works.html"}
TWO = [WAYS[2], WAYS[1]]  # both widths and both schemes


def visits() -> dict[str, Sequence[tuple[int, str]]]:
    """In which ways axe-core looks at a page: the front page in all four, one page in 24 and each of a kind in two,
    one in six in one or the other; of the source code one page in 24, which is only opened. `make drills` looks at
    all pages in all ways."""
    one = {page: [TWO[k % 2]] for k, page in enumerate(READ[::6])}
    two = dict.fromkeys([*READ[::24], *sorted(ONE_OF_A_KIND.intersection(READ))], TWO)
    return one | two | {"index.html": WAYS} | dict.fromkeys(CODE[::24], ())


VISITS = visits()
WRITTEN = [*READ, *map(drilled, CODE)]  # pages of source code hold what Sphinx puts there, and code


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as b: yield b


@built
@pytest.mark.parametrize("page", VISITS)
def test_page_is_fine(browser, page):
    assert_page_is_fine(HTML / page, browser, ways=VISITS[page])


@pytest.mark.drill
@built
@pytest.mark.parametrize("page", PAGES or ["none"])
def test_page_is_fine_in_every_way(browser, page):
    assert_page_is_fine(HTML / page, browser)


@built
def test_the_first_screen_shows_the_result(browser):
    with opened(browser, HTML / "index.html") as page:
        for what in ("h1", "article img", "strong:has-text('scrapes for 156 stores')", "pre:has-text('make demo')"):
            box = page.locator(what).first.bounding_box()
            assert box and box["y"] + box["height"] <= 900, f"{what} is below the first screen: {box}"


@built
def test_a_line_of_code_fits_the_page(browser):
    "120 characters, the most that a line has, are read without scrolling on a screen of 1280."
    with opened(browser, HTML / "overlap.html") as page:
        wide = page.evaluate("""[...document.querySelectorAll('.cell_input pre')].filter(e => e.offsetParent)
            .filter(e => e.scrollWidth > e.clientWidth && e.innerText.split('\\n').every(l => l.length <= 120))
            .map(e => e.innerText)""")
    assert not wide


@built
def test_what_is_to_be_typed_keeps_its_quotes_and_hyphens():
    text = (HTML / "commands.html").read_text(encoding="utf-8")
    assert "my.py {company} {store_id} {output}" in text and not re.search("[\u2018\u2019\u2013]", text)


@built
def test_search_works_without_a_network(browser):
    with opened(browser, HTML / "index.html") as page:
        page.locator("input[name=q]").first.fill("match_threshold")
        page.locator("input[name=q]").first.press("Enter")
        page.wait_for_selector("ul.search li a")
        page.locator("ul.search li a").first.click()
        page.wait_for_url(lambda url: "/search.html" not in url)
        assert "match_threshold" in page.locator("article").inner_text()


@built
def test_sidebar_has_its_groups(browser):
    with opened(browser, HTML / "index.html") as page:
        groups = page.locator(".sidebar-tree .caption-text").all_text_contents()
        folders = page.locator(".sidebar-tree .has-children > a").all_text_contents()
        modules = page.locator(".sidebar-tree .has-children > ul")
        unfolded = modules.evaluate_all("lists => lists.filter(list => list.offsetHeight).length")
    assert groups == ["Start", "Tutorials", "Look it up", "The method", "Figures", "For builders"]
    assert folders == ["The rooms", *(name.capitalize() for name in pages.folders())] and not unfolded


@built
def test_the_front_page_says_where_to_go(browser):
    "Whoever comes finds a door of their own, and each door opens."
    with opened(browser, HTML / "index.html") as page:
        for who, door in (("analyst", "how it works"), ("run the scraper", "your own data"),
                          ("read the prices", "reading the prices"), ("build", "what one imports")):
            row = page.locator("article table tr", has_text=who).first
            assert (HTML / row.locator("a").first.get_attribute("href")).exists()
            assert door in row.locator("a").first.inner_text()


@built
def test_what_is_folded_can_be_unfolded(browser):
    "A tutorial's plumbing is a line to click on, by mouse and keyboard."
    with opened(browser, HTML / "tutorials" / "reading_prices.html") as page:
        fold = page.locator("article details").first
        assert not fold.locator("pre").first.is_visible()
        fold.locator("summary").focus()
        page.keyboard.press("Enter")
        assert fold.locator("pre").first.is_visible()


@built
@pytest.mark.parametrize("name", ["commands.html", "settings.html"])
def test_a_table_of_contents_leads_to_each_entry(browser, name):
    "Every link of the table at the top ends at a heading of the page."
    with opened(browser, HTML / name) as page:
        targets = page.locator("article table a[href^='#']").evaluate_all(
            "links => links.map(a => [a.innerText, document.getElementById(a.hash.slice(1))?.innerText ?? ''])")
        assert len(targets) > 20 and all(word.split()[-1] in found for word, found in targets)


@built
def test_the_method_is_read_in_order(browser):
    "The next page of a chapter is the next chapter."
    order = [f"{pages.page(path).name}.html" for path in pages.chapters()]
    with opened(browser, HTML / order[0]) as page:
        for name in order[1:]:
            page.locator("a.next-page").click()
            page.wait_for_url(f"**/{name}")


@built
def test_the_glossary_is_linked_from_the_front_page(browser):
    with opened(browser, HTML / "index.html") as page:
        page.locator("article a:has-text('glossary')").first.click()
        page.wait_for_url("**/glossary.html")
        assert page.locator("dl.glossary dt").count() > 40


@built
@pytest.mark.parametrize("page", WRITTEN or ["none"])
def test_pictures_have_words(page):
    "axe-core takes a file's name for words; a picture here says more."
    article = re.search(r"<article.*?</article>", (HTML / page).read_text(encoding="utf-8"), re.S)
    alts = [re.search(r'alt="([^"]*)"', image) for image in re.findall(r"<img[^>]*>", article[0] if article else "")]
    assert all(alt and len(alt[1]) > 15 for alt in alts), [alt and alt[1] for alt in alts]


@built
@pytest.mark.parametrize("page", WRITTEN or ["none"])
def test_tables_are_tables(page):
    "No Markdown is left as it was typed."
    assert not re.search(r"<p>\s*\|", (HTML / page).read_text(encoding="utf-8"))


@built
@pytest.mark.parametrize("page", WRITTEN or ["none"])
def test_no_object_is_shown_by_its_address(page):
    "What a reader sees is a value, never where Python kept it."
    text = html.unescape(re.sub(r"<[^>]+>", "", (HTML / page).read_text(encoding="utf-8")))
    assert not re.search(r".{0,60}object\s+at\s+0x\w+", text)
