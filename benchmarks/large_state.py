"""A workspace of a hundred thousand stores in a minute: groups by their events, snapshots that share their files.

The stores of a group were scraped on one day and sold the same at the same prices: one file holds the snapshot of all
of them, under as many names. Everything else is written by the functions that an update writes it with, so that the
state is one that an update could have left. One store in twenty is in no group."""
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from benchmarks.big import FIRST, PITCH_DEG, SECOND, BigChain, write_snapshot
from scrapeopt.core.calendar import local_day
from scrapeopt.grouping.belief_state import BeliefState
from scrapeopt.grouping.events import ChangesSeen, ClusterFormed, Event, GroupFounded
from scrapeopt.grouping.evidence_context import LatestSnapshots
from scrapeopt.grouping.vote import AGREES
from scrapeopt.storage.belief_tables import pack_agreement, save_belief_state
from scrapeopt.storage.repository import read_groups, save_clusters, save_events, upsert_stores
from scrapeopt.storage.snapshots import TIME_NAME, snapshot_path
from scrapeopt.storage.tables import Company, Product, Snapshot, SnapshotAgreement, Store
from scrapeopt.workspace import Workspace

ALONE_EVERY = 20  # one store in so many is in no group
CITY = 256  # stores of a cluster: a square of them
CHANGES = 2_000  # pairs of scrapes in the log of a company, that its price week is learned from


@dataclass(frozen=True)
class LargeState:
    "A workspace by its sizes."
    stores: int  # of a company
    groups: int  # of a company
    products: int = 200  # of a company
    companies: int = 1

    def chain(self, number: int) -> BigChain:
        "The prices of a company."
        return BigChain(self.stores, self.products, self.groups, seed=number)

    def company(self, number: int) -> str:
        "The name of a company."
        return f"Chain {number:02d}"

    def group_of(self, store: int) -> int | None:
        "The group of a store, by their numbers."
        return None if store % ALONE_EVERY == ALONE_EVERY - 1 else store % self.groups


def write_stores(session: Session, of: LargeState, number: int) -> Company:
    "Write a company with its stores, in clusters of neighbours."
    chain, at = of.chain(number), np.arange(of.stores)
    row = Company(name=of.company(number), currency="AUD", timezone="Australia/Perth", decimals=2, changeover=2,
                  clustering={"method": "dbscan", "eps_km": 10.0, "min_samples": 2})
    session.add(row)
    session.flush()
    ids = [chain.store_id(i) for i in at]
    city, place = np.divmod(at, CITY)  # cities are a degree apart
    upsert_stores(session, row, pd.DataFrame({
        "store_id": ids, "name": "a store", "lat": -31.9 + city // 20 + PITCH_DEG * (place // 16),
        "lon": 115.8 + city % 20 + PITCH_DEG * (place % 16)}))
    session.flush()
    names = [f"City {c}" for c in city]
    save_clusters(session, row, pd.DataFrame({"store_id": ids, "cluster": city, "cluster_name": names}))
    return row


def first_events(of: LargeState, number: int) -> list[Event]:
    "What the first update of a company has found: its groups, and how many prices change from week to week."
    chain, company = of.chain(number), of.company(number)
    members: dict[int, list[str]] = {}
    for i in range(of.stores):
        if (group := of.group_of(i)) is not None: members.setdefault(group, []).append(chain.store_id(i))
    day = int(local_day(FIRST, "Australia/Perth"))
    formed = [ClusterFormed(company=company, at=FIRST, cluster=c, place=f"City {c}")
              for c in range(-(-of.stores // CITY))]
    founded = [GroupFounded(company=company, at=FIRST, group=f"[{company}-{group}]", members=tuple(stores),
                            ambassador=stores[0], overlap=.99) for group, stores in members.items()]
    changes = [ChangesSeen(company=company, at=FIRST, store=chain.store_id(i), against=chain.store_id(i),
                           since=day - 7, until=day, shared=of.products, changed=of.products // 3)
               for i in range(min(CHANGES, of.stores))]
    return [*formed, *founded, *changes]


def write_files(folder: Path, of: LargeState, number: int) -> list[dict[str, object]]:  # rows of `Snapshot`
    "Write a snapshot for each group and each store without one; the other members have the same file."
    chain, first, rows = of.chain(number), dict[int, tuple[Path, int]](), []
    for i in range(of.stores):
        store, group = chain.store_id(i), of.group_of(i)
        at = FIRST + pd.Timedelta(minutes=i % 240)
        path = snapshot_path(of.company(number), store, at)
        if group in first:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            os.link(first[group][0], folder / path)
            found = first[group][1]
        else: found = write_snapshot(folder / path, chain, chain.store(i, 0))
        if group is not None: first.setdefault(group, (folder / path, found))
        rows.append({"store": store, "scraped_at": at, "path": path, "rows": found, "bad_lines": 0, "digest": store,
                     "partial": False, "currency": "AUD", "decimals": 2})
    return rows


def write_scraped(session: Session, company: Company, chain: BigChain, rows: list[dict[str, object]]) -> None:
    "Write what the state knows of snapshots: when, where, and how they agreed with their groups."
    keys = dict(session.execute(select(Store.store_id, Store.id).where(Store.company_id == company.id)).all())
    session.execute(insert(Snapshot), [{"store_pk": keys[row.pop("store")], **row} for row in rows])
    session.execute(update(Store), [{"id": key, "last_scraped": row["scraped_at"]}
                                    for key, row in zip(keys.values(), rows, strict=True)])
    session.execute(insert(Product), [{"company_id": company.id, "product_id": p, "category": c, "first_seen": FIRST}
                                      for p, c in zip(chain.ids.tolist(), chain.categories.tolist(), strict=True)])
    kept = session.execute(select(Snapshot.id, Snapshot.rows).join(Store, Store.id == Snapshot.store_pk)
                           .where(Store.company_id == company.id)).all()
    marks = {n: pack_agreement(np.full(n, AGREES, np.int8)) for n in {n for _, n in kept}}
    session.execute(insert(SnapshotAgreement), [{"snapshot_id": key, "agreed": n, "agreement": marks[n]}
                                                for key, n in kept])


def make_large(path: Path, of: LargeState, policy: str) -> Workspace:
    "A workspace whose stores were all scraped once, and whose groups are formed."
    workspace = Workspace.create(path, policy=policy)
    for number in range(of.companies):
        with workspace.begin() as session:
            company = write_stores(session, of, number)
            write_scraped(session, company, of.chain(number), write_files(path, of, number))
            before, events = read_groups(session, company), first_events(of, number)
            after = save_events(session, company, before, events)
            save_belief_state(session, company, BeliefState(after, LatestSnapshots.empty([], 0)), {}, FIRST)
    return workspace


def scrape_some(workspace: Workspace, of: LargeState, stores: int) -> None:
    "Put the second week's files of some stores of each company, spread over it, into the inbox."
    for number in range(of.companies):
        chain = of.chain(number)
        for i in np.linspace(0, of.stores - 1, stores // of.companies).astype(int).tolist():
            folder = workspace.inbox(of.company(number), chain.store_id(i))
            folder.mkdir(parents=True, exist_ok=True)
            at, prices = SECOND + pd.Timedelta(minutes=i % 240), chain.store(i, 1)
            lines = [f'{{"product_id": "{p}", "price": {cents / 100:.2f}, "category": "{c}"}}\n'
                     for p, c, cents in zip(chain.ids, chain.categories, prices.tolist(), strict=True) if cents >= 0]
            (folder / f"{at:{TIME_NAME}}.jsonl").write_text("".join(lines), encoding="utf-8")
