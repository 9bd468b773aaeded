"""Nothing is silent (R17): what looks odd stands in one list, in status, in the report, in the exit code."""
import json
import os
import re
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from effort import drilled, one_in
import small_chain
from small_chain import LATER, THURSDAY, land, lines, shelf
from typer.testing import CliRunner

from scrapeopt.analysis.odd_places import WIDE_KM, cluster_rows, how_to_cut, misplaced
from scrapeopt.analysis.problems import PROBLEM_KINDS, Problem, cluster_problems, find_problems, problem_line
from scrapeopt.analysis.problems import problems_html, worst_first
from scrapeopt.analysis.report import write_report
from scrapeopt.analysis.status import problems_of, status_rows
from scrapeopt.cli import main
from scrapeopt.clustering import StoreClusterer
from scrapeopt.commands.options import app
from scrapeopt.core.plain_geo import extent_km
from scrapeopt.storage.run_log import logged_run
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

pytestmark = pytest.mark.usefixtures("words_only")
WEEK = timedelta(days=7)
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def kinds(ws: Workspace, now: datetime = NOW, company: str | None = None) -> list[tuple[str, str]]:
    "The kinds of problems, with their companies."
    return [(p.kind, p.company) for p in find_problems(ws, company, now)]


def run(*arguments: str) -> tuple[int, str]:
    "A command line: its exit code and standard output."
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    return result.exit_code, result.stdout


def chain(path, places, company="Mart", min_samples=2) -> Workspace:
    "A workspace with stores at these places, clustered."
    ws = Workspace.create(path, policy="document")
    ws.import_stores(pd.DataFrame({"company": company, "store_id": [f"{k}" for k in range(len(places))], "name": "s",
                                   "lat": [lat for lat, _ in places], "lon": [lon for _, lon in places]}))
    ws.cluster(min_samples=min_samples)
    return ws


@pytest.fixture
def scraped(tmp_path) -> Workspace:
    "Two companies, scraped once."
    return small_chain.scraped_once(tmp_path / "ws")


# ---- the list, and where it is told ---------------------------------------------------------------------------------

def test_a_healthy_workspace_has_no_problems(scraped):
    assert kinds(scraped) == []
    code, out = run("status", "-w", scraped.path, "--now", "2026-11-20")
    assert code == 0 and "needs a person" not in out
    assert [row["problems"] for row in json.loads(run("status", "--json", "-w", scraped.path, "--now", "2026-11-20")[1])
            ] == [[], []]


def test_status_report_and_exit_codes_agree(scraped, tmp_path):
    for _ in range(3): scraped.record_failures({("Woolworths", "0003"): False})
    found = find_problems(scraped, now=NOW)
    assert [(p.kind, p.which, p.needs_person) for p in found] == [("unreachable", ("0003",), True)]
    code, out = run("status", "-w", scraped.path, "--now", "2026-11-20")
    assert code == 2 and problem_line(found[0]) in re.sub(r"\s+", " ", out)
    code, out = run("status", "-w", scraped.path, "--json", "--now", "2026-11-20")
    rows = {row["company"]: row["problems"] for row in json.loads(out)}
    assert code == 2 and rows == {"Fruit/Veg & Co.": [], "Woolworths": [found[0].to_json()]}
    page = write_report(scraped, out=tmp_path / "r.html", now=pd.Timestamp(NOW)).read_text()
    assert found[0].what in page and "Worth knowing" not in page
    assert run("report", "-w", scraped.path, "--now", "2026-11-20", "--out", tmp_path / "r.html")[0] == 2
    assert run("status", "-w", scraped.path, "--company", "Fruit/Veg & Co.", "--now", "2026-11-20")[0] == 0


def test_what_is_worth_knowing_makes_no_exit_code(tmp_path):
    ws = chain(tmp_path / "ws", [(38 + k * 0.045, 12.5) for k in range(120)])
    assert [p.kind for p in find_problems(ws)] == ["never_scraped", "wide_cluster"]
    assert run("status", "-w", ws.path)[0] == 0
    page = write_report(ws, out=tmp_path / "r.html").read_text()
    assert "Worth knowing" in page and "No problems" not in page  # green only where there is nothing to say


