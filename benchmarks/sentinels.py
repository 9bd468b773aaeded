"""How many products tell which group a store belongs to: `python -m benchmarks.sentinels`.

Twins of five kinds whose zones were split until there are twenty and a few more. Some zones are held back, so that
their stores are strangers. Half of all stores may be asked where they belong; the others are known as far as they were
scraped."""
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.page import BLUE, GREEN, ORANGE, RED, asked, save
from scrapeopt.core.calendar import SyncWindow
from scrapeopt.core.price_week import ChangeCounts, learn_price_week
from scrapeopt.core.prices import NOT_SOLD
from scrapeopt.grouping.evidence_context import LatestSnapshots
from scrapeopt.grouping.sentinel_table import SentinelTable, sentinel_table
from scrapeopt.grouping.sentinels import find_home_group, first_belief, likely_home, update
from scrapeopt.simulation.zones import ZoneSplit
from scrapeopt.twin import Twin, archetype_twin

TIMEZONE, MONDAY = "Australia/Sydney", "2026-11-02T02:00"  # UTC
FRIDAY = 25  # days after that Monday; the changeover was on the Wednesday before
LEAST_STORES = 8  # of a zone that counts as a group
WAYS = ("one at a time", "four at a time", "twelve at a time", "strangers rare", "at random")
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    "How much is measured."
    kinds: tuple[str, ...] = ("uniform", "state_zones", "dominicks", "autonomy", "algorithmic")
    seeds: int = 5
    stores: int = 700
    products: int = 2000
    groups: int = 20
    held_back: int = 3  # zones whose stores are strangers
    asked: int = 2  # stores of each group, and as many strangers as members in all
    random: int = 200  # products, at most, that are asked at random


QUICK = Sizes(kinds=("state_zones",), seeds=1, stores=300, products=600, groups=8, held_back=1, asked=1, random=40)


@dataclass(frozen=True, eq=False)
class Case:
    "A chain on a Friday, as far as it is known, and stores that are asked where they belong."
    table: SentinelTable
    every: SentinelTable  # the same with all products in it
    homes: dict[str, str | None]  # store -> its group, None: of none
    shelves: dict[str, np.ndarray]  # store -> (products,) its prices

    def ask(self, store: str): return lambda lines: self.shelves[store][lines]


def splits(kind: str, seed: int, sizes: Sizes) -> list[ZoneSplit]:
    "What splits the largest zones until there are enough of them."
    zones = archetype_twin(kind, sizes.stores, 100, seed, start=MONDAY).zones.value_counts()
    left, found = {z: int(n) for z, n in zones.items() if n >= LEAST_STORES}, list[ZoneSplit]()
    while len(left) < sizes.groups + sizes.held_back:
        zone = max(left, key=lambda z: left[z])
        if left[zone] < 2 * LEAST_STORES: break
        when = f"2026-{9 + len(found) // 28:02}-{1 + len(found) % 28:02}"
        part = round(.45 * left[zone])
        left[zone], left[f"{zone} from {when}"] = left[zone] - part, part
        found.append(ZoneSplit(when, zone, .45))
    return found


def remember(twin: Twin, until: int, seed: int) -> LatestSnapshots:
    "Let 6% of all stores be scraped each day, up to a number of days after the start; what is known on the Friday."
    rng, stores = np.random.default_rng([seed, until]), list(twin.stores.index)
    latest, counts = LatestSnapshots.empty(stores, len(twin.products)), ChangeCounts()
    latest.window, latest.categories = SyncWindow(timezone=TIMEZONE), twin.products["category"].to_numpy(str)
    for day in range(FRIDAY):
        for store in rng.choice(stores, round(.06 * len(stores)), replace=False) if day <= until else ():
            prices, i, today = twin.scrape(store), latest.row[store], latest.local_day(twin.now)
            if not (prices != NOT_SOLD).any(): continue
            both = (prices != NOT_SOLD) & (latest.prices[i] != NOT_SOLD)
            changed = int((both & (prices != latest.prices[i])).sum())
            if both.any(): counts = counts.add(int(latest.days[i]), today, int(both.sum()), changed)
            latest.put(store, prices, today, twin.now)
        twin.advance(pd.Timedelta(days=1))
    latest.changes, latest.week = counts, learn_price_week(counts)
    return latest


