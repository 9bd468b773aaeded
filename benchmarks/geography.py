"""Where a company's stores are, up to a million of them: DBSCAN beside scikit-learn, HDBSCAN, and the whole.

The stores are strewn around the towns of the world, more of them where more people live. scikit-learn's best is a tree
of points in space, which DBSCAN asks for all stores within the chord of eps; its haversine tree takes several times
longer. All labels are compared first. Memory is that of a process of its own.
"""
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.cluster import DBSCAN

from benchmarks.clock import warmed
from benchmarks.page import BLUE, GREEN, ORANGE, RED, ROOT, Row, asked, cell, duration, machine, save
from scrapeopt.clustering import FEW, StoreClusterer, cluster_stores
from scrapeopt.core.dbscan import dbscan_labels
from scrapeopt.core.geo import EARTH_RADIUS_KM, unit_vectors
from scrapeopt.core.plain_geo import known_cities

if TYPE_CHECKING: from matplotlib.figure import Figure

SEED, MIN_SAMPLES = 0, 5
SPREAD_DEG, SPREAD_GROWS = 0.01, 0.35  # of stores around a town of 10,000; with which power of its people


@dataclass(frozen=True)
class Sizes:
    "What is measured."
    # stores, and eps in km: smaller where there are more, as for a denser chain
    clouds: tuple[tuple[int, float], ...] = ((100, 50), (1_000, 20), (10_000, 10), (100_000, 3), (1_000_000, 1))
    sparse: tuple[int, float] = (1_000_000, 0.3)
    haversine: int = 100_000  # stores up to which the haversine tree is waited for
    cold: tuple[int, ...] = (5_000, 20_000, 50_000)  # stores, for a process that has loaded nothing yet
    cold_rounds: int = 2  # the first may have to compile
    alone: tuple[tuple[str, int, float], ...] = (  # method, stores, eps: a process each
        ("cells", 1_000_000, 1), ("cells", 1_000_000, 20), ("chords", 1_000_000, 1), ("hdbscan", 10_000, 20),
        ("hdbscan", 100_000, 20), ("haversine hdbscan", 10_000, 20), ("cluster_stores", 10_000, 5),
        ("cluster_stores", 100_000, 5), ("cluster_stores", 1_000_000, 5))
    rounds: int = 2


QUICK = Sizes(clouds=((100, 50), (1_000, 20)), sparse=(2_000, 5), cold=(500,), cold_rounds=1, rounds=2,
              alone=(("cells", 2_000, 5), ("cluster_stores", 500, 20), ("cluster_stores", 1_000, 20)))


@lru_cache(maxsize=2)
def strewn(stores: int) -> np.ndarray:
    "Radians (stores, 2) of stores around the towns of the world."
    rng, towns = np.random.default_rng(SEED), known_cities(1000)
    people = np.array([town.population for town in towns], float)
    at = rng.choice(len(towns), stores, p=people / people.sum())
    spread = SPREAD_DEG * (people[at] / 10_000)**SPREAD_GROWS
    degrees = np.array([(t.latitude, t.longitude) for t in towns])[at] + rng.normal(size=(stores, 2)) * spread[:, None]
    return np.radians(np.column_stack([degrees[:, 0].clip(-90, 90), (degrees[:, 1] + 180) % 360 - 180]))


def by_chords(radians: np.ndarray, eps: float) -> np.ndarray:
    "scikit-learn's best: points in space, on all cores."
    model = DBSCAN(eps=2 * np.sin(eps / 2), min_samples=MIN_SAMPLES, algorithm="kd_tree", n_jobs=-1)
    return model.fit_predict(unit_vectors(radians))


def by_haversine(radians: np.ndarray, eps: float) -> np.ndarray:
    "scikit-learn as its documentation has it for degrees."
    model = DBSCAN(eps=eps, min_samples=MIN_SAMPLES, metric="haversine", algorithm="ball_tree", n_jobs=-1)
    return model.fit_predict(radians)


def by_cells(radians: np.ndarray, eps: float) -> np.ndarray: return dbscan_labels(radians, eps, MIN_SAMPLES)


