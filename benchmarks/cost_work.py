"""The jobs of `benchmarks.cost`: as scrapeopt does them, and as one writes them in pandas, Polars and DuckDB.

Each way takes a workspace, a folder to write to and a turn, and returns how many rows came of it and the sum of their
prices in cents, so that answers can be compared. The peers read the same files. What scrapeopt has in its state, they
have in `groups.parquet`: of each store its group, the group's Ambassador, and the file of its newest snapshot."""
import importlib
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from scrapeopt.workspace import Workspace

FIRST_ASKED = 1_000_100  # the product of the first question
NOW = "2026-11-27 12:00"  # UTC: ten hours after the second update's scrapes
Answer = tuple[int, int]  # rows; sum of their prices, cents
Way = Callable[[Path, Path, int], Answer]


def asked_product(turn: int) -> str:
    "Another product each time, so that no answer is at hand."
    return str(FIRST_ASKED + 37 * turn)


def asked_store(turn: int) -> str:
    "Another store each time."
    return f"S{turn + 1:05d}"


def table_of(out: Path) -> Path:
    "Where all prices are, written by `prices --out` before."
    return out / "all.parquet"


def inbox_files(folder: Path) -> list[tuple[str, Path]]:
    "The scraped files that wait, with their stores."
    return [(file.parent.name, file) for file in sorted((folder / "inbox").glob("*/*/*.jsonl"))]


# --- scrapeopt

@cache
def opened(folder: Path) -> "Workspace":
    "The workspace, open from the first question on."
    from scrapeopt.workspace import Workspace
    return Workspace.open(folder)


def now() -> "pd.Timestamp":
    "The moment that is asked about."
    import pandas as pd
    return pd.Timestamp(NOW, tz="UTC")


def in_cents(prices: "pd.DataFrame") -> Answer:
    "What an answer comes to."
    return len(prices), round(prices["price"].sum() * 100)


def our_update(folder: Path, out: Path, turn: int) -> Answer:
    "Take in the files and judge them, in a copy of the workspace for each turn."
    from scrapeopt.update import update_db
    report = update_db(opened(folder / str(turn)), now=now())
    if report.problems: raise AssertionError(report.problems)
    return report.rows, 0


def our_product(folder: Path, out: Path, turn: int) -> Answer:
    return in_cents(opened(folder).prices(product=asked_product(turn), now=now()))


def our_store(folder: Path, out: Path, turn: int) -> Answer:
    return in_cents(opened(folder).prices(store=asked_store(turn), now=now()))


def our_prices(folder: Path, out: Path, turn: int) -> Answer:
    "Every served price, with its name, its category and how sure it is."
    return opened(folder).write_prices(out / "ours.parquet", now=now()), 0


# --- pandas

def pandas_inbox(folder: Path, out: Path) -> "pd.DataFrame":  # a row each product, a column each store, cents
    "Read the scraped files, and write each as a snapshot."
    import pandas as pd
    columns = {}
    for store, file in inbox_files(folder):
        frame = pd.read_json(file, lines=True, dtype={"product_id": str})
        frame["price"] = (frame["price"] * 100).round().astype("int32")
        frame.sort_values("product_id").to_parquet(out / f"{store}.parquet", compression="zstd")
        columns[store] = frame.set_index("product_id")["price"]
    return pd.DataFrame(columns)


def pandas_overlaps(folder: Path, out: Path, against: "pd.Series") -> int:  # rows read
    "Write the True Overlap of the scraped stores with some others' newest snapshots (by store: the file)."
    import pandas as pd
    new, found, rows = pandas_inbox(folder, out), {}, 0
    for store, file in against.items():
        other = pd.read_parquet(file, columns=["product_id", "price"]).set_index("product_id")["price"]
        own = new.reindex(other.index)
        found[store] = own.eq(other, axis=0).sum() / own.notna().sum()
        rows += len(other)
    pd.DataFrame(found).T.rename_axis("store_id").to_parquet(out / "overlaps.parquet")
    return rows


def pandas_ambassadors(folder: Path, out: Path, turn: int) -> Answer:
    import pandas as pd
    groups = pd.read_parquet(out / "groups.parquet")
    lead = groups[groups["store_id"] == groups["ambassador"]]
    return pandas_overlaps(folder, out, lead.set_index("store_id")["file"]), 0


def pandas_all(folder: Path, out: Path, turn: int) -> Answer:
    import pandas as pd
    return pandas_overlaps(folder, out, pd.read_parquet(out / "groups.parquet").set_index("store_id")["file"]), 0


def pandas_product(folder: Path, out: Path, turn: int) -> Answer:
    import pandas as pd
    return in_cents(pd.read_parquet(table_of(out), filters=[("product_id", "==", asked_product(turn))]))


def pandas_store(folder: Path, out: Path, turn: int) -> Answer:
    import pandas as pd
    return in_cents(pd.read_parquet(table_of(out), filters=[("store_id", "==", asked_store(turn))]))


