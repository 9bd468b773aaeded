"""What comes in through the doors, spelt as people's programs spell it: prices, texts, tables, files of the inbox."""
import gzip
import json
import os
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from scrapeopt.analysis.problems import find_problems
from scrapeopt.core.errors import InputError
from scrapeopt.core.price_text import PriceFormat, parse_price
from scrapeopt.simulation.panel import Panel
from scrapeopt.storage.ingest import has_many_bad
from scrapeopt.storage.scrape_lines import Expected, read_scrape
from scrapeopt.storage.text_blocks import ScrapedFile
from scrapeopt.storage.settings import CompanySettings, Settings, defaults_notice
from scrapeopt.storage.store_file import read_stores
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

TIME = "20260531T170000Z"
PRICES = pd.DataFrame({"store": ["1"], "product": ["p"], "date": ["2026-01-01"], "price": ["1.50"]})
HEADER, ROW = "company,store_id,name,lat,lon", "Mart,1,a,52.1,5.1"


def workspace(folder: Path, company: str = "", stores: int = 1) -> Workspace:
    "A workspace with some stores of Mart, and what its settings say of it."
    Workspace.create(folder)
    (folder / "scrapeopt.toml").open("a").write(f'\n[companies."Mart"]\n{company}\n')
    ws = Workspace.open(folder)
    ws.import_stores(pd.DataFrame([("Mart", str(i + 1), "a", 52.1 + i / 100, 5.1) for i in range(stores)],
                                  columns=HEADER.split(",")))
    return ws


def put(ws: Workspace, text: str | bytes, name: str = f"{TIME}.jsonl", store: str = "1") -> Path:
    "A file in the inbox."
    path = ws.inbox("Mart", store) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def lines(**prices) -> str:
    "Scraped lines; prices as JSON has them."
    return "".join(f'{{"product_id": "{p}", "price": {price}}}\n' for p, price in prices.items())


def served(ws: Workspace) -> dict[str, str]:
    "Product -> price of store 1."
    found = ws.prices("Mart", store="1", now=pd.Timestamp("2026-05-31 18:00", tz="UTC"))
    return dict(zip(found["product_id"], found["price"].map(str), strict=True))


# --- prices

@pytest.mark.parametrize(("text", "company", "price"), [
    ("1.290", {"number_format": "1.234,56", "decimals": 0}, 1290), ("790", {"number_format": "1.234,56"}, 79000),
    ("12.490,5", {"number_format": "1.234,56"}, 1249050), ("1.290", {"number_format": "1234.56"}, 129),
    ("3,50", {"number_format": "1234,56"}, 350), ("1 299", {"number_format": "1 234.56"}, 129900),
    ("1\u00a0299,90", {"number_format": "1 234,56"}, 129990), ("1,226.00", {"number_format": "1,234.56"}, 122600),
    ("1'226.05", {"number_format": "1'234.56"}, 122605), ("3.500", {"decimals": 3}, 3500),
    ("0.500", {}, 50), ("1234.500", {}, 123450), (" 3.5 ", {}, 350), ("+3.50", {}, 350)])
def test_a_price_is_read_as_its_company_writes_it(text, company, price):
    assert parse_price(text, CompanySettings(**company).price_format) == price


@pytest.mark.parametrize(("text", "company", "words"), [
    ("12.490", {}, "price '12.490' can be 12.49 or 12490: set number_format = \"1234.56\" for 12.49"),
    ("12.000", {"decimals": 0}, "can be 12 or 12000: set number_format"),
    ("1.290", {"decimals": 0}, "price '1.290' can be 1.29 or 1290: set number_format"),
    ("-1.290", {}, "can be -1.29 or -1290"), ("1,299", {}, "can be 1.299 or 1299: set number_format"),
    ("3.50", {"number_format": "1.234,56"}, "has a decimal point, but number_format is \"1.234,56\""),
    ("12,34.00", {"number_format": "1,234.56"}, "but number_format is"),
    ("1.290.500", {}, "more than one point: write 1290500"), ("£3.50", {}, "has a currency sign: write 3.50"),
    ("3,50 kr", {}, "has letters: write 3.50"), ("1'299", {}, "thousands apostrophe: write 1299"),
    ("1.226,00", {}, "a thousands point and a decimal comma: write 1226.00"), ("1e2", {}, "an exponent"),
    ("\u0663.\u0665", {}, "digits of another script"), ("3.5.", {}, "more than one point"), ("--3", {}, "other signs"),
    ("sold out", {}, "is not a number: write null"), ("2 for 5.00", {}, "letters")])
