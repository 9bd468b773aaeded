"""A small company lives through random days: outages, late, doubled and torn files, new ranges, closures, a switch."""
import gzip
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from effort import drilled

from scrapeopt.analysis.metrics import find_out
from scrapeopt.analysis.status import status_rows
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
START = pd.Timestamp("2025-10-28 05:00", tz="UTC")  # a Tuesday, and two months before the lev went
SWITCH = 65  # the day on which the settings say EUR
PRODUCTS, BUDGET = 40, 6
LONGEST_WAIT = 7 + 14  # days: a store becomes due at the changeover, and is asked within two weeks of that


@dataclass
class Life:
    "A company of 13 stores in three zones, and everything that ever was in its files."
    path: Path
    policy: str
    seed: int
    outages: bool = True
    day: int = 0
    shown: dict[tuple[str, pd.Timestamp], dict[str, tuple[Decimal, str]]] = field(default_factory=dict)
    # when it comes, whose, of when, what
    late: list[tuple[int, tuple[str, str], pd.Timestamp, list[str]]] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        self.ids = [f"S{i:02d}" for i in range(13)]
        self.zone = {s: i % 3 for i, s in enumerate(self.ids)}
        self.range = {s: np.ones(PRODUCTS, bool) for s in self.ids}
        self.asked = dict.fromkeys(self.ids, 0)
        self.company = dict.fromkeys(self.ids, "Mart")  # of the open stores
        self.ws = Workspace.create(self.path, policy=self.policy)
        self.configure()
        self.import_list()
        self.ws.cluster(min_samples=3)

    def import_list(self) -> None:
        "Bring the list of the open stores; those that it lacks have closed."
        rows = [(self.company[s], s, s, 42.65 + i / 300, 23.32) for i, s in enumerate(self.ids) if s in self.company]
        self.ws.import_stores(pd.DataFrame(rows, columns=["company", "store_id", "name", "lat", "lon"]), replace=True,
                              now=self.now)

    @property
    def now(self) -> pd.Timestamp: return START + self.day * DAY

    @property
    def currency(self) -> str: return "BGN" if self.day < SWITCH else "EUR"

    def configure(self, **settings) -> None:
        "Write the settings; what is kept must not mind."
        file = self.path / "scrapeopt.toml"
        top = re.sub(r"\n#! .*", "", file.read_text(), flags=re.S)
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        top = re.sub(r"(?m)^(window_hours|min_size_share|accuracy_floor|match_threshold) = .*\n", "", top)
        own = f'[defaults]\ncurrency = "{self.currency}"\ntimezone = "Europe/Sofia"\n'
        file.write_text(f"{lines}{top}\n#! the company\n{own}")
        self.ws = Workspace.open(self.path)

    def cents(self, store: str, day: int) -> np.ndarray:
        "What a store charges on a day: its zone's prices of the week, a few of its own; -1 where it does not sell."
        week, zone = (day + 6) // 7, self.zone[store]  # Wednesdays
        base = np.random.default_rng([1, week]).integers(40, 800, PRODUCTS) * 5
        base = np.where(np.random.default_rng([2, zone]).random(PRODUCTS) < .4, base + 55 * zone, base)
        base = np.where(np.random.default_rng([3, self.ids.index(store)]).random(PRODUCTS) < .03, base + 3, base)
        base = base if day < SWITCH else (base / 1.95583).round().astype(int)
        return np.where(self.range[store], base, -1)

    def lines(self, store: str, cents: np.ndarray) -> list[str]:
        return [json.dumps({"product_id": f"P{i:02d}", "price": f"{c / 100:.2f}", "category": "AB"[i % 2]})
                for i, c in enumerate(cents) if c >= 0]

    def land(self, of: tuple[str, str], at: pd.Timestamp, lines: list[str], suffix: str = ".jsonl",
             told: str = "") -> None:
        "Put a file of a company's store into the inbox, and remember what it shows."
        path, store = self.ws.inbox(*of) / f"{at:%Y%m%dT%H%M%SZ}{suffix}", of[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{line}\n" for line in lines).encode()
        path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
        parsed = [json.loads(line) for line in lines if line.endswith("}")]
        money = told or self.currency
        self.shown.setdefault((store, at), {p["product_id"]: (Decimal(p["price"]), money) for p in parsed})

    def scrape(self, store: str, minute: int) -> None:
        "One scrape, with the luck of the day."
        at, luck, of = self.now + pd.Timedelta(minutes=minute), self.rng.random(), (self.company[store], store)
        if self.outages and self.day % 47 in range(30, 36): luck = 0.0  # the shop is down
        if luck < .06: return self.ws.record_failures({of: False}, at)
        lines = self.lines(store, self.cents(store, self.day))
        if luck < .08: lines = []
        elif luck < .10: lines = lines[:int(self.rng.integers(1, 15))]  # cut off
        elif luck < .12: lines.insert(3, '{"product_id": "P03", "pri')
        elif luck < .15:
            self.late.append((self.day + int(self.rng.integers(1, 12)), of, at, lines))
            return self.ws.record_failures({of: False}, at)  # nothing came today
        self.land(of, at, lines)
        if luck > .97: self.land(of, at, lines, ".jsonl.gz")  # the same again
        if luck > .98: self.land(of, at + HOUR / 2, lines)  # and once more

    def come_and_go(self, luck: float, store: str) -> None:
        "A store closes, opens again, or has another company's sign over the door."
        if store not in self.company:
            self.company[store], self.asked[store] = "Mart", self.day
        elif luck < .5 and list(self.company.values()).count("Mart") > 8: del self.company[store]
        elif luck > .8 and list(self.company.values()).count("Mart") > 8:
            self.company[store], self.asked[store] = "Metro", self.day
        self.import_list()
        if set(self.ws.stores()["company"]) != set(self.ws.stores().query("cluster >= 0")["company"]):
            self.ws.cluster(min_samples=3)

    def fate(self) -> None:
        "What befalls the company before its stores are scraped."
        luck, store = self.rng.random(), str(self.rng.choice(self.ids))
        if self.day in (10, 40, SWITCH): self.configure(min_size_share=.5 if self.day == 10 else .6)
        if luck < .02: self.zone[store] = int(self.rng.integers(3))
        elif luck < .04: self.range[store] = np.arange(PRODUCTS) < PRODUCTS // 2  # for good, or until it grows back
        elif luck < .07: self.range[store] = np.ones(PRODUCTS, bool)
        elif luck < .09:
            of = self.company.get(store, "Mart"), store
            self.land(of, self.now + 400 * DAY, self.lines(store, self.cents(store, self.day)))
        elif luck < .14 and self.day > 8: self.come_and_go(float(self.rng.random()), store)
        for due, whose, at, lines in self.late:
            if due == self.day: self.land(whose, at, lines, told="BGN" if at < START + SWITCH * DAY else "EUR")
        self.late = [entry for entry in self.late if entry[0] > self.day]

    def live(self) -> None:
        "One day."
        self.fate()
        tasks = self.ws.queue(BUDGET, now=self.now)
        assert len({t.store_id for t in tasks}) == len(tasks)  # never a store twice
        for k, task in enumerate(tasks):
            self.asked[task.store_id] = self.day
            self.scrape(task.store_id, k)
        update_db(self.ws, now=self.now + HOUR)
        self.check()
        self.day += 1

    def check(self) -> None:
        "What must hold on every evening."
        stores = self.ws.stores()
        assert dict(zip(stores["store_id"], stores["company"], strict=True)) == self.company  # no store lost
        waited = {s: self.day - self.asked[s] for s in self.company if self.day - self.asked[s] > LONGEST_WAIT}
        assert not waited, (self.day, waited)
        groups = [g for company in self.ws.companies() for g in self.ws.groups(company).groups.values()]
        for g in groups:
            assert g.members <= self.company.keys()
            if g.is_active: assert g.members and (g.ambassador is None or g.ambassador in g.members), (self.day, g)
            else: assert not g.members and g.ambassador is None
        assert not list((self.path / "inbox").rglob("*.jsonl*"))
        if self.day % 5 == 0: self.check_prices()

    def check_prices(self) -> None:
        "Every row is a price that a file showed at that time in that currency, once a store and product."
        table = self.ws.prices(now=self.now + HOUR)
        assert not table.duplicated(["store_id", "product_id"]).any()
        assert table["confidence"].between(0, 1).all()
        for row in table.itertuples():
            shown = self.shown[row.source_store, row.scraped_at.floor("s")]
            assert shown[row.product_id] == (row.price, row.currency), (self.day, row)
            if row.source == "direct_scrape": assert row.source_store == row.store_id
        seen = self.ws.stores().dropna(subset=["last_scraped"])["store_id"]
        assert set(table["store_id"]) <= set(seen)
        self.check_numbers()

    def check_numbers(self) -> None:
        "What `status` says, the report says."
        found = find_out(self.ws, now=self.now + HOUR)
        told, reported = status_rows(self.ws)[0], found.figures[0]
        silent = [p.which for p in found.problems if (p.kind, p.company) == ("unreachable", "Mart")]
        assert told["unreachable"] == sum(map(len, silent)), self.day
        pairs = {"stores": reported.stores, "scraped": reported.scraped, "outliers": reported.outliers,
                 "mode": reported.mode, "groups": len(reported.full)}
        assert {key: told[key] for key in pairs} == pairs, self.day


def play(path: Path, policy: str, seed: int, days: int) -> Life:
    life = Life(path, policy, seed)
    for _ in range(days): life.live()
    return life


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "days"), [("delegated", 16), drilled("document", 30), drilled("delegated", 30)])
def test_some_weeks(tmp_path, policy, days):
    life = play(tmp_path / "ws", policy, 1, days)
    assert life.ws.groups("Mart").active() and len(life.shown) > 2 * days


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "switch"), [("document", 6), drilled("document", 12), drilled("delegated", 12)])
def test_the_days_around_a_switch(tmp_path, policy, switch, monkeypatch):
    monkeypatch.setattr("test_life.SWITCH", switch)
    life = play(tmp_path / "ws", policy, 2, switch + 12)
    assert set(life.ws.prices(now=life.now)["currency"]) == {"EUR"}  # by now every store or its group was seen


@pytest.mark.drill
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("policy", ["document", "delegated"])
def test_two_hundred_days(tmp_path, policy, seed):
    life = play(tmp_path / "ws", policy, seed, 200)
    kinds = defaultdict(int)
    for kind in life.ws.events()["kind"]: kinds[kind] += 1
    assert kinds["StoreOutcast"] and kinds["AmbassadorChanged"] > 10
    assert kinds["CurrencyChanged"] and kinds["StoreRetired"] and kinds["StoreReopened"]