def pandas_prices(folder: Path, out: Path, turn: int) -> Answer:
    "All snapshots joined with those of the Ambassadors."
    import pandas as pd
    groups = pd.read_parquet(out / "groups.parquet")
    own = pd.concat([pd.read_parquet(file).assign(store_id=store)
                     for store, file in zip(groups["store_id"], groups["file"], strict=True)])
    own = own.merge(groups.drop(columns="file"), on="store_id")
    lead = own.loc[own["store_id"] == own["ambassador"], ["store_id", "product_id", "price"]]
    all_ = own.merge(lead.rename(columns={"store_id": "ambassador", "price": "told"}), "left",
                     on=["ambassador", "product_id"])
    all_["source"] = all_["told"].notna().map({True: "inferred_group", False: "direct_scrape"})
    all_["price"] = all_["told"].fillna(all_["price"]).astype("int32")
    all_["source_store"] = all_["ambassador"].fillna(all_["store_id"])
    all_ = all_.drop(columns=["told", "ambassador"]).assign(
        company="Bigmart", currency="AUD", scraped_at=now(), confidence=.9)
    all_.to_parquet(out / "pandas.parquet", compression="zstd", index=False)
    return len(all_), 0


# --- Polars

def polars_overlaps(folder: Path, out: Path, ambassadors_only: bool) -> int:  # rows read
    "Read the scraped files, write each as a snapshot, and write their True Overlap with others' newest snapshots."
    import polars as pl
    new: pl.DataFrame | None = None
    stores = []
    for store, file in inbox_files(folder):
        frame = pl.read_ndjson(file).with_columns((pl.col("price") * 100).round().cast(pl.Int32)).sort("product_id")
        frame.write_parquet(out / f"{store}.parquet")
        own = frame.select("product_id", pl.col("price").alias(f"of {store}"))
        new = own if new is None else new.join(own, on="product_id", how="full", coalesce=True)
        stores.append(store)
    groups = pl.read_parquet(out / "groups.parquet")
    if ambassadors_only: groups = groups.filter(pl.col("store_id") == pl.col("ambassador"))
    files = pl.scan_parquet(groups["file"].to_list(), include_file_paths="file").select("product_id", "price", "file")
    equal = [(pl.col(f"of {store}") == pl.col("price")).mean().alias(store) for store in stores]
    found = files.join(new.lazy(), on="product_id", how="left").group_by("file").agg(
        *equal, pl.len().alias("rows")).collect(engine="streaming")
    found.join(groups, on="file").write_parquet(out / "overlaps.parquet")
    return int(found["rows"].sum())


def polars_ambassadors(folder: Path, out: Path, turn: int) -> Answer:
    return polars_overlaps(folder, out, True), 0


def polars_all(folder: Path, out: Path, turn: int) -> Answer:
    return polars_overlaps(folder, out, False), 0


def polars_asked(out: Path, column: str, value: str) -> Answer:
    "The rows of the table that have a value."
    import polars as pl
    found = pl.scan_parquet(table_of(out)).filter(pl.col(column) == value).collect()
    return len(found), int(found["price"].sum() * 100)


def polars_product(folder: Path, out: Path, turn: int) -> Answer:
    return polars_asked(out, "product_id", asked_product(turn))


def polars_store(folder: Path, out: Path, turn: int) -> Answer:
    return polars_asked(out, "store_id", asked_store(turn))


def polars_prices(folder: Path, out: Path, turn: int) -> Answer:
    "All snapshots joined with those of the Ambassadors."
    import polars as pl
    groups = pl.read_parquet(out / "groups.parquet")
    leads = groups.filter(pl.col("store_id") == pl.col("ambassador"))
    def rows_of(some: pl.DataFrame) -> pl.LazyFrame:
        files = pl.scan_parquet(some["file"].to_list(), include_file_paths="file")
        return files.join(some.lazy(), on="file").drop("file")
    lead = rows_of(leads).select("ambassador", "product_id", told="price")
    units = pl.coalesce("told", "price")
    all_ = rows_of(groups).join(lead, on=["ambassador", "product_id"], how="left").select(
        pl.lit("Bigmart").alias("company"), "store_id", "product_id",
        (units.cast(pl.Decimal(14, 2)) / 100).cast(pl.Decimal(14, 2)).alias("price"), pl.lit("AUD").alias("currency"),
        pl.when(pl.col("told").is_null()).then(pl.lit("direct_scrape")).otherwise(pl.lit("inferred_group"))
        .alias("source"), pl.coalesce("ambassador", "store_id").alias("source_store"), "group",
        pl.lit(NOW).alias("scraped_at"), pl.lit(.9).alias("confidence"), "category")
    all_.sink_parquet(out / "polars.parquet", compression="zstd")
    return pl.scan_parquet(out / "polars.parquet").select(pl.len()).collect().item(), 0


# --- DuckDB

