"""What the tests need to know about the notebooks."""
import ast
import re
from functools import cache
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
PACKAGE = "scrapeopt"
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if not p.parent.name.startswith((".", "_")))
EXPORT = re.compile(r"^\s*#\|\s*(export|exporti|exports)\b", re.M)


def name(path: Path) -> str: return path.relative_to(ROOT / "nbs").with_suffix("").as_posix()


@cache
def cells(path: Path) -> list[nbformat.NotebookNode]:
    "Its cells, read once, since hundreds of tests look at them; nobody changes them."
    return nbformat.read(path, as_version=4).cells


def code(path: Path) -> list[nbformat.NotebookNode]: return [c for c in cells(path) if c.cell_type == "code"]


def exported(path: Path) -> list[nbformat.NotebookNode]: return [c for c in code(path) if EXPORT.search(c.source)]


def module(path: Path) -> str | None:
    "The module that a notebook exports to, inside the package."
    found = [m for c in code(path) for m in re.findall(r"^\s*#\|\s*default_exp\s+([\w.]+)", c.source, re.M)]
    return found[0] if found else None


def tree(source: str) -> ast.Module:
    "The syntax tree of a cell, without its magics and shell lines."
    return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M))


def imports(source: str) -> set[str]:
    "Every module that a cell imports, also inside functions."
    found = set()
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Import): found |= {a.name for a in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


EXPORTING = [p for p in NOTEBOOKS if module(p)]  # the notebooks that are modules
