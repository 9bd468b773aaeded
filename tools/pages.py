"""Which notebooks there are, what their pages are called, and how links between them are written."""
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from nbdev.config import get_config

LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)#\s]+)")  # the target of a Markdown link to another file
CAPTION = re.compile(r"\A\*(?!\*)(.+?)(?<!\*)\*[ \t]*(?=\n|\Z)", re.S)  # a first paragraph all in italics


def notebooks() -> list[Path]:
    "The notebooks in reading order: the numbered ones, the tutorials, no checkpoints."
    found = (p for p in get_config().nbs_path.rglob("*.ipynb") if not p.parent.name.startswith((".", "_")))
    return sorted(found, key=lambda p: (len(p.parts), p))


def without_number(path: Path | PurePosixPath) -> PurePosixPath:
    "The path with the last part's number taken off: clustering for 00_clustering, as _modidx names it."
    return PurePosixPath(path.as_posix()).with_name(re.sub(r"^\d+[a-z]*_", "", path.name))


def page(path: Path) -> PurePosixPath:
    "A notebook's page in the documentation, without suffix: no number, tutorials in their folder."
    return without_number(path.relative_to(get_config().nbs_path).with_suffix(""))


def relink(text: str, to: Callable[[str], str]) -> str:
    "`text` with the target of each relative Markdown link rewritten."
    return LINK.sub(lambda m: to(m[1]), text)


def plain(text: str) -> str:
    "Markdown as the words that are read aloud."
    text = re.sub(r"\{py:obj\}`([^<`]+?) ?<[^`]*`|\[([^\]]+)\]\([^)]*\)", lambda m: m[1] or m[2], text)
    return " ".join(re.sub(r"[*`$]|\A#+ ", "", text).split())
