"""Any sequence of good and bad days, held against a model in plain Python that says what must come of it."""
import gzip
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest
from drill_world import DAY, FAR, HOUR, check_whole
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test
from small_chain import THURSDAY, lines
from sqlalchemy import select, update

from scrapeopt import company_update as module
from scrapeopt.core.files import write_whole
from scrapeopt.storage import ingest
from scrapeopt.storage.doctor import examine, mend
from scrapeopt.storage.leases import end_leases, in_the_works, take_leases
from scrapeopt.storage.tables import Lease, Snapshot, Store
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

C, STORES = "Coles", ("a", "b", "c", "d e")
PRODUCTS = [str(i) for i in range(100_000, 100_006)]
NOBODY = "zz"  # no store's id
NEVER = pd.Timestamp(0, tz="UTC")
AHEAD = HOUR  # a scraper's clock may be ahead by this much


@dataclass(frozen=True)
class Sheet:
    "What a file holds."
    prices: tuple[int, ...]  # cents of each product; (): none, the scraper found an empty shop
    bad_lines: int = 0
    torn: bool = False  # a .gz that ends too early

    def text(self) -> list[str]: return [*lines(self.prices, PRODUCTS), *["broken"] * self.bad_lines]


@dataclass
class Shop:
    "What must be known of a store."
    snapshots: dict[pd.Timestamp, Sheet] = field(default_factory=dict)
    partial: set[pd.Timestamp] = field(default_factory=set)
    last: pd.Timestamp | None = None
    failures: int = 0
    tried: pd.Timestamp | None = None
    retired: pd.Timestamp | None = None

    def empty_in_a_row(self) -> int:
        "How often the shop was found empty since it was last believed."
        believed = max((at for at in self.snapshots if at not in self.partial), default=NEVER)
        return sum(at > believed for at in self.partial)

    def take(self, at: pd.Timestamp, sheet: Sheet, is_whole: bool) -> None:
        "A file is taken in."
        is_newest = self.last is None or at > self.last
        self.snapshots[at] = sheet
        if not is_whole: self.partial.add(at)
        elif is_newest: self.last = at
        if not sheet.prices: self.failures, self.tried = self.failures + 1, at
        elif is_newest: self.failures, self.tried = 0, None


@dataclass(frozen=True)
class Arrived:
    "A file in the inbox."
    at: pd.Timestamp
    store: str
    ending: str

    @property
    def name(self) -> str: return f"{self.at:%Y%m%dT%H%M%SZ}{self.ending}"


class Killed(BaseException):
    "Something pulled the plug."


SHEETS = st.builds(Sheet, st.tuples(*[st.integers(1, 3)] * len(PRODUCTS)).map(lambda p: tuple(100 * c for c in p)),
                   st.integers(0, 2))
HOURS = st.integers(-60, 0)
NAMES = ("write_part", "put_in_place", "quarantine_lines", "to_quarantine", "record_snapshots", "judge_new",
         "save_events", "clear_file")
STEPS = {name: next(home for home in (module, ingest) if hasattr(home, name)) for name in NAMES}  # where each is called


