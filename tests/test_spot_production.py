"Spot checks as people run them: the queue says whom to ask for what, a scrape does it, and the state remembers."
import json

import numpy as np
import pandas as pd
import pytest
from small_chain import land
from templates import copy_of
from typed import typed

from scrapeopt.analysis.status import status_rows, store_story
from scrapeopt.discovery import ScrapeTask
from scrapeopt.policies import spot_lots
from scrapeopt.storage.token_store import load_bucket
from scrapeopt.twin import archetype_twin
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace, budget_day

W, DAY = "Woolworths", pd.Timedelta(days=1)
CHAIN = archetype_twin("uniform", 12, 200, seed=1, timezone="UTC")
FIRST, LATE = CHAIN.now, CHAIN.now + 7 * DAY + pd.Timedelta(hours=3)  # when all are scraped, and a week later
SCRAPER = """import json, pathlib, sys
asked, output = pathlib.Path(sys.argv[1]).read_text().split(), pathlib.Path(sys.argv[2])
shelf = json.loads(pathlib.Path(sys.argv[3]).read_text())
output.write_text("".join(json.dumps({"product_id": p, "price": shelf.get(p)}) + "\\n" for p in asked or shelf))
"""


def shelf(store: str) -> dict[str, str]:
    "What a store charges now."
    cents = pd.Series(CHAIN.scrape(store), CHAIN.products.index)
    return {p: f"{c / 100:.2f}" for p, c in cents[cents >= 0].items()}


def lines(store: str, asked=None) -> list[str]:
    "As a scraper writes it: all, or a line for each product that is asked for."
    price = shelf(store)
    return [json.dumps({"product_id": p, "price": price.get(p)}) for p in asked or price]


def new_workspace(folder) -> Workspace:
    "A chain that was scraped once and allows spot checks; a week later one member has been scraped again."
    Workspace.create(folder)
    file = folder / "scrapeopt.toml"
    file.write_text(f'budget = 4\n{file.read_text()}\n[companies."{W}"]\nspot_checks = true\n')
    ws = Workspace.open(folder)
    ws.import_stores(CHAIN.stores.reset_index(names="store_id").assign(name=""))
    ws.cluster(min_samples=1)
    for store in CHAIN.stores.index: land(ws, W, store, FIRST, lines(store))
    update_db(ws, now=LATE)
    CHAIN.advance(7 * DAY)
    land(ws, W, ONE, LATE - pd.Timedelta(hours=1), lines(ONE))
    update_db(ws, now=LATE)
    ws.record_failures({}, LATE)  # from now on the budget counts
    return ws


ONE = str(CHAIN.stores.index[0])


@pytest.fixture
def ws(tmp_path) -> Workspace: return copy_of(new_workspace, tmp_path / "ws")


def with_settings(ws: Workspace, old: str, new: str) -> Workspace:
    "The workspace with other settings."
    file = ws.path / "scrapeopt.toml"
    file.write_text(file.read_text().replace(old, new))
    return Workspace.open(ws.path)


def checks(tasks): return [t for t in tasks if t.kind == "spot_check"]


def tokens(ws: Workspace) -> float:
    with ws.read() as session: return load_bucket(session, ws.settings, budget_day(session, LATE)).tokens


def answer(ws: Workspace, task: ScrapeTask, at: pd.Timestamp) -> None:
    "What the store really charges."
    path = land(ws, W, task.store_id, at, lines(task.store_id, task.products))
    path.rename(path.with_name(path.name.replace(".jsonl", ".spot.jsonl")))


def test_a_queue_asks_for_products_where_the_settings_say_so(ws):
    tasks = ws.next_round(LATE, company=W)
    assert checks(tasks) and all(set(t.products) <= set(CHAIN.products.index) and 0 < t.cost < 1 for t in checks(tasks))
    assert sum(t.cost for t in tasks) <= tokens(ws) + 1e-6 and len({t.store_id for t in tasks}) == len(tasks)
    assert {t.reason for t in tasks} <= {"health_check", "refresh", "outlier", "tie_breaker"}
    assert len(ws.queue(2, company=W, now=LATE)) == 2  # stores, not scrapes
    assert not checks(ws.queue(company=W, now=LATE, policy="document"))
    assert not checks(ws.queue(company=W, now=LATE, mode="discovery"))
    assert not checks(with_settings(ws, "spot_checks = true", "").queue(now=LATE))


