"""The report: its figures add up, its page says what to do, whatever state the workspace is in."""
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import small_chain
from hypothesis import given
from hypothesis import strategies as st
from templates import copy_of

from scrapeopt.analysis.savings import Savings, audited_share, count_savings, spending
from scrapeopt.cli import main
from scrapeopt.commands.inspect import before_newest
from scrapeopt.core.errors import InputError
from scrapeopt.core.calendar import SyncWindow
from scrapeopt.discovery import MAX_FAILURES
from scrapeopt.analysis.metrics import find_out
from scrapeopt.analysis.audited_errors import AuditedErrors
from scrapeopt.analysis.group_map import group_figure, narrow_figure
from scrapeopt.analysis.report import causes_part, report_folder, write_report
from scrapeopt.grouping.error_causes import CAUSES, ErrorCounts
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

WEEK = pd.Timedelta("7D")
END = small_chain.THURSDAY + WEEK + pd.Timedelta("1D")
words_only = pytest.mark.usefixtures("words_only")


def reported(folder):
    "Two companies, scraped in two weeks: the second scrapes audit what was served; and a report on them."
    ws = small_chain.scraped_in_two_weeks(folder)
    write_report(ws, now=END)
    return ws


@pytest.fixture(scope="module")
def workspace(tmp_path_factory): return copy_of(reported, tmp_path_factory.mktemp("report") / "ws")


@pytest.fixture(scope="module")
def html(workspace):
    "The page of the report on it."
    found, = (workspace.path / "reports").glob(f"{END:%Y%m%dT%H%M%SZ}*.html")
    return found


class Page(HTMLParser):
    "What a page holds."
    def __init__(self, html: str):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs): self.tags.append((tag, dict(attrs)))

    def handle_data(self, data): self.words.append(data)

    @property
    def text(self) -> str: return re.sub(r"\s+", " ", "".join(self.words))


def read(path) -> Page: return Page(path.read_text(encoding="utf-8"))


# ---- the account --------------------------------------------------------------------------------------------------

times = st.lists(st.integers(0, 60 * 24), min_size=1, max_size=60).map(
    lambda hours: pd.Timestamp("2026-11-02", tz="UTC") + pd.to_timedelta(sorted(hours), unit="h"))
windows = st.builds(SyncWindow, changeover=st.sampled_from([None, *range(7)]),
                    timezone=st.sampled_from(["UTC", "Australia/Perth", "America/New_York"]))


@given(times, windows)
def test_the_account_and_its_picture_count_alike(at, window):
    log = pd.DataFrame({"store_id": [str(i % 7) for i in range(len(at))], "at": at, "rows": 10})
    total, daily = count_savings(log, window), spending(log, window)
    assert tuple(daily.iloc[-1]) == (total.scrapes, total.every_week, total.every_day)
    assert (daily.diff().dropna() >= 0).all(axis=None) and len(daily) == total.days
    assert total.every_week <= total.every_day and total.stores <= total.scrapes


