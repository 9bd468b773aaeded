"""The recorded panels that lie beside the project, as price matrices; a test that asks for one skips without it."""
from pathlib import Path

import pandas as pd
import pytest

from scrapeopt.overlap import price_matrix

DATA = Path(__file__).parents[1] / "../shared/data"


def panel(name):
    "A recorded panel, or a skip that says what is missing."
    path = DATA / name / "prices.parquet"
    if not path.exists(): pytest.skip(f"no recorded panel at ../shared/data/{name}")
    return pd.read_parquet(path)


def of_frame(frame, store, product, price):
    "A PriceMatrix of a long frame with prices in decimals of a currency."
    frame = frame.dropna(subset=[price]).drop_duplicates([store, product]).astype({store: str, product: str})
    return price_matrix((s, None, g[product], (g[price] * 100).round().astype("int32").to_numpy(), [""] * len(g))
                        for s, g in frame.groupby(store))


def walmart(week):
    frame = panel("walmart_m5")
    return of_frame(frame[frame["week"] == week], "store", "product", "price")


def konzum():
    frame = panel("konzum_hr_20250703")
    return of_frame(frame.assign(paid=frame["SpecialPrice"].fillna(frame["Price"])), "store", "ProductId", "paid")


def kroger():
    frame = panel("kroger_us_2025")
    frame = frame[frame["Date Retrieved"] == frame["Date Retrieved"].max()]
    paid = frame["Promo Price"].where(frame["Promo Price"] > 0, frame["Regular Price"])
    return of_frame(frame.assign(paid=paid), "Location ID", "UPC", "paid")


def romania(company):
    frame = panel("romania_ci_202604")
    return of_frame(frame[frame["chain"] == company], "store", "product", "price")


def fuelwatch(brand):
    "A brand's stations, each fuel on each day a product."
    frame = panel("wa_fuelwatch_2026")
    frame = frame[frame["brand_name"] == brand]
    return of_frame(frame.assign(item=frame["product_short_name"] + "@" + frame["date"].astype(str),
                                 dollars=frame["price"] / 10), "site_id", "item", "dollars")


PANELS = {"walmart 11101": lambda: walmart(11101), "walmart 11620": lambda: walmart(11620), "konzum": konzum,
          "kroger": kroger, "kaufland": lambda: romania("KAUFLAND"), "profi": lambda: romania("PROFI")}
# More of them, for what needs no threshold.
BRANDS = ("711", "VIB", "AMP", "REX")
CHAINS = ("MEGA IMAGE SRL", "PENNY", "CARREFOUR", "AUCHAN", "SELGROS")
MORE = {f"fuel {brand}": lambda brand=brand: fuelwatch(brand) for brand in BRANDS} | {
    chain: lambda chain=chain: romania(chain) for chain in CHAINS} | {"walmart 11401": lambda: walmart(11401)}