def test_a_price_that_is_refused_has_its_own_words(text, company, words):
    with pytest.raises(ValueError, match=r"^price ") as e: parse_price(text, CompanySettings(**company).price_format)
    assert words in str(e.value) and text in str(e.value)


@given(st.decimals(0, 99_999, places=4, allow_nan=False), st.sampled_from([0, 2, 3, 4]))
def test_noise_of_floats_is_no_price_of_its_own(price, decimals):
    price, how = round(price, decimals), PriceFormat(decimals, "1234.56")
    exact = parse_price(f"{price:f}", how)
    assert exact == (int(price.scaleb(decimals)) or None)
    noisy = float(price) * 3 / 3  # computed, as programs do
    assert parse_price(noisy, how) == exact and ("e" in repr(noisy) or parse_price(repr(noisy), how) == exact)
    found = read_scrape([f'{{"product_id": "1", "price": {noisy!r}}}'.encode()], Expected("1", "AUD", how))
    assert found.prices.tolist() == [exact] * bool(exact) and found.not_on_sale == (exact is None)


@given(st.text(max_size=12) | st.from_regex(r"[+-]?[0-9 .,'_]{1,10}", fullmatch=True),
       st.sampled_from(["1234.56", "1,234.56", "1 234.56", "1'234.56", "1234,56", "1.234,56", "1 234,56", None]),
       st.integers(0, 4))
def test_any_text_is_a_price_or_not_on_sale_or_refused_with_words(text, number_format, decimals):
    try: assert 0 < (parse_price(text, PriceFormat(decimals, number_format)) or 1) <= 2**31 - 1
    except ValueError as e: said = str(e)
    else: said = "price "
    assert said.startswith("price ") and len(said) < 250


def test_thousands_points_of_a_currency_without_decimals(tmp_path):
    text = lines(A='"790"', B='"1.290"', C='"12.490"')
    asked, told = workspace(tmp_path / "a"), workspace(tmp_path / "b", 'decimals = 0\nnumber_format = "1.234,56"')
    for ws in (asked, told): put(ws, text)
    report = update_db(asked)
    assert (report.rows, report.quarantined, report.partial) == (1, 2, 0)
    assert "line 2: price '1.290' can be 1.29 or 1290: set number_format" in report.problems[0]
    assert update_db(told).problems == () and served(told) == {"A": "790", "B": "1290", "C": "12490"}


def test_not_on_sale_is_no_fault(tmp_path):
    ws = workspace(tmp_path / "w", "decimals = 0")
    put(ws, lines(a=1477, b=1527, c="null", d=0, e='""', f='"0.00"', g=1097))
    report = update_db(ws)
    assert (report.rows, report.not_on_sale, report.quarantined, report.partial) == (3, 4, 0, 0)
    assert report.problems == () and set(served(ws)) == {"a", "b", "g"}


@pytest.mark.slow
@pytest.mark.parametrize(("company", "expected"), [
    ("zero_is_a_price = true", {"A": "0.00", "B": "99999.99", "C": "3.50"}),
    ("not_a_price = [99999.99]", {"C": "3.50"}), ("not_a_price = [-1, 99999.99, 3.5]", {}),
    ("", {"B": "99999.99", "C": "3.50"})])
def test_what_means_not_on_sale_is_a_setting(tmp_path, company, expected):
    ws = workspace(tmp_path / "w", company)
    put(ws, lines(A=0, B=99999.99, C='"3.50"'))
    assert update_db(ws).problems == () or not expected
    assert served(ws) == expected


