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
from effort import drilled
from small_chain import new_workspace, scraped_once
from templates import copied

from scrapeopt.analysis.next_steps import straddling
from scrapeopt.cli import main
from scrapeopt.commands.demo import make_twins
from scrapeopt.commands.example import write_example
from scrapeopt.core.errors import InputError
from scrapeopt.storage.settings import FILE, read_settings
from scrapeopt.storage.store_file import chosen_columns, read_stores
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


def guided(folder):
    "The example, and its three weeks in a workspace, as its guide has it typed; and what each command printed."
    folder.mkdir()
    example, said = write_example(folder / "scrapeopt-example").folder, dict[str, str]()
    guide = (example / "README.txt").read_text().replace("\\\n", " ").splitlines()
    for line in (line.strip() for line in guide if line.startswith("  ")):
        if line.startswith("scrapeopt"): line = f"{sys.executable} -m scrapeopt.cli {line.removeprefix('scrapeopt ')}"
        line = line.replace("'python", f"'{sys.executable}")
        done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 2) and not done.stderr.startswith(("Usage", "Traceback")), (line, done.stderr)
        said[line.split("scrapeopt.cli ")[-1].split()[0]] = done.stdout
    (folder / "said.json").write_text(json.dumps(said))


@pytest.fixture(scope="module")
def first_hour(tmp_path_factory): return copied(guided, tmp_path_factory.mktemp("first") / "hour")


@pytest.fixture(scope="module")
def example(first_hour): return first_hour / "scrapeopt-example"


@pytest.fixture(scope="module")
def azulejo(first_hour):
    "The workspace, and what each command printed."
    return first_hour / "shop", json.loads((first_hour / "said.json").read_text())


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
        assert "prices in AUD: its stores are in countries with several currencies, 2 of 3 in EUR; days in UTC" in out
        text = (shop / FILE).read_text()
        assert '# currency = "EUR"' in text and "a guess that is not sure" in text
        assert "from where its 3 stores are: 2 in Portugal, 1 in Australia" in text

    def test_a_sure_currency_and_an_unsure_clock(self, shop, capsys):
        _, out, _ = run(capsys, "import-stores", listed("s.csv", places=(LISBON, AZORES)), "-w", "shop")
        assert "prices in EUR (guessed from where its stores are), days in UTC: its stores lie in" in out

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

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["A & B", 'Say "x"', "a.b", "[x]", "é", "x = 1"])
    def test_any_name_of_a_company_makes_a_table_of_its_own(self, name, shop, capsys):
        assert run(capsys, "import-stores", listed("s.csv", name), "-w", "shop")[0] == 0
        assert read_settings(shop / FILE).companies[name].currency == "EUR"


def test_a_twin_on_a_map_of_your_own_charges_what_the_import_guesses(tmp_path):
    twin = make_twins(tmp_path / "twin", listed(tmp_path / "s.csv"), n_products=5)["Mercado"]
    assert (twin.chain.currency, twin.chain.timezone) == ("EUR", "Europe/Lisbon")


class TestExample:
    @pytest.mark.slow
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

    @pytest.mark.parametrize("shell", ["bash", drilled("zsh"), drilled("fish")])
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


AZUL = "Mercado Azul"


@pytest.fixture
def azul(shop, capsys):
    "A chain of 30 stores, none scraped yet, with no format of numbers told."
    rows = [(AZUL, f"{k:04}", "", 38.7 + k / 1000, -9.14) for k in range(100, 130)]
    pd.DataFrame(rows, columns=["company", "store_id", "name", "lat", "lon"]).to_csv("azul.csv", index=False)
    assert run(capsys, "import-stores", "azul.csv", "-w", "shop")[0] == 0
    return shop


def scraped(folder, place, lines):
    "A file in the inbox."
    path = folder / "inbox" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def products(mark=".", n=30):
    "Lines of a scraper that writes prices as texts."
    return [json.dumps({"product_id": str(k), "price": f"{k}{mark}49"}) for k in range(1, n + 1)]


