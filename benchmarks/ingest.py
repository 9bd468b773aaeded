"""Taking in what was scraped, beside Polars: lines to columns, a store's file to a snapshot, and a whole update.

Polars reads the same file with `read_ndjson` and writes it with `write_parquet`. It makes no exact price, names no bad
line and knows no store; that is the least one can do with such a file. A gigabyte is read by a process of its own, for
its peak memory.
"""
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import polars as pl
from matplotlib.figure import Figure

from benchmarks.page import BLUE, ORANGE, ROOT, asked, machine, save
from scrapeopt.storage.scrape_lines import Expected, read_scrape
from scrapeopt.storage.text_blocks import MB
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

FIRST, SECOND = "20261119T020000Z.jsonl", "20261120T020000Z.jsonl"
CATEGORIES = ("Bakery", "Dairy", "Drinks", "Freezer", "Fruit & Veg", "Household", "Meat", "Pantry")


@dataclass(frozen=True)
class Sizes:
    "How much is measured."
    lines: int = 4_000  # of a store
    stores: int = 50  # in an update
    large: int = 25_000  # lines of the larger file
    rounds: int = 9
    huge_mb: int = 1_000  # of the file that is read for its memory


QUICK = Sizes(lines=400, stores=5, large=1_000, rounds=2, huge_mb=5)