def test_every_kind_is_said_in_a_line():
    for kind, needs_person in PROBLEM_KINDS.items():
        line = problem_line(Problem(kind, "Mart", "What", ("a",), "To do."))
        assert ("needs a person" in line) == needs_person and line.endswith("What (a). To do.")


def test_the_worst_comes_first_everywhere(scraped, tmp_path):
    for _ in range(3): scraped.record_failures({("Woolworths", "0003"): False})
    (scraped.path / "inbox" / "prices.csv").write_text("product_id,price")
    later = NOW + 2 * WEEK
    found = find_problems(scraped, now=later)
    assert [p.kind for p in found] == ["stale", "stale", "unreachable", "not_taken"]
    assert problems_of(status_rows(scraped, now=later)) == found == worst_first(reversed(found))
    page = write_report(scraped, out=tmp_path / "r.html", now=pd.Timestamp(later)).read_text()
    places = [page.index(words) for words in ("Stale", "Unreachable", "Not taken", "Scrapes saved")]
    assert places == sorted(places) and problems_html(found) in page
    assert list(PROBLEM_KINDS.values()) == sorted(PROBLEM_KINDS.values(), reverse=True)


# ---- old prices -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("days", "expected"), [(1, []), (7, []), (10, ["stale"]), (400, ["stale"])])
def test_a_scheduler_that_stopped_is_named(scraped, days, expected):
    now = THURSDAY.to_pydatetime() + timedelta(days=days)
    assert [kind for kind, _ in kinds(scraped, now, "Woolworths")] == expected


def daily(path, days, told=None) -> Workspace:
    "Three stores of a zone, one of them scraped a day."
    ws = small_chain.new_workspace(path)
    if told: ws = with_settings(ws, f'[companies."Woolworths"]\nchangeover = "{told}"\n')
    for day in days:
        store = ("0001", "0002", "0003")[day % 3]
        land(ws, "Woolworths", store, THURSDAY + timedelta(days=day), lines(shelf("Woolworths", store)))
    update_db(ws, "Woolworths", now=LATER)
    return ws


def with_settings(ws: Workspace, text: str) -> Workspace:
    "The workspace with more in its settings."
    with (ws.path / "scrapeopt.toml").open("a") as f: f.write("\n" + text)
    return Workspace.open(ws.path)


@pytest.mark.parametrize(("days", "silent", "expected"), one_in(2, [
    (range(12), 2, []), (range(12), 3, ["stale"]), (range(12), 6, ["stale"]),
    ([d for d in range(16) if d % 7 not in (2, 3)], 3, []),  # Thursdays to Fridays and on: it rests at weekends
    ([d for d in range(16) if d % 7 not in (2, 3)], 5, ["stale"]),
    (range(0, 42, 7), 7.9, []), (range(0, 42, 7), 9, ["stale"]), (range(3), 6, [])]))
def test_staleness_follows_the_habit_of_the_workspace_without_a_log_of_runs(tmp_path, days, silent, expected):
    ws = daily(tmp_path / "ws", days)
    now = THURSDAY.to_pydatetime() + timedelta(days=days[-1] + silent)
    found = [p.kind for p in find_problems(ws, "Woolworths", now) if p.kind in ("stale", "silence", "not_fresh")]
    assert found == expected


def test_a_stale_workspace_is_green_nowhere(tmp_path):
    ws = daily(tmp_path / "ws", range(12), told="wednesday")
    now = THURSDAY.to_pydatetime() + timedelta(days=11 + 6)  # six days after the last scrape, and no price is fresh
    code, out = run("status", "-w", ws.path, "--company", "Woolworths", "--now", now.isoformat())
    assert code == 2 and out.startswith("Woolworths, needs a person: Stale: the newest scrape is of")
    assert run("report", "-w", ws.path, "--out", tmp_path / "r.html", "--now", now.isoformat())[0] == 2
    page = (tmp_path / "r.html").read_text()
    assert "Stale: the newest scrape is of" in page and "No problems" not in page
    assert '<div class="big bad">0%</div>of the stores have prices of this price week' in page
    assert run("notify", "-w", ws.path, "--now", now.isoformat())[0] == 2
    assert "Stale" in problems_html(find_problems(ws, now=now)) and 'class="good"' not in problems_html(
        find_problems(ws, now=now))


