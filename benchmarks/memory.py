"""Peak memory of `update_db` and `prices --out` as a company grows, and what it takes to ask for prices.

Run it with `make bench`. Each piece of work runs in a process of its own, which tells its peak and its processor time;
the interpreter and what it imports are in both. DuckDB does the same questions on the same files: every snapshot joined
with its store's group and that group's prices, written with `COPY`; and one product, one store, out of that table."""
import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.big import BigChain, make_workspace
from benchmarks.page import APPENDED, machine, put_section, table

ROOT = Path(__file__).parents[1]
PRODUCTS = 26_042  # a store sells 25,000 of them
SIZES = (50, 100, 200, 400, 800)  # stores
QUICK = (5, 10)
POLICIES = ("document", "delegated")
Row = dict[str, Any]

OPEN = """
import json, sys, time
import pandas as pd
from scrapeopt.workspace import Workspace
workspace, out, now = Workspace.open(sys.argv[1]), sys.argv[2], pd.Timestamp("2026-11-26 12:00", tz="UTC")
began = time.process_time()
"""
CLOSE = """
cpu = time.process_time() - began
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))  # since it was started
print(json.dumps({"mb": int(peak) / 1024, "cpu": cpu}))
"""
OURS = {"update": "from scrapeopt.update import update_db; update_db(workspace, now=now)",
        "write": "workspace.write_prices(out, now=now)",
        "product": "workspace.prices(product='1000500', now=now)",
        "store": "workspace.prices(store='S00001', now=now)"}



def child(code: str, folder: Path, out: Path) -> Row:
    "Do some work in a process of its own: its peak in MB, its processor time in seconds."
    words = [sys.executable, "-c", OPEN + code + CLOSE, str(folder), str(out)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def joined(groups: pd.DataFrame) -> str:
    "What DuckDB does: each store's products at the price that its group's Ambassador has, else at its own."
    return f"""
import duckdb
groups = pd.DataFrame({groups.to_dict('list')!r})
files = f"read_parquet('{{workspace.path}}/prices/*/*/*.parquet', filename=true)"
duckdb.sql("set memory_limit = '2GB'")
duckdb.sql(f'''create view own as select regexp_extract(filename, 'store=([^/]*)', 1) as store_id, product_id, price
    from {{files}}''')
duckdb.sql('''create table lead as select own.* from own semi join groups on own.store_id = groups.ambassador''')
duckdb.sql(f'''copy (select 'Bigmart' as company, own.store_id, own.product_id,
    (coalesce(lead.price, own.price) / 100)::decimal(14, 2) as price, 'AUD' as currency,
    if(lead.price is null, 'direct_scrape', 'inferred_group') as source,
    coalesce(groups.ambassador, own.store_id) as source_store, groups.name as "group", now() as scraped_at,
    .9::double as confidence from own left join groups using (store_id)
    left join lead on lead.store_id = groups.ambassador and lead.product_id = own.product_id)
    to '{{out}}' (format parquet, compression zstd)''')
"""


def beside_duckdb(folder: Path, out: Path, sizes: Row) -> list[Row]:
    "Ours and DuckDB's processor time for all prices, for one product, and for one store."
    from scrapeopt.workspace import Workspace
    groups = Workspace.open(folder).groups("Bigmart").active()
    member = pd.DataFrame([(s, g.ambassador, g.name) for g in groups for s in g.members],
                          columns=["store_id", "ambassador", "name"])
    peers = {"write": joined(member)} | {
        name: f"import duckdb; duckdb.sql(\"select * from '{out.with_name('duckdb.parquet')}' where {where}\").df()"
        for name, where in (("product", "product_id = '1000500'"), ("store", "store_id = 'S00001'"))}
    rows = []
    for name, words in (("write", "all prices to Parquet"), ("product", "one product in all stores"),
                        ("store", "one store")):
        theirs, ours = child(peers[name], folder, out.with_name("duckdb.parquet")), child(OURS[name], folder, out)
        rows.append({**sizes, "work": words, "cpu": ours["cpu"], "duckdb": theirs["cpu"],
                     "times": ours["cpu"] / theirs["cpu"]})
    return rows


def run(sizes: tuple[int, ...]) -> tuple[list[Row], list[Row]]:
    "A row for each policy and size, and the questions to the largest company."
    growth, questions = [], []
    with tempfile.TemporaryDirectory() as made:
        for policy in POLICIES:
            for stores in sizes:
                folder, out = Path(made) / f"{policy}-{stores}", Path(made) / "prices.parquet"
                make_workspace(folder, BigChain(stores, PRODUCTS), policy)
                found = {name: child(OURS[name], folder, out) for name in ("update", "write")}
                growth.append({"policy": policy, "stores": stores, "million": stores * .025, **{
                    f"{name}_{key}": value for name, told in found.items() for key, value in told.items()}})
                print(growth[-1], flush=True)
                if stores == max(sizes): questions += beside_duckdb(folder, out, {"policy": policy, "stores": stores})
                shutil.rmtree(folder)
    return growth, questions


def section(growth: list[Row], questions: list[Row]) -> str:
    "The part of the page that tells of it."
    shown = [{key: f"{value:,.2f}" if key == "million" else f"{value:,.0f}" if isinstance(value, float) else value
              for key, value in row.items()} for row in growth]
    asked = [{key: f"{value:.2f}" if isinstance(value, float) else value for key, value in row.items()}
             for row in questions]
    return "\n\n".join([
        "The peak of the process, interpreter and imports included, while all groups are formed at once by the first "
        "`update_db`, and while `prices --out` writes every served price to Parquet. 25,000 prices a store, 12 zones.",
        table(shown, {"policy": "policy", "stores": "stores", "million": "million rows", "update_mb": "update, MB",
                      "update_cpu": "processor, s", "write_mb": "prices, MB", "write_cpu": "processor, s"}),
        "And processor time beside DuckDB: its join of the snapshots with each store's Ambassador, written with "
        "`COPY`; one product and one store out of the expanded table, which somebody has to write first.",
        table(asked, {"policy": "policy", "stores": "stores", "work": "work", "cpu": "processor, s",
                      "duckdb": "DuckDB, s", "times": "times DuckDB's"})])


def main(args: list[str] | None = None) -> None:
    "Run the benchmark, keep the figures, and put them into the page."
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--quick", action="store_true", help="a few stores: a minute; proves nothing")
    ap.add_argument("--sizes", type=int, nargs="+", default=SIZES, help=f"stores (default: {SIZES})")
    given = ap.parse_args(args)
    growth, questions = run(QUICK if given.quick else tuple(given.sizes))
    print(pd.DataFrame(questions).round(2).to_string(index=False))
    if given.quick: return
    results = {"machine": machine(), "products": PRODUCTS, "growth": growth, "questions": questions}
    (ROOT / "benchmarks" / "results" / "memory.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    put_section(ROOT / "docs" / "benchmarks.md", APPENDED, section(growth, questions))


if __name__ == "__main__": main()
