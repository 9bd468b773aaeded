"Spot checks in a backtest: what they may not cost, must not touch, and have to find."
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from effort import drilled

from scrapeopt.backtest import backtest
from scrapeopt.policies.scrape_value import TokenBucket
from scrapeopt.simulation.agents import Probe, Setting, Today, backtest_settings, find_agent
from scrapeopt.simulation.spot_agent import SpotCheckAgent
from scrapeopt.spotcheck import SpotCheck
from scrapeopt.twin import archetype_twin

SPOTS = {"spot_checks": True}


def small(**changes): return archetype_twin("dominicks", 24, 120, seed=2, **changes)


class Counted:
    "A world that counts what it is asked for, and whose stores may fall silent or close."

    def __init__(self, world, silent=(), closed=()):
        self.world, self.silent, self.closed, self.asked = world, set(silent), set(closed), []

    def __getattr__(self, name): return getattr(self.world, name)

    def __deepcopy__(self, memo): return self

    def scrape(self, store):
        self.asked.append((store, len(self.world.products), self.world.now))
        if store in self.silent: raise OSError("no answer")
        return np.full(len(self.world.products), -1, np.int32) if store in self.closed else self.world.scrape(store)

    def probe(self, store, products):
        self.asked.append((store, len(products), self.world.now))
        if store in self.silent: raise OSError("no answer")
        return np.full(len(products), -1, np.int32) if store in self.closed else self.world.probe(store, products)


def agent_on(world, budget=2.0):
    "An agent that has taken in a baseline, and what a day of it plans."
    factory = find_agent("delegated")[1]
    agent = factory(Setting(world.stores, world.products, backtest_settings(SPOTS).window, backtest_settings(SPOTS), 0))
    agent.take_in(world.now, {str(s): world.scrape(str(s)) for s in world.stores.index})
    return agent, lambda: agent.plan(Today(world.now, TokenBucket(budget, budget, 2 * budget)))


def carry_out(world, agent, plan):
    "Answer a plan."
    agent.take_probes(world.now, [(p, world.probe(p.store, p.products)) for p in plan if isinstance(p, Probe)])
    if stores := [p for p in plan if isinstance(p, str)]:
        agent.take_in(world.now, {s: world.scrape(s) for s in stores})


def shelf_known(agent, store):
    "What the newest snapshot of a store shows, whenever it is asked."
    def shown():
        latest = agent.companies[0].beliefs.latest
        return latest.prices[latest.row[store]]
    return shown


def test_nobody_asks_for_spot_checks_unless_the_settings_say_so():
    assert backtest(small(), "delegated", budget=2, days=6).daily["probes"].sum() == 0


def test_document_stays_as_it_is():
    plain, spots = (backtest(small(), "document", budget=2, days=8, settings=s).daily for s in (None, SPOTS))
    assert plain.equals(spots)


@pytest.mark.parametrize("budget", [0.3, drilled(1.5)])
def test_spot_checks_are_paid_for(budget):
    "Scrapes and the shares of probes add up to no more than the budget; nobody is scraped twice a day."
    world = Counted(small())
    backtest(world, "delegated", budget=budget, days=14, settings=SPOTS)
    asked = pd.DataFrame(world.asked[len(world.stores):], columns=["store", "products", "at"])
    whole = asked["products"] == len(world.products)
    size = {s: int((world.world.scrape(s) >= 0).sum()) for s in world.stores.index}
    cost = np.where(whole, 1, asked["products"] / asked["store"].map(size) * 0.8)  # ranges change a little in two weeks
    assert cost.sum() <= budget * 15 + 1 and (~whole).sum() > 0
    assert not asked[whole].duplicated(["store", "at"]).any()


def test_the_same_seed_gives_the_same_run():
    runs = [backtest(small(fail_rate=0.1, partial_rate=0.1), "delegated", budget=1.5, days=8, settings=SPOTS).daily
            for _ in range(2)]
    assert runs[0].equals(runs[1]) and runs[0]["probes"].sum() > 0


@pytest.mark.slow
def test_half_of_the_requests_serve_as_many_right_prices():
    scrapes = backtest(small(), "delegated", budget=3, days=35, warmup_days=14)
    spots = backtest(small(), "delegated", budget=1.5, days=35, warmup_days=14, settings=SPOTS)
    assert spots.score >= scrapes.score
    assert spots.ece < 0.05


def test_a_spot_check_is_no_snapshot():
    "It refreshes what it saw, and nothing else: the snapshot, its day and the group stay as they were."
    world = small()
    agent, _ = agent_on(world)
    store, products = str(world.stores.index[3]), np.arange(5)
    latest = agent.companies[0].beliefs.latest
    before, served = latest.prices.copy(), agent.served(world.now)[0]
    world.advance(pd.Timedelta(days=8))
    shown = world.probe(store, products)
    agent.take_probes(world.now, [(Probe(store, products), shown)])
    assert (latest.prices == before).all() and (agent.companies[0].table["last_scraped"] < world.now).all()
    row = list(world.stores.index).index(store)
    now = agent.served(world.now)[0]
    assert (now[row, products] == shown).all()
    untouched = np.delete(np.arange(len(world.products)), products)
    assert (now[row, untouched] == served[row, untouched]).mean() > 0.9


