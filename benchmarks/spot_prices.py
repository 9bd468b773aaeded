"""What spot checks cost whoever reads prices.

Of one company every store was scraped, one in twenty again a week later, and every second one was asked for a twentieth
of its products on the day after. The same prices are asked for with spot checks and without them, in turn."""
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.big import COMPANY, SECOND, BigChain, make_workspace, scrape_again
from benchmarks.page import asked, machine, put_section, table
from scrapeopt.core.prices import NOT_SOLD
from scrapeopt.storage.snapshots import TIME_NAME
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

TITLE = "Prices with spot checks"  # of the section
SIZES, QUICK = ((100, 4_000), (200, 20_000)), ((10, 500),)  # stores, products
NOW = SECOND + pd.Timedelta(days=2)
Row = dict[str, Any]


def ask_for_some(workspace: Workspace, chain: BigChain) -> None:
    "Put the answers of every second store into the inbox, to the question for a twentieth of its products."
    rng, at = np.random.default_rng(chain.seed), SECOND + pd.Timedelta(days=1)
    for number in range(0, chain.stores, 2):
        prices = chain.store(number, 1)
        some = np.sort(rng.choice(np.flatnonzero(prices != NOT_SOLD), chain.products // 20, replace=False))
        lines = [json.dumps({"product_id": chain.ids[i], "price": f"{prices[i] / 100:.2f}"}) for i in some]
        folder = workspace.inbox(COMPANY, chain.store_id(number))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{at:{TIME_NAME}}.spot.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def allowing(folder: Path, spot_checks: bool) -> Workspace:
    "The workspace, with spot checks or without them."
    file, key = folder / "scrapeopt.toml", f"\n[companies.{COMPANY}]\nspot_checks = "
    text = file.read_text(encoding="utf-8").partition(key)[0]
    file.write_text(f"{text}{key}{str(spot_checks).lower()}\n", encoding="utf-8")
    return Workspace.open(folder)


def seconds(work: Callable[[], Any], rounds: int = 3) -> float:
    "The least processor time of a piece of work, in some rounds."
    found = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def measure(folder: Path, stores: int, products: int) -> list[Row]:
    "A row for each question."
    chain = BigChain(stores, products)
    make_workspace(folder, chain, "delegated")
    checked = allowing(folder, True)
    update_db(checked, now=NOW)
    scrape_again(checked, chain, max(2, stores // 20))
    ask_for_some(checked, chain)
    update_db(checked, now=NOW)
    plain, out = allowing(folder, False), folder / "prices.parquet"
    product, store = chain.ids[products // 2], chain.store_id(1)
    questions: dict[str, Callable[[Workspace], Any]] = {
        "one product in all stores": lambda ws: ws.prices(product=product, now=NOW),
        "one store": lambda ws: ws.prices(store=store, now=NOW),
        "all prices to Parquet": lambda ws: ws.write_prices(out, now=NOW)}
    assert not checked.prices(store=store, now=NOW).equals(plain.prices(store=store, now=NOW))
    rows = []
    for work, ask in questions.items():
        cost = [seconds(lambda ws=ws, ask=ask: ask(ws)) for ws in (checked, plain)]
        rows.append({"stores": stores, "products": products, "work": work, "with": cost[0], "without": cost[1],
                     "times": cost[0] / cost[1]})
    return rows


def section(rows: list[Row]) -> str:
    "The part of the page that tells of it."
    shown = [{k: f"{v:.2f}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else v for k, v in row.items()}
             for row in rows]
    return "\n\n".join([
        "Every store was scraped, one in twenty again a week later, and every second one was asked for a twentieth of "
        "its products on the day after. Each price then has a day of its own, and is voted on by itself. Processor "
        "time of the same question with spot checks and without them, under policy `delegated`.",
        table(shown, {"stores": "stores", "products": "products", "work": "work", "with": "with, s",
                      "without": "without, s", "times": "times"})])


def main(args: list[str] | None = None) -> None:
    "Run the benchmark, keep the figures, and put them into the page."
    given, rows = asked(__doc__, "ten stores", args), list[Row]()
    with tempfile.TemporaryDirectory() as made:
        for sizes in QUICK if given.quick else SIZES: rows += measure(Path(made) / f"{sizes[0]}", *sizes)
    print(pd.DataFrame(rows).round(2).to_string(index=False))
    results = json.dumps({"machine": machine(), "questions": rows}, indent=1)
    (given.out / "spot_prices.json").write_text(results + "\n", encoding="utf-8")
    put_section(given.pages / "benchmarks.md", TITLE, section(rows))


if __name__ == "__main__": main()
