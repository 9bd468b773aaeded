"What an outlook promises is what then happens; it says plainly when groups gain nothing."
import json
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from benchmarks.outlook import measured, promised
from small_chain import scraped_once

from scrapeopt.analysis.status import status_rows
from scrapeopt.grouping.outlook import outlook_from, verdict
from scrapeopt.twin import ARCHETYPES, archetype_twin
from scrapeopt.outlooks import is_due, renew_outlook, renew_outlooks

NEAR = 0.015  # of the score: a point and a half
CROWDED = {"autonomy": 0.035, "algorithmic": 0.04}  # single chains of 60 stores; the mean over seeds is nearer
A_STORE = 1 / 60  # of the score of a chain of 60: what one costs that opens or closes when nobody can know


@pytest.mark.slow
def test_the_score_promised_at_the_present_budget_is_what_is_measured():
    world = archetype_twin("dominicks", 40, 120, 3, opening=0.0, closing=0.0)  # a closed one costs 2.5 points
    outlook, score = promised(world, 3.0, past=21, future=14)
    assert abs(outlook.scores[1] - score) < NEAR, (outlook, score)
    assert outlook.scores[0] < outlook.scores[1] < outlook.scores[2]
    assert outlook.gain > 0.1 and not outlook.assumed


@pytest.mark.drill
@pytest.mark.parametrize("archetype", list(ARCHETYPES))
def test_the_scores_promised_at_half_all_and_twice_of_the_budget_are_what_is_measured(archetype):
    off = []
    for seed in range(8):  # what one chain does by chance is more than what is asked for here
        world = archetype_twin(archetype, 60, 200, seed)
        outlook, score = promised(world, 4.0, seed)
        real = [measured(world, 2.0, seed), score, measured(world, 8.0, seed)] if seed < 3 else [np.nan, score, np.nan]
        off.append([a - b for a, b in zip(outlook.scores, real, strict=True)])
    table = pd.DataFrame(off, columns=["half", "all", "twice"])
    assert table["all"].abs().mean() < NEAR, table
    assert (table.mean().abs() < 2 * NEAR).all(), table
    assert (table.abs().fillna(0) < CROWDED.get(archetype, NEAR + A_STORE)).all(axis=None), table


@pytest.mark.drill
@pytest.mark.parametrize("archetype", list(ARCHETYPES))
def test_each_chain_in_which_no_store_opens_or_closes_keeps_its_promise(archetype):
    for seed in range(3, 6):  # a store of sixty that closes costs 1.7 points, and nobody can promise when one does
        world = archetype_twin(archetype, 60, 200, seed, opening=0.0, closing=0.0)
        outlook, score = promised(world, 4.0, seed)
        assert abs(outlook.scores[1] - score) < CROWDED.get(archetype, NEAR), (seed, outlook, score)


@pytest.mark.slow
def test_right_after_the_baseline_it_is_told_what_is_assumed():
    outlook, _ = promised(archetype_twin("state_zones", 30, 80), 3.0, past=1, future=1)
    assert outlook.assumed


@pytest.mark.slow
def test_a_chain_of_loners_gains_nothing_by_groups():
    world = archetype_twin("autonomy", 24, 200, 0, autonomous=1.0, national=0.0, autonomous_categories=1.0)
    outlook, _ = promised(world, 2.0, past=15, future=1)
    assert outlook.grouped <= 2 and abs(outlook.gain) < 0.01, outlook
    assert "hardly any two stores price alike" in verdict(outlook)


@pytest.mark.slow
def test_an_update_keeps_an_outlook_that_status_reads(tmp_path):
    ws = scraped_once(tmp_path / "ws", "delegated")
    assert "outlook" not in status_rows(ws)[0] or status_rows(ws)[0]["outlook"] is None  # nobody has looked yet
    assert renew_outlooks(ws).problems == ()
    row = status_rows(ws)[0]
    words, name = row["outlook"].pop("words"), row["company"]
    kept = outlook_from(json.loads(json.dumps(row["outlook"])))
    assert kept.assumed and kept.stores == row["stores"] and kept.groups == row["groups"]
    assert any("assumed" in line for line in words)
    day = datetime.fromisoformat(kept.at)
    assert not is_due(kept, day, kept.budgets[1], kept.groups)
    assert is_due(kept, day, 2 * kept.budgets[1], kept.groups), "another budget makes it old"
    assert is_due(kept, day, kept.budgets[1], kept.groups + 2), "and so do other groups"
    with ws.lock(): again = renew_outlook(ws, name, always=True)
    assert again == kept, "the same state gives the same outlook"
