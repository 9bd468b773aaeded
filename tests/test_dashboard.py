"""The dashboard without a browser: what it works out, what it says when there is nothing to see, what a move costs."""
import json
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import small_chain

from scrapeopt import dashboard as dashboard_module
from scrapeopt.analysis import view_model
from scrapeopt.analysis.view_model import Choice, PairCache, view_of_workspace, view_of_world
from scrapeopt.commands.jupyter import CELL
from scrapeopt.dashboard import BudgetPanel, Dashboard
from scrapeopt.simulation.panel import Panel
from scrapeopt.storage.settings import read_settings
from scrapeopt.storage.settings_file import change_settings
from scrapeopt.twin import archetype_twin
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    ws = small_chain.new_workspace(tmp_path_factory.mktemp("dashboard") / "ws")
    small_chain.scrape_all(ws)
    update_db(ws)
    return ws


def all_open(dashboard):
    for tab in range(len(dashboard.tabs.children)): dashboard.tabs.selected_index = tab
    return {panel.title: panel for panel in dashboard.tabs.children}


def test_a_workspace_opens_in_every_panel(workspace):
    dashboard = Dashboard(workspace.path, n_jobs=1)
    assert list(dashboard.company.options) == sorted(small_chain.ZONES)
    for company in dashboard.company.options:
        dashboard.company.value = company
        panels = all_open(dashboard)
        assert list(panels) == ["Clusters", "Overlap", "Groups", "Budget"]
        assert not any(panel.message.value for panel in panels.values())


def test_the_cell_that_scrapeopt_dashboard_writes_opens_it(workspace, monkeypatch):
    monkeypatch.chdir(workspace.path)
    names = {}
    exec(CELL.rpartition("\n")[0], names)
    assert isinstance(eval(CELL.rpartition("\n")[2], names), Dashboard)


def test_the_cut_finds_the_groups_that_update_db_found(workspace):
    view = view_of_workspace(workspace, "Woolworths")
    pairs = PairCache(view.prices, view.rule, view.window).pairs(Choice(0.95))
    sets = [part for part in pairs.sets(view.rule.match_threshold) if len(part) > 1]
    found = {frozenset(view.prices.stores[part]) for part in sets}
    assert found == {group.members for group in view.state.active()}


def test_saving_writes_what_the_diff_shows(workspace):
    dashboard = Dashboard(workspace)
    dashboard.tabs.selected_index = 1
    panel = dashboard.tabs.children[1]
    assert panel.save.button.disabled  # nothing has moved
    panel.controls.threshold.value = 0.875
    assert "+match_threshold = 0.875" in panel.save.diff.value
    panel.save.button.click()
    assert read_settings(workspace.path / "scrapeopt.toml").match_threshold == 0.875
    assert "# share of equal prices" in (workspace.path / "scrapeopt.toml").read_text()
    panel.controls.threshold.value = 0.9
    change_settings(workspace.path / "scrapeopt.toml", {"seed": 3}).save()  # somebody else, meanwhile
    panel.save.button.click()
    assert "look at the diff again" in panel.save.message.value
    assert read_settings(workspace.path / "scrapeopt.toml").seed == 3


def test_an_empty_workspace_says_what_to_do(tmp_path):
    dashboard = Dashboard(Workspace.create(tmp_path / "ws", policy="document").path)
    assert "scrapeopt import-stores" in dashboard.message.value
    assert "scrapeopt init" in Dashboard(tmp_path / "nowhere").message.value


def test_one_store_and_no_overlap_data_say_what_to_do(tmp_path):
    ws = Workspace.create(tmp_path / "ws", policy="document")
    ws.import_stores(small_chain.stores().head(1))
    panels = all_open(Dashboard(ws))
    assert "Next: scrapeopt scrape" in panels["Overlap"].message.value
    assert "scrapeopt status" in panels["Groups"].message.value
    assert "only one" in panels["Budget"].message.value
    assert "No cluster" in panels["Clusters"].map.value


def test_a_broken_settings_file_is_a_sentence(tmp_path):
    ws = small_chain.new_workspace(tmp_path / "ws")
    dashboard = Dashboard(ws)
    (ws.path / "scrapeopt.toml").write_text("eps_km = 'far'")
    dashboard.tabs.children[0].controls.eps_km.value = 33  # while the dashboard is open ...
    assert "eps_km" in dashboard.tabs.children[0].save.diff.value and dashboard.tabs.children[0].save.button.disabled
    dashboard.again.click()  # ... and when it is read again
    assert "eps_km" in dashboard.message.value and not dashboard.tabs.children
    (ws.path / "scrapeopt.toml").write_text("eps_km = 33.0")
    dashboard.again.click()
    assert dashboard.tabs.children and not dashboard.message.value


