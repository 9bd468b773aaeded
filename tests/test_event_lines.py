"What people read of events: no sentence again and again, and crowds in a line."
import html
import re
from datetime import UTC, datetime

import pandas as pd
import pytest
import small_chain
from hypothesis import given
from hypothesis import strategies as st

from scrapeopt.analysis.event_lines import folded
from scrapeopt.analysis.problems import cleared_words
from scrapeopt.analysis.status import company_lines, group_rows, named_groups, outlier_lines
from scrapeopt.cli import main
from scrapeopt.commands.collect import _event_lines
from scrapeopt.core.errors import InputError
from scrapeopt.dashboard import explain_store
from scrapeopt.grouping.events import StoreJoined
from scrapeopt.storage.settings import Settings
from scrapeopt.widgets.store_finder import StoreFinder


def event(kind, store, group=None, words=""):
    return {"company": "Lua", "at": "2026-11-06T05:00:00+00:00", "kind": kind, "group": group, "store": store,
            "words": f"{store} {words}"}


def test_an_update_says_once_that_a_store_is_an_outlier():
    lines = _event_lines([event("OutlierKept", "007", words=f"is an outlier: {k} of 282 equal") for k in range(4)])
    assert lines == ["007 is an outlier: 3 of 282 equal"]


def test_a_group_that_moves_over_after_a_changeover_is_one_line():
    moves = [e for store in ("002", "003", "004", "005") for e in (
        event("StoreOutcast", store, "[L]", "was cast out of [L]: it prices like [L-2]"),
        event("StoreJoined", store, "[L-2]", "joined [L-2]: 98.9% of shared prices equal"))]
    assert _event_lines(moves) == ["4 stores moved from [L] to [L-2]: 002, 003, 004 and 1 more"]
    assert _event_lines(moves[:2]) == ["002 moved from [L] to [L-2]: 98.9% of shared prices equal"]


@given(st.lists(st.tuples(st.sampled_from(["OutlierKept", "StoreJoined", "StoreOutcast", "GroupDissolved"]),
                          st.sampled_from(["1", "2", "3", "4", "5"]), st.sampled_from(["[A]", "[B]"])), max_size=30))
def test_every_store_that_something_happened_to_is_still_told(drawn):
    told = folded(event(*one) for one in drawn)
    assert {one[1] for one in drawn} >= {e["store"] for e in told}
    assert len(told) <= len(drawn) and bool(told) == bool(drawn)


def test_the_dashboard_folds_a_story_as_explain_does(monkeypatch, tmp_path):
    ws = small_chain.scraped_once(tmp_path / "ws")
    lines = tuple(f"2026-11-{day:02d} 02:00 007 is an outlier: {day} of 40 equal" for day in range(1, 20))
    monkeypatch.setattr("scrapeopt.dashboard.store_story", lambda *_: [type("Chapter", (), {"events": lines})])
    told = explain_store(ws, "Alpha", None, "007")
    assert len(told) == 3 and "17 more such lines (scrapeopt explain 007 --json)" in told[1]
    assert len(explain_store(ws, "Alpha", pd.Timestamp("2026-11-05", tz="UTC"), "007")) == 3


def test_a_story_folds_to_a_line_when_another_tab_is_opened(tmp_path):
    from scrapeopt.dashboard import Dashboard
    dashboard = Dashboard(small_chain.scraped_once(tmp_path / "ws"), n_jobs=1)
    finder: StoreFinder = dashboard.panels[0].shared.finder
    finder.tell_story(dashboard.panels[0].view.state.active()[0].ambassador)
    assert "<details" not in finder.story.value
    dashboard.tabs.selected_index = 3
    assert finder.story.value.startswith("<details") and "It is the Ambassador." in html.unescape(finder.story.value)
    assert finder.store, "it stays marked on the pictures"


@pytest.mark.parametrize("kept", [0.5, 0.971, 1.0, 1.221, 7.0])
def test_no_event_tells_a_share_above_all(kept):
    joined = StoreJoined(company="Lua", at=pd.Timestamp("2026-11-05", tz="UTC"), group="[Lua-Lisbon-2]", store="016",
                         against="001", overlap=float("nan"), kept=kept)
    shares = [float(share) for share in re.findall(r"([\d.]+)%", joined.words())]
    assert all(share < 100 for share in shares) and "of those that should have lasted" in joined.words()


def test_groups_names_what_was_meant_the_outliers_and_how_groups_come_about(tmp_path, capsys):
    ws = small_chain.scraped_once(tmp_path / "ws")
    name = sorted(g.name for c in ws.companies() for g in ws.groups(c).active())[0].strip("[]")
    with pytest.raises(InputError, match=f"did you mean .*{name.split('-')[-1]}"):
        named_groups(group_rows(ws), name.split("-", 1)[-1])
    with pytest.raises(InputError, match=r"the largest are .*scrapeopt groups lists them all"):
        named_groups(group_rows(ws), "qqq")
    out = {c: len(set(ws.stores(c)["store_id"]) - ws.groups(c).grouped()) for c in ws.companies()}
    told = outlier_lines(ws)
    assert len(told) == sum(n > 0 for n in out.values())
    for line in told: assert f"{out[line.partition(':')[0]]} outlier" in line
    with pytest.raises(SystemExit): main(["groups", "-w", str(ws.path)])
    said = capsys.readouterr().out
    assert told and all(line in said for line in told)
    new = small_chain.new_workspace(tmp_path / "new", policy="delegated")
    with pytest.raises(SystemExit): main(["groups", "-w", str(new.path)])
    said = capsys.readouterr().out
    assert "founded by stores that price alike" in said and "every store of a cluster" not in said


def test_status_says_how_many_groups_are_for_one_category():
    row = status_rows_of_one()
    assert "3 groups (1 for one category)" in "\n".join(company_lines(row | {"category_groups": 1}, row["now"]))
    assert "3 groups, " in "\n".join(company_lines(row | {"category_groups": 0}, row["now"]))


def status_rows_of_one():
    return {"company": "Lua", "stores": 9, "scraped": 9, "unreachable": 0, "retired": 0, "mode": "optimization",
            "groups": 3, "diverged": 0, "outliers": 0, "outlier_stores": [], "threshold": 0.95, "last_scrape": None,
            "accuracy": None, "audited": 0, "weak": [], "reanalysed": None, "certificates": None, "outlook": None,
            "saved_a_month": None, "now": datetime(2026, 11, 29, tzinfo=UTC)}


def test_the_quarantine_says_how_it_gets_empty(tmp_path):
    assert "scrapeopt tidy, which drops what has lain there for 180 days" in cleared_words(Settings())
    assert "quarantine_days = 0 keeps them for ever" in cleared_words(Settings(quarantine_days=0))
