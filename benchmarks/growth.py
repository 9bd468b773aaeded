"""How each main job grows with the stores of a company, from a hundred to a hundred thousand, and by what power.

Run it with `make bench`. A state is written by `large_state`: one store in twenty stands for a group, and every job is
done in a process of its own, which tells its processor time and its peak. An update takes in one store in a hundred.
DuckDB answers the same questions on the same prices, out of one table that somebody has to write first."""
import json
import math
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.large_state import LargeState, make_large, scrape_some
from benchmarks.memory import child
from benchmarks.page import BLUE, GREEN, ORANGE, RESULTS, asked, machine, save
from scrapeopt.workspace import Workspace

PRODUCTS = 200  # few, so that a hundred thousand stores fit beside others on a disk: what is asked for is how it grows
SIZES, QUICK = (100, 1_000, 10_000, 100_000), (40, 80)  # stores
STORES_OF_GROUP = 20
SCRAPED_SHARE = .01  # of the stores, in an update
READ_UP_TO = 10_000  # stores of which prices are read; a state alone is read of more
FROM = 1_000  # stores from which on the power is read: with fewer, what every command costs hides it
Row = dict[str, Any]

JOBS = {  # in the order of the page
    "queue of 100 stores": "workspace.queue(100, now=now)",
    "queue, state in memory": ("s = workspace.scheduler('Chain 00', now=now); s.get_queue(1)\n"
                               "began = time.process_time()\ns.get_queue(100)"),
    "groups": "workspace.groups('Chain 00')",
    "update of one store in 100": "from scrapeopt.update import update_db; update_db(workspace, now=now)",
    "prices of one store": "workspace.prices(store='S00001', now=now)",
    "prices of one product": "workspace.prices(product='1000100', now=now)",
    "all prices to Parquet": "workspace.write_prices(out, now=now)"}
FROM_STATE = ("queue of 100 stores", "queue, state in memory", "groups")
ASK_DUCKDB = {
    "prices of one store": "store_id = 'S00001'",
    "prices of one product": "product_id = '1000100'"}


def of_duckdb(work: str, table: Path) -> str:
    "What DuckDB does for a question, out of the table of all prices."
    return f"import duckdb; duckdb.sql(\"select * from '{table}' where {ASK_DUCKDB[work]}\").df()"


def measure(workspace: Workspace, of: LargeState, policy: str) -> list[Row]:
    "A row a job, of one state under one policy; the peer's beside it where there is one."
    folder, out, reads = workspace.path, workspace.path / "all.parquet", of.stores <= READ_UP_TO
    if reads: scrape_some(workspace, of, max(1, round(SCRAPED_SHARE * of.stores)))
    rows = [{"work": work, "policy": policy, "stores": of.stores, **child(code, folder, out)}
            for work, code in JOBS.items() if reads or work in FROM_STATE]
    for work in ASK_DUCKDB if reads and policy == "delegated" else ():
        rows.append({"work": work, "policy": "DuckDB", "stores": of.stores, **child(of_duckdb(work, out), folder, out)})
    for row in rows: print(row, flush=True)
    return rows


