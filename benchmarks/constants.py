"What half and twice of each constant of the grouping rules does to the score of policy `delegated` on small twins."
import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from scrapeopt.analysis.tuning import world_settings
from scrapeopt.backtest import PerZone, backtest
from scrapeopt.grouping import belief_state, confidence, evidence, evidence_context, vote
from scrapeopt.grouping.vote import AGREES, DIFFERS, UNKNOWN
from scrapeopt.simulation.zones import ZoneSplit
from scrapeopt.twin import Twin, archetype_twin

MODULES = (vote, evidence_context, evidence, confidence, belief_state)
SPLIT = "2026-11-25"  # three weeks and two days after the start


def dominicks(seed: int, **size: int) -> Twin:
    "Zones inside each city, and lines that a store prices itself; all stores are scraped once at the start."
    return archetype_twin("dominicks", seed=seed, **size)


def split(seed: int, **size: int) -> Twin:
    "A price list a state; stores are unknown at the start, and the largest zone splits."
    zone = archetype_twin("state_zones", seed=seed, moving=0, **size).zones.value_counts().index[0]
    return archetype_twin("state_zones", seed=seed, split=ZoneSplit(SPLIT, zone), **size)


def algorithmic(seed: int, **size: int) -> Twin:
    "Prices change on any day, by area."
    return archetype_twin("algorithmic", seed=seed, **size)


WORLDS = {"dominicks": (dominicks, PerZone(2), {}), "algorithmic": (algorithmic, PerZone(2), {}),
          "split": (split, PerZone(6), {"baseline": "none", "save_days": 7})}


def odds_times(share: np.ndarray, factor: float) -> np.ndarray:
    "Shares whose odds are so many times larger."
    odds = factor * share / (1 - share)
    return odds / (1 + odds)


def prior(case: object, factor: float) -> np.ndarray:
    "The guess of `confidence` with the odds of some cases multiplied."
    guess = confidence.PRIOR_MEAN.copy()
    guess[case] = odds_times(guess[case], factor)
    return guess


# Half and twice; of a share near 1 it is the distance to 1 that is halved and doubled.
CASES = {"same": np.s_[..., 0, :], "no changeover": np.s_[:, 0, :, 1], "agreed": np.s_[:, 1:, AGREES + 1, 1],
         "differed": np.s_[:, 1:, DIFFERS + 1, 1], "unknown": np.s_[:, 1:, UNKNOWN + 1, 1]}
TRIALS: dict[str, tuple] = {
    "MAX_VOTERS": (4, 16), "MEMBER_AGREEMENT": (.98, .92), "VOTE_SURVIVAL": (.995, .98), "SIDE_RATIO": (1., 4.),
    "SIDE_DEVIATIONS": (1.5, 6.), "MAX_PEERS": (6, 24), "MIN_WITNESSES": (1, 4), "MOST_WEEKS": (8, 32),
    "MIN_EXPLORED": (.975, .9), "OLD_PRICES_MARGIN": (.015, .06), "RELEARN_FACTOR": (2, 8),
    "MIN_RESEMBLANCE": (.15, .6), "PRIOR_WEIGHT": (10., 40.), "COUNTS_KEPT": (.999, .996), "RATE_KEPT": (.95, .8),
    "MAX_CHANGEOVERS": (2, 8),
    **{f"PRIOR_MEAN, {name}": tuple(prior(case, f) for f in (.5, 2)) for name, case in CASES.items()}}


@contextmanager
def constant(name: str, value: object) -> Iterator[None]:
    "With another value of a constant, wherever the rules use it."
    holders = [m for m in MODULES if hasattr(m, name)]
    before, guess = getattr(holders[0], name), confidence.PRIOR_MEAN
    for m in holders: setattr(m, name, value)
    if name == "MAX_CHANGEOVERS": confidence.PRIOR_MEAN = confidence.prior_mean()  # its shape follows
    try: yield
    finally:
        confidence.PRIOR_MEAN = guess
        for m in holders: setattr(m, name, before)


def measure(world: str, given: argparse.Namespace) -> np.ndarray:  # (seeds, days)
    "The score of each day of each backtest."
    make, budget, options = WORLDS[world]
    rows = []
    for seed in range(given.seeds):
        twin = make(seed, n_stores=given.stores, n_products=given.products)
        found = backtest(twin, "delegated", budget=budget(twin), days=given.days, seed=seed,
                         settings=world_settings(twin), **options)
        rows.append(found.daily["score"].to_numpy())
    return np.array(rows)


def effect(now: np.ndarray, before: np.ndarray) -> str:
    "Points of score, or a word where no price of any day differs."
    return "none" if np.array_equal(now, before) else f"{100 * (now.mean() - before.mean()):+.2f}"


def main(args: list[str] | None = None) -> None:
    "A Markdown table on standard output: a row a constant, points of score in each world."
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("names", nargs="*", help="constants (default: all)")
    ap.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    for name, default in (("seeds", 2), ("stores", 60), ("products", 300), ("days", 42)):
        ap.add_argument(f"--{name}", type=int, default=default, help=f"(default: {default})")
    given = ap.parse_args(args)
    before = {world: measure(world, given) for world in given.worlds}
    for world, rows in before.items(): print(f"{world}: score {100 * rows.mean():.2f}% as it is", file=sys.stderr)
    print("| constant |" + "".join(f" {world}, half | {world}, twice |" for world in before))
    print("| --- |" + " --: |" * 2 * len(before))
    for name, values in TRIALS.items():
        if given.names and not any(name.startswith(wanted) for wanted in given.names): continue
        cells = []
        for world, rows in before.items():
            for value in values:
                with constant(name.split(",")[0], value): cells.append(effect(measure(world, given), rows))
        print(f"| `{name}` | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__": main()
