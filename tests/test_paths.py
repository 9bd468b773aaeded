"""Names that were chosen to be mistaken for others: whose folder, which picture, text or formula."""
import csv
import json
import re
import shlex
import sys
from pathlib import Path

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
from scrapeopt.core.spreadsheets import FORMULA, with_safe_cells
from scrapeopt.storage.folders import folder_name, inbox_name, names_by_folder
from scrapeopt.storage.snapshots import snapshot_path
from scrapeopt.storage.store_file import read_stores
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

NOON = pd.Timestamp("2026-11-19 02:00", tz="UTC")
FILE = f"{NOON:%Y%m%dT%H%M%SZ}.jsonl"


def chain(path: Path, stores: list[tuple[str, str]]) -> Workspace:
    "A workspace with these stores: company and id."
    ws = Workspace.create(path / "ws", policy="document")
    ws.import_stores(pd.DataFrame([(company, store, "", 42.6 + i / 100, 23.3) for i, (company, store) in
                                   enumerate(stores)], columns=["company", "store_id", "name", "lat", "lon"]))
    ws.cluster(min_samples=2)
    return ws


def put(folder: Path, cents: int) -> Path:
    "A scraped file with one price."
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps({"product_id": "milk", "price": f"{cents / 100:.2f}"}) + "\n")
    return folder / FILE


def served(ws: Workspace) -> dict[tuple[str, str], float]:
    "What each store charges for its one product."
    return {(row.company, row.store_id): float(row.price) for row in ws.prices(now=NOON).itertuples()}


def run(*words: object) -> int:
    "The exit code of a command line."
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False).exit_code


# ---- folders ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("ids", [("a#b", inbox_name("a#b")), ("#", "%23", "%23@"), ("x~", "x%7E@"), (".x", "%2Ex@")],
                         ids=" ".join)
def test_a_store_that_is_named_like_anothers_folder_keeps_its_prices(tmp_path, ids):
    stores = [("Mart", store) for store in (*ids, "1")]
    ws = chain(tmp_path, stores)
    for i, store in enumerate(stores): put(ws.inbox(*store), 100 + i)
    assert update_db(ws, now=NOON).problems == ()
    assert served(ws) == {store: (100 + i) / 100 for i, store in enumerate(stores)}


def test_a_scrape_of_stores_that_look_alike_lands_apart(tmp_path):
    ws = chain(tmp_path, [("Mart", "a#b"), ("Mart", "a%23b")])
    script = tmp_path / "spider.py"
    script.write_text("import sys, json\nstore, out = sys.argv[1:]\n"
                      "open(out, 'w').write(json.dumps({'product_id': 'milk', 'price': len(store)}) + '\\n')\n")
    command = shlex.join([sys.executable, str(script)]) + " {store_id} {output}"
    assert run("scrape", "-w", ws.path, "-n", 2, "--command", command, "--now", NOON) == 0
    assert update_db(ws, now=NOON).files == 2
    assert served(ws) == {("Mart", "a#b"): 3.0, ("Mart", "a%23b"): 5.0}


NAMES = st.text(st.sampled_from("aA1#%/=~.+@ é店235FfpartPART"), min_size=1, max_size=8)


@given(st.lists(NAMES, min_size=1, max_size=8, unique=True))
@example(["#", "%23", "%2523"])
@example(["a/b", "a%2Fb@", "a%252Fb"])
def test_a_folder_that_we_make_is_its_stores_whatever_the_others_are_called(stores):
    stores += [s for name in tuple(stores) for s in (inbox_name(name), folder_name(name)) if s not in stores]
    meant = names_by_folder(stores)
    assert [meant[inbox_name(name)] for name in stores] == [[name] for name in stores]


ODD_IDS = ["a#b", "a%23b", "a b", "a+b", "o'c", "a,b", "x=y", "a/b", ".a", "..", "~", "0041", "1e5", "2026-01-01",
           "NULL", "true", "é", "%", "a\\b", "a:b", "a?b", "a*b", "a[1]", 'a"b', "a;b", "$x", "nan", "%2F", "x.part"]


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


def test_maps_of_companies_that_look_alike_are_apart(tmp_path):
    ws = chain(tmp_path, [(company, str(i)) for company in ("Coles", "Coles-groups") for i in range(3)])
    for company, store in [(c, str(i)) for c in ws.companies() for i in range(3)]: put(ws.inbox(company, store), 100)
    update_db(ws, now=NOON)
    drawn = draw_maps(ws, basemap="none")
    assert len({path.name for path in drawn}) == len(drawn) > 4 and all(path.is_file() for path in drawn)


# ---- tables for spreadsheets --------------------------------------------------------------------------------------

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", '=HYPERLINK("http://x/"&A1)', "\uff1d1", "'=1"]


def cells(path: Path) -> list[list[str]]:
    "All cells of a CSV file."
    with path.open(newline="") as lines: return list(csv.reader(lines))


@pytest.mark.parametrize("text", FORMULAS)
def test_bad_rows_are_no_formulas_in_any_column_and_come_back_mended(tmp_path, text):
    listed = pd.DataFrame([("Mart", "1", "Good", "-31.9", "115.8", "x"), (text, text, text, "-91.5", "115.8", text)],
                          columns=["company", "store_id", "name", "lat", "lon", f"{text} of it"])
    with_safe_cells(listed, ("lat", "lon")).to_csv(tmp_path / "s.csv", index=False)
    ws = Workspace.create(tmp_path / "ws")
    assert run("import-stores", tmp_path / "s.csv", "-w", ws.path, "--keep-good") == 0
    head, row = cells(tmp_path / "s.bad.csv")
    assert not [c for c in [*head, *row] if re.match(FORMULA, c) and c[0] != "'" and c != "-91.5"]
    assert row[head.index("lat")] == "-91.5" and row[head.index("name")] == f"'{text}"
    (tmp_path / "mended.csv").write_text((tmp_path / "s.bad.csv").read_text().replace("-91.5", "-31.5"))
    assert run("import-stores", tmp_path / "mended.csv", "-w", ws.path) == 0
    assert ws.stores(text)[["company", "store_id", "name", "lat"]].values.tolist() == [[text, text, text, -31.5]]


def test_the_stores_of_a_twin_come_back_from_their_list(tmp_path):
    listed = pd.DataFrame([("Mart", text, text, -31.9 + i / 100, 115.8) for i, text in enumerate(FORMULAS)],
                          columns=["company", "store_id", "name", "lat", "lon"])
    listed.to_parquet(tmp_path / "s.parquet")
    make_twins(tmp_path / "twins", tmp_path / "s.parquet", n_products=20)
    assert not [c for row in cells(tmp_path / "twins" / "stores.csv")[1:] for c in row[:3] if re.match("[=+\\-@]", c)]
    pd.testing.assert_frame_equal(read_stores(tmp_path / "twins" / "stores.csv"), read_stores(tmp_path / "s.parquet"),
                                  check_dtype=False)
