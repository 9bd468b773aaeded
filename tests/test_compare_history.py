"""Two stores side by side, the history of a price, and the table of a past moment, as they are typed."""
import json
from datetime import timedelta
from itertools import pairwise

import pandas as pd
import pytest
from effort import drilled
import small_chain
from small_chain import LATER, PRODUCTS, THURSDAY, land, lines, shelf

from scrapeopt.analysis.comparison import compare_stores
from scrapeopt.analysis.price_history import price_history
from scrapeopt.cli import main
from scrapeopt.core.errors import InputError
from scrapeopt.overlap import range_overlap, true_overlap
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

WEEK = timedelta(days=7)


@pytest.fixture
def ws(tmp_path) -> Workspace:
    "Two companies, scraped once."
    return small_chain.scraped_once(tmp_path / "ws")


@pytest.fixture
def typed(ws, capsys):
    "A command line in this workspace: exit code, standard output, standard error."
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended: main([*map(str, arguments), "-w", str(ws.path)])
        out = capsys.readouterr()
        return int(ended.value.code or 0), out.out, out.err
    return run


# ---- compare --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("first", "second"), [("0001", "0002"), ("0001", "0005"), ("0007", "0003")])
def test_a_comparison_says_what_the_overlaps_are(ws, first, second):
    found, newest = compare_stores(ws, first, second), ws.newest("Woolworths")
    a, b = newest.prices[newest.row(first)], newest.prices[newest.row(second)]
    assert found.overall.true_overlap == true_overlap(a, b)
    assert found.overall.range_overlap == (range_overlap(a, b), range_overlap(b, a))
    assert found.match == (ws.groups("Woolworths").group_of(first) == ws.groups("Woolworths").group_of(second))
    assert sum(row.shared for row in found.categories) == found.overall.shared
    assert found.different == int((a != b).sum()) and len(found.differences) == min(found.different, 20)
    assert all(d.prices[0] != d.prices[1] for d in found.differences)


def test_a_comparison_is_one_json_document(typed):
    code, out, _ = typed("compare", "0001", "0005", "--json", "-n", "3")
    told = json.loads(out)
    assert code == 0 and told["comparable"] and not told["match"] and len(told["differences"]) == 3
    assert {row["category"] for row in told["categories"]} == {"Dairy", "Meat"}
    assert all(isinstance(price, str) for d in told["differences"] for price in d["prices"])


def test_a_comparison_is_read_by_people(typed):
    code, out, _ = typed("compare", "0001", "0005")
    assert code == 0 and "no match: " in out and "below match_threshold" in out and "comparable in time" in out
    assert typed("compare", "0001", "0002")[1].count("a match: ") == 1
    assert "Example: scrapeopt compare 0041 0042" in " ".join(typed("compare", "--help")[1].split())


@pytest.mark.parametrize(("days", "changeover", "why"), [
    (1, "none", None), (3, "none", "72 h apart, more than window_hours 48"),
    (1, "friday", "a price changeover lies between them, at 2026-11-20 00:00 UTC"), (1, "wednesday", None)])
def test_stores_that_were_scraped_apart_are_compared_and_it_is_said(ws, days, changeover, why):
    with (ws.path / "scrapeopt.toml").open("a") as f:
        f.write(f'\n[companies."Woolworths"]\nchangeover = "{changeover}"\n')
    land(ws, "Woolworths", "0001", THURSDAY + timedelta(days=days, minutes=10), lines(shelf("Woolworths", "0001", 0)))
    update_db(again := Workspace.open(ws.path), now=LATER)
    found = compare_stores(again, "0001", "0002")
    assert found.why_not is None if why is None else why in str(found.why_not)
    assert found.overall.shared == len(PRODUCTS)


@pytest.mark.parametrize(("stores", "sentence"), [
    (("0001", "0001"), "given twice"), (("0001", "1"), "no store '1' of"), (("0001", "00O2"), "did you mean 0002"),
    (("Store 0003", "0001"), "did you mean 0003 (Store 0003)?"), (("0001", "a"), "within one company only"),
    (("", "0001"), "an argument is empty"), (("0001", "0002", "--company", "Aldi"), "no company is named 'Aldi'"),
    (("0001", "a", "--company", "Woolworths"), "no store 'a' of Woolworths")])
