"Serving with spot checks in production: what was measured, in parts, of a past day, and with who showed each price."
import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest
import small_chain
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from small_chain import THURSDAY, scraped_once
from test_delegated_production import START, W, new_workspace

from scrapeopt.analysis.price_history import price_history
from scrapeopt.core.calendar import SyncWindow
from scrapeopt.core.price_week import PriceWeek
from scrapeopt.core.prices import NOT_SOLD
from scrapeopt.grouping import spot_prices
from scrapeopt.grouping.belief_state import BY_VOTE, BeliefState
from scrapeopt.grouping.events import GroupState, StoreGroup
from scrapeopt.grouping.evidence_context import LatestSnapshots
from scrapeopt.grouping.price_moves import PAST, no_moves
from scrapeopt.grouping.spot_prices import SpotPrices, serve_spotted, serve_spotted_parts
from scrapeopt.grouping.vote import NEVER
from scrapeopt.policies import find_policy
from scrapeopt.policies.scrape_value import TokenBucket
from scrapeopt.simulation.agents import Probe, Setting, Today, backtest_settings
from scrapeopt.simulation.sites import perth_stores
from scrapeopt.simulation.spot_agent import SpotCheckAgent
from scrapeopt.storage import price_query
from scrapeopt.twin import ARCHETYPES, Twin
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

DAY, HOUR, ROUNDS, BUDGET = pd.Timedelta("1D"), pd.Timedelta("1h"), 2, 3.0
SETTINGS = 'timezone = "Australia/Perth"', "spot_checks = true"


class Chain:
    "A workspace, and an agent of a backtest, that get the same answers; and all that stores have answered."

    def __init__(self, path):
        self.world = Twin(perth_stores(W, 12), n_products=80, start=START, model=ARCHETYPES["dominicks"])
        self.ws = new_workspace(path, "delegated", f"[companies.{W}]", *SETTINGS)
        self.ws.import_stores(self.world.stores.reset_index(names="store_id"))
        self.ws.cluster(min_samples=2, eps_km=60)
        chosen = backtest_settings({"spot_checks": True, "timezone": "Australia/Perth"})
        setting = Setting(self.world.stores, self.world.products, chosen.window, chosen, 0)
        self.agent, self.shown, self.days = SpotCheckAgent(find_policy("delegated"), setting), {}, []
        self.scrapes, self.answers = set(), set()  # store, when

    def ask(self, task: str | Probe) -> np.ndarray:
        "What a store answers, which is put into the inbox, too."
        store, ids = (task, None) if isinstance(task, str) else (task.store, task.products)
        at = np.arange(len(self.world.products)) if ids is None else ids
        prices = self.world.scrape(store) if ids is None else self.world.probe(store, ids)
        (self.scrapes if ids is None else self.answers).add((store, self.world.now))
        told = []
        for product, cents in zip(self.world.products.index[at], prices.tolist(), strict=True):
            if ids is None and cents == NOT_SOLD: continue
            price = "null" if cents == NOT_SOLD else f'"{cents / 100:.2f}"'
            told.append(f'{{"product_id": "{product}", "price": {price}}}')
            self.shown.setdefault((store, product), []).append((self.world.now, cents))
        path = self.ws.inbox(W, store) / f"{self.world.now:%Y%m%dT%H%M%SZ}{'' if ids is None else '.spot'}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(told) + "\n")
        return prices

    def round(self, tasks) -> None:
        "Carry out a round, and let both sides learn from it."
        asked = [task for task in tasks if isinstance(task, Probe)]
        if asked: self.agent.take_probes(self.world.now, [(task, self.ask(task)) for task in asked])
        if scraped := [t for t in tasks if isinstance(t, str)]:
            self.agent.take_in(self.world.now, {store: self.ask(store) for store in scraped})
        update_db(self.ws, now=self.world.now)

    def live(self, days: int) -> None:
        "Some days of a few rounds each."
        self.round([str(s) for s in self.world.stores.index])
        for _ in range(days):
            self.world.advance(DAY - (ROUNDS - 1) * HOUR)
            left = BUDGET
            for k in range(ROUNDS):
                if k: self.world.advance(HOUR)
                tasks = self.agent.plan(Today(self.world.now, TokenBucket(left, BUDGET, 2 * BUDGET)))
                left -= sum(1.0 if isinstance(t, str) else len(t.products) / len(self.world.products) for t in tasks)
                self.round(tasks)
            self.days.append((self.world.now, self.ws.prices(now=self.world.now), self.agent.served(self.world.now)))

    def laid_out(self, table: pd.DataFrame, column: pd.Series, empty: float) -> np.ndarray:  # (stores, products)
        "A column of the table of prices as an agent has it."
        found = np.full((len(self.world.stores), len(self.world.products)), empty)
        rows = self.world.stores.index.get_indexer(table["store_id"])
        found[rows, self.world.products.index.get_indexer(table["product_id"])] = column
        return found


