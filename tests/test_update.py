"""R9, what a cell cannot show: every reason for quarantine, other orders of arrival, two runs at once."""
import gzip
import json
import threading
import time

import pandas as pd
import pytest
from effort import one_in
from small_chain import PRODUCTS, THURSDAY, ZONES, land, lines, new_workspace, scrape_all, scraped_once, shelf
from sqlalchemy import select

from scrapeopt.core.errors import InputError
from scrapeopt.storage.tables import Company, Product
from scrapeopt.company_update import UpdateReport
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

W, HOUR, DAY = "Woolworths", pd.Timedelta(hours=1), pd.Timedelta(days=1)


@pytest.fixture
def ws(tmp_path) -> Workspace: return new_workspace(tmp_path / "ws")


@pytest.fixture
def formed(tmp_path) -> Workspace: return scraped_once(tmp_path / "formed")


def quarantined(ws: Workspace) -> list[dict]:
    "All records in quarantine."
    files = sorted(p for p in (ws.path / "quarantine").rglob("*.json*") if p.suffix != ".rejected")
    return [json.loads(line) for p in files for line in p.read_text().splitlines()]


def in_inbox(ws: Workspace) -> list[str]: return sorted(p.name for p in (ws.path / "inbox").rglob("*") if p.is_file())


def seen(ws: Workspace) -> tuple:
    "What the state holds of groups and stores."
    return [ws.groups(c) for c in ZONES], ws.events().words.tolist(), ws.stores().last_scraped.tolist()


BAD_LINES = {
    "not json": "not JSON", '{"product_id": "1", "pri': "not JSON", "[1, 2]": "not a product",
    '{"price": "1.00"}': "product_id", '{"product_id": "", "price": "1.00"}': "empty", '{"product_id": "1"}': "price",
    '{"product_id": "1", "price": "-0.01"}': "negative", '{"product_id": "1", "price": "NaN"}': "not a number",
    '{"product_id": "1", "price": NaN}': "not JSON", '{"product_id": "1", "price": "inf"}': "not a number",
    '{"product_id": "1", "price": "1.0005"}': "more than 2 decimals",
    '{"product_id": "1", "price": "1.005"}': "price '1.005' can be 1.005 or 1005",
    '{"product_id": "1", "price": "1.290"}': "price '1.290' can be 1.29 or 1290: set number_format",
    '{"product_id": "1", "price": 0.3001}': "more than 2 decimals",
    '{"product_id": "1", "price": "21474836.48"}': "too large",
    '{"product_id": "1", "price": "3,50"}': "price '3,50' has a decimal comma: write 3.50",
    '{"product_id": "1", "price": "\u20ac 3.50"}': "price '\u20ac 3.50' has a currency sign: write 3.50",
    '{"product_id": "1", "price": "1 299"}': "price '1 299' has a thousands space: write 1299",
    '{"product_id": "1", "price": "3_50"}': "price '3_50' has an underscore",
    '{"product_id": "1", "price": "1,226.00"}': "price '1,226.00' has a thousands comma: write 1226.00",
    '{"product_id": "1", "price": true}': "price true is neither a number nor a text",
    '{"product_id": "1", "price": "1.00", "promo": [' + "[" * 9999: "nested too deep",
    '{"product_id": "1", "price": "1.00", "store_id": "0002"}': "not this folder's '0001'",
    '{"product_id": "1", "price": "1.00", "currency": "USD"}': "not the company's AUD",
    '{"product_id": "\\u0000", "price": "1.00"}': "unprintable",
}


@pytest.mark.parametrize(("line", "reason"), one_in(2, BAD_LINES.items()))
def test_R9_a_bad_line_is_named_and_the_good_ones_count(ws, line, reason):
    good = lines(shelf(W, "0001"))
    path = land(ws, W, "0001", THURSDAY, [*good[:5], line, *good[5:]])
    report = update_db(ws)
    assert (report.files, report.rows, report.quarantined, report.partial) == (1, 60, 1, 0)
    assert quarantined(ws) == [{"file": str(path.relative_to(ws.path)), "line": 6, "raw": line,
                                "reason": quarantined(ws)[0]["reason"]}]
    assert reason in quarantined(ws)[0]["reason"] and len(report.problems) == 1
    assert len(ws.prices(W, "0001")) == 60


