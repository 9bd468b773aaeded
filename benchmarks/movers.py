"Stores that change zone, and a zone that splits: the score beside an oracle's, and how soon each is in its group."
import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.progress import track
from sklearn.metrics import adjusted_rand_score

from benchmarks.leaderboard import BAD_DAYS, BUDGETS, WORLDS
from benchmarks.page import ROOT, save
from scrapeopt.analysis.tuning import world_settings
from scrapeopt.backtest import COLOURS, BacktestResult, PerZone, backtest
from scrapeopt.policies.delegated import delegated
from scrapeopt.simulation.agents import YARDSTICKS, Agent, Setting
from scrapeopt.simulation.policy_agent import PolicyAgent
from scrapeopt.simulation.zones import ZoneSplit
from scrapeopt.twin import Twin, archetype_twin

DAYS, WARMUP = 63, 21
SPLIT = "2026-11-25"  # a changeover, day 23
CHANGES = {"a zone splits": 0.08, "many move": 0.4}  # share of the stores that move in a year
POLICIES = ("delegated", *YARDSTICKS)


def world_of(change: str, archetype: str, seed: int, stores: int, products: int) -> Twin:
    "A chain in which stores move, and perhaps half of its largest zone gets a price list of its own."
    options: dict[str, Any] = {"moving": CHANGES[change], **BAD_DAYS}
    plain = archetype_twin(archetype, stores, products, seed, **options)
    if "split" not in change: return plain
    day = plain.chain.date_day(SPLIT)
    zones = Counter(site.on(day).zone for site in plain.sites.values() if not site.autonomous and site.opens <= day)
    return archetype_twin(archetype, stores, products, seed, split=ZoneSplit(SPLIT, zones.most_common(1)[0][0]),
                          **options)


class Watched(PolicyAgent):
    "A policy at work, and day by day which group each store was in and when it was last scraped whole."

    def __init__(self, s: Setting) -> None:
        super().__init__(delegated, s)
        self.groups_by_day, self.scraped_by_day = list[dict[str, Any]](), list[dict[str, int]]()  # days since the start

    def served(self, now: pd.Timestamp) -> tuple[np.ndarray, np.ndarray]:
        "The prices of all stores; beside, what they are served from is written down."
        latest, today = self.companies[0].beliefs.latest, len(self.groups_by_day)
        self.groups_by_day.append(dict(self.groups))
        days = latest.days - latest.local_day(now) + today
        self.scraped_by_day.append(dict(zip(latest.stores, days.tolist(), strict=True)))
        return super().served(now)


def zones_on(world: Twin, day: int) -> dict[str, str]:
    "The true zone of each store on a local day; a store that is not open yet is a zone of its own."
    return {i: s.on(day).zone if s.opens <= day else i for i, s in world.sites.items()}


def placed(store: str, groups: dict[str, Any], zones: dict[str, str]) -> bool:
    "Whether a store is in the group that most of its zone's stores are in; alone, where nobody else is of its zone."
    others = [groups[s] for s, zone in zones.items() if zone == zones[store] and s != store and groups[s] != -1]
    mates = [zones[s] for s, group in groups.items() if group == groups[store] != -1 and s != store]
    if not mates: return not others
    return mates.count(zones[store]) > len(mates) / 2


def moves_seen(world: Twin, first: int, agent: Watched) -> list[dict[str, Any]]:
    "Each store that changed zone meanwhile: days until it was scraped, until it was in its group, and to the end."
    found, last = list[dict[str, Any]](), first + len(agent.groups_by_day) - 1
    zones = [zones_on(world, day) for day in range(first, last + 1)]
    for store, site in world.sites.items():
        for day in (d for d, *_ in site.moves if first < d <= last and site.opens < d < site.closes):
            if zones[day - first - 1][store] == zones[day - first][store]: continue
            after = range(day - first, len(zones))
            scraped = next((k for k in after if first + agent.scraped_by_day[k][store] >= day), None)
            home = next((k for k in after if placed(store, agent.groups_by_day[k], zones[k])), None)
            found.append({"scraped": None if scraped is None else scraped + first - day,
                          "placed": None if home is None else home + first - day, "watched": last - day})
    return found


