"""The dashboard without a browser: what it works out, what it says when there is nothing to see, how fast it is."""
import time

import numpy as np
import pandas as pd
import pytest
import small_chain

from scrapeopt.storage.settings_file import change_settings
from scrapeopt.dashboard import Budget, Clusters, Dashboard, Groups, Overlap
from scrapeopt.analysis.view_model import Choice, PairBook, view_of_workspace, view_of_world
from scrapeopt.simulation.panel import Panel
from scrapeopt.storage.settings import read_settings
from scrapeopt.simulation.sites import australian_stores
from scrapeopt.twin import archetype_twin
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    ws = small_chain.new_workspace(tmp_path_factory.mktemp("desk") / "ws")
    small_chain.scrape_all(ws)
    update_db(ws)
    return ws


def all_open(desk):
    for tab in range(len(desk.tabs.children)): desk.tabs.selected_index = tab
    return {panel.title: panel for panel in desk.tabs.children}


def test_a_workspace_opens_in_every_panel(workspace):
    desk = Dashboard(workspace.path, n_jobs=1)
    assert list(desk.company.options) == sorted(small_chain.ZONES)
    for company in desk.company.options:
        desk.company.value = company
        panels = all_open(desk)
        assert list(panels) == ["Clusters", "Overlap", "Groups", "Budget"]
        assert not any(panel.told.value for panel in panels.values())


def test_the_cut_finds_the_groups_that_update_db_found(workspace):
    subject = view_of_workspace(workspace, "Woolworths")
    pairs = PairBook(subject.prices, subject.rule, subject.window).pairs(Choice(0.95))
    sets = [part for part in pairs.sets(subject.rule.match_threshold) if len(part) > 1]
    found = {frozenset(subject.prices.stores[part]) for part in sets}
    assert found == {group.members for group in subject.state.active()}


def test_saving_writes_what_the_diff_shows(workspace):
    desk = Dashboard(workspace)
    desk.tabs.selected_index = 1
    panel = desk.tabs.children[1]
    assert panel.save.button.disabled  # nothing has moved
    panel.threshold.value = 0.875
    assert "+match_threshold = 0.875" in panel.save.diff.value
    panel.save.button.click()
    assert read_settings(workspace.path / "scrapeopt.toml").match_threshold == 0.875
    assert "# share of equal prices" in (workspace.path / "scrapeopt.toml").read_text()
    panel.threshold.value = 0.9
    change_settings(workspace.path / "scrapeopt.toml", {"seed": 3}).save()  # somebody else, meanwhile
    panel.save.button.click()
    assert "look at the diff again" in panel.save.told.value
    assert read_settings(workspace.path / "scrapeopt.toml").seed == 3


def test_an_empty_workspace_says_what_to_do(tmp_path):
    desk = Dashboard(Workspace.create(tmp_path / "ws").path)
    assert "scrapeopt import-stores" in desk.told.value
    assert "scrapeopt init" in Dashboard(tmp_path / "nowhere").told.value


def test_one_store_and_no_overlap_data_say_what_to_do(tmp_path):
    ws = Workspace.create(tmp_path / "ws")
    ws.import_stores(small_chain.stores().head(1))
    panels = all_open(Dashboard(ws))
    assert "Next: scrapeopt scrape" in panels["Overlap"].told.value
    assert "scrapeopt status" in panels["Groups"].told.value
    assert "only one" in panels["Budget"].told.value
    assert "No cluster" in panels["Clusters"].map.value


def test_a_broken_settings_file_is_a_sentence(tmp_path):
    ws = small_chain.new_workspace(tmp_path / "ws")
    desk = Dashboard(ws)
    (ws.path / "scrapeopt.toml").write_text("eps_km = 'far'")
    desk.tabs.children[0].eps_km.value = 33  # while the desk is open ...
    assert "eps_km" in desk.tabs.children[0].save.diff.value and desk.tabs.children[0].save.button.disabled
    desk.again.click()  # ... and when it is read again
    assert "eps_km" in desk.told.value and not desk.tabs.children
    (ws.path / "scrapeopt.toml").write_text("eps_km = 33.0")
    desk.again.click()
    assert desk.tabs.children and not desk.told.value


def test_a_panel_without_places_draws_no_map():
    days = [(s, p, "2026-01-01", 100 + (s == "c") * p) for s in "abc" for p in range(30)]
    panels = all_open(Dashboard(Panel(pd.DataFrame(days, columns=["store", "product", "date", "price"]))))
    assert "Panel(prices, stores)" in panels["Clusters"].told.value
    assert panels["Overlap"].pairs.value and not panels["Overlap"].map.value


@pytest.mark.slow
def test_a_move_on_2000_stores_answers_at_once():
    stores = pd.concat([australian_stores("Woolworths", 1000, seed).assign(
        store_id=lambda t, s=seed: [f"{s}{store}" for store in t["store_id"]]) for seed in (0, 1)])
    subject = view_of_world(archetype_twin("state_zones", n_products=600, stores=stores))
    book = PairBook(subject.prices, subject.rule, subject.window)
    overlap, clusters, groups = Overlap(subject, book), Clusters(subject), Groups(subject, book)
    for panel in (overlap, clusters, groups): panel.look()
    moves = {overlap.threshold: np.linspace(0.86, 0.98, 20).round(3), clusters.eps_km: np.linspace(3, 100, 20).round(),
             groups.threshold: np.linspace(0.86, 0.98, 20).round(3)}
    for slider, values in moves.items():
        took, shown = [], set()
        for value in values:
            start = time.process_time()  # a busy machine is no failure
            slider.value = float(value)
            took.append(time.process_time() - start)
            shown.add((overlap.map.value, clusters.map.value, groups.effect.value))
        assert len(shown) > 8  # two values may give the same groups
        assert np.median(took) < 0.3, f"{slider.description}: {np.median(took):.3f} s"


def test_backtests_are_counted_and_kept():
    panel = Budget(view_of_world(archetype_twin("uniform", n_stores=8, n_products=40)), n_jobs=1)
    panel.look()
    panel.button.click()
    panel.thread.join(300)
    assert panel.bar.value == panel.bar.max > 0 and not panel.button.disabled
    assert "Today:" in panel.curve.value and "its own prices" in panel.reason.value