def beside(stores: int, eps_km: float, sizes: Sizes) -> Row:
    "Ours and scikit-learn's, in turns; ends the run where labels differ."
    from benchmarks.ingest import in_turn  # it loads much that the processes of their own can do without
    radians, eps = strewn(stores), eps_km / EARTH_RADIUS_KM
    peers = {"cells": by_cells, "chords": by_chords}
    if stores <= sizes.haversine: peers["haversine"] = by_haversine
    tasks = {name: (lambda find=find: find(radians, eps)) for name, find in peers.items()}
    labels = warmed(tasks, lambda name: print(f"  {stores:,} stores, {eps_km} km: {name}", flush=True))
    for name, found in labels.items():
        assert np.array_equal(found, labels["cells"]), f"{name}: labels differ at {stores} stores"
    taken = in_turn(tasks, sizes.rounds)
    wall, busy = taken["cells"]
    in_none = float((labels["cells"] < 0).mean())
    return {"stores": stores, "eps_km": eps_km, "clusters": int(labels["cells"].max()) + 1, "in_none": in_none,
            **{f"{name}_s": seconds for name, (seconds, _) in taken.items()},
            **{f"{name}_ratio": seconds / wall for name, (seconds, _) in taken.items() if name != "cells"},
            **{f"{name}_cpu_ratio": cpu / busy for name, (_, cpu) in taken.items() if name != "cells"}}


ALONE = """
import re, resource, sys, time
from pathlib import Path
from benchmarks.geography import alone
def memory(of): return int(re.search(of + r":\\s+([0-9]+)", Path("/proc/self/status").read_text())[1]) / 1e3
method, stores, eps_km = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
task = alone(method, stores, eps_km)
before, start = memory('VmRSS'), time.process_time()
clusters = task()
print(clusters, time.process_time() - start, memory('VmHWM') - before)
"""  # Linux


def store_table(stores: int) -> pd.DataFrame:
    "A table as `cluster_stores` takes it."
    lat, lon = np.degrees(strewn(stores)).T
    return pd.DataFrame({"company": "Worldmart", "store_id": [f"{k:07d}" for k in range(stores)], "name": "Worldmart",
                         "lat": lat, "lon": lon})


def haversine_hdbscan(radians: np.ndarray, eps: float) -> np.ndarray:
    "The hdbscan package with haversine distance."
    from hdbscan import HDBSCAN
    return HDBSCAN(min_cluster_size=MIN_SAMPLES, metric="haversine", cluster_selection_epsilon=eps,
                   allow_single_cluster=True, approx_min_span_tree=False, core_dist_n_jobs=1).fit_predict(radians)


def alone(method: str, stores: int, eps_km: float):
    "What a process of its own does: a function without arguments that says how many clusters it found."
    radians, eps = strewn(stores), eps_km / EARTH_RADIUS_KM
    model = StoreClusterer("hdbscan", eps_km, MIN_SAMPLES)
    table = store_table(stores) if method == "cluster_stores" else pd.DataFrame()
    tasks = {"cells": lambda: by_cells(radians, eps), "chords": lambda: by_chords(radians, eps),
             "hdbscan": lambda: model.fit_predict(np.degrees(radians)),
             "haversine hdbscan": lambda: haversine_hdbscan(radians, eps),
             "cluster_stores": lambda: cluster_stores(table, eps_km=eps_km).cluster}
    by_cells(radians[:2], eps)  # compiled code is loaded
    return lambda: int(np.max(tasks[method]())) + 1


def run_alone(method: str, stores: int, eps_km: float) -> Row:
    "Clusters, processor time and additional memory of a process that does one thing."
    print(f"  alone: {method}, {stores:,} stores, {eps_km} km", flush=True)
    told = subprocess.run([sys.executable, "-c", ALONE, method, str(stores), str(eps_km)], check=True, text=True,
                          capture_output=True, cwd=ROOT).stdout.split()
    return {"method": method, "stores": stores, "eps_km": eps_km, "clusters": int(told[0]), "cpu_s": float(told[1]),
            "memory_mb": float(told[2])}


COLD = """
import sys, time
import numpy as np, scrapeopt.clustering as clustering
radians = np.load(sys.argv[1])
start = time.process_time()
clustering.FEW = int(sys.argv[2])
clustering.StoreClusterer(eps_km=10).fit(np.degrees(radians))
print(time.process_time() - start)
"""


def cold_start(stores: int, rounds: int) -> Row:
    "Processor time of the first call in a process: scikit-learn's haversine tree, and cells."
    row: Row = {"stores": stores}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "radians.npy"
        np.save(path, strewn(stores))
        for name, few in (("haversine", 10**9), ("cells", 0)):
            command = [sys.executable, "-c", COLD, str(path), str(few)]
            found = [float(subprocess.run(command, check=True, text=True, capture_output=True, cwd=ROOT).stdout)
                     for _ in range(rounds)]
            row[f"{name}_cpu_s"] = min(found)
    return row