def test_R9_a_product_twice_counts_as_its_last_line(ws):
    again = json.dumps({"product_id": PRODUCTS[0], "price": "77.77"})
    land(ws, W, "0001", THURSDAY, [*lines(shelf(W, "0001")), again])
    report = update_db(ws)
    assert (report.rows, report.quarantined, len(report.problems)) == (60, 1, 1)
    first = shelf(W, "0001")[0] / 100
    assert f"product {PRODUCTS[0]} has the prices {first:.2f}, 77.77: the last counts" in report.problems[0]
    assert str(ws.prices(W, "0001", PRODUCTS[0]).price[0]) == "77.77"
    assert quarantined(ws)[0]["line"] == 1 and "line 61" in quarantined(ws)[0]["reason"]


@pytest.mark.parametrize("text", [
    b'{"product_id": 5, "price": 3.5}', b'\xef\xbb\xbf{"product_id": "5", "price": "3.50"}\r\n\r\n',
    b'{"product_id": "5", "price": "3.5", "unknown": [1, {"a": null}], "scraped_at": "now", "promo": {"2": "5.00"}}\n'])
def test_R9_what_is_unusual_but_clear_is_accepted(ws, text):
    land(ws, W, "0001", THURSDAY, []).write_bytes(text)
    report = update_db(ws)
    assert (report.rows, report.quarantined) == (1, 0)
    assert str(ws.prices(W, "0001", "5").price[0]) == "3.50"


@pytest.mark.slow
@pytest.mark.parametrize(("place", "content", "reason"), [
    ("Woolworths/0001/20261119T020000Z.jsonl.gz", gzip.compress(b"x" * 999, mtime=0)[:-9], "cannot be unpacked"),
    ("Woolworths/0001/20261119T020000Z.jsonl.gz", b"no gzip", "cannot be unpacked"),
    ("Woolworths/0001/2026-11-19.jsonl", b"{}\n", "not a UTC time"),
    ("Woolworths/9999/20261119T020000Z.jsonl", b"{}\n", "no store '9999'"),
    ("Wollworths/0001/20261119T020000Z.jsonl", b"{}\n", "no company is named 'Wollworths'"),
    ("20261119T020000Z.jsonl", b"{}\n", "inbox/<company>/<store_id>/"),
    ("Woolworths/0001/deep/20261119T020000Z.jsonl", b"{}\n", "inbox/<company>/<store_id>/"),
])
def test_R9_a_bad_file_goes_to_quarantine_and_blocks_nothing(ws, place, content, reason):
    bad = ws.path / "inbox" / place
    bad.parent.mkdir(parents=True, exist_ok=True)
    bad.write_bytes(content)
    land(ws, W, "0002", THURSDAY, lines(shelf(W, "0002")))
    report = update_db(ws)
    assert (report.files, report.rows, report.quarantined) == (1, 60, 1)
    assert reason in report.problems[0] and place in report.problems[0] and "\n" not in report.problems[0]
    assert quarantined(ws) == [{"file": f"inbox/{place}", "line": None, "reason": report.problems[0].split(": ", 1)[1]}]
    kept = list((ws.path / "quarantine").rglob("*.rejected"))
    assert [p.read_bytes() for p in kept] == [content] and in_inbox(ws) == []
    assert update_db(ws) == UpdateReport()


def test_R9_files_of_somebody_at_work_are_left_alone(ws):
    folder = ws.inbox(W, "0001")
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    names = ("20261119T020000Z.jsonl.part", ".20261119T020000Z.jsonl", "notes.txt~", ".ipynb_checkpoints/x.csv")
    for name in names: (folder / name).write_text("x")
    assert update_db(ws) == UpdateReport() and len(in_inbox(ws)) == 4


def test_R9_plain_and_encoded_folders_are_the_same_store(ws):
    plain = ws.path / "inbox" / W / "0001"
    assert plain == ws.inbox(W, "0001")
    raw = ws.path / "inbox" / "Fruit%2FVeg & Co." / "d=1"  # the store as it is, the company encoded
    raw.mkdir(parents=True)
    (raw / "20261119T020000Z.jsonl").write_text("\n".join(lines(shelf("Fruit/Veg & Co.", "d=1"))) + "\n")
    assert update_db(ws).files == 1
    land(ws, "Fruit/Veg & Co.", "d=1", THURSDAY + HOUR, lines(shelf("Fruit/Veg & Co.", "d=1")))
    assert update_db(ws).files == 1


