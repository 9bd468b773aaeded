"""Spiders against the twin's shop: nothing is lost in silence, nobody is asked too fast, a run may be killed."""
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import pandas as pd
import pytest
from effort import drilled
from templates import copied

pytest.importorskip("scrapy", reason="needs Scrapy: pip install -e '.[scrape]' in scrapeopt's folder")
from scrapeopt.commands.example_spiders import API_SPIDER, SHELF_SPIDER
from scrapeopt.commands.twin_server import ShopRules, read_visits, serving
from scrapeopt.core.errors import InputError
from scrapeopt.discovery import ScrapeTask
from scrapeopt.scrape import scrape_queue
from scrapeopt.simulation.shop_limits import RateLimit
from scrapeopt.simulation.shop_visits import breaches
from scrapeopt.spider import CrawlRules, spider_command
from scrapeopt.twin import Twin, save_twins, scrape_lines
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

AT = datetime(2026, 11, 2, 4, tzinfo=UTC)
IMPATIENT = CrawlRules(delay_s=0, patience_s=4)
SLACK_S = 0.005  # of the clock; what a machine delays comes on top of a pause, not off it


def chain(tmp_path, n, products=200):
    "A small chain whose shop can be opened, and the two example spiders beside it."
    stores = pd.DataFrame({"store_id": [f"C{k:03}" for k in range(1, n + 1)], "name": "",
                           "lat": [-31.9 - k / 500 for k in range(n)], "lon": 115.86})
    twin = Twin(stores, company="Coles", n_products=products)
    save_twins(tmp_path / "twin", twin)
    for name, text in (("shelf", SHELF_SPIDER), ("api", API_SPIDER)): (tmp_path / f"{name}.py").write_text(text)
    return twin


def workspace(path, twin):
    "A workspace with the stores of a chain, in one cluster."
    ws = Workspace.create(path)
    ws.import_stores(twin.stores.reset_index().assign(company="Coles")[["company", "store_id", "name", "lat", "lon"]])
    ws.cluster(min_samples=1)
    return ws


def tasks(twin, **more):
    return [ScrapeTask("Coles", store, "discovery", "primary", "Perth", **more) for store in twin.stores.index]


def sold(twin, store):
    "What a store sells: product -> price."
    lines = map(json.loads, scrape_lines(twin.chain, twin.sites[store], AT))
    return {line["product_id"]: float(line["price"]) for line in lines}


def landed(ws, ending="jsonl"):
    "What lies in the inbox: store -> its files' prices by product."
    found = {}
    for path in sorted((ws.path / "inbox").rglob(f"*Z.{ending}")):
        rows = [json.loads(line) for line in path.read_text().split("\n") if line]
        found.setdefault(path.parent.name, []).append(
            {row["product_id"]: row["price"] and float(row["price"]) for row in rows})
    return found


def crawl_with_faults(tmp_path, n, products, rules, crawl_rules, workers):
    "Crawl all stores of a shop with faults: every store is whole, partial, or failed with its reason."
    twin = chain(tmp_path, n, products)
    ws, log = workspace(tmp_path / "ws", twin), tmp_path / "visits.jsonl"
    with serving(tmp_path / "twin", at=AT, rules=rules, log=log) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP", url)
        report = scrape_queue(ws, tasks(twin), spider_command(f"{tmp_path / 'shelf.py'}:ShelfSpider", crawl_rules),
                              workers=workers, pause_s=0.1, progress=False)
    assert len(report.done) + len(report.failed) == n
    assert all(f.reason and (f.detail or f.reason != "exit code 1") for f in report.failed), report
    files = landed(ws)
    assert sorted(files) == [t.store_id for t in report.done]
    for store, [prices] in files.items(): assert prices == sold(twin, store), f"{store} landed, and is not whole"
    assert report.rows == sum(len(prices) for [prices] in files.values())
    taken = update_db(ws)
    assert (taken.files, taken.quarantined, taken.partial) == (len(files), 0, 0)
    return report, read_visits(log)


def faults_seen(visits): return {visit.fault for visit in visits if visit.fault}


