"""The dashboard without a browser: what it works out, what it says when there is nothing to see, what a move costs."""
import html
import json
import sys
from collections import Counter
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from threading import Event

import pandas as pd
import pytest
import small_chain

from scrapeopt.analysis import view_model
from scrapeopt.analysis.groups_in_force import stores_in_force
from scrapeopt.analysis.live_map import map_frame, store_columns
from scrapeopt.analysis.problems import find_problems, problems_html
from scrapeopt.analysis.status import store_story
from scrapeopt.analysis.view_model import Choice, PairCache, budgets_to_try, view_of_workspace, view_of_world
from scrapeopt.commands.jupyter import CELL
from scrapeopt.dashboard import BudgetPanel, Dashboard
from scrapeopt.grouping.outlook import Outlook, outlook_words, scrapes_today
from scrapeopt.simulation.panel import Panel
from scrapeopt.storage.folders import folder_name
from scrapeopt.storage.settings import read_settings
from scrapeopt.storage.settings_file import change_settings
from scrapeopt.twin import archetype_twin
from scrapeopt.widgets import budget_tab, cluster_tab, group_tab, overlap_tab
from scrapeopt.widgets.tab_panel import shared_of
from scrapeopt.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory): return small_chain.scraped_once(tmp_path_factory.mktemp("dashboard") / "ws")


def all_open(dashboard):
    for tab in range(len(dashboard.tabs.children)): dashboard.tabs.selected_index = tab
    return {panel.title: panel for panel in dashboard.panels}


@pytest.mark.slow
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


def test_the_untouched_dashboard_shows_the_groups_in_force(workspace):
    "What `scrapeopt groups` lists: names, members and Ambassadors, and nothing that a slider would make of them."
    dashboard = Dashboard(workspace)
    for company in small_chain.ZONES:
        dashboard.company.value = company
        overlap, state = all_open(dashboard)["Overlap"], workspace.groups(company)
        marks = json.loads(overlap.map.marks.value.split(">", 1)[1].rpartition("<")[0])["data"]["stores"]
        shown = dict(zip(marks["store_id"], marks["group"], strict=True))
        shown = {store: group for store, group in shown.items() if group != "none"}
        assert shown == {store: group.name for group in state.active() for store in group.members}
        rings = {s for s, role in zip(marks["store_id"], marks["role"], strict=True) if role == "Ambassador"}
        assert rings == {group.ambassador for group in state.active()}
        assert f"{len(state.active())} group" in overlap.words.value and not overlap.moves.value
        assert stores_in_force(overlap.view)["group"].nunique() == len(state.active())


def test_a_day_of_the_past_is_shown_as_it_was(workspace):
    dashboard = Dashboard(workspace)
    dashboard.day.value = date(2020, 1, 1)
    assert "end of Wednesday, 01 January 2020" in dashboard.message.value
    panels = all_open(dashboard)
    for title in ("Overlap", "Groups"):
        assert "Nothing was known on 2020-01-01: the first scrape is of 2026-11-19" in panels[title].message.value
    dashboard.header.now.click()
    assert not dashboard.message.value and not all_open(dashboard)["Groups"].message.value


def test_a_day_after_today_is_refused_in_a_sentence(workspace):
    dashboard = Dashboard(workspace)
    problems = dashboard.problems.value
    dashboard.day.value = date(2126, 1, 1)
    assert "2126-01-01 is after today" in dashboard.message.value and not dashboard.tabs.children
    dashboard.header.now.click()
    assert not dashboard.message.value and dashboard.tabs.children and dashboard.problems.value == problems


def test_a_story_says_what_explain_says(workspace):
    dashboard = Dashboard(workspace)
    dashboard.tabs.selected_index = 0
    panel = dashboard.panels[0]
    ambassador = panel.view.state.active()[0].ambassador
    panel.map.pick.value = ambassador  # as the browser does at a click
    story = panel.shared.finder.story.value
    chapter, = store_story(workspace, ambassador, panel.view.company)
    assert "It is the Ambassador." in story and chapter.events
    assert all(html.escape(line) in story for line in chapter.events)


def test_an_undo_takes_back_the_newest_save_of_any_tab(workspace):
    file = workspace.path / "scrapeopt.toml"
    before = file.read_text()
    panels = all_open(Dashboard(workspace))
    panels["Clusters"].controls.eps_km.value = 60.99999999999999  # as a browser adds up
    panels["Clusters"].save.button.click()
    between = file.read_text()
    assert "eps_km = 61 " in between
    panels["Overlap"].controls.threshold.value = 0.8750000000000001
    panels["Overlap"].save.button.click()
    assert "match_threshold = 0.875 " in file.read_text()
    panels["Clusters"].save.back.click()
    assert file.read_text() == between
    panels["Clusters"].save.back.click()
    assert file.read_text() == before and panels["Clusters"].save.back.disabled