def run(sizes: tuple[int, ...]) -> list[Row]:
    "All jobs at all sizes under both policies."
    rows = []
    for policy in ("document", "delegated"):
        for stores in sizes:
            with tempfile.TemporaryDirectory() as made:
                of = LargeState(stores, max(2, stores // STORES_OF_GROUP), PRODUCTS)
                rows += measure(make_large(Path(made) / "workspace", of, policy), of, policy)
    return rows


def exponents(rows: list[Row], value: str = "cpu") -> dict[tuple[str, str], float]:
    "By work and policy, the power of the stores that processor time grows with: the slope of a log-log fit."
    found = {}
    for key, group in groupby(sorted(rows, key=lambda r: (r["work"], r["policy"])), lambda r: (r["work"], r["policy"])):
        own = [r for r in group if r["stores"] >= FROM]
        if len(own) > 1:
            found[key] = float(np.polyfit(np.log([r["stores"] for r in own]), np.log([r[value] for r in own]), 1)[0])
    return found


STYLE = {"delegated": (BLUE, "o-"), "document": (ORANGE, "s--"), "DuckDB": (GREEN, "^:")}


def chart(rows: list[Row]) -> Figure:
    "A small chart a job: processor time over stores, both axes logarithmic."
    works = list(dict.fromkeys(r["work"] for r in rows))
    fig, slopes = Figure(figsize=(7.5, 2.4 * math.ceil(len(works) / 3)), layout="constrained"), exponents(rows)
    axes = fig.subplots(math.ceil(len(works) / 3), 3, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, work in zip(axes, works, strict=False):
        for who, (colour, mark) in STYLE.items():
            own = [r for r in rows if r["work"] == work and r["policy"] == who]
            if own: ax.plot([r["stores"] for r in own], [r["cpu"] for r in own], mark, color=colour, label=who, ms=4)
        powers = ", ".join(f"{slopes[work, who]:.2f}" for who in STYLE if (work, who) in slopes)
        ax.set_title(f"{work}: {powers}" if powers else work, fontsize=8)
        ax.set(xscale="log", yscale="log")
        ax.minorticks_off()
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(works):]: ax.set_visible(False)
    for ax in axes[max(len(works) - 3, 0):len(works)]: ax.tick_params(labelbottom=True)  # nothing is drawn below
    fig.supxlabel("stores of the company", fontsize=8)
    fig.supylabel("processor time (s)", fontsize=8)
    lines = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(lines.values(), lines.keys(), loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return fig


def seconds(value: float) -> str:
    "Processor time with two digits."
    return f"{value:.2g} s" if value < 10 else f"{value:,.0f} s"


def growth_table(rows: list[Row]) -> str:
    "Processor time at each size, the power, and the peak of memory at the largest size, as Markdown."
    sizes, slopes = sorted({r["stores"] for r in rows}), exponents(rows)
    head = ["work", "by", *(f"{n:,}" for n in sizes), "power", "memory at the last"]
    lines = [head, ["---", "---", *["--:"] * (len(head) - 2)]]
    for key in dict.fromkeys((r["work"], r["policy"]) for r in rows):
        own = {r["stores"]: r for r in rows if (r["work"], r["policy"]) == key}
        last = own[max(own)]
        lines.append([*key, *(seconds(own[n]["cpu"]) if n in own else "" for n in sizes),
                      f"{slopes[key]:.2f}" if key in slopes else "", f"{last['mb']:,.0f} MB"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def overlap_growth(rows: list[Row]) -> str:
    "What the benchmark of overlap has measured of the matrix, in a sentence."
    n, s = np.log([r["stores"] for r in rows]), np.log([r["seconds"] for r in rows])
    power = float(np.polyfit(n[-3:], s[-3:], 1)[0])
    return (f"The overlap matrix has pairs to count, $n^2$ of them: from {rows[-3]['stores']:,} to "
            f"{rows[-1]['stores']:,} stores of 25,000 products it grows by the power {power:.2f} "
            f"([Benchmarks](benchmarks.md), with its peers). An update does not count all pairs: it compares the "
            "stores that were scraped with groups.")


def write_page(results: Row, folder: Path) -> None:
    "Write the page and its picture under `folder`."
    (folder / "_static").mkdir(parents=True, exist_ok=True)
    save(chart(results["rows"]), folder / "_static" / "bench_jobs.svg")
    overlap = json.loads((RESULTS / "overlap.json").read_text(encoding="utf-8"))["growth"]
    parts = [
        "# How the jobs grow", ":::{div} lead\nFrom a hundred stores to a hundred thousand: what each job takes, and "
        "by what power of the stores.\n:::",
        f"Processor time of one process on {results['machine']['cores']} cores, without its start, for one company "
        f"whose stores are in groups of {STORES_OF_GROUP} and sell {PRODUCTS} products each. A power of 1 is "
        f"proportional, 0 is the same for any company; it is the slope of a log-log fit from {FROM:,} stores on, "
        "and stands above each picture in the order of the legend. An "
        "update takes in one store in a hundred, so its work grows tenfold from column to column. "
        "`make bench` measures again and writes this page.",
        "![Processor time of each job over the stores](_static/bench_jobs.svg)",
        "*Processor time of each job over the stores of the company, both axes logarithmic: a straight line is a "
        "power, and a flat one costs the same for any company.*",
        growth_table(results["rows"]),
        "A queue reads the state and no price. What it takes is the reading: a hundred thousand rows of stores, "
        "snapshots and members become tables. *Queue, state in memory* is what is left of it, the policy itself, "
        "for a program that keeps its scheduler. It looks at 2,000 files at most whatever the company, and the "
        "statements it sends are the same few (`tests/test_scale.py` counts them).",
        f"Prices are read of {READ_UP_TO:,} stores at most here; beyond, they grow on by their powers. The update is "
        "the company's first. It reads the newest file of every store, to judge what was scraped beside the others, "
        "and leaves the prices of all of them side by side in a few files; the next one reads those "
        "([what the daily jobs cost](cost.md)). The questions are asked after it. One for a store reads the rows of "
        "its group, one for a product a row of every store, so it grows with the stores. Whoever asks before any "
        "update opens every store's file.",
        "DuckDB is asked for one store and one product out of the table that `prices --out` has written: it infers "
        "nothing, and knows no present.",
        "## Overlap", overlap_growth(overlap)]
    (folder / "growth.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main(args: list[str] | None = None) -> None:
    "Run the benchmark, keep the figures, and write the page."
    given = asked(__doc__, "tiny companies", args)
    results = {"machine": machine(), "products": PRODUCTS, "rows": run(QUICK if given.quick else SIZES)}
    (given.out / "growth.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_page(results, given.pages)
    print(pd.DataFrame(results["rows"]).round(3).to_string(index=False))


if __name__ == "__main__": main()
