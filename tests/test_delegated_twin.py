"""Policy `delegated` on twins: what it must find out, and what it must not see where nothing is.

Small twins; the drills are as large as the claims."""
import pandas as pd
import pytest

from scrapeopt.backtest import PerZone, backtest
from scrapeopt.grouping.events import GroupFounded
from scrapeopt.analysis.tuning import world_settings
from scrapeopt.simulation.zones import ZoneSplit
from scrapeopt.twin import archetype_twin

SPLIT = "2026-11-25"
WEEK = pd.Timedelta("7D")


def run(world, days, **options):
    return backtest(world, "delegated", budget=PerZone(options.pop("rate", 4))(world), days=days,
                    settings=world_settings(world), **options)


def halves(size, seed):
    "The largest group of each part of the largest zone, two weeks after it split, and its share of that part."
    plain = archetype_twin("state_zones", seed=seed, moving=0, **size)
    zone = plain.zones.value_counts().index[0]
    world = archetype_twin("state_zones", seed=seed, moving=0, split=ZoneSplit(SPLIT, zone), **size)
    found = run(world, (pd.Timestamp(SPLIT, tz="UTC") + 2 * WEEK - world.now).days)
    parts = found.groups.groupby(found.zones[plain.zones == zone])
    return parts.agg(lambda g: g.mode()[0]).tolist(), parts.agg(lambda g: (g == g.mode()[0]).mean()).min()


def false_splits(found, since):
    "Groups founded after a time for stores of a zone that another group holds, too, or that are gone again."
    late = [e for e in found.events if isinstance(e, GroupFounded) and e.at > since]
    homes = [set(found.groups[found.zones.isin(found.zones[list(e.members)])]) - {-1} for e in late]
    return [e.words() for e, home in zip(late, homes, strict=True) if home != {e.group}]


def spent_until_settled(archetype, size, seed, days=84):
    "Scrapes until 95% of the steady accuracy are reached from nothing, and one a store and two a zone."
    world = archetype_twin(archetype, seed=seed, **size)
    found = run(world, days, rate=8, baseline="none").daily
    steady = found["accuracy"].iloc[-28:].mean()
    first = found.index[found["accuracy"] >= 0.95 * steady][0]
    return found["scrapes"].cumsum()[first], len(world.stores) + 2 * world.zones.nunique(), steady


@pytest.mark.slow
def test_R13_a_split_is_found_within_two_price_weeks():
    groups, share = halves({"n_stores": 32, "n_products": 100}, seed=0)
    assert len(set(groups)) == 2 and share > 0.7, (groups, share)


@pytest.mark.slow
def test_R13_nothing_is_split_where_nothing_splits():
    world = archetype_twin("state_zones", n_stores=32, n_products=100, seed=0, moving=0)
    start, found = world.now, run(world, 49)
    assert not false_splits(found, start + 4 * WEEK) and found.ari > 0.99


@pytest.mark.slow
def test_R13_discovery_is_part_of_the_game():
    spent, allowed, steady = spent_until_settled("dominicks", {"n_stores": 32, "n_products": 100}, seed=0, days=49)
    assert spent <= 1.1 * allowed and steady > 0.95, (spent, allowed, steady)


@pytest.mark.drill
@pytest.mark.parametrize("seed", range(3))
def test_R13_a_split_is_found_in_a_large_chain(seed):
    groups, share = halves({"n_stores": 240, "n_products": 600}, seed)
    assert len(set(groups)) == 2 and share > 0.7, (groups, share)


@pytest.mark.drill
@pytest.mark.parametrize("seed", range(3))
def test_R13_a_year_without_a_split(seed):
    world = archetype_twin("state_zones", n_stores=240, n_products=600, seed=seed, moving=0)
    start, found = world.now, run(world, 364)
    assert not false_splits(found, start + 4 * WEEK) and found.ari > 0.99


@pytest.mark.drill
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("archetype", ["state_zones", "dominicks"])
def test_R13_discovery_in_a_large_chain(archetype, seed):
    spent, allowed, steady = spent_until_settled(archetype, {"n_stores": 240, "n_products": 2000}, seed)
    assert spent <= 1.05 * allowed and steady > 0.96, (spent, allowed, steady)