def test_what_cannot_be_compared_is_said_in_a_sentence(typed, stores, sentence):
    code, out, err = typed("compare", *stores)
    assert (code, out, err.count("\n")) == (2, "", 1) and sentence in err and "Traceback" not in err


def test_a_store_without_a_usable_snapshot_is_named(ws, typed):
    more = pd.DataFrame({"company": "Woolworths", "store_id": ["0099"], "name": "x", "lat": -31.9, "lon": 115.9})
    ws.import_stores(more)
    assert "store 0099 of Woolworths has no usable snapshot yet" in typed("compare", "0001", "0099")[2]
    land(ws, "Woolworths", "0099", THURSDAY, ['{"product_id": "1", "price": "free"}', *["{"] * 9])
    update_db(ws, now=LATER)  # a partial one
    assert "store 0099 of Woolworths has no usable snapshot yet" in typed("compare", "0099", "0001")[2]


def test_ids_of_two_companies_ask_for_one(ws, typed):
    both = pd.DataFrame({"company": "Aldi", "store_id": ["0001", "0002"], "name": "x", "lat": -31.9, "lon": 115.9})
    ws.import_stores(both)
    assert "Aldi and Woolworths have stores 0001 and 0002: say which is meant with --company" in typed(
        "compare", "0001", "0002")[2]
    assert typed("compare", "0001", "0002", "--company", "Woolworths")[0] == 0


def test_a_lost_snapshot_ends_in_a_sentence(ws, typed):
    next((ws.path / "prices").rglob("store=0001/*.parquet")).unlink()
    code, _, err = typed("compare", "0001", "0002")
    assert code == 2 and "is lost" in err and "scrapeopt doctor --mend" in err and err.count("\n") == 1


# ---- history --------------------------------------------------------------------------------------------------------

MILK = PRODUCTS[0]


def sold(ws: Workspace, store: str, week: int, price: str | None) -> None:
    "A week of a store in which one product has this price, or is not sold."
    text = [line for line in lines(shelf("Woolworths", store)) if f'"{MILK}"' not in line]
    if price: text.append(json.dumps({"product_id": MILK, "price": price, "category": "Dairy"}))
    land(ws, "Woolworths", store, THURSDAY + week * WEEK, text)


@pytest.mark.parametrize("seen", [
    ["3.00", "3.00", "3.20"], ["3.00", None, "3.00"], drilled(["3.00", "3.20", "3.00", "3.00"]), drilled(["0.05"]),
    [None, "3.00"]])
def test_the_history_of_a_store_is_what_its_files_said(ws, seen):
    for week, price in enumerate(seen, start=1): sold(ws, "0006", week, price)
    update_db(ws, now=LATER)
    spans = [s for s in price_history(ws, MILK, "0006").spans if s.source == "direct_scrape"]
    first = f"{int(shelf('Woolworths', '0006')[0]) / 100:.2f}"
    runs = [price for k, price in enumerate([first, *seen]) if k == 0 or price != [first, *seen][k - 1]]
    assert [s.price and str(s.price) for s in spans] == runs
    assert sum(s.times for s in spans) == len(seen) + 1
    for span, later in pairwise(spans):
        assert span.since <= span.last_seen < span.until <= later.since
    assert spans[-1].until is None


def test_a_partial_snapshot_is_no_history(ws):
    land(ws, "Woolworths", "0006", THURSDAY + WEEK, [json.dumps({"product_id": MILK, "price": "9.99"}), *["{"] * 9])
    update_db(ws, now=LATER)
    assert "9.99" not in [str(s.price) for s in price_history(ws, MILK, "0006").spans]


def test_what_was_served_stands_beside_what_was_scraped(ws, typed):
    for week in (1, 2):
        small_chain.scrape_all(ws, week, only=("0001", "0002"))
        update_db(ws, now=LATER)
    spans = json.loads(typed("history", "--product", MILK, "--store", "0003", "--json")[1])
    assert spans[0]["source"] == "direct_scrape" and spans[-1]["source"] == "inferred_group"
    assert spans[-1]["source_store"] in ("0001", "0002") and spans[-1]["until"] is None
    served = ws.prices("Woolworths", "0003", MILK).iloc[0]
    assert (spans[-1]["price"], spans[-1]["last_seen"]) == (str(served.price), served.scraped_at.isoformat())


