"""Spot checks on twins: do they keep their promises, and what do they cost? `python -m benchmarks.spotcheck`.

Products and pages are those of pairs of stores of a twin. Each check draws anew: products one by one, or whole pages
of a category. Levels are put where it hurts, at the very overlap of the pair, where a wrong verdict is likeliest.
"""
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.page import BLUE, GREEN, RED, asked, save
from scrapeopt.core.prices import NOT_SOLD
from scrapeopt.grouping.wealth import Draws
from scrapeopt.simulation.zones import ZoneSplit
from scrapeopt.spotcheck import PAGE_SIZE, Certificate, SpotCheck, certify, decide, learned_levels
from scrapeopt.twin import Twin, archetype_twin

P_MATCH, P_ROGUE, RISK = .98, .90, .01
GAP = P_MATCH - P_ROGUE
START = pd.Timestamp("2026-11-05 03:00", tz="UTC")  # a Thursday: a day after the changeover
MOST_DRAWN = 1_000  # products; a check between its levels may go on longer, and counts as undecided
AT_ONCE = 500  # replays


@dataclass(frozen=True)
class Sizes:
    "How much is measured."
    replays: int = 10_000
    products: int = 4_000
    twins: int = 5
    weeks: int = 8
    stores: int = 60


QUICK = Sizes(replays=200, products=400, twins=1, weeks=3, stores=12)


@dataclass(frozen=True, eq=False)
class Pair:
    "A store beside the one that its prices are inferred from: the products both sell, in the order of the shop."
    kind: str
    matches: np.ndarray  # (n,) bool: the same price
    page: np.ndarray  # (n,) int: the page of the shop that each stands on, from 0

    @property
    def overlap(self) -> float: return float(self.matches.mean())

    @property
    def pages(self) -> tuple[np.ndarray, np.ndarray]:
        "Right products and products of each page that holds any."
        size = np.bincount(self.page)
        return np.bincount(self.page, self.matches).astype(int)[size > 0], size[size > 0]