def test_brute_force_itself_saves_nothing():
    days = pd.date_range("2026-11-02", periods=10, tz="UTC")
    log = pd.DataFrame({"store_id": list("abc") * 10, "at": np.repeat(days, 3), "rows": 100})
    total = count_savings(log, SyncWindow(changeover=2))
    assert total == Savings(stores=3, days=10, weeks=3, scrapes=30, requests=3000)  # two Wednesdays
    assert total.saved(total.every_day) == 0 and total.requests_of(total.every_day) == total.requests


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0, 1)), min_size=1, max_size=40))
def test_the_interval_holds_the_share(scrapes):
    audits = pd.DataFrame([(str(i), 0, n, round(n * p)) for i, (n, p) in enumerate(scrapes)],
                          columns=["store_id", "at", "prices", "right"])
    share = audited_share(audits)
    assert 0 <= share.low <= share.value <= share.high <= 1
    split = pd.concat([audits.assign(prices=audits["prices"] - audits["prices"] // 2, right=audits["right"].clip(
        upper=audits["prices"] - audits["prices"] // 2)), audits.assign(prices=audits["prices"] // 2, right=(
            audits["right"] - (audits["prices"] - audits["prices"] // 2)).clip(lower=0))])
    assert audited_share(split) == share  # two groups audited by one scrape are one witness


# ---- the page -----------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_the_page_tells_what_the_workspace_knows(workspace, html):
    page, found = read(html), find_out(workspace, now=END)
    assert [f.company for f in found.figures] == ["Fruit/Veg & Co.", "Woolworths"]
    assert sum(f.savings.scrapes for f in found.figures) == 2 * 12
    for f in found.figures:
        assert f.share is not None and str(f"{f.share.value:.1%}") in page.text
        assert all(g.name in page.text for g in f.groups)
        assert f.savings.every_week == f.stores * 2 == f.savings.scrapes
    assert "beside every store every day: 24 scrapes instead of" in page.text
    assert "as every store once a price week: 24, where that takes 24" in page.text


def test_the_page_stands_alone_and_is_labelled(html):
    page = read(html)
    tags = [tag for tag, _ in page.tags]
    assert "script" not in tags and tags.count("h1") == tags.count("main") == 1
    linking = [a for t, a in page.tags if t in ("img", "source", "link", "a")]
    links = [a.get("src") or a.get("srcset") or a.get("href") for a in linking]
    assert links and all(link.startswith("data:") for link in links)
    images = [a for t, a in page.tags if t == "img"]
    assert len(images) == tags.count("figcaption") >= 6 and all(len(a["alt"]) > 40 for a in images)
    for scheme in ("light", "dark"): assert scheme in html.read_text()


def test_names_are_text(tmp_path):
    ws = Workspace.create(tmp_path / "ws", policy="document")
    nasty = "<script>alert(1)</script>"
    ws.import_stores(small_chain.stores().assign(name=nasty, company=nasty))
    ws.cluster()
    assert "script" not in [tag for tag, _ in read(write_report(ws)).tags]


@words_only
def test_the_next_report_says_what_changed(tmp_path):
    ws = small_chain.new_workspace(tmp_path / "ws")
    small_chain.scrape_all(ws)
    update_db(ws)
    first = read(write_report(ws, now=small_chain.THURSDAY + pd.Timedelta("1D")))
    assert "This is the first report on Fruit/Veg & Co., Woolworths." in first.text
    small_chain.scrape_in_two_days(ws, 1)
    then = {c.what: (c.then, c.now) for c in find_out(ws, "Woolworths", now=END).since["Woolworths"][1]}
    assert then["Scrapes"] == ("7", "14") and then["Inferred prices right"][0] == "no audits"
    second = read(write_report(ws, "Woolworths", now=END))
    assert "Since the report of 20 November 2026" in second.text and "Fruit" not in second.text
    third = find_out(ws, now=END + WEEK)  # each company is compared with the newest report on it
    assert third.since["Woolworths"][0] == END and third.since["Fruit/Veg & Co."][0] < END


@words_only
def test_a_report_that_cannot_be_read_is_passed_over(tmp_path):
    ws = small_chain.new_workspace(tmp_path / "ws")
    write_report(ws, now=END)
    for i, text in enumerate(["", "[]", '{"at": "2026-11-28T00:00Z", "companies": {"Woolworths": {"stores": 1}}}']):
        (ws.path / "reports" / f"2026112{8 + i}T000000Z.figures.json").write_text(text)
    assert find_out(ws, now=END + 2 * WEEK).since["Woolworths"][0] == END


@words_only
def test_the_card_of_savings_is_green_only_beside_both_kinds_of_brute_force(tmp_path):
    ws = small_chain.new_workspace(tmp_path / "ws")
    for day in range(9):  # every store every second day
        for i, store in enumerate(small_chain.ZONES["Woolworths"]):
            if (day + i) % 2 == 0: small_chain.land(
                ws, "Woolworths", store, small_chain.THURSDAY + pd.Timedelta(days=day),
                small_chain.lines(small_chain.shelf("Woolworths", store)))
    update_db(ws, now=small_chain.LATER)
    (found,) = find_out(ws, "Woolworths", now=END).figures
    assert found.savings.every_week < found.savings.scrapes < found.savings.every_day
    html = write_report(ws, "Woolworths", out=tmp_path / "r.html", now=END + WEEK).read_text()
    assert "which costs less" in html and 'class="big good"' not in html
    headings = re.findall(r"<th[^>]*>([^<]*)</th>", html)
    first = headings[:headings.index("Saved") + 1]
    assert len(set(first)) == len(first) == 7


# ---- what needs a person ------------------------------------------------------------------------------------------

def test_problems_are_named(tmp_path):
    ws = small_chain.new_workspace(tmp_path / "ws")
    small_chain.scrape_all(ws, only=["0001", "0002", "0003", "0005", "0006", "0007"])
    for _ in range(MAX_FAILURES): ws.record_failures({("Woolworths", "0004"): False})
    update_db(ws)
    small_chain.land(ws, "Woolworths", "0003", small_chain.THURSDAY + WEEK, ['{"product_id": "1", "price": "free"}'])
    update_db(ws)
    told = {(p.company, p.what.split(":")[0].split(";")[0]): p.which for p in find_out(ws, now=END + 2 * WEEK).problems}
    assert told["Woolworths", "Unreachable"] == ("0004",)
    assert told["Woolworths", "The newest scrape is partial, and is not used"] == ("0003",)
    assert told["Woolworths", "In quarantine"] == ("quarantine/Woolworths/0003/20261126T020000Z.jsonl",)
    assert ("Woolworths", "Stale") in told and ("Fruit/Veg & Co.", "Stale") not in told
    assert told["Fruit/Veg & Co.", "Never scraped"] == ("a", "b", "c", "d 2", "d=1")


def test_a_weak_group_and_a_diverged_one_are_named(workspace, tmp_path):
    import shutil

    from sqlalchemy import text
    shutil.copytree(workspace.path, tmp_path / "ws")
    ws = Workspace.open(tmp_path / "ws")
    assert not [p for p in find_out(ws, now=END).problems if p.what.startswith(("Right", "Diverged"))]
    with ws.begin() as session:
        session.execute(text("update store_group set status = 'DIVERGENCE_DETECTED' where name = '[Woolworths-Perth]'"))
        session.execute(text('update inference_audit set "right" = prices / 2, prices = 300, timely = true'))
    told = [p for p in find_out(ws, "Woolworths", now=END).problems if p.what.startswith(("Right", "Diverged"))]
    assert [p.which[0].split(":")[0] for p in told if p.what.startswith("Diverged")] == ["[Woolworths-Perth]"]
    assert all("scrapeopt reanalyse" in p.todo for p in told if p.what.startswith("Right")) and len(told) == 2


# ---- whatever state it is in --------------------------------------------------------------------------------------

@words_only
def test_beginnings_say_what_to_do_next(tmp_path):
    ws = Workspace.create(tmp_path / "ws", policy="document")
    assert "scrapeopt import-stores FILE" in read(write_report(ws)).text
    ws.import_stores(small_chain.stores()[:1])
    assert "scrapeopt cluster-stores" in read(write_report(ws)).text
    ws.cluster()
    told = read(write_report(ws)).text
    assert "Scrape the first stores with: scrapeopt scrape --command TEMPLATE" in told and "cluster-stores" not in told
    small_chain.scrape_all(ws, companies=["Woolworths"], only=["0001"])
    update_db(ws)
    one = read(write_report(ws, now=END))  # one store: no groups, no audits
    assert "audited as soon as" in one.text and "1 scrapes" in one.text
    assert "Nothing has been audited in the last 28 days" in one.text
    assert "no two stores price alike" not in one.text  # one store has nobody to be alike to


def test_broken_settings_end_in_a_page_and_a_sentence(tmp_path, capsys):
    ws = Workspace.create(tmp_path / "ws", policy="document")
    (ws.path / "scrapeopt.toml").write_text("eps_kn = 3\n")
    out = tmp_path / "r.html"
    with pytest.raises(SystemExit) as ended: main(["report", "-w", str(ws.path), "--out", str(out)])
    assert ended.value.code == 2 and "did you mean 'eps_km'?" in capsys.readouterr().err
    assert "did you mean 'eps_km'?" in read(out).text and "then try again: scrapeopt report" in read(out).text
    with pytest.raises(InputError, match="is no workspace"): report_folder(tmp_path / "none")
    assert not (tmp_path / "none").exists()


@words_only
def test_the_command(workspace, tmp_path, capsys):
    out = tmp_path / "new" / "w.html"
    with pytest.raises(SystemExit) as ended:
        main(["report", "-w", str(workspace.path), "--company", "Woolworths", "--out", str(out), "--now", str(END)])
    assert ended.value.code == 0 and capsys.readouterr().out.strip() == str(out)
    assert "Fruit" not in read(out).text
    with pytest.raises(SystemExit) as ended: main(["report", "-w", str(workspace.path), "--company", "Aldi"])
    assert ended.value.code == 2 and "no company is named 'Aldi'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended: main(["report", "-w", str(workspace.path), "--out", str(tmp_path)])
    assert ended.value.code == 2 and capsys.readouterr().err.count("\n") == 1  # a folder is no file


def test_figures_are_plain_json(workspace):
    kept = json.loads((workspace.path / "reports" / f"{END:%Y%m%dT%H%M%SZ}.figures.json").read_text())
    assert kept["companies"]["Woolworths"]["savings"]["scrapes"] == 14


def test_the_clusters_that_would_be_specks_have_maps_of_their_own():
    rng = np.random.default_rng(0)
    places = [(38.73, -9.15, 9), (41.16, -8.61, 7), (37.02, -7.93, 4), (41.5, -8.4, 3)]
    cities, numbers = ("Lisbon", "Porto", "Faro", "Braga"), np.repeat(range(4), [n for *_, n in places])
    lat, lon = (np.repeat([at[k] for at in places], [n for *_, n in places]) for k in (0, 1))
    names = [cities[k] for k in numbers]
    stores = pd.DataFrame({
        "store_id": [str(k) for k in range(len(names))], "name": "Lua", "lat": lat + rng.normal(0, .02, len(names)),
        "lon": lon + rng.normal(0, .02, len(names)), "group": "[Lua]", "ambassador": False, "role": "member",
        "cluster": numbers, "cluster_name": names})
    titles = [ax.get_title() for ax in group_figure(stores).axes]
    assert titles == ["23 stores, 1 group; here the 9 stores of Lisbon", "7 stores of Porto", "4 stores of Faro",
                      "23 stores in all"]
    narrow = narrow_figure(stores)  # for a telephone: below each other, each as wide as the screen
    narrow.draw_without_rendering()
    assert [ax.get_title() for ax in narrow.axes] == ["9 stores of Lisbon", *titles[1:3], "23 stores in 1 group"]
    tops = [ax.get_position().y1 for ax in narrow.axes]
    assert tops == sorted(tops, reverse=True) and narrow.get_figwidth() <= 4
    assert narrow.legends[0].get_window_extent().y1 < narrow.axes[-1].get_window_extent().y0


@pytest.mark.slow
def test_a_report_of_the_past_says_that_its_figures_are_of_the_newest_scrape(tmp_path):
    ws = small_chain.scraped_in_two_weeks(tmp_path / "ws")
    newest = pd.to_datetime(ws.stores()["last_scraped"], utc=True).max()
    early, late = (write_report(ws, out=tmp_path / f"{k}.html", now=at).read_text() for k, at in enumerate(
        (newest - pd.Timedelta("5D"), newest + pd.Timedelta("1h"))))
    asked = f"It was asked for as of {newest - pd.Timedelta('5D'):%d %B %Y, %H:%M} UTC"
    assert asked in early and "every figure is as of the newest scrape" in early
    assert "It was asked for" not in late


def test_status_of_the_past_says_so_too():
    rows = [{"last_scrape": datetime(2026, 11, day, tzinfo=UTC)} for day in (20, 24)] + [{"last_scrape": None}]
    told, = before_newest(rows, datetime(2026, 11, 11, tzinfo=UTC))
    assert told.startswith("--now 2026-11-11 00:00 is before the newest scrape, 2026-11-24 00:00 UTC")
    assert not before_newest(rows, None) and not before_newest(rows, datetime(2026, 11, 24, tzinfo=UTC))


def test_wrong_prices_are_told_weighted_and_counted_and_fit_each_other():
    errors = AuditedErrors("Lua", ErrorCounts(15_911, tuple(685 * (name == "clearance") for name in CAUSES)),
                           {name: 0.019 * (name == "clearance") for name in CAUSES}, 57, 16)
    part = causes_part([errors])
    told = dict(zip(part.columns, part.rows[0], strict=True))
    assert told["Wrong"] == "1.9%" and told["Wrong, not weighted"] == "685 of 15,911"
    assert "685 of 15,911 audited prices were wrong (4.3%)" in part.words[0] and "1.9% were wrong" in part.words[0]
