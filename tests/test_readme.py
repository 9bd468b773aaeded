"""What the README promises is there, and its script runs."""
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbs
import pytest

README = (nbs.ROOT / "README.md").read_text(encoding="utf-8")
SCRAPER = "import shutil, sys; shutil.copy(f'shelves/{sys.argv[2]}', sys.argv[3])"


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", README)
    assert targets
    assert not [t for t in targets if not (nbs.ROOT / t).exists()]


def test_make_targets_exist():
    text = README + (nbs.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.M))
    makefile = (nbs.ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"demo", "test"} <= named
    assert not named - set(re.findall(r"^([a-z]+):", makefile, re.M))


@pytest.mark.skipif(not find_spec("scrapeopt.cli"), reason="there is no command line")
@pytest.mark.parametrize("line", sorted(set(re.findall(r"`scrapeopt ([a-z][^`]*)`", README))))
def test_commands_and_their_options_exist(line):
    command, *words = line.split()
    help_ = subprocess.check_output([sys.executable, "-m", "scrapeopt.cli", command, "--help"], text=True,
                                    env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    for option in (w for w in words if w.startswith("-")):
        assert re.search(rf"(?<![\w-]){re.escape(option)}\b", help_), f"{command} has no {option}"


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("scrapeopt.update"), reason="there is no update_db")
def test_scheduler_script(tmp_path):
    "The script of four lines, as it stands in the README, on a shop that is a twin; run twice, as a scheduler would."
    from scrapeopt.twin import Twin, scrape_lines
    from scrapeopt.workspace import Workspace

    script = next(s for s in re.findall(r"```python\n(.*?)```", README, re.S) if "update_db" in s)
    assert len([s for s in script.splitlines() if s and not s.startswith("from ")]) == 4
    twin = Twin(company="Coles", n_products=50)
    (tmp_path / "shelves").mkdir()
    for store, site in twin.sites.items():
        lines = scrape_lines(twin.chain, site, twin.now)
        (tmp_path / "shelves" / str(store)).write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "my_scraper.py").write_text(SCRAPER)
    (tmp_path / "scheduler.py").write_text(script)
    ws = Workspace.create(tmp_path / "perth")
    ws.import_stores(twin.stores.reset_index())
    ws.cluster()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for scraped in (20, 40):
        subprocess.run([sys.executable, "scheduler.py"], cwd=tmp_path, check=True, env={**os.environ, "PATH": path})
        ws = Workspace.open(tmp_path / "perth")
        assert ws.stores()["last_scraped"].notna().sum() == scraped
        assert ws.prices()["store_id"].nunique() >= scraped


def test_leaderboard_is_that_of_its_page():
    "The small table says what docs/leaderboard.md says, at four scrapes per zone and week."
    lines = README.split("## How good is it?")[1].split("\n## ")[0].splitlines()
    head, *rows = [[c.strip(" `*") for c in s.split("|")[1:-1]] for s in lines if re.match(r"\|[^-]", s)]
    page = (nbs.ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    parts = {part.splitlines()[0].strip(): part for part in page.split("\n## ")[1:]}
    assert len(rows) >= 5 and "delegated" in [row[0] for row in rows]
    for policy, *shares in rows:
        for world, share in zip(head[1:], shares, strict=True):
            names, line = (next(s for s in parts[world].splitlines() if s.startswith(f"| {start} |")).split("|")
                           for start in ("policy", policy))
            column = [name.strip() for name in names].index("4 per zone and week")
            assert line[column].strip(" *").split("*")[0].split(" ")[0] == share, (world, policy)


def test_the_pilot_is_the_one_that_was_kept():
    kept = json.loads((nbs.ROOT / "benchmarks" / "results" / "pilot.json").read_text(encoding="utf-8"))
    policies = {row["policy"]: row for row in kept["policies"]}
    mine = policies["delegated"]
    for brute, words in (("every_day", "every store every day"), ("every_week", "every store once a price week")):
        assert mine[brute] == sum(c[brute] for c in kept["companies"] if c["policy"] == "delegated")
        saved = 1 - mine["scrapes"] / mine[brute]
        assert f"{saved:.0%} against {words} ({mine[brute]:,})" in README
    means = {policy: f"{row['score']:.1%} under" for policy, row in policies.items()}
    assert f"Mean score {means['delegated']} policy `delegated`, {means['document']} `document`" in README
    for figure in ("score", "accuracy", "precision"):
        assert f"| `{figure}` | " + " | ".join(f"{policies[p][figure]:.1%}" for p in policies) + " |" in README
        days = {p: [day[figure] for day in kept["daily"] if day["policy"] == p] for p in policies}
        assert all(abs(sum(d) / len(d) - policies[p][figure]) < 1e-3 for p, d in days.items())  # not the last day's


def test_pictures_are_there_and_have_words():
    pictures = re.findall(r"!\[([^]]*)\]\(([^)]+)\)", README)
    assert pictures and all(len(alt) > 15 and (nbs.ROOT / path).is_file() for alt, path in pictures)
