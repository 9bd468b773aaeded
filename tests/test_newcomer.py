"""What a newcomer with a chain of their own met on the first three weeks, and what they are told now."""
import re

import numpy as np
import pandas as pd
import pytest
import small_chain
from typer.testing import CliRunner

from scrapeopt.analysis.problems import find_problems, problems_html
from scrapeopt.analysis.status import fitted, store_story
from scrapeopt.commands.collect import ENOUGH_FAILED, _fell_silent
from scrapeopt.commands.notify import app
from scrapeopt.commands.schedule import app as schedule_app
from scrapeopt.commands.setup import unsaid_notes
from scrapeopt.commands.simulate import _makes_world
from scrapeopt.core.errors import InputError
from scrapeopt.core.names import did_you_mean
from scrapeopt.core.store_changes import StoreChanges
from scrapeopt.discovery import ScrapeTask
from scrapeopt.scrape import ScrapeFailure, ScrapeReport
from scrapeopt.simulation.agents import BacktestSettings, find_agent
from scrapeopt.storage.folders import aside_folder
from scrapeopt.storage.home import create_home
from scrapeopt.storage.retention import is_scraped_file_there
from scrapeopt.storage.settings import Settings, read_settings
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

pytestmark = pytest.mark.usefixtures("words_only")
W = "Woolworths"


@pytest.fixture
def scraped(tmp_path) -> Workspace:
    "Two companies, scraped once."
    return small_chain.scraped_once(tmp_path / "ws")


# ---- a list of stores in which lat and lon are mixed up -------------------------------------------------------------

def test_a_list_that_was_put_right_says_what_the_first_one_could_not(tmp_path):
    places = {"001": (40.64, 22.94), "002": (39.64, 22.42), "003": (38.25, 21.73), "004": (35.34, 25.14)}
    wrong, right = tmp_path / "wrong.csv", tmp_path / "right.csv"
    head = "company,store_id,name,lat,lon\n"
    wrong.write_text(head + "".join(f"Ελιά,{store},s,{lon},{lat}\n" for store, (lat, lon) in places.items()))
    right.write_text(head + "".join(f"Ελιά,{store},s,{lat},{lon}\n" for store, (lat, lon) in places.items()))
    ws = Workspace.create(tmp_path / "ws")

    def told(file) -> str:
        return CliRunner().invoke(app, ["import-stores", str(file), "-w", str(ws.path)], catch_exceptions=False).stdout

    assert "currency = " not in told(wrong)
    again = told(right)
    assert 'its stores say currency = "EUR" and timezone = "Europe/Athens"' in again and '[companies."Ελιά"]' in again
    toml = ws.path / "scrapeopt.toml"
    toml.write_text(toml.read_text() + 'currency = "EUR"\ntimezone = "Europe/Athens"\n')  # the table is the last one
    assert "its stores say" not in told(right) and "its stores say" not in told(wrong)  # the wrong one is not sure


def test_what_was_guessed_is_doubted_where_most_stores_have_moved():
    stores = pd.DataFrame({"company": "Ελιά", "lat": [40.64, 39.64, 38.25], "lon": [22.94, 22.42, 21.73]})
    settings = Settings(companies={"Ελιά": {"currency": "SAR", "timezone": "Asia/Riyadh"}})
    told = [unsaid_notes(settings, stores, [StoreChanges("Ελιά", 3, 3, moved=moved)]) for moved in ((), ("1", "2"))]
    assert told[0] == [] and 'currency = "EUR"' in told[1][0]


# ---- a store that does not answer ------------------------------------------------------------------------------------

def test_explain_says_that_a_store_has_failed_since(scraped):
    assert "failed" not in store_story(scraped, "0003", W)[0].standing
    for day in (20, 21): scraped.record_failures({(W, "0003"): False}, pd.Timestamp(f"2026-11-{day}", tz="UTC"))
    assert store_story(scraped, "0003", W)[0].standing.endswith(
        "last scraped 2026-11-19 02:20 UTC; 2 scrapes failed since, the last at 2026-11-21 00:00 UTC")


def test_a_page_without_problems_claims_no_more_than_was_looked_at():
    assert "every store answers" not in problems_html([])  # one that failed once or twice is no problem yet


# ---- a name in letters of its own ------------------------------------------------------------------------------------

def test_a_path_in_status_can_be_copied():
    path = "quarantine/%CE%95%CE%BB%CE%B9%CE%AC@/028/20261108T071000Z.jsonl.3523b9be.reason.json"  # a Greek chain
    told = fitted([f"Ελιά, needs a person: In quarantine; files: 1 ({path}). Nothing in it counts."])
    assert any(path in line for line in told) and max(len(line) for line in told if path not in line) <= 80


