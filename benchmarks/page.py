"The documentation's page of benchmarks, with its charts, from the figures of a run."
import argparse
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import matplotlib as mpl
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
Row = dict[str, Any]

TIMED = {"method": "method", "size": "size", "seconds": "median time", "ratio": "ratio to ours", "target": "target"}
COLUMNS = {
    "search": {**TIMED, "recall": "recall", "pairs": "true pairs", "proposed": "proposed, of all"},
    "set_hashes": {"method": "method", "size": "size", "sign": "time for a signature", "seconds": "time for a query",
                   "recall": "recall", "pairs": "true pairs", "proposed": "proposed, of all"},
    "growth": {"stores": "stores", "seconds": "`pair_counts`", "per_pair": "for each pair",
               "prepared": "of it preparation", "matching": "`matching_pairs`", "bytes": "bytes a store, planes",
               "int32": "bytes a store, int32"}}

TEXTS = {
    "all_pairs": ("All pairs, from the int32 matrix",
                  "How many products both stores sell, and how many of them at the same price, for every pair. "
                  "Everything from the raw matrix on is in the time: codebook, packing and counting here, one-hot "
                  "matrices, tables and joins there. Peers that would take minutes run with fewer stores, together "
                  "with ours at that size; fewer stores are to their advantage, as packing is then most of our time."),
    "kernel": ("The kernel, on prepared bits",
               "The counting alone. NumKong and SimSIMD count the bits in which two stores differ; they get one bit "
               "for each product and price that occurs at two stores or more, and a second set for what is sold, as "
               "both counts are needed. Each peer runs on two threads. Ours is the loop alone; the second row adds the "
               "prices without a code and fills both halves of the matrix, which the peers do not."),
    "threshold": ("Only the pairs that match",
                  "Pairs with a True Overlap of 0.95 or more, found exactly, but without counting the others to the "
                  "end; beside the full counts. The second row is how often faster that is."),
    "one_against_many": ("One store against a thousand Ambassadors",
                         "From the store's raw int32 prices. The Ambassadors are ready in each method's own form: "
                         "planes, an array, a table. Twenty stores are asked for in a row; the time is that of one."),
    "search": ("Finding the matches among many Ambassadors",
               "Which Ambassadors have a True Overlap of 0.95 or more with a store? The product sketch proposes some "
               "and the exact counts decide, beside the exact counts with all. Stores of several formats are in the "
               "same zone, so that ranges differ where prices are the same. Recall to reach: 0.9999."),
    "set_hashes": ("What set hashes make of it",
                   "MinHash and SimHash take a store for the set of its products with their prices. Two stores with "
                   "equal prices and different ranges are then different sets: recall is low, or nearly everything "
                   "is proposed. The queries are asked of the sample's size and do not include the signature."),
    "growth": ("As the number of stores grows", "Time for each pair falls as packing, which is done once for each "
               "store, matters less and less. Memory is that of the packed stores, leftovers included.")}


@dataclass(frozen=True)
class Asked:
    "How a benchmark is run."
    quick: bool  # small and short: proves nothing
    out: Path  # folder of its figures

    @property
    def pages(self) -> Path:
        "Where its page goes: into the documentation with the figures that are kept, else beside them."
        return ROOT / "docs" if self.out == RESULTS else self.out


def asked(
    doc: str | None,  # what --help says
    quick: str,  # what is small about a quick run
    args: list[str] | None,  # None: those of the command line
) -> Asked:
    "What the command line of a benchmark asks for; figures of a quick run do not get among the results."
    ap = argparse.ArgumentParser(description=doc)
    ap.add_argument("--quick", action="store_true", help=f"{quick}: seconds; proves nothing")
    ap.add_argument("--out", type=Path, help="folder of figures (default: benchmarks/results)")
    given = ap.parse_args(args)
    out = given.out or (ROOT / "_build" / "bench" if given.quick else RESULTS)
    out.mkdir(parents=True, exist_ok=True)
    return Asked(given.quick, out)


def machine() -> dict[str, Any]:
    "What the figures depend on: cores and instruction set."
    has = llvm.get_host_cpu_features()
    names = {"avx512vpopcntdq": "AVX-512 with VPOPCNTDQ", "avx512f": "AVX-512", "avx2": "AVX2", "neon": "NEON"}
    best = next((name for feature, name in names.items() if has.get(feature)), platform.machine())
    return {"cores": os.cpu_count(), "instructions": best}


def duration(seconds: float) -> str:
    "Seconds with three digits and a fitting unit."
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size: return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def cell(column: str, value: Any) -> str:
    "A value as the page shows it."
    if value is None: return ""
    if column in ("seconds", "sign", "per_pair", "matching"): return duration(value)
    if column == "ratio": return f"{value:,.1f}x" if value < 100 else f"{value:,.0f}x"
    if column == "target": return f"≥ {value}x"
    if column == "recall": return f"{value:.5f}"
    if column == "proposed": return f"{100 * value:.3g}%"
    if column == "prepared": return f"{100 * value:.0f}%"
    return f"{value:,.0f}" if isinstance(value, int | float) else value


