"""What an update, a question for prices and the whole table cost as a company grows, beside pandas, Polars and DuckDB.

Run it with `make bench`. Every job is done in a process of its own, all ways in turn; the median of a few rounds
counts. What each way does is in `benchmarks/cost_work.py`."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.big import COMPANY, FIRST, SECOND, BigChain, make_workspace, scrape_again
from benchmarks.cost_work import ALL, AMBASSADORS, NOW, OURS, PEERS, PRICES, PRODUCT, QUESTIONS, STORE, UPDATES, WORKS
from benchmarks.page import BLUE, GREEN, ORANGE, RED, ROOT, asked, machine, save
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

PRODUCTS = 4_000  # that the company knows; a store sells 96 in 100 of them
SIZES, QUICK = (50, 200, 800, 3_200), (16, 24)  # stores; fewer have no groups
SCRAPED = 8  # stores, in an update
ROUNDS = {50: 3, 200: 3, 800: 3}  # processes for a job, by stores; of other sizes one
AGAIN = {AMBASSADORS: 2, ALL: 0, PRODUCT: 3, STORE: 3, PRICES: 0}  # times more, after a process's first
POLICIES = ("document", "delegated")
WAYS = (*POLICIES, *PEERS)
Row = dict[str, Any]


# --- the workspaces

def newest_files(workspace: Workspace) -> pd.DataFrame:  # store_id, ambassador, group, file
    "What the peers know instead of a state: each store's group, its Ambassador, and the file of its newest snapshot."
    told = {store: (g.ambassador, g.name) for g in workspace.groups(COMPANY).active() for store in g.members}
    files = {path.parent.name.removeprefix("store="): str(path)
             for path in sorted((workspace.path / "prices").glob("*/*/*.parquet"))}  # the last of a store is the newest
    return pd.DataFrame([(store, *told.get(store, (None, None)), file) for store, file in files.items()],
                        columns=["store_id", "ambassador", "group", "file"])


def prepare(folder: Path, stores: int, products: int, policy: str) -> Workspace:
    "A workspace with groups, after one update of scraped stores, and with the files of the next in its inbox."
    chain = BigChain(stores, products)
    workspace = make_workspace(folder, chain, policy)
    update_db(workspace, now=FIRST + pd.Timedelta(days=1))
    scrape_again(workspace, chain, SCRAPED)
    update_db(workspace, now=SECOND + pd.Timedelta(hours=10))
    scrape_again(workspace, chain, SCRAPED, day=1)
    workspace.engine.dispose()
    return workspace


def link_or_copy(source: str, target: str) -> None:
    "Link a file that is never changed in place, and copy any other."
    if source.endswith((".parquet", ".i32", ".jsonl")): os.link(source, target)
    else: shutil.copy2(source, target)


# --- measuring

def child(who: str, work: str, folder: Path, out: Path) -> Row:
    "Do a job in a process of its own."
    words = [who, work, str(folder), str(out), str(AGAIN[work])]
    code = f"from benchmarks.cost_work import main; main({words!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    if done.returncode: raise RuntimeError(f"{who}, {work}: {done.stderr[-2_000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def in_turn(who: str, work: str, folder: Path, out: Path) -> Row:
    "A job of one way, once; an update of ours on copies of the workspace, since it changes them."
    if work not in UPDATES or who in PEERS: return child(who, work, folder, out)
    with tempfile.TemporaryDirectory(dir=out) as made:
        for turn in range(1 + AGAIN[work]):
            shutil.copytree(folder, Path(made) / str(turn), copy_function=link_or_copy)
        return child(who, work, Path(made), out)


def the_same(work: str, told: dict[str, Row]) -> None:
    "An unequal answer to a question ends the run; other jobs differ in what they write, as the page says."
    answers = {who: row["answers"] for who, row in told.items()}
    if work in QUESTIONS and len({json.dumps(a) for who, a in answers.items() if who != "document"}) > 1:
        raise AssertionError(f"{work}: {answers}")


@dataclass(frozen=True)
class Ready:
    "A company to be measured."
    stores: int
    out: Path  # where answers go, and where the peers' tables are
    folders: dict[str, Path]  # by policy, its workspace


def ready(out: Path, stores: int, products: int) -> Ready:
    "A company of some size under both policies, and what the peers know of it."
    found = Ready(stores, out, {policy: out / policy for policy in POLICIES})
    spaces = {policy: prepare(folder, stores, products, policy) for policy, folder in found.folders.items()}
    newest_files(spaces["delegated"]).to_parquet(out / "groups.parquet")
    spaces["delegated"].write_prices(out / "all.parquet", now=pd.Timestamp(NOW, tz="UTC"))
    return found


def middle(rows: list[Row]) -> Row:
    "What some rounds of a job have told: the median of each."
    return {key: median(row[key] for row in rows) if rows[0][key] is not None else None
            for key in ("cpu", "next", "start", "mb")} | {"rows": rows[0]["answers"][0][0]}


def measure(work: str, companies: list[Ready]) -> list[Row]:
    "A row for each size and way of doing a job; in each round every size has its turn, and in it every way."
    ways = [who for who in WAYS if who in PEERS or work in OURS]
    told: dict[int, dict[str, list[Row]]] = {c.stores: {who: [] for who in ways} for c in companies}
    for round_ in range(max(ROUNDS.get(c.stores, 1) for c in companies)):
        for c in (c for c in companies if round_ < ROUNDS.get(c.stores, 1)):
            for who in ways:
                told[c.stores][who].append(in_turn(who, work, c.folders.get(who, c.folders["delegated"]), c.out))
    for of_size in told.values(): the_same(work, {who: rows[0] for who, rows in of_size.items()})
    found = [{"work": work, "who": who, "stores": stores, **middle(rows)}
             for stores, of_size in told.items() for who, rows in of_size.items()]
    for row in found: print(row, flush=True)
    return found


def run(sizes: Iterable[int], products: int) -> list[Row]:
    "All jobs at all sizes."
    with tempfile.TemporaryDirectory() as made:
        companies = []
        for stores in sizes:
            (out := Path(made) / str(stores)).mkdir()
            companies.append(ready(out, stores, products))
        found = [row for work in WORKS for row in measure(work, companies)]
    own = [row | {"work": ALL} for row in found if row["work"] == AMBASSADORS and row["who"] in POLICIES]
    return [*found, *own]


# --- the page

SHOWN = {  # what a small chart shows -> the job, and what of it
    "update, beside Ambassadors": (AMBASSADORS, "cpu"), "update, beside all stores": (ALL, "cpu"),
    "the next update of a process": (AMBASSADORS, "next"),
    "one product": (PRODUCT, "cpu"), "the next product of a process": (PRODUCT, "next"),
    "one store": (STORE, "cpu"), "the next store of a process": (STORE, "next"),
    "all prices to Parquet": (PRICES, "cpu"), "all prices, peak of memory": (PRICES, "mb")}
STYLE = {"delegated": (BLUE, "o-"), "document": (ORANGE, "s--"), "DuckDB": (GREEN, "^:"), "Polars": (RED, "v:"),
         "pandas": ("#CC79A7", "D:")}


def series(rows: list[Row], shown: str, who: str) -> dict[int, float]:
    "What a small chart shows of one way: by stores."
    work, key = SHOWN[shown]
    return {r["stores"]: r[key] for r in rows if (r["work"], r["who"]) == (work, who) and r[key] is not None}


def exponent(of: dict[int, float]) -> float:
    "The power of the stores that something grows with: the slope of a log-log fit."
    return float(np.polyfit(np.log(list(of)), np.log(list(of.values())), 1)[0])


def chart(rows: list[Row]) -> Figure:
    "A small chart for each job: processor time, or memory, over stores; both axes logarithmic."
    fig = Figure(figsize=(7.5, 7.2), layout="constrained")
    axes = fig.subplots(3, 3, sharex=True).ravel()
    for ax, shown in zip(axes, SHOWN, strict=True):
        for who, (colour, mark) in STYLE.items():
            own = series(rows, shown, who)
            if own: ax.plot(list(own), list(own.values()), mark, color=colour, label=who, ms=4)
        ax.set_title(f"{shown}: {exponent(series(rows, shown, 'delegated')):z.2f}", fontsize=8)
        ax.set(xscale="log", yscale="log", ylim=(.001, 50) if SHOWN[shown][1] != "mb" else (50, 20_000))
        sizes = sorted({r["stores"] for r in rows})
        ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
        ax.minorticks_off()
        ax.tick_params(labelsize=7)
        ax.grid(axis="y", color="#eeeeee")
        ax.spines[["top", "right"]].set_visible(False)
    fig.supxlabel("stores of the company", fontsize=8)
    fig.supylabel("processor time (s); the last one: memory (MB)", fontsize=8)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False, fontsize=8)
    return fig


def quantity(value: float, shown: str) -> str:
    "A time or a size with two digits."
    if SHOWN[shown][1] == "mb": return f"{value:,.0f} MB"
    return f"{value:.2g} s" if value < 10 else f"{value:,.0f} s"


def cost_table(rows: list[Row]) -> str:
    "Everything measured, a row for each job and way, with its exponent, as Markdown."
    sizes = sorted({r["stores"] for r in rows})
    lines = [["job", "by", *(f"{n:,}" for n in sizes), "power"], ["---", "---", *["--:"] * (len(sizes) + 1)]]
    for shown in SHOWN:
        for who in STYLE:
            if own := series(rows, shown, who):
                lines.append([shown, who, *(quantity(own[n], shown) for n in sizes), f"{exponent(own):z.2f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def beside(rows: list[Row], shown: str, who: str, peer: str, stores: int) -> float:
    "How many times as long one way takes as another."
    return series(rows, shown, who)[stores] / series(rows, shown, peer)[stores]


def growth_of(rows: list[Row], shown: str, who: str, small: int, large: int) -> float:
    "How many times as long a job takes in a large company as in a small one."
    own = series(rows, shown, who)
    return own[large] / own[small]


def targets(rows: list[Row]) -> list[tuple[str, str, list[float], bool]]:  # what, goal, by policy, all within it
    "What was to be reached, and what was measured."
    sizes = sorted({r["stores"] for r in rows})
    small, large = sizes[0], sizes[min(2, len(sizes) - 1)]
    found = []
    for shown in ("update, beside Ambassadors", "the next update of a process"):
        found.append((f"{shown.split(',')[0]}: {large:,} stores beside {small:,}", 1.3,
                      [growth_of(rows, shown, who, small, large) for who in POLICIES]))
    for shown, goal in (("one product", 2), ("the next product of a process", 2), ("one store", .25),
                        ("the next store of a process", .25), ("all prices to Parquet", 2)):
        found.append((f"{shown}: beside DuckDB, {large:,} stores", goal,
                      [beside(rows, shown, who, "DuckDB", large) for who in POLICIES]))
    peak = [series(rows, "all prices, peak of memory", who)[sizes[-1]] / 1_000 for who in POLICIES]
    found.append((f"all prices: peak in GB, {sizes[-1]:,} stores", 1, peak))
    return [(what, f"≤ {goal}", values, max(values) <= goal) for what, goal, values in found]


def target_table(rows: list[Row]) -> str:
    "What was to be reached and what was, as Markdown."
    head = ["times as long", "to be reached", *POLICIES, ""]
    body = [[what, goal, *(f"{v:.2f}" for v in values), "reached" if met else "**missed**"]
            for what, goal, values, met in targets(rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---", "--:", "--:", "--:", "---"], *body])


def starts(rows: list[Row]) -> str:
    "What the start of a process takes, in words."
    took = {who: median(r["start"] for r in rows if r["who"] == who) for who in ("delegated", *PEERS)}
    ours = took.pop("delegated")
    return f"{ours:.1f} s for scrapeopt, " + ", ".join(f"{s:.1f} s for {who}" for who, s in took.items())


PEERS_DO = (
    "The peers are the plainest good way of each, in `benchmarks/cost_work.py`:",
    "- **An update.** They read the eight files, round the prices to cents, write each file as Parquet, compute its "
    "True Overlap with other stores' newest snapshots, and write the overlaps. *Beside Ambassadors* those others "
    "are the twelve Ambassadors, which is the least that can tell where a store belongs; *beside all stores* they "
    "are all, which is what it takes to say with whom else it prices alike. They do no more. Ours names every bad "
    "line, holds each file against the store's usual size, judges the stores, brings groups, votes, audits and "
    "confidence up to date in one transaction that a crash cannot tear, archives the files, and looks for newest "
    "snapshots that are damaged.",
    "- **A question.** They read the table that `prices --out` has written. Somebody has to write it first, after "
    "every update; what that takes is *all prices to Parquet*. Ours reads the state and the snapshots as they are. "
    "The answers are compared with those under `delegated`, of which the table is: rows and sum of prices must be "
    "the same.",
    "- **All prices.** They join every snapshot with its group's Ambassador and write the result. Ours lets the "
    "group's newest members vote under `delegated`, fills what the Ambassador does not sell, leaves out what a "
    "store is known not to sell, and tells of each price when and where it was seen, and how sure it is.")


def reading(rows: list[Row]) -> list[str]:
    "What the figures say, a paragraph each."
    took = {who: 1_000 * series(rows, "the next store of a process", who)[max(series(rows, "one store", who))]
            for who in ("delegated", "Polars", "DuckDB")}
    return [
        "An update writes for the stores that were scraped, and still reads something of all others: a row of the "
        "state each, and what lies of them in `.cache`, whose checksum is looked at every time. The first update of a "
        "process loads the libraries it needs, as `update-db` does; of the next one that is gone, and what is left "
        "shows how it grows. Whoever only takes the files in and holds them against Ambassadors pays the same for any "
        "company; whoever holds them against all stores out of their files pays for all stores.",
        "One product of all stores is a row of every store: its stamp on the disk is compared, its checksum, and how "
        "its price agreed with its group. DuckDB reads one column of a table and asks none of that.",
        f"One store: Polars finds its rows in {took['Polars']:.0f} ms, DuckDB in {took['DuckDB']:.0f} ms, in the "
        f"largest company, and ours takes {took['delegated']:.0f} ms. The table tells where the rows of a store are, "
        "and a few pages are read. Before ours reads a price, it has asked the state for groups, newest snapshots, "
        "products and what was learned, in 28 statements; all snapshots and groups of the company are among it, which "
        "is why it grows. To be four times as fast as the table, it would have to keep one beside the state, written "
        "anew with every update. What is served without one needs no rewriting, and is never older than the state."]


def write_page(results: Row, folder: Path) -> None:
    "Write the page and its picture under `folder`."
    (folder / "_static").mkdir(parents=True, exist_ok=True)
    rows = results["rows"]
    save(chart(rows), folder / "_static" / "bench_cost.svg")
    parts = [
        "# What the daily jobs cost", ":::{div} lead\nAn update, a question for prices and the whole table, as a "
        "company grows, beside pandas, Polars and DuckDB.\n:::",
        f"A company of {results['products']:,} products; a store sells 96 in 100 of them, in twelve price zones. Every "
        f"store was scraped once, {SCRAPED} a week later, and an update takes in {SCRAPED} others on the day after. "
        f"Every job runs in a process of its own on {results['machine']['cores']} cores, sizes and ways in turn; the "
        "median of three rounds, of the largest company a single one. What is told is processor time, of all threads. "
        f"The time that a process takes to start and to load its libraries is not in it: {starts(rows)}. What is "
        "loaded later is. *Next* is what the same process then takes for another update, product or store. `make "
        "bench` measures again and writes this page.",
        "![Processor time and memory of each job over the stores](_static/bench_cost.svg)",
        "*Processor time of each job over the stores of the company, and the peak of memory; both axes logarithmic. "
        "Above each picture, the power that it grows with under `delegated`.*",
        "## What was to be reached", target_table(rows),
        "A goal below one asks to be faster than DuckDB. Machines are shared and busy: the ratios move by a fifth "
        "from run to run.",
        *reading(rows), "## What the peers do", PEERS_DO[0], "\n".join(PEERS_DO[1:]), "## All figures",
        "The power is the slope of a log-log fit over all sizes: 1 is proportional, 0 is the same for any company.",
        cost_table(rows)]
    (folder / "cost.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main(args: list[str] | None = None) -> None:
    "Run the benchmark, keep the figures, and write the page."
    given = asked(__doc__, "tiny companies", args)
    sizes, products = (QUICK, 300) if given.quick else (SIZES, PRODUCTS)
    results = {"machine": machine(), "products": products, "rows": run(sizes, products)}
    (given.out / "cost.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_page(results, given.pages)
    print(target_table(results["rows"]))


if __name__ == "__main__": main()