def test_what_is_put_aside_of_a_store_lies_in_one_folder(tmp_path):
    "Bad lines, and whole files from a folder of each spelling; what an earlier version put elsewhere is found."
    ws, at = Workspace.create(tmp_path / "ws"), pd.Timestamp("2026-11-19T02:00Z")
    ws.import_stores(pd.DataFrame({"company": "Ελιά", "store_id": ["00ς"], "name": "", "lat": 38., "lon": 23.7}))
    small_chain.land(ws, "Ελιά", "00ς", at, [*small_chain.lines([100] * 60), "no line"])
    for home in ("Ελιά/00ς", "%CE%95%CE%BB%CE%B9%CE%AC/00%CF%82"):
        (ws.path / "inbox" / home).mkdir(parents=True)
        (ws.path / "inbox" / home / "some.jsonl").write_text(home)
    update_db(ws, now=at + pd.Timedelta(hours=1))
    (taken,) = (ws.path / "prices").rglob("*.parquet")
    assert aside_folder(taken) == ws.inbox("Ελιά", "00ς").relative_to(ws.path / "inbox")
    aside = ws.path / "quarantine" / aside_folder(taken)
    assert {path.parent for path in (ws.path / "quarantine").rglob("*") if path.is_file()} == {aside}
    assert len([*aside.glob("*.rejected")]) == 2 and len([*aside.glob("*.jsonl")]) == 1
    before = ws.path / "quarantine" / "%CE%95%CE%BB%CE%B9%CE%AC" / "00%CF%82" / "20261112T020000Z.jsonl"
    before.parent.mkdir(parents=True)
    before.write_text('{"reason": "an old one"}\n')
    (found,) = (p for p in find_problems(ws, now=at + pd.Timedelta(hours=1)) if "quarantine" in p.kind)
    assert found.company == "Ελιά" and len(found.which) == 4


def test_an_old_file_of_prices_is_known_by_its_text_in_a_folder_of_any_spelling(tmp_path):
    home, at = create_home(tmp_path / "ws"), "20261119T020000Z"
    file = home.path / "prices/company=%CE%94/store=1" / f"{at}.parquet"
    for spelled in ("%CE%94@", "%CE%94", "Δ"):
        text = home.path / "archive" / spelled / "1" / f"{at}.jsonl"
        assert not is_scraped_file_there(home, file)
        text.parent.mkdir(parents=True)
        text.touch()
        assert is_scraped_file_there(home, file)
        text.unlink()


def test_who_types_without_accents_is_understood():
    assert did_you_mean("Patra", ["Ελιά-Thessaloníki", "Ελιά-Pátra-2"]) == "; did you mean Ελιά-Pátra-2?"


@pytest.mark.parametrize(("typed", "words"), [("Thrusday", "did you mean thursday"), ("some day", "or 'none', got")])
def test_a_slip_in_a_weekday_is_told_before_anything_runs(typed, words):
    with pytest.raises(InputError, match=re.escape(words)): BacktestSettings(changeover=typed)
    with pytest.raises(InputError, match="did you mean delegated"): find_agent("delegatd")


@pytest.mark.parametrize(("text", "meant"), [
    ('[companies.Elia]\nchangeover = "Wensday"', "wednesday"), ('cluster_method = "dbscam"', "dbscan"),
    ('backend = "dsk"', "dask"), ('policy = "delegatd"', "delegated")])
def test_a_slip_in_a_word_of_the_settings_is_told_with_what_was_meant(text, meant, tmp_path):
    (file := tmp_path / "scrapeopt.toml").write_text(text)
    with pytest.raises(InputError, match=re.escape(f"; did you mean {meant}?")): read_settings(file)


def test_clusters_are_named_after_where_the_stores_are_now(tmp_path):
    "The first list had lat and lon mixed up, and clusters in Arabia; a town nearby is no reason for another name."
    ws, rng = Workspace.create(tmp_path / "ws"), np.random.default_rng(2)
    near = {"Athens": (37.98, 23.73), "Thessaloniki": (40.64, 22.94)}
    at = np.concatenate([place + rng.normal(0, 0.02, (6, 2)) for place in near.values()])
    greek = pd.DataFrame({"company": "Elia", "store_id": [f"{k:02}" for k in range(12)], "name": "",
                          "lat": at[:, 0], "lon": at[:, 1]})
    ws.import_stores(greek.rename(columns={"lat": "lon", "lon": "lat"}))
    before = ws.cluster()
    ws.import_stores(greek)
    after = ws.stores("Elia")
    assert not set(before["cluster_name"]) & set(after["cluster_name"])
    assert after["cluster"].tolist() == before["cluster"].tolist()  # what was discovered of them stays so
    ws.import_stores(greek.assign(lat=greek["lat"] + 0.3))  # 33 km
    assert ws.stores("Elia")["cluster_name"].tolist() == after["cluster_name"].tolist()