def test_a_week_that_began_without_a_scrape_is_named(tmp_path):
    ws = daily(tmp_path / "ws", range(0, 42, 7), told="saturday")  # Thursdays; prices change two days later
    last = THURSDAY.to_pydatetime() + timedelta(days=35)
    assert [[p.kind for p in find_problems(ws, "Woolworths", last + timedelta(days=d)) if "fresh" in p.kind]
            for d in (1, 2.5, 3.5, 7)] == [[], [], ["not_fresh"], ["not_fresh"]]


@pytest.mark.parametrize(("runs", "words", "todo"), one_in(2, [
    ([], "Stale", "Is the scheduler still running?"),
    ([("scrape", 5, 1)], "Stale", "Is the scheduler still running?"),
    ([("scrape", 5, 1), ("update-db", 0, 0)], "Stale", "Is the scheduler still running?"),
    ([("scrape", 5, 3), ("scrape", 0, 1)], "; 1 try since then, none succeeded", "Look at the scraper: the log"),
    ([("scrape", 5, 3), ("scrape", 0, 40), ("scrape", 0, 2)], "; 42 tries since then, none succeeded", "Look at"),
    ([("scrape", 0, 40), ("scrape", 1, 2)], "Stale", "Is the scheduler still running?")]))
def test_a_scraper_that_fails_is_not_taken_for_a_scheduler_that_stopped(scraped, runs, words, todo):
    for command, done, failed in runs:
        with logged_run(scraped, command) as counts: counts.scraped, counts.failed = done, failed
    (found,) = find_problems(scraped, "Woolworths", NOW + 2 * WEEK)
    assert found.kind == "stale" and words in found.what and found.todo.startswith(todo)
    assert ("none succeeded" in found.what) == todo.startswith("Look")


def test_ages_of_runs_are_those_of_the_moment_that_is_asked_about(scraped):
    with logged_run(scraped, "scrape"): pass
    at = datetime.now(UTC) + timedelta(days=30, minutes=1)
    told = re.sub(r"\s+", " ", run("status", "-w", scraped.path, "--now", at.isoformat())[1])
    assert "scrape 30 days ago: done" in told and "just now" not in told


def test_stores_that_the_budget_does_not_reach_are_counted(scraped):
    for week in (1, 2):
        land(scraped, "Woolworths", "0001", THURSDAY + week * WEEK, lines(shelf("Woolworths", "0001", week)))
    update_db(scraped, now=LATER)
    (old,) = [p for p in find_problems(scraped, "Woolworths", NOW + 2 * WEEK) if p.kind == "old_prices"]
    assert {"0005", "0006", "0007"} <= set(old.which) and "0001" not in old.which and not old.needs_person
    assert "more than 8 days old" in old.what  # in days, as it is counted; a report counts price weeks
    assert "14 days old" in old.what or "15 days old" in old.what


def test_a_clock_that_is_behind_finds_nothing_old(scraped):
    assert kinds(scraped, datetime(2020, 1, 1, tzinfo=UTC)) == []


# ---- the same bytes -------------------------------------------------------------------------------------------------

def weekly(ws: Workspace, store: str, contents, company="Woolworths") -> None:
    "A file a week for a store, each with the shelf of one week."
    for week, shown in enumerate(contents, start=1):
        land(ws, company, store, THURSDAY + week * WEEK, lines(shelf(company, store, shown)))
    update_db(ws, now=LATER)


@pytest.mark.parametrize(("contents", "named"), one_in(2, [
    ((0, 0), True),  # three times the same over two changeovers
    ((0, 0, 0, 0), True),
    ((0,), False),  # one changeover
    ((1, 0), False),  # back at the old prices is no repetition
    ((0, 0, 1), False),  # it has changed since
    ((1, 1, 1), True),
]))
def test_a_feed_that_repeats_itself_is_named(scraped, contents, named):
    weekly(scraped, "0002", contents)
    found = [p for p in find_problems(scraped, now=NOW + len(contents) * WEEK) if p.kind == "same_bytes"]
    assert [p.which for p in found] == ([("0002",)] if named else [])