def duckdb_overlaps(folder: Path, out: Path, ambassadors_only: bool) -> int:  # rows read
    "Read the scraped files, write each as a snapshot, and write their True Overlap with others' newest snapshots."
    import duckdb
    db, stores = duckdb.connect(), []
    for store, file in inbox_files(folder):
        db.sql(f"""create table "{store}" as select product_id::varchar as product_id,
                   round(price * 100)::int as price, category from read_json('{file}') order by product_id""")
        db.sql(f"""copy "{store}" to '{out / f"{store}.parquet"}' (format parquet, compression zstd)""")
        stores.append(store)
    where = "where store_id = ambassador" if ambassadors_only else ""
    files = [row[0] for row in db.sql(f"select file from '{out / 'groups.parquet'}' {where}").fetchall()]
    joined = " ".join(f'left join "{s}" on "{s}".product_id = own.product_id' for s in stores)
    equal = ", ".join(f'avg(("{s}".price = own.price)::int) as "{s}"' for s in stores)
    db.sql(f"""create table found as select filename, {equal}, count(*) as read
               from read_parquet({files}, filename = true) own {joined} group by filename""")
    db.sql(f"copy found to '{out / 'overlaps.parquet'}' (format parquet)")
    return int(db.sql("select sum(read) from found").fetchall()[0][0])


def duckdb_ambassadors(folder: Path, out: Path, turn: int) -> Answer:
    return duckdb_overlaps(folder, out, True), 0


def duckdb_all(folder: Path, out: Path, turn: int) -> Answer:
    return duckdb_overlaps(folder, out, False), 0


def duckdb_product(folder: Path, out: Path, turn: int) -> Answer:
    import duckdb
    return in_cents(duckdb.sql(f"select * from '{table_of(out)}' where product_id = '{asked_product(turn)}'").df())


def duckdb_store(folder: Path, out: Path, turn: int) -> Answer:
    import duckdb
    return in_cents(duckdb.sql(f"select * from '{table_of(out)}' where store_id = '{asked_store(turn)}'").df())


def duckdb_prices(folder: Path, out: Path, turn: int) -> Answer:
    "All snapshots joined with those of the Ambassadors."
    import duckdb
    db = duckdb.connect()
    db.sql(f"create table groups as from '{out / 'groups.parquet'}'")
    files = [row[0] for row in db.sql("select file from groups").fetchall()]
    db.sql(f"""create view own as select store_id, product_id, price, category, ambassador, "group"
        from read_parquet({files}, filename = true) join groups on filename = file""")
    db.sql("create table lead as select ambassador, product_id, price from own where store_id = ambassador")
    db.sql(f"""copy (select 'Bigmart' as company, store_id, product_id,
        (coalesce(lead.price, own.price) / 100)::decimal(14, 2) as price, 'AUD' as currency,
        if(lead.price is null, 'direct_scrape', 'inferred_group') as source,
        coalesce(own.ambassador, store_id) as source_store, "group", timestamp '{NOW}' as scraped_at,
        .9::double as confidence, category from own left join lead using (ambassador, product_id))
        to '{out / 'duckdb.parquet'}' (format parquet, compression zstd)""")
    return int(db.sql(f"select count(*) from '{out / 'duckdb.parquet'}'").fetchall()[0][0]), 0


AMBASSADORS, ALL, PRODUCT, STORE, PRICES = WORKS = (
    "update, held against Ambassadors", "update, held against all stores", "one product in all stores", "one store",
    "all prices to Parquet")
QUESTIONS, UPDATES = (PRODUCT, STORE), (AMBASSADORS, ALL)
OURS: dict[str, Way] = {AMBASSADORS: our_update, PRODUCT: our_product, STORE: our_store, PRICES: our_prices}
PEERS: dict[str, dict[str, Way]] = {
    "pandas": {AMBASSADORS: pandas_ambassadors, ALL: pandas_all, PRODUCT: pandas_product, STORE: pandas_store,
               PRICES: pandas_prices},
    "Polars": {AMBASSADORS: polars_ambassadors, ALL: polars_all, PRODUCT: polars_product, STORE: polars_store,
               PRICES: polars_prices},
    "DuckDB": {AMBASSADORS: duckdb_ambassadors, ALL: duckdb_all, PRODUCT: duckdb_product, STORE: duckdb_store,
               PRICES: duckdb_prices}}
LOADED = {"pandas": ("pandas", "pyarrow.parquet"), "Polars": ("polars",), "DuckDB": ("duckdb", "pandas")}
LOADED_BY_OURS = ("pandas", "scrapeopt.workspace")


def do_work(who: str, work: str, folder: Path, out: Path, again: int) -> dict[str, Any]:
    """Do a job once, and some times again: processor time of the start, of the first time, and the median of the
    others, seconds; and the peak of memory, MB."""
    for name in LOADED.get(who, LOADED_BY_OURS): importlib.import_module(name)
    if who not in PEERS and work in UPDATES: importlib.import_module("scrapeopt.update")
    way, taken, answers, start = PEERS.get(who, OURS)[work], [], [], time.process_time()
    for turn in range(1 + again):
        began = time.process_time()
        answers.append(way(folder, out, turn))
        taken.append(time.process_time() - began)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024  # since the process was started
    return {"cpu": taken[0], "next": median(taken[1:]) if again else None, "start": start, "mb": peak,
            "answers": answers}


def main(words: list[str]) -> None:
    "What a process of its own does."
    who, work, folder, out, again = words
    print(json.dumps(do_work(who, work, Path(folder), Path(out), int(again))))
