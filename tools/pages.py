"""Which notebooks there are, in which order they are read, what their pages are called, and how links are written."""
import json
import re
from collections.abc import Callable
from configparser import ConfigParser
from graphlib import TopologicalSorter
from pathlib import Path, PurePosixPath

from nbdev.config import get_config

LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)#\s]+)")  # the target of a Markdown link to another file
CAPTION = re.compile(r"\A\*(?!\*)(.+?)(?<!\*)\*[ \t]*(?=\n|\Z)", re.S)  # a first paragraph all in italics


def notebooks() -> list[Path]:
    "The notebooks: the chapters in reading order, then folder by folder, no checkpoints."
    found = (p for p in get_config().nbs_path.rglob("*.ipynb") if not p.parent.name.startswith((".", "_")))
    return sorted(found, key=lambda p: (len(p.parts), p))


def without_number(path: Path | PurePosixPath) -> PurePosixPath:
    "The path with the last part's number taken off: clustering for 00_clustering, as _modidx names it."
    return PurePosixPath(path.as_posix()).with_name(re.sub(r"^\d+[a-z]*_", "", path.name))


def page(path: Path) -> PurePosixPath:
    "A notebook's page in the documentation, without suffix: no number, folders as they are."
    return without_number(path.relative_to(get_config().nbs_path).with_suffix(""))


def chapters() -> list[Path]:
    "The numbered notebooks: the method, in reading order."
    return [p for p in notebooks() if re.match(r"\d", p.name)]


def folders() -> list[str]:
    "The package's folders, low to high, in the order that import-linter holds."
    order = ConfigParser()
    order.read(get_config().config_path / ".importlinter", encoding="utf-8")
    layers = re.findall(r"\w+", order["importlinter:contract:order"]["layers"])
    return [name for name in reversed(layers) if (get_config().nbs_path / name).is_dir()]


def first_cell(path: Path) -> str:
    "What notebook `path` begins with: its title and its promise."
    return "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])


def title_and_promise(path: Path) -> tuple[str, str]:
    "The words of the title and of the line under it."
    found = re.match(r"# (.+)\n+> (.+)", first_cell(path))
    if not found: raise ValueError(f"{path.name} does not begin with a title and a promise")
    return found[1].strip(), found[2].strip()


def in_folder(folder: str) -> list[Path]:
    "A folder's notebooks, each after those it imports from as it is loaded; by name where that leaves a choice."
    found = {p.stem: p for p in notebooks() if p.parent == get_config().nbs_path / folder}
    needs = {}
    for name, path in sorted(found.items()):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        code = "\n".join(source for source in sources if "#| export" in source)
        imported = re.findall(rf"^from {get_config().lib_path.name}\.{folder}(?:\.(\w+))? import (.+)", code, re.M)
        needs[name] = {m or n for m, names in imported for n in re.findall(r"\w+", names)} & (found.keys() - {name})
    order, sorter = [], TopologicalSorter(needs)
    sorter.prepare()
    ready: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()])
        order.append(ready.pop(0))
        sorter.done(order[-1])
    return [found[name] for name in order]


def relink(text: str, to: Callable[[str], str]) -> str:
    "`text` with the target of each relative Markdown link rewritten."
    return LINK.sub(lambda m: to(m[1]), text)


def plain(text: str) -> str:
    "Markdown as the words that are read aloud."
    text = re.sub(r"\{py:obj\}`([^<`]+?) ?<[^`]*`|\[([^\]]+)\]\([^)]*\)", lambda m: m[1] or m[2], text)
    return " ".join(re.sub(r"[*`$]|\A#+ ", "", text).split())