def test_repeated_scrapes_within_a_price_week_are_no_repetition(scraped):
    for hour in range(1, 20): land(scraped, "Woolworths", "0002", THURSDAY + timedelta(hours=3 * hour),
                                   lines(shelf("Woolworths", "0002")))
    update_db(scraped, now=LATER)
    assert "same_bytes" not in [kind for kind, _ in kinds(scraped)]


# ---- the changeover -------------------------------------------------------------------------------------------------

def nightly(path, changes_on: int, told: str | None, nights: int = 22) -> Workspace:
    "Stores that are scraped every day, and change their prices before one weekday."
    ws = small_chain.new_workspace(path)
    if told:
        with (path / "scrapeopt.toml").open("a") as f: f.write(f'\n[companies."Woolworths"]\nchangeover = "{told}"\n')
        ws = Workspace.open(path)
    for night in range(nights):
        at = THURSDAY + timedelta(days=night)
        week = (at.weekday() - changes_on) // 7 + (at - THURSDAY + timedelta(days=THURSDAY.weekday())).days // 7
        for i, store in enumerate(small_chain.ZONES["Woolworths"]):
            land(ws, "Woolworths", store, at + timedelta(minutes=i), lines(shelf("Woolworths", store, week + 5)))
    update_db(ws, "Woolworths", now=LATER)  # it judges day by day
    return ws


@pytest.mark.slow
@pytest.mark.parametrize(("changes_on", "told", "expected"), [
    (2, None, "changeover_untold"), drilled(0, None, "changeover_untold"), drilled(2, "wednesday", None),
    drilled(2, "monday", "changeover_differs"), (4, "thursday", "changeover_differs")])
def test_a_changeover_that_nobody_told_is_named(tmp_path, changes_on, told, expected):
    ws = nightly(tmp_path / "ws", changes_on, told)
    found = [p for p in find_problems(ws, "Woolworths", NOW + 4 * WEEK) if p.kind.startswith("changeover")]
    assert [p.kind for p in found] == ([expected] if expected else [])
    day = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"][changes_on]
    assert all(f"Prices change on {day}" in p.what and f'changeover = "{day.lower()}"' in p.todo for p in found)


def test_prices_that_never_change_have_no_changeover(tmp_path):
    ws = small_chain.new_workspace(tmp_path / "ws")
    for night in range(12):
        for i, store in enumerate(small_chain.ZONES["Woolworths"]):
            at = THURSDAY + timedelta(days=night, minutes=i)
            if at.weekday() != 6: land(ws, "Woolworths", store, at, lines(shelf("Woolworths", store)))
    update_db(ws, "Woolworths", now=LATER)
    assert not [kind for kind, _ in kinds(ws, NOW + 2 * WEEK) if kind.startswith("changeover")]


# ---- groups ---------------------------------------------------------------------------------------------------------

def test_a_company_in_which_nobody_prices_alike_is_told_so(tmp_path):
    ws = small_chain.new_workspace(tmp_path / "ws")
    for i, store in enumerate(small_chain.ZONES["Woolworths"]):
        land(ws, "Woolworths", store, THURSDAY + timedelta(minutes=i), lines(shelf("Woolworths", store, week=100 + i)))
    update_db(ws, now=LATER)
    (alone,) = [p for p in find_problems(ws, "Woolworths", NOW) if p.kind == "no_group"]
    assert "no two stores price alike of 7" in alone.what and "scraping in turn is all there is to gain" in alone.what
    code, out = run("status", "-w", ws.path, "--company", "Woolworths", "--now", "2026-11-20")
    assert code == 0 and "scraping in turn is all there is to gain" in re.sub(r"\s+", " ", out)


def test_a_company_without_clusters_is_told_that_and_not_that_nobody_prices_alike(tmp_path):
    ws = Workspace.create(tmp_path / "ws")
    ws.import_stores(pd.DataFrame([("Woolworths", store, "", -31.9, 115.8) for store in ("W1", "W2", "W3")],
                                  columns=["company", "store_id", "name", "lat", "lon"]))
    for i, store in enumerate(("W1", "W2", "W3")):
        land(ws, "Woolworths", store, THURSDAY + timedelta(minutes=i), lines(shelf("Woolworths", "0001")))
    update_db(ws, now=LATER)
    (alone,) = [p for p in find_problems(ws, "Woolworths", NOW) if p.kind == "no_group"]
    assert "in no clusters" in alone.what and alone.todo.startswith("scrapeopt cluster-stores")
    ws.cluster()
    update_db(ws, now=LATER)
    assert not [p for p in find_problems(ws, "Woolworths", NOW) if p.kind == "no_group"]