def test_tables_and_pictures_go_into_the_workspace(workspace):
    panels = all_open(Dashboard(workspace))
    for title in ("Clusters", "Overlap", "Groups"):
        for press in panels[title].export.buttons: press.click()
        assert "Written" in panels[title].export.message.value, panels[title].export.message.value
    written = {file.name for file in (workspace.path / "exports").iterdir()}
    company = folder_name(panels["Clusters"].view.company)
    assert written >= {f"{company}-{name}" for name in (
        "clusters.csv", "clusters-map.png", "overlap.csv", "overlap-map.png", "overlap-heat.png", "overlap-pairs.png",
        "groups.csv", "groups-members.png", "groups-timeline.png")}
    table = pd.read_csv(workspace.path / "exports" / f"{company}-overlap.csv", dtype={"store_id": str})
    assert set(table["store_id"]) == set(panels["Overlap"].view.stores["store_id"])


def test_the_cut_finds_the_groups_that_update_db_found(workspace):
    view = view_of_workspace(workspace, "Woolworths")
    pairs = PairCache(view.prices, view.rule, view.window).pairs(Choice(0.95))
    sets = [part for part in pairs.sets(view.rule.match_threshold) if len(part) > 1]
    found = {frozenset(view.prices.stores[part]) for part in sets}
    assert found == {group.members for group in view.state.active()}


def test_saving_writes_what_the_diff_shows(workspace):
    dashboard = Dashboard(workspace)
    dashboard.tabs.selected_index = 1
    panel = dashboard.panels[1]
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
    assert "No cluster" in panels["Clusters"].map.words


def test_a_broken_settings_file_is_a_sentence(tmp_path):
    ws = small_chain.new_workspace(tmp_path / "ws")
    dashboard = Dashboard(ws)
    (ws.path / "scrapeopt.toml").write_text("eps_km = 'far'")
    dashboard.panels[0].controls.eps_km.value = 33  # while the dashboard is open ...
    assert "eps_km" in dashboard.panels[0].save.diff.value and dashboard.panels[0].save.button.disabled
    dashboard.again.click()  # ... and when it is read again
    assert "eps_km" in dashboard.message.value and not dashboard.tabs.children
    (ws.path / "scrapeopt.toml").write_text("eps_km = 33.0")
    dashboard.again.click()
    assert dashboard.tabs.children and not dashboard.message.value


def test_a_panel_without_places_draws_no_map():
    days = [(s, p, "2026-01-01", 100 + (s == "c") * p) for s in "abc" for p in range(30)]
    panels = all_open(Dashboard(Panel(pd.DataFrame(days, columns=["store", "product", "date", "price"]))))
    assert "Panel(prices, stores)" in panels["Clusters"].message.value
    assert panels["Overlap"].pairs.words and panels["Overlap"].map.layout.display == "none"


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

    for name in ("overlap_matrix", "learn_mask", "alike_trees", "auto_threshold"): count(view_model, name)
    for module, names in ((overlap_tab, ("pairs_frame", "heat_frame", "map_frame", "pairs_columns", "heat_columns",
                                         "heat_image", "store_columns", "what_if", "comparability")),
                          (cluster_tab, ("map_frame", "store_columns", "clusters_at")),
                          (group_tab, ("members_frame", "members_columns", "timeline_frame", "member_table",
                                       "what_if"))):
        for name in names: count(module, name)
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
    n = moves(panels["Overlap"].controls.threshold, [0.70, 0.80, 0.90, 0.93])
    # No frame, no overlap, no tree: the marks, and the rules of the policy once a move.
    assert calls == {"pairs_columns": n, "heat_columns": n, "store_columns": n, "what_if": n}
    assert {path.name for path in files_read} <= {"scrapeopt.toml"}  # for the diff beside the button
    calls.clear()
    n = moves(panels["Groups"].threshold, [0.70, 0.80, 0.90])
    # The map is seen for the first time.
    assert calls == {"map_frame": 1, "members_columns": n, "store_columns": n, "what_if": n}


def test_a_move_of_eps_km_draws_marks_only(workspace, calls):
    panels = all_open(Dashboard(workspace))
    calls.clear()
    n = moves(panels["Clusters"].controls.eps_km, [10.0, 40.0, 80.0])
    assert calls == {"clusters_at": n, "store_columns": n}