class Life(RuleBasedStateMachine):
    "A chain of four stores."

    @initialize()
    def found(self):
        self.folder = Path(tempfile.mkdtemp())
        self.now, self.shops = THURSDAY, {s: Shop() for s in STORES}
        self.inbox, self.rejected, self.archived = dict[Arrived, Sheet](), 0, set[str]()
        self.leases = dict[str, str]()  # store -> run
        self.ws = Workspace.create(self.folder / "ws", policy="document")
        self.import_all(STORES)
        self.ws.cluster(min_samples=2)

    def teardown(self):
        if not hasattr(self, "ws"): return
        self.ws.engine.dispose()
        shutil.rmtree(self.folder)

    def import_all(self, listed) -> None:
        table = pd.DataFrame([(C, s, "", -31.9 - i / 100, 115.8) for i, s in enumerate(STORES) if s in listed],
                             columns=["company", "store_id", "name", "lat", "lon"])
        self.ws.import_stores(table, replace=True, now=self.now)

    # --- files arrive

    def arrive(self, file: Arrived, sheet: Sheet) -> None:
        folder = self.ws.inbox(C, file.store)
        content = ("\n".join(sheet.text()) + "\n").encode()
        if file.ending.endswith(".gz"): content = gzip.compress(content, mtime=0)
        write_whole(folder / file.name, content[:-9] if sheet.torn else content)
        self.inbox[file] = sheet

    @rule(store=st.sampled_from(STORES), hours=HOURS, sheet=SHEETS, ending=st.sampled_from([".jsonl", ".ndjson.gz"]))
    def a_file_lands(self, store, hours, sheet, ending):
        self.arrive(Arrived(self.now + hours * HOUR, store, ending), sheet)

    @rule(store=st.sampled_from(STORES), hours=st.integers(0, 400))
    def a_file_lands_from_a_clock_that_is_ahead(self, store, hours):
        self.arrive(Arrived(self.now + hours * HOUR, store, ".jsonl"), Sheet((100,) * 6))

    @rule(store=st.sampled_from(STORES), hours=HOURS)
    def an_empty_shop(self, store, hours): self.arrive(Arrived(self.now + hours * HOUR, store, ".jl"), Sheet(()))

    @rule(store=st.sampled_from(STORES), hours=HOURS, sheet=SHEETS)
    def a_torn_file(self, store, hours, sheet):
        self.arrive(Arrived(self.now + hours * HOUR, store, ".jsonl.gz"), Sheet(sheet.prices, torn=True))

    @rule(hours=HOURS, sheet=SHEETS)
    def a_file_of_nobody(self, hours, sheet): self.arrive(Arrived(self.now + hours * HOUR, NOBODY, ".jsonl"), sheet)

    @rule(store=st.sampled_from(STORES), other=st.booleans(), ending=st.sampled_from([".jsonl", ".jsonl.gz"]))
    def a_known_time_again(self, store, other, ending):
        "The same file once more, or another one of the same time."
        for at, sheet in list(self.shops[store].snapshots.items())[-1:]:
            if sheet.prices: self.arrive(Arrived(at, store, ending), Sheet((700,) * 6) if other else sheet)

    # --- time passes, and stores fail, close and open

    @rule(hours=st.integers(-24, 100))
    def the_clock_moves(self, hours): self.now += hours * HOUR

    @rule(days=st.sampled_from([365, -365]))
    def the_clock_jumps(self, days): self.now = max(THURSDAY - 300 * DAY, self.now + days * DAY)

    @rule(store=st.sampled_from(STORES))
    def a_scrape_fails(self, store):
        shop = self.shops[store]
        self.ws.record_failures({(C, store): False}, self.now)
        shop.failures, shop.tried = shop.failures + 1, self.now

    @rule(listed=st.sets(st.sampled_from(STORES), min_size=2))
    def a_list_of_stores(self, listed):
        open_before = {s for s, shop in self.shops.items() if shop.retired is None}
        if not listed & open_before: return  # it would retire them all, and is refused
        self.import_all(listed)
        retired = self.ws_stores("retired_at")
        for store, shop in self.shops.items():
            if store in listed and shop.retired is not None: shop.retired, shop.failures, shop.tried = None, 0, None
            elif store not in listed and shop.retired is None:
                assert retired[store] >= self.now  # or with the newest event
                shop.retired = retired[store]

    # --- two runs lease stores

    @rule(run=st.sampled_from(["one", "two"]), stores=st.sets(st.sampled_from(STORES), min_size=1))
    def a_run_leases(self, run, stores):
        with self.ws.begin() as session:
            got = take_leases(session, {(C, s) for s in stores}, run, pd.Timestamp.now("UTC"))
        assert {s for _, s in got} == {s for s in stores if self.leases.get(s, run) == run}
        self.leases |= {s: run for _, s in got}

    @rule(run=st.sampled_from(["one", "two"]), killed=st.booleans())
    def a_run_ends(self, run, killed):
        "It gives its stores back, or was killed and its leases run out."
        with self.ws.begin() as session:
            if not killed: end_leases(session, run)
            else: session.execute(update(Lease).where(Lease.run == run).values(until=pd.Timestamp("2026", tz="UTC")))
        self.leases = {s: whose for s, whose in self.leases.items() if whose != run}

    @rule(n=st.integers(1, 6))
    def a_queue(self, n):
        asked = [t.store_id for t in self.ws.queue(n, now=self.now)]
        assert len(asked) == len(set(asked)) <= n
        assert all(self.shops[s].retired is None and s not in self.leases for s in asked)

    # --- an update

    @rule()
    def an_update(self): self.check_report(update_db(self.ws, now=self.now))

    @precondition(lambda self: self.inbox)
    @rule(step=st.sampled_from([*STEPS]), nth=st.integers(1, 3), after=st.booleans())
    def an_update_that_is_killed(self, step, nth, after):
        real, calls = getattr(STEPS[step], step), [0]

        def counted(*args, **kwargs):
            calls[0] += 1
            if calls[0] == nth and not after: raise Killed
            result = real(*args, **kwargs)
            if calls[0] == nth: raise Killed
            return result

        with patch.object(STEPS[step], step, counted), suppress(Killed): update_db(self.ws, now=self.now)
        update_db(self.ws, now=self.now)
        self.expect_update()

    def check_report(self, report) -> None:
        taken, rejected, bad = self.expect_update()
        assert (report.files, report.quarantined) == (taken, rejected + bad), report

    def expect_update(self) -> tuple[int, int, int]:
        "What an update makes of the inbox: files taken, files rejected, lines put aside."
        taken = rejected = bad = 0
        empty = {store: shop.empty_in_a_row() for store, shop in self.shops.items()}
        for file in sorted(self.inbox, key=lambda f: (f.at, f.store, f.name)):
            sheet, shop = self.inbox[file], self.shops.get(file.store)
            late = shop is not None and shop.retired is not None and file.at > shop.retired
            known = shop.snapshots.get(file.at) if shop is not None else None
            if shop is None or late or file.at > self.now + AHEAD or sheet.torn or known not in (None, sheet):
                rejected += 1
                continue
            if known is None:
                is_newest = file.at > max(shop.snapshots, default=NEVER)
                is_whole = bool(sheet.prices) or empty[file.store] >= 2  # a shop that is empty thrice is believed
                if is_newest: empty[file.store] = 0 if is_whole else empty[file.store] + 1
                shop.take(file.at, sheet, is_whole)
                taken, bad = taken + 1, bad + sheet.bad_lines
            self.archived.add(f"{file.store}/{file.name}")
        self.inbox, self.rejected = {}, self.rejected + rejected
        return taken, rejected, bad

    # --- what must hold

    def ws_stores(self, column: str) -> dict:
        "A column of the stores as they are in the state."
        with self.ws.begin() as session:
            return dict(session.execute(select(Store.store_id, getattr(Store, column))).all())

    @invariant()
    def the_state_is_the_models(self):
        if not hasattr(self, "ws"): return
        columns = {"last_scraped": "last", "failures": "failures", "tried_at": "tried", "retired_at": "retired"}
        for column, name in columns.items():
            assert self.ws_stores(column) == {s: getattr(shop, name) for s, shop in self.shops.items()}, column
        with self.ws.begin() as session:
            kept = session.execute(select(Store.store_id, Snapshot.scraped_at, Snapshot.rows, Snapshot.bad_lines,
                                          Snapshot.partial).join(Snapshot, Snapshot.store_pk == Store.id)).all()
        assert sorted(map(tuple, kept)) == sorted(
            (s, at, len(sheet.prices), sheet.bad_lines, at in shop.partial)
            for s, shop in self.shops.items() for at, sheet in shop.snapshots.items())
        assert in_the_works(self.ws) == {(C, s) for s in self.leases}

    @invariant()
    def no_file_is_lost(self):
        if not hasattr(self, "ws"): return
        files = {part: [p for p in (self.ws.path / part).rglob("*") if p.is_file()]
                 for part in ("inbox", "archive", "quarantine")}
        assert {p.name for p in files["inbox"]} == {f.name for f in self.inbox}
        assert {f"{p.parent.name.replace('%20', ' ')}/{p.name}" for p in files["archive"]} == self.archived
        assert len([p for p in files["quarantine"] if p.suffix == ".rejected"]) <= self.rejected  # one, if twice alike

    @rule()
    def what_is_served_was_shown(self):
        mend(self.ws, [found for found in examine(self.ws, now=FAR) if found.kind == "lease"])  # of killed runs
        check_whole(self.ws)
        for row in self.ws.prices(now=self.now).itertuples():
            seen = self.shops[row.source_store].snapshots
            shown = {sheet.prices[PRODUCTS.index(row.product_id)] for sheet in seen.values() if sheet.prices}
            assert int(row.price * 100) in shown, row
            if row.source != "direct_scrape": continue
            own = self.shops[row.store_id]
            assert row.source_store == row.store_id and row.scraped_at == own.last
            assert int(row.price * 100) == own.snapshots[own.last].prices[PRODUCTS.index(row.product_id)]


def test_a_life_goes_as_the_model_says():
    run_state_machine_as_test(Life, settings=settings(max_examples=5, stateful_step_count=20))


@pytest.mark.drill
@pytest.mark.timeout(7200)
def test_many_lives_go_as_the_model_says():
    run_state_machine_as_test(Life, settings=settings(max_examples=150, stateful_step_count=60))
