"What spot checks save: the score of policy `delegated` over its requests, with and without, and the page of it."
import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.progress import track

from benchmarks.leaderboard import panel_of
from scrapeopt.backtest import Panel, World, backtest
from scrapeopt.twin import ARCHETYPES, archetype_twin

ROOT = Path(__file__).parents[1]
RESULT, PAGE = ROOT / "benchmarks" / "results" / "spot_budget.json", ROOT / "docs" / "spot_budget.md"
PICTURE = ROOT / "docs" / "_static" / "bench_spot_budget.svg"
WITHOUT, WITH = (1.0, 2.0, 4.0, 8.0, 16.0), (0.5, 1.0, 2.0, 4.0, 8.0)  # store scrapes a day, of 60 stores
STORES, PRODUCTS, DAYS, WARMUP = 60, 400, 42, 14
COLOURS = {False: "#0072B2", True: "#D55E00"}

INTRO = """# What spot checks save

:::{{div}} lead
The score of policy `delegated` over its requests, with whole scrapes alone and with spot checks of a few products.
:::

A budget is counted in store scrapes a day, and a spot check costs its share of what the store sells: asking for 20 of \
400 products costs a twentieth of a scrape. Each twin has {stores} stores and {products} products, all scraped once at \
the start; the score is the mean over days {warmup} to {days}. Zones and changeover are unknown. The last column is \
what counts: of the requests that scrapes alone need for a score, the share that `delegated` needs with spot checks \
for the same one, read off the curve between the measured budgets; *not reached* where none of them gave it.

![Score over the budget with and without spot checks, a picture for each chain](_static/bench_spot_budget.svg)

*{caption}*

"""


def scores(
    name: str, world: World, budgets: tuple[float, ...], spots: bool, days: int, warmup: int,
) -> Iterator[dict[str, Any]]:
    "A row a budget."
    for budget in budgets:
        r = backtest(world, "delegated", budget=budget, days=days, warmup_days=warmup, settings={"spot_checks": spots})
        settled = r.settled
        yield {"world": name, "spots": spots, "budget": budget, "score": r.score, "ece": r.ece,
               "scrapes": float(settled["scrapes"].mean()), "probes": float(settled["probes"].mean())}