def ari_of_seen(world: Twin, first: int, agent: Watched, result: BacktestResult) -> float:
    "The adjusted Rand index of who knows of each store the zone that it was in when it was last scraped, and no more."
    assert result.zones is not None
    last = agent.scraped_by_day[-1]
    zones = {day: zones_on(world, first + day) for day in set(last.values())}
    seen = [zones[last[str(s)]][str(s)] for s in result.zones.index]
    return float(adjusted_rand_score(result.zones.astype(str), seen))


def row_of(world: Twin, policy: str, rate: float, seed: int) -> dict[str, Any]:
    "One backtest."
    agents, first = list[Watched](), world.chain.day(world.now)

    def start(setting: Setting) -> Agent:
        agents.append(Watched(setting))
        return agents[-1]

    result = backtest(world, start if policy == "delegated" else policy, budget=PerZone(rate)(world), days=DAYS,
                      warmup_days=WARMUP, settings=world_settings(world), seed=seed)
    row = {"policy": policy, "rate": rate, "seed": seed, "score": result.score}
    if not agents: return row
    return row | {"ari": result.ari, "ari_seen": ari_of_seen(world, first, agents[0], result),
                  "moves": moves_seen(world, first, agents[0])}


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    "A row a backtest; with a cache, a stopped run goes on where it was."
    kept = given.cache / "movers.jsonl" if given.cache else None
    rows = [json.loads(line) for line in kept.read_text("utf-8").splitlines()] if kept and kept.exists() else []
    sizes = {"stores": given.stores, "products": given.products}
    jobs = [{"change": c, "world": w, "policy": p, "rate": b, "seed": s, **sizes} for s in range(given.seeds)
            for c in CHANGES for w in given.worlds for b in given.budgets for p in POLICIES]
    found = []
    for job in track(jobs, "movers"):
        row = next((row for row in rows if row.items() >= job.items()), None)
        if row is None:
            world = world_of(job["change"], job["world"], job["seed"], **sizes)
            row = job | row_of(world, job["policy"], job["rate"], job["seed"])
            if kept:
                given.cache.mkdir(parents=True, exist_ok=True)
                with kept.open("a", encoding="utf-8") as file: file.write(json.dumps(row) + "\n")
        found.append(row)
    return found


def summary(rows: list[dict[str, Any]]) -> pd.DataFrame:
    "Means over seeds; a row for each change, world and budget, a score for each policy."
    table = pd.DataFrame(rows)
    key = ["change", "world", "rate"]
    score = table.pivot_table(index=key, columns="policy", values="score", sort=False)
    ours = table[table["policy"] == "delegated"]
    return score.join(ours.groupby(key)[["ari", "ari_seen"]].mean()).join(
        ours.groupby(key)["moves"].agg(lambda parts: sum(map(len, parts))).rename("moved")).reset_index()


def placed_within(moves: list[dict[str, Any]], days: np.ndarray) -> np.ndarray:  # share, NaN where nobody was watched
    "Of the stores that moved and were watched for so many days, the share that was in its group by then."
    known = [(m["watched"], np.inf if m["placed"] is None else m["placed"]) for m in moves]
    watched, placed = np.array(known, float).reshape(-1, 2).T
    there = watched[:, None] >= days
    with np.errstate(invalid="ignore"): return (there & (placed[:, None] <= days)).sum(0) / there.sum(0)


def chart(rows: list[dict[str, Any]]) -> Figure:
    "For each kind of change: scores over the budget, a picture a chain; below, how soon a store is in its group."
    found, worlds = summary(rows), list(dict.fromkeys(row["world"] for row in rows))
    figure = Figure(figsize=(2.1 * len(worlds) + .6, 2.1 * len(CHANGES) + 3), layout="constrained")
    parts = figure.subfigures(len(CHANGES) + 1, 1)
    for part, change in zip(parts, CHANGES, strict=False):
        part.suptitle(change, fontsize=10)
        for ax, world in zip(part.subplots(1, len(worlds), squeeze=False)[0], worlds, strict=True):
            own = found[(found["change"] == change) & (found["world"] == world)]
            for policy in POLICIES:
                ax.plot(own["rate"], 100 * own[policy], "o-", ms=3, color=COLOURS[policy], label=policy)
            ax.set_title(world, fontsize=9)
            ax.set_xscale("log", base=2)
            ax.set_xticks(own["rate"], [f"{b:g}" for b in own["rate"]])
            ax.tick_params(labelsize=8)
            ax.spines[["top", "right"]].set_visible(False)
        part.supxlabel("scrapes a zone and week", fontsize=8)
        part.supylabel("score (%)", fontsize=9)
    draw_delays(parts[-1], rows)
    handles, labels = parts[0].axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=8)
    return figure


