"""The twin's shop over a real connection: every odd request gets an answer, every address does as it says."""
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import browser
import pandas as pd
import pytest
from effort import drilled

from scrapeopt.commands.twin_server import ShopRules, read_visits, serving
from scrapeopt.core.errors import InputError
from scrapeopt.simulation.shop_limits import RateLimit
from scrapeopt.simulation.shop_visits import breaches
from scrapeopt.twin import Twin, save_twins, scrape_lines

AT = datetime(2026, 11, 2, 1, tzinfo=UTC)
STORES = pd.DataFrame({"store_id": ["C001", "C002", "a b&c", "../../etc"],
                       "name": ["Perth", "Fremantle", "Odd <1>", "Dots"],
                       "lat": [-31.95, -32.05, -31.9, -31.8], "lon": [115.86, 115.75, 115.8, 115.7]})


@pytest.fixture(scope="module")
def twin(): return Twin(STORES, company="Coles", n_products=150)


@pytest.fixture(scope="module")
def folder(twin, tmp_path_factory): return save_twins(tmp_path_factory.mktemp("twin"), twin)


@pytest.fixture(scope="module")
def port(folder):
    with serving(folder, at=AT) as url: yield port_of(url)


def port_of(url): return int(url.rpartition(":")[2])


def get(port, target, method="GET", body=None, **headers):
    "Status, headers and body of an answer; a body that is cut off is an `IncompleteRead`."
    visit = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        visit.request(method, target, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = visit.getresponse()
        return answer.status, answer.headers, answer.read()
    finally: visit.close()


def said(port, raw, leaves):
    "What is answered to these bytes, at least its headers; a client may have said all and close its half."
    with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
        wire.sendall(raw)
        if leaves: wire.shutdown(socket.SHUT_WR)
        answer = b""
        while b"\r\n\r\n" not in answer and (more := wire.recv(65536)): answer += more
        return answer


# ---- odd requests

HOST = b"\r\nHost: localhost\r\n"
ODD = {
    "HEAD": (b"HEAD /Coles/ HTTP/1.1" + HOST, 200),
    "POST": (b"POST /Coles/ HTTP/1.1" + HOST + b"Content-Length: 2\r\n\r\nab", 405),
    "POST without a body": (b"POST /Coles/ HTTP/1.1" + HOST, 405), "PUT": (b"PUT / HTTP/1.1" + HOST, 405),
    "DELETE": (b"DELETE /Coles/C001/ HTTP/1.1" + HOST, 405), "TRACE": (b"TRACE / HTTP/1.1" + HOST, 405),
    "CONNECT": (b"CONNECT shop.example:443 HTTP/1.1" + HOST, 405), "OPTIONS": (b"OPTIONS / HTTP/1.1" + HOST, 204),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1" + HOST, 204), "unknown method": (b"BREW /tea HTTP/1.1" + HOST, 501),
    "one word": (b"HELLO\r\n", 400), "no version": (b"GET /\r\n", 200), "HTTP/9": (b"GET / HTTP/9.9" + HOST, 505),
    "small letters": (b"get / http/1.1" + HOST, 400), "HTTP/1.0": (b"GET / HTTP/1.0\r\n", 200),
    "nothing": (b"\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n", 400), "two hosts": (b"GET / HTTP/1.1" + HOST + b"Host: 127.0.0.1\r\n", 400),
    "another's host": (b"GET / HTTP/1.1\r\nHost: shop.example\r\n", 403),
    "another's address": (b"GET http://shop.example/Coles/ HTTP/1.1" + HOST, 403),
    "a whole address": (b"GET http://localhost/Coles/ HTTP/1.1\r\nHost: localhost\r\n", 200),
    "header without a colon": (b"GET / HTTP/1.1" + HOST + b"odd\r\n", 200),
    "odd cookie": (b"GET / HTTP/1.1" + HOST + b"Cookie: ;;=;a\r\n", 200),
    "negative length": (b"POST / HTTP/1.1" + HOST + b"Content-Length: -1\r\n", 400),
    "endless length": (b"POST / HTTP/1.1" + HOST + b"Content-Length: 99999999999\r\n", 400),
    "long path": (b"GET /" + b"a" * 9_000 + b" HTTP/1.1" + HOST, 414),
    "endless path": (b"GET /" + b"a" * 200_000 + b" HTTP/1.1" + HOST, 414),
    "many segments": (b"GET " + b"/a" * 3_000 + b" HTTP/1.1" + HOST, 404), "NUL": (b"GET /%00 HTTP/1.1" + HOST, 404),
    "NUL in a store": (b"GET /Coles/C001%00/ HTTP/1.1" + HOST, 404),
    "no UTF-8": (b"GET /Coles/%ff%fe HTTP/1.1" + HOST, 404),
    "raw bytes": (b"GET /\xff\xfe HTTP/1.1" + HOST, 404), "half a percent": (b"GET /Coles/% HTTP/1.1" + HOST, 404),
    "long header": (b"GET / HTTP/1.1" + HOST + b"X: " + b"a" * 70_000 + b"\r\n", 431),
    "many headers": (b"GET / HTTP/1.1" + HOST + b"X: a\r\n" * 200, 431), "https": (b"\x16\x03\x01\x02\x00\x01", 400),
    "chunks": (b"POST / HTTP/1.1" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1" + HOST + b"Content-Length: 2, 2\r\n\r\nab", 400),
    "a range": (b"GET /Coles/ HTTP/1.1" + HOST + b"Range: bytes=0-1\r\n", 200),
    "another protocol": (b"GET / HTTP/1.1" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n", 200),
    "odd ETags": (b"GET / HTTP/1.1" + HOST + b"If-None-Match: ,,\"\x00\",W/\r\n", 200),
    "climbing": (b"GET /Coles/../../etc/passwd HTTP/1.1" + HOST, 404), "brackets": (b"GET //[ HTTP/1.1" + HOST, 404),
}


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_request_gets_an_answer(odd, leaves, port):
    raw, status = ODD[odd]
    answer = said(port, raw if b"\r\n\r\n" in raw else raw + b"\r\n", leaves)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert get(port, "/")[0] == 200  # and the shop goes on


@pytest.mark.parametrize("query, status", {
    "page=": 404, "page=0": 404, "page=-1": 404, "page=x": 404, "page=%C2%B2": 404, "page=%FF": 404, "page=999": 404,
    "page=" + "9" * 5000: 404, "page=1&page=x": 200, "at=": 400, "at=noon": 400, "at=00010101T000000Z": 400,
    "at=99991231T235959Z": 400, "at=20261102T010000Z": 200, "store=nowhere": 200, "&&=&": 200, "=": 200, ";": 200,
    "%00=%00": 200,
}.items())
def test_odd_query_values_get_an_answer(query, status, port):
    assert get(port, f"/Coles/C001/?{query}")[0] == status


@pytest.mark.parametrize("target, status", {
    "products": 400, "products?store=nowhere": 404, "products?store=": 400, "products?store=C001&page_size=0": 400,
    "products?store=C001&page_size=many": 400, "products?store=C001&page=99": 404,
    "products?store=C001&category=pets": 404,
    "products?store=C001&ids=": 200, "products?store=C001&ids=%00": 200, "products?store=C001&ids=" + "a," * 101: 400,
    "products?store=C001&q=nothing+at+all": 200, "products/none?store=C001": 404, "products/C100001%00?store=C001": 404,
    "nothing": 404, "": 404, "stores/1": 404, "categories": 400,
}.items())
def test_the_api_says_what_is_wrong_in_json(target, status, port):
    code, headers, body = get(port, f"/Coles/api/{target}")
    assert (code, headers["Content-Type"]) == (status, "application/json")
    assert status == 200 or json.loads(body)["error"]


def test_a_connection_stays_open_for_many_requests(port):
    visit = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for target in ("/", "/Coles/", "/nowhere/", "/robots.txt", "/Coles/api/stores"):
        visit.request("GET", target)
        answer = visit.getresponse()
        assert (answer.read() != b"", answer.version, answer.will_close) == (True, 11, False)
    visit.close()


def test_a_body_that_never_comes_is_not_waited_for_in_silence(port, monkeypatch):
    monkeypatch.setattr("scrapeopt.commands.twin_server._Visit.timeout", 0.2)
    half = b"POST /Coles/store HTTP/1.1" + HOST + b"Content-Length: 9\r\n\r\nid"
    assert said(port, half, leaves=False).startswith(b"HTTP/1.1 408 ")


# ---- what is sold, by every door

def sold_in(twin, store):
    "What a store sells, by product."
    return {r["product_id"]: r for r in map(json.loads, scrape_lines(twin.chain, twin.sites[store], AT))}


def from_html(port, target, **headers):
    "What a spider gathers that follows the links to the next page."
    found = {}
    while target:
        page = get(port, target, **headers)[2].decode()
        for tile in re.findall(r'<li class="product".*?</li>', page):
            words = {key: re.search(rf'class="{key}"[^>]*>(.*?)<', tile)[1] for key in ("name", "category", "price")}
            found[re.search(r'data-id="(.*?)"', tile)[1]] = {key: unescape(word) for key, word in words.items()}
        target = unescape((re.findall(r'rel="next" href="(.*?)"', page) or [""])[0])
    return found


def from_api(port, query="", **headers):
    "What a client of the API gathers, 20 products a time."
    found, page, pages = {}, 0, 1
    while (page := page + 1) <= pages:
        record = json.loads(get(port, f"/Coles/api/products?page={page}&page_size=20{query}", **headers)[2])
        pages, found = record["pages"], found | {p["product_id"]: p for p in record["products"]}
    assert len(found) == record["total"]
    return found


@pytest.mark.parametrize("store, path", [("C001", "C001"), ("a b&c", "a%20b%26c"), ("../../etc", "..%2F..%2Fetc")])
def test_every_way_to_a_store_sells_the_same(store, path, twin, port):
    want = sold_in(twin, store)
    plain = {i: (r["name"], r["category"], f"${r['price']}") for i, r in want.items()}
    ways = {f"/Coles/{path}/": "", f"/Coles/search?q=&store={path}": "", "/Coles/search?q=": f"store={path}"}
    for target, cookie in ways.items():
        found = from_html(port, target, Cookie=cookie)
        assert {i: (p["name"], p["category"], p["price"]) for i, p in found.items()} == plain
    for query, cookie in ((f"&store={path}", ""), ("", f"store={path}")):
        found = from_api(port, query, Cookie=cookie)
        assert {i: (p["name"], p["category"], f"{p['price']:.2f}") for i, p in found.items()} == \
            {i: (r["name"], r["category"], r["price"]) for i, r in want.items()}
    lines = get(port, f"/Coles/{path}.jsonl")[2].decode().splitlines()
    assert lines == scrape_lines(twin.chain, twin.sites[store], AT)


def test_categories_together_are_the_store(twin, port):
    page = get(port, "/Coles/C002/browse/")[2].decode()
    found = {}
    for target in re.findall(r'href="(/Coles/C002/browse/[^"]+)"', page): found |= from_html(port, target)
    assert found.keys() == sold_in(twin, "C002").keys()
    record = json.loads(get(port, "/Coles/C002/api/categories")[2])
    assert sum(c["total"] for c in record["categories"]) == len(found)


def test_a_product_says_the_same_everywhere(twin, port):
    for product_id, want in list(sold_in(twin, "C001").items())[:10]:
        record = json.loads(get(port, f"/Coles/api/products/{product_id}?store=C001")[2])
        page = get(port, f"/Coles/C001/product/{product_id}")[2].decode()
        facts = json.loads(re.search(r'ld\+json">(.*?)</script>', page)[1])
        assert (facts["sku"], facts["name"], facts["category"], facts["offers"]["price"]) == \
            (product_id, want["name"], want["category"], want["price"]) == \
            (record["product_id"], record["name"], record["category"], f"{record['price']:.2f}")
        assert record["unit"] in page and record["unit_price"] in page and want["name"] in page


def test_some_products_are_asked_for_by_id(twin, port):
    here, chain = sold_in(twin, "C001"), twin.chain.lines.ids.tolist()
    missing = next(i for i in chain if i not in here)
    record = json.loads(get(port, f"/Coles/C001/api/products?ids={missing},{min(here)},none")[2])
    assert [p["product_id"] for p in record["products"]] == [min(here)] and record["not_sold"] == [missing, "none"]


def test_a_form_remembers_the_store(twin, port):
    status, headers, _ = get(port, "/Coles/store", "POST", "id=..%2F..%2Fetc")
    cookie = headers["Set-Cookie"].partition(";")[0]
    assert (status, headers["Location"]) == (303, "/Coles/browse/") and "Path=/Coles/" in headers["Set-Cookie"]
    assert b'data-store="../../etc"' in get(port, headers["Location"], Cookie=cookie)[2]
    assert get(port, "/Coles/store", "POST", "id=nowhere")[0] == 404
    assert get(port, "/Coles/browse/")[1]["Location"] == "/Coles/"


def test_what_has_not_changed_is_not_sent_again(port):
    for target in ("/Coles/C001/", "/Coles/api/products?store=C001", "/Coles/C001.jsonl", "/robots.txt"):
        status, headers, body = get(port, target)
        again = get(port, target, If_None_Match=headers["ETag"])
        assert (status, again[0], again[2], again[1]["ETag"]) == (200, 304, b"", headers["ETag"]) and body
        other = get(port, f"{target}{'&' if '?' in target else '?'}at=20261109T010000Z", If_None_Match=headers["ETag"])
        assert target == "/robots.txt" or other[0] == 200
    length = get(port, "/Coles/C001/", "HEAD")
    assert (length[2], length[1]["Content-Length"]) == (b"", str(len(get(port, "/Coles/C001/")[2])))


# ---- faults, limits, and the log

@contextmanager
def shop(folder, tmp_path, **rules):
    "A shop with a log: its port, and what tells the log so far."
    with serving(folder, at=AT, rules=ShopRules(**rules), log=tmp_path / "visits.jsonl") as url:
        yield port_of(url), lambda: read_visits(tmp_path / "visits.jsonl")


@pytest.mark.parametrize("fault, status, holds", [
    ("500", 500, b"Error 500"), ("502", 502, b"Error 502"), ("503", 503, b""), ("504", 504, b""),
    ("blocked", 200, b"you are a robot"),
    ("markup", 200, b'class="tile"'), ("slow", 200, b'class="product"'), ("same_store", 200, b'data-store="C001"'),
])
def test_a_fault_befalls_and_is_written_down(fault, status, holds, folder, tmp_path):
    with shop(folder, tmp_path, faults={fault: 1.0}, slow=0.01) as (port, log):
        code, _, body = get(port, "/Coles/C002/")
        assert code == status and holds in body and (fault in ("slow", "same_store")) == (b'class="product"' in body)
        assert get(port, "/robots.txt")[0] == 200 and get(port, "/nowhere/")[0] == 404
        assert [(v.path, v.status, v.fault) for v in log()] == \
            [("/Coles/C002/", status, fault), ("/robots.txt", 200, ""), ("/nowhere/", 404, "")]


def test_a_torn_page_is_seen_to_be_torn(folder, tmp_path):
    with shop(folder, tmp_path, faults={"truncated": 1.0}) as (port, log):
        for target in ("/Coles/C001/", "/Coles/api/products?store=C001", "/Coles/C001.jsonl"):
            with pytest.raises(http.client.IncompleteRead) as torn: get(port, target)
            assert 0 < len(torn.value.partial) <= torn.value.expected + 1
            assert get(port, target, "HEAD")[0] == 200
        assert {v.fault for v in log()} == {"truncated"}


def test_a_slow_answer_holds_up_nobody_and_is_given_up_at_the_end(folder, tmp_path):
    with shop(folder, tmp_path, faults={"slow": 1.0}, slow=600) as (port, log):
        waiting = socket.create_connection(("127.0.0.1", port), timeout=20)
        waiting.sendall(b"GET /Coles/C001/ HTTP/1.1" + HOST + b"\r\n")
        assert get(port, "/nowhere/")[0] == 404
        while not any(v.fault == "slow" for v in log()): time.sleep(0.01)
    assert waiting.recv(99) == b""  # closed without an answer
    waiting.close()


def test_a_closed_shop_answers_nobody_who_is_still_inside(folder):
    with serving(folder, at=AT) as url:
        inside = http.client.HTTPConnection("127.0.0.1", port_of(url), timeout=20)
        inside.request("GET", "/")
        inside.getresponse().read()
        wire = inside.sock
    assert wire.recv(99) == b""
    inside.close()
    with pytest.raises(ConnectionRefusedError): get(port_of(url), "/")


def test_faults_are_the_same_in_every_order_and_a_retry_draws_anew(folder, tmp_path):
    targets, runs = [f"/Coles/{s}/?page={p}" for s in ("C001", "C002") for p in (1, 2)] * 5, []
    for name, order in (("one", targets), ("two", sorted(targets))):
        (tmp_path / name).mkdir()
        with shop(folder, tmp_path / name, faults={"500": 0.3, "blocked": 0.2}, seed=3) as (port, log):
            for target in order: get(port, f"{target}&at=2026110{len(runs) + 1}T010000Z")
            runs.append({t: [v.fault for v in log() if v.path.startswith(t)] for t in set(targets)})
    assert runs[0] == runs[1]
    assert any(len(set(faults)) > 1 for faults in runs[0].values())


def test_who_is_too_fast_is_told_when_to_come_back(folder, tmp_path):
    with shop(folder, tmp_path, limit=RateLimit(rate=0.001, burst=2, pause=1)) as (port, log):
        targets = ("/Coles/", "/Coles/C001/", "/Coles/C001/", "/Coles/api/stores", "/robots.txt")
        answers = [get(port, target) for target in targets]
        assert [a[0] for a in answers] == [200, 200, 429, 429, 200]
        assert all(int(a[1]["Retry-After"]) > 900 for a in answers[2:4]) and json.loads(answers[3][2])["error"]
        time.sleep(0.2)
        get(port, "/Coles/")
        broken = breaches(log())  # on a busy machine the second 429 is one, too
        assert {b.rule for b in broken} == {"retry_after"} and broken[-1].visit == log()[-1]


def test_who_keeps_to_what_he_is_told_breaks_no_rule(folder, tmp_path):
    with shop(folder, tmp_path, limit=RateLimit(rate=20, burst=3)) as (port, log):
        for _ in range(12):
            time.sleep(float(get(port, "/Coles/C001/")[1]["Retry-After"] or 0))
        assert {v.status for v in log()} <= {200, 429} and breaches(log()) == []


def test_the_log_tells_the_times_between_requests(folder, tmp_path):
    with shop(folder, tmp_path, crawl_delay=60) as (port, log):
        assert b"Crawl-delay: 60\nDisallow: /trolley/" in get(port, "/robots.txt")[2]
        for target in ("/Coles/C001/", "/Coles/C002/", "/trolley/"): get(port, target)
        assert [b.rule for b in breaches(log(), delay=60)] == ["delay", "delay", "robots"]
        assert [b.rule for b in breaches(log())] == ["robots"]


def test_many_visitors_at_once_are_all_written_down(folder, tmp_path):
    with shop(folder, tmp_path) as (port, log):
        def visitor(k): return [get(port, f"/Coles/C001/?k={k}") for _ in range(10)]
        crowd = [threading.Thread(target=visitor, args=(k,)) for k in range(8)]
        for thread in crowd: thread.start()
        for thread in crowd: thread.join()
        assert len(log()) == 80 and {v.status for v in log()} == {200}


def test_a_fault_of_the_shop_itself_is_an_answer(folder, monkeypatch):
    def broken(*_): raise RuntimeError("a mistake")
    monkeypatch.setattr("scrapeopt.commands.twin_server.shop_answer", broken)
    with serving(folder, at=AT) as url: assert get(port_of(url), "/")[0] == 500


def test_a_port_that_is_taken_and_a_log_that_cannot_be(folder, port, tmp_path):
    for more, what in (({"port": port}, "name another"), ({"log": tmp_path}, "cannot be written"),
                       ({"log": tmp_path / "no" / "x"}, "No such file")):
        with pytest.raises(InputError, match=what), serving(folder, **more): pass
    (tmp_path / "odd.jsonl").write_text('{"time": 1}\n')
    with pytest.raises(InputError, match="line 1"): read_visits(tmp_path / "odd.jsonl")


def test_both_commands_work_together(folder, tmp_path):
    words = [sys.executable, "-m", "scrapeopt.cli", "twin"]
    options = ["--port=0", "--crawl-delay=60", "--rate=1000", "--faults=blocked=1", "--now=2026-11-02T01:00Z"]
    serve = [*words, "serve", folder, *options, "--log", tmp_path / "log"]
    opened = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
    port = port_of(opened.stdout.readline().strip())
    assert b"you are a robot" in get(port, "/Coles/C001/")[2] and b"Crawl-delay: 60" in get(port, "/robots.txt")[2]
    get(port, "/Coles/C002/")
    opened.send_signal(signal.SIGINT)
    assert opened.wait(20) == 0
    told = subprocess.run([*words, "visits", tmp_path / "log", "--crawl-delay", "60", "--json"], capture_output=True)
    record = json.loads(told.stdout)
    assert (told.returncode, record["requests"], record["faults"]) == (1, 3, {"blocked": 2})
    assert [b["rule"] for b in record["breaches"]] == ["delay"]


def test_a_log_that_cannot_take_more_costs_no_answer(folder):
    if not Path("/dev/full").exists(): pytest.skip("no /dev/full")
    with serving(folder, at=AT, log="/dev/full") as url: assert get(port_of(url), "/Coles/")[0] == 200


# ---- in a browser

@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("target", ["/", "/Coles/", "/Coles/C001/", "/Coles/C001/browse/", "/Coles/C001/browse/pantry/",
                                    "/Coles/C001/product/C100001", "/Coles/search?q=oil&store=C001",
                                    "/Coles/nowhere/", "/trolley/"])
@pytest.mark.parametrize("ways", [browser.WAYS[::3], drilled(browser.WAYS)], ids=["two", "all"])
def test_pages_are_fine(target, ways, port, tmp_path, chromium):
    (tmp_path / "page.html").write_bytes(get(port, target)[2])
    browser.assert_page_is_fine(Path(tmp_path / "page.html"), chromium, ways=ways)


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as b: yield b


@pytest.mark.browser
def test_a_shopper_chooses_a_store_and_reads_a_price(twin, port, chromium):
    page = chromium.new_page()
    page.goto(f"http://localhost:{port}/Coles/")
    page.select_option("#id", label="Fremantle")
    page.click("button")
    assert page.locator("[data-store]").get_attribute("data-store") == "C002"
    page.locator("a", has_text="Pantry").click()
    tile = page.locator(".product").first
    name, price = tile.locator(".name").inner_text(), tile.locator(".price").inner_text()
    tile.locator(".name").click()
    assert page.locator("h1").inner_text() == name and page.locator(".price").inner_text() == price
    number = page.locator(".product").get_attribute("data-id")
    assert price == f"${sold_in(twin, 'C002')[number]['price']}"
    page.close()
