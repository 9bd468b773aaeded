"Policies x worlds x budgets on twins, measured, and their page in the documentation."
import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from rich.progress import track

from scrapeopt.backtest import COLOURS, PerZone, sweep
from scrapeopt.analysis.tuning import TwinWorld, world_settings

ROOT = Path(__file__).parents[1]
POLICIES = ("round_robin", "freshness", "document", "delegated", "oracle")
WORLDS = {"uniform": "one price list for the country",
          "state_zones": "a price list a state, small and remote stores dearer on some lines",
          "dominicks": "zones inside each city, and lines that a store prices itself",
          "autonomy": "most stores price some categories themselves",
          "algorithmic": "prices change on any day, by area"}
BUDGETS = (2.0, 4.0, 8.0)  # scrapes per true zone and week
DAYS, WARMUP = 84, 28

INTRO = """# Leaderboard

:::{{div}} lead
Who serves most prices right: every policy on every kind of chain, at three budgets, in one run.
:::

A figure is the share of all prices of all stores that were served exactly right at the end of a day, in percent: \
the mean over days {warmup} to {days} of a backtest, then over {seeds} seeds; a seed is another chain of that kind. \
± is half the span from the worst to the best seed. Each twin has {stores} stores and {products:,} products. All \
stores are scraped once at the start, for free; zones and changeover are unknown to every policy except `oracle`, \
which knows both. A budget is a number of scrapes per true zone and week, so that chains with few zones get little \
money and chains with many much. The highest figure of a policy without such knowledge is bold.

{note}`make leaderboard` measures again and writes this page; `python -m benchmarks.leaderboard --help` tells how to \
change the number of seeds and the size. The rows are in `benchmarks/results/leaderboard.json`.

![Accuracy of each policy over the budget, a panel a world](_static/bench_leaderboard.svg)

"""


def measure(given: argparse.Namespace, bar: Any) -> pd.DataFrame:
    "A row a backtest."
    tables = []
    for world in given.worlds:
        make = TwinWorld(world, given.stores, given.products)
        tables.append(sweep({f"{make!r}": make}, POLICIES, [PerZone(b) for b in BUDGETS], range(given.seeds),
                            n_jobs=given.jobs, cache=given.cache, track=lambda jobs, world=world: bar(jobs, world),
                            days=DAYS, warmup_days=WARMUP, settings=world_settings(make(0))).assign(world=world))
    return pd.concat(tables, ignore_index=True)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    "Mean and half span over seeds, in percent; a row for each world, budget and policy."
    parts = rows.groupby(["world", "money", "policy"], sort=False)
    found = parts.agg(scrapes=("scrapes", "mean"), accuracy=("accuracy", "mean"), low=("accuracy", "min"),
                      high=("accuracy", "max"), ari=("ari", "mean"), ece=("ece", "mean"), seconds=("seconds", "mean"))
    return found.reset_index().assign(spread=lambda t: (t["high"] - t["low"]) / 2)


def table(part: pd.DataFrame) -> Iterator[str]:
    "One world's Markdown table: a row a policy, a column a budget."
    budgets = list(dict.fromkeys(part["money"]))
    best = part[part["policy"] != "oracle"].groupby("money")["accuracy"].max()
    yield "| policy | " + " | ".join(budgets) + " | groups found (ARI) | calibration error |"
    yield "| --- |" + " --: |" * (len(budgets) + 2)
    for policy, mine in part.groupby("policy", sort=False):
        cells = []
        for r in mine.itertuples():
            text = f"{100 * r.accuracy:.1f}"
            bold = policy != "oracle" and r.accuracy == best[r.money]
            cells.append((f"**{text}**" if bold else text) + f" ± {100 * r.spread:.1f}")
        ari, ece = mine["ari"].iloc[-1], mine["ece"].iloc[-1]
        yield f"| {policy} | " + " | ".join(cells) + f" | {'' if ari != ari else f'{ari:.3f}'} | " \
              f"{'' if ece != ece else f'{ece:.3f}'} |"