def test_a_store_that_has_closed_is_found_by_a_few_products_and_scraped():
    world = Counted(small())
    agent, plan = agent_on(world)
    world.closed = {str(world.stores.index[5])}
    shelf, found = shelf_known(agent, *world.closed), False
    for _ in range(21):
        world.advance(pd.Timedelta(days=1))
        for _ in range(4):
            if not (tasks := plan()): break
            carry_out(world, agent, tasks)
            found |= bool(world.closed & {p for p in tasks if isinstance(p, str)})
        if found and (shelf() == -1).all(): break
    assert found and (shelf() == -1).all()


def test_a_store_that_opens_is_knocked_at_and_scraped():
    store = str(small().stores.index[5])
    world = Counted(small(), closed=[store])
    agent, plan = agent_on(world, budget=4.0)
    shelf = shelf_known(agent, store)
    for day in range(14):
        world.advance(pd.Timedelta(days=1))
        if day == 2: world.closed = set()
        for _ in range(4):
            if not (tasks := plan()): break
            carry_out(world, agent, tasks)
        if (shelf() >= 0).any(): break
    assert (shelf() >= 0).any()
    asked = [n for s, n, _ in world.asked[len(world.stores):] if s == store]
    assert sum(asked[:asked.index(len(world.products))]) < len(world.products) / 2  # what it cost to find out


def test_a_store_that_never_answered_is_knocked_at_once_a_week_and_not_scraped():
    store = str(small().stores.index[5])
    world = Counted(small(), closed=[store])
    backtest(world, "delegated", budget=0.5, days=22, settings=SPOTS)
    asked = [(n, at) for s, n, at in world.asked[len(world.stores):] if s == store]
    assert 2 <= len(asked) <= 4 and {n for n, _ in asked} == {8}
    assert all(b - a >= pd.Timedelta(days=7) for (_, a), (_, b) in pairwise(asked))


def test_what_a_lone_suspect_shows_is_not_served_for_its_group():
    world = small()
    agent, _ = agent_on(world)
    c = agent.companies[0]
    group = max(c.beliefs.state.active(), key=lambda g: len(g.members))
    suspect, fellow = sorted(group.members)[:2]
    rogue = SpotCheck(0.9, 0.5)
    rogue.verdict = "rogue"
    served = {}
    for checks in ({}, {suspect: rogue}):
        agent.known[0] = replace(agent.known[0], checks=checks)
        everything = np.arange(len(world.products))
        known = agent.known[0]
        agent.take_probes(world.now + pd.Timedelta(days=8), [(Probe(suspect, everything), world.scrape(suspect) + 7)])
        served[bool(checks)] = agent.served(world.now + pd.Timedelta(days=8))[0][agent.row[fellow]]
        agent.known[0] = known
    own = world.scrape(suspect)
    assert (served[False] == own + 7)[own >= 0].mean() > 0.25
    assert not (served[True] == own + 7)[own >= 0].any()


def test_a_store_that_does_not_answer_is_asked_for_products_once_a_day():
    world = Counted(small())
    agent, plan = agent_on(world)
    world.advance(pd.Timedelta(days=8))
    carry_out(world, agent, plan())
    asked = [p.store for p in plan() if isinstance(p, Probe)]
    assert asked  # and no answer comes
    assert not {p.store for p in plan() if isinstance(p, Probe)} & set(asked)
    world.advance(pd.Timedelta(days=7))
    carry_out(world, agent, plan())
    assert {p.store for p in plan() if isinstance(p, Probe)} & set(asked)


def test_companies_share_the_money():
    a, b = (archetype_twin("uniform", 8, 60, seed=1, company=name) for name in ("Woolworths", "Coles"))

    class Two:
        "Two chains in one world."
        stores = pd.concat([a.stores.rename(index="W{}".format), b.stores.rename(index="C{}".format)])
        products, now = a.products, a.now
        def of(self, store): return (a if store[0] == "W" else b), store[1:]
        def scrape(self, store): return self.of(store)[0].scrape(self.of(store)[1])
        def probe(self, store, products): return self.of(store)[0].probe(self.of(store)[1], products)
        def truth(self): return np.vstack([a.truth(), b.truth()])
        def advance(self, step):
            for twin in (a, b): twin.advance(step)
            self.now = a.now

    agent = agent_on(Two(), budget=4.0)[0]
    assert isinstance(agent, SpotCheckAgent)
    world = Two()
    world.advance(pd.Timedelta(days=8))
    stores = {p if isinstance(p, str) else p.store for p in agent.plan(Today(world.now, TokenBucket(4, 4, 8)))}
    assert {s[0] for s in stores} == {"W", "C"}
