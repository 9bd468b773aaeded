"Workspaces that many tests begin with: built once in a process, and copied."
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from scrapeopt.workspace import Workspace


@cache
def template(build: Callable[..., Workspace], *arguments: str) -> tempfile.TemporaryDirectory:
    "A workspace in a folder that lasts as long as the process."
    folder = tempfile.TemporaryDirectory(prefix="scrapeopt-template-")
    build(Path(folder.name) / "ws", *arguments).engine.dispose()
    return folder


def copy_of(
    build: Callable[..., Workspace],  # takes a path, and the arguments
    path: Path,  # of the copy
    *arguments: str,
) -> Workspace:
    "A copy of what `build` makes."
    shutil.copytree(Path(template(build, *arguments).name) / "ws", path, dirs_exist_ok=True)
    return Workspace.open(path)