def chart(found: pd.DataFrame) -> Figure:
    "A panel a world: accuracy over the budget."
    worlds = list(dict.fromkeys(found["world"]))
    figure = Figure(figsize=(2.1 * len(worlds) + 0.6, 3), layout="constrained")
    for ax, world in zip(figure.subplots(1, len(worlds), squeeze=False)[0], worlds, strict=True):
        for policy, part in found[found["world"] == world].groupby("policy", sort=False):
            x = [float(money.split()[0]) for money in part["money"]]
            ax.plot(x, 100 * part["accuracy"], "o-", ms=3, color=COLOURS.get(policy), label=policy)
            ax.fill_between(x, 100 * part["low"], 100 * part["high"], color=COLOURS.get(policy), alpha=.2, lw=0)
        ax.set_title(world, fontsize=9)
        ax.set_xscale("log", base=2)
        ax.set_xticks(BUDGETS, [f"{b:g}" for b in BUDGETS], fontsize=8)
        ax.tick_params(axis="y", labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("prices right (%)", fontsize=9)
    figure.supxlabel("scrapes per true zone and week", fontsize=9)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=8)
    return figure


def page(results: dict[str, Any]) -> str:
    "The page."
    found, sizes = summary(pd.DataFrame(results["rows"])), results["sizes"]
    note, missing = "", [w for w in WORLDS if w not in set(found["world"])]
    if sizes["seeds"] < 5:
        note = "This was a short run: few seeds and small twins, so differences of a few tenths mean nothing. "
    if missing: note += f"Not measured in it: {', '.join(missing)}. "
    parts = [INTRO.format(**sizes, warmup=WARMUP + 1, days=DAYS, note=note and note.strip() + "\n\n")]
    for world, part in found.groupby("world", sort=False):
        parts.append(f"## {world}\n\nThe chain: {WORLDS[world]}.\n\n" + "\n".join(table(part)) + "\n\n")
    return "".join(parts) + ("The last two columns are those of the largest budget. ARI is the adjusted Rand index of "
                             "the groups at the end against the true zones, 1 when they are the same; calibration "
                             "error is how far the confidence served with the prices is from the share that is "
                             "right.\n")


def write_page(results: dict[str, Any], docs: Path) -> None:
    "The page and its chart."
    (docs / "_static").mkdir(parents=True, exist_ok=True)
    (docs / "leaderboard.md").write_text(page(results), encoding="utf-8")
    with mpl.rc_context({"svg.hashsalt": "scrapeopt", "svg.fonttype": "none"}):
        chart(summary(pd.DataFrame(results["rows"]))).savefig(docs / "_static" / "bench_leaderboard.svg",
                                                              metadata={"Date": None})


def bar(jobs: Iterable, world: str) -> Iterable:
    "Progress of one world."
    return track(jobs, f"{world:<12}")


def main(args: list[str] | None = None) -> None:
    "Measure, keep the rows, write the page."
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--seeds", type=int, default=5, help="chains of each kind (default: 5)")
    ap.add_argument("--stores", type=int, default=120, help="stores of each chain (default: 120)")
    ap.add_argument("--products", type=int, default=800, help="products of each chain (default: 800)")
    ap.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS), help="which (default: all)")
    ap.add_argument("--jobs", type=int, default=-1, help="processes (default: one a core)")
    ap.add_argument("--cache", type=Path, help="folder that keeps finished backtests: a stopped run goes on")
    ap.add_argument("--out", type=Path, help="folder of rows and page (default: benchmarks/results and docs)")
    ap.add_argument("--page-only", action="store_true", help="measure nothing: write the page from the rows kept")
    given = ap.parse_args(args)
    folder = given.out or ROOT / "benchmarks" / "results"
    kept, docs = folder / "leaderboard.json", given.out or ROOT / "docs"
    folder.mkdir(parents=True, exist_ok=True)
    if not given.page_only:
        rows = json.loads(measure(given, bar).to_json(orient="records"))
        sizes = {k: getattr(given, k) for k in ("seeds", "stores", "products")}
        kept.write_text(json.dumps({"sizes": sizes, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    results = json.loads(kept.read_text("utf-8"))
    write_page(results, docs)
    print(summary(pd.DataFrame(results["rows"])).pivot_table(index=["world", "money"], columns="policy",
                                                            values="accuracy", sort=False).round(4).to_string())


if __name__ == "__main__": main()