def test_the_history_of_all_stores_is_their_own(ws, typed):
    rows = json.loads(typed("history", "--product", MILK, "--json")[1])
    assert {(row["company"], row["store_id"]) for row in rows} == {
        (company, store) for company, zone in small_chain.ZONES.items() for store in zone}
    one = json.loads(typed("history", "--product", MILK, "--company", "Woolworths", "--json")[1])
    assert {row["company"] for row in one} == {"Woolworths"}
    code, out, _ = typed("history", "--product", f" {MILK} ", "--store", "0001")
    assert code == 0 and "direct_scrape" in out and "now" in out


@pytest.mark.parametrize(("arguments", "sentence"), [
    (("--product", "999999"), "no product '999999' was seen in any store"),
    (("--product", "10000"), "did you mean 1000"), (("--product", ""), "--product is empty"),
    (("--product", MILK, "--store", "7"), "no store '7'"),
    (("--product", MILK, "--company", "Aldi"), "no company is named")])
def test_what_has_no_history_is_said_in_a_sentence(typed, arguments, sentence):
    code, out, err = typed("history", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1) and sentence in err


def test_two_columns_of_a_snapshot_are_read(ws, monkeypatch):
    import pyarrow.parquet as pq
    read, seen = pq.ParquetFile.read_row_groups, list[list[str]]()
    monkeypatch.setattr(pq.ParquetFile, "read_row_groups",
                        lambda self, groups, columns: seen.append(columns) or read(self, groups, columns))
    price_history(ws, MILK, company="Woolworths")
    assert seen == [["product_id", "price"]] * len(small_chain.ZONES["Woolworths"])


def test_a_lost_snapshot_costs_its_own_days(ws, typed):
    land(ws, "Woolworths", "0001", THURSDAY + WEEK, lines(shelf("Woolworths", "0001", 1)))
    update_db(ws, now=LATER)
    min((ws.path / "prices").rglob("store=0001/*.parquet")).unlink()
    code, out, err = typed("history", "--product", MILK, "--company", "Woolworths", "--json")
    assert code == 0 and "cannot be read" in err and len({row["store_id"] for row in json.loads(out)}) == 7


# ---- the table of a past moment -------------------------------------------------------------------------------------

def test_the_past_stays_what_it_was(ws):
    then = ws.prices("Woolworths", as_of=THURSDAY + timedelta(hours=12))
    for week in (1, 2):
        land(ws, "Woolworths", "0001", THURSDAY + week * WEEK, lines(shelf("Woolworths", "0001", week)))
        update_db(ws, now=LATER)
    pd.testing.assert_frame_equal(ws.prices("Woolworths", as_of=THURSDAY + timedelta(hours=12)), then)
    assert not ws.prices("Woolworths")["price"].equals(then["price"])


@pytest.mark.parametrize(("arguments", "code", "sentence"), [
    (("--as-of", "2026-11-01"), 0, "nothing was known at 2026-11-01 00:00 UTC: the first scrape is of 2026-11-19"),
    (("--as-of", "yesterday"), 2, "--as-of 'yesterday' is no time"),
    (("--as-of", "NaT"), 2, "--as-of 'NaT' is no time"),
    (("--as-of", "2026-11-20", "--now", "2026-11-19"), 2, "is before --as-of"),
    (("--product", "nope"), 2, "no product 'nope'"), (("--product", "10000"), 2, "did you mean 1000"),
    (("--product", f" {MILK} ", "--store", " 0001"), 0, "direct_scrape"), (("--store", "9"), 2, "no store '9'")])
def test_an_empty_table_says_why(typed, arguments, code, sentence):
    found, out, err = typed("prices", *arguments)
    assert found == code and sentence in out + err and "Traceback" not in err


def test_a_product_that_is_not_sold_serves_nothing(ws):
    assert ws.prices(product="nope").empty
    with pytest.raises(InputError, match="no store"): ws.prices(store="9")
