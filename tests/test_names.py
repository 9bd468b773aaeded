"""What things are called and who uses them: read off the package's syntax trees, without importing it."""
import ast
import importlib
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path

import nbs
import pandas as pd
import pytest

from scrapeopt.grouping import events as events_module
from scrapeopt.grouping.events import EVENTS, Event
from tools import public_names

TREES = public_names.modules()
FOLDERS = tuple(sorted({m.split(".")[0] for m in TREES if "." in m}))
PLACES = {nbs.name(p): p for p in nbs.NOTEBOOKS}


@pytest.mark.parametrize("module, name", [(m, n) for m, names in public_names.PUBLIC.items() for n in names.split()])
def test_names_that_others_build_on_are_importable(module, name):
    found = importlib.import_module(f"{nbs.PACKAGE}.{module}")
    assert hasattr(found, name) or importlib.import_module(f"{found.__name__}.{name}")


@pytest.mark.slow
def test_only_what_others_use_is_public():
    "Everything else is `#| exporti`: `python tools/public_names.py` writes it so."
    assert [f"{module}: {', '.join(names)}" for module, names in public_names.unused().items()] == []


CELL = """#| export
NEAR = 0.01  # dollars


# why it is so
FAR = 1.0
def _inside(x): return x * FAR


@cache
def outside(x): return _inside(x)"""


def test_cells_are_split_by_who_uses_their_names():
    cell = {"cell_type": "code", "id": "0a1b2c3d", "metadata": {}, "outputs": [], "source": CELL.splitlines(True)}
    same, = public_names.hidden_cells(cell, set())
    first, *others = public_names.hidden_cells(cell, {"NEAR", "FAR"})
    whole, = public_names.hidden_cells(cell, {"NEAR", "FAR", "outside"})
    assert same["source"] == cell["source"] and first["id"] == cell["id"] == whole["id"]
    assert ["".join(c["source"]) for c in [first, *others]] == [
        CELL.partition("\n\n\n@cache")[0].replace("export", "exporti"),
        "#| export\n@cache\ndef outside(x): return _inside(x)"]
    assert "".join(whole["source"]) == CELL.replace("export", "exporti")
    again = [public_names.hidden_cells(c, {"NEAR", "FAR"}) for c in (first, *others)]
    assert again == [[first], others]  # once is enough


def test_no_public_name_lives_in_two_modules():
    homes: dict[str, list[str]] = {}
    for module, tree in TREES.items():
        for name in public_names.public(tree): homes.setdefault(name, []).append(module)
    assert [f"{name}: {', '.join(modules)}" for name, modules in homes.items() if len(modules) > 1] == []


def loads(tree: ast.AST) -> Counter[str]:
    "How often each name is read, in a syntax tree, also in annotations that are text; a class's bases do not count."
    nodes = list(ast.walk(tree))
    bases = {id(n) for c in nodes if isinstance(c, ast.ClassDef) for b in c.bases for n in ast.walk(b)}
    found = Counter(n.id if isinstance(n, ast.Name) else n.attr for n in nodes
                    if isinstance(n, ast.Name | ast.Attribute) and isinstance(n.ctx, ast.Load) and id(n) not in bases)
    for node in nodes:
        for part in filter(None, (getattr(node, "annotation", None), getattr(node, "returns", None))):
            for text in (n.value for n in ast.walk(part) if isinstance(n, ast.Constant)):
                found.update(re.findall(r"\w+", text) if isinstance(text, str) else ())
    return found


def test_no_base_class_has_a_single_heir_and_no_life_of_its_own():
    "A class that is never made, named or asked for, and that one class alone inherits from, is a part of that class."
    classes = [c for tree in TREES.values() for c in ast.walk(tree) if isinstance(c, ast.ClassDef)]
    heirs, used = Counter(ast.unparse(b).split(".")[-1].split("[")[0] for c in classes for b in c.bases), Counter()
    for tree in TREES.values(): used += loads(tree)
    public = {n for names in public_names.PUBLIC.values() for n in names.split()}
    assert [c.name for c in classes if heirs[c.name] == 1 and not used[c.name] and c.name not in public] == []


# ---- events

def test_every_event_is_known_by_name():
    def below(kind): return {kind} | {k for heir in kind.__subclasses__() for k in below(heir)}
    known = {kind for kind in below(Event) - {Event} if kind.__module__.startswith(f"{nbs.PACKAGE}.")}
    assert set(EVENTS.values()) == known and all(name == kind.__name__ for name, kind in EVENTS.items())


SAMPLES = {"company": "Coles", "at": "2026-11-23T02:00:00+00:00", "group": "[Coles-Perth]", "store": "0042"}
BY_TYPE = {"str": "0043", "float": 0.875, "int": 3, "bool": True}


