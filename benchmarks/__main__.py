"""Run the benchmarks in turn, each in a process of its own."""
import argparse
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# hours, and what keeps the demo's figures
APART = ("__main__", "constants", "error_split", "leaderboard", "movers", "outlook", "pilot", "spot_budget")


def benchmarks() -> list[str]:
    "The modules beside this one that measure something: those that can be run."
    return sorted(p.stem for p in HERE.glob("*.py")
                  if p.stem not in APART and re.search(r"^if __name__ == ", p.read_text(encoding="utf-8"), re.M))


def main() -> None:
    ap = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    ap.add_argument("names", nargs="*", help=f"of {', '.join(benchmarks())}; all, if none is named")
    names = ap.parse_args().names or benchmarks()
    if wrong := [name for name in names if name not in benchmarks()]: ap.error(f"no benchmark is called {wrong[0]!r}")
    for name in names:
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)


if __name__ == "__main__": main()