class TestStumbles:
    def test_a_list_without_known_columns_is_told_by_its_own_header(self, shop, capsys):
        (shop.parent / "fi.csv").write_text("Ketju,Myymälä,Nimi,Kunta,Latitude,Longitude\nSini,1,x,Espoo,60.2,24.7\n")
        code, _, err = run(capsys, "import-stores", "fi.csv", "-w", "shop")
        assert code == 2 and "it has Ketju, Myymälä, Nimi, Kunta, Latitude, Longitude, separated" in err
        assert "understood: Latitude as lat, Longitude as lon;" in err

    def test_an_unsure_clock_is_said_with_its_numbers_and_the_key_to_set(self, shop, capsys):
        _, out, _ = run(capsys, "import-stores", listed("s.csv", AZUL, (LISBON,) * 23 + (AZORES,) * 6), "-w", "shop")
        assert ("days in UTC: its stores lie in several time zones, 23 of 29 in Europe/Lisbon; "
                'set timezone in [companies."Mercado Azul"]') in out

    def test_two_names_of_one_company_are_told_and_can_be_mended(self, azul, capsys):
        two = (azul.parent / "azul.csv").read_text().replace(f"{AZUL},0100", "Mercado azul,0100")
        (azul.parent / "two.csv").write_text(two)
        code, out, _ = run(capsys, "import-stores", "two.csv", "-w", "shop", "--json")
        note = next(note for note in json.loads(out)["notes"] if "companies of their own" in note)
        assert code == 0 and "'Mercado Azul' (30 stores)" in note and "'Mercado azul' (1 store)" in note
        code, out, _ = run(capsys, "import-stores", "azul.csv", "-w", "shop", "--replace")
        assert code == 0 and "companies of their own" not in out

    @pytest.mark.parametrize("place, todo", [
        ("mercado-azul/0104/20261124T000000Z.jsonl", "move it to inbox/Mercado Azul/0104/20261124T000000Z.jsonl"),
        ("Mercado Azul/104/20261124T000000Z.jsonl", "move it to inbox/Mercado Azul/0104/20261124T000000Z.jsonl"),
        ("Mercado Azul/0104/24-11-2026.jsonl", "rename it to 20261124T000000Z.jsonl or the like"),
        ("Pingo/0104/20261124T000000Z.jsonl", "no company is named 'Pingo': import its stores first")])
    def test_a_file_in_a_wrong_place_is_told_where_it_belongs(self, azul, capsys, place, todo):
        scraped(azul, place, products())
        code, _, err = run(capsys, "update-db", "-w", "shop", "--now", "2026-11-25")
        assert code == 2 and todo in err
        _, out, _ = run(capsys, "status", "-w", "shop")
        assert "Mend the scraper" not in out and " ".join(todo.split()[-4:]) in " ".join(out.split())

    def test_files_with_a_decimal_comma_are_read_again_once_the_format_is_told(self, azul, capsys):
        place = f"{AZUL}/0104/20261124T000000Z.jsonl"
        scraped(azul, place, products(","))
        now = "-w", "shop", "--now", "2026-11-25"
        code, out, err = run(capsys, "update-db", *now)
        assert code == 2 and out.startswith("1 file with 0 prices; 1 of them partial; 30 lines or files in quarantine")
        assert f"move archive/{place} back to inbox/{AZUL}/0104/ to have it read again" in err
        _, out, _ = run(capsys, "status", "-w", "shop")
        assert "set it, and move the files from archive/ back into the inbox" in " ".join(out.split())
        back = azul / "archive" / place, azul / "inbox" / place
        shutil.move(*back)
        assert run(capsys, "update-db", *now)[1].startswith("0 files")  # no setting has changed
        text = (azul / FILE).read_text()
        (azul / FILE).write_text(text.replace('# number_format = "1234.56"', 'number_format = "1234,56"  #'))
        shutil.move(*back)
        code, out, err = run(capsys, "update-db", *now)
        assert (code, err) == (0, "") and out.startswith("1 file with 30 prices; 0 of them partial; 0 lines")
        table = Workspace.open(azul).prices(AZUL, "0104")
        assert sorted(map(str, table["price"]))[0] == "1.49" and len(table) == 30
        assert not list((azul / "quarantine").rglob("*.jsonl*"))
        assert run(capsys, "doctor", "-w", "shop")[0] == 0
        shutil.move(*back)
        assert run(capsys, "update-db", *now)[1].startswith("0 files")  # it is whole, and known

    def test_names_that_are_nearly_right_are_answered_with_the_right_one(self, azul, capsys):
        for words in ("explain", "104"), ("prices", "--store", "104"):
            code, _, err = run(capsys, *words, "-w", "shop")
            assert code == 2 and "no store '104'" in err and "did you mean 0104?" in err
        text = (azul / FILE).read_text()
        (azul / FILE).write_text(text.replace('"Europe/Lisbon"', '"Europe/Lisbom"'))
        code, _, err = run(capsys, "status", "-w", "shop")
        assert code == 2 and "did you mean Europe/Lisbon?" in err

    @pytest.mark.slow
    def test_an_empty_table_speaks_of_what_was_asked(self, azul, capsys):
        scraped(azul, f"{AZUL}/0104/20261124T000000Z.jsonl", products())
        assert run(capsys, "update-db", "-w", "shop", "--now", "2026-11-25")[0] == 0
        asked = "prices", "--store", "0104", "--since", "2026-12-24", "-w", "shop"
        _, out, _ = run(capsys, *asked)
        assert "leave --since out" in out and "--category" not in out
        _, out, _ = run(capsys, *asked, "--out", "none.csv")
        assert out.startswith("wrote 0 prices to none.csv: no price was seen since 2026-12-24")

    def test_a_web_page_is_recognised_by_how_it_begins(self, azul, capsys):
        scraped(azul, f"{AZUL}/0104/20261124T000000Z.jsonl", ["<!DOCTYPE html>", "<p>no</p>"])
        _, _, err = run(capsys, "update-db", "-w", "shop", "--now", "2026-11-25")
        assert "line 1: not JSON: it begins with '<!DOCTYPE html>' (a web page?)" in err and "malformed" not in err


