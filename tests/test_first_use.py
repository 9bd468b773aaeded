"""The first hour: a list of stores becomes settings, commands say what comes next, the example does what it says."""
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tomllib

import pandas as pd
import pyarrow.parquet as pq
import pytest
from small_chain import scraped_once

from scrapeopt.analysis.next_steps import straddling
from scrapeopt.cli import main
from scrapeopt.commands.demo import make_twins
from scrapeopt.commands.example import write_example
from scrapeopt.storage.settings import FILE, read_settings
from scrapeopt.workspace import Workspace

LISBON, AZORES, PERTH = (38.72, -9.14), (37.74, -25.67), (-31.95, 115.86)


def run(capsys, *words):
    "Exit code, standard output and standard error of a command."
    try: code = main([str(word) for word in words]) or 0
    except SystemExit as e: code = e.code or 0
    said = capsys.readouterr()
    return code, said.out, said.err


def listed(path, company="Mercado", places=(LISBON,) * 3):
    "A list of stores."
    rows = [(company, f"{k + 1}", "", *place) for k, place in enumerate(places)]
    pd.DataFrame(rows, columns=["company", "store_id", "name", "lat", "lon"]).to_csv(path, index=False)
    return path


@pytest.fixture
def shop(tmp_path, monkeypatch, capsys):
    "An empty workspace in the current folder."
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "init", "shop")[0] == 0
    return tmp_path / "shop"


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    "The example's folder."
    return write_example(tmp_path_factory.mktemp("first") / "scrapeopt-example").folder


@pytest.fixture(scope="module")
def azulejo(example):
    "The example's three weeks in a workspace, as its guide has it typed; and what each command printed."
    said, folder = dict[str, str](), example.parent
    guide = (example / "README.txt").read_text().replace("\\\n", " ").splitlines()
    for line in (line.strip() for line in guide if line.startswith("  ")):
        if line.startswith("scrapeopt"): line = f"{sys.executable} -m scrapeopt.cli {line.removeprefix('scrapeopt ')}"
        line = line.replace("'python", f"'{sys.executable}")
        done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 2) and not done.stderr.startswith(("Usage", "Traceback")), (line, done.stderr)
        said[line.split("scrapeopt.cli ")[-1].split()[0]] = done.stdout
    return folder / "shop", said


