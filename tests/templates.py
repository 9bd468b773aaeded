"Folders that many tests begin with, above all workspaces: made once in a run of the tests, and copied."
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import quote

import pytest
from filelock import FileLock

from scrapeopt.workspace import Workspace

SHARED = "TESTS_MADE_ONCE"  # names the folder for the processes of a run: the workers share out a module's tests


@cache
def own() -> tempfile.TemporaryDirectory:
    "A folder that lasts as long as the process, for one that pytest did not start."
    return tempfile.TemporaryDirectory(prefix="scrapeopt-made-once-")


def share(factory: pytest.TempPathFactory) -> None:
    "Let all workers of this run find what one of them has made."
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"
    folder.mkdir(exist_ok=True)
    os.environ[SHARED] = str(folder)


def made_once(
    make: Callable[..., object],  # takes the path of a folder that is not there yet, and the arguments
    *arguments: str,
) -> Path:
    "What `make` makes: by who asks first, while others wait. Only to be read, or copied."
    name = quote("-".join((make.__module__, make.__qualname__, *arguments)), safe="")
    folder = Path(os.environ.get(SHARED) or own().name) / name
    made = folder.with_name(f"{name}.made")
    with FileLock(f"{folder}.lock"):
        if made.exists(): return folder
        shutil.rmtree(folder, ignore_errors=True)  # of one who failed
        result = make(folder, *arguments)
        if isinstance(result, Workspace): result.engine.dispose()
        made.touch()
    return folder


def copied(make: Callable[..., object], path: Path, *arguments: str) -> Path:
    "A copy of what `make` makes."
    return Path(shutil.copytree(made_once(make, *arguments), path, dirs_exist_ok=True))


def copy_of(
    build: Callable[..., Workspace],  # takes a path, and the arguments
    path: Path,  # of the copy
    *arguments: str,
) -> Workspace:
    "A copy of the workspace that `build` makes."
    return Workspace.open(copied(build, path, *arguments))
