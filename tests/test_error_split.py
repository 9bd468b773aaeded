"Every wrong row of a backtest, and every wrong audited price, has exactly one cause."
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapeopt.analysis.audited_errors import counts_of_audits, shared_out
from scrapeopt.backtest import Panel, backtest, count_right
from scrapeopt.cli import main
from scrapeopt.core.errors import InputError
from scrapeopt.grouping.error_causes import CAUSE_NUMBER, CAUSES
from scrapeopt.simulation.agents import POLICIES, YARDSTICKS
from scrapeopt.simulation.error_split import ErrorSplit, Shown, causes_of, note_lists, note_scrape
from scrapeopt.simulation.price_parts import PriceParts, estimated_parts
from scrapeopt.twin import archetype_twin

PRICES = st.integers(-1, 3)


@st.composite
def worlds(draw):
    "What is true and served of a few stores, what it is made of, who was scraped, and how the policy groups them."
    n, products = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    def of(values, shape=(n, products)):
        size = int(np.prod(shape))
        return np.array(draw(st.lists(values, min_size=size, max_size=size))).reshape(shape)
    zone, group = (np.array([str(k) for k in of(st.integers(0, 2), (n,))]) for _ in range(2))
    lists = {z: of(st.integers(1, 3), (products,)) for z in ("0", "1", "2")}
    parts = PriceParts(zone, np.array([lists[z] for z in zone], np.int32), of(st.booleans()), of(st.booleans()))
    return of(PRICES).astype(np.int32), of(PRICES).astype(np.int32), parts, of(st.booleans(), (n,)), group


@given(worlds())
def test_every_wrong_row_has_one_cause_and_no_other_row_has_any(world):
    truth, served, parts, scraped, group = world
    shown = Shown(*truth.shape)
    note_lists(shown, parts)
    for i in np.flatnonzero(scraped): note_scrape(shown, int(i), truth[i], parts)
    cause = causes_of(truth, served, parts, shown, group)
    assert ((cause >= 0) == ((truth != served) & ((truth >= 0) | (served >= 0)))).all()
    assert (cause[(truth >= 0) & (served < 0)] == CAUSE_NUMBER["hole"]).all()
    assert (cause[(truth < 0) & (served >= 0)] == CAUSE_NUMBER["not_sold"]).all()


@given(worlds())
def test_what_is_estimated_explains_every_price(world):
    truth, _, _, _, group = world
    parts = estimated_parts(truth, group)
    sold = truth >= 0
    assert (truth == parts.listed)[sold & parts.from_list].all()
    assert not (parts.own & parts.cleared).any()