class TestImport:
    def test_a_new_company_lives_where_its_stores_are(self, shop, capsys):
        code, out, err = run(capsys, "import-stores", listed("s.csv"), "-w", "shop")
        assert (code, err) == (0, "")
        assert "Mercado: prices in EUR, days in Europe/Lisbon (both guessed from where its stores are)" in out
        assert out.splitlines()[-1] == "Next: scrapeopt cluster-stores -w shop"
        own = read_settings(shop / FILE).company("Mercado")
        with sqlite3.connect(shop / "state.db") as state:
            kept = state.execute("select currency, timezone from company").fetchall()
        assert kept == [(own.currency, own.timezone)] == [("EUR", "Europe/Lisbon")]

    def test_json_has_the_guess_among_its_notes_and_nothing_else_is_printed(self, shop, capsys):
        code, out, _ = run(capsys, "import-stores", listed("s.csv"), "-w", "shop", "--json")
        assert code == 0 and "guessed" in json.loads(out)["notes"][0]

    def test_a_list_across_borders_is_told_and_the_guess_sleeps(self, shop, capsys):
        _, out, _ = run(capsys, "import-stores", listed("s.csv", places=(LISBON, LISBON, PERTH)), "-w", "shop")
        assert "prices in AUD, days in UTC (both not guessed)" in out
        text = (shop / FILE).read_text()
        assert '# currency = "EUR"' in text and "a guess that is not sure" in text
        assert "from where its 3 stores are: 2 in Portugal, 1 in Australia" in text

    def test_a_sure_currency_and_an_unsure_clock(self, shop, capsys):
        _, out, _ = run(capsys, "import-stores", listed("s.csv", places=(LISBON, AZORES)), "-w", "shop")
        assert "prices in EUR (guessed from where its stores are), days in UTC (not guessed)" in out

    def test_stores_without_coordinates_leave_every_key_asleep(self, shop, capsys):
        (shop.parent / "s.csv").write_text("company,store_id,name,lat,lon\nWeb,1,x,,\n")
        assert run(capsys, "import-stores", "s.csv", "-w", "shop", "--without-coordinates")[0] == 0
        assert tomllib.loads((shop / FILE).read_text())["companies"] == {"Web": {}}

    def test_what_somebody_wrote_stays_to_the_letter(self, shop, capsys):
        with (shop / FILE).open("a") as f: f.write('\n[companies."Mercado"]   # mine\ncurrency = "USD"\n')
        before = (shop / FILE).read_text()
        run(capsys, "import-stores", listed("s.csv"), "-w", "shop")
        assert (shop / FILE).read_text() == before
        run(capsys, "import-stores", listed("two.csv", "Mart"), "-w", "shop")
        assert (shop / FILE).read_text().startswith(before)

    def test_defaults_win_over_a_guess(self, shop, capsys):
        with (shop / FILE).open("a") as f: f.write('\n[defaults]\ncurrency = "USD"\n')
        run(capsys, "import-stores", listed("s.csv"), "-w", "shop")
        own = read_settings(shop / FILE).company("Mercado")
        assert (own.currency, own.timezone) == ("USD", "Europe/Lisbon")

    def test_nothing_changes_for_a_company_that_was_known(self, shop, capsys):
        Workspace.open(shop).import_stores(pd.read_csv(listed("s.csv"), dtype={"store_id": str}))
        before = (shop / FILE).read_text()
        code, _, err = run(capsys, "import-stores", "s.csv", "-w", "shop")
        assert code == 0 and (shop / FILE).read_text() == before and "prices in AUD" in err

    def test_an_import_that_fails_leaves_the_settings_as_they_were(self, shop, capsys):
        run(capsys, "import-stores", listed("s.csv"), "-w", "shop")
        before = (shop / FILE).read_text()
        rows = pd.concat([pd.read_csv("s.csv").assign(store_id=99), pd.read_csv(listed("m.csv", "Mart"))])
        rows.to_csv("both.csv", index=False)
        code, _, err = run(capsys, "import-stores", "both.csv", "-w", "shop", "--replace")
        assert code == 2 and "Mercado" in err
        assert (shop / FILE).read_text() == before

    def test_settings_that_take_no_table_cost_the_table_alone(self, shop, capsys):
        (shop / FILE).write_text("companies = {}\n" + (shop / FILE).read_text())
        before = (shop / FILE).read_text()
        code, out, err = run(capsys, "import-stores", listed("s.csv"), "-w", "shop")
        assert code == 0 and "imported 3 stores" in out and "got no table for the new companies" in err
        assert (shop / FILE).read_text() == before and "prices in AUD" in err

    @pytest.mark.parametrize("name", ["A & B", 'Say "x"', "a.b", "[x]", "é", "x = 1"])
    def test_any_name_of_a_company_makes_a_table_of_its_own(self, name, shop, capsys):
        assert run(capsys, "import-stores", listed("s.csv", name), "-w", "shop")[0] == 0
        assert read_settings(shop / FILE).companies[name].currency == "EUR"


def test_a_twin_on_a_map_of_your_own_charges_what_the_import_guesses(tmp_path):
    twin = make_twins(tmp_path / "twin", listed(tmp_path / "s.csv"), n_products=5)["Mercado"]
    assert (twin.chain.currency, twin.chain.timezone) == ("EUR", "Europe/Lisbon")


