"""What the dashboard argues from: the groups in force, how much can be compared, and what other settings would do."""

import numpy as np
import pandas as pd
import pytest
from effort import drilled
import small_chain

from scrapeopt.analysis import effect_on_score as effect_module
from scrapeopt.analysis import view_model as view_module
from scrapeopt.analysis.comparability import comparability
from scrapeopt.analysis.effect_on_score import WEEKS, Steps, Stopped, effect_on_score, replay_past
from scrapeopt.analysis.fitted_twin import fit_twin
from scrapeopt.analysis.groups_in_force import groups_in_force, stores_in_force
from scrapeopt.analysis.status import status_rows
from scrapeopt.analysis.view_model import view_of_workspace
from scrapeopt.analysis.what_if import Change, what_if
from scrapeopt.grouping.events import DIVERGENCE_DETECTED
from scrapeopt.reanalysis import reanalyse
from scrapeopt.storage.settings_file import change_settings
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

POLICIES = (drilled("document"), "delegated")


@pytest.fixture(params=POLICIES)
def workspace(request, tmp_path):
    "Two weeks of a small chain: everything scraped once, then two stores of each zone before the others."
    return small_chain.scraped_in_two_weeks(tmp_path / "ws", request.param)


def homes(state): return {store: group.name for group in state.active() for store in group.members}


def test_the_dashboard_starts_from_the_groups_in_force(workspace):
    for company in workspace.companies():
        view, state = view_of_workspace(workspace, company), workspace.groups(company)
        assert view.state == state and view.rule == workspace.rule(company)
        table = stores_in_force(view).set_index("store_id")
        assert table["group"].dropna().to_dict() == homes(state)
        assert set(table.index[table["ambassador"]]) == {g.ambassador for g in state.active()}
        counts = groups_in_force(view)
        assert (counts.groups, counts.members) == (len(state.active()), len(state.grouped()))
        assert counts.by_category == sum(g.is_active and g.category is not None for g in state.groups.values())


def test_the_groups_of_a_date_are_those_of_the_log_then(workspace):
    company = "Woolworths"
    before = small_chain.THURSDAY + pd.Timedelta(days=1)
    with workspace.read() as session:
        from scrapeopt.storage.repository import read_groups
        then = read_groups(session, workspace.company(session, company), before)
    view = view_of_workspace(workspace, company, as_of=before)
    assert view.state == then and then.active()
    assert view.prices.times.max() <= before.to_datetime64() and view.stores["last_scraped"].max() <= before
    assert (view.events["at"] <= before).all() and view.as_of == before
    empty = view_of_workspace(workspace, company, as_of=small_chain.THURSDAY - pd.Timedelta(days=1))
    assert not empty.state.active() and empty.stores["last_scraped"].isna().all()


def test_comparability_has_the_numbers_of_status(workspace):
    for row in status_rows(workspace):
        view = view_of_workspace(workspace, row["company"])
        for kept in row["synchronised"]:
            found = comparability(view, kept["cluster"])
            assert (found.stores, found.scraped) == (kept["stores"], kept["scraped"])
            assert (found.counts.largest, found.share) == (kept["comparable"], kept["pairs"])
            assert f"{kept['comparable']} of {kept['stores']} stores of {kept['cluster']}" in found.words()


@pytest.mark.parametrize("told", [False, True])
def test_the_desk_compares_by_the_changeover_that_was_learned_where_none_is_told(workspace, monkeypatch, told):
    "As the policies do; otherwise a member scraped before the changeover strays from one scraped after it."
    if told:
        own = '\n[companies."Woolworths"]\nchangeover = "sunday"\n'
        with (workspace.path / "scrapeopt.toml").open("a") as f: f.write(own)
    monkeypatch.setattr(view_module, "learned_days", lambda latest: [2, 3])
    view = view_of_workspace(Workspace.open(workspace.path), "Woolworths")
    assert (view.window.changeover, view.learned_day) == ((6, None) if told else (2, 2))
    assert ("is read off the data" in comparability(view).words()) != told
    assert view.window.hours == workspace.settings.window_hours


def test_the_settings_in_force_move_nobody(workspace):
    for company in workspace.companies():
        view = view_of_workspace(workspace, company)
        in_force = Change(view.rule.match_threshold, view.rule.range_threshold, view.window.hours, view.rule.min_shared)
        for change in (Change(), in_force): assert what_if(view, change).moves.empty


@pytest.mark.parametrize("setting, value", [("match_threshold", 0.999), drilled("match_threshold", 0.6),
                                            ("window_hours", 1.0), drilled("range_threshold", 0.5)])
def test_what_if_is_what_reanalyse_would_do(workspace, setting, value):
    company = "Woolworths"
    view = view_of_workspace(workspace, company)
    answer, before = what_if(view, Change(**{setting: value})), homes(view.state)
    change_settings(workspace.path / "scrapeopt.toml", {setting: value}).save()
    reanalyse(ws := Workspace.open(workspace.path), company)
    after = homes(ws.groups(company))
    moved = pd.concat([answer.moves, answer.anyway])
    assert {r.store: (r.now or None, r.then or None) for r in moved.itertuples()} == {
        s: (before.get(s), after.get(s)) for s in before.keys() | after.keys() if before.get(s) != after.get(s)}
    assert homes(answer.state) == after


def test_nothing_is_written_and_the_view_stays_what_it_was(workspace):
    view = view_of_workspace(workspace, "Woolworths")
    state, prices = view.state, view.prices.prices.copy()
    what_if(view, Change(match_threshold=0.999))
    assert view.state == state == workspace.groups("Woolworths") and (view.prices.prices == prices).all()