def test_a_company_scraped_too_far_apart_is_told_so(tmp_path):
    ws = small_chain.new_workspace(tmp_path / "ws")
    for i, store in enumerate(small_chain.ZONES["Woolworths"]):
        land(ws, "Woolworths", store, THURSDAY + 3 * i * timedelta(days=1), lines(shelf("Woolworths", store)))
    update_db(ws, now=LATER)
    (alone,) = [p for p in find_problems(ws, "Woolworths", NOW + 3 * WEEK) if p.kind == "no_group"]
    assert "close enough in time" in alone.what


def test_accuracy_below_the_floor_is_named(scraped):
    from sqlalchemy import text
    small_chain.scrape_in_two_days(scraped, 1)
    now = NOW + WEEK + timedelta(days=1)
    assert not {"inaccurate", "weak"} & {kind for kind, _ in kinds(scraped, now)}
    with scraped.begin() as session:
        session.execute(text('update inference_audit set "right" = prices / 2, prices = 300, timely = true'))
    found = {p.kind: p for p in find_problems(scraped, "Woolworths", now)}
    assert found["inaccurate"].needs_person and "accuracy_floor is 90%" in found["inaccurate"].what
    assert "weak" in found and "inaccurate" not in [kind for kind, _ in kinds(scraped, now + 5 * WEEK)]