class TestExample:
    def test_the_guide_works_line_by_line(self, azulejo):
        _, said = azulejo
        assert "162 files with" in said["update-db"] and "0 lines or files in quarantine" in said["update-db"]
        assert "scraped 5 of 5 stores" in said["scrape"] and "delegated" in said["backtest"]
        assert said["prices"].splitlines()[1].split()[:2] == ["Azulejo", "101"]

    def test_its_three_regions_and_its_thursday_are_found(self, azulejo):
        path, said = azulejo
        assert len(Workspace.open(path).groups("Azulejo").active()) == 3
        assert 'set changeover = "thursday" in [companies."Azulejo"]' in said["update-db"]

    def test_a_long_account_fits_a_screen_and_each_step_names_the_next(self, azulejo):
        _, said = azulejo
        assert len(said["update-db"].splitlines()) < 50
        assert said["cluster-stores"].splitlines()[-1].startswith("Next: scrapeopt queue -w shop")
        assert said["update-db"].splitlines()[-1].startswith("Next: scrapeopt prices -w shop")
        assert "Next" not in said["scrape"]  # the steady state


class TestNext:
    def test_json_stays_json(self, tmp_path, capsys):
        ws = scraped_once(tmp_path / "ws")
        for command in ("cluster-stores", "update-db"):
            _, out, _ = run(capsys, command, "--json", "-w", ws.path)
            json.loads(out)

    def test_a_straddling_discovery_is_told_beside_the_queue(self, shop, capsys):
        run(capsys, "import-stores", listed("s.csv", places=(LISBON,) * 8), "-w", "shop")
        text = (shop / FILE).read_text()
        at = text.rindex("# changeover")
        (shop / FILE).write_text(text[:at] + text[at + 2:])
        run(capsys, "cluster-stores", "-w", "shop")
        monday = ("--now", "2026-11-23T09:00Z", "-w", "shop", "--json")
        _, out, err = run(capsys, "queue", "-n", "2", *monday)
        assert len(json.loads(out)) == 2
        assert "discovery of 8 stores at 2 a day takes 4 days and straddles" in err and "Wednesday 25 November" in err
        assert run(capsys, "queue", "-n", "4", *monday)[2] == ""
        assert run(capsys, "queue", "-n", "2", "--mode", "optimization", *monday)[2] == ""
        code, out, err = run(capsys, "scrape", "-n", "2", "--command", "false {output}", "--retries", "0", *monday)
        assert code == 1 and len(json.loads(out)["failed"]) == 2 and "straddles" in err

    def test_where_everything_is_known_nothing_straddles(self, tmp_path):
        assert straddling(scraped_once(tmp_path / "ws"), 1) == []


class TestPrices:
    def test_names_and_categories_come_last_at_every_door(self, azulejo, tmp_path, capsys):
        path, _ = azulejo
        columns = ["company", "store_id", "product_id", "price", "currency", "source", "source_store", "group",
                   "scraped_at", "confidence", "name", "category"]
        for out in ("p.parquet", "p.csv"): assert run(capsys, "prices", "--out", tmp_path / out, "-w", path)[0] == 0
        url = f"sqlite:///{tmp_path / 'p.db'}"
        assert run(capsys, "prices", "--out", url, "--store", "101", "-w", path)[0] == 0
        assert pq.read_schema(tmp_path / "p.parquet").names == columns
        assert pd.read_csv(tmp_path / "p.csv").columns.tolist() == columns
        with sqlite3.connect(tmp_path / "p.db") as base:
            assert all(base.execute("select name, category from prices").fetchone())
        assert list(json.loads(run(capsys, "prices", "--store", "101", "-w", path, "--json")[1])[0]) == columns

    def test_a_category_and_a_time_narrow_it(self, azulejo, capsys):
        ws = Workspace.open(azulejo[0])
        all_of_it, since = ws.prices(), pd.Timestamp("2026-02-01", tz="UTC")
        some = ws.prices(categories=["Bakery", "Deli"], since=since)
        wanted = all_of_it[all_of_it["category"].isin(["Bakery", "Deli"]) & (all_of_it["scraped_at"] >= since)]
        assert 0 < len(some) < len(all_of_it)
        pd.testing.assert_frame_equal(some, wanted.reset_index(drop=True))

    @pytest.mark.parametrize(("slip", "told"), [
        ("bakrey", "did you mean 'Bakery'?"), ("DELI", "did you mean 'Deli'?"), ("cars", "there are Bakery, ")])
    def test_a_slip_in_a_category_is_told(self, slip, told, azulejo, capsys):
        code, _, err = run(capsys, "prices", "--category", slip, "-w", azulejo[0])
        assert code == 2 and f"no category '{slip}'; {told}" in err

    def test_nothing_since_then_is_a_sentence(self, azulejo, capsys):
        code, out, _ = run(capsys, "prices", "--since", "2100-01-01", "--category", "Deli", "-w", azulejo[0])
        assert code == 0 and out.startswith("no price of Deli was seen since 2100-01-01")