@pytest.mark.slow
def test_with_faults_no_store_is_lost_in_silence_and_no_rule_is_broken(tmp_path):
    "The pause that robots.txt asks for is longer than the settings'; now and then the shop says 429."
    rules = ShopRules(crawl_delay=0.08, limit=RateLimit(rate=8, burst=2), seed=3,
                      faults={"500": .04, "truncated": .03, "blocked": .03})
    report, visits = crawl_with_faults(tmp_path, 4, 150, rules, CrawlRules(delay_s=0.03, patience_s=30), workers=3)
    assert faults_seen(visits) >= {"500", "blocked"} and any(v.status == 429 for v in visits)
    assert not [b.words for b in breaches(visits, 0.03, SLACK_S)]
    assert not [b.words for b in breaches(visits[len(visits) // 4:], 0.08, SLACK_S)]  # robots.txt is known by then
    assert report.requests >= len(visits) * 0.9 and len(report.done) >= 3


@pytest.mark.drill
@pytest.mark.timeout(3000)
def test_a_hundred_stores_with_faults_on_a_tenth_of_the_requests(tmp_path):
    rules = ShopRules(limit=RateLimit(rate=3, burst=10), slow=4.0, seed=1, faults={
        "500": .03, "503": .01, "slow": .01, "truncated": .02, "blocked": .02, "markup": .01})
    report, visits = crawl_with_faults(tmp_path, 100, 80, rules, CrawlRules(delay_s=0.05, patience_s=60), workers=8)
    assert faults_seen(visits) == {"500", "503", "slow", "truncated", "blocked", "markup"}
    assert .05 < sum(bool(v.fault) for v in visits) / len(visits) < .15 and any(v.status == 429 for v in visits)
    assert not [b.words for b in breaches(visits, 0.05, SLACK_S)]
    assert len(report.done) >= 90, report


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shelf.py:ShelfSpider", drilled("api.py:ApiSpider")])
def test_a_shop_that_blocks_is_told_from_a_shop_that_sells_nothing(tmp_path, monkeypatch, name):
    twin = chain(tmp_path, 1)
    ws = workspace(tmp_path / "ws", twin)
    with serving(tmp_path / "twin", at=AT, rules=ShopRules(faults={"blocked": 1.0})) as url:
        monkeypatch.setenv("SHOP", url)
        report = scrape_queue(ws, tasks(twin), spider_command(f"{tmp_path}/{name}", IMPATIENT), retries=0,
                              progress=False)
        assert "the shop blocks us: a page says 'Pardon our interruption'" in report.failed[0].detail
    assert not landed(ws)


@pytest.mark.slow
def test_a_shop_that_asks_for_more_patience_than_there_is_hears_no_second_request(tmp_path, monkeypatch):
    twin = chain(tmp_path, 1)
    ws, log = workspace(tmp_path / "ws", twin), tmp_path / "visits.jsonl"
    rules = ShopRules(limit=RateLimit(rate=1, burst=1, pause=3600))
    with serving(tmp_path / "twin", at=AT, rules=rules, log=log) as url:
        monkeypatch.setenv("SHOP", url)
        report = scrape_queue(ws, tasks(twin), spider_command(f"{tmp_path / 'shelf.py'}:ShelfSpider", IMPATIENT),
                              retries=2, pause_s=0.1, progress=False)
    assert "wants to be left alone for 3," in report.failed[0].detail and "Retry-After" in report.failed[0].detail
    asked = [v.status for v in read_visits(log) if v.path != "/robots.txt"]
    assert asked == [200, 429]


def test_one_page_for_all_stores_is_found_out_by_the_page(tmp_path, monkeypatch):
    "The example spiders say which store the page named; only the first store's page is its own."
    twin = chain(tmp_path, 3)
    ws = workspace(tmp_path / "ws", twin)
    with serving(tmp_path / "twin", at=AT, rules=ShopRules(faults={"same_store": 1.0})) as url:
        monkeypatch.setenv("SHOP", url)
        report = scrape_queue(ws, tasks(twin), spider_command(f"{tmp_path / 'api.py'}:ApiSpider", IMPATIENT), retries=0,
                              progress=False)
    said = [f"wrote the products of store C001, not of {store}" for store in ("C002", "C003")]
    assert [f.reason for f in report.failed] == said
    assert list(landed(ws)) == ["C001"]


def shelf(prices): return "".join(json.dumps({"product_id": f"p{k}", "price": p}) + "\n" for k, p in enumerate(prices))


def scraper(tmp_path, body):
    "A scraper in Python that finds `store` and `out` ready."
    (tmp_path / "scraper.py").write_text(f"import json, pathlib, sys, time\nstore, out = sys.argv[1:3]\n"
                                         f"out, here = pathlib.Path(out), pathlib.Path({str(tmp_path)!r})\n{body}\n")
    return f"{sys.executable} {tmp_path}/scraper.py {{store_id}} {{output}}"


def known_stores(folder):
    "The folder of `known`."
    folder.mkdir()
    twin = chain(folder, 3)
    ws = workspace(folder / "ws", twin)
    for store, factor in (("C001", 1), ("C002", 1), ("C003", 2)): (folder / store).write_text(
        shelf(factor + k for k in range(300)))
    assert len(scrape_queue(ws, tasks(twin), scraper(folder, "out.write_text((here / store).read_text())"),
                            progress=False).done) == 3
    update_db(ws)
    ws.engine.dispose()


@pytest.fixture
def known(tmp_path):
    "A workspace in which C001 and C002 price alike, and C003 differs; each has 300 products."
    return Workspace.open(copied(known_stores, tmp_path) / "ws")


def test_the_same_page_for_stores_that_differed_is_believed_of_none(known, tmp_path):
    command = scraper(tmp_path, "out.write_text((here / 'C001').read_text())")
    report = scrape_queue(known, tasks_of("C001", "C002"), command, retries=0, progress=False)
    assert len(report.done) == 2  # they were alike before
    for path in known.path.glob("inbox/Coles/*/*"): path.unlink()
    report = scrape_queue(known, tasks_of("C001", "C002", "C003"), command, retries=0, workers=1, progress=False)
    assert [f.task.store_id for f in report.failed] == ["C001", "C002", "C003"] and not landed(known)
    assert {f.reason for f in report.failed} == {
        "wrote the same as store C003, from which it differed before: does the shop send all stores one page?",
        "wrote the same as store C001, from which it differed before: does the shop send all stores one page?"}
    assert len(list(known.path.glob("quarantine/Coles/*/*.rejected"))) == 2


def tasks_of(*stores): return [ScrapeTask("Coles", s, "optimization", "refresh", "Perth") for s in stores]


def test_a_handful_where_there_were_many_is_no_scrape_and_a_drop_is_said(known, tmp_path):
    body = "n = {'C001': 2, 'C002': 150, 'C003': 299}[store]\n" \
           "out.write_text(''.join((here / store).open().readlines()[:n]))"
    report = scrape_queue(known, tasks_of("C001", "C002", "C003"), scraper(tmp_path, body), retries=0, progress=False)
    assert [(f.task.store_id, f.reason) for f in report.failed] == [("C001", (
        "wrote 2 products where 300 are usual: does the shop block the scraper, or look different today?"))]
    assert [(o.task.store_id, o.why) for o in report.odd] == [
        ("C002", "150 products where 300 are usual: it will count as partial")]
    assert "C002: 150 products where 300 are usual" in repr(report)
    assert update_db(known).partial == 1


@pytest.mark.parametrize(("body", "reason"), [
    ("raise RuntimeError('the page looks different today')", "exit code 1"),
    ("out.write_text('<html>busy</html>\\n' * 9)",
     "wrote no product: line 1: JSON is malformed: invalid character (byte 0), in <html>busy</html>"),
    ("pass", "wrote nothing"),
    ("out.write_text('\\n\\n')", "wrote nothing"),
    ("out.write_text(json.dumps({'product_id': '1', 'price': 1, 'store_id': 'C003'}))",
     "wrote the products of store C003, not of C001"),
    ("out.write_text((here / store).read_text())\ntime.sleep(60)", "timeout after 1.5 s"),
    ("out.write_text(json.dumps({'product_id': '1', 'price': None}))", (
        "wrote 0 products where 300 are usual: does the shop block the scraper, or look different today?"))])
def test_a_bad_scraper_is_reported_by_store_and_reason_and_costs_the_others_nothing(known, tmp_path, body, reason):
    indented = "".join(f"    {line}\n" for line in body.split("\n"))
    command = scraper(tmp_path, f"if store == 'C001':\n{indented}else: out.write_text((here / store).read_text())")
    report = scrape_queue(known, tasks_of("C001", "C002", "C003"), command, retries=0, timeout_s=1.5, progress=False)
    assert [(f.task.store_id, f.reason) for f in report.failed] == [("C001", reason)]
    assert [t.store_id for t in report.done] == ["C002", "C003"] and sorted(landed(known)) == ["C002", "C003"]
    assert not list(known.path.glob("inbox/**/*.part"))


def test_time_in_line_does_not_count_but_does_not_last_for_ever(known, tmp_path):
    body = "progress = pathlib.Path(sys.argv[3])\n" \
           "progress.write_text(json.dumps({'waited_s': 1e6, 'requests': 29}))\ntime.sleep(SLEEP)\n" \
           "out.write_text((here / store).read_text())"
    command = scraper(tmp_path, body.replace("SLEEP", "2.5")) + " {progress_file}"
    report = scrape_queue(known, tasks_of("C001"), command, retries=0, timeout_s=1.5, progress=False)
    assert len(report.done) == 1 and report.requests == 29
    command = scraper(tmp_path, body.replace("SLEEP", "60")) + " {progress_file}"
    report = scrape_queue(known, tasks_of("C001"), command, retries=0, timeout_s=.2, progress=False)
    assert [f.reason for f in report.failed] == ["timeout after 0.2 s"]


ODD_IDS = ("../../etc/passwd", "a;rm -rf ~", "$(touch x)", "-rf", "p,1", "{output}", "%s", "ä\u2028b", "'\"")


@pytest.mark.parametrize("name", ["shelf.py:ShelfSpider", drilled("api.py:ApiSpider")])
def test_a_spot_check_has_a_line_for_each_product_and_no_id_is_more_than_an_id(tmp_path, monkeypatch, name):
    twin = chain(tmp_path, 1)
    ws, here = workspace(tmp_path / "ws", twin), sorted(path.name for path in tmp_path.iterdir())
    prices = sold(twin, "C001")
    asked = (*list(prices)[:7], *(i for i in ODD_IDS if "," not in i or "shelf" in name))
    with serving(tmp_path / "twin", at=AT) as url:
        monkeypatch.setenv("SHOP", url)
        command = spider_command(f"{tmp_path}/{name}", IMPATIENT)
        report = scrape_queue(ws, tasks(twin, kind="spot_check", products=asked), command, retries=0, progress=False)
    assert len(report.done) == 1, report
    [found] = landed(ws, "spot.jsonl")["C001"]
    assert list(found) == list(asked) and not landed(ws)
    assert found == {product: prices.get(product) for product in asked}
    assert sorted(set(here) | {"__pycache__"}) == sorted({path.name for path in tmp_path.iterdir()} | {"__pycache__"})


def test_what_cannot_be_spot_checked_says_so(known, tmp_path):
    check = [ScrapeTask("Coles", "C001", "optimization", "health_check", "Perth", kind="spot_check", products=("p1",))]
    with pytest.raises(InputError, match=r"1 store of the queue .* no \{products_file\}"):
        scrape_queue(known, check, "true {output}", progress=False)
    (tmp_path / "plain.py").write_text("import scrapy\nclass Plain(scrapy.Spider):\n    name = 'plain'\n")
    report = scrape_queue(known, check, spider_command(f"{tmp_path / 'plain.py'}:Plain"), retries=0, progress=False)
    assert "spider Plain does not know products" in report.failed[0].detail
    odd = [ScrapeTask("Coles", "C001", "optimization", "health_check", "Perth", None, "spot_check", ("a\nb",))]
    report = scrape_queue(known, odd, "true {output} {products_file}", retries=0, progress=False)
    assert [(f.reason, f.detail) for f in report.failed] == [("cannot be run", "a product id has a line break")]


@pytest.mark.slow
def test_a_run_that_is_killed_ends_as_one_that_is_not_and_scrapes_no_store_twice(tmp_path):
    "It ends with what the shop sells, as a run does that nobody kills."
    twin = chain(tmp_path, 3, 120)
    log, spider = tmp_path / "visits.jsonl", f"{tmp_path / 'shelf.py'}:ShelfSpider"
    words = [sys.executable, "-m", "scrapeopt.cli", "scrape", "-n", "3", "--json", "--spider", spider, "-w"]
    ws = workspace(tmp_path / "ws", twin)
    with serving(tmp_path / "twin", at=AT, log=log) as url:
        env = os.environ | {"SHOP": url, "SCRAPEOPT_DELAY_S": "0.05", "SCRAPEOPT_WORKERS": "2"}
        first = subprocess.Popen([*words, str(ws.path)], env=env, stdout=subprocess.PIPE)
        until = time.monotonic() + 60
        while not landed(ws) and time.monotonic() < until: time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        done, killed_at = set(landed(ws)), datetime.now(UTC)
        time.sleep(2)  # a spider ends at its next request, since its run is gone
        late = [v.path for v in read_visits(log) if (v.time - killed_at).total_seconds() > 1]
        second = subprocess.run([*words, str(ws.path)], env=env, capture_output=True, text=True, check=True)
        asked_again = {v.store for v in read_visits(log) if v.time > killed_at and v.path != "/robots.txt"} & done
    assert 1 <= len(done) < 3 and not late
    told = json.loads(second.stdout)
    assert {t["store_id"] for t in told["resumed"]} == done and len(told["scraped"]) == 3 - len(done)
    assert not asked_again
    assert landed(ws) == {str(store): [sold(twin, store)] for store in twin.stores.index}
    parts = {path.parent.name for path in ws.path.glob("inbox/**/*.part")}
    assert parts <= done  # of a store that had just landed; they go with its next scrape
    taken = update_db(ws)
    assert (taken.files, taken.partial, taken.quarantined, taken.problems) == (3, 0, 0, ())
