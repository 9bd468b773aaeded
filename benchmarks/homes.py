"""From where on fingerprints pay when stores look for a home (R7): `python -m benchmarks.homes`.

The answer is `FINGERPRINTS_PAY` of `scrapeopt.grouping.checks`: groups x stores to place x products. Signing the stores
costs something once, and each store that is placed saves the look at all groups but the proposed ones."""
import time

import numpy as np
import pandas as pd

from scrapeopt.core.calendar import SyncWindow
from scrapeopt.grouping.checks import DocumentContext, find_home
from scrapeopt.grouping.events import GroupState, StoreGroup
from scrapeopt.overlap import MatchRule, PriceMatrix

SIZES = ((50, 4_000, 40), (200, 4_000, 40), (1_000, 4_000, 5), (1_000, 4_000, 15), (1_000, 4_000, 400),
         (200, 20_000, 10), (200, 20_000, 30), (500, 20_000, 50))  # groups, products, stores to place


def chain(groups: int, products: int, stores: int, seed: int = 0) -> tuple[DocumentContext, list[str]]:
    "Groups that differ in three lines in ten, and stores without a group that price like one of them."
    rng = np.random.default_rng(seed)
    usual = rng.integers(100, 2000, products)
    ambassadors = np.where(rng.random((groups, products)) < .3, rng.integers(100, 2000, (groups, products)), usual)
    loose = ambassadors[rng.integers(0, groups, stores)]
    prices = np.vstack([ambassadors, np.where(rng.random(loose.shape) < .02, loose + 1, loose)]).astype(np.int32)
    prices[rng.random(prices.shape) < .03] = -1
    ids = [f"s{i:05d}" for i in range(len(prices))]
    times = np.full(len(ids), np.datetime64("2026-11-23T02", "ns"))
    matrix = PriceMatrix(np.array(ids), times, prices, np.arange(products).astype(str), np.full(products, ""))
    state = GroupState("X", {f"[{s}]": StoreGroup(f"[{s}]", "X", frozenset({s}), s) for s in ids[:groups]})
    now = pd.Timestamp("2026-11-23 02:00", tz="UTC")
    return DocumentContext(state, matrix, MatchRule(.9, .85), SyncWindow(), now), ids[groups:]


def seconds(propose: bool, *size: int) -> tuple[float, list]:
    "How long it takes to find the homes of all stores, fingerprints and all, and the homes."
    ctx, stores = chain(*size)
    ctx.propose = propose
    _ = ctx.prices.planes  # both need the packed prices
    began = time.perf_counter()
    homes = [find_home(ctx, s) for s in stores]
    return time.perf_counter() - began, homes


def main() -> None:
    "Print a row for each size: the work, and how many times quicker fingerprints are."
    for propose in (True, False): seconds(propose, 5, 100, 2)  # compile
    print(f"{'groups':>7} {'products':>9} {'stores':>7} {'work':>9} {'times quicker':>14}")
    for size in SIZES:
        (every, homes), (proposed, same) = seconds(False, *size), seconds(True, *size)
        assert homes == same
        print(f"{size[0]:7,} {size[1]:9,} {size[2]:7,} {float(np.prod(size)):9.0e} {every / proposed:14.2f}")


if __name__ == "__main__": main()