def test_several_prices_of_a_product_are_told_and_one_twice_is_one(tmp_path):
    ws = workspace(tmp_path / "w")
    rows = [("A", 1), ("X", "2.52"), ("A", "1.00"), ("X", "3.39"), ("Y", 4), ("X", "3.29"), ("Y", None)]
    put(ws, "".join(json.dumps({"product_id": p, "price": price}) + "\n" for p, price in rows))
    report = update_db(ws)
    assert (report.rows, report.quarantined, report.not_on_sale) == (2, 3, 1)
    assert "product X has the prices 2.52, 3.39, 3.29: the last counts, and so for 1 more" in report.problems[0]
    assert served(ws) == {"A": "1.00", "X": "3.29"}


@pytest.mark.parametrize(("good", "bad", "many"), [
    (4, 1, False), (1, 3, False), (1, 4, True), (60, 4, True), (96, 4, False)])
def test_small_files_are_files(good, bad, many):
    text = "".join(lines(**{f"p{i}": 1}) for i in range(good)) + "torn\n" * bad
    assert has_many_bad(read_scrape([text.encode()], Expected("1")), 0.05) is many


# --- texts

def test_ids_names_and_categories_are_text_and_trimmed(tmp_path):
    ws = workspace(tmp_path / "w", stores=2)
    put(ws, '{"product_id": 12, "price": 1, "category": 6, "name": 7, "store_id": 1.0}')
    put(ws, '{"product_id": " 12.0 ", "price": 1}\n{"product_id": 12.0, "price": 2, "category": "6 "}', store="2")
    assert update_db(ws).quarantined == 0
    assert set(ws.prices("Mart", now=pd.Timestamp("2026-05-31 18:00", tz="UTC")).product_id) == {"12", "12.0"}
    found = read_scrape([b'{"product_id": 12.5, "price": 1, "category": 6.0, "name": "a\\u0000b"}'], Expected("1"))
    assert found.rows.to_pylist() == [{"line": 1, "product_id": "12.5", "price": 100, "category": "6"}]
    assert [batch["name"].to_pylist() for batch in found.names] == [["a b"]]


@pytest.mark.parametrize("store", ["NA", "null", "None", "nan", "N/A", "TRUE", "0041", "1e5"])
def test_a_store_may_be_called_like_a_missing_value(tmp_path, store):
    (tmp_path / "s.csv").write_text(f"{HEADER}\nMart,{store},Napoli,40.85,14.27\n")
    (tmp_path / "p.csv").write_text(f"store,product,date,price\n{store},{store},2026-01-01,1.50\n")
    assert read_stores(tmp_path / "s.csv").store_id.tolist() == [store]
    panel = Panel(tmp_path / "p.csv", tmp_path / "s.csv")
    assert (panel.stores.index.tolist(), panel.products.index.tolist()) == ([store], [store])


# --- tables

SPELLINGS = {
    "semicolon.csv": "company;store_id;name;lat;lon\nMart;1;a;52,1;5,1\n",
    "tab.tsv": f"{HEADER}\n{ROW}\n".replace(",", "\t"),
    "bar.txt": f"{HEADER}\n{ROW}\n".replace(",", "|"),
    "capitals.csv": f"COMPANY,Store_ID,Name,Latitude,Longitude\n{ROW}\n",
    "spaces.csv": f"company, store id , name, lat, lon\n{ROW.replace(',', ', ')}\n", "stores.CSV": f"{HEADER}\n{ROW}\n",
    "preamble.csv": f"Extract of 2026-04-14\n\n{HEADER}\n{ROW}\n", "mark.csv": f"\ufeff{HEADER}\n{ROW}\n",
    "preamble.TSV": "Stores\tof\tMart\n" + f"{HEADER}\n{ROW}\n".replace(",", "\t"),
    "quotes.csv": f'"Company","StoreID","NAME","LAT","Lng"\n{ROW}\n',
    "windows.csv": f"{HEADER}\r\n{ROW}\r\n", "trailing.csv": f"{HEADER},\n{ROW},\n", "mac.csv": f"{HEADER}\r{ROW}\r",
    "brand.csv": f"Brand,Store No.,Store Name,LAT,LONG\n{ROW}\n"}


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_a_list_of_stores_may_be_spelt_in_many_ways(tmp_path, name, encoding):
    if encoding == "latin-1" and name.startswith("mark"): pytest.skip("no such letter there")
    (tmp_path / name).write_bytes(SPELLINGS[name].replace("Mart;1;a", "Mart;1;Köln").encode(encoding))
    [found] = read_stores(tmp_path / name)[HEADER.split(",")].to_dict("records")
    wanted = dict(zip(HEADER.split(","), ["Mart", "1", "Köln" if "semicolon" in name else "a", 52.1, 5.1], strict=True))
    assert found == wanted


