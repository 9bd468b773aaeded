"""The package as others get it: built from what git knows, into an sdist and wheels, and installed elsewhere."""
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import nbs

CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SCRAPEOPT_"))}
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


@dataclass(frozen=True)
class Built:
    "What was built."
    sdist: Path
    wheel: Path  # from the repository
    from_sdist: Path  # the wheel that the sdist makes


def known_files() -> list[str]:
    "The files of the repository, the new ones among them."
    told = subprocess.check_output(["git", "ls-files", "-zco", "--exclude-standard"], cwd=nbs.ROOT, text=True)
    return [f for f in told.split("\0") if f and (nbs.ROOT / f).is_file()]


def built_by(source: Path, hook: str, to: Path) -> Path:
    "What setuptools builds of a folder."
    done = subprocess.run([sys.executable, "-c", BUILD, hook, str(to)], cwd=source, env=CLEAN, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    return to / done.stdout.splitlines()[-1]


def build(folder: Path) -> Built:
    "The package, built in a folder from a copy of the repository."
    source = folder / "source"
    for f in known_files():
        (source / f).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(nbs.ROOT / f, source / f)
    for name in ("sdist", "wheel", "again"): (folder / name).mkdir()
    sdist = built_by(source, "build_sdist", folder / "sdist")
    with tarfile.open(sdist) as tar: tar.extractall(folder / "unpacked", filter="data")
    unpacked, = (folder / "unpacked").iterdir()
    return Built(sdist, built_by(source, "build_wheel", folder / "wheel"),
                 built_by(unpacked, "build_wheel", folder / "again"))


def contents(wheel: Path) -> dict[str, bytes]:
    "The files of a wheel, without the list of them."
    with zipfile.ZipFile(wheel) as z: return {n: z.read(n) for n in z.namelist() if not n.endswith(".dist-info/RECORD")}


def environment(folder: Path, *what: str) -> Path:  # its commands
    "A fresh environment with packages from the registry, or from files."
    if not folder.exists(): venv.create(folder, with_pip=True)
    done = subprocess.run([folder / "bin/python", "-m", "pip", "install", "-q", *what], env=CLEAN, text=True,
                          cwd=folder.parent, capture_output=True)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def ran(words, cwd: Path, codes=(0,), trace=False, **more: str) -> str:
    "What a program prints; it must end with one of `codes`, and without a traceback unless that is its way to fail."
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=CLEAN | more, capture_output=True, text=True)
    assert done.returncode in codes, (words, done.returncode, done.stdout, done.stderr)
    assert trace or "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr
