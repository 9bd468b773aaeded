"""What a day of a chain takes, in seconds, memory, bytes and requests: sums of pieces, checked where none was fitted.

Run it with `make bench`. States of several sizes are written by `large_state`; each job runs in a process of its own. A
piece is a rate, such as seconds for each price of the company, found by least squares of relative errors. Two sizes are
measured and not fitted: what the model says of them is held against what they took."""
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import nnls
from sqlalchemy import text

from benchmarks.large_state import LargeState, make_large, scrape_some
from benchmarks.memory import child
from benchmarks.page import BLUE, GREEN, ORANGE, RESULTS, asked, duration, machine, save
from scrapeopt.workspace import Workspace

FITTED = ((60, 500), (60, 4_000), (200, 500), (200, 3_000), (600, 250), (600, 1_000), (100, 25_000))  # stores, products
CHECKED = ((400, 1_500), (1_200, 800))  # the second is beyond all that was fitted
QUICK = ((20, 50), (20, 100), (40, 50), (40, 100), (60, 50), (60, 80)), ((50, 60), (80, 60))
STORES_OF_GROUP = 20
DAYS_A_MONTH, DAYS_A_YEAR = 30, 365
HOURS_FOR_IT = 8  # of a night, in which a machine does the work of a day
CORES = 2  # of the machine of the tables
PRODUCTS_OF_PAGE = 50  # that a request of a scraper brings; a shop's page or answer has 20 to 100

Row = dict[str, Any]


@dataclass(frozen=True)
class Place:
    "A place with all the supermarkets of its chains."
    name: str
    stores: int
    largest: int  # stores of its largest chain
    products: int  # of a store
    source: str  # of these numbers


PLACES = (
    Place("Australia", 3_947, 1_414, 25_000, "Coles, Woolworths, ALDI and IGA: public store lists of 2024 and 2026, "
          "counted; products assumed"),
    Place("United States", 38_307, 4_600, 35_829, "Supermarkets of 2018 and products of 2021 by FMI and Progressive "
          "Grocer; the largest chain assumed"),
    Place("World", 1_000_000, 20_000, 25_000, "Assumed: the United States' supermarkets a head, for all people, "
          "rounded; nobody has counted them"))

PIECES = {  # job and measure: the rates that it is a sum of
    ("update", "cpu"): ("once", "a scraped price", "a price of the company", "a store"),
    ("prices", "cpu"): ("once", "a price of the company", "a store"),
    ("queue", "cpu"): ("once", "a store"),
    ("update", "mb"): ("once", "a price of the company", "a store")}
JOBS = {"queue": "workspace.queue(100, now=now)", "prices": "workspace.write_prices(out, now=now)",
        "update": "from scrapeopt.update import update_db; update_db(workspace, now=now)"}


def amounts(stores: float, products: float, scraped: float) -> dict[str, float]:
    "How much there is of what the pieces are rates of."
    return {"once": 1.0, "a scraped price": scraped * products, "a price of the company": stores * products,
            "a store": stores}


def scraped_share() -> float:
    "The stores that policy `delegated` scrapes a day, of all: what it did in the kept demo."
    own = json.loads((RESULTS / "pilot.json").read_text(encoding="utf-8"))["policies"]
    found = next(row for row in own if row["policy"] == "delegated")
    return found["scrapes"] / found["every_day"]