def scraped(lines: int, seed: int, one_bad: bool = False) -> str:
    "What a scraper writes of a store; the products are the same for every seed, the prices are not."
    ids = np.sort(np.random.default_rng(0).choice(np.arange(100_000, 100_000 + 4 * lines), lines, replace=False))
    cents = np.random.default_rng(seed).integers(5, 300, lines) * 10 - 1
    rows = [json.dumps({"product_id": str(i), "price": f"{c / 100:.2f}", "category": CATEGORIES[i // 4_000 % 8],
                        "name": f"Product {i}, some 500 g of it"}) for i, c in zip(ids, cents, strict=True)]
    if one_bad: rows[lines // 2] = '{"product_id": "1", "price": "ask in store"}'
    return "\n".join(rows) + "\n"


def chain(folder: Path, sizes: Sizes) -> Workspace:
    "A company whose stores were scraped once, and wait to be taken in a second time."
    ws = Workspace.create(folder)
    names = [f"{k:04d}" for k in range(sizes.stores)]
    ws.import_stores(pd.DataFrame({"company": "Coles", "store_id": names, "name": "", "lat": -31.9, "lon": 115.8}))
    for stamp, seed in ((FIRST, 0), (SECOND, 1_000)):
        for k, name in enumerate(names):
            ws.inbox("Coles", name).mkdir(parents=True, exist_ok=True)
            (ws.inbox("Coles", name) / stamp).write_text(scraped(sizes.lines, seed + k))
        if stamp == FIRST: update_db(ws)
    return ws


def in_turn(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    "Median seconds of each task, on the wall and of the processor; within a round every task has its turn."
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            wall, busy = time.perf_counter(), time.process_time()
            task()
            taken[name].append((time.perf_counter() - wall, time.process_time() - busy))
    return {name: (median(w for w, _ in found), median(b for _, b in found)) for name, found in taken.items()}


def to_columns(folder: Path, sizes: Sizes) -> list[dict[str, object]]:
    "Lines to columns: exact prices by product here, every bad line named; whatever the types are there."
    rows = []
    for lines, one_bad in ((sizes.lines, False), (sizes.large, False), (sizes.large, True)):
        path = folder / "lines.jsonl"
        path.write_text(scraped(lines, 1, one_bad))
        text = path.read_bytes()
        assert len(read_scrape([text], Expected("1")).rows) == lines - one_bad
        found = in_turn({"scrapeopt": lambda text=text: read_scrape([text], Expected("1")),
                         "polars": lambda text=text: pl.read_ndjson(text)}, sizes.rounds)
        rows.append(row(f"{lines:,} lines{', one bad' * one_bad} to columns", found))
    return rows


def row(work: str, found: dict[str, tuple[float, float]]) -> dict[str, object]:
    "Ours beside Polars."
    (ours, busy), (theirs, their_busy) = found["scrapeopt"], found["polars"]
    return {"work": work, "ours_ms": ours * 1e3, "polars_ms": theirs * 1e3, "ratio": ours / theirs,
            "cpu_ratio": busy / their_busy}


def of_an_update(folder: Path, sizes: Sizes) -> dict[str, object]:
    "One store's share of an update: parsed, judged, written, recorded; as often as there are rounds."
    found: dict[str, list[tuple[float, float]]] = {"scrapeopt": [], "polars": []}
    for k in range(min(sizes.rounds, 5)):
        ws = chain(folder / str(k), sizes)
        files = sorted((ws.path / "inbox").rglob(SECOND))
        target = folder / f"{k}.parquet"
        tasks = {"polars": lambda files=files, target=target: [pl.read_ndjson(f).write_parquet(target) for f in files],
                 "scrapeopt": lambda ws=ws: update_db(ws, now=pd.Timestamp("2026-11-28", tz="UTC"))}
        for name, (wall, busy) in in_turn(tasks, 1).items():
            found[name].append((wall / sizes.stores, busy / sizes.stores))
        shutil.rmtree(ws.path)
    both = {name: (median(w for w, _ in each), median(b for _, b in each)) for name, each in found.items()}
    return row(f"a store's {sizes.lines:,} lines in an update of {sizes.stores} stores", both)


ALONE = """
import re, sys
from pathlib import Path
from scrapeopt.storage.scrape_lines import Expected, read_scrape
from scrapeopt.storage.text_blocks import ScrapedFile
rows = len(read_scrape(ScrapedFile(Path(sys.argv[1])), Expected("1")).rows)
print(rows, int(re.search(r"VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1]) / 1e3)
"""  # Linux; what getrusage tells counts the process that started this one, too


def peak_mb(path: Path) -> tuple[int, float]:
    "How many rows a file has, and the peak memory of a process that does nothing but read it."
    command = [sys.executable, "-c", ALONE, str(path)]
    rows, peak = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.split()
    return int(rows), float(peak)


def memory(folder: Path, sizes: Sizes) -> list[dict[str, object]]:
    "Peak memory over the size of a file whose lines are all of different products, in no order."
    found, path = [], folder / "huge.jsonl"
    for mb in (sizes.huge_mb // 10, sizes.huge_mb // 3, sizes.huge_mb):
        with path.open("w") as file:
            k = 0
            while file.tell() < mb * MB:
                file.writelines(f'{{"product_id": "{j * 7919 % 100_000_007}", "price": "{j % 997}.50", '
                                f'"category": "{CATEGORIES[j % 8]}", "name": "Product {j}, some 500 g of it"}}\n'
                                for j in range(k, k + 10_000))
                k += 10_000
        rows, peak = peak_mb(path)
        found.append({"file_mb": mb, "products": rows, "peak_mb": peak})
    path.unlink()
    return found


def memory_chart(rows: list[dict[str, object]]) -> Figure:
    "Peak memory over the size of a file."
    fig = Figure(figsize=(7.5, 3), layout="constrained")
    ax = fig.subplots()
    size = [row["file_mb"] for row in rows]
    ax.plot(size, [row["peak_mb"] for row in rows], "o-", color=BLUE, label="peak memory of the process")
    ax.plot([0, max(size)], [0, max(size)], "--", color=ORANGE, label="the file itself")
    ax.set(xlabel="file (MB of text)", ylabel="memory (MB)", xlim=0, ylim=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return fig


def write_page(results: dict[str, object], folder: Path) -> None:
    "Write the page and its picture under `folder`."
    (folder / "_static").mkdir(parents=True, exist_ok=True)
    save(memory_chart(results["memory"]), folder / "_static" / "bench_ingest.svg")
    head = "| work | scrapeopt | Polars | ratio | ratio of processor time |\n| --- | --: | --: | --: | --: |"
    lines = [f"| {r['work']} | {r['ours_ms']:.2f} ms | {r['polars_ms']:.2f} ms | {r['ratio']:.2f} | "
             f"{r['cpu_ratio']:.2f} |" for r in results["speed"]]
    sizes = [f"| {r['file_mb']:,} MB | {r['products']:,} | {r['peak_mb']:,.0f} MB |" for r in results["memory"]]
    host = results["machine"]
    parts = ["# Taking in files", ":::{div} lead\nWhat it costs to take in what was scraped, beside Polars, and how "
             "much memory a large file needs.\n:::",
             f"Measured on {host['cores']} cores, in turns; the median of several rounds. Polars reads the file with "
             "`read_ndjson` and, in the last row, writes it with `write_parquet`: it makes no exact price, names no "
             "bad line and knows no store. `make bench` measures again and writes this page.",
             "\n".join([head, *lines]), "## Memory", "Files whose lines are all of different products, in no order, "
             "which is the worst there is. The process does nothing but read the file.",
             "\n".join(["| file | products | peak memory |\n| --: | --: | --: |", *sizes]),
             "![Peak memory over the size of a file](_static/bench_ingest.svg)",
             "*The peak of memory over the size of the file; dashed, the file itself.*"]
    (folder / "ingest.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main(args: list[str] | None = None) -> None:
    "Run the benchmark, keep the figures, and print them."
    given = asked(__doc__, "small files, few rounds", args)
    sizes, out = QUICK if given.quick else Sizes(), given.out
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        speed = [*to_columns(folder, sizes), of_an_update(folder, sizes)]
        peaks = memory(folder, sizes)
    results = {"machine": machine(), "sizes": asdict(sizes), "speed": speed, "memory": peaks}
    (out / "ingest.json").write_text(json.dumps(results, indent=1, default=float) + "\n", encoding="utf-8")
    write_page(results, given.pages)
    print(pd.DataFrame(speed).round(2).to_string(index=False))
    print(pd.DataFrame(peaks).round(0).to_string(index=False))


if __name__ == "__main__": main()