def test_pairs_are_compared_once_for_each_choice(calls):
    panels = all_open(Dashboard(archetype_twin("state_zones", n_stores=12, n_products=80)))
    overlap = panels["Overlap"].controls
    calls.clear()
    for _ in range(2): moves(overlap.masked, [True, False])
    assert calls["overlap_matrix"] == calls["learn_mask"] == 1  # all products were compared when the tab was opened
    for _ in range(2): moves(overlap.hours, [24.0, 48.0])
    assert calls["overlap_matrix"] == 1  # another window leaves the overlaps as they are
    assert calls["alike_trees"] == calls["heat_image"] == 2  # for the masked pairs, and for those within 24 hours


@pytest.mark.slow
def test_backtests_are_counted_and_kept():
    panel = BudgetPanel(shared_of(view_of_world(archetype_twin("uniform", n_stores=4, n_products=20))), n_jobs=1)
    panel.activate()
    panel.button.click()
    panel.thread.join(300)
    assert panel.progress.bar.value == panel.progress.bar.max > 0 and not panel.button.disabled
    assert "Today:" in panel.curve.words and "its own prices" in panel.reason.value


def test_cancelled_backtests_say_so_and_can_begin_anew(monkeypatch):
    panel = BudgetPanel(shared_of(view_of_world(archetype_twin("uniform", n_stores=8, n_products=40))), n_jobs=1)
    panel.activate()

    def measure(*_, track, **__):
        for _ in track("ab"): panel.progress.cancel.click()
    monkeypatch.setattr(budget_tab, "measure", measure)
    panel.button.click()
    panel.thread.join(60)
    assert "cancelled after 1 of 2" in panel.progress.step.value and not panel.button.disabled
    assert "press Measure" in panel.reason.value


def test_a_budget_is_saved_for_all_companies(workspace):
    "15 for one, and what the other is scraped at present on top; nobody's own number is changed."
    file = workspace.path / "scrapeopt.toml"
    before, (first, other) = file.read_text(), sorted(small_chain.ZONES)
    dashboard = Dashboard(workspace, n_jobs=1)
    view = dashboard.panels[0].view
    assert list(view.others) == [other]
    panel = BudgetPanel(shared_of(replace(view, a_day=2.0, others={other: 3.7})))
    panel.activate()
    assert panel.save.button.disabled and "2 a day is what was scraped" in panel.hint.value
    panel.controls.a_day.value = 5
    assert "+budget = 9 " in panel.save.diff.value
    assert f"5 for {first} and what the others have now (3.7) make 9." in html.unescape(panel.save.diff.value)
    panel.controls.a_day.value = -3
    assert panel.save.button.disabled and "-3 cannot be" in panel.save.diff.value
    panel.controls.a_day.value = 5
    panel.save.button.click()
    assert read_settings(file).budget == 9 and "from the next scrapeopt queue" in panel.save.message.value
    panel.save.back.click()
    assert file.read_text() == before
    clusters = all_open(dashboard)["Clusters"]
    clusters.controls.eps_km.value += 1
    assert f"eps_km will hold for all companies, not for {first} alone." in html.unescape(clusters.save.diff.value)


def test_the_budget_tab_starts_from_the_budget_and_says_what_status_says(workspace):
    outlook = Outlook("2026-11-24", 12, 10, 2, (2, 4, 8), (.976, .986, .993), (.815, .886, .964), False)
    view = view_of_workspace(workspace, sorted(small_chain.ZONES)[0])
    paid = replace(view, settings=view.settings.model_copy(update={"budget": 4}), a_day=5.9, others={}, outlook=outlook)
    panel = BudgetPanel(shared_of(paid))
    panel.activate()
    assert panel.controls.a_day.value == 4 and "4 a day is the budget of the settings" in panel.hint.value
    told = html.unescape(panel.expected.value)
    assert all(sentence in told for sentence in outlook_words(outlook)) and "98.6%" in told
    assert panel.curve.layout.display == "" and "98.6% of all prices right at today's 4 scrapes" in panel.curve.words
    assert "backtests on a twin of 5 stores (state_zones): round_robin, document and" in panel.reason.value
    bare = BudgetPanel(shared_of(replace(paid, outlook=None)))
    bare.activate()
    assert "2 scrapes can stand for 5 stores" in bare.expected.value and bare.curve.layout.display == "none"
    assert paid.scrapes_today == scrapes_today(len(paid.stores), 4, 5.9)  # the figure the outlook is worked out for
    both = replace(paid, others={"another": 5.9})
    assert scrapes_today(len(both.stores), 4, 5.9, [5.9]) == 2 == budget_tab.scrapes_now(both)
    assert budget_tab.budget_of_all(both, 2) == 4


