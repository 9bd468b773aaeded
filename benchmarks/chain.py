"A made-up chain of stores: price zones, formats with different ranges, stores that price some lines by themselves."
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from scrapeopt.core.prices import NOT_SOLD

FORMATS = np.array([.70, .78, .88, .95])  # share of all products that a store of each format sells
FORMAT_SHARES = (.35, .30, .25, .10)
TIERS = np.array([.93, .97, 1, 1, 1.03, 1.06, 1.10])  # price levels; a zone has one for each category
CATEGORIES = 120
NATIONAL = .30  # products with one price everywhere
PROMOTED = .02  # of a zone's products, at 20% off
OWN_PRICING, OWN_PRICES = .4, .03  # stores that price for themselves, and how much of their range
RANGE_DEVIATES = .01  # of a store's products from its format's range


def price_tags(cents: np.ndarray) -> np.ndarray:
    "Prices as shops write them: ending in 9 cents."
    return (np.maximum(cents, 19) // 10 * 10 + 9).astype(np.int32)


@dataclass(frozen=True)
class Chain:
    "Stores by number; a store's prices depend on the seed and its number only, so any part can be made alone."
    products: int = 25_000
    zones: int = 12
    per_zone: int = 1  # stores in a row that are of the same zone
    seed: int = 0

    @cached_property
    def _common(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        "Of each product the usual price, the category, whether it is national; and the range of each format."
        rng, n = np.random.default_rng(self.seed), self.products
        weights = 1 / np.arange(1, CATEGORIES + 1) ** 1.05
        category = rng.choice(CATEGORIES, n, p=weights / weights.sum())
        base = np.exp(rng.normal(6, .75, n)).clip(39, 40_000)
        popular = rng.random(n)
        # Nearly nested: what a small store sells, a big one mostly sells as well.
        ranges = [(popular + rng.normal(0, .05, n)).argsort().argsort() < share * n for share in FORMATS]
        return base, category, rng.random(n) < NATIONAL, np.array(ranges)

    @lru_cache(maxsize=64)  # noqa: B019 - a chain lives as long as the run
    def price_list(self, zone: int) -> np.ndarray:
        "The prices of a zone."
        base, category, national, _ = self._common
        rng = np.random.default_rng((self.seed, 1, zone))
        level = np.where(national, 1, rng.choice(TIERS, CATEGORIES)[category])
        promoted = rng.random(self.products) < PROMOTED
        return price_tags((base * level * np.where(promoted, .8, 1)).astype(np.int64))

    def zone(self, store: int) -> int:
        "The price zone of a store."
        return store // self.per_zone % self.zones

    def store(self, number: int) -> np.ndarray:
        "The prices of one store: int32 (products,), -1 = not sold."
        rng = np.random.default_rng((self.seed, 2, number))
        prices = self.price_list(self.zone(number)).copy()
        if rng.random() < OWN_PRICING:
            own = rng.integers(0, self.products, rng.binomial(self.products, OWN_PRICES))
            prices[own] = price_tags((prices[own] * rng.uniform(.5, 1.25, own.size)).astype(np.int64))
        sold = self._common[3][rng.choice(len(FORMATS), p=FORMAT_SHARES)].copy()
        sold[rng.integers(0, self.products, rng.binomial(self.products, RANGE_DEVIATES))] ^= True
        prices[~sold] = NOT_SOLD
        return prices

    def prices(self, first: int, last: int) -> np.ndarray:
        "The prices of the stores from `first` to before `last`: int32 (stores, products)."
        return np.stack([self.store(s) for s in range(first, last)])
