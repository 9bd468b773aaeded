"A real Dask cluster on loopback: a scheduler and workers in processes of their own, each with a folder of its own."
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import nbs

from scrapeopt.core.backends import is_there

PATIENCE = 60  # seconds that a process may take to come up on a busy machine


@dataclass
class Cluster:
    "A scheduler and its workers."
    folder: Path
    hidden: Path | None = None  # a workspace of which its workers have the settings, and nothing else
    address: str = ""
    scheduler: subprocess.Popen | None = None
    workers: list[subprocess.Popen] = field(default_factory=list)
    started: int = 0  # workers, the dead ones included

    def start(self, name: str, *words: str, home: Path = nbs.ROOT) -> subprocess.Popen:
        "A process of Dask that imports scrapeopt from a folder, and works in one of its own."
        own = self.folder / name
        own.mkdir()
        env = os.environ | {"PYTHONPATH": str(home), "OMP_WAIT_POLICY": "passive"}
        without = [*hiding(self.hidden)] if self.hidden and words[0] == "worker" else []
        with (self.folder / f"{name}.log").open("w") as log:
            return subprocess.Popen([*without, sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]],
                                    cwd=own, env=env, stdout=log, stderr=log, start_new_session=True)

    def add_worker(self, home: Path = nbs.ROOT) -> None:
        "One more worker with one thread."
        name, self.started = f"worker{self.started}", self.started + 1
        words = "--nthreads", "1", "--no-dashboard", "--no-nanny", "--name", name
        self.workers.append(self.start(name, "worker", self.address, *words, "--local-directory",
                                       str(self.folder / name), home=home))

    def wait(self) -> None:
        "Until all of its workers are there that live, and no other."
        from distributed import Client
        living = sum(worker.poll() is None for worker in self.workers)
        with Client(self.address, timeout=PATIENCE, set_as_default=False) as client:
            for _ in range(PATIENCE * 10):
                if len(client.nthreads()) == living: return
                time.sleep(0.1)
        raise AssertionError(f"the cluster has no {living} workers")

    def options(self) -> tuple[str, ...]: return "--backend", "dask", "--address", self.address


def hiding(folder: Path) -> tuple[str, ...]:
    "The beginning of a command to which a workspace is a folder with its settings alone, as on another machine."
    own = "kept=$(cat scrapeopt.toml); mount -t tmpfs none . && cd \"$PWD\" && echo \"$kept\" > scrapeopt.toml"
    whole = f"before=$PWD; cd '{folder}' && {own} && cd \"$before\" && exec \"$@\""
    return "unshare", "--mount", "sh", "-c", whole, "sh"


def seen_by_workers(cluster: Cluster, file: Path) -> bool:
    "Whether any worker sees a file."
    from distributed import Client
    with Client(cluster.address, timeout=PATIENCE, set_as_default=False) as client:
        return any(client.run(is_there, str(file)).values())


def can_hide(folder: Path) -> bool:
    "Whether this machine lets a process have mounts of its own."
    try: return subprocess.run([*hiding(folder), "true"], capture_output=True).returncode == 0
    except OSError: return False


def kill(process: subprocess.Popen) -> None:
    "Kill a process and all that it started, without a word."
    with suppress(ProcessLookupError): os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def dask_cluster(
    folder: Path, workers: int = 2, home: Path = nbs.ROOT, hidden: Path | None = None,
) -> Iterator[Cluster]:
    "A cluster with some workers."
    found = Cluster(folder, hidden)
    told = folder / "scheduler.json"
    found.scheduler = found.start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                                  "--scheduler-file", str(told), home=home)
    try:
        found.address = address_in(told)
        for _ in range(workers): found.add_worker(home)
        if workers: found.wait()
        yield found
    finally:
        for process in [*found.workers, found.scheduler]: kill(process)


def address_in(told: Path) -> str:
    "The address that a scheduler has written down."
    for _ in range(PATIENCE * 10):
        try: return json.loads(told.read_text())["address"]
        except (OSError, ValueError): time.sleep(0.1)
    raise AssertionError("the scheduler did not come up")
