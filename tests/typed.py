"Commands as they are typed, each in a process of its own that is forked from one with the package loaded."
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess

# A process has one such server, so whatever the tests fork is loaded here.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload([
    "scrapeopt.cli", "scrapeopt.update", "scrapeopt.groups", "scrapeopt.reanalysis", "scrapeopt.scrape",
    "scrapeopt.clustering", "scrapeopt.analysis.status", "scrapeopt.analysis.problems", "scrapeopt.analysis.odd_places",
    "scrapeopt.storage.store_file", "scrapeopt.storage.tidy", "scrapeopt.core.map_drawing", "sklearn.cluster",
    "duckdb", "pyarrow.parquet", "pyarrow.csv", "filelock", "rich.progress", "rich.table",
    "alembic.runtime.environment", "alembic.script", "drill_world"])
NOBODY = 65534
ENDS_S = 120.0  # after which a command hangs


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def turn_output(out: int, error: int) -> None:
    "From now on what is printed goes to these open files."
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(out, 1)
    os.dup2(error, 2)


def answer(words: Sequence[str], output: Path, environment: Mapping[str, str], rehearsal: Sequence[str] | None) -> None:
    "The child: a command, its output in two files; after a rehearsal by a user who owns nothing."
    os.environ.update(environment)
    from scrapeopt.cli import main
    out, error = (os.open(output / name, os.O_WRONLY) for name in ("out", "err"))
    if rehearsal is not None:  # loads the modules that a command needs, as they may lie where only root can read
        nowhere = os.open(os.devnull, os.O_WRONLY)
        turn_output(nowhere, nowhere)
        try: main(list(rehearsal))
        except SystemExit: become_nobody()
    turn_output(out, error)
    try: main(list(words))
    finally: turn_output(out, error)


def typed(*words: object, rehearsal: Sequence[object] | None = None, **environment: str) -> CompletedProcess[str]:
    "What a command prints; with a rehearsal on another folder, to a user who owns nothing."
    with tempfile.TemporaryDirectory() as place:
        for name in ("out", "err"): (Path(place) / name).touch()
        said = None if rehearsal is None else [*map(str, rehearsal)]
        child = CHILDREN.Process(target=answer, args=([*map(str, words)], Path(place),
                                                      {"COLUMNS": "160"} | environment, said))
        child.start()
        child.join(ENDS_S)
        if child.exitcode is None: child.kill()
        out, err = ((Path(place) / name).read_text() for name in ("out", "err"))
        return CompletedProcess([*map(str, words)], -9 if child.exitcode is None else child.exitcode, out, err)
