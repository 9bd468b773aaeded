"""A real Scrapy spider against the twin's shop on this machine: whole crawls land, broken ones are found out."""
import json
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest

pytest.importorskip("scrapy", reason="needs Scrapy: pip install -e '.[scrape]' in scrapeopt's folder")
from scrapeopt.core.errors import InputError
from scrapeopt.discovery import ScrapeTask
from scrapeopt.scrape import scrape_queue
from scrapeopt.commands.twin_server import serving
from scrapeopt.spider import CrawlRules, spider_command
from scrapeopt.twin import Twin, save_twins, scrape_lines

AT = datetime(2026, 11, 2, 1, tzinfo=UTC)
SPIDER = '''
import scrapy


class ShopSpider(scrapy.Spider):
    name = "shop"
    custom_settings = {{"RETRY_TIMES": 0}}

    async def start(self):
        yield scrapy.Request(f"{url}/{{self.company}}/{{self.store_id}}/?at={{self.time}}")

    def parse(self, response):
        for product in response.css(".product"):
            yield {{"product_id": product.attrib["data-id"], "price": product.css(".price::text").get()[1:]}}
        {extra}
        yield from response.follow_all(css="a[rel=next]")
'''


class Folder:
    "What scrape_queue needs of a workspace; its name would confuse a careless feed export."
    def __init__(self, path): self.path = path / "100%(s) perth"
    def record_failures(self, results, now): pass
    def lease(self, stores): return nullcontext(stores)


def crawl(tmp_path, extra="", stores=("C001", "C002"), **twin):
    "Scrape stores of a small twin with a spider; the twin and the report."
    world = Twin(company="Coles", n_products=200, **twin)
    save_twins(tmp_path / "twin", world)
    with serving(tmp_path / "twin", at=AT) as url:
        (tmp_path / "shop_spider.py").write_text(SPIDER.format(url=url, extra=extra))
        tasks = [ScrapeTask("Coles", store, "discovery", "primary", "Perth") for store in stores]
        command = spider_command(f"{tmp_path / 'shop_spider.py'}:ShopSpider", CrawlRules(delay_s=0))
        report = scrape_queue(Folder(tmp_path), tasks, command, retries=0, progress=False)
    return world, report


def test_whole_crawls_land_with_every_product_of_every_page(tmp_path):
    world, report = crawl(tmp_path)
    assert [t.store_id for t in report.done] == ["C001", "C002"], report
    for store in ("C001", "C002"):
        [landed] = Folder(tmp_path).path.glob(f"inbox/Coles/{store}/*.jsonl")
        rows = [json.loads(line) for line in landed.read_text().splitlines()]
        at = datetime.strptime(landed.stem, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        want = [json.loads(line) for line in scrape_lines(world.chain, world.sites[store], at)]
        assert len(want) > 48  # more than a page
        assert {r["product_id"]: r["price"] for r in rows} == {r["product_id"]: r["price"] for r in want}


@pytest.mark.slow
@pytest.mark.parametrize("extra, said", [
    ("yield response.follow('?page=999')", "answers that were an error"),
    ("raise RuntimeError('the page looks different today')", "errors in the log"),
    ("raise scrapy.exceptions.CloseSpider('enough')", "the crawl ended early: enough"),
])
def test_a_crawl_that_is_not_whole_has_failed(tmp_path, extra, said):
    _, report = crawl(tmp_path, extra, stores=["C001"])
    assert [f.reason for f in report.failed] == ["exit code 1"]
    assert said in report.failed[0].detail
    assert not list(Folder(tmp_path).path.glob("inbox/**/*.jsonl"))


def test_a_shop_that_is_out_of_order(tmp_path):
    _, report = crawl(tmp_path, stores=["C001"], fail_rate=1.0)
    assert [f.reason for f in report.failed] == ["exit code 1"]


def test_a_spider_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no file"): spider_command(f"{tmp_path / 'none.py'}:ShopSpider")