def table(rows: list[Row], columns: dict[str, str]) -> str:
    "A Markdown table."
    head = [" | ".join(columns.values()), " | ".join("---" if c in ("method", "size") else "--:" for c in columns)]
    body = [" | ".join(cell(c, row.get(c)) for c in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in [*head, *body])


def ratio_chart(results: dict[str, Any]) -> Figure:
    "How many times longer each peer takes, as bars."
    colours = {"all_pairs": BLUE, "kernel": ORANGE, "one_against_many": GREEN, "search": RED}
    names = {"all_pairs": "all pairs", "kernel": "kernel", "one_against_many": "one against many", "search": "search"}
    bars = [(names[s], row, colours[s]) for s in colours for row in results[s] if row["ratio"] != 1]
    fig = Figure(figsize=(7.5, .9 + .27 * len(bars)), layout="constrained")
    ax = fig.subplots()
    ax.barh(range(len(bars)), [row["ratio"] for _, row, _ in bars], color=[c for *_, c in bars])
    targets = [(y, row["target"]) for y, (_, row, _) in enumerate(bars) if row["target"]]
    ax.plot([t for _, t in targets], [y for y, _ in targets], "|", color="black", ms=13, mew=2, label="target")
    for y, (_, row, _) in enumerate(bars):
        ax.text(max(row["ratio"], row["target"] or 0) * 1.12, y, cell("ratio", row["ratio"]), va="center", fontsize=8)
    ax.set_yticks(range(len(bars)), [f"{group}: {row['method']}" for group, row, _ in bars], fontsize=8)
    ax.set(xscale="log", xlabel="time, as a multiple of ours (log scale)", ylim=(len(bars) - .4, -.6))
    ax.axvline(1, color="black", lw=.8)
    ax.set_xlim(right=ax.get_xlim()[1] * 3)
    ax.spines[["top", "right"]].set_visible(False)
    fig.legend(loc="outside upper right", frameon=False, fontsize=8)
    return fig


def growth_chart(rows: list[Row]) -> Figure:
    "Seconds and time for each pair over the number of stores."
    fig = Figure(figsize=(7.5, 3.2), layout="constrained")
    total, each = fig.subplots(1, 2)
    n = [row["stores"] for row in rows]
    total.plot(n, [row["seconds"] for row in rows], "o-", color=BLUE, label="pair_counts")
    total.plot(n, [row["seconds"] * row["prepared"] for row in rows], "s--", color=ORANGE, label="of it preparation")
    total.plot(n, [row["matching"] for row in rows], "^:", color=GREEN, label="matching_pairs, packed before")
    each.plot(n, [row["per_pair"] * 1e6 for row in rows], "o-", color=BLUE)
    total.set(xscale="log", yscale="log", xlabel="stores", ylabel="time (s)")
    each.set(xscale="log", xlabel="stores", ylabel="pair_counts, for each pair (µs)", ylim=0)
    for ax in (total, each):
        ax.set_xticks(n, [f"{k:,}" for k in n], fontsize=8, rotation=30)
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
    fig.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return fig


def save(fig: Figure, path: Path) -> None:
    "An SVG that is the same for the same figures: text as text, no date, no random names."
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bench"}):
        fig.savefig(path, metadata={"Date": None, "Creator": None})


APPENDED = "Memory, as a company grows"  # from here on other benchmarks' sections, kept when this one writes its own


def put_section(page: Path, title: str, text: str) -> None:
    "Put a section of a page in the place of the one before; at the end where there was none."
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    above, _, old = before.partition(f"## {title}\n")
    _, more, below = old.partition("\n## ")
    rest = f"\n## {below}" if more else ""
    page.write_text(f"{above.rstrip()}\n\n## {title}\n\n{text}\n{rest}", encoding="utf-8")


def write_page(results: dict[str, Any], folder: Path) -> None:
    "Write benchmarks.md and its charts under `folder`."
    pictures = folder / "_static"
    pictures.mkdir(parents=True, exist_ok=True)
    save(ratio_chart(results), pictures / "bench_overlap.svg")
    save(growth_chart(results["growth"]), pictures / "bench_growth.svg")
    host, sizes = results["machine"], results["sizes"]
    parts = ["# Benchmarks", ":::{div} lead\nHow fast overlap is beside what one could pick instead, in one run, with "
             "equal answers.\n:::",
             f"Measured on {host['cores']} cores with {host['instructions']}, on a made-up chain of "
             f"{sizes['products']:,} products: 12 price zones (many more where matches are sought), four formats that "
             "sell 70 to 95% of the products, two in five stores with 3% own prices. All methods run in one process "
             "and take turns; the table has the median of several rounds. Each answer is checked against ours first, "
             "and an unequal one ends the run. Machines are shared and busy, so the times are there for orientation; "
             "the ratios are what was measured. `make bench` measures again and writes this page.",
             "![How many times longer each peer takes than ours](_static/bench_overlap.svg)",
             "*How many times longer than ours each peer takes; a black mark is what was to be reached.*"]
    for name, (title, text) in TEXTS.items():
        parts += [f"## {title}", text, table(results[name], COLUMNS.get(name, TIMED))]
    parts += ["![Time over the number of stores](_static/bench_growth.svg)",
              "*Time over the number of stores, left for all pairs, right for one of them.*"]
    page = folder / "benchmarks.md"
    _, there, kept = (page.read_text(encoding="utf-8") if page.exists() else "").partition(f"## {APPENDED}\n\n")
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    if there: put_section(page, APPENDED, kept.rstrip())
