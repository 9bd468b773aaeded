"Policies x worlds x budgets on twins and recorded panels, measured, and their page in the documentation."
import argparse
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.progress import track

from benchmarks.page import save
from scrapeopt.analysis.tuning import Recorded, TwinWorld, world_settings
from scrapeopt.backtest import COLOURS, PerStore, PerZone, sweep
from scrapeopt.core.errors import InputError
from scrapeopt.simulation.agents import YARDSTICKS
from scrapeopt.simulation.panel import Panel

ROOT = Path(__file__).parents[1]
POLICIES = ("round_robin", "freshness", "document", "delegated", *YARDSTICKS)
WORLDS = {"uniform": "one price list for the country",
          "state_zones": "a price list a state, small and remote stores dearer on some lines",
          "dominicks": "zones inside each city, and lines that a store prices itself",
          "autonomy": "most stores price some categories themselves",
          "algorithmic": "prices change on any day, by area"}
BUDGETS = (1.0, 2.0, 4.0, 8.0)  # scrapes per true zone and week
SHARES = (0.1, 0.25, 0.5, 1.0)  # of a panel's stores a week; nobody knows its zones
DAYS, WARMUP = 84, 28
PANEL_DAYS = 364  # of a panel that is longer, its first year
BAD_DAYS = {"fail_rate": 0.03, "partial_rate": 0.02}  # shares of a twin's scrapes that fail and that lack a part
A_ROW = 5  # charts beside each other

INTRO = """# Leaderboard

:::{{div}} lead
Who serves most prices right: every policy on every kind of chain, at four budgets, in one run.
:::

The headline is the score: of all rows that are true or served, the share that is right, in percent. A row is the \
price of a product in a store; one that is missing, wrong, or served for what the store does not sell counts \
against it, so that neither serving more nor serving less raises it. In brackets stand accuracy, the share right of \
the true prices, and precision, the share right of the rows served. All three are counted at the end of each day: the \
mean over days {warmup} to {days} of a backtest, then over {seeds} seeds; a seed is another chain of that kind. \
± is half the span from the worst to the best seed.

Each twin has {stores} stores and {products:,} products; {fail_rate:.0%} of its scrapes fail and {partial_rate:.0%} \
lack a part. All stores are scraped once at the start, for free; zones and changeover are unknown to every policy \
except `oracle`, which knows both, and `clairvoyant`, which knows of each price what it is made of. A budget is a \
number of scrapes per true zone and week, so that chains with few zones get little money and chains with many much. \
The highest score of a policy without such knowledge is bold.

{note}`make leaderboard` measures again and writes this page; `python -m benchmarks.leaderboard --help` tells how to \
change the number of seeds and the size, and how to add prices that you have recorded. The rows are in \
`benchmarks/results/leaderboard.json`.

![Score of each policy over the budget, a picture for each chain](_static/bench_leaderboard.svg)

*The score over the budget, a picture for each chain, with a scale of its own; bands are the worst and the best seed.*

"""
RECORDED = """Recorded prices, replayed for {days} days, of which the first {warmup} do not count: {words}. Nobody \
knows the zones of a real chain, so there is no yardstick here, and a budget is a share of the stores a week.
"""


@dataclass(frozen=True)
class RecordedPanel:
    "A panel that takes part, and what the page calls it."
    name: str
    file: Path
    stores: Path | None = None  # where its stores are; None: unknown

    def world(self) -> Recorded:
        "What makes its world of a seed; the file's time tells a cache when it is another."
        return Recorded(Panel(self.file, self.stores), f"{self.name}, {self.file.stat().st_mtime_ns}")


def panel_of(text: str) -> RecordedPanel:
    "A panel as the command line names it, `[NAME=]FILE[,STORES]`; `ArgumentTypeError` for a file that is not there."
    name, _, files = text.rpartition("=")
    file, _, stores = files.partition(",")
    for path in filter(None, (file, stores)):
        if not Path(path).is_file(): raise argparse.ArgumentTypeError(f"no file {path}")
    if not file: raise argparse.ArgumentTypeError(f"{text!r} names no file")
    return RecordedPanel(name or Path(file).stem, Path(file), Path(stores) if stores else None)