def test_a_panel_without_places_draws_no_map():
    days = [(s, p, "2026-01-01", 100 + (s == "c") * p) for s in "abc" for p in range(30)]
    panels = all_open(Dashboard(Panel(pd.DataFrame(days, columns=["store", "product", "date", "price"]))))
    assert "Panel(prices, stores)" in panels["Clusters"].message.value
    assert panels["Overlap"].pairs.value and not panels["Overlap"].map.value


@pytest.fixture
def calls(monkeypatch):
    "How often each function that takes long, or draws, is called."
    counts = Counter()

    def count(module, name):
        function = getattr(module, name)

        def counting(*args, **kwargs):
            counts[name] += 1
            return function(*args, **kwargs)
        monkeypatch.setattr(module, name, counting)

    for name in ("overlap_matrix", "learn_mask", "alike_trees", "auto_threshold", "heat_image"): count(view_model, name)
    for name in ("frame_pairs", "frame_heat", "frame_stores", "mark_threshold", "mark_sets", "mark_stores",
                 "mark_clusters", "clusters_at", "drawn"): count(dashboard_module, name)
    return counts


FILES_READ: list[Path] | None = None  # where the hook below writes what is opened; None: nobody asks


def note_file(event, args):
    "Python's audit hooks cannot be taken off again, so this one is put on once."
    if event == "open" and FILES_READ is not None and isinstance(args[0], str | bytes | Path):
        FILES_READ.append(Path(args[0] if not isinstance(args[0], bytes) else args[0].decode()))


sys.addaudithook(note_file)


@pytest.fixture
def files_read(monkeypatch):
    "The files that are opened while the test runs."
    monkeypatch.setattr(sys.modules[__name__], "FILES_READ", [])
    return FILES_READ


def moves(slider, values):
    for value in values: slider.value = value
    return len(values)


def test_a_move_of_the_threshold_draws_marks_and_compares_no_pair_again(workspace, calls, files_read):
    dashboard = Dashboard(workspace)
    panels = all_open(dashboard)
    calls.clear()
    files_read.clear()
    n = moves(panels["Overlap"].controls.threshold, [0.70, 0.80, 0.90, 0.95])
    assert calls == {"mark_threshold": n, "mark_sets": n, "mark_stores": n}  # no frame, no overlap, no tree
    assert {path.name for path in files_read} <= {"scrapeopt.toml"}  # for the diff beside the button
    calls.clear()
    moves(panels["Groups"].threshold, [0.70, 0.80, 0.90])
    assert not calls  # one sentence is written anew, no figure


def test_a_move_of_eps_km_draws_marks_only(workspace, calls):
    panels = all_open(Dashboard(workspace))
    calls.clear()
    n = moves(panels["Clusters"].controls.eps_km, [10.0, 40.0, 80.0])
    assert calls == {"clusters_at": n, "mark_clusters": n}


def test_pairs_are_compared_once_for_each_choice(calls):
    panels = all_open(Dashboard(archetype_twin("state_zones", n_stores=30, n_products=200)))
    overlap = panels["Overlap"].controls
    calls.clear()
    for _ in range(2): moves(overlap.masked, [True, False])
    assert calls["overlap_matrix"] == calls["learn_mask"] == 1  # all products were compared when the tab was opened
    for _ in range(2): moves(overlap.hours, [24.0, 48.0])
    assert calls["overlap_matrix"] == 1  # another window leaves the overlaps as they are
    assert calls["alike_trees"] == calls["heat_image"] == 2  # for the masked pairs, and for those within 24 hours


def test_backtests_are_counted_and_kept():
    panel = BudgetPanel(view_of_world(archetype_twin("uniform", n_stores=8, n_products=40)), n_jobs=1)
    panel.activate()
    panel.button.click()
    panel.thread.join(300)
    assert panel.bar.value == panel.bar.max > 0 and not panel.button.disabled
    assert "Today:" in panel.curve.value and "its own prices" in panel.reason.value


@pytest.mark.slow
def test_the_benchmark_of_a_move_keeps_its_figures(tmp_path):
    benchmark = pytest.importorskip("benchmarks.dashboard", reason="benchmarks/ is not part of the installed package")
    benchmark.main(["--quick", "--out", str(tmp_path)])
    moves = json.loads((tmp_path / "dashboard.json").read_text())["moves"]
    assert [row["slider"] for row in moves] == ["what if, document", "what if, delegated", "Clusters, eps_km",
                                                "Overlap, threshold", "Groups, what if"]
    assert all(row["moves"] == 3 and row["target_s"] == 0.3 for row in moves)
