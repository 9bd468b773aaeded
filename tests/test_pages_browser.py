"""Maps and report in a real browser: opened from disk, without a network, wide and narrow, light and dark."""
import browser
import pytest

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
