"Certificates of a chain's life: how many claim too much, on twins whose truth is known."
import math

import pandas as pd
import pytest
from effort import drilled

from scrapeopt.backtest import backtest
from scrapeopt.grouping.events import SpotChecked
from scrapeopt.grouping.spot_prices import serve_spotted
from scrapeopt.policies import find_policy, spot_lots
from scrapeopt.policies.spot_beliefs import draws_so_far
from scrapeopt.simulation.spot_agent import SpotCheckAgent
from scrapeopt.simulation.zones import ZoneSplit
from scrapeopt.twin import archetype_twin

RISK, WEEKS, START = 0.05, 5, pd.Timestamp("2026-11-02", tz="UTC")


class Audited(SpotCheckAgent):
    "An agent whose certificates are held against the truth the moment they are issued."

    def __init__(self, world, setting):
        super().__init__(find_policy("delegated"), setting)
        self.world, self.issued = world, []

    def take_probes(self, now, answers):
        company, before, had = self.companies[0], self.known[0], len(self.events)
        served = serve_spotted(company.beliefs, before.spots, before.moves, now, self.policy.reading)
        super().take_probes(now, answers)
        truth = self.world.truth()
        for event in self.events[had:]:
            if isinstance(event, SpotChecked) and event.share is not None:
                i = company.beliefs.latest.row[event.store]
                right = (served.prices[i] == truth[self.row[event.store]][self.order])[served.inferred[i]]
                self.issued.append((event, self.true_share(event, before, right)))

    def true_share(self, event, before, right):
        "Of the lines that were drawn in this price week or are inferred now, the share that was served rightly."
        latest = self.companies[0].beliefs.latest
        drawn = draws_so_far(before, latest, event.store, event.group, latest.local_day(event.at))
        sums = (0, 0) if drawn is None else (drawn.right.sum(), drawn.size.sum())
        return (sums[0] + right.sum()) / (sums[1] + len(right))


class Shared:
    "A world that is not copied, so that the one who audits sees the day that the one who asks sees."
    def __init__(self, world): self.world = world
    def __getattr__(self, name): return getattr(self.world, name)
    def __deepcopy__(self, memo): return self


def splitting(archetype, stores, products, seed):
    "A chain in which half of the largest zone gets a list of its own after two weeks."
    def twin(split=()):
        return archetype_twin(archetype, stores, products, seed=seed, start=START, split=split, moving=0.5)
    zone = str(pd.Series(twin().zones).value_counts().index[0])
    return twin([ZoneSplit(str((START + pd.Timedelta(days=14)).date()), zone, 0.5)])


def certificates(archetype, stores, products, seed) -> pd.DataFrame:  # store, at, drawn, share, true, strayed
    "All certificates of five weeks, with what was true."
    world, agents = Shared(splitting(archetype, stores, products, seed)), []
    zones = pd.Series(world.zones)
    def factory(setting):
        agents.append(Audited(world, setting))
        return agents[0]
    backtest(world, factory, budget=stores / 16, days=7 * WEEKS, settings={"spot_checks": True})
    strayed = set(zones.index[zones != pd.Series(world.zones)].astype(str))
    return pd.DataFrame([(e.store, e.at, e.drawn, e.share, true, e.store in strayed) for e, true in agents[0].issued],
                        columns=["store", "at", "drawn", "share", "true", "strayed"])


def assert_honest(found: pd.DataFrame) -> None:
    "No more false ones than the risk allows, and three standard deviations of chance."
    false, n = (found["share"] > found["true"] + 1e-9).sum(), len(found)
    assert false <= RISK * n + 3 * math.sqrt(RISK * (1 - RISK) * n), (false, n)


CHAINS = [("dominicks", 24, 120, 2)]
MORE = [(name, 32, 160, seed) for name in ("state_zones", "dominicks", "uniform") for seed in (1, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("chains, least", [(CHAINS, 100), drilled(MORE, 1000)])
def test_at_most_one_in_twenty_claims_too_much(monkeypatch, chains, least):
    "Also of stores that strayed; a twentieth of the lines is drawn, so that the small chains prove anything."
    monkeypatch.setattr(spot_lots, "LOT_SHARE", 0.05)
    found = pd.concat([certificates(*chain) for chain in chains])
    print(len(found), "certificates,", (found["share"] > found["true"] + 1e-9).mean(), "false; of strayed stores",
          (found["share"] > found["true"] + 1e-9)[found["strayed"]].mean(), "of", found["strayed"].sum())
    assert len(found) >= least and found["share"].mean() > 0.4 and (found["true"] < 0.9).any()
    assert found["strayed"].sum() >= least / 20
    assert_honest(found)
    assert_honest(found[found["strayed"]])