@pytest.mark.parametrize(("name", "text", "words"), [
    ("s.csv", "shop;place\n1;Perth\n", ["no column company, store_id, lat, lon", "shop, place", "separated by ';'"]),
    ("s.csv", "store_id;lat;lon\n1;52,1;5,1\n", ["no column company", "name it with --company"]),
    ("s.tsv", "company\tstore_id\nMart\t1\n", ["no column lat, lon", "separated by a tab"]),
    ("s.csv", f"{HEADER}\n{ROW}\nMart,2,b,52,2,5,1\n", ["row 2 has 7 cells, the header has 5"]),
    ("s.csv", f"{HEADER}\n", ["no rows"]), ("s.csv", "\n\n", ["the file is empty"]),
    ("s.csv", "\0\1\0\0\2", ["no text"]), ("s.csv.gz", "x", ["cannot be read"]),
    ("s.csv", f"{HEADER}\nMart,1,a,north,5.1\n", ["row 1 (store '1': lat north"]),
    ("s.xlsx", "PK", ["save it as CSV"]), ("s.pdf", "%PDF", ["not from '.pdf'"])])
def test_a_table_that_is_refused_says_what_it_has(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    for read in (read_stores, Panel) if name.endswith(("pdf", "xlsx", "gz")) or "\0" in text else (read_stores,):
        with pytest.raises(InputError) as e: read(tmp_path / name)
        assert all(word in str(e.value) for word in [*words, name]) and "\n" not in str(e.value)


def feature(geometry, **properties):
    "A GeoJSON feature."
    return {"type": "Feature", "properties": {"company": "Mart", "store_id": "2", "name": "n"} | properties,
            "geometry": geometry}


POINT = {"type": "Point", "coordinates": [5.1, 52.1]}


@pytest.mark.parametrize(("member", "words"), [
    (feature(None), "missing coordinates in row 2 (store '2')"),
    (feature({"type": "Point", "coordinates": []}), "row 2 (store '2')"),
    (feature({"type": "Polygon", "coordinates": []}), "row 2 has a Polygon, not a point"),
    (feature({"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}), "row 2 has a MultiPoint, not a point"),
    (feature({"type": "Point", "coordinates": [5.1]}), "row 2 has no point of longitude and latitude"),
    (feature({"type": "Point", "coordinates": ["east", 52]}), "lat or lon is no number in row 2"),
    (feature({"type": "Point", "coordinates": [5.1, float("nan")]}), "missing coordinates in row 2"),
    (feature(POINT) | {"properties": None}, "empty company in row 2"),
    (feature(POINT) | {"properties": [1]}, "row 2 has properties"),
    ("a store", "row 2 is no feature")])
def test_a_feature_that_is_refused_is_named_by_row(tmp_path, member, words):
    features = [feature(POINT, store_id=1), member]
    (tmp_path / "s.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with pytest.raises(InputError) as e: read_stores(tmp_path / "s.geojson")
    assert words in str(e.value) and "s.geojson" in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("crs", [None, "urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326", "urn:ogc:def:crs:EPSG::4326"])
def test_geojson_of_one_point_in_degrees_is_read(tmp_path, crs):
    place = {"type": "MultiPoint", "coordinates": [[5.1, 52.1, 3.0]]}
    text = json.dumps({"features": [feature(place, store_id=12.0, name=7)],
                       "crs": {"type": "name", "properties": {"name": crs}} if crs else None})
    (tmp_path / "s.GEOJSON").write_text(f"\ufeff{text}")
    [found] = read_stores(tmp_path / "s.GEOJSON").to_dict("records")
    assert (found["store_id"], found["name"], found["lat"], found["lon"]) == ("12", "7", 52.1, 5.1)


@pytest.mark.parametrize("crs", ["urn:ogc:def:crs:EPSG::3857", "EPSG:28992", "urn:ogc:def:crs:EPSG:9.9:25832"])
def test_geojson_in_metres_is_refused_by_name(tmp_path, crs):
    text = json.dumps({"features": [feature(POINT)], "crs": {"type": "name", "properties": {"name": crs}}})
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(InputError, match=f"coordinates are in EPSG:{crs.split(':')[-1]}, not in degrees"):
        read_stores(tmp_path / "s.json")


@pytest.mark.parametrize(("name", "text"), [
    ("p.csv", "Store;Product;DATE;Price\n1;p;2026-01-01;1.50\n1;q;2026-01-01;\n1;r;2026-01-01;0\n"),
    ("p.tsv", "prices of 2026\nstore id\tproduct id\tdate\tprice\n"
              "1\tp\t2026-01-01\t1.50\n1\tq\t2026-01-01\t\n1\tr\t2026-01-01\t0\n")])
def test_a_panel_may_be_spelt_in_many_ways(tmp_path, name, text):
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        panel = Panel(tmp_path / name)
        assert panel.truth().tolist() == [[150, -1, -1]] and panel.products.index.tolist() == ["p", "q", "r"]


def test_a_panel_in_a_number_format():
    frame = pd.DataFrame({"store": "1", "product": ["p", "q"], "date": "2026-01-01", "price": ["790", "1.290"]})
    assert Panel(frame, number_format="1.234,56").truth().tolist() == [[79000, 129000]]
    with pytest.raises(InputError, match=r"can be 1\.29 or 1290"): Panel(frame)
    with pytest.raises(InputError, match=r"number_format '1\.2' is none of"): Panel(frame, number_format="1.2")
    assert Panel(frame.assign(price=["1.790", "1.290"])).truth().tolist() == [[179, 129]]
    assert Panel(frame.assign(price=[Decimal("1.5"), None])).truth().tolist() == [[150, -1]]


def test_a_column_of_lists_is_refused(tmp_path):
    PRICES.assign(price=[[1, 2]]).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(InputError, match="column price has no single values"): Panel(tmp_path / "p.parquet")


# --- the inbox

@pytest.mark.parametrize("ending", ["jsonl", "jl", "ndjson", "JSONL", "Jl", "NDJSON", "jl.gz", "ndjson.gz", "JSONL.GZ"])
def test_json_lines_are_taken_as_what_they_are(tmp_path, ending):
    ws, text = workspace(tmp_path / "w"), lines(A='"1.00"').encode()
    path = put(ws, gzip.compress(text) if ending.lower().endswith("gz") else text, f"{TIME}.{ending}")
    report = update_db(ws)
    assert (report.files, report.rows, report.problems) == (1, 1, ()) and not path.exists()
    assert (ws.path / "archive" / path.relative_to(ws.path / "inbox")).exists()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words"), [
    (f"{TIME}.json", "end its name in .jsonl"), (f"{TIME}.jsonl.zst", "pack it with gzip"),
    (f"{TIME}.csv", "only JSON lines are"), (TIME, f"rename it to {TIME}.jsonl"),
    (f"{TIME}.gz", f"rename it to {TIME}.jsonl.gz"), ("deep/er/notes.txt", "only JSON lines are"),
    ("new\nline.csv", "new?line.csv")])
def test_what_is_not_taken_is_named_with_what_to_do_until_it_is_gone(tmp_path, name, words):
    ws = workspace(tmp_path / "w")
    path = put(ws, lines(A=1), name)
    for _ in range(2):
        report = update_db(ws)
        assert (report.files, report.quarantined, len(report.problems)) == (0, 0, 1) and path.exists()
        assert words in report.problems[0] and "inbox/Mart/1/" in report.problems[0] and "\n" not in report.problems[0]
    [problem] = [p for p in find_problems(ws, "Mart") if p.kind == "not_taken"]
    assert problem.needs_person and problem.which[0].startswith("inbox/Mart/1/")
    path.unlink()
    assert update_db(ws).problems == ()


def test_links_are_followed_and_broken_ones_named(tmp_path):
    ws = workspace(tmp_path / "w", stores=2)
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / f"{TIME}.jl").write_text(lines(A=1))
    (ws.path / "inbox" / "Mart").mkdir()
    (ws.path / "inbox" / "Mart" / "1").symlink_to(tmp_path / "disk")
    (ws.path / "inbox" / "Mart" / "2").symlink_to(tmp_path / "nowhere")
    (ws.path / "inbox" / "Mart" / "round").symlink_to(ws.path / "inbox")
    os.mkfifo(ws.path / "inbox" / f"{TIME}.jsonl")
    report = update_db(ws)
    assert (report.files, len(report.problems)) == (1, 2)
    assert any("inbox/Mart/2 is not taken: it is a broken link" in p for p in report.problems)
    assert any("no ordinary file" in p for p in report.problems)
    assert update_db(ws, company="Mart").problems == tuple(p for p in report.problems if "link" in p)


def test_a_file_of_windows_is_read(tmp_path):
    text = lines(A='"1.00"', B="2").replace("\n", "\r\n")
    (tmp_path / "x.jsonl").write_bytes(text.encode("utf-16"))
    assert read_scrape(ScrapedFile(tmp_path / "x.jsonl"), Expected("1")).prices.tolist() == [100, 200]
    (tmp_path / "x.jsonl").write_bytes(b"\xff\xfea")
    with pytest.raises(InputError, match="UTF-16"): list(ScrapedFile(tmp_path / "x.jsonl"))


# --- settings

def test_defaults_hold_for_all_and_a_table_of_its_own_wins(tmp_path):
    (Workspace.create(tmp_path / "w").path / "scrapeopt.toml").open("a").write(
        '\n[defaults]\ncurrency = "CLP"\ndecimals = 0\nnumber_format = "1.234,56"\n'
        '[companies.Mart]\ncurrency = "USD"\n')
    ws = Workspace.open(tmp_path / "w")
    mart, other = ws.settings.company("Mart"), ws.settings.company("Anybody")
    assert (mart.currency, mart.decimals, mart.number_format) == ("USD", 0, "1.234,56")
    assert (other.currency, other.price_format) == ("CLP", PriceFormat(0, "1.234,56"))
    assert defaults_notice(ws.settings, ["A", "B"]) is None


def test_a_hundred_brands_are_one_notice():
    notice = defaults_notice(Settings(), [f"Brand {i:03d}" for i in range(121)])
    assert "Brand 000, Brand 001, Brand 002 and 118 more: prices in AUD" in notice and "[defaults]" in notice
    assert '[companies."Coles"]' in defaults_notice(Settings(), ["Coles"])


# --- whatever bytes come in

VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(
    ["3.50", "1.290", "0", "", "3,50", "-1", 2.089999999999998, 99999.99])
KEYS = st.sampled_from(["product_id", "price", "category", "name", "store_id", "currency", "promo", "was_price"])
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=5).map(
    lambda d: json.dumps({"product_id": "7", "price": 1} | d).encode())
LINES = st.binary(max_size=40) | OBJECTS | st.tuples(OBJECTS, st.binary(max_size=3)).map(
    lambda t: t[0][:-4] + t[1] + t[0][-4:])


@given(st.lists(LINES, max_size=12), st.sampled_from([PriceFormat(), PriceFormat(0, "1.234,56", True, (Decimal(1),))]))
def test_every_line_is_taken_replaced_not_on_sale_or_bad(rows, how):
    text = b"\n".join(rows)
    bad = []
    found = read_scrape([text], Expected("1", "AUD", how), bad.extend)
    blank = sum(not line.strip() for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n"))
    assert found.lines == len(text.removeprefix(b"\xef\xbb\xbf").split(b"\n")) - blank
    assert found.lines == len(found.products) + found.replaced + found.not_on_sale + found.bad_lines
    assert (found.prices >= 0).all() and all(0 < b.line <= text.count(b"\n") + 1 for b in bad)
    assert found.put_aside == len(bad) and all(b.reason.strip() and "\n" not in b.reason for b in bad)


@pytest.mark.slow
@examples(40)
@given(rows=st.lists(LINES, max_size=6), name=st.sampled_from([f"{TIME}.jsonl", f"{TIME}.jl.gz", "x.csv", "x.jl", "x"]))
def test_any_file_in_the_inbox_is_taken_or_named(tmp_path_factory, rows, name):
    ws = workspace(tmp_path_factory.mktemp("w") / "w")
    put(ws, b"\n".join(rows), name)
    report = update_db(ws)
    assert report.files + len(report.problems) >= 1
    assert report.quarantined == 0 or report.problems
    assert report.rows == len(served(ws)) or report.partial


CELLS = st.lists(st.lists(st.text("ab1,;\t|\"\n\r .\u00e9\0", max_size=5), max_size=6), max_size=5)
HEADS = [HEADER, HEADER.replace(",", ";"), "store,product,date,price", '{"features": ']
PLACES = VALUES | st.fixed_dictionaries({
    "type": st.sampled_from(["Point", "MultiPoint"]), "coordinates": st.lists(VALUES)})
FEATURES = st.fixed_dictionaries({"geometry": PLACES, "properties": VALUES | st.dictionaries(
    st.sampled_from(HEADER.split(",")), VALUES)})
TABLES = (st.binary(max_size=80) | CELLS.map(lambda rows: "\n".join(",".join(row) for row in rows).encode())
          | st.tuples(st.sampled_from(HEADS), st.binary(max_size=60)).map(lambda t: t[0].encode() + b"\n" + t[1])
          | st.lists(FEATURES, max_size=3).map(lambda features: json.dumps({"features": features}).encode()))
KINDS = st.sampled_from([".csv", ".TSV", ".geojson", ".json", ".parquet", ".csv.gz", ".txt"])


@examples(300)
@given(content=TABLES, kind=KINDS, packed=st.booleans())
def test_any_table_is_read_whole_or_refused_with_one_sentence(tmp_path_factory, content, kind, packed):
    path = tmp_path_factory.mktemp("t") / f"t{kind}"
    path.write_bytes(gzip.compress(content) if packed and kind.endswith(".gz") else content)
    for read in (read_stores, Panel, lambda p: Panel(PRICES, p)):
        try: said = len(getattr(read(path), "stores", ())) * ""
        except InputError as e: said = str(e)
        assert "\n" not in said and (not said or read is not read_stores or path.name in said)


PANELS = st.lists(st.fixed_dictionaries({
    "store": VALUES, "product": VALUES, "date": st.sampled_from(["2026-01-01", "2026-01-02", "soon", "", "2026"]),
    "price": VALUES}), min_size=1, max_size=5)


@examples(200)
@given(rows=PANELS)
def test_every_row_of_a_panel_is_a_price_or_not_on_sale_or_it_is_refused(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("p") / "p.csv"
    pd.DataFrame(rows, dtype=object).to_csv(path, index=False)
    try: units, said = Panel(path).recording.units, "row"
    except InputError as e: units, said = np.zeros(len(rows)), str(e)
    assert len(units) == len(rows) and (units >= -1).all() and ("row" in said or path.name in said)