def draw_delays(part: Any, rows: list[dict[str, Any]]) -> None:
    "How soon a store that changed its zone is in its group, a picture a change, a line a budget."
    days = np.arange(0, 36)
    part.suptitle("stores that changed their zone, all chains: in their group so many days later", fontsize=10)
    for ax, change in zip(part.subplots(1, len(CHANGES)), CHANGES, strict=True):
        for rate in sorted({row["rate"] for row in rows}):
            moves = [m for row in rows if (row["change"], row["rate"]) == (change, rate) for m in row.get("moves", [])]
            ax.step(days, 100 * placed_within(moves, days), where="post", label=f"{rate:g}", lw=1 + rate / 5,
                    color=COLOURS["delegated"], alpha=.4 + .075 * rate)
        ax.set(title=change, xlabel="days", ylabel="%", ylim=(0, 102))
        ax.title.set_fontsize(9)
        ax.tick_params(labelsize=8)
        ax.legend(title="scrapes a zone\nand week", fontsize=7, title_fontsize=7, frameon=False, loc="lower right")
        ax.spines[["top", "right"]].set_visible(False)


def table(found: pd.DataFrame) -> Iterator[str]:
    "One kind of change as a Markdown table."
    yield "| chain | scrapes a zone and week | " + " | ".join(POLICIES) + " | groups (ARI) | of what was seen | moved |"
    yield "| --- | --: |" + " --: |" * (len(POLICIES) + 3)
    for r in found.to_dict("records"):
        scores = [f"{100 * r[p]:.1f}" for p in POLICIES]
        if r["delegated"] >= r["oracle"]: scores[0] = f"**{scores[0]}**"
        yield (f"| {r['world']} | {r['rate']:g} | " + " | ".join(scores) +
               f" | {r['ari']:.3f} | {r['ari_seen']:.3f} | {r['moved']:.0f} |")


# what is to be seen in the figures that are kept; to be read again when they are measured again
READING = """**Where it falls short.** `delegated` has less than `oracle` in six of the forty rows, and in all of them \
few scrapes meet many stores. The widest gap is a country with one price list (uniform) of which half goes on one day: \
at one scrape a day, 57 stores would have to be looked at while the two lists are kept up to date, and until a store \
was looked at it is served one of two lists that agree on seven lines in ten. At eight a day all are placed within a \
week, and the score passes that of `oracle`; at four the days right after the split, all of which are counted, cost \
more than is made up for later. In the chain of states the same holds at one scrape a zone and week. Without a split, \
`oracle` is ahead at one scrape a zone and week in those two chains, by half a point and by one.

**The groups at the end.** An index of .95 is reached wherever the stores were looked at; where it is missed at one \
and two scrapes a zone and week, who knows all that was seen would miss it, too. `autonomy` is the exception. There \
most stores are a zone of their own and a handful of pairs decides the index, so that one store that is taken for an \
outlier, with 94.6% of equal prices where 95% are asked for, costs .14.
"""

INTRO = """# Stores that change zone

:::{{div}} lead
A store that takes another zone's prices, and a zone that splits in two: the score beside one who is told, and how \
soon each store is served the right list again.
:::

Every kind of chain, with {stores} stores and {products:,} products, of whose scrapes 3% fail and 2% lack a part; \
days {warmup} to {days}, {seeds}. Two kinds of change are laid on top of what a chain does anyway:

- **a zone splits**: on day {split} half of the stores of the largest zone, drawn by lot, get a price list of their \
own; beside that, 8% of the stores change their zone in a year.
- **many move**: 40% of the stores change their zone in a year, so that a handful does so within the {days} days; most \
of them go over to a neighbouring zone.

`oracle` is told every store's zone on the very day, and the changeover; `clairvoyant` is told of each price what it \
is made of. Policy `delegated` is told nothing: it cannot know that a store has moved before that store is scraped \
again, and where a zone has split, only a scrape of each store tells which list it has now. So beside the groups that \
it found at the end (ARI, the adjusted Rand index against the true zones, 1 when they are the same) stands the index \
of one who knows of each store the zone that it was in when this policy last scraped it, and no more: *of what was \
seen*. A budget is a number of scrapes per true zone and week, counted before the split. The scores of `delegated` are \
bold where `oracle` has no more; *moved* is how many stores changed their zone meanwhile, over all seeds.

`python -m benchmarks.movers` measures again and writes this page; the rows are in `benchmarks/results/movers.json`.

![Scores over the budget for each kind of change and chain, and how soon a moved store is in its group\
](_static/bench_movers.svg)

*Above, the score over the budget; below, of the stores that changed their zone, how many were in a group of their new \
zone so many days later. Where more than half of a group goes, it is the others who are left to be found, and those \
that went are in their group at once.*

"""