def test_a_member_that_cannot_be_judged_stays(workspace):
    "Its newest snapshot is of another week than that of its group: nobody can say, so it stays, and is named."
    company = "Woolworths"
    small_chain.scrape_all(workspace, 4, only={"0001", "0002", "0003"})
    update_db(workspace, now=small_chain.LATER)
    view = view_of_workspace(workspace, company)
    answer = what_if(view, Change(match_threshold=0.999))
    assert "0004" in answer.unjudged and "0004" not in set(answer.moves["store"])
    assert "cannot be judged" in answer.words()


def unlike(ws, week):
    "Scrape three of the four stores of a zone, each with a price of its own."
    for i, store in enumerate(("0001", "0002", "0003")):
        cents = small_chain.shelf("Woolworths", store, week)
        cents[i] += 7
        at = small_chain.THURSDAY + pd.Timedelta(days=7 * week, minutes=10 * i)
        small_chain.land(ws, "Woolworths", store, at, small_chain.lines(cents))
    update_db(ws, now=small_chain.LATER)


def test_where_nobody_matches_the_group_would_diverge_and_the_answer_says_so(workspace):
    "A re-analysis leaves the group alone, as nobody can say who strayed: that must not read as if nothing happened."
    company, name = "Woolworths", "[Woolworths-Perth]"
    change_settings(workspace.path / "scrapeopt.toml", {"match_threshold": 0.85}).save()
    unlike(workspace := Workspace.open(workspace.path), 2)
    view = view_of_workspace(workspace, company)
    assert not what_if(view, Change(match_threshold=0.8)).diverged
    answer = what_if(view, Change(match_threshold=0.999))
    group, = answer.diverged
    true = view.prices.select(["0001", "0002", "0003"]).overlaps.true
    assert (group.group, group.judged, group.pairs, group.best) == (name, 3, 3, true[np.triu_indices(3, 1)].max())
    assert answer.words().startswith(f"At 0.999 no two of the 3 judged members of {name} match (0 of 3 pairs reach it")
    assert "no sign that the threshold is harmless" in answer.words()
    assert "No store would change" not in answer.words()


def test_a_group_that_would_diverge_does(workspace):
    "As the sentence says: a re-analysis keeps its members, and after the next scrapes it waits for a tie-breaker."
    company, name = "Woolworths", "[Woolworths-Perth]"
    change_settings(workspace.path / "scrapeopt.toml", {"match_threshold": 0.85}).save()
    unlike(workspace := Workspace.open(workspace.path), 2)
    before = workspace.groups(company).groups[name]
    change_settings(workspace.path / "scrapeopt.toml", {"match_threshold": 0.999}).save()
    reanalyse(workspace := Workspace.open(workspace.path), company)
    assert workspace.groups(company).groups[name].members == before.members and len(before.members) == 4
    unlike(workspace, 3)
    assert workspace.groups(company).groups[name].status == DIVERGENCE_DETECTED


def test_the_past_answers_where_it_can(workspace, monkeypatch):
    "The second week scraped all seven stores, and most of them are of groups that lose members at this threshold."
    monkeypatch.setattr(effect_module, "FEWEST", few := 3)
    view, change, told = view_of_workspace(workspace, "Woolworths"), Change(match_threshold=0.97), list[int]()
    effect = effect_on_score(view, change, lambda done, steps, what: told.append(done))
    assert effect.source == "past" and effect.scrapes >= few and told == list(range(WEEKS))
    assert effect.low <= effect.then - effect.now <= effect.high and effect.then < effect.now
    newest = pd.Timestamp(view.prices.times.max())
    days = f"{newest - pd.Timedelta(weeks=WEEKS):%Y-%m-%d} to {newest:%Y-%m-%d}"
    assert f"of the past {WEEKS} weeks of Woolworths ({days})" in effect.words()
    assert f"{effect.scrapes} of them" in effect.words()


def test_the_settings_in_force_would_have_served_the_same(workspace):
    view = view_of_workspace(workspace, "Woolworths")
    found = replay_past(workspace, view, Change(), Steps(WEEKS))
    assert len(found.now) and (found.now == found.then).all() and not found.touched.any()


@pytest.mark.slow
def test_a_twin_answers_where_the_past_cannot_and_says_so(workspace, monkeypatch):
    "At the settings in force no group is touched, so that no scrape of the past says anything."
    monkeypatch.setattr(effect_module, "DAYS", 3)
    monkeypatch.setattr(effect_module, "WARMUP", 1)
    monkeypatch.setattr(effect_module, "SEEDS", 1)
    effect = effect_on_score(view_of_workspace(workspace, "Woolworths"), Change())
    assert effect.source == "twin" and effect.now == effect.then
    assert "from a twin fitted to Woolworths, 1 runs of 3 days, the first 1 not counted" in effect.words()
    assert "too few scrapes" in effect.words()
    assert set(effect.fitted.columns) == {"figure", "company", "twin"}


def test_it_can_be_stopped_in_the_middle_of_a_backtest(workspace, monkeypatch):
    monkeypatch.setattr(effect_module, "DAYS", 5)
    answers = iter([False] * (WEEKS + 2) + [True])
    with pytest.raises(Stopped): effect_on_score(view_of_workspace(workspace, "Woolworths"), Change(),
                                                 stopped=lambda: next(answers))
    assert next(answers, None) is None  # it was not asked again


def test_a_fitted_twin_has_the_groups_of_the_workspace(workspace):
    view = view_of_workspace(workspace, "Woolworths")
    twin = fit_twin(view)(0)
    for group in view.state.active(): assert len(set(twin.zones[sorted(group.members)])) == 1
    assert twin.zones.nunique() == len(view.state.active()) + len(set(view.prices.stores) - view.state.grouped())