class TestCompletion:
    def complete(self, line, shell="bash"):
        "What a shell is offered at the end of a line."
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_TYPER_COMPLETE_ARGS": line,
                 "_TYPER_COMPLETE_FISH_ACTION": "get-args", "_SCRAPEOPT_COMPLETE": f"complete_{shell}"}
        code = "import sys\nfrom scrapeopt.cli import main\ntry: main([])\nexcept SystemExit: pass\n" \
               "print('pandas' in sys.modules, file=sys.stderr)"
        done = subprocess.run([sys.executable, "-c", code], env=os.environ | words, capture_output=True, text=True,
                              check=True)
        assert done.stderr == "False\n"  # and with little to load
        return done.stdout

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_names_come_from_the_workspace(self, shell, azulejo):
        path = azulejo[0]
        assert "Azulejo" in self.complete(f"scrapeopt prices -w {path} --company A", shell)
        assert "Porto" in self.complete(f"scrapeopt queue -w {path} --cluster P", shell)

    def test_stores_categories_and_policies_too(self, azulejo):
        path = azulejo[0]
        assert self.complete(f"scrapeopt explain -w {path} 10").split() == [f"{k}" for k in range(101, 110)]
        assert self.complete(f"scrapeopt -w {path} prices --category Dai").strip() == "Dairy & Eggs"
        assert self.complete(f"scrapeopt queue -w {path} --policy d").split() == ["delegated", "document"]

    def test_no_workspace_no_word(self, tmp_path):
        assert self.complete(f"scrapeopt prices -w {tmp_path} --store 1").strip() == ""
        (tmp_path / FILE).write_text("broken = = ")
        assert self.complete(f"scrapeopt prices -w {tmp_path} --store 1").strip() == ""


def test_a_key_of_a_company_at_the_top_is_sent_to_its_table(shop, capsys):
    (shop / FILE).write_text('changeover = "monday"\n' + (shop / FILE).read_text())
    code, _, err = run(capsys, "status", "-w", "shop")
    assert code == 2 and "write it under [companies.NAME], or [defaults] for all" in err


def test_history_that_comes_late_moves_nothing(azulejo, example, tmp_path, capsys):
    shutil.copytree(azulejo[0], tmp_path / "shop")
    ws = Workspace.open(tmp_path / "shop")
    before, groups = ws.stores(), ws.groups("Azulejo")
    folder = ws.inbox("Azulejo", "102")
    folder.mkdir(parents=True, exist_ok=True)
    friday = next((example / "history" / "Azulejo" / "102").iterdir()).read_text().splitlines()
    sold = [{k: v for k, v in json.loads(line).items() if k != "scraped_at"} for line in friday]
    lines = [json.dumps(product | {"price": "1.00"}) for product in sold]
    (folder / "20251204T090000Z.jsonl").write_text("\n".join(lines) + "\n")
    run(capsys, "update-db", "-w", ws.path)
    pd.testing.assert_frame_equal(ws.stores(), before)
    assert ws.groups("Azulejo") == groups
    assert "2025-12-04" in run(capsys, "history", "--product", sold[0]["product_id"], "-w", ws.path)[1]
