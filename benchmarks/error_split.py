"Why prices are wrong: every kind of chain at four budgets, each error with its one cause, and the page in the docs."
import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from rich.progress import track

from benchmarks.leaderboard import BAD_DAYS, BUDGETS, WORLDS
from benchmarks.page import save
from scrapeopt.analysis.tuning import TwinWorld, world_settings
from scrapeopt.backtest import PerZone, sweep
from scrapeopt.grouping.error_causes import CAUSE_COLOURS, CAUSES, plot_causes
from scrapeopt.simulation.agents import YARDSTICKS

ROOT = Path(__file__).parents[1]
POLICIES = ("delegated", *YARDSTICKS)
DAYS, WARMUP = 56, 28
COLUMNS = {f"wrong_{cause}": cause.replace("_", " ") for cause in CAUSES}

INTRO = """# Why prices are wrong

:::{{div}} lead
The error that is left, split: each row that is wrong, missing or served in vain has one cause, and the causes and the
score add up to 100%.
:::

Every kind of chain, with {stores} stores and {products:,} products, of whose scrapes {fail_rate:.0%} fail and \
{partial_rate:.0%} lack a part; the mean over days {warmup} to {days} and {seeds}. A budget is a number of scrapes per \
true zone and week. `oracle` is told the zones and the changeover, and takes what a store's last scrape lacked for \
not sold there, hence its holes; `clairvoyant` is told what each price is made of \
and what each scrape would correct, and still serves only what its scrapes have shown, so what it lacks can hardly be \
known at that budget. What would help against which cause is told in \
[what is left](../nbs/tutorials/what_is_left.ipynb); `python -m benchmarks.error_split` measures again, the rows are \
in `benchmarks/results/error_split.json`.

{causes}

![Rows that are wrong, by policy and cause, a picture for each chain](_static/bench_error_split.svg)

*A bar for each budget (scrapes a zone and week) and policy, a colour for each cause: the shorter, the better.*

"""


def measure(given: argparse.Namespace) -> pd.DataFrame:
    "A row a backtest."
    found = []
    for world in given.worlds:
        make = TwinWorld(world, given.stores, given.products, BAD_DAYS)
        found.append(sweep({f"{make!r}": make}, POLICIES, [PerZone(b) for b in BUDGETS], range(3, 3 + given.seeds),
                           n_jobs=given.jobs, cache=given.cache, days=DAYS, warmup_days=WARMUP,
                           track=lambda jobs, world=world: track(jobs, f"{world:<12}"),
                           settings=world_settings(make(0))).assign(world=world))
    return pd.concat(found, ignore_index=True)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    "The mean over seeds of the score and of each cause; a row for each world, budget and policy."
    return rows.groupby(["world", "money", "policy"], sort=False)[["score", *COLUMNS, "ari"]].mean().reset_index()


def table(part: pd.DataFrame) -> Iterator[str]:
    "One world's Markdown table: a row a budget and policy, a column a cause."
    yield "| scrapes a zone and week | policy | score | " + " | ".join(COLUMNS.values()) + " |"
    yield "| --: | --- |" + " --: |" * (1 + len(COLUMNS))
    for row in part.to_dict("records"):
        shares = " | ".join(f"{100 * row[name]:.1f}" if row[name] >= 0.0005 else "" for name in COLUMNS)
        yield f"| {row['money'].split()[0]} | {row['policy']} | {100 * row['score']:.1f} | {shares} |"


def chart(found: pd.DataFrame) -> Figure:
    "A picture a world: a bar a budget and policy."
    worlds = list(dict.fromkeys(found["world"]))
    figure = Figure(figsize=(7, 2.6 * len(worlds) + 0.6), layout="constrained")
    for ax, world in zip(figure.subplots(len(worlds), squeeze=False).ravel(), worlds, strict=True):
        mine = found[found["world"] == world].to_dict("records")
        plot_causes({f"{row['money'].split()[0]}, {row['policy']}": {c: row[f"wrong_{c}"] for c in CAUSES}
                     for row in mine}, ax)
        if ax.get_legend(): ax.get_legend().remove()
        ax.set_title(world, fontsize=9)
        ax.tick_params(labelsize=8)
    patches = [mpl.patches.Patch(facecolor=colour, edgecolor="#555555", label=name.replace("_", " "))
               for name, colour in CAUSE_COLOURS.items()]
    figure.legend(handles=patches, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure


def page(results: dict[str, Any]) -> str:
    "The page."
    sizes, found = results["sizes"], summary(pd.DataFrame(results["rows"]))
    causes = "\n".join(f"- **{name.replace('_', ' ')}**: {words}" for name, words in CAUSES.items())
    seeds = "one chain of each kind" if sizes["seeds"] == 1 else f"{sizes['seeds']} chains of each kind"
    parts = [INTRO.format(causes=causes, warmup=WARMUP + 1, days=DAYS, **BAD_DAYS, **sizes | {"seeds": seeds})]
    for world, part in found.groupby("world", sort=False):
        parts.append(f"## {world}\n\nThe chain: {WORLDS[str(world)]}. Shares in percent.\n\n" + "\n".join(table(part))
                     + "\n\n")
    return "".join(parts).rstrip() + "\n"


def write_page(results: dict[str, Any], docs: Path) -> None:
    "The page and its chart."
    (docs / "_static").mkdir(parents=True, exist_ok=True)
    (docs / "error_split.md").write_text(page(results), encoding="utf-8")
    save(chart(summary(pd.DataFrame(results["rows"]))), docs / "_static" / "bench_error_split.svg")


def main(args: list[str] | None = None) -> None:
    "Measure, keep the rows, write the page."
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--seeds", type=int, default=1, help="chains of each kind (default: 1)")
    ap.add_argument("--stores", type=int, default=40, help="stores of each chain (default: 40)")
    ap.add_argument("--products", type=int, default=200, help="products of each chain (default: 200)")
    ap.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS), help="which (default: all)")
    ap.add_argument("--jobs", type=int, default=-1, help="processes (default: one a core)")
    ap.add_argument("--cache", type=Path, help="folder that keeps finished backtests: a stopped run goes on")
    ap.add_argument("--out", type=Path, help="folder of rows and page (default: benchmarks/results and docs)")
    given = ap.parse_args(args)
    folder, docs = given.out or ROOT / "benchmarks" / "results", given.out or ROOT / "docs"
    folder.mkdir(parents=True, exist_ok=True)
    rows = measure(given).drop(columns="seconds")
    results = {"sizes": {k: getattr(given, k) for k in ("seeds", "stores", "products")},
               "rows": json.loads(rows.to_json(orient="records"))}
    (folder / "error_split.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_page(results, docs)
    print(summary(rows).drop(columns="ari").set_index(["world", "money", "policy"]).mul(100).round(2).to_string())


if __name__ == "__main__": main()
