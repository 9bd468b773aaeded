"""What each command answers with --json, asked of a small workspace that is made for it."""
import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from reference import commands

AT = "2026-11-04T02:00Z"  # a Wednesday morning in Perth, an hour after the second scrapes
ASKED = {  # what a command needs besides --json; those that are not here need nothing
    "scrapeopt import-stores": "twin/stores.csv",
    "scrapeopt queue": f"--now {AT}",
    "scrapeopt scrape": f"-n 1 --now {AT} --command 'cp bad.jsonl {{output}}'",
    "scrapeopt update-db": "--now 2026-11-04T03:00Z",
    "scrapeopt status": f"--now {AT}",
    "scrapeopt explain": "W001",
    "scrapeopt compare": "W001 W002",
    "scrapeopt prices": f"--store W001 --now {AT}",
    "scrapeopt history": "--product W100001 --store W001",
    "scrapeopt tidy": f"--dry-run --now {AT}",
    "scrapeopt db backup": "kept.backup",
    "scrapeopt db restore": "kept.backup",
    "scrapeopt backtest": "--policy round_robin --n-stores 6 --n-products 40 --days 4",
    "scrapeopt tune": "--policies round_robin --n-stores 6 --n-products 40 --days 4 --budgets 2 --jobs 1",
}


@contextmanager
def small_workspace() -> Iterator[Path]:
    "A workspace of two chains that were scraped on a Monday, and a few of their stores on the Wednesday after."
    import pandas as pd

    from scrapeopt.commands.demo import make_twins, make_workspace
    from scrapeopt.twin import scrape_lines
    from scrapeopt.update import update_db
    named = patch.dict(os.environ, {"SCRAPEOPT_WORKSPACE": "shop"})
    with tempfile.TemporaryDirectory() as folder, chdir(folder), named:
        twins = make_twins("twin", n_products=60, n_stores={"Coles": 8, "Woolworths": 10})
        ws = make_workspace("shop", twins)
        for day, some in (("2026-11-02T01:00Z", 99), ("2026-11-04T01:00Z", 4)):
            at = pd.Timestamp(day)
            for company, twin in twins.items():
                for store in list(twin.stores.index)[:some]:
                    file = ws.inbox(company, store) / f"{at:%Y%m%dT%H%M%SZ}.jsonl"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text("\n".join(scrape_lines(twin.chain, twin.site(store), at.to_pydatetime())) + "\n")
            update_db(ws, now=at)
        lines = [{"product_id": f"W{100001 + k}", "price": "free" if k == 9 else "2.50"} for k in range(60)]
        Path("bad.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        yield Path("shop")


def answer(words: list[str]) -> Any:
    "What a call of scrapeopt prints, read as JSON; None when it prints none."
    from scrapeopt.cli import main
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()), suppress(SystemExit): main(words)
    try: return json.loads(out.getvalue())
    except json.JSONDecodeError: return None


def answers() -> dict[str, Any]:
    "The answer of each command that has --json, by what one types; a command that needs more than `ASKED` has none."
    import shlex
    found = {}
    with small_workspace():
        for path, command in commands():
            if not any("--json" in p.opts for p in command.params): continue
            words = [*path.split()[1:], *shlex.split(ASKED.get(path, "")), "--json"]
            if (said := answer(words)) is not None: found[path] = said
    return found