def delays(rows: list[dict[str, Any]]) -> Iterator[str]:
    "How soon moved stores were scraped, and in their group, as a Markdown table."
    yield ("| change | scrapes a zone and week | stores that moved | scraped within a week | in their group within a "
           "week | within three | within five |")
    yield "| --- |" + " --: |" * 6
    for change in CHANGES:
        for rate in sorted({row["rate"] for row in rows}):
            moves = [m for row in rows if (row["change"], row["rate"]) == (change, rate) for m in row.get("moves", [])]
            seen = placed_within([m | {"placed": m["scraped"]} for m in moves], np.array([7]))
            shares = [*seen, *placed_within(moves, np.array([7, 21, 35]))]
            cells = " | ".join("" if np.isnan(share) else f"{100 * share:.0f}%" for share in shares)
            yield f"| {change} | {rate:g} | {len(moves)} | {cells} |"


def page(results: dict[str, Any], reading: str) -> str:
    "The page; `reading` says what is to be seen."
    sizes, found = results["sizes"], summary(results["rows"])
    seeds = "one chain of each kind" if sizes["seeds"] == 1 else f"the mean of {sizes['seeds']} chains of each kind"
    split = (pd.Timestamp(SPLIT) - pd.Timestamp("2026-11-02")).days
    text = INTRO.format(**sizes | {"seeds": seeds}, warmup=WARMUP + 1, days=DAYS, split=split) + reading
    for change, part in found.groupby("change", sort=False):
        text += f"\n## {str(change).capitalize()}\n\n" + "\n".join(table(part)) + "\n"
    return text + "\n## How soon\n\n" + "\n".join(delays(results["rows"])) + "\n"


def write_page(results: dict[str, Any], docs: Path) -> None:
    "The page and its picture."
    (docs / "_static").mkdir(parents=True, exist_ok=True)
    (docs / "movers.md").write_text(page(results, READING), encoding="utf-8")
    save(chart(results["rows"]), docs / "_static" / "bench_movers.svg")


def main(args: list[str] | None = None) -> None:
    "Measure, keep the rows, write the page."
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--quick", action="store_true", help="one small chain, one budget: seconds; proves nothing")
    ap.add_argument("--seeds", type=int, default=2, help="chains of each kind (default: 2)")
    ap.add_argument("--stores", type=int, default=60, help="stores of each chain (default: 60)")
    ap.add_argument("--products", type=int, default=200, help="products of each chain (default: 200)")
    ap.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS), help="which (default: all)")
    ap.add_argument("--budgets", nargs="+", type=float, default=list(BUDGETS), help="scrapes a zone and week")
    ap.add_argument("--cache", type=Path, help="folder that keeps finished backtests: a stopped run goes on")
    ap.add_argument("--out", type=Path, help="folder of rows and page (default: benchmarks/results and docs)")
    ap.add_argument("--page-only", action="store_true", help="measure nothing: write the page from the rows kept")
    given = ap.parse_args(args)
    if given.quick:
        given.seeds, given.stores, given.products, given.worlds, given.budgets = 1, 16, 60, ["state_zones"], [4.0]
    elsewhere = given.out or (ROOT / "_build" / "bench" if given.quick else None)
    folder, docs = elsewhere or ROOT / "benchmarks" / "results", elsewhere or ROOT / "docs"
    folder.mkdir(parents=True, exist_ok=True)
    if not given.page_only:
        sizes = {k: getattr(given, k) for k in ("seeds", "stores", "products")}
        kept = json.dumps({"sizes": sizes, "rows": measure(given)}, indent=1)
        (folder / "movers.json").write_text(kept + "\n", encoding="utf-8")
    results = json.loads((folder / "movers.json").read_text("utf-8"))
    write_page(results, docs)
    print(summary(results["rows"]).round(4).to_string(index=False))


if __name__ == "__main__": main()
