"""The written rules over a workspace: zones whose stores lack products, a silent Ambassador, reasons, fingerprints."""
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from effort import drilled, examples
from hypothesis import given
from hypothesis import strategies as st

from scrapeopt.core.calendar import SyncWindow
from scrapeopt.grouping import checks
from scrapeopt.grouping.checks import DocumentContext, find_home, run_checks
from scrapeopt.grouping.events import GroupState, StoreGroup, StoreJoined
from scrapeopt.overlap import MatchRule, PriceMatrix
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

CHANGEOVER = pd.Timestamp("2026-11-18", tz="Australia/Perth").tz_convert("UTC")  # a Wednesday
IDS = [f"{zone}{i}" for i in range(8) for zone in "ABC"]
PRODUCTS = 300


def shelf(store, at, lacking):
    "Cents by product: its zone's list, of which a third moves each week, without the products that the store lacks."
    rng = np.random.default_rng("ABC".index(store[0]))
    prices = rng.integers(100, 2000, PRODUCTS)
    for _ in range((at - CHANGEOVER) // pd.Timedelta(days=7) + 1):  # week -1 is the first
        prices = np.where(rng.random(PRODUCTS) < 1 / 3, rng.integers(100, 2000, PRODUCTS), prices)
    held = np.random.default_rng([7, IDS.index(store)]).random(PRODUCTS) >= lacking
    return {f"p{i:03}": int(prices[i]) for i in np.flatnonzero(held)}


def land(ws, store, at, prices):
    "A scrape in the inbox."
    path = ws.path / "inbox" / "Shop" / store / f"{at:%Y%m%dT%H%M%SZ}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"product_id": p, "price": f"{c / 100:.2f}"}) + "\n" for p, c in prices.items()))


def discovered(tmp_path, policy, lacking):
    "A workspace whose stores were scraped on two days, a changeover between them."
    ws = Workspace.create(tmp_path / "ws")
    toml = ws.path / "scrapeopt.toml"
    toml.write_text(f'policy = "{policy}"\n[companies.Shop]\ntimezone = "Australia/Perth"\n'
                    'changeover = "wednesday"\n')
    ws = Workspace.open(ws.path)
    ws.import_stores(pd.DataFrame({"company": "Shop", "store_id": IDS, "name": IDS,
                                   "lat": -31.95 + np.arange(len(IDS)) / 200, "lon": 115.85}))
    ws.cluster(min_samples=2)
    for half, day in ((IDS[:12], -1), (IDS[12:], 0)):
        for i, store in enumerate(half):
            at = CHANGEOVER + pd.Timedelta(days=day, hours=9, minutes=i)
            land(ws, store, at, shelf(store, at, lacking))
        update_db(ws)
    return ws


@pytest.mark.slow
@pytest.mark.parametrize("policy", [drilled("document"), "delegated"])
@pytest.mark.parametrize("lacking", [drilled(0.0), 0.06])
def test_R7_zones_whose_stores_lack_products_are_one_group_each_by_the_second_week(tmp_path, policy, lacking):
    ws, zones = discovered(tmp_path, policy, lacking), [sorted(s for s in IDS if s[0] == zone) for zone in "ABC"]
    for day in range(1, 15):
        now = CHANGEOVER + pd.Timedelta(days=day, hours=9)
        for i, task in enumerate(ws.queue(6, now=now)):
            at = now + pd.Timedelta(minutes=i)
            land(ws, task.store_id, at, shelf(task.store_id, at, lacking))
        update_db(ws)
        found = sorted(sorted(g.members) for g in ws.groups("Shop").active())
        if day >= 7: assert found == zones  # and nothing splits where nothing is split


@pytest.mark.parametrize("policy", [drilled("document"), "delegated"])
def test_R17_explain_says_why_a_store_has_no_group(tmp_path, policy):
    "A store that half follows its zone: the numbers of the nearest group, under both policies."
    ws = discovered(tmp_path, policy, 0.0)
    for i, store in enumerate(["A0", "A1", "A3"]):
        at = CHANGEOVER + pd.Timedelta(days=7, hours=9 + i)
        own = shelf(store, at, 0.0)
        if store == "A3": own = {p: c + (7 if int(p[1:]) % 2 else 0) for p, c in own.items()}
        land(ws, store, at, own)
        update_db(ws)
    told = " ".join(ws.events("Shop", store="A3").words)
    assert "50.0% of 300 shared prices equal" in told and "(match_threshold 0.9" in told


def many_groups(seed, groups, products=700):
    "A context with groups of one, and stores that price like one of them, or like nobody."
    rng = np.random.default_rng(seed)
    ambassadors = rng.integers(100, 2000, (groups, products))
    twins = ambassadors[:-1:2][:groups // 2]
    ambassadors[1::2] = np.where(rng.random(products) < .12, ambassadors[1::2], twins)
    loose = ambassadors[rng.integers(0, groups, 12)]
    loose = np.where(rng.random(loose.shape) < rng.choice([.02, .08, .5], (12, 1)), loose + 1, loose)
    prices = np.vstack([ambassadors, loose]).astype(np.int32)
    prices[rng.random(prices.shape) < rng.choice([.01, .05, .3], (len(prices), 1))] = -1
    ids = [f"s{i:03}" for i in range(len(prices))]
    matrix = PriceMatrix(np.array(ids), np.full(len(ids), np.datetime64("2026-11-23T02", "ns")), prices,
                         np.arange(products).astype(str), np.full(products, ""))
    state = GroupState("X", {f"[{s}]": StoreGroup(f"[{s}]", "X", frozenset({s}), s) for s in ids[:groups]})
    now = pd.Timestamp("2026-11-23 02:00", tz="UTC")
    return DocumentContext(state, matrix, MatchRule(.9, .9), SyncWindow(), now), ids[groups:]


@examples(60)
@given(st.integers(0, 2 ** 32), st.integers(2, 40))
def test_R7_fingerprints_never_change_the_answer(seed, groups):
    ctx, stores = many_groups(seed, groups)
    every = [find_home(ctx, s) for s in stores]
    ctx.propose = True
    for store, (home, overlap) in zip(stores, every, strict=True):
        proposed, again = find_home(ctx, store)
        assert proposed == home and (again == overlap or home is None)


def test_R7_fingerprints_are_asked_when_there_is_much_to_place(monkeypatch):
    plain, asked = (many_groups(1, 30) for _ in range(2))
    run_checks(plain[0], plain[1])
    assert not plain[0].propose and "sketches" not in vars(plain[0].prices)
    monkeypatch.setattr(checks, "FINGERPRINTS_PAY", 1)
    run_checks(asked[0], asked[1])
    assert "sketches" in vars(asked[0].prices)
    assert [e.words() for e in asked[0].events] == [e.words() for e in plain[0].events]


def place_one_by_one(ctx, stores):
    "What `place_outliers` does, the plain way: each store is asked when it is its turn."
    for store in stores:
        if ctx.state.group_of(store) is not None: continue
        home, overlap = find_home(ctx, store)
        if home is None: checks.found_company(ctx, store)
        else: ctx.emit(StoreJoined, home.name, store=store, against=home.ambassador, overlap=overlap)
    checks.keep_outliers(ctx, [s for s in stores if ctx.state.group_of(s) is None], {})


@pytest.mark.parametrize("at_once", [2, 5, 64])
def test_R7_placing_many_at_once_is_placing_them_one_by_one(at_once, monkeypatch):
    "Homes read off one table, and asked again after each founding: who ends where, and on what numbers."
    monkeypatch.setattr(checks, "PLACED_AT_ONCE", at_once)
    happened = set[str]()
    for seed in range(25):
        together, stores = many_groups(seed, 8)
        together.state = replace(together.state, groups=dict([*together.state.groups.items()][:4]))
        together.outliers_allowed = frozenset(stores)
        apart = replace(together, events=[])
        checks.place_outliers(together, stores)
        place_one_by_one(apart, stores)
        assert together.state == apart.state and together.events == apart.events
        happened |= {type(e).__name__ for e in together.events}
    assert happened == {"StoreJoined", "GroupFounded", "OutlierKept"}