def panel_days(panel: Panel) -> tuple[int, int]:
    "How many days of a panel are replayed, and how many of them do not count."
    days = min((panel.end.normalize() - panel.now.normalize()).days + 1, PANEL_DAYS)
    return days, min(WARMUP, days // 2)


def measure_twins(given: argparse.Namespace, bar: Any) -> Iterator[pd.DataFrame]:
    "A row a backtest on twins."
    for world in given.worlds:
        make = TwinWorld(world, given.stores, given.products, BAD_DAYS)
        yield sweep({f"{make!r}": make}, POLICIES, [PerZone(b) for b in BUDGETS], range(given.seeds), n_jobs=given.jobs,
                    cache=given.cache, track=lambda jobs, world=world: bar(jobs, world), days=DAYS, warmup_days=WARMUP,
                    settings=world_settings(make(0))).assign(world=world)


def measure_panels(given: argparse.Namespace, bar: Any) -> Iterator[tuple[pd.DataFrame, str]]:
    "Rows of backtests on recorded panels, and each panel in words. The seed is the policy's alone."
    policies = [policy for policy in POLICIES if policy not in YARDSTICKS]
    for recorded in given.panels:
        make = recorded.world()
        days, warmup = panel_days(make.panel)
        rows = sweep({f"{make!r}": make}, policies, [PerStore(s) for s in SHARES], range(given.seeds),
                     n_jobs=given.jobs, cache=given.cache, track=lambda jobs, name=recorded.name: bar(jobs, name),
                     days=days, warmup_days=warmup)
        words = str(make.panel).removeprefix("Panel(").removesuffix(")")
        yield rows.assign(world=recorded.name), RECORDED.format(days=days, warmup=warmup, words=words)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    "Means over seeds and half the span of the score; a row for each world, budget and policy."
    if "score" not in rows: raise InputError("the rows that were kept have no score: measure again")
    parts = rows.groupby(["world", "money", "policy"], sort=False)
    means = {name: (name, "mean") for name in ("scrapes", "score", "accuracy", "precision", "ari", "ece", "seconds")}
    found = parts.agg(**means, low=("score", "min"), high=("score", "max"))
    return found.reset_index().assign(spread=lambda t: (t["high"] - t["low"]) / 2)


def table(part: pd.DataFrame) -> Iterator[str]:
    "One world's Markdown table: a row a policy, a column a budget."
    budgets = list(dict.fromkeys(part["money"]))
    best = part[~part["policy"].isin(YARDSTICKS)].groupby("money")["score"].max()
    yield "| policy | " + " | ".join(budgets) + " | groups found (ARI) | calibration error |"
    yield "| --- |" + " --: |" * (len(budgets) + 2)
    for policy, mine in part.groupby("policy", sort=False):
        cells = []
        for r in mine.itertuples():
            text = f"{100 * r.score:.1f}"
            bold = policy not in YARDSTICKS and r.score == best[r.money]
            cells.append((f"**{text}**" if bold else text) +
                         f" ± {100 * r.spread:.1f} ({100 * r.accuracy:.1f} / {100 * r.precision:.1f})")
        ari, ece = mine["ari"].iloc[-1], mine["ece"].iloc[-1]
        yield f"| {policy} | " + " | ".join(cells) + f" | {'' if ari != ari else f'{ari:.3f}'} | " \
              f"{'' if ece != ece else f'{ece:.3f}'} |"


def amount_and_unit(money: str) -> tuple[float, str]:
    "A budget, such as `2 per zone and week` or `10% of the stores a week`, taken apart."
    amount, unit = re.fullmatch(r"([\d.]+) ?(.*)", money).groups()
    return float(amount), unit


def chart(found: pd.DataFrame) -> Figure:
    "A picture a world: score over the budget."
    worlds = list(dict.fromkeys(found["world"]))
    across, down = min(len(worlds), A_ROW), -(-len(worlds) // A_ROW)
    figure = Figure(figsize=(2.1 * across + 0.6, 2.4 * down + 0.6), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for ax in axes[len(worlds):]: ax.set_axis_off()
    for ax, world in zip(axes, worlds, strict=False):
        mine = found[found["world"] == world]
        for policy, part in mine.groupby("policy", sort=False):
            x = [amount_and_unit(money)[0] for money in part["money"]]
            ax.plot(x, 100 * part["score"], "o-", ms=3, color=COLOURS.get(policy), label=policy)
            ax.fill_between(x, 100 * part["low"], 100 * part["high"], color=COLOURS.get(policy), alpha=.2, lw=0)
        ax.set_title(world, fontsize=9)
        ax.set_xscale("log", base=2)
        ax.set_xticks(x, [f"{b:g}" for b in x], fontsize=8)
        unit = amount_and_unit(mine["money"].iloc[0])[1]
        ax.set_xlabel(unit if unit.startswith("%") else f"scrapes {unit}", fontsize=8)
        ax.tick_params(axis="y", labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    figure.supylabel("score (%)", fontsize=9)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=8)
    return figure


def page(results: dict[str, Any]) -> str:
    "The page."
    found, sizes, panels = summary(pd.DataFrame(results["rows"])), results["sizes"], results["panels"]
    note, missing = "", [w for w in WORLDS if w not in set(found["world"])]
    if sizes["seeds"] < 5:
        note = "This was a short run: few seeds and small twins, so differences of a few tenths mean nothing. "
    if missing: note += f"Not measured in it: {', '.join(missing)}. "
    parts = [INTRO.format(**sizes, **BAD_DAYS, warmup=WARMUP + 1, days=DAYS, note=note and note.strip() + "\n\n")]
    for world, part in found.groupby("world", sort=False):
        words = panels[world] if world in panels else f"The chain: {WORLDS[world]}.\n"
        parts.append(f"## {world}\n\n{words}\n" + "\n".join(table(part)) + "\n\n")
    return "".join(parts) + ("The last two columns are those of the largest budget. ARI is the adjusted Rand index of "
                             "the groups at the end against the true zones, 1 when they are the same; calibration "
                             "error is how far the confidence served with the rows is from the share that is "
                             "right.\n")


def write_page(results: dict[str, Any], docs: Path) -> None:
    "The page and its chart."
    (docs / "_static").mkdir(parents=True, exist_ok=True)
    (docs / "leaderboard.md").write_text(page(results), encoding="utf-8")
    save(chart(summary(pd.DataFrame(results["rows"]))), docs / "_static" / "bench_leaderboard.svg")


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
    ap.add_argument("--panels", nargs="+", type=panel_of, default=[], metavar="[NAME=]FILE[,STORES]",
                    help="recorded prices to replay, too, as `scrapeopt backtest` takes them (--panel, --stores); the "
                         "page has their figures, not their prices")
    ap.add_argument("--jobs", type=int, default=-1, help="processes (default: one a core)")
    ap.add_argument("--cache", type=Path, help="folder that keeps finished backtests: a stopped run goes on")
    ap.add_argument("--out", type=Path, help="folder of rows and page (default: benchmarks/results and docs)")
    ap.add_argument("--page-only", action="store_true", help="measure nothing: write the page from the rows kept")
    given = ap.parse_args(args)
    names = [*given.worlds, *(panel.name for panel in given.panels)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        ap.error(f"{twice!r} names two chains: give the panel another name, NAME=FILE")
    folder = given.out or ROOT / "benchmarks" / "results"
    kept, docs = folder / "leaderboard.json", given.out or ROOT / "docs"
    folder.mkdir(parents=True, exist_ok=True)
    if not given.page_only:
        recorded = list(measure_panels(given, bar))
        rows = pd.concat([*measure_twins(given, bar), *(rows for rows, _ in recorded)], ignore_index=True)
        found = {"sizes": {k: getattr(given, k) for k in ("seeds", "stores", "products")},
                 "panels": {rows["world"].iloc[0]: words for rows, words in recorded},
                 "rows": json.loads(rows.to_json(orient="records"))}
        kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    results = json.loads(kept.read_text("utf-8"))
    write_page(results, docs)
    print(summary(pd.DataFrame(results["rows"])).pivot_table(index=["world", "money"], columns="policy",
                                                            values="score", sort=False).round(4).to_string())


if __name__ == "__main__": main()