def measured(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    "All rows: archetypes, then recorded panels at budgets that fit their stores."
    worlds = [(name, archetype_twin(name, STORES, PRODUCTS, seed=given.seed), DAYS, WARMUP) for name in given.worlds]
    for recorded in given.panels:
        panel = Panel(recorded.file, recorded.stores)
        days = min(int((panel.end - panel.now) / pd.Timedelta(days=1)) + 1, 2 * DAYS)
        worlds.append((recorded.name, panel, days, days // 3))
    for name, world, days, warmup in track(worlds, description="worlds"):
        scale = len(world.stores) / STORES
        for budgets, spots in ((WITHOUT, False), (WITH, True)):
            yield from scores(name, world, tuple(b * scale for b in budgets), spots, days, warmup)


def budget_for(
    part: pd.DataFrame,  # one curve: budget, score
    score: float,
) -> float:  # NaN where the curve does not reach it
    "The budget from which on a curve keeps to a score; between the measured ones by the logarithm of the budget."
    kept = np.minimum.accumulate(part["score"].to_numpy()[::-1])[::-1]
    if score > kept[-1]: return float("nan")
    return float(np.exp(np.interp(score, kept, np.log(part["budget"]))))


def ratios(rows: pd.DataFrame) -> pd.DataFrame:
    "For each world and each budget of scrapes alone: the share of it that spot checks need for the same score."
    found = []
    for world, part in rows.groupby("world", sort=False):
        own = part[part["spots"]].sort_values("budget")
        for r in part[~part["spots"]].sort_values("budget").itertuples():
            same = own[np.isclose(own["budget"], r.budget)]["score"]
            found.append({"world": world, "budget": r.budget, "without": r.score,
                          "with": float(same.iloc[0]) if len(same) else float("nan"),
                          "share": budget_for(own, r.score) / r.budget})
    return pd.DataFrame(found)


def chart(rows: pd.DataFrame) -> Figure:
    "A picture a world: score over the budget, with and without."
    worlds = list(dict.fromkeys(rows["world"]))
    figure = Figure(figsize=(2.2 * len(worlds) + 0.4, 2.5), layout="constrained")
    for ax, world in zip(figure.subplots(1, len(worlds), squeeze=False)[0], worlds, strict=True):
        for spots, part in rows[rows["world"] == world].groupby("spots"):
            ax.plot(part["budget"], part["score"], marker="o", ms=3, color=COLOURS[bool(spots)],
                    label="with spot checks" if spots else "scrapes alone")
        ax.set(xscale="log", title=world, xlabel="scrapes a day")
    figure.axes[0].set_ylabel("score")
    figure.axes[0].legend(fontsize=7)
    return figure


def page(rows: pd.DataFrame) -> str:
    "The page of the documentation."
    found = ratios(rows)
    told = found.dropna(subset=["share"])
    good = int((told["share"] <= 0.5).sum())
    caption = (f"Score over store scrapes a day. At {good} of {len(told)} measured points half of the requests or "
               "fewer give the score of scrapes alone.")
    lines = ["| chain | scrapes a day | score, scrapes alone | with spot checks | requests for the same score |",
             "| --- | --: | --: | --: | --: |"]
    for r in found.to_dict("records"):
        share = f"{r['share']:.0%}" if r["share"] == r["share"] else "not reached"
        both = "" if r["with"] != r["with"] else f"{100 * r['with']:.1f}"
        lines.append(f"| {r['world']} | {r['budget']:g} | {100 * r['without']:.1f} | {both} | {share} |")
    about = {"stores": STORES, "products": PRODUCTS, "days": DAYS, "warmup": WARMUP, "caption": caption}
    return INTRO.format(**about) + "\n".join(lines) + "\n\n" + ENDING


ENDING = """Where the saving comes from, in the order in which it was measured:

* **What moved is the same in all stores.** The first look of a day says which third of the products has moved; the \
other groups are asked for those alone.
* **There and back.** Most moves of a weekly special lead back to the price before. Where one store went back, the \
others are served the price that they showed before, and nobody asks them.
* **What a store prices itself** is a few products: fruit, vegetables. They are asked for in every store, the others \
are not.
* **A store that has closed, opened or moved** shows it in a handful of products; only then is it scraped.

And where it ends. With one scrape a day for sixty stores, the first whole scrape of the week is nearly all there is \
money for, with spot checks or without. A store's clearance lines are found by nothing but a look at all of its \
products, so towards the top of the curve the saving shrinks again. Where prices change on any day and by area \
(`algorithmic`), a look is overtaken soon, and what is saved differs most from budget to budget. A recorded panel, \
`walmart_m5`, has ten stores in three states and moves a hundredth of its prices a week: there a fifth is saved at best.
"""


def run(given: argparse.Namespace) -> None:
    "Measure what is asked for, keep the rows, and write the page and its picture."
    if not given.page:
        rows = list(measured(given))
        kept = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() and given.add else []
        new = {r["world"] for r in rows}
        kept = [r for r in kept if r["world"] not in new]
        RESULT.write_text(json.dumps(kept + rows, indent=0) + "\n", encoding="utf-8")
    rows = pd.DataFrame(json.loads(RESULT.read_text("utf-8")))
    PAGE.write_text(page(rows), encoding="utf-8")
    with mpl.rc_context({"svg.hashsalt": "scrapeopt", "svg.fonttype": "none"}):
        chart(rows).savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--worlds", nargs="*", default=list(ARCHETYPES), choices=list(ARCHETYPES))
    ap.add_argument("--panels", nargs="*", type=panel_of, default=[], metavar="NAME=FILE",
                    help="recorded prices: store, product, date, price")
    ap.add_argument("--seed", type=int, default=3)
    ap.add_argument("--add", action="store_true", help="keep what other worlds gave")
    ap.add_argument("--page", action="store_true", help="write the page from what was kept, measure nothing")
    run(ap.parse_args())
