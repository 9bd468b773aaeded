"""A small chain of two companies, whose stores price alike in zones: what the tests of the workspace feed on."""
import json
from pathlib import Path

import numpy as np
import pandas as pd
from templates import copy_of

from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

THURSDAY = pd.Timestamp("2026-11-19 02:00", tz="UTC")
LATER = THURSDAY + pd.Timedelta(days=365)  # when all files of a simulated year may be taken
PRODUCTS = [str(i) for i in range(100_000, 100_060)]
NEWER_TABLES = ("lease", "run", "spot_check", "company_spot_beliefs")  # than version 0006 of the state
ZONES = {"Woolworths": {"0001": 0, "0002": 0, "0003": 0, "0004": 0, "0005": 1, "0006": 1, "0007": 1},
         "Fruit/Veg & Co.": {"a": 0, "b": 0, "c": 0, "d=1": 1, "d 2": 1}}


def stores() -> pd.DataFrame:
    "All stores, in one city."
    rows = [(company, s, f"Store {s}", -31.95 + i / 100, 115.85)
            for company, zone in ZONES.items() for i, s in enumerate(zone)]
    return pd.DataFrame(rows, columns=["company", "store_id", "name", "lat", "lon"])


def shelf(company: str, store: str, week: int = 0, zone: int | None = None) -> np.ndarray:
    "What a store charges in a week, in cents: a zone's prices, a few of the store's own."
    zone = ZONES[company][store] if zone is None else zone
    prices = np.random.default_rng(week).integers(20, 400, len(PRODUCTS)) * 5
    other = np.random.default_rng(99).random(len(PRODUCTS)) < 0.3
    own = np.random.default_rng([*store.encode()]).random(len(PRODUCTS)) < 0.02
    return np.where(other & (zone == 1), prices + 55, prices) + 3 * own


def lines(cents, ids=PRODUCTS) -> list[str]:
    "Prices as a scraper writes them."
    return [json.dumps({"product_id": p, "price": f"{c / 100:.2f}", "category": "Dairy" if int(p) % 2 else "Meat"})
            for p, c in zip(ids, cents, strict=False)]


def land(ws: Workspace, company: str, store: str, at: pd.Timestamp, text: list[str]) -> Path:
    "Put a scraped file into the inbox."
    path = ws.inbox(company, store) / f"{at:%Y%m%dT%H%M%SZ}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text) + "\n")
    return path


def land_spot_check(ws: Workspace, company: str, store: str, at: pd.Timestamp, text: list[str]) -> Path:
    "Put the answer to a spot check into the inbox."
    path = land(ws, company, store, at, text)
    return path.rename(path.with_name(path.name.replace(".jsonl", ".spot.jsonl")))


def scrape_all(ws: Workspace, week: int = 0, companies=tuple(ZONES), only=None) -> None:
    "Land a file of each store, ten minutes apart."
    at = THURSDAY + pd.Timedelta(days=7 * week)
    for company in companies:
        for i, store in enumerate(s for s in ZONES[company] if only is None or s in only):
            land(ws, company, store, at + i * pd.Timedelta(minutes=10), lines(shelf(company, store, week)))


def scrape_in_two_days(ws: Workspace, week: int) -> None:
    "Two stores of each zone on Thursday, the others on Friday; so Friday's scrapes audit what Thursday's told."
    first = {"0001", "0002", "0005", "0006", "a", "b", "d=1", "d 2"}
    scrape_all(ws, week, only=first)
    update_db(ws)
    friday = THURSDAY + pd.Timedelta(days=7 * week + 1)
    for company, zone in ZONES.items():
        for store in zone:
            if store not in first: land(ws, company, store, friday, lines(shelf(company, store, week)))
    update_db(ws)


def built_new(path: Path, policy: str, url: str | None = None) -> Workspace:
    "A workspace with the stores, clustered."
    ws = Workspace.create(path, url, policy)
    ws.import_stores(stores())
    ws.cluster(min_samples=2)
    return ws


def built_scraped(path: Path, policy: str) -> Workspace:
    "The workspace after a scrape of all stores, taken in."
    ws = built_new(path, policy)
    scrape_all(ws)
    update_db(ws, now=LATER)
    return ws


def built_two_weeks(path: Path, policy: str) -> Workspace:
    "The workspace after two weeks: the scrapes of the second audit what was served."
    ws = built_scraped(path, policy)
    scrape_in_two_days(ws, 1)
    return ws


def new_workspace(path: Path, url: str | None = None, policy: str = "document") -> Workspace:
    "A workspace with the stores, clustered."
    return copy_of(built_new, path, policy) if url is None else built_new(path, policy, url)


def scraped_once(path: Path, policy: str = "document") -> Workspace:
    "The workspace after a scrape of all stores, taken in."
    return copy_of(built_scraped, path, policy)


def scraped_in_two_weeks(path: Path, policy: str = "document") -> Workspace:
    "The workspace after two weeks: the scrapes of the second audit what was served."
    return copy_of(built_two_weeks, path, policy)


def update(path: str) -> None:
    "Open a workspace and update it: what cron would run."
    update_db(Workspace.open(path))