# ---- the past of one's own chain -------------------------------------------------------------------------------------

def test_a_workspace_knows_where_the_stores_of_its_panel_are(scraped, tmp_path):
    panel = tmp_path / "panel.csv"
    days = [f"2026-11-{day}" for day in (20, 21)]
    panel.write_text("store,product,date,price\n" + "".join(
        f"{store},milk,{day},2\n" for store in small_chain.ZONES[W] for day in days))
    table = _makes_world("uniform", panel, scraped.path, 6, 20)(0).stores
    assert table["lat"].notna().all() and set(table["company"]) == {W} and len(table) == 7


def test_what_was_tuned_with_other_places_is_not_taken_for_it(scraped, tmp_path):
    "The name tells the runs in a cache apart."
    panel, places = tmp_path / "panel.csv", tmp_path / "places.csv"
    panel.write_text("store,product,date,price\n" + "".join(f"{s},p,2026-11-{d:02},1.00\n" for s in "ab"
                                                            for d in range(1, 9)))
    places.write_text("store_id,lat,lon\na,-31.9,115.8\nb,-31.8,115.8\n")
    names = {_makes_world("uniform", panel, given, 6, 20).name for given in (None, places)}
    places.write_text("store_id,lat,lon\na,-31.9,115.8\nb,-37.8,144.9\n")
    assert len(names | {_makes_world("uniform", panel, places, 6, 20).name}) == 3


# ---- a machine of one's own ------------------------------------------------------------------------------------------

def test_units_for_the_folder_of_a_user_name_no_user(scraped):
    told = CliRunner().invoke(schedule_app, ["schedule", "systemd", "-w", str(scraped.path), "--command",
                                             "true {store_id} {output}"], catch_exceptions=False)
    lines = told.stdout.splitlines()
    assert sum(line == "[Service]" for line in lines) == sum("it needs: User=" in line for line in lines) == 3
    assert not any(line.startswith("User=") for line in lines)  # 216/GROUP: but for root no user may say so


# ---- somebody who is not looking ------------------------------------------------------------------------------------

@pytest.mark.parametrize(("command", "words"), [("cat", "1 told now"), ("false", "none told now")])
def test_what_could_not_be_told_was_not_told(scraped, command, words):
    for _ in range(3): scraped.record_failures({(W, "0003"): False})
    told = CliRunner().invoke(app, ["notify", "-w", str(scraped.path), "--now", "2026-11-20", "--command", command])
    assert told.exit_code == 2 and told.stdout == f"1 problem needs a person; {words}\n"


# ---- a scraper that broke overnight ----------------------------------------------------------------------------------

@pytest.mark.parametrize("closed", ["0001", "000?"])  # one store, or all of them
def test_a_scraper_that_fails_everywhere_leaves_some_of_the_budget(scraped, tmp_path, closed):
    toml, script = scraped.path / "scrapeopt.toml", tmp_path / "scraper.sh"
    text = toml.read_text().replace("# budget = 40 ", "budget = 9 ")
    toml.write_text(text.replace('policy = "document"', 'policy = "delegated"'))
    own = """'{"product_id": "1", "price": '"${1#000}"'}'"""  # of all stores one page would be refused as such
    script.write_text(f"""case $1 in {closed}) exit 3;; esac\necho {own} > "$2"\n""")
    told = CliRunner().invoke(app, [
        "scrape", "-w", str(scraped.path), "--update", "--company", W, "--retries", "0", "--now", "2026-11-26T03:00Z",
        "--command", f"sh {script} {{store_id}} {{output}}"], catch_exceptions=False)
    again, one = Workspace.open(scraped.path), closed == "0001"
    tried = (again.stores(W)["failures"] > 0).sum()  # what the script writes is refused, too, but it is an answer
    assert told.exit_code in (1, 2) and ("budget is kept for the next run" in told.stderr) is not one
    assert tried == 7 if one else ENOUGH_FAILED <= tried < 7  # of seven stores
    assert one or again.next_round(pd.Timestamp("2026-11-26T03:00Z"), W)  # there is something left of the day


def test_stores_that_have_long_been_silent_do_not_end_a_day(scraped):
    "Their pauses end together, and they are asked first, as nobody has older data."
    stores = ["0001", "0002", "0003", "0005"]
    failed = tuple(ScrapeFailure(ScrapeTask(W, store, "optimization", "outlier", ""), "exit code 3", 1, "")
                   for store in stores)
    for rounds, silent in enumerate((stores, stores[:3], stores[:3])):
        scraped.record_failures(dict.fromkeys([(W, store) for store in silent], False))
        assert _fell_silent(scraped, ScrapeReport((), failed, 0.0)) == (4 if rounds == 0 else 1)