def make_case(kind: str, seed: int, until: int, sizes: Sizes) -> Case:
    "A chain, what is known of it, and the stores to ask."
    twin = archetype_twin(kind, sizes.stores, sizes.products, seed, start=MONDAY, split=splits(kind, seed, sizes))
    latest, rng = remember(twin, until, seed), np.random.default_rng(seed)
    shelves = dict(zip(twin.stores.index, twin.truth(), strict=True))
    zones = twin.zones[[s for s in twin.stores.index if (shelves[s] != NOT_SOLD).any()]]
    large = zones.value_counts()[lambda n: n >= LEAST_STORES].index.tolist()
    hidden = set(rng.choice(large, min(sizes.held_back, len(large) // 3), replace=False))
    groups = [z for z in large if z not in hidden][:sizes.groups]
    asked = set(rng.choice(list(zones.index), len(zones) // 2, replace=False))
    members = {z: [s for s in zones.index[zones == z] if s not in asked] for z in groups}
    members = {z: stores for z, stores in members.items() if any(latest.day(s) > 0 for s in stores)}
    alone = [s for s in zones.index if (zones == zones[s]).sum() == 1 and s not in asked]
    found = {z: [s for s in zones.index[zones == z] if s in asked][:sizes.asked] for z in members}
    strange = [s for s in sorted(asked) if zones[s] in hidden or (zones == zones[s]).sum() == 1]
    homes = {s: z for z, stores in found.items() for s in stores}
    homes |= dict.fromkeys(rng.permutation(strange)[:sizes.asked * sizes.groups].tolist())
    day = latest.local_day(twin.now)
    tables = [sentinel_table(latest, members, day, others=alone, also=also) for also in ((), range(sizes.products))]
    return Case(*tables, homes, shelves)


def asked_at_random(case: Case, store: str, most: int, seed: int) -> tuple[str | None, bool, int]:
    "The home, whether it is sure, and how many products were asked for, drawn one by one from all."
    drawn = np.random.default_rng([seed, *store.encode()]).permutation(len(case.shelves[store]))[:most]
    belief, n = first_belief(case.every), 0
    while n < len(drawn) and not likely_home(case.every, belief).sure:
        belief, n = update(case.every, belief, {int(drawn[n]): int(case.shelves[store][drawn[n]])}), n + 1
    home = likely_home(case.every, belief)
    return home.group, home.sure, n


def asked_in(case: Case, store: str, way: str, sizes: Sizes, seed: int) -> tuple[str | None, bool, int, int]:
    "The home, whether it is sure, products and requests."
    if way == "at random":
        group, sure, n = asked_at_random(case, store, sizes.random, seed)
        return group, sure, n, n
    page = {"four at a time": 4, "twelve at a time": 12}.get(way, 1)
    belief = first_belief(case.table, 0.05) if way == "strangers rare" else None
    home = find_home_group(case.table, case.ask(store), page=page, belief=belief)
    return home.group, home.sure, len(home.products), home.requests


KNOWN = {"this week": FRIDAY - 1, "last week": FRIDAY - 4}  # last day of scrapes: yesterday, before the changeover


def measure(sizes: Sizes, ways: tuple[str, ...] = WAYS) -> Iterator[Row]:
    "A row for each store and way of asking."
    for kind in sizes.kinds:
        for seed in range(sizes.seeds):
            for known, until in KNOWN.items():
                case = make_case(kind, seed, until, sizes)
                for store, home in case.homes.items():
                    for way in ways:
                        group, sure, products, requests = asked_in(case, store, way, sizes, seed)
                        yield {"kind": kind, "seed": seed, "known": known, "way": way, "store": store,
                               "who": "members" if home else "strangers", "groups": len(case.table.groups),
                               "wrong": sure and group != home, "unsure": not sure, "products": products,
                               "requests": requests}


def summary(rows: list[Row]) -> pd.DataFrame:
    "What came out, by kind of chain, knowledge, way and who was asked."
    by = pd.DataFrame(rows).groupby(["known", "kind", "way", "who"], sort=False)
    shares = by[["groups", "wrong", "unsure", "products", "requests"]].mean()
    return shares.assign(asked=by.size()).reset_index()


def chart(found: pd.DataFrame) -> Figure:
    "Requests until the home of a member is known, by kind of chain and way."
    colours = dict(zip(WAYS, (BLUE, GREEN, "#999999", RED, ORANGE), strict=True))
    fig = Figure(figsize=(7.5, 3.4), layout="constrained")
    for ax, known in zip(fig.subplots(1, 2, sharey=True), KNOWN, strict=True):
        part = found[(found["known"] == known) & (found["who"] == "members")]
        kinds = part["kind"].unique().tolist()
        for k, way in enumerate(WAYS):
            at = part[part["way"] == way].set_index("kind")["requests"].reindex(kinds)
            ax.barh(np.arange(len(kinds)) + .16 * k - .32, at, .15, color=colours[way], label=way)
        ax.set(yticks=range(len(kinds)), xlabel="requests (mean)", title=f"groups seen {known}", xscale="log")
        ax.set_yticklabels(kinds)
        ax.axvline(5, color="black", lw=.8, ls=":")
        ax.spines[["top", "right"]].set_visible(False)
    fig.axes[0].invert_yaxis()
    fig.legend(*fig.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return fig


def together(found: pd.DataFrame) -> list[str]:
    "A table of all chains with a changeover together."
    lines = ["| groups seen | way | members: wrong | unsure | requests | strangers: wrong | unsure | requests |",
             "| --- | --- |" + " --: |" * 6]
    for (known, way), part in found[found["kind"] != "algorithmic"].groupby(["known", "way"], sort=False):
        cells = []
        for who in ("members", "strangers"):
            rows = part[part["who"] == who]
            columns = (rows[c] for c in ("wrong", "unsure", "requests"))
            wrong, unsure, requests = (np.average(column, weights=rows["asked"]) for column in columns)
            cells += [f"{wrong:.1%}", f"{unsure:.1%}", f"{requests:.1f}"]
        lines.append(f"| {known} | {way} | {' | '.join(cells)} |")
    return lines


HEAD = "| chain | groups | way | members: wrong | unsure | products | requests | strangers: wrong | unsure | products |"
LEAD = """# Finding homes

:::{div} lead
How many products tell which of twenty groups a store belongs to, or that it belongs to none.
:::"""
TEXT = """Twins of five kinds ([twin](../nbs/09_twin.ipynb)), their largest zones split until there are twenty groups \
and three more, which are held back: their stores, and those that price for themselves, are the strangers. 6% of the \
stores are scraped a day, three weeks and a half long; the stores that are asked were never scraped. *This week*: the \
last scrapes were made yesterday, two days after the changeover. *Last week*: nobody was seen since the changeover, \
which changed three prices in ten (on `algorithmic` every day is a changeover). One price in a hundred is on clearance.

*Wrong* is a store that is sure to be of another group than its own, of a group though it is a stranger, or of none \
though it is a member; *unsure* one that 40 products did not tell ([sentinels](../nbs/grouping/sentinels.ipynb)). A \
stranger is expected as often as not, but for *strangers rare*: there once in twenty. *At random* draws the products \
from all and reads the answers in the same way, {random} at most.
`python -m benchmarks.sentinels` measures again and writes this page."""


def write_page(rows: list[Row], sizes: Sizes, folder: Path) -> None:
    "Write the page and its picture under `folder`."
    found, parts = summary(rows), [LEAD, TEXT.format(random=sizes.random)]
    (folder / "_static").mkdir(parents=True, exist_ok=True)
    save(chart(found), folder / "_static" / "bench_sentinels.svg")
    parts += ["![Requests until a member's home is known](_static/bench_sentinels.svg)",
              "*Requests until a member's group is known, in the mean, a bar for each way to ask; dotted: five.*",
              "## Chains with a changeover, together", "\n".join(together(found))]
    for known in KNOWN:
        lines = [HEAD, "| --- | --: | --- |" + " --: |" * 7]
        for (kind, way), part in found[found["known"] == known].groupby(["kind", "way"], sort=False):
            who = part.set_index("who")
            cells = [f"{who['groups'].mean():.0f}", way]
            for name in ("members", "strangers"):
                r = who.loc[name]
                cells += [f"{r['wrong']:.1%}", f"{r['unsure']:.1%}", f"{r['products']:.1f}"]
                if name == "members": cells.append(f"{r['requests']:.1f}")
            lines.append(f"| {kind} | {' | '.join(cells)} |")
        parts += [f"## Groups seen {known}", "\n".join(lines)]
    (folder / "finding_homes.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main(args: list[str] | None = None) -> None:
    "Run the benchmark, keep the figures, write the page and print them."
    given = asked(__doc__, "a small chain, few stores", args)
    sizes, out = QUICK if given.quick else Sizes(), given.out
    rows = list(measure(sizes))
    results = {"sizes": asdict(sizes), "summary": summary(rows).to_dict("records")}
    (out / "sentinels.json").write_text(json.dumps(results, indent=1, default=float) + "\n", encoding="utf-8")
    write_page(rows, sizes, given.pages)
    print(summary(rows).round(3).to_string(index=False))


if __name__ == "__main__": main()
