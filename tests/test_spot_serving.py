"Serving with spot checks in production: what was measured, in parts, as of a past day, and with who showed each price."
import numpy as np
import pandas as pd
import pytest
from test_delegated_production import START, W, new_workspace

from scrapeopt.core.prices import NOT_SOLD
from scrapeopt.policies.scrape_value import TokenBucket
from scrapeopt.simulation.agents import Probe, Setting, Today, backtest_settings
from scrapeopt.simulation.policy_agent import PolicyAgent
from scrapeopt.simulation.spot_agent import SpotCheckAgent
from scrapeopt.policies import find_policy
from scrapeopt.simulation.sites import perth_stores
from scrapeopt.twin import ARCHETYPES, Twin
from scrapeopt.update import update_db

DAY, HOUR = pd.Timedelta("1D"), pd.Timedelta("1h")


def shop() -> Twin: return Twin(perth_stores(W, 12), n_products=80, start=START, model=ARCHETYPES["dominicks"])


def land(ws, world: Twin, task: str | Probe) -> None:
    "Put the answer of a store into the inbox: all of it, or some products."
    store, at = (task, None) if isinstance(task, str) else (task.store, task.products)
    prices = world.scrape(store) if at is None else world.probe(store, at)
    ids = world.products.index.to_numpy() if at is None else world.products.index.to_numpy()[at]
    told = [f'{{"product_id": "{p}", "price": "{c / 100:.2f}"}}' if c >= 0 else f'{{"product_id": "{p}", "price": null}}'
            for p, c in zip(ids, prices.tolist(), strict=True) if c >= 0 or at is not None]
    path = ws.inbox(W, store) / f"{world.now:%Y%m%dT%H%M%SZ}{'' if at is None else '.spot'}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(told) + "\n")


def answer(ws, world: Twin, agent: SpotCheckAgent, tasks) -> None:
    "Carry out a round, in the workspace and for the agent."
    for task in tasks: land(ws, world, task)
    asked = sorted((p for p in tasks if isinstance(p, Probe)), key=lambda p: p.store)  # as an update takes them
    probes = [(p, world.probe(p.store, p.products)) for p in asked]
    if probes: agent.take_probes(world.now, probes)
    stores = [s for s in tasks if isinstance(s, str)]
    if stores: agent.take_in(world.now, {s: world.scrape(s) for s in stores})
    update_db(ws, now=world.now)


def side_by_side(path, days: int = 24, budget: float = 3.0, rounds: int = 3):
    "A workspace and an agent of a backtest that get the same answers, in some rounds a day; after each day, both."
    ws = new_workspace(path, "delegated", f"[companies.{W}]", 'timezone = "Australia/Perth"', "spot_checks = true")
    world, chosen = shop(), backtest_settings({"spot_checks": True, "timezone": "Australia/Perth"})
    ws.import_stores(world.stores.reset_index(names="store_id"))
    ws.cluster(min_samples=2, eps_km=60)
    agent = SpotCheckAgent(find_policy("delegated"), Setting(world.stores, world.products, chosen.window, chosen, 0))
    answer(ws, world, agent, list(map(str, world.stores.index)))
    for _ in range(days):
        world.advance(DAY - (rounds - 1) * HOUR)
        bucket = TokenBucket(budget, budget, 2 * budget)
        for k in range(rounds):
            if k: world.advance(HOUR)
            tasks = agent.plan(Today(world.now, bucket))
            bucket = TokenBucket(bucket.tokens - sum(1 if isinstance(t, str) else len(t.products) / len(world.products) for t in tasks), budget, 2*budget)
            answer(ws, world, agent, tasks)
        yield ws, world, agent