def pair_of(kind: str, store: np.ndarray, served: np.ndarray, category: np.ndarray) -> Pair:
    "The pair of two price vectors; a page shows what the store sells of one category."
    place = np.lexsort((np.arange(len(store)), category))
    place = place[store[place] != NOT_SOLD]
    _, first, count = np.unique(category[place], return_index=True, return_counts=True)
    pages = -(-count // PAGE_SIZE)
    page = np.repeat(np.cumsum(pages) - pages, count) + (np.arange(len(place)) - np.repeat(first, count)) // PAGE_SIZE
    both = served[place] != NOT_SOLD
    return Pair(kind, (store == served)[place][both], page[both])


def at_overlap(pair: Pair, share: float, rng: np.random.Generator) -> Pair:
    "The pair with so many prices changed, by lot, that exactly `share` of them match (rounded)."
    matches, more = pair.matches.copy(), round(share * len(pair.matches)) - int(pair.matches.sum())
    matches[rng.choice(np.flatnonzero(matches != (more > 0)), abs(more), replace=False)] = more > 0
    return Pair(f"exactly {share:.0%} agree", matches, pair.page)


def twin_pairs(seed: int, sizes: Sizes) -> list[Pair]:
    "Stores of one price list, of two, and one that went over to another list with some of its departments."
    twin = archetype_twin("state_zones", sizes.stores, sizes.products, seed, start=START)
    prices, zones = twin.truth(), twin.zones.to_numpy()
    category = twin.products["category"].to_numpy()
    zone = pd.Series(zones).value_counts().index[0]
    first, second = np.flatnonzero(zones == zone)[:2]
    other = next(i for i in np.flatnonzero(zones != zone) if (prices[i] != NOT_SOLD).mean() > .8)
    names = np.unique(category)
    moved = np.isin(category, np.random.default_rng(seed).choice(names, 2, replace=False))
    strayed = np.where(moved & (prices[other] != NOT_SOLD), prices[other], prices[second])
    return [pair_of(kind, store, prices[first], category) for kind, store in
            (("one price list", prices[second]), ("two price lists", prices[other]),
             ("two departments moved", strayed))]


def draws_of(pair: Pair, by: str, replays: int, rng: np.random.Generator) -> Iterator[Draws]:
    "Draws of a pair in orders of their own, some at a time: by `product` or by `page`."
    right, size = pair.pages if by == "page" else (pair.matches.astype(int), np.ones(len(pair.matches), int))
    for start in range(0, replays, AT_ONCE):
        rows = min(AT_ONCE, replays - start)
        order = rng.permuted(np.tile(np.arange(len(size)), (rows, 1)), axis=1)[:, :MOST_DRAWN]
        yield Draws(right[order], size[order], len(pair.matches), PAGE_SIZE if by == "page" else 1)


def replayed(
    pair: Pair, by: str, p_match: float, p_rogue: float, replays: int, rng: np.random.Generator
) -> dict[str, float]:
    "Shares of verdicts, and what they cost on average."
    found = []
    for draws in draws_of(pair, by, replays, rng):
        verdict, end = decide(draws, p_match, p_rogue, RISK, RISK)
        products = np.take_along_axis(np.cumsum(draws.size, 1), end[:, None] - 1, 1)[:, 0]
        found.append(pd.DataFrame({"match": verdict == "match", "rogue": verdict == "rogue", "draws": end,
                                   "products": products}))
    return pd.concat(found).mean().to_dict()


def risks(sizes: Sizes) -> list[dict[str, Any]]:
    "How often each kind of pair is misjudged, with a level exactly at its overlap."
    rows = []
    for seed in range(sizes.twins):
        rng = np.random.default_rng(seed)
        pairs = twin_pairs(seed, sizes)
        kinds = [*pairs, at_overlap(pairs[0], P_MATCH, rng), at_overlap(pairs[0], P_ROGUE, rng)]
        for pair in kinds:
            replays, share = sizes.replays // sizes.twins, pair.overlap
            for by in ("product", "page"):
                for wrong, levels in (("rogue", (share, share - GAP)), ("match", (min(share + GAP, .995), share))):
                    found = replayed(pair, by, *levels, replays, rng)
                    rows.append({"kind": pair.kind, "by": by, "wrongly": wrong, "overlap": share, "replays": replays,
                                 "error": found[wrong], "draws": found["draws"]})
    return rows


def costs(sizes: Sizes) -> list[dict[str, Any]]:
    "What a check at .98 against .90 costs, over the overlap of the store."
    rng, rows = np.random.default_rng(7), []
    pair = twin_pairs(0, sizes)[0]
    for share in (1, .98, .95, .9, .8, .5):
        for by in ("product", "page"):
            found = replayed(at_overlap(pair, share, rng), by, P_MATCH, P_ROGUE, sizes.replays, rng)
            rows.append({"overlap": share, "by": by, **found})
    return rows


# --- a chain over some weeks, in which some stores stray

def straying_twin(sizes: Sizes, seed: int = 0) -> tuple[Twin, str]:
    "A chain of which half of the largest zone has a price list of its own from the middle on, and that zone."
    def make(*events: ZoneSplit) -> Twin:
        return archetype_twin("state_zones", sizes.stores, sizes.products, seed, start=START, split=events)
    zone = make().zones.value_counts().index[0]
    date = (START + pd.Timedelta(weeks=sizes.weeks // 2)).date().isoformat()
    return make(ZoneSplit(date, zone, .5)), zone


def weekly_pairs(twin: Twin, weeks: int) -> Iterator[tuple[int, str, Pair]]:
    "Each week, each store beside the first store of its first zone, from which it is inferred all the time."
    zones, category = twin.zones, twin.products["category"].to_numpy()
    for week in range(weeks):
        prices = pd.DataFrame(twin.truth(), twin.stores.index)
        for zone, members in zones.groupby(zones).groups.items():
            for store in members[1:]:
                row, served = prices.loc[store].to_numpy(), prices.loc[members[0]].to_numpy()
                if (row != NOT_SOLD).any(): yield week, zone, pair_of(store, row, served, category)
        twin.advance(pd.Timedelta(days=7))


def strangers_of(twin: Twin, zone: str) -> list[float]:
    "Overlaps of stores of other zones with the first store of a zone."
    prices, zones = twin.truth(), twin.zones.to_numpy()
    served = prices[np.flatnonzero(zones == zone)[0]]
    found = [((row == served) & (row != NOT_SOLD)).sum() / max(((row != NOT_SOLD) & (served != NOT_SOLD)).sum(), 1)
             for row in prices[zones != zone]]
    return [float(x) for x in found]


def check(pair: Pair, by: str, levels: tuple[float, float], rng: np.random.Generator) -> SpotCheck:
    "One check of a pair, to its verdict."
    found = SpotCheck(*levels, RISK, RISK, population=len(pair.matches))
    if by == "product": found.update(rng.permutation(pair.matches))
    else:
        for page in rng.permutation(np.unique(pair.page)):
            if found.update_page(pair.matches[pair.page == page]): break
    return found


def weeks_of_checks(sizes: Sizes, seed: int = 0) -> list[dict[str, Any]]:
    "Every store checked and certified every week, by levels learned from the weeks before the split."
    rng, rows = np.random.default_rng(seed), []
    twin, split_zone = straying_twin(sizes, seed)
    strangers = {zone: strangers_of(twin, zone) for zone in twin.zones.unique()}
    past: dict[str, list[float]] = {}
    for n, (week, zone, pair) in enumerate(weekly_pairs(twin, sizes.weeks)):
        levels = learned_levels(past.get(zone, []), strangers[zone])
        by = ("product", "page")[n % 2]
        found = check(pair, by, levels, rng)
        at = (START + pd.Timedelta(weeks=week)).to_pydatetime().astimezone(UTC)
        proof: Certificate = certify(found.draws, twin.chain.company, pair.kind, zone, at)
        if week < sizes.weeks // 2: past.setdefault(zone, []).append(pair.overlap)
        rows.append({"week": week, "store": pair.kind, "zone": zone, "by": by, "overlap": pair.overlap,
                     "p_match": levels[0], "p_rogue": levels[1], "verdict": found.verdict, "drawn": found.drawn,
                     "proved": proof.share, "false": proof.share > pair.overlap + 1e-9,
                     "strayed": zone == split_zone and week >= sizes.weeks // 2 and pair.overlap <= levels[1]})
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    "What became of a run of weekly checks."
    r = pd.DataFrame(rows)
    ordinary, rogue = r[r["overlap"] >= r["p_match"]], r[r["overlap"] <= r["p_rogue"]]
    return {"checks": len(r), "strayed": int(r["strayed"].sum()),
            "ordinary": len(ordinary), "ordinary called rogue": float((ordinary["verdict"] == "rogue").mean()),
            "rogues": len(rogue), "rogues called match": float((rogue["verdict"] == "match").mean()),
            "between": len(r) - len(ordinary) - len(rogue),
            "products drawn": float(r[r["by"] == "product"]["drawn"].mean()),
            "false certificates": float(r["false"].mean()),
            "false certificates of strayed": float(r[r["strayed"]]["false"].mean()) if r["strayed"].any() else 0.0,
            "proved, of matches": float(r[r["verdict"] == "match"]["proved"].mean())}


# --- the page

def cost_chart(rows: list[dict[str, Any]]) -> Figure:
    "Products and pages of a check over the overlap."
    fig = Figure(figsize=(6.5, 3), layout="constrained")
    ax, found = fig.subplots(), pd.DataFrame(rows)
    for by, colour, words in (("product", BLUE, "products, drawn one by one"), ("page", RED, "pages")):
        some = found[found["by"] == by]
        ax.plot(some["overlap"], some["draws"], "o-", color=colour, label=words)
    ax.axvspan(P_ROGUE, P_MATCH, color=GREEN, alpha=.12, label="between the levels")
    ax.set(xlabel="prices as inferred", ylabel="until the verdict", ylim=0)
    ax.spines[["top", "right"]].set_visible(False)
    fig.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return fig


def table(head: str, rows: list[str]) -> str:
    "A Markdown table: the first column is text."
    columns = head.count("|") + 1
    return "\n".join([f"| {head} |", "| --- " + "| --: " * (columns - 1) + "|", *[f"| {row} |" for row in rows]])


def risk_table(rows: list[dict[str, Any]]) -> str:
    "How often each kind of pair was misjudged, over all twins."
    found, lines = pd.DataFrame(rows), []
    for (kind, wrong), some in found.groupby(["kind", "wrongly"], sort=False):
        share = {by: np.average(r["error"], weights=r["replays"]) for by, r in some.groupby("by")}
        replays = some["replays"].sum() // 2
        lines.append(f"{kind}, called {wrong} | {replays:,} | {share['product']:.2%} | {share['page']:.2%}")
    return table("pair | replays | by product | by page", lines)


def cost_table(rows: list[dict[str, Any]]) -> str:
    "What a check costs over the overlap, by product and by page."
    by = {(r["overlap"], r["by"]): r for r in rows}
    lines = []
    for share in dict.fromkeys(r["overlap"] for r in rows):
        one, page = by[share, "product"], by[share, "page"]
        figures = [f"{found['match']:.1%} | {found['rogue']:.1%} | {found['draws']:.1f}" for found in (one, page)]
        lines.append(f"{share:.0%} | " + " | ".join(figures))
    return table("prices as inferred | match | rogue | products | match, by page | rogue, by page | pages", lines)


def week_table(s: dict[str, float]) -> str:
    "What became of a chain's weekly checks."
    return table("checks and certificates | ", [
        f"stores at or above `p_match` | {s['ordinary']:,}", f"of them called rogue | {s['ordinary called rogue']:.2%}",
        f"stores at or below `p_rogue` | {s['rogues']:,}", f"of them called a match | {s['rogues called match']:.2%}",
        f"stores between the levels | {s['between']:,}",
        f"products of a check, drawn one by one | {s['products drawn']:.0f}",
        f"certificates that claim too much, at a risk of 5% | {s['false certificates']:.2%}",
        f"of stores that had strayed | {s['false certificates of strayed']:.2%}",
        f"share proved, of matches | {s['proved, of matches']:.1%}"])


def write_page(results: dict[str, Any], folder: Path) -> None:
    "Write the page and its picture under `folder`."
    (folder / "_static").mkdir(parents=True, exist_ok=True)
    save(cost_chart(results["costs"]), folder / "_static" / "bench_spot_checks.svg")
    s, n = results["weeks"], results["sizes"]
    parts = [
        "# Spot checks, replayed",
        ":::{div} lead\nWhether spot checks keep what they promise, and what they cost, on twins whose truth is "
        "known.\n:::",
        f"Pairs of stores of {n['twins']} twins of {n['products']:,} products, drawn without replacement: products one "
        f"by one, or pages of {PAGE_SIZE} of one category. What the verdicts mean is told in "
        "[spot checks](../nbs/04_spotcheck.ipynb). `python -m benchmarks.spotcheck` measures again and writes this "
        "page.", "## Risks",
        f"How often a store is misjudged where {RISK:.0%} is promised, with `p_match` (called rogue) or `p_rogue` "
        "(called match) exactly at the overlap of the pair, where it is hardest. In *two departments moved*, two whole "
        "categories of the store are priced by another list, so that wrong prices stand together on pages.",
        risk_table(results["risks"]), "## Costs",
        f"A check at `p_match` = {P_MATCH}, `p_rogue` = {P_ROGUE:.2f}, both risks {RISK:.0%}, {n['replays']:,} replays "
        "a row; differing prices lie anywhere.", cost_table(results["costs"]),
        "![Products and pages until the verdict](_static/bench_spot_checks.svg)",
        "*Products or pages until the verdict, over the share of a store's prices that are as inferred.*",
        "## Week after week",
        f"{s['checks']:,} checks: all stores of {n['twins']} chains, every week, half of them by page, with levels "
        "learned from the weeks before. In the middle half of the largest zone gets a price list of its own, and its "
        f"stores are checked and certified all the same: {s['strayed']:,} checks of stores that had strayed.",
        week_table(s)]
    (folder / "spot_checks.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main(args: list[str] | None = None) -> None:
    "Replay, keep the figures, write the page, and print them."
    given = asked(__doc__, "few replays on small twins", args)
    sizes, out = QUICK if given.quick else Sizes(), given.out
    weeks = [row for seed in range(sizes.twins) for row in weeks_of_checks(sizes, seed)]
    results = {"sizes": asdict(sizes), "risks": risks(sizes), "costs": costs(sizes), "weeks": summary(weeks)}
    (out / "spot_checks.json").write_text(json.dumps(results, indent=1, default=float) + "\n", encoding="utf-8")
    write_page(results, given.pages)
    print(*(risk_table(results["risks"]), cost_table(results["costs"]), week_table(results["weeks"])), sep="\n\n")


if __name__ == "__main__": main()
