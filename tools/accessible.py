"""Mend what the theme's pages lack for those who read by keyboard or by ear; run on every page after it is written."""
import re
from pathlib import Path

FIXES = (
    ('<p class="caption" role="heading">', '<p class="caption" role="heading" aria-level="2">'),
    ('<aside class="sidebar-drawer">', '<aside class="sidebar-drawer" aria-label="Pages">'),
    ('<aside class="toc-drawer">', '<aside class="toc-drawer" aria-label="On this page">'),
    ("<pre>", '<pre tabindex="0">'),  # what may scroll must be reached by keyboard
    ('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper'),
    ('<div class="cell_output docutils container">', '<div tabindex="0" class="cell_output docutils container">'),
    ('<div class="math', '<div tabindex="0" class="math'),
)
EMPTY_HEAD = re.compile(r"<th([^>]*)>(\s|<p>\s*</p>)*</th>")  # the corner of a table heads nothing
SIGNATURE = re.compile(r'<dt class="sig .*?</dt>', re.S)
SIGNATURE_LINES = ((r"<dl>", '<div class="sig-lines">'), (r"</dl>", "</div>"), (r"<dd>", "<div>"), (r"</dd>", "</div>"))


def one_a_line(found: re.Match) -> str:
    "A signature's parameters as plain lines: a list of definitions without terms is none."
    text = found[0]
    for old, new in SIGNATURE_LINES: text = text.replace(old, new)
    return text


def mended(html: str) -> str:
    "A page with its fixes."
    for old, new in FIXES: html = html.replace(old, new)
    html = SIGNATURE.sub(one_a_line, EMPTY_HEAD.sub(r"<td\1></td>", html))
    if "<h1" in html: return html
    return re.sub(r'(<article[^>]*id="furo-main-content"[^>]*>)', r"\1\n<h1>Search</h1>", html)


def mend(folder: Path) -> None:
    "Mend every page in `folder`."
    for path in folder.rglob("*.html"):
        if "_static" in path.parts: continue
        path.write_text(mended(path.read_text(encoding="utf-8")), encoding="utf-8")