def adds_up(result) -> bool:
    "Whether the causes of each day are all that the score lacks, and of all days what the result says."
    counts = result.error_counts
    daily = 1 - counts[list(CAUSES)].sum(axis=1) / counts["rows"]
    return bool(np.allclose(daily, result.daily["score"], atol=1e-12)
                and abs(result.errors.sum() + result.score - 1) < 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("policy", [*POLICIES, "delegated+spot_checks"])
def test_the_split_adds_up_under_every_policy(policy):
    world = archetype_twin("dominicks", 16, 80, seed=5, fail_rate=0.1, partial_rate=0.1, moving=0.5)
    assert adds_up(backtest(world, policy, budget=2, days=12, warmup_days=3))


@pytest.mark.parametrize("options", [{"baseline": "none"}, {"step": "12h"}, {"step": "2D"}])
def test_the_split_adds_up_however_time_runs(options):
    assert adds_up(backtest(archetype_twin("state_zones", 12, 60), "document", budget=2, days=8, **options))


def recorded(days: int = 16) -> Panel:
    "Four stores alike and one of its own; a new price each Wednesday; on the ninth day the third one leaves."
    rows = [(f"S{s}", f"P{p}", f"2026-03-{1 + d:02d}", 1 + p + (d + 4) // 7 + (s == 4) + (s == 2) * (d >= 8) * (p + 1))
            for s in range(5) for p in range(30) for d in range(days)]
    return Panel(pd.DataFrame(rows, columns=["store", "product", "date", "price"]))


def test_a_panel_is_split_by_what_can_be_told():
    result = backtest(recorded(), "delegated", budget=1, days=16)
    assert adds_up(result)
    assert result.errors["unseen"] > 0 and result.errors[["clearance", "own_lines", "hole"]].sum() == 0


def test_a_store_that_has_left_is_a_stray_until_it_is_scraped():
    world = recorded()
    split, groups = ErrorSplit(world), {f"S{s}": "[all]" for s in range(4)}
    split.scraped({s: world.scrape(s) for s in world.stores.index}, groups)
    served = world.truth().copy()
    world.advance(pd.Timedelta("8D"))
    split.scraped({s: world.scrape(s) for s in ("S0", "S1", "S3", "S4")}, groups)
    served[[0, 1, 3, 4]] = world.truth()[[0, 1, 3, 4]]
    found = split.count(world.truth(), served, groups)
    assert dict(zip(CAUSES, found.by_cause, strict=True)) == dict.fromkeys(CAUSES, 0) | {"strayed": 30}
    split.scraped({"S2": world.scrape("S2")}, groups)
    assert split.count(world.truth(), served, groups).shares["wrong_group"] == 30 / 150


def test_the_clairvoyant_is_above_the_oracle_and_needs_a_world_that_tells():
    world = archetype_twin("state_zones", 20, 80, seed=7, fail_rate=0.03, partial_rate=0.02, moving=0.3)
    score = {p: backtest(world, p, budget=2, days=17, warmup_days=7).score for p in (*YARDSTICKS, "delegated")}
    assert max(score, key=score.get) == "clairvoyant" and score["clairvoyant"] < 1
    with pytest.raises(InputError, match="has no method `price_parts`"):
        backtest(recorded(), "clairvoyant", budget=1, days=2)


def test_the_clairvoyant_serves_nothing_that_no_scrape_has_shown():
    world = archetype_twin("dominicks", 16, 40, seed=1)
    result = backtest(world, "clairvoyant", budget=1, days=3, baseline="none")
    assert result.daily["coverage"].iloc[0] > 0 and result.errors["hole"] > 0
    assert backtest(world, "clairvoyant", budget=0, days=2, baseline="none").score == 0


def test_the_command_tells_the_causes(capsys, tmp_path):
    words = ["backtest", "--n-stores", "8", "--n-products", "40", "--days", "6", "--warmup-days", "2", "--policy",
             "round_robin,clairvoyant", "--budget", "1"]
    with pytest.raises(SystemExit): main([*words, "--json"])
    for row in json.loads(capsys.readouterr().out):
        assert list(row["errors"]) == list(CAUSES) and sum(row["errors"].values()) + row["score"] == pytest.approx(1)
    with pytest.raises(SystemExit): main([*words, "--plot", str(tmp_path / "causes.png")])
    told = capsys.readouterr().out
    assert "with the score it adds up to 1" in told and f"unseen: {CAUSES['unseen']}" in told
    assert (tmp_path / "causes.png").stat().st_size > 10_000


@given(st.integers(0, 10**6), st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any))
def test_nothing_is_lost_in_rounding(n, like):
    found = shared_out(n, like)
    assert sum(found) == n and all(k == 0 for k, weight in zip(found, like, strict=True) if not weight)


def test_audits_that_were_not_read_are_like_those_of_their_kind():
    audits = pd.DataFrame({"prices": 100, "right": [90, 90, 70, 60], "timely": [True, True, False, False]})
    one = tuple(int(name == "clearance") for name in CAUSES)
    each = counts_of_audits(audits, {0: tuple(10 * k for k in one)})
    assert [sum(found) for found in each] == [10, 10, 30, 40]
    assert each[1][CAUSE_NUMBER["clearance"]] == 10 and each[3][CAUSE_NUMBER["unseen"]] == 40


def test_the_counts_of_the_split_are_those_of_the_score():
    world = archetype_twin("algorithmic", 10, 50)
    split, served = ErrorSplit(world), np.roll(world.truth(), 1, axis=0)
    found, counted = split.count(world.truth(), served, {}), count_right(world.truth(), served)
    assert found.rows == counted.true + counted.served - counted.covered and found.rows - found.wrong == counted.right