@pytest.fixture(scope="module")
def lived(tmp_path_factory) -> Chain:
    chain = Chain(tmp_path_factory.mktemp("spots") / "ws")
    chain.live(9)
    return chain


@pytest.mark.slow
def test_production_serves_what_a_backtest_serves(lived):
    for _, table, (prices, sure) in lived.days:
        cents = (table["price"].astype(float) * 100).round()
        assert (lived.laid_out(table, cents, NOT_SOLD) == prices).all()
        told = lived.laid_out(table, table["confidence"], 0.0)
        assert np.allclose(told[prices != NOT_SOLD], sure[prices != NOT_SOLD])
    assert {"direct_scrape", "inferred_group"} <= set(table["source"])


def test_each_price_names_who_showed_it_and_when(lived):
    "On that day its source showed this price; or another one, and this one before, where it is foretold."
    kinds = set()
    for now, table, _ in lived.days:
        for row in table.itertuples():
            asked, cents = (row.source_store, row.scraped_at), round(float(row.price) * 100)
            assert asked in lived.scrapes | lived.answers and row.scraped_at <= now
            shown = [(at.date(), c) for at, c in lived.shown[row.source_store, row.product_id] if at <= now]
            if asked not in lived.scrapes: kinds.add(row.source)
            if row.source == "direct_scrape":
                assert (row.source_store, shown[-1]) == (row.store_id, (row.scraped_at.date(), cents))
                assert pd.isna(row.group)
            elif (row.scraped_at.date(), cents) not in shown:
                assert shown[-1][0] == row.scraped_at.date() and cents in [c for _, c in shown]
            else: assert row.source_store != row.store_id
    assert kinds == {"direct_scrape", "inferred_group"}


def test_one_product_and_one_store_are_served_as_among_all(lived):
    now, table, _ = lived.days[-1]
    for column, asked in (("product_id", "product"), ("store_id", "store")):
        for one, rows in list(table.groupby(column))[::5]:
            alone = lived.ws.prices(now=now, **{asked: one})
            pd.testing.assert_frame_equal(alone, rows.reset_index(drop=True))
    store, product = table.loc[0, ["store_id", "product_id"]]
    assert len(lived.ws.prices(now=now, store=store, product=product)) == 1


def test_prices_by_small_blocks_are_those_of_large_ones(lived, monkeypatch, tmp_path):
    now, table, _ = lived.days[-1]
    for module, name, cells in ((price_query, "CHUNK_CELLS", 640), (price_query, "PART_CELLS", 160),
                                (spot_prices, "FUSED_CELLS", 30), (price_query, "BATCH_ROWS", 100)):
        monkeypatch.setattr(module, name, cells)
        pd.testing.assert_frame_equal(lived.ws.prices(now=now), table)
    assert lived.ws.write_prices(tmp_path / "all.parquet", now=now) == len(table)
    written = pd.read_parquet(tmp_path / "all.parquet")
    assert written["scraped_at"].tolist() == table["scraped_at"].tolist()


def test_a_past_day_is_served_as_it_was(lived):
    for now, table, _ in lived.days[-10:]:
        pd.testing.assert_frame_equal(lived.ws.prices(now=now, as_of=now), table)
    before = START + HOUR / 2  # every store was scraped, nothing was spot checked
    assert set(lived.ws.prices(as_of=before)["source"]) == {"direct_scrape"}