def test_R9_the_same_file_twice_is_a_no_op(formed):
    before = seen(formed)
    for path in (formed.path / "archive").rglob("*.jsonl"):
        back = formed.path / "inbox" / path.relative_to(formed.path / "archive")
        gz = back.with_name(back.name + ".gz")
        back.write_bytes(path.read_bytes())
        gz.write_bytes(gzip.compress(path.read_bytes()))  # packed, it is still the same
    report = update_db(formed)
    assert (report, in_inbox(formed)) == (UpdateReport(), [])
    assert seen(formed) == before


def test_R9_other_content_of_the_same_time_is_a_conflict(formed):
    before, prices = seen(formed), formed.prices(now=THURSDAY)
    land(formed, W, "0001", THURSDAY, lines(shelf(W, "0001") + 5))
    report = update_db(formed)
    assert (report.files, report.quarantined) == (0, 1) and "other content" in report.problems[0]
    assert seen(formed) == before
    pd.testing.assert_frame_equal(formed.prices(now=THURSDAY), prices)


def test_R9_a_conflict_within_one_batch_keeps_the_first(ws):
    land(ws, W, "0001", THURSDAY, lines(shelf(W, "0001")))
    other = land(ws, W, "0001", THURSDAY + HOUR, lines(shelf(W, "0001") + 5))
    gz = ws.inbox(W, "0001") / "20261119T020000Z.jsonl.gz"
    gz.write_bytes(gzip.compress(other.read_bytes()))
    other.unlink()
    report = update_db(ws)
    assert (report.files, report.quarantined) == (1, 1)
    assert (ws.prices(W, "0001").price * 100).astype(int).tolist() == shelf(W, "0001").tolist()


def test_R9_an_older_file_is_history_and_moves_nothing(formed):
    before, prices = seen(formed), formed.prices(now=THURSDAY)
    land(formed, W, "0001", THURSDAY - 3 * DAY, lines(shelf(W, "0001") + 500))
    report = update_db(formed)
    assert (report.files, report.partial, report.events) == (1, 0, ())
    assert seen(formed) == before
    pd.testing.assert_frame_equal(formed.prices(now=THURSDAY), prices)
    assert len(list((formed.path / "prices/company=Woolworths/store=0001").glob("*"))) == 2


@pytest.mark.parametrize("text", [
    lines(shelf(W, "0001"), PRODUCTS[:30]),  # half of last time's products
    lines(shelf(W, "0001")) + ["broken"] * 4,  # 4 of 64 lines
    [""], ["broken"]])
def test_R9_a_partial_snapshot_is_kept_and_never_used(formed, text):
    before, prices = seen(formed), formed.prices(now=THURSDAY)
    land(formed, W, "0001", THURSDAY + DAY, text)
    report = update_db(formed)
    assert (report.files, report.partial, report.events) == (1, 1, ()) and "partial" in report.problems[-1]
    assert seen(formed) == before
    pd.testing.assert_frame_equal(formed.prices(now=THURSDAY), prices)
    assert (formed.path / "prices/company=Woolworths/store=0001/20261120T020000Z.parquet").exists()


def test_R9_the_shares_of_a_partial_snapshot_are_settings(formed):
    (formed.path / "scrapeopt.toml").open("a").write("max_bad_share = 0.5\nmin_size_share = 0.2\n")
    ws = Workspace.open(formed.path)
    land(ws, W, "0001", THURSDAY + DAY, [*lines(shelf(W, "0001"), PRODUCTS[:30]), *["broken"] * 20])
    assert update_db(ws).partial == 0


def test_R9_candidates_are_checked_and_cleared(formed):
    scrape_all(formed, 1, companies=[W], only={"0002", "0006"})
    report = update_db(formed)
    kinds = [e["kind"] for e in report.events]
    assert "CandidatesStamped" in kinds and "CandidatesCleared" in kinds
    assert not any(g.candidates for g in formed.groups(W).groups.values())
    assert json.loads(json.dumps(report.to_json()))["events"][0]["company"] == W


@pytest.mark.slow
def test_R9_several_days_at_once_are_judged_one_by_one(tmp_path):
    together, apart = new_workspace(tmp_path / "a"), new_workspace(tmp_path / "b")
    for ws in (together, apart):
        scrape_all(ws)
        update_db(ws)
    for week in (1, 2, 3):
        scrape_all(together, week)
        scrape_all(apart, week)
        update_db(apart, now=THURSDAY + 22 * DAY)
    report = update_db(together, now=THURSDAY + 22 * DAY)
    now = THURSDAY + 22 * DAY
    assert report.files == 36
    assert together.stores().last_scraped.tolist() == apart.stores().last_scraped.tolist()
    pd.testing.assert_frame_equal(together.prices(now=now), apart.prices(now=now))
    assert {e["at"][:10] for e in report.events} == {"2026-11-26", "2026-12-03", "2026-12-10"}
    assert together.events(W).words.tolist() == apart.events(W).words.tolist()