def turns(ws, days) -> Workspace:
    "Each store every third day; prices change on Wednesdays, the days 6, 13 and so on."
    for day in days:
        for i, store in enumerate(small_chain.ZONES["Woolworths"]):
            if day == 0 or (day + i) % 3 == 0: land(
                ws, "Woolworths", store, THURSDAY + timedelta(days=day, minutes=i),
                lines(shelf("Woolworths", store, (day + 1) // 7)))
    update_db(ws, "Woolworths", now=LATER)
    return ws


def audited(ws, day: float, right: float) -> None:
    "Let the audits of a day have found such a share right, of the week before's prices."
    from sqlalchemy import text
    with ws.begin() as session: session.execute(
        text('update inference_audit set prices = 300, "right" = 300 * :right, timely = :right > 0.9 '
             "where at >= :day and at < :next"), {"right": right, "day": f"{THURSDAY + timedelta(days=day):%Y-%m-%d}",
                                                  "next": f"{THURSDAY + timedelta(days=day + 1):%Y-%m-%d}"})


@pytest.fixture(scope="module")
def after_an_outage(tmp_path_factory) -> Workspace:
    "Scraped for twelve days, not for six, over a changeover, and again: wrong on the first day, right ever since."
    ws = small_chain.new_workspace(tmp_path_factory.mktemp("outage") / "ws")
    ws = turns(with_settings(ws, '[companies."Woolworths"]\nchangeover = "wednesday"\n'), [*range(12), *range(17, 27)])
    for day in range(27): audited(ws, day, 0.4 if day in (17, 20) else 0.99)
    return ws


@pytest.mark.slow
@pytest.mark.parametrize("day", one_in(3, range(17, 27)))
def test_an_outage_that_is_over_does_not_hold_the_figure_below_the_floor(after_an_outage, day):
    now = (THURSDAY + timedelta(days=day, hours=6)).to_pydatetime()
    assert "inaccurate" not in [p.kind for p in find_problems(after_an_outage, "Woolworths", now)]


# ---- what it costs --------------------------------------------------------------------------------------------------

def test_a_budget_that_saves_nothing_is_worth_knowing(scraped, tmp_path):
    file = scraped.path / "scrapeopt.toml"
    text = file.read_text()
    file.write_text(f"budget = 1.5\n{text}")
    assert find_problems(Workspace.open(scraped.path), now=NOW) == []
    file.write_text(f"budget = 2\n{text}")
    told = "14 scrapes a week for 12 stores: scraping each once a price week costs less"
    code, out = run("status", "-w", scraped.path, "--now", "2026-11-20")
    assert code == 0 and f"workspace, worth knowing: {told}" in re.sub(r"\s+", " ", out)
    page = write_report(Workspace.open(scraped.path), out=tmp_path / "r.html", now=pd.Timestamp(NOW)).read_text()
    assert told in page


@pytest.mark.parametrize("command", [("queue",), ("scrape", "--command", "touch {output}")])
def test_an_empty_queue_says_why(scraped, command):
    file = scraped.path / "scrapeopt.toml"
    file.write_text('budget = 1\n' + file.read_text().replace('policy = "document"', 'policy = "delegated"')
                    + '\n[defaults]\nchangeover = "thursday"\n')
    asked = (*command, "-w", scraped.path, "--now", "2026-11-25T02:00")
    saved = "nothing to scrape now: 1 unspent scrape is kept for the changeover of Thursday 26 November"
    assert saved in run(*asked)[1]
    at = pd.Timestamp("2026-11-25T01:00", tz="UTC")
    every = [(company, store) for company, zone in small_chain.ZONES.items() for store in zone]
    scraped.record_failures(dict.fromkeys(every, False), at)
    assert ("nothing to scrape now: 12 stores failed lately and are asked again from 2026-11-26 00:00 UTC on"
            in run(*asked)[1])


# ---- places ---------------------------------------------------------------------------------------------------------

CITY = [(45.8 + (k % 6) / 50, 16.0 + (k // 6) / 50) for k in range(30)]
SOUTH = [(-33.4 - (k % 6) / 50, -70.6 - (k // 6) / 50) for k in range(30)]


@pytest.mark.parametrize(("places", "odd", "meant"), [
    (CITY, 4, lambda lat, lon: (lon, lat)),  # to the Gulf of Aden
    (CITY, 4, lambda lat, lon: (-lat, lon)),
    drilled(CITY, 4, lambda lat, lon: (lat, -lon)),
    drilled(SOUTH, 5, lambda lat, lon: (lon, lat)),  # to the Antarctic
    drilled(SOUTH, 5, lambda lat, lon: (-lat, lon)),
    (SOUTH, 5, lambda lat, lon: (-lat, -lon)),  # both signs are missing
])
def test_a_store_that_was_mistyped_is_named(tmp_path, places, odd, meant):
    wrong = [meant(*place) if k == odd else place for k, place in enumerate(places)]
    ws = chain(tmp_path / "ws", wrong)
    assert [(p.kind, p.which) for p in find_problems(ws) if p.kind != "never_scraped"] == [("swapped", (str(odd),))]
    assert run("status", "-w", ws.path)[0] == 2
    out = run("cluster-stores", "-w", ws.path, "--min-samples", "2")[1]
    assert "lat and lon look wrong" in re.sub(r"\s+", " ", out)


def test_a_batch_of_swapped_stores_is_named_though_it_is_a_cluster_of_its_own(tmp_path):
    ws = chain(tmp_path / "ws", [place[::-1] if k < 8 else place for k, place in enumerate(CITY)])
    (found,) = cluster_problems(ws)
    assert set(found.which) == {str(k) for k in range(8)} and "8 of 30 stores" in found.what


@pytest.mark.parametrize(("place", "words"), [
    ((48.86, 2.35), "France, 1,077 km"), ((-45.0, -120.0), "far from any town"), ((4.58, 16.0), "the others")])
def test_a_store_in_another_country_is_named(place, words):
    (found,) = misplaced({str(k): p for k, p in enumerate([*CITY, place])})
    assert found.store_id == "30" and found.meant is None and words in found.words()


@pytest.mark.parametrize("places", [
    CITY, SOUTH, CITY[:1], [], [CITY[0], CITY[0][::-1]],
    [*CITY, (43.51, 16.44)],  # Split, 270 km away
    [*CITY, *[(46.06 + k / 99, 14.51) for k in range(3)]],  # three shops over the border
    [(0.0, 100.0 + k / 50) for k in range(20)],  # on the equator: a sign of latitude says nothing
    [(-17.8, 179.9 - k / 50) for k in range(10)] + [(-17.8, -179.9 + k / 50) for k in range(10)],  # over the date line
])
def test_stores_that_may_well_be_right_are_not_named(places):
    assert misplaced({str(k): p for k, p in enumerate(places)}) == []


# ---- clusters that have grown together ------------------------------------------------------------------------------

def coast(stores: int, step_km: float, gaps: dict[int, float]) -> list[tuple[float, float]]:
    "Stores along a meridian, with gaps of so many km after some."
    places, lat = [], 38.0
    for k in range(stores):
        places.append((lat, 12.5))
        lat += gaps.get(k, step_km) / 111.195
    return places


@pytest.mark.parametrize(("places", "wide"), [
    (coast(180, 5, {}), True), (coast(60, 5, {}), True), (coast(40, 5, {}), False), (coast(180, 1, {}), False),
    (coast(180, 5, {60: 17, 100: 15}), True), (coast(180, 5, {90: 60}), True),
    (coast(180, 5, {30: 40, 60: 40, 90: 40, 120: 40, 150: 40}), False), (CITY, False)])
def test_a_cluster_along_a_coast_is_named(tmp_path, places, wide):
    ws = chain(tmp_path / "ws", places, min_samples=5)
    found = [p for p in cluster_problems(ws) if p.kind == "wide_cluster"]
    assert bool(found) == wide
    rows = json.loads(run("cluster-stores", "-w", ws.path, "--min-samples", "5", "--json")[1])
    assert any(row["extent_km"] and row["extent_km"] >= WIDE_KM for row in rows) == wide
    assert [list(row) for row in rows] == [["company", "cluster", "name", "stores", "extent_km"]] * len(rows)


@pytest.mark.parametrize("gaps", [{45: 17, 90: 17, 135: 17}, {45: 12, 90: 13, 135: 14}, {40: 18, 80: 17, 120: 16}])
def test_the_eps_km_that_is_named_cuts(gaps):
    places = coast(170, 5, gaps)
    told = how_to_cut(places, "dbscan", 20, 5)
    eps = float(re.search(r"--eps-km ([\d.]+) would cut it|--eps-km ([\d.]+) or", told)[0].split()[1])
    labels = StoreClusterer(eps_km=eps, min_samples=5).fit(places).labels_
    parts = [[p for p, label in zip(places, labels, strict=True) if label == n] for n in range(labels.max() + 1)]
    assert len(parts) > 1 and max(map(extent_km, parts)) < WIDE_KM and sum(map(len, parts)) >= len(places) / 2


def test_a_list_of_no_clusters_is_a_table_of_outliers(tmp_path):
    ws = chain(tmp_path / "ws", [(45.8, 16.0), (43.5, 16.4)])
    assert [(row["cluster"], row["extent_km"]) for row in cluster_rows(ws.stores())] == [(-1, None)]


def test_real_chains_are_left_alone(shared_data):
    files = {"au_store_locations/coles_woolworths_2024.csv": "vendor",
             "croatia_store_locations/stores.csv": "chain_code"}
    lists = [pd.read_csv(shared_data / file).rename(columns={column: "company"}) for file, column in files.items()]
    stores = pd.concat(lists)[["company", "lat", "lon"]].dropna().reset_index(drop=True)
    odd = {}
    for company, part in stores.groupby("company"):
        places = list(zip(part["lat"].tolist(), part["lon"].tolist(), strict=True))
        odd[company] = len(misplaced({str(k): place for k, place in enumerate(places)}))
        labels = StoreClusterer().fit(places).labels_
        parts = [[p for p, label in zip(places, labels, strict=True) if label == n] for n in set(labels) - {-1}]
        widths = list(map(extent_km, parts))
        assert max(widths, default=0) < WIDE_KM, company
    assert {company: n for company, n in odd.items() if n} == {"trgocentar": 1}  # 4 of its 5 stores are swapped there


# ---- what was not taken ---------------------------------------------------------------------------------------------

def test_quarantine_is_told_while_it_is_new(scraped):
    land(scraped, "Woolworths", "0001", THURSDAY + timedelta(days=1), ['{"product_id": "1", "price": "free"}'])
    update_db(scraped, now=LATER)
    assert ("quarantine", "Woolworths") in kinds(scraped)
    for path in (scraped.path / "quarantine").rglob("*"): os.utime(path, (0, 0))
    assert ("quarantine", "Woolworths") in kinds(scraped)  # by the time of its name
    assert ("earlier_quarantine", "Woolworths") in kinds(scraped, NOW + 2 * WEEK)


def test_files_of_nobody_are_told_for_the_whole_workspace(scraped):
    path = scraped.path / "inbox" / "Wollworths" / "0001" / "20261119T020000Z.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"product_id": "1", "price": "1.00"}\n')
    assert update_db(scraped, now=LATER).problems
    assert kinds(scraped) == [("quarantine", "")]
    assert kinds(scraped, company="Woolworths") == []
    code, out = run("status", "-w", scraped.path, "--now", "2026-11-20")
    assert code == 2 and out.count("workspace, needs a person: In quarantine") == 1
    rows = json.loads(run("status", "-w", scraped.path, "--json", "--now", "2026-11-20")[1])
    assert [[p["company"] for p in row["problems"]] for row in rows] == [[""], [""]]


@pytest.mark.parametrize("name", ["20261399T000000Z.jsonl", "notes.json", "20261119T020000Z.jsonl"])
def test_whatever_lies_in_quarantine_does_not_stop_the_list(scraped, name):
    path = scraped.path / "quarantine" / "Fruit%2FVeg &%20Co." / "a" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff\xfe no JSON")
    assert kinds(scraped) == [("quarantine", "Fruit/Veg & Co.")]


def test_the_report_of_a_command_line_ends_with_its_code(scraped, capsys):
    with pytest.raises(SystemExit) as ended: main(["status", "-w", str(scraped.path), "--now", "2026-12-24"])
    assert ended.value.code == 2 and "Stale" in capsys.readouterr().out


# ---- status on a terminal -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("company", ["Mart", "Supermarkets of Western Eire Ltd", "スーパー" * 9])
@pytest.mark.parametrize("now", [drilled("2026-11-20"), "2027-12-24"])
def test_status_fits_80_columns(tmp_path, company, now):
    ws = chain(tmp_path / "ws", [*CITY, CITY[0][::-1]], company)
    for k in range(len(CITY)):
        land(ws, company, str(k), THURSDAY + timedelta(minutes=k), lines(shelf("Woolworths", "0001", k // 15)))
    for _ in range(3): ws.record_failures({(company, "30"): False})
    update_db(ws, now=LATER)
    code, out = run("status", "-w", ws.path, "--now", now)
    assert code == 2 and max(map(len, out.splitlines())) <= 80
    assert out.startswith(f"{company}, needs a person: ") and f"\n{company}\n  31 stores, 30 scraped" in out


def test_status_counts_retired_stores_and_keeps_its_keys(scraped):
    left = small_chain.stores()
    scraped.import_stores(left[left["store_id"] != "0004"], replace=True)
    rows = json.loads(run("status", "--json", "-w", scraped.path, "--now", "2026-11-20")[1])
    assert [row["retired"] for row in rows] == [0, 1] and "1 retired" in run("status", "-w", scraped.path)[1]
    assert list(rows[0])[:13] == ["company", "stores", "scraped", "unreachable", "mode", "groups", "diverged",
                                  "outliers", "threshold", "last_scrape", "audited", "right", "weak"]


def test_savings_are_told_as_money(scraped, tmp_path):
    ws = with_settings(scraped, '[defaults]\ncost_per_request = 0.5\nrequests_per_scrape = 4\n')
    small_chain.scrape_in_two_days(ws, 1)
    rows = json.loads(run("status", "--json", "-w", ws.path, "--now", "2026-11-28")[1])
    fruit = (5 * 9 - 10) / 9 * 365.25 / 12 * 4 * 0.5  # five stores on nine days, ten scrapes
    assert rows[0]["saved_a_month"] == {"amount": f"{fruit:.2f}", "currency": "AUD"}
    told = f"saves {fruit:,.2f} AUD a month beside every store every day"
    assert told in run("status", "-w", ws.path, "--now", "2026-11-28")[1]
    both = fruit + (7 * 9 - 14) / 9 * 365.25 / 12 * 4 * 0.5
    page = write_report(ws, out=tmp_path / "r.html", now=pd.Timestamp("2026-11-28", tz="UTC")).read_text()
    assert f"saves {both:,.2f} AUD a month" in page