def test_a_new_store_is_scraped_before_anybody_is_asked_for_products(ws):
    ws.import_stores(pd.DataFrame([(W, "0008", "Store 0008", *CHAIN.stores[["lat", "lon"]].iloc[0])],
                                  columns=["company", "store_id", "name", "lat", "lon"]))
    tasks = ws.next_round(LATE, company=W)
    assert tasks[0].store_id == "0008" and not checks(tasks)
    ws.record_failures({(W, "0008"): False}, LATE)  # but nobody waits for one that does not answer
    assert checks(ws.next_round(LATE, company=W))


def test_a_store_in_the_works_is_not_asked(ws):
    first = checks(ws.next_round(LATE, company=W))[0]
    with ws.lease({(W, first.store_id)}):
        assert first.store_id not in {t.store_id for t in ws.next_round(LATE, company=W)}


def test_who_does_not_answer_costs_what_was_asked_for_and_rests(ws):
    task = checks(ws.next_round(LATE, company=W))[0]
    before = tokens(ws)
    ws.record_failures({(W, task.store_id): False}, LATE, {(W, task.store_id): task.cost})
    assert before - tokens(ws) == pytest.approx(task.cost)
    assert task.store_id not in {t.store_id for t in ws.next_round(LATE, company=W)}
    answer(ws, task, LATE + pd.Timedelta(minutes=1))  # it is back
    update_db(ws, now=LATE + DAY)
    assert ws.stores(W).set_index("store_id").loc[task.store_id, "failures"] == 0


def test_requests_are_counted_where_the_settings_count_them(ws):
    "A page of thirty products costs one request of the ten that a scrape takes, whatever part of it is asked for."
    more = "requests_per_scrape = 10\nproducts_per_request = 30\nspot_checks = true"
    ws = with_settings(ws, "spot_checks = true", more)
    tasks = checks(ws.next_round(LATE, company=W))
    assert tasks and all(np.isclose(t.cost, -(-len(t.products) // 30) / 10) for t in tasks)
    before = tokens(ws)
    for task in tasks: answer(ws, task, LATE)
    update_db(ws, now=LATE + DAY)
    assert before - tokens(ws) == pytest.approx(sum(t.cost for t in tasks))


@pytest.mark.slow
def test_what_was_asked_is_told(ws, monkeypatch):
    "Some thirty lines by lot, so that certificates of small stores say something."
    monkeypatch.setattr(spot_lots, "LOT_SHARE", 0.15)
    for task in (tasks := checks(ws.next_round(LATE, company=W))): answer(ws, task, LATE)
    update_db(ws, now=LATE + DAY)
    [row] = status_rows(ws, now=LATE.to_pydatetime())
    members = row["certificates"]["members"]
    assert members == len(ws.groups(W).grouped())
    told = [t.store_id for t in tasks if "by lot" in store_story(ws, t.store_id, W)[0].certificate]
    assert row["certificates"]["certified"] == len(told) and told
    assert store_story(ws, ONE, W)[0].certificate == "no certificate"
    shown = typed("-w", ws.path, "status", "--now", f"{LATE:%Y-%m-%d %H:%M}").stdout
    assert f"certificates: {len(told)} of {members} members" in shown
    assert "by lot" in typed("-w", ws.path, "explain", told[0], "--company", W).stdout
    plain = with_settings(ws, "spot_checks = true", "")
    assert store_story(plain, ONE, W)[0].certificate == ""  # nobody asks for one


@pytest.mark.slow
def test_commands_ask_and_scrape(ws, tmp_path):
    now = ("--company", W, "--now", f"{LATE:%Y-%m-%d %H:%M}")
    shown = json.loads(typed("-w", ws.path, "queue", "--json", *now).stdout)
    some = [row for row in shown if row["kind"] == "spot_check"]
    assert some and all(row["products"] for row in some)
    table = typed("-w", ws.path, "queue", *now).stdout
    assert all(f"{len(row['products'])} product" in table for row in some)
    for store in CHAIN.stores.index: (tmp_path / f"{store}.json").write_text(json.dumps(shelf(store)))
    (tmp_path / "my.py").write_text(SCRAPER)
    able = f"python {tmp_path}/my.py {{products_file}} {{output}} {tmp_path}/{{store_id}}.json"
    for dry in ([], ["--dry-run"]):
        refused = typed("-w", ws.path, "scrape", *dry, "--command", "python my.py {store_id} {output}", *now)
        assert refused.returncode == 2 and "the command has no {products_file}" in refused.stderr
        assert "spot_checks = false" in refused.stderr and "Traceback" not in refused.stderr
    planned = typed("-w", ws.path, "scrape", "--dry-run", "--command", able, *now)
    assert planned.returncode == 0 and "products" in planned.stdout
    done = typed("-w", ws.path, "scrape", "--command", able, "--update", *now)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(ws.events(W).query("kind == 'SpotChecked'")) >= len(some)
