"What spot checks save: the score of policy `delegated` over its requests, with and without, and the page of it."
import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.progress import track

from benchmarks.leaderboard import panel_of
from benchmarks.page import save
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
the start; the score is the mean over days {warmup} to {days}. Zones and changeover are unknown. The last column \
but one is what counts: of the requests that scrapes alone need for a score, the share that `delegated` needs with \
spot checks for the same one, read off the curve between the measured budgets; *not reached* where none of them gave \
it.{seeds} Beside it stands what an oracle needs that scrapes whole stores and knows the zones and the changeover: \
each zone has to be seen once in a price week, and every store's own clearance prices are seen by nobody who does not \
ask that store. It is empty where prices change on any day, and for recorded panels, whose zones nobody knows.

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
    "All rows: archetypes, one for each seed, then recorded panels at budgets that fit their stores."
    worlds = [(name, seed, archetype_twin(name, STORES, PRODUCTS, seed=seed), DAYS, WARMUP)
              for name in given.worlds for seed in given.seeds]
    for recorded in given.panels:
        panel = Panel(recorded.file, recorded.stores)
        days = min(int((panel.end - panel.now) / pd.Timedelta(days=1)) + 1, 2 * DAYS)
        worlds.append((recorded.name, 0, panel, days, days // 3))
    for name, seed, world, days, warmup in track(worlds, description="worlds"):
        scale = len(world.stores) / STORES
        for budgets, spots in ((WITHOUT, False), (WITH, True)):
            found = scores(name, world, tuple(b * scale for b in budgets), spots, days, warmup)
            yield from (row | {"seed": seed} for row in found)


def budget_for(
    part: pd.DataFrame,  # one curve: budget, score
    score: float,
) -> float:  # NaN where the curve does not reach it
    "The budget from which on a curve keeps to a score; between the measured ones by the logarithm of the budget."
    kept = np.minimum.accumulate(part["score"].to_numpy()[::-1])[::-1]
    if score > kept[-1]: return float("nan")
    return float(np.exp(np.interp(score, kept, np.log(part["budget"]))))


def wrong_of_own(every: float, lasts: int) -> float:
    "Of prices of a store's own that last so many days each, the share that is missed by looks every so many days."
    return every / lasts / 2 if every <= lasts else 1 - lasts / every / 2


def oracle_curve(name: str, seed: int) -> pd.DataFrame | None:  # budget in scrapes a day, score; None: no price week
    """What whole scrapes need at least, of who knows the zones and the changeover but no price that nobody has shown:
    the largest zones once a week, then all, then every store often enough to see what it prices itself."""
    world = archetype_twin(name, STORES, PRODUCTS, seed=seed)
    zones, model, first = world.zones.to_numpy(), world.chain.model, world.truth()
    if not model.weekly: return None
    world.advance(pd.Timedelta(days=DAYS - WARMUP))
    now = world.truth()
    sold, size = now >= 0, np.sort(np.unique(zones, return_counts=True)[1])[::-1]
    lists = pd.DataFrame(now).where(sold).groupby(zones).transform(lambda prices: prices.mode().min()).to_numpy()
    own, kept = float((lists != now)[sold].mean()), float((first == now)[sold].mean())
    seen = np.cumsum(size) / len(zones)
    curve = [(k / 7, p * (1 - own) + (1 - p) * kept) for k, p in enumerate(seen, 1)]
    curve += [(max(len(zones) / every, len(size) / 7), 1 - own * wrong_of_own(every, model.clearance_days))
              for every in (10, 7.5, 6, 5, 4, 3, 2, 1)]
    return pd.DataFrame(curve, columns=["budget", "score"]).sort_values("budget", ignore_index=True)


def ratios(rows: pd.DataFrame) -> pd.DataFrame:
    "For each world, seed and budget of scrapes alone: the share of it that spot checks need for the same score."
    found = []
    for (world, seed), part in rows.groupby(["world", "seed"], sort=False):
        oracle = oracle_curve(world, seed) if world in ARCHETYPES else None
        own = part[part["spots"]].sort_values("budget")
        for r in part[~part["spots"]].sort_values("budget").itertuples():
            same = own[np.isclose(own["budget"], r.budget)]["score"]
            found.append({"world": world, "seed": seed, "budget": r.budget, "without": r.score,
                          "with": float(same.iloc[0]) if len(same) else float("nan"),
                          "share": budget_for(own, r.score) / r.budget,
                          "oracle": float("nan") if oracle is None else budget_for(oracle, r.score) / r.budget})
    return pd.DataFrame(found)


A_ROW = 3  # pictures


def chart(rows: pd.DataFrame) -> Figure:
    "A picture a world: score over the budget, with and without."
    worlds = list(dict.fromkeys(rows["world"]))
    across, down = min(len(worlds), A_ROW), -(-len(worlds) // A_ROW)
    figure = Figure(figsize=(2.5 * across + 0.2, 2.4 * down + 0.4), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for ax in axes[len(worlds):]: ax.set_axis_off()
    for ax, world in zip(axes, worlds, strict=False):
        for spots, part in rows[rows["world"] == world].groupby("spots"):
            score = part.groupby("budget")["score"].agg(["min", "mean", "max"])
            ax.fill_between(score.index, score["min"], score["max"], color=COLOURS[bool(spots)], alpha=0.2, lw=0)
            ax.plot(score.index, score["mean"], marker="o", ms=3, color=COLOURS[bool(spots)],
                    label="with spot checks" if spots else "scrapes alone")
        ticks = np.unique(rows[rows["world"] == world]["budget"])
        ax.set(xscale="log", xlabel="scrapes a day")
        ax.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
        ax.tick_params(axis="x", labelsize=8)
        ax.minorticks_off()
        ax.set_title(world, fontsize=10)
    figure.supylabel("score (share)", fontsize=10)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


SEVERAL = (" A twin is made anew for each of {} seeds; the columns are means, and behind the last one stands its span "
           "over the seeds.")


def share_words(share: pd.Series) -> str:  # over the seeds
    "The share of the requests in words: its mean, and its span where there are several seeds."
    if share.isna().any(): return "not reached"
    span = f" ({share.min():.0%} to {share.max():.0%})" if len(share) > 1 else ""
    return f"{share.mean():.0%}{span}"


def page(rows: pd.DataFrame) -> str:
    "The page of the documentation."
    points = ratios(rows).groupby(["world", "budget"], sort=False)
    told = points["share"].apply(lambda share: share.mean(skipna=False)).dropna()
    seeds = int(rows.groupby("world")["seed"].nunique().max())
    caption = (f"Score over store scrapes a day{', mean and span over the seeds' * (seeds > 1)}. At "
               f"{int((told <= 0.5).sum())} of {points.ngroups} measured points half of the requests or fewer give the "
               "score of scrapes alone.")
    lines = ["| chain | scrapes a day | score, scrapes alone | with spot checks | requests for the same score | "
             "an oracle's scrapes |", "| --- | --: | --: | --: | --: | --: |"]
    for (world, budget), part in points:
        both = part["with"].mean()
        oracle = "" if part["oracle"].isna().any() else f"{part['oracle'].mean():.0%}"
        lines.append(f"| {world} | {budget:.3g} | {100 * part['without'].mean():.1f} | "
                     f"{'' if np.isnan(both) else f'{100 * both:.1f}'} | {share_words(part['share'])} | {oracle} |")
    about = {"stores": STORES, "products": PRODUCTS, "days": DAYS, "warmup": WARMUP, "caption": caption,
             "seeds": SEVERAL.format(seeds) * (seeds > 1)}
    return INTRO.format(**about) + "\n".join(lines) + "\n\n" + ENDING


ENDING = """Where the saving comes from, in the order in which it was measured:

* **What moved is the same in all stores.** The first look of a day says which third of the products has moved; the \
other groups are asked for those alone.
* **There and back.** Most moves of a weekly special lead back to the price before. Where one store went back, the \
others are served the price that they showed before, and nobody asks them.
* **What a store prices itself** is a few products: fruit, vegetables. They are asked for in every store, the others \
are not.
* **A store that has closed, opened or moved** shows it in a handful of products; only then is it scraped. A \
store that never answered is asked for eight products a week; with scrapes alone it is scraped again and again.
* **Less money than a scrape costs** is spent all the same, on the day of the changeover, on all the products it buys.

And where it ends. A store's clearance lines are found by nothing but a look at all of its products: with 16 scrapes \
a day the oracle, too, needs two thirds or more of what scrapes alone need on two chains of four, so half cannot be \
enough there. At half a scrape a day, the smallest budget that was measured with spot checks, the first look of the \
week is nearly all there is money for. Where prices change on any day and by area (`algorithmic`), a look is \
overtaken soon, and what is saved differs most from budget to budget. A recorded panel, `walmart_m5`, has ten stores \
in three states and moves a hundredth of its prices a week: there is next to nothing to save there, and a store that \
is taken for a Rogue, or not, makes a difference of half a point either way.
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
    save(chart(rows), PICTURE)


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--worlds", nargs="*", default=list(ARCHETYPES), choices=list(ARCHETYPES))
    ap.add_argument("--panels", nargs="*", type=panel_of, default=[], metavar="NAME=FILE",
                    help="recorded prices: store, product, date, price")
    ap.add_argument("--seeds", nargs="*", type=int, default=[3, 4])
    ap.add_argument("--add", action="store_true", help="keep what other worlds gave")
    ap.add_argument("--page", action="store_true", help="write the page from what was kept, measure nothing")
    run(ap.parse_args())