def test_R9_the_order_of_arrival_within_a_batch_does_not_matter(tmp_path):
    forward, backward = new_workspace(tmp_path / "a"), new_workspace(tmp_path / "b")
    scrape_all(forward)
    for company in reversed(ZONES):
        for store in reversed(ZONES[company]): scrape_all(backward, companies=[company], only={store})
    for ws in (forward, backward):  # the same times in both
        for path in (ws.path / "inbox").rglob("*.jsonl"): path.rename(path.with_name("20261119T020000Z.jsonl"))
        update_db(ws)
    assert seen(forward) == seen(backward)


def test_R4a_groups_are_formed_also_when_clusters_come_after_the_scrapes(tmp_path):
    ws = Workspace.create(tmp_path / "late", policy="document")
    ws.import_stores(new_workspace(tmp_path / "known").stores()[["company", "store_id", "name", "lat", "lon"]])
    scrape_all(ws)
    assert update_db(ws).events == ()
    ws.cluster(min_samples=2)
    assert any(e["kind"] == "MonolithSeeded" for e in update_db(ws).events)
    assert update_db(ws) == UpdateReport()


def test_R9_one_company_at_a_time(ws):
    scrape_all(ws)
    assert update_db(ws, company=W).files == 7
    assert len(in_inbox(ws)) == 5
    with pytest.raises(InputError, match="no company is named 'Aldi'"): update_db(ws, company="Aldi")


def test_R9_files_may_be_deleted_instead_of_archived(ws):
    (ws.path / "scrapeopt.toml").open("a").write('after_ingest = "delete"\n')
    scrape_all(ws)
    update_db(Workspace.open(ws.path))
    assert in_inbox(ws) == [] and not list((ws.path / "archive").rglob("*.jsonl"))


def test_R9_a_progress_bar_changes_nothing(ws, capsys):
    scrape_all(ws)
    assert update_db(ws, progress=True).files == 12


def test_R9_products_remember_when_they_were_first_seen(formed):
    land(formed, W, "0001", THURSDAY - 9 * DAY, lines(shelf(W, "0001"), PRODUCTS[:50]))
    land(formed, W, "0001", THURSDAY + DAY, [*lines(shelf(W, "0001")), '{"product_id": "1", "price": "2"}'])
    update_db(formed)
    with formed.begin() as session:
        seen_at = {p.product_id: str(p.first_seen.date()) for p in session.scalars(select(Product).join(Company).where(
            Company.name == W))}
    assert [seen_at[p] for p in (PRODUCTS[0], PRODUCTS[55], "1")] == ["2026-11-10", "2026-11-19", "2026-11-20"]


def test_R9_a_partial_snapshot_is_one_more_failure(ws):
    for day in range(2):
        land(ws, W, "0001", THURSDAY + day * DAY, ["broken"])
        update_db(ws)
    assert ws.stores(W).failures.tolist()[0] == 2


def test_R9_a_good_snapshot_ends_a_row_of_failures(ws):
    ws.record_failures({(W, "0001"): False})
    land(ws, W, "0001", THURSDAY, lines(shelf(W, "0001")))
    update_db(ws)
    assert ws.stores(W).failures.tolist()[0] == 0


def test_R9_a_second_run_waits_or_says_so(ws):
    scrape_all(ws)
    hurried = Workspace(ws.path, ws.settings.model_copy(update={"lock_wait_s": 0.2}), ws.engine)
    patient = Workspace(ws.path, ws.settings.model_copy(update={"lock_wait_s": 30}), ws.engine)
    reports = []
    with ws.lock():
        with pytest.raises(InputError, match=r"by another scrapeopt; gave up after 0\.2 s"): update_db(hurried)
        assert len(in_inbox(ws)) == 12
        waiting = threading.Thread(target=lambda: reports.append(update_db(patient)))
        waiting.start()
        time.sleep(0.3)
        assert reports == []
    waiting.join(60)
    assert reports[0].files == 12
