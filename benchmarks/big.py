"""Workspaces as big as a national chain, made in seconds: snapshots and their rows are written directly.

A chain has a few price zones; a store sells most of the products, at its zone's prices but for a line in fifty that it
prices itself. A week later every zone has changed a third of its prices. Groups are not written: the first `update_db`
forms them out of all snapshots at once. `scrape_again` puts the second week's files of some stores into the inbox."""
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import insert, select, update

from benchmarks.chain import CATEGORIES, price_tags
from scrapeopt.core.prices import NOT_SOLD
from scrapeopt.storage.snapshots import TIME_NAME, snapshot_path
from scrapeopt.storage.tables import Product, Snapshot, Store
from scrapeopt.workspace import Workspace

COMPANY = "Bigmart"
FIRST = pd.Timestamp("2026-11-19 02:00", tz="UTC")  # a Thursday: the day after a changeover
SECOND = FIRST + pd.Timedelta(days=7)
SPREAD_MIN = 240  # minutes in which all stores are scraped
SOLD = .96  # share of the products that a store sells
OWN_PRICES = .02  # of them, at a price of its own; in a chain in which nobody prices alike, all of them
CHANGED = .33  # of a zone's prices from one week to the next
PITCH_DEG = .018  # of the lattice of stores: two kilometres


@dataclass(frozen=True)
class BigChain:
    "A chain by its sizes; the prices of a store depend on the seed, its number and the week only."
    stores: int
    products: int  # that the company knows; a store sells most of them
    zones: int = 12
    own_prices: float = OWN_PRICES  # share of its prices that a store makes itself
    seed: int = 0

    @cached_property
    def ids(self) -> np.ndarray:
        "The ids of the products, in order."
        return np.array([str(1_000_000 + i) for i in range(self.products)])

    @cached_property
    def categories(self) -> np.ndarray:
        "The category of each product."
        return np.array([f"Aisle {i % CATEGORIES}" for i in range(self.products)])

    def store_id(self, number: int) -> str:
        "The id of a store; they sort by number."
        return f"S{number:05d}"

    @lru_cache(maxsize=64)  # noqa: B019 - a chain lives as long as the run
    def price_list(self, zone: int, week: int) -> np.ndarray:
        "What a zone charges: int32 (products,)."
        rng = np.random.default_rng((self.seed, 1, zone))
        prices = np.exp(rng.normal(6, .75, self.products)).clip(39, 40_000)
        for _ in range(week):
            prices *= np.where(rng.random(self.products) < CHANGED, rng.uniform(.6, 1.4, self.products), 1)
        return price_tags(prices.astype(np.int64))

    def store(self, number: int, week: int) -> np.ndarray:
        "The prices of a store: int32 (products,), -1 = not sold."
        rng, prices = np.random.default_rng((self.seed, 2, number)), self.price_list(number % self.zones, week).copy()
        prices[rng.random(self.products) >= SOLD] = NOT_SOLD
        own = (rng.random(self.products) < self.own_prices) & (prices != NOT_SOLD)
        prices[own] += 10 * rng.integers(1, 99, int(own.sum())).astype(np.int32)
        return prices


def write_snapshot(path: Path, chain: BigChain, prices: np.ndarray) -> int:  # rows
    "Write prices as a snapshot, laid out as `scrapeopt.storage.snapshots` does; its bytes are not synced."
    sold = prices != NOT_SOLD
    table = pa.table({"product_id": chain.ids[sold], "price": prices[sold],
                      "category": pa.array(chain.categories[sold]).dictionary_encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", row_group_size=4096, use_dictionary=["price", "category"],
                   column_encoding={"product_id": "DELTA_BYTE_ARRAY"})
    return table.num_rows


def load_stores(workspace: Workspace, chain: BigChain) -> None:
    "Load the stores, which stand on a lattice and are one cluster."
    number, width = np.arange(chain.stores), int(np.ceil(np.sqrt(chain.stores)))
    workspace.import_stores(pd.DataFrame({
        "company": COMPANY, "store_id": [chain.store_id(i) for i in number], "name": "a store",
        "lat": -31.9 + PITCH_DEG * (number // width), "lon": 115.8 + PITCH_DEG * (number % width)}))
    workspace.cluster(method="dbscan", eps_km=10, min_samples=2)


def write_baseline(workspace: Workspace, chain: BigChain) -> None:
    "Write the first week's snapshot of every store, and what the state knows of it."
    rows = []
    with workspace.begin() as session:
        keys = dict(session.execute(select(Store.store_id, Store.id)).all())
        for number, store in enumerate(sorted(keys)):
            at = FIRST + pd.Timedelta(minutes=number % SPREAD_MIN)
            path = snapshot_path(COMPANY, store, at)
            found = write_snapshot(workspace.path / path, chain, chain.store(number, 0))
            rows.append({"store_pk": keys[store], "scraped_at": at, "path": path, "rows": found, "bad_lines": 0,
                         "digest": store, "partial": False, "currency": "AUD", "decimals": 2})
        session.execute(insert(Snapshot), rows)
        session.execute(update(Store), [{"id": row["store_pk"], "last_scraped": row["scraped_at"]} for row in rows])
        session.execute(insert(Product), [{"company_id": 1, "product_id": p, "category": c, "first_seen": FIRST}
                                          for p, c in zip(chain.ids.tolist(), chain.categories.tolist(), strict=True)])


def make_workspace(path: Path, chain: BigChain, policy: str) -> Workspace:
    "A workspace whose stores were all scraped once, and whose groups are not formed."
    workspace = Workspace.create(path, policy=policy)
    load_stores(workspace, chain)
    write_baseline(workspace, chain)
    return workspace


def scrape_again(workspace: Workspace, chain: BigChain, stores: int, day: int = 0) -> None:
    "Put the second week's files of some stores, spread over the chain, into the inbox; on each day of other stores."
    for number in ((np.linspace(0, chain.stores - 1, stores).astype(int) + day) % chain.stores).tolist():
        folder = workspace.inbox(COMPANY, chain.store_id(number))
        folder.mkdir(parents=True, exist_ok=True)
        at, prices = SECOND + pd.Timedelta(days=day, minutes=number % SPREAD_MIN), chain.store(number, 1)
        lines = [f'{{"product_id": "{p}", "price": {cents / 100:.2f}, "category": "{c}"}}\n'
                 for p, c, cents in zip(chain.ids, chain.categories, prices.tolist(), strict=True) if cents != NOT_SOLD]
        (folder / f"{at:{TIME_NAME}}.jsonl").write_text("".join(lines), encoding="utf-8")
