"""What an outlook promised after four weeks, beside what backtests gave at half, all and twice of the budget."""
import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scrapeopt.backtest import backtest
from scrapeopt.grouping.outlook import SHARES_OF_BUDGET, Outlook
from scrapeopt.policies.base import Policy
from scrapeopt.policies.delegated import delegated
from scrapeopt.policies.forecast import forecast
from scrapeopt.policies.scrape_value import TokenBucket
from scrapeopt.simulation.agents import Agent, Setting
from scrapeopt.simulation.policy_agent import PolicyAgent, company_scheduler_of
from scrapeopt.twin import ARCHETYPES, Twin, archetype_twin

RESULTS = Path(__file__).parent / "results" / "outlook.json"
PAST, FUTURE = 28, 21  # days: lived before the promise, and measured after it


class Promising(PolicyAgent):
    "A policy at work, with its outlook at the end of some day."

    def __init__(self, policy: Policy, s: Setting, budget: float, day: int) -> None:
        super().__init__(policy, s)
        self.budget, self.last, self.outlook = budget, day, None

    def served(self, now: pd.Timestamp) -> tuple[np.ndarray, np.ndarray]:
        "The prices of all stores; on the day, the outlook is worked out beside."
        self.last -= 1
        if self.last == 0:
            c = self.companies[0]
            scheduler = company_scheduler_of(c, now, TokenBucket(0.0, self.budget, 2 * self.budget))
            self.outlook = forecast(scheduler.situation, c.policy, c.beliefs, self.budget)
        return super().served(now)


def measured(world: Twin, budget: float, seed: int = 0, past: int = PAST, future: int = FUTURE) -> float:
    "The mean score of the days after the promise."
    return backtest(world, delegated, budget=budget, days=past + future, warmup_days=past, seed=seed).score


def promised(
    world: Twin, budget: float, seed: int = 0, past: int = PAST, future: int = FUTURE,
) -> tuple[Outlook, float]:  # and what was measured at the present budget
    "The outlook after some days of a chain, from what the policy knows then."
    agents = list[Promising]()

    def start(setting: Setting) -> Agent:
        agents.append(Promising(delegated, setting, budget, past))
        return agents[-1]

    score = backtest(world, start, budget=budget, days=past + future, warmup_days=past, seed=seed).score
    assert agents[0].outlook is not None
    return agents[0].outlook, score


def rows_of(archetype: str, seed: int, stores: int, products: int, bad: dict[str, float]) -> list[dict[str, Any]]:
    "Promised and measured, a row a budget."
    world, budget = archetype_twin(archetype, stores, products, seed, **bad), stores / 15
    outlook, now = promised(world, budget, seed)
    rows = []
    for share, at, score, alone in zip(SHARES_OF_BUDGET, outlook.budgets, outlook.scores, outlook.alone, strict=True):
        real = now if share == 1 else measured(world, at, seed)
        rows.append({"archetype": archetype, "seed": seed, "share": share, "budget": at, "promised": score,
                     "measured": real, "off": score - real, "alone": alone, **bad})
    return rows


def main() -> None:
    ap = argparse.ArgumentParser(prog="python -m benchmarks.outlook", description=__doc__)
    ap.add_argument("--stores", type=int, default=60)
    ap.add_argument("--products", type=int, default=200)
    ap.add_argument("--seeds", type=int, default=3)
    ap.add_argument("--bad-days", action="store_true", help="3 %% of the scrapes fail, 2 %% lack a part")
    ap.add_argument("--archetypes", nargs="*", default=list(ARCHETYPES))
    asked = ap.parse_args()
    bad, rows = {"fail_rate": 0.03, "partial_rate": 0.02} if asked.bad_days else {}, list[dict[str, Any]]()
    for seed in range(asked.seeds):
        for name in asked.archetypes:
            rows += rows_of(name, seed, asked.stores, asked.products, bad)
            print(pd.DataFrame(rows[-len(SHARES_OF_BUDGET):]).round(4).to_string(header=False, index=False), flush=True)
    table = pd.DataFrame(rows)
    print((100 * table.assign(worst=table["off"].abs()).groupby(["archetype", "share"])[["off", "worst"]].agg(
        {"off": "mean", "worst": "max"})).round(2).to_string())
    kept = {"stores": asked.stores, "products": asked.products, "past": PAST, "future": FUTURE, "rows": rows}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__": main()