@pytest.mark.parametrize("a_day", [1.0, 4.0, 6.3])
def test_half_all_and_twice_of_the_budget_are_always_measured(a_day):
    tried = budgets_to_try(a_day, 34)
    assert {a_day / 2, a_day, 2 * a_day} <= set(tried) and len(tried) <= 7


def test_work_that_is_put_away_ends_and_says_so(workspace, monkeypatch):
    dashboard, begun, go_on = Dashboard(workspace, n_jobs=1), Event(), Event()

    def measure(*_, track, **__):
        for _ in track("abc"):
            begun.set()
            go_on.wait(60)
    monkeypatch.setattr(budget_tab, "measure", measure)
    budget = all_open(dashboard)["Budget"]
    budget.button.click()
    assert begun.wait(60)
    first, other = sorted(small_chain.ZONES)
    dashboard.company.value = other
    go_on.set()
    budget.thread.join(60)
    assert f"Stopped: backtest, 0 of 3 done ({first}, Budget)" in html.unescape(dashboard.message.value)
    assert "cancelled after 1 of 3" in budget.progress.step.value
    dashboard.again.click()
    assert "Stopped" not in dashboard.message.value


def test_a_store_that_is_found_is_marked_on_every_map(workspace):
    dashboard = Dashboard(workspace)
    panels = all_open(dashboard)
    finder, store = panels["Clusters"].shared.finder, panels["Clusters"].view.placed["store_id"].iloc[0]
    finder.search.value = store
    maps = [panels["Clusters"].map, panels["Overlap"].map, panels["Groups"].map]
    assert all(f'"store":"{store}"' in picture.found.value for picture in maps)
    finder.clear()
    assert all('"store":""' in picture.found.value for picture in maps)


@pytest.mark.slow
def test_the_benchmark_of_a_move_keeps_its_figures(tmp_path):
    benchmark = pytest.importorskip("benchmarks.dashboard", reason="benchmarks/ is not part of the installed package")
    benchmark.main(["--quick", "--out", str(tmp_path)])
    moves = json.loads((tmp_path / "dashboard.json").read_text())["moves"]
    assert [row["slider"] for row in moves] == ["what if, document", "what if, delegated", "Clusters, eps_km",
                                                "Overlap, threshold", "Groups, what if"]
    assert all(row["moves"] == 3 and row["target_s"] == 0.3 for row in moves)


def test_a_stale_workspace_says_so_above_the_tabs(workspace, monkeypatch):
    "What `scrapeopt problems` lists a year later, and no good word with it."
    found = find_problems(workspace, now=small_chain.LATER)
    monkeypatch.setattr("scrapeopt.dashboard.find_problems", partial(find_problems, now=small_chain.LATER))
    dashboard = Dashboard(workspace)
    assert len(found) > 1 and dashboard.problems.value.index(problems_html(found[:1])) < dashboard.problems.value.index(
        f"and {len(found) - 1} more") < dashboard.problems.value.index(problems_html(found[1:]))  # the worst is shown
    assert "Stale" in dashboard.problems.value and 'class="good"' not in dashboard.problems.value
    assert dashboard.children.index(dashboard.problems) < dashboard.children.index(dashboard.tabs)
    assert not Dashboard(archetype_twin("state_zones", n_stores=20, n_products=100)).problems.value


@pytest.mark.parametrize(("first", "last"), [(-9.4, -8.1), (-70.9, -70.1), (174.0, 188.0)],
                         ids=["Lisbon", "Chile", "Samoa"])
def test_stores_lie_in_the_frame_of_their_place_wherever_in_the_world(first, last):
    view = view_of_world(archetype_twin("state_zones", n_stores=24, n_products=20))
    here = view.stores["lon"].rank(pct=True) * (last - first) + first
    side = (here > (first + last) / 2).map({True: "east", False: "west"})
    moved = replace(view, stores=view.stores.assign(lon=here.where(here <= 180, here - 360), cluster_name=side))
    stores = store_columns(moved.placed.assign(group=None, role="member", ambassador=False))["stores"]
    lies = dict(zip(stores["store_id"], stores["x"], strict=True))
    for place in (cluster_tab.EVERYWHERE, "east", "west"):
        shown = cluster_tab.stores_at(moved, place)
        frame = map_frame(shown).renderers[0].data_source.data["x"]
        assert frame == pytest.approx([lies[store] for store in shown["store_id"]])