def state_bytes(workspace: Workspace) -> int:
    "The size of the state, what waits in SQLite's journal included."
    with workspace.engine.connect() as c:
        return c.scalar(text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"))


def measure(folder: Path, stores: int, products: int) -> Row:
    "What the jobs of a day take at one size, and the bytes that they leave."
    of, scraped = LargeState(stores, max(2, stores // STORES_OF_GROUP), products), max(4, stores // STORES_OF_GROUP)
    workspace = make_large(folder, of, "delegated")
    scrape_some(workspace, of, scraped)
    before = state_bytes(workspace)
    row: Row = {"stores": stores, "products": products, "scraped": scraped, "state_bytes": before}
    for job, code in JOBS.items():
        row |= {f"{job}_{measure}": value for measure, value in child(code, folder, folder / "all.parquet").items()}
    new = list((folder / "prices").rglob("20261126*.parquet"))
    row["bytes_a_price"] = sum(f.stat().st_size for f in new) / (len(new) * products)
    row["state_bytes_a_scrape"] = (state_bytes(workspace) - before) / scraped
    print(row, flush=True)
    return row


def fit(rows: list[Row]) -> dict[str, dict[str, float]]:
    "The rates of each job and measure, none of them below 0, with the least squares of relative errors."
    found = {}
    for (job, what), pieces in PIECES.items():
        parts = [amounts(r["stores"], r["products"], r["scraped"]) for r in rows]
        taken = np.array([r[f"{job}_{what}"] for r in rows])
        table = np.array([[part[p] for p in pieces] for part in parts]) / taken[:, None]
        scale = table.max(0)
        rates, _ = nnls(table / scale, np.ones(len(rows)))
        found[f"{job}_{what}"] = dict(zip(pieces, (rates / scale).tolist(), strict=True))
    return found


def predicted(rates: dict[str, float], stores: float, products: float, scraped: float) -> float:
    "What the model says."
    there = amounts(stores, products, scraped)
    return sum(rate * there[piece] for piece, rate in rates.items())


def checks(model: dict[str, dict[str, float]], rows: list[Row]) -> list[Row]:
    "A row a job and size that was not fitted: what was told, what it took, and how far that is off."
    found = []
    for row in rows:
        for name, rates in model.items():
            told = predicted(rates, row["stores"], row["products"], row["scraped"])
            found.append({"stores": row["stores"], "products": row["products"], "what": name, "told": told,
                          "took": row[name], "off": told / row[name] - 1})
    return found


def far_checks(model: dict[str, dict[str, float]]) -> list[Row]:
    "The same against what other benchmarks have measured, ten times and more beyond what was fitted."
    grown = json.loads((RESULTS / "growth.json").read_text(encoding="utf-8"))
    large = json.loads((RESULTS / "memory.json").read_text(encoding="utf-8"))
    jobs = {"queue of 100 stores": "queue_cpu", "all prices to Parquet": "prices_cpu",
            "update of one store in 100": "update_cpu"}
    rows = [{"stores": r["stores"], "products": grown["products"], "scraped": r["stores"] / 100,
             jobs[r["work"]]: r["cpu"]} for r in grown["rows"]
            if r["policy"] == "delegated" and r["work"] in jobs and r["stores"] >= 10_000]
    rows += [{"stores": r["stores"], "products": large["products"], "scraped": 0, "prices_cpu": r["write_cpu"]}
             for r in large["growth"] if r["policy"] == "delegated" and r["stores"] == 800]
    return [check for row in rows for check in checks({k: v for k, v in model.items() if k in row}, [row])]


def day_of(place: Place, model: dict[str, dict[str, float]], rows: list[Row], share: float) -> Row:
    "What a place takes a day, a month and a year."
    n, p, scraped = place.stores, place.products, share * place.stores
    own = place.largest / n  # of the largest chain, for its memory
    bytes_a_price = max(rows, key=lambda r: r["products"])["bytes_a_price"]  # a real range, not mostly a file's frame
    state = float(np.median([r["state_bytes"] / r["stores"] for r in rows]))
    a_scrape = float(np.median([r["state_bytes_a_scrape"] for r in rows]))
    hours = sum(predicted(model[f"{job}_cpu"], n, p, scraped) for job in JOBS) / 3600
    return {"place": place.name, "stores": n, "scrapes": scraped, "hours": hours,
            "machines": hours / CORES / HOURS_FOR_IT,
            "memory_gb": predicted(model["update_mb"], own * n, p, own * scraped) / 1e3,
            "prices_gb_a_year": scraped * p * bytes_a_price * DAYS_A_YEAR / 1e9,
            "state_gb_a_year": (n * state + scraped * a_scrape * DAYS_A_YEAR) / 1e9,
            "requests": scraped * p / PRODUCTS_OF_PAGE * DAYS_A_MONTH,
            "brute": n * p / PRODUCTS_OF_PAGE * DAYS_A_MONTH}


def check_chart(model: dict[str, dict[str, float]], fitted: list[Row], checked: list[Row]) -> Figure:
    "What the model says over what was measured, of processor time and of memory."
    fig = Figure(figsize=(7.5, 3.3), layout="constrained")
    for ax, what, title in zip(fig.subplots(1, 2), ("cpu", "mb"), ("processor time (s)", "peak of memory (MB)"),
                               strict=True):
        for rows, colour, label in ((fitted, BLUE, "fitted"), (checked, ORANGE, "not fitted")):
            pairs = [(r[name], predicted(rates, r["stores"], r["products"], r["scraped"]))
                     for name, rates in model.items() if name.endswith(what) for r in rows]
            ax.plot(*zip(*pairs, strict=True), "o", color=colour, label=label, ms=5, alpha=.8)
        low, high = min(ax.get_xlim()[0], ax.get_ylim()[0]), max(ax.get_xlim()[1], ax.get_ylim()[1])
        low = max(low, min(min(line.get_xdata()) for line in ax.lines) / 2)
        ax.plot([low, high], [low, high], color="black", lw=.8)
        scale = "log" if what == "cpu" else "linear"
        ax.set(xscale=scale, yscale=scale, xlabel=f"measured: {title}", ylabel="told by the model")
        ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    return fig


def reach_chart(model: dict[str, dict[str, float]], share: float, days: list[Row]) -> Figure:
    "Processor hours of a day over the stores of a place, and how many machines that is in a night."
    fig = Figure(figsize=(7.5, 3.3), layout="constrained")
    ax, n = fig.subplots(), np.geomspace(100, 2e6, 60)
    for products, colour in ((5_000, GREEN), (25_000, BLUE), (50_000, ORANGE)):
        hours = [sum(predicted(model[f"{job}_cpu"], k, products, share * k) for job in JOBS) / 3600 for k in n]
        ax.plot(n, hours, color=colour, label=f"{products:,} products a store")
    for machines in (1, 10, 100):
        ax.axhline(machines * CORES * HOURS_FOR_IT, color="grey", lw=.8, ls=":")
        label = f"{machines} machine{'s' * (machines > 1)}"
        ax.annotate(label, (120, machines * CORES * HOURS_FOR_IT * 1.15), fontsize=8, color="grey")
    for row in days:
        ax.plot(row["stores"], row["hours"], "ko", ms=5)
        ax.annotate(row["place"], (row["stores"], row["hours"]), xytext=(-6, 6), textcoords="offset points", ha="right",
                    fontsize=8)
    ax.set(xscale="log", yscale="log", xlabel="stores of all chains together", ylabel="processor hours a day")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, loc="lower right")
    return fig


def markdown(head: list[str], lines: list[list[str]]) -> str:
    "A table whose first column is text."
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---", *["--:"] * (len(head) - 1)], *lines])


def rate(value: float, unit: str) -> str:
    "What one of something takes: a duration, or bytes."
    if value == 0: return "0"
    if unit == "cpu": return duration(value)
    return f"{value:,.0f} MB" if value >= 1 else f"{value * 1e6:,.0f} bytes"


def off_words(share: float) -> str:
    "How far a reading is off, in percent."
    return f"{100 * share:+.0f}%" if abs(share) >= 0.005 else "0%"


def brief(value: float) -> str:
    "A number with two digits that mean something."
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


WORDS = {"update_cpu": "update, processor s", "prices_cpu": "all prices, processor s",
         "queue_cpu": "queue, processor s", "update_mb": "update, peak MB"}


PIECES_OF = {"update_cpu": "processor time of an update", "prices_cpu": "of a table of all prices",
             "queue_cpu": "of a queue", "update_mb": "peak of memory of an update"}


def sections(results: Row) -> list[str]:
    "The parts of the page."
    model, days, off = results["model"], results["days"], [abs(r["off"]) for r in results["checks"]]
    rates = [[PIECES_OF[name], *(rate(own[p], name.rpartition("_")[2]) if p in own else "" for p in amounts(1, 1, 1))]
             for name, own in model.items()]
    told, farther = ([[WORDS[r["what"]], f"{r['stores']:,} x {r['products']:,}", brief(r["told"]), brief(r["took"]),
                       off_words(r["off"])] for r in found] for found in (results["checks"], results["far"]))
    columns = ["measure", "stores x products", "told", "took", "off"]
    read = [[d["place"], f"{d['stores']:,}", brief(d["scrapes"]), brief(d["hours"]), brief(d["machines"]),
             brief(d["memory_gb"]), brief(d["prices_gb_a_year"]), brief(d["state_gb_a_year"])] for d in days]
    asked_for = [[d["place"], f"{d['requests'] / 1e6:,.0f} million", f"{d['brute'] / 1e6:,.0f} million",
                  f"{100 * (1 - d['requests'] / d['brute']):.0f}%"] for d in days]
    return [
        "## The pieces", "A job is a sum of pieces: something for being run at all, something for each price that was "
        "scraped, for each price of the company, for each store. The rates are those with the least squares of "
        f"relative errors over {len(results['fitted'])} sizes, from 60 to 600 stores and 250 to 25,000 products.",
        "$$\\text{seconds} = a + b \\cdot \\text{scraped} \\cdot P + c \\cdot S P + d \\cdot S$$",
        markdown(["measure", *amounts(1, 1, 1)], rates),
        "## Held against two sizes that were not fitted", f"The second is twice as large as anything fitted. Off by "
        f"{100 * float(np.median(off)):.0f}% in the median, {100 * max(off):.0f}% at worst.",
        markdown(columns, told),
        "![What the model says over what was measured](_static/bench_capacity_check.svg)",
        "*What the model says over what was measured, left processor time, right memory. On the line it is right.*",
        "What other benchmarks have measured lies far outside, and says how far a reading can be trusted there.",
        markdown(columns, farther),
        "## A country, and the world",
        f"A day is one update of {100 * results['share']:.1f}% of the stores (what policy `delegated` "
        "scraped a day in the [demo](../nbs/tutorials/perth_pilot.ipynb)), one queue and one table of all prices. "
        f"*Machines* have {CORES} cores and {HOURS_FOR_IT} hours. *Memory* is that of the largest chain, the only one "
        "that must fit at once, in an update; a table of all prices is written in pieces and stays below 1 GB "
        "([Benchmarks](benchmarks.md)). The places are far beyond what was fitted. The update is most of the hours, "
        "and what was measured of it far outside is near what is told; a queue and a table of all prices take less "
        "there than is told.",
        markdown(["place", "stores", "scrapes a day", "processor hours a day", "machines", "memory, GB",
                  "snapshots a year, GB", "state after a year, GB"], read),
        "![Processor hours of a day over the stores of a place](_static/bench_capacity.svg)",
        "*Processor hours of a day over the stores of a place. A dotted line is what so many machines have to give.*",
        *(f"*{p.name}*: {p.stores:,} stores, {p.largest:,} of them of the largest chain, {p.products:,} products. "
          f"{p.source}." for p in PLACES),
        "## Requests", f"A request brings {PRODUCTS_OF_PAGE} products. Brute force asks every store every day.",
        markdown(["place", "requests a month", "brute force", "saved"], asked_for),
        "## When more than one machine", "- **One machine** does what its cores do in the hours that it has, and holds "
        "the largest chain: the lines of the picture. Companies are updated one after the other, so only the largest "
        "counts for memory; more cores help where work is split by `workers` and threads.\n"
        "- **PostgreSQL** is not a matter of size: SQLite holds the states of the table. It is needed as soon as a "
        "second machine scrapes or updates: writers cannot safely share a file on a network disk.\n"
        "- **A cluster** is needed where the processor hours of a day exceed a machine's. Companies share nothing but "
        "the budget, so they are what is handed out: one `update-db --backend dask` has workers take whole companies, "
        "several at a time, where the state is on PostgreSQL and they see the workspace "
        "([past one machine](../nbs/tutorials/past_one_machine.ipynb)). One chain is not split, but for the reading of "
        "its files."]


def write_page(results: Row, folder: Path) -> None:
    "Write the page and its pictures under `folder`."
    (folder / "_static").mkdir(parents=True, exist_ok=True)
    model = results["model"]
    save(check_chart(model, results["fitted"], results["checked"]), folder / "_static" / "bench_capacity_check.svg")
    save(reach_chart(model, results["share"], results["days"]), folder / "_static" / "bench_capacity.svg")
    head = ["# Capacity", ":::{div} lead\nHow many stores one machine carries, and what a country and the world would "
            "take: a cost model out of measured pieces.\n:::",
            f"Processor time and memory on {results['machine']['cores']} cores; policy `delegated`; groups of "
            f"{STORES_OF_GROUP} stores. `make bench` measures again and writes this page; how each job grows is on "
            "[a page of its own](growth.md)."]
    (folder / "capacity.md").write_text("\n\n".join(head + sections(results)) + "\n", encoding="utf-8")


def run(fitted: tuple[tuple[int, int], ...], checked: tuple[tuple[int, int], ...]) -> Row:
    "All that the page tells."
    rows = []
    for stores, products in (*fitted, *checked):
        with tempfile.TemporaryDirectory() as made: rows.append(measure(Path(made) / "workspace", stores, products))
    own, others = rows[:len(fitted)], rows[len(fitted):]
    model, share = fit(own), scraped_share()
    return {"machine": machine(), "share": share, "fitted": own, "checked": others, "model": model,
            "checks": checks(model, others), "far": far_checks(model), "places": [asdict(p) for p in PLACES],
            "days": [day_of(p, model, rows, share) for p in PLACES]}


def main(args: list[str] | None = None) -> None:
    "Run the benchmark, keep the figures, and write the page."
    given = asked(__doc__, "tiny companies", args)
    results = run(*(QUICK if given.quick else (FITTED, CHECKED)))
    (given.out / "capacity.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_page(results, given.pages)
    for row in results["checks"]: print(row)
    for row in results["days"]: print(row)


if __name__ == "__main__": main()