def exponent(rows: list[Row], column: str) -> float:
    "By which power of the stores the times grow, from 10,000 stores on; the slope of a line through their logarithms."
    large = [row for row in rows if row["stores"] >= 10_000] or rows
    n, y = (np.log([row[key] for row in large]) for key in ("stores", column))
    return float(np.polyfit(n, y, 1)[0])


def chart(results: dict) -> "Figure":
    "Time over the number of stores; and memory and time of HDBSCAN and of the whole."
    from matplotlib.figure import Figure
    fig = Figure(figsize=(7.5, 3.4), layout="constrained")
    left, right = fig.subplots(1, 2)
    rows = results["dbscan"]
    for name, colour, mark, words in (("cells", BLUE, "o-", "cells"), ("chords", ORANGE, "s--", "scikit-learn, chords"),
                                      ("haversine", RED, "^:", "scikit-learn, haversine")):
        had = [row for row in rows if f"{name}_s" in row]
        left.plot([row["stores"] for row in had], [row[f"{name}_s"] for row in had], mark, color=colour, label=words)
    for method, colour, mark in (("cluster_stores", GREEN, "D-"), ("hdbscan", BLUE, "o--"),
                                 ("haversine hdbscan", RED, "^:")):
        had = [row for row in results["alone"] if row["method"] == method]
        right.plot([row["stores"] for row in had], [row["cpu_s"] for row in had], mark, color=colour, label=method)
    left.set(title="DBSCAN", ylabel="time (s)")
    right.set(title="HDBSCAN, and all of cluster_stores", ylabel="processor time (s)")
    for ax in (left, right):
        ax.set(xscale="log", yscale="log", xlabel="stores")
        ax.legend(frameon=False, fontsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    return fig


def lines(head: dict[str, str], rows: list[dict[str, str]]) -> str:
    "A Markdown table; the first column is words."
    body = [" | ".join(row.get(column, "") for column in head) for row in rows]
    rule = " | ".join(["---"] + ["--:"] * (len(head) - 1))
    return "\n".join(f"| {line} |" for line in [" | ".join(head.values()), rule, *body])


def dbscan_table(rows: list[Row]) -> str:
    "Times and ratios of DBSCAN."
    head = {"what": "stores, `eps_km`", "clusters": "clusters", "in_none": "stores in none", "cells": "cells",
            "chords": "scikit-learn, chords", "chords_ratio": "ratio", "chords_cpu_ratio": "of processor time",
            "haversine": "scikit-learn, haversine", "haversine_ratio": "ratio"}
    shown = [{"what": f"{row['stores']:,}, {row['eps_km']:g} km", "clusters": f"{row['clusters']:,}",
              "in_none": f"{100 * row['in_none']:.0f}%",
              **{name: duration(row[f"{name}_s"]) for name in ("cells", "chords", "haversine") if f"{name}_s" in row},
              **{key: cell("ratio", row[key])
                for key in ("chords_ratio", "chords_cpu_ratio", "haversine_ratio") if key in row}}
             for row in rows]
    return lines(head, shown)


def alone_table(rows: list[Row], words: dict[str, str]) -> str:
    "Processor time and memory of processes of their own."
    head = {"what": "what", "stores": "stores, `eps_km`", "clusters": "clusters", "cpu": "processor time",
            "memory": "memory"}
    return lines(head, [{"what": words[row["method"]], "stores": f"{row['stores']:,}, {row['eps_km']:g} km",
                         "clusters": f"{row['clusters']:,}", "cpu": duration(row["cpu_s"]),
                         "memory": f"{row['memory_mb']:,.0f} MB"} for row in rows if row["method"] in words])


def write_page(results: dict, folder: Path) -> None:
    "Write the page and its picture under `folder`."
    (folder / "_static").mkdir(parents=True, exist_ok=True)
    save(chart(results), folder / "_static" / "bench_geography.svg")
    host, grows, alone_rows, many = results["machine"], results["grows"], results["alone"], results["neighbours"]
    cold = lines({"stores": "stores", "haversine": "scikit-learn, haversine", "cells": "cells"},
                 [{"stores": f"{row['stores']:,}", "haversine": duration(row["haversine_cpu_s"]),
                   "cells": duration(row["cells_cpu_s"])} for row in results["cold"]])
    parts = [
        "# Geography", ":::{div} lead\nHow long it takes to find the clusters of a chain, from a hundred stores to a "
        "million.\n:::",
        f"Measured on {host['cores']} cores with {host['instructions']}, on stores strewn around the towns of the "
        "world, more of them where more people live. All methods of a row run in one process and take turns; the row "
        "has the median. Labels are compared first, and unequal ones end the run. Machines are shared and busy: the "
        "ratios are what was measured. `make bench` measures again and writes this page.",
        "![Time over the number of stores](_static/bench_geography.svg)",
        "*Time over the number of stores, both axes logarithmic, left DBSCAN, right HDBSCAN and all that "
        "`cluster_stores` does.*",
        "## DBSCAN", "[Cells on the globe](../nbs/core/dbscan.ipynb) beside scikit-learn: its tree of points in space, "
        "which is its best, and its tree on haversine distance, which is what its documentation has for degrees. "
        "`min_samples` is 5. From 10,000 stores to a million, with `eps_km` as in the table, our time grows with "
        f"n^{grows['cells']:.2f}, that of scikit-learn with n^{grows['chords']:.2f}.",
        dbscan_table(results["dbscan"]),
        "Memory, each in a process of its own that has the coordinates already. Cells take about the same whatever "
        f"`eps` is. Of a million of these stores, one has {many:,.0f} within 20 km, the default, in the mean; "
        f"scikit-learn's lists would be {8 * many / 1e3:,.0f} GB.",
        alone_table(alone_rows, {"cells": "cells", "chords": "scikit-learn, chords"}),
        "## The first call", "A command that clusters once has to load the compiled loops first. This is the processor "
        "time of the first call in a process, at 10 km. With fewer than "
        f"{FEW:,} stores `StoreClusterer` takes scikit-learn.", cold,
        "## HDBSCAN", "By chords, as `StoreClusterer` has it, and by haversine distance, as the hdbscan package would "
        "have it. The trees of joins are as long; labels are equal but where several stores are equally far.",
        alone_table(alone_rows, {"hdbscan": "by chords", "haversine hdbscan": "by haversine"}),
        "## All of it", "`cluster_stores` checks the table, finds clusters, and names them after their main place. Its "
        f"time grows with n^{grows['cluster_stores']:.2f}.",
        alone_table(alone_rows, {"cluster_stores": "`cluster_stores`"})]
    (folder / "geography.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def neighbours_at(stores: int, eps_km: float) -> float:
    "How many stores a store has within reach in the mean, itself included; of a thousand of them."
    from sklearn.neighbors import KDTree
    points = unit_vectors(strewn(stores))
    some = points[np.random.default_rng(SEED).choice(stores, min(stores, 1_000), replace=False)]
    reach = 2 * np.sin(eps_km / EARTH_RADIUS_KM / 2)
    return float(KDTree(points).query_radius(some, reach, count_only=True).mean())


def keep(results: dict, folder: Path) -> None:
    "Write the figures."
    (folder / "geography.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def main(args: list[str] | None = None) -> None:
    "Run the benchmark, keep the figures, and print them."
    given = asked(__doc__, "few stores", args)
    sizes = QUICK if given.quick else Sizes()
    start = time.perf_counter()
    results: dict = {"machine": machine(), "sizes": asdict(sizes), "neighbours": neighbours_at(sizes.sparse[0], 20)}
    rows = [beside(stores, eps_km, sizes) for stores, eps_km in sizes.clouds]
    results["grows"] = {name: exponent(rows, f"{name}_s") for name in ("cells", "chords")}
    keep(results | {"dbscan": rows}, given.out)
    results["cold"] = [cold_start(n, sizes.cold_rounds) for n in sizes.cold]
    results["alone"] = [run_alone(*what) for what in sizes.alone]
    whole = [row for row in results["alone"] if row["method"] == "cluster_stores"]
    results["grows"]["cluster_stores"] = exponent(whole, "cpu_s")
    results["dbscan"] = rows
    keep(results, given.out)
    results["dbscan"] = [*rows, beside(*sizes.sparse, sizes)]
    keep(results, given.out)
    write_page(results, given.pages)
    for part in ("dbscan", "alone", "cold"): print(pd.DataFrame(results[part]).round(3).to_string(index=False))
    print(results["grows"], f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__": main()
