"""Served prices: what a store sells, once each, and its own where it was seen this price week; under every policy."""
import numpy as np
import pandas as pd
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from scrapeopt.core.prices import NOT_SOLD
from scrapeopt.policies import find_policy
from scrapeopt.policies.scrape_value import TokenBucket
from scrapeopt.simulation.agents import Setting, Today, backtest_settings
from scrapeopt.simulation.policy_agent import PolicyAgent
from scrapeopt.twin import archetype_twin

POLICIES = ("document", "delegated")
DAY = pd.Timedelta("1D")


def played(policy: str, kind: str, seed: int, days: int, **changes):
    "A policy after some days with two or three scrapes each, some of which fail or break off; the world, day by day."
    world = archetype_twin(kind, n_stores=20, n_products=120, seed=seed, fail_rate=.1, partial_rate=.1, **changes)
    chosen = backtest_settings({"timezone": world.chain.timezone})
    agent = PolicyAgent(find_policy(policy), Setting(world.stores, world.products, chosen.window, chosen, seed))
    def scrape(stores):
        found = {}
        for store in stores:
            try: found[store] = world.scrape(store)
            except OSError: continue
        return found
    agent.take_in(world.now, scrape(map(str, world.stores.index)))
    for _ in range(days):
        world.advance(DAY)
        agent.take_in(world.now, scrape(agent.plan(Today(world.now, TokenBucket(3, 3, 6)))))
        yield agent.companies[0].beliefs, agent.policy, world


@given(st.sampled_from(POLICIES), st.sampled_from(["state_zones", "uniform", "autonomy"]), st.integers(0, 50))
@examples(12)
def test_nothing_is_served_that_a_store_was_last_seen_not_to_sell(policy, kind, seed):
    for beliefs, chosen, world in played(policy, kind, seed, days=7, launched=1.0, delisted=0.5):
        latest = beliefs.latest
        served = chosen.serve(beliefs, latest.stores, world.now)
        lacking = (served.prices != NOT_SOLD) & (latest.prices == NOT_SOLD)
        assert (latest.first_seen > latest.times[:, None])[lacking].all()  # nobody sold it when the store was seen
        assert (served.prices[latest.prices != NOT_SOLD] != NOT_SOLD).all()  # and what it sold is served
        assert not (served.prices[np.isnat(latest.times)] != NOT_SOLD).any()


@pytest.mark.parametrize("policy", POLICIES)
def test_new_products_spread_through_their_groups(policy):
    "Some of what a store lacked is served for it, as nobody sold it then; by now a good part of that is there."
    told = right = 0
    for beliefs, chosen, world in played(policy, "uniform", 1, days=20, launched=1.0):
        latest, order = beliefs.latest, np.argsort(world.products.index.astype(str))
        rows = pd.Index(world.stores.index.astype(str)).get_indexer(list(latest.stores))
        truth = world.truth()[rows][:, order]
        served = chosen.serve(beliefs, latest.stores, world.now).prices
        lacking = (served != NOT_SOLD) & (latest.prices == NOT_SOLD)
        told, right = told + int(lacking.sum()), right + int((served == truth)[lacking].sum())
    assert told > 20 and right > 0.3 * told


@pytest.mark.parametrize("policy", POLICIES)
def test_this_weeks_own_snapshot_stands(policy):
    "While the changeover is known, every price of a store seen since is its own, whatever its group says."
    seen = 0
    for beliefs, chosen, world in played(policy, "state_zones", 3, days=16):
        latest, today = beliefs.latest, beliefs.latest.local_day(world.now)
        if latest.week.changeover is None: continue
        fresh = [s for s in latest.stores if latest.day(s) > 0 and latest.week.weeks(latest.day(s), today) == 0]
        if not fresh: continue
        served = chosen.serve(beliefs, fresh, world.now)
        own = latest.prices[[latest.row[s] for s in fresh]]
        assert (served.prices == own)[own != NOT_SOLD].all() and not served.inferred[own != NOT_SOLD].any()
        seen += len(fresh)
    assert seen > 20