def test_where_they_are_off_only_scrapes_count(lived):
    now, table, _ = lived.days[-1]
    file = lived.ws.path / "scrapeopt.toml"
    text = file.read_text()
    try:
        file.write_text(text.replace("spot_checks = true", "spot_checks = false"))
        plain = Workspace.open(lived.ws.path).prices(now=now)
    finally: file.write_text(text)
    scraped = lived.ws.stores(W).set_index("store_id")["last_scraped"]
    assert (plain["scraped_at"] == scraped.loc[plain["source_store"]].to_numpy()).all()
    assert not plain["price"].equals(table["price"])


def test_a_lost_snapshot_leaves_what_its_spot_checks_showed(lived):
    now, table, _ = lived.days[-1]
    scraped = lived.ws.stores(W).set_index("store_id")["last_scraped"]
    own = table[(table["source"] == "direct_scrape")
                & (table["scraped_at"] > scraped.loc[table["store_id"]].to_numpy())]
    store = own["store_id"].value_counts().index[0]
    path = max((lived.ws.path / "prices").rglob(f"store={store}/*.parquet"))
    hidden = path.rename(path.with_suffix(".hidden"))
    try:
        with warnings.catch_warnings(record=True) as told: holed = lived.ws.prices(now=now)
    finally: hidden.rename(path)
    assert len(told) == 1 and store in str(told[0].message)
    columns = ["product_id", "price", "source", "scraped_at"]
    still = holed[(holed["store_id"] == store)].merge(own.loc[own["store_id"] == store, columns], on=columns)
    assert len(still) == (own["store_id"] == store).sum() > 0
    others = [t[t["store_id"] != store].reset_index(drop=True) for t in (holed, table)]
    assert (others[0]["price"] == others[1]["price"]).mean() > .9


def test_the_history_of_a_price_knows_its_spot_checks(lived):
    (store, product), sights = max(lived.shown.items(), key=lambda item: len(item[1]))
    spans = [s for s in price_history(lived.ws, product, store).spans if s.source == "direct_scrape"]
    assert sum(s.times for s in spans) == len(sights) and spans[-1].last_seen == sights[-1][0]
    assert round(float(spans[-1].price) * 100) == sights[-1][1]


def made_up(seed: int, known_week: bool) -> tuple[BeliefState, SpotPrices, object, pd.Timestamp]:
    "A company about which all kinds of things are known, by chance."
    rng, (n, products), day = np.random.default_rng(seed), (9, 14), 20_762
    prices = np.where(rng.random((n, products)) < .2, NOT_SOLD, rng.integers(1, 4, (n, products)) * 100)
    days = np.where(rng.random(n) < .1, NEVER, day - rng.integers(0, 20, n))
    prices[days == NEVER] = NOT_SOLD
    latest = LatestSnapshots(tuple(f"s{i}" for i in range(n)), prices.astype(np.int32), days,
                             rng.integers(-1, 2, (n, products)).astype(np.int8), window=SyncWindow(),
                             week=PriceWeek((.02, .02, .4, .02, .02, .02, .02), evidence=float(known_week)))
    latest.first_seen = (day - rng.integers(0, 40, products)).astype("datetime64[D]").astype("datetime64[ns]")
    asked = rng.random((n, products)) < .4
    shown, before = (np.where(rng.random((n, products)) < .8, 100 * rng.integers(1, 4, (n, products)), NOT_SOLD)
                     .astype(np.int32) for _ in range(2))
    spots = SpotPrices(np.where(asked, shown, NOT_SOLD).astype(np.int32),
                       np.where(asked, day - rng.integers(0, 9, (n, products)), NEVER), before)
    by = np.where(rng.random(products) < .7, day - rng.integers(0, 9, products), NEVER)
    moves = dataclasses.replace(
        no_moves(products), changes=rng.integers(0, 9, products) * 1., exposure=rng.random(products) * 9,
        after=np.where(by > NEVER, by - rng.integers(1, 5, products), NEVER), by=by,
        checked=day - rng.integers(0, 9, products), strayed=rng.integers(0, 9, products) * 1.,
        compared=rng.integers(9, 99, products) * 1., returned=rng.integers(-1, 2, products).astype(np.int8),
        past=np.where(rng.random((PAST, products)) < .3, day - 9 - rng.integers(0, 9, (PAST, products)), NEVER),
        past_returned=rng.integers(-1, 2, (PAST, products)).astype(np.int8))
    groups = [StoreGroup(f"[{k}]", "W", frozenset(latest.stores[i] for i in rows), latest.stores[rows[0]])
              for k, rows in enumerate(([0, 1, 2, 3], [4, 5, 6]))]
    latest.nearest_group = {"s7": "[0]"}
    state = GroupState("W", {g.name: g for g in groups})
    return BeliefState(state, latest), spots, moves, pd.Timestamp(day, unit="D", tz="UTC")


