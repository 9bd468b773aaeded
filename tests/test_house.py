"""The rules of the house that can be read off the notebooks and files themselves."""
import ast
import base64
import re
import subprocess
from collections.abc import Iterator

import nbs
import pytest

from tools.pages import CAPTION

each_notebook = pytest.mark.parametrize("path", nbs.NOTEBOOKS, ids=nbs.name)
each_exporting = pytest.mark.parametrize("path", nbs.EXPORTING, ids=nbs.name)
COMPUTING = ("clustering", "discovery", "overlap", "groups", "spotcheck", "scheduler", "core", "grouping", "policies")
each_computing = pytest.mark.parametrize("path", [p for p in nbs.EXPORTING if nbs.module(p).split(".")[0] in COMPUTING],
                                         ids=nbs.name)

MAX_EXPORTED_LINES, MAX_PNG_BYTES = 40, 60_000
CLOCKS = {"time", "time_ns", "gmtime", "localtime", "strftime"}  # of the module time
SEEDED = {"default_rng", "Generator", "PCG64", "SeedSequence", "Random"}


@each_notebook
def test_starts_with_a_title_and_a_promise(path):
    first = nbs.cells(path)[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# \S[^\n]*\n+> \S[^\n]*(\n\n|\n?$)", first.source), first.source


def test_the_package_mirrors_the_notebooks():
    "nbs/grouping/events.ipynb is scrapeopt.grouping.events; a chapter's number is not part of its name."
    def place(path): return re.sub(r"(^|/)\d+[a-z]?_", r"\1", nbs.name(path)).replace("/", ".")
    assert {place(p): nbs.module(p) for p in nbs.EXPORTING} == {m: m for m in map(nbs.module, nbs.EXPORTING)}


def words_in(cell) -> Iterator[str]:
    "The prose of a cell, or the strings of its code, with a digit for what is filled in."
    if cell.cell_type == "markdown": yield cell.source
    for node in ast.walk(nbs.tree(cell.source)) if cell.cell_type == "code" else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, str): yield node.value
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values)


def test_percentages_are_written_in_one_way():
    "As 95.4%: in one answer of a command stood 95.4% beside 96.1 %."
    apart = re.compile(r"\d %(?![\w({])")
    cells = [(path, cell) for path in nbs.NOTEBOOKS for cell in (
        *nbs.exported(path), *(cell for cell in nbs.cells(path) if cell.cell_type == "markdown"))]
    found = [f"{nbs.name(path)}: {text}" for path, cell in cells for text in words_in(cell) if apart.search(text)]
    assert not found, found
    assert not [page.name for page in [*nbs.ROOT.glob("*.md"), *nbs.ROOT.glob("docs/*.md")]
                if apart.search(page.read_text("utf-8"))]


def test_no_two_notebooks_share_a_name():
    names = [p.name for p in nbs.NOTEBOOKS]
    assert sorted(names) == sorted(set(names))


@each_computing
def test_what_computes_takes_the_clock_and_the_seed(path):
    for cell in nbs.exported(path):
        calls = [n for n in ast.walk(nbs.tree(cell.source)) if isinstance(n, ast.Call)]
        named = {ast.unparse(c.func): c for c in calls}
        clocks = [n for n in named if n.split(".")[-1] in ("now", "utcnow", "today")
                  or (n.startswith("time.") and n.removeprefix("time.") in CLOCKS)]
        chance = [n for n, c in named.items() if n.startswith(("np.random.", "random."))
                  and not (n.split(".")[-1] in SEEDED and c.args)]
        assert not clocks, f"cell {cell.id} reads the clock:\n{cell.source}"
        assert not chance, f"cell {cell.id} draws without a seed:\n{cell.source}"


def pieces(source: str) -> Iterator[tuple[str, int]]:
    "The parts of a cell that are read at one go, with their lines of code: each method of a class, and the rest."
    lines = [bool(s.strip()) and not s.lstrip().startswith("#") for s in source.splitlines()]
    for node in (m for c in nbs.tree(source).body if isinstance(c, ast.ClassDef) for m in c.body):
        if not isinstance(node, ast.FunctionDef): continue
        span = slice(min(d.lineno for d in [node, *node.decorator_list]) - 1, node.end_lineno)
        yield node.name, sum(lines[span])
        lines[span] = [False] * len(lines[span])
    yield "the rest of it", sum(lines)