def test_headers_that_nobody_could_guess_are_named(tmp_path):
    "A list with headers of its own: the complaint says how to name them, and naming them reads the list."
    file = tmp_path / "list.csv"
    file.write_text("Nr.;Was;B;L\n007;Lua 7;38,7;-9,1\n008;Lua 8;38,8;-9,2\n")
    with pytest.raises(InputError) as e: read_stores(file, company="Lua")
    assert "or say what they mean, like --column store_id=Nr. --column lat=B --column lon=L" in str(e.value)
    columns = chosen_columns(["store_id=Nr.", "lat=b", "lon = L", "name=Was"])
    stores = read_stores(file, company="Lua", columns=columns)
    assert stores[["store_id", "name", "lat", "lon"]].values.tolist() == [["007", "Lua 7", 38.7, -9.1],
                                                                         ["008", "Lua 8", 38.8, -9.2]]
    with pytest.raises(InputError, match=r"no column 'K', which lon was said to be; it has Nr\., Was, B, L"):
        read_stores(file, company="Lua", columns=columns | {"lon": "K"})


@pytest.mark.parametrize("given, told", [
    (["storeid=Nr."], "did you mean store_id"), (["Nr.=store_id"], "the other way round, store_id=Nr."),
    (["place=Nr."], "known are company, store_id"), (["store_id"], "write NAME=HEADER"),
    (["lat=B", "lat=L"], "is said to be 'B' and 'L': keep one")])
def test_a_column_that_cannot_be_named_is_refused(given, told):
    with pytest.raises(InputError, match="--column") as e: chosen_columns(given)
    assert told in str(e.value)


def test_what_a_person_says_of_a_header_wins(tmp_path):
    file = tmp_path / "list.csv"
    file.write_text("company,store_id,code,name,lat,lon\nLua,1,007,Lua,38.7,-9.1\n")
    assert read_stores(file)["store_id"].tolist() == ["1"]
    assert read_stores(file, columns={"store_id": "code"})["store_id"].tolist() == ["007"]


def test_import_stores_takes_columns(tmp_path, capsys):
    ws, file = new_workspace(tmp_path / "ws"), tmp_path / "list.csv"
    file.write_text("Nr.,Was,B,L\n007,Lua 7,38.7,-9.1\n")
    for extra in ([], ["--keep-good"]):
        with pytest.raises(SystemExit) as end:
            main(["import-stores", str(file), "-w", str(ws.path), "--company", "Lua", "--column", "store_id=Nr.",
                  "--column", "name=Was", "--column", "lat=B", "--column", "lon=L", *extra])
        assert end.value.code == 0 and "1 Lua" in capsys.readouterr().out