def of_columns(beliefs: BeliefState, at: np.ndarray) -> BeliefState:
    "The beliefs about some products, as they are read from the state."
    latest = beliefs.latest
    some = dataclasses.replace(latest, prices=latest.prices[:, at], agreement=latest.agreement[:, at],
                               first_seen=latest.first_seen[at], products=latest.products[at],
                               categories=latest.categories[at], names=latest.names[at],
                               sold_elsewhere=latest.sold_elsewhere[:, at])
    return dataclasses.replace(beliefs, latest=some)


def told(served) -> tuple:
    "All that is served, whatever the order of the views."
    names = np.array([*(v.name for v in served.views), ""])
    shown = [np.array([*(getattr(v, part) for v in served.views), np.full(served.prices.shape[1], -9)])
             for part in ("shown", "days")]
    columns = np.arange(served.prices.shape[1])
    return served.prices, served.confidence, names[served.group], *(part[served.group, columns] for part in shown)


@given(st.integers(0, 10_000), st.booleans())
@examples(60)
def test_parts_of_stores_and_products_are_served_as_the_whole(seed, known_week):
    beliefs, spots, moves, now = made_up(seed, known_week)
    whole = told(serve_spotted(beliefs, spots, moves, now, BY_VOTE))
    stores, rng = beliefs.latest.stores, np.random.default_rng(seed)
    for at in (np.array([rng.integers(14)]), np.sort(rng.choice(14, 5, replace=False)), np.arange(14)):
        part = told(serve_spotted(of_columns(beliefs, at), spots.of(at), moves.of(at), now, BY_VOTE))
        for mine, all_of_it in zip(part, whole, strict=True): assert np.array_equal(mine, all_of_it[:, at])
    parts = [stores[:2], stores[2:3], stores[3:]]
    found = [told(served) for served in serve_spotted_parts(beliefs, spots, moves, parts, now, BY_VOTE)]
    for mine, all_of_it in zip(zip(*found, strict=True), whole, strict=True):
        assert np.array_equal(np.vstack(mine), all_of_it)


def test_prices_of_an_older_currency_are_served_from_scrapes_alone(tmp_path):
    "The log of a switch ends what spot checks had taught; who was not seen since is served as taken."
    ws, spot_time = scraped_once(tmp_path / "ws", "delegated"), THURSDAY + DAY
    file = ws.path / "scrapeopt.toml"
    text = file.read_text() + f'\n[companies."{W}"]\nspot_checks = true\n'
    file.write_text(text)
    path = small_chain.land(ws, W, "0002", spot_time, small_chain.lines(small_chain.shelf(W, "0002", 1)[:8]))
    path.rename(path.with_name(path.name.replace(".jsonl", ".spot.jsonl")))
    update_db(Workspace.open(ws.path), now=small_chain.LATER)
    before = Workspace.open(ws.path).prices(W, now=spot_time + HOUR)
    assert (before["scraped_at"] == spot_time).sum() >= 8
    file.write_text(text + 'currency = "NZD"\n')
    ws = Workspace.open(ws.path)
    small_chain.land(ws, W, "0005", spot_time + DAY, small_chain.lines(small_chain.shelf(W, "0005", 0)))
    assert not update_db(ws, now=small_chain.LATER).problems
    table = ws.prices(W, now=spot_time + DAY + HOUR)
    assert set(table["currency"]) == {"AUD", "NZD"} and not table.duplicated(["store_id", "product_id"]).any()
    assert not (table["scraped_at"] == spot_time).any()
    pd.testing.assert_frame_equal(ws.prices(W, now=spot_time + HOUR, as_of=spot_time + HOUR), before)