@each_notebook
def test_exported_cells_are_short(path):
    for cell in nbs.exported(path):
        for name, lines in pieces(cell.source):
            assert lines <= MAX_EXPORTED_LINES, f"cell {cell.id}: {name} has {lines} lines:\n{cell.source}"


@each_notebook
def test_what_is_exported_says_what_it_does(path):
    for cell in nbs.exported(path):
        for d in nbs.tree(cell.source).body:
            public = isinstance(d, ast.FunctionDef | ast.ClassDef) and not d.name.startswith("_")
            assert not public or ast.get_docstring(d), f"{d.name} has no docstring"


@each_exporting
def test_checks_stand_in_the_open(path):
    shown = [c.source for c in nbs.code(path) if not re.search(r"#\|\s*(hide|export)", c.source)]
    assert any(re.search(r"\bassert\b|\btest_\w+\(", s) for s in shown)


@each_notebook
def test_only_imports_and_the_export_are_hidden(path):
    for cell in nbs.code(path):
        if re.search(r"^\s*#\|\s*hide\b", cell.source, re.M):
            left = [n for n in nbs.tree(cell.source).body if not isinstance(n, ast.Import | ast.ImportFrom)]
            assert all("nbdev_export" in ast.unparse(n) for n in left), f"cell {cell.id}:\n{cell.source}"


@each_notebook
def test_pictures_are_small(path):
    for cell in nbs.code(path):
        pngs = ["".join(o.data["image/png"]) for o in cell.outputs if "image/png" in o.get("data", {})]
        assert all(len(base64.b64decode(p)) < MAX_PNG_BYTES for p in pngs), f"cell {cell.id}:\n{cell.source}"


@each_notebook
def test_every_figure_has_a_caption(path):
    cells, between = nbs.cells(path), re.compile(r"(#.*\n)*(assert\b|test_\w+\()|(#.*\n)*#\|\s*hide\b")
    for i, cell in enumerate(cells):
        if not any("image/png" in o.get("data", {}) for o in cell.get("outputs", [])): continue
        after = next((c for c in cells[i + 1:] if c.cell_type != "code" or not between.match(c.source)), None)
        said = after and after.cell_type == "markdown" and CAPTION.match(after.source)
        assert said, f"no words in italics under the picture of cell {cell.id}:\n{cell.source}"


@each_notebook
def test_stored_outputs_hold_no_error(path):
    assert not [c.id for c in nbs.code(path) for o in c.outputs if o.output_type == "error"]


@each_notebook
def test_the_environment_is_left_as_it_was(path):
    "One process runs many notebooks in turn: what one leaves in the environment, the next one reads."
    lines = [line for cell in nbs.code(path) for line in cell.source.splitlines() if "os.environ" in line]
    made = {name for line in lines for name in re.findall(r'^\s*os\.environ\["(\w+)"\] =', line)}
    gone = {name for line in lines if line.startswith("del ") for name in re.findall(r'os\.environ\["(\w+)"\]', line)}
    assert made - gone <= {"PATH"}


def test_no_place_on_a_machine_is_named():
    folders = "|".join(("work", "tmp", "root", "home", "opt"))
    place = re.compile(rf"(?<![\w.~}}/])/({folders})/")
    try: files = subprocess.check_output(["git", "ls-files", "-zco", "--exclude-standard"], cwd=nbs.ROOT, text=True)
    except (OSError, subprocess.CalledProcessError): pytest.skip("not a git work tree")
    found = []
    for f in filter(None, files.split("\0")):
        try: text = (nbs.ROOT / f).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError): continue
        found += [f"{f}: {text[max(m.start() - 30, 0):m.end() + 30]!r}" for m in place.finditer(text)]
    assert not found, "\n".join(found)