def sample(kind: type[Event]) -> Event:
    "An event of this class, with a value of the right type in each field."
    given = {}
    for f in fields(kind):
        main = f.type.__name__ if isinstance(f.type, type) and f.type in (str, int, float, bool) else str(f.type)
        main = main.split(" | ")[0]
        if f.name in SAMPLES: given[f.name] = SAMPLES[f.name]
        elif main.startswith("tuple[tuple"): given[f.name] = ()
        elif main.startswith(("tuple", "frozenset")):
            value = BY_TYPE[re.search(r"\[(\w+)", main)[1]]
            given[f.name] = (value,) if main.startswith("tuple") else frozenset([value])
        elif main in BY_TYPE: given[f.name] = BY_TYPE[main]
    return kind(**given | {"at": pd.Timestamp(SAMPLES["at"])})


def test_every_event_survives_in_the_state(tmp_path):
    "Written in this process, read in a fresh one that imports nothing but the workspace."
    from sqlalchemy import select

    from scrapeopt.storage.repository import _event_row
    from scrapeopt.storage.tables import Company, GroupEvent
    from scrapeopt.workspace import Workspace

    made = [sample(kind) for kind in EVENTS.values()]
    ws = Workspace.create(tmp_path / "shop")
    with ws.begin() as session:
        company = Company(name="Coles", currency="AUD", timezone="Australia/Perth", decimals=2, changeover=2)
        session.add(company)
        session.flush()
        session.add_all(_event_row(company, event) for event in made)
    with ws.begin() as session:
        rows = session.execute(select(GroupEvent.kind, GroupEvent.record).order_by(GroupEvent.id)).all()
    assert [events_module.event_from_record(kind, record) for kind, record in rows] == made
    code = (f"from scrapeopt.workspace import Workspace; log = Workspace.open({str(tmp_path / 'shop')!r}).events(); "
            "print(log[['kind', 'words']].to_json(orient='values'))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[type(event).__name__, event.words()] for event in made]


# ---- times

CLOCKS = re.compile(r"(\w+\.)*(perf_counter|process_time|thread_time|monotonic|default_timer|time\.time)(_ns)?$")


def reads_clock(node: ast.AST) -> bool:
    "Whether a clock is asked in it."
    return any(isinstance(n, ast.Call) and CLOCKS.match(ast.unparse(n.func)) for n in ast.walk(node))


def names_in(node: ast.AST) -> set[str]: return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def timed_names(body: list[ast.stmt]) -> set[str]:
    "Names whose value came from a clock: assigned, collected in a list, or returned by a function defined here."
    timed: set[str] = set()
    def is_timed(node): return reads_clock(node) or bool(names_in(node) & timed)
    for _ in range(3):  # what is timed through one name, then through the next
        for node in (n for statement in body for n in ast.walk(statement)):
            if isinstance(node, ast.FunctionDef):
                if any(isinstance(r, ast.Return) and r.value and is_timed(r.value) for r in ast.walk(node)):
                    timed.add(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value and is_timed(node.value):
                left = node.targets if isinstance(node, ast.Assign) else [node.target]
                parts = [n.value if isinstance(n, ast.Subscript) else n for t in left for n in ast.walk(t)
                         if isinstance(getattr(n, "ctx", None), ast.Store)]
                timed |= {n.id for n in parts if isinstance(n, ast.Name)}
            elif (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append"
                  and any(map(is_timed, node.args))): timed |= names_in(node.func.value)
    return timed


def timed_comparisons(body: list[ast.stmt], within: type[ast.AST]) -> list[str]:
    "What compares, inside nodes of a kind, what a clock said; the condition of a waiting loop does not count."
    if not any(map(reads_clock, body)): return []
    timed, found = timed_names(body), []
    waits = {id(n) for s in body for loop in ast.walk(s) if isinstance(loop, ast.While) for n in ast.walk(loop.test)}
    for node in (n for statement in body for n in ast.walk(statement) if isinstance(n, within)):
        compared = [n for n in ast.walk(node) if isinstance(n, ast.Compare) and id(n) not in waits]
        if any(reads_clock(n) or names_in(n) & timed for n in compared): found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", [*nbs.NOTEBOOKS, *sorted((nbs.ROOT / "tests").glob("*.py"))],
                         ids=lambda p: p.relative_to(nbs.ROOT).as_posix())
def test_nothing_depends_on_seconds(path):
    """On a busy machine it fails. What must not get slow is counted: queries, files, modules; speed is a benchmark's.
    In a notebook the text must not depend on it either."""
    if path.suffix == ".ipynb":  # later cells see the names of earlier ones
        shown = [c.source for c in nbs.code(path) if not c.source.startswith("%%") and not nbs.EXPORT.search(c.source)]
        found = timed_comparisons([s for source in shown for s in nbs.tree(source).body], ast.Compare)
    else:
        tests = ast.parse(path.read_text(encoding="utf-8")).body
        found = [c for test in tests for c in timed_comparisons([test], ast.Assert)]
    assert found == []


# ---- words in prose point at what there is

MENTIONED = re.compile(rf"(?<![\w/.-]){nbs.PACKAGE}\.([a-z_][\w.]*\w)")
NUMBERED = re.compile(r"(?<![\w/])(\d\d[a-z]{0,2}_[a-z]\w*?)(?:\.ipynb)?\b")
PLACE = rf"(?:{'|'.join(FOLDERS)}|tutorials)/[a-z_]\w*"
IN_FOLDER = re.compile(rf"(?<![\w/.-])((?:nbs/|{nbs.PACKAGE}/)?)({PLACE})(\.\w+)?(?![\w/])")
PATH = re.compile(rf"(?<![\w./{{-])((?:{nbs.PACKAGE}|nbs|tests|tools|docs|benchmarks)/[\w/]+(?:\.\w+)?)")
FILES = {"toml", "db", "invalid"}  # what follows the package's name in names of files and hosts


def members(module: str) -> set[str]:
    "What a module has at its top level: its own and what it imports."
    tree = TREES[module]
    found = {name for s in tree.body for name in public_names.targets(s)}
    return found | {a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}


def resolves(dotted: str) -> bool:
    "Whether a path inside the package leads to a folder, a module, or a name in one."
    parts = dotted.split(".")
    path = nbs.ROOT / nbs.PACKAGE / "/".join(parts)
    if parts[0] in FILES or path.is_dir() or path.with_suffix(".py").is_file(): return True
    for k in (2, 1):
        if (module := ".".join(parts[:k])) in TREES and len(parts) > k: return parts[k] in members(module)
    return False


def comments(source: str) -> str:
    "The comments and docstrings of Python code."
    tree = nbs.tree(source)
    said = [ast.get_docstring(n, clean=False) or "" for n in ast.walk(tree)
            if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    return "\n".join([*said, *re.findall(r"(?:^|\s)#(?! %%)(.*)", source)])


def prose(path: Path) -> str:
    "What is said in a file, without what it computes."
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py": return comments(text)
    if path.suffix != ".ipynb": return text
    return "\n".join(c.source if c.cell_type == "markdown" else "" if c.source.startswith("%%") else comments(c.source)
                     for c in nbs.cells(path))


TOLD = [*nbs.NOTEBOOKS, *sorted(p for pattern in ("*.md", "Makefile", ".importlinter", "settings.ini", "docs/*.md",
                                                  "tests/*.py", "tools/*.py", "benchmarks/*.py", "docs/*.py")
                                for p in nbs.ROOT.glob(pattern))]


@pytest.mark.parametrize("path", TOLD, ids=lambda p: p.relative_to(nbs.ROOT).as_posix())
def test_what_is_mentioned_is_there(path):
    "Every module, name and notebook that prose and comments mention."
    text, stems = prose(path), {p.stem for p in nbs.NOTEBOOKS}
    wrong = [f"{nbs.PACKAGE}.{m}" for m in MENTIONED.findall(text) if not resolves(m)]
    wrong += [m for m in NUMBERED.findall(text) if m not in stems]
    for root, place, suffix in IN_FOLDER.findall(text):
        kept = (nbs.ROOT / nbs.PACKAGE / (place + suffix)).exists() or (nbs.ROOT / nbs.PACKAGE / place).is_dir()
        if place not in PLACES and not kept: wrong.append(f"{root}{place}{suffix}")
    for place in PATH.findall(text):
        ends = ("", ".py", ".ipynb", ".md")
        if not any((nbs.ROOT / (place.rstrip("/") + end)).exists() for end in ends): wrong.append(place)
    assert wrong == []


@pytest.mark.parametrize("path", [*nbs.NOTEBOOKS, *sorted(nbs.ROOT.glob("*.md")), *sorted(nbs.ROOT.glob("docs/*.md"))],
                         ids=lambda p: p.relative_to(nbs.ROOT).as_posix())
def test_links_between_pages_lead_somewhere(path):
    from tools.pages import LINK
    text = prose(path) if path.suffix != ".ipynb" else "\n".join(
        c.source for c in nbs.cells(path) if c.cell_type == "markdown")
    targets = [t for t in LINK.findall(text) if t.endswith((".ipynb", ".md"))]
    assert [t for t in targets if not (path.parent / t).exists()] == []
