"What is wrong with scrapeopt.toml is told with the line, the key, and the place where it belongs."
from contextlib import suppress
from pathlib import Path

import pytest
import small_chain

from scrapeopt.cli import main
from scrapeopt.core.errors import InputError
from scrapeopt.storage.doctor import examine
from scrapeopt.storage.settings import CompanySettings, Settings, read_settings
from scrapeopt.storage.settings_file import change_settings


@pytest.fixture
def file(tmp_path): return tmp_path / "scrapeopt.toml"


def complaint(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(InputError) as e: read_settings(file)
    return str(e.value)


@pytest.mark.parametrize("key", sorted(set(Settings.model_fields) - {"companies", "defaults"}))
def test_a_key_of_the_workspace_in_a_table_is_sent_to_the_top(key, file):
    for table in ("[companies.Lua]", '[companies."Mercearia Lua"]', "[defaults]"):
        told = complaint(file, f"{table}\n{key} = 1\n")
        assert f"'{key}' under {table} is a key of the whole workspace: write it at the top of the file" in told


@pytest.mark.parametrize("key", sorted(CompanySettings.model_fields))
def test_a_key_of_a_company_at_the_top_is_sent_into_its_table(key, file):
    for head in ("", "[companies]\n"):
        assert "write it under [companies.NAME], or [defaults] for all" in complaint(file, f"{head}{key} = 1\n")


@pytest.mark.parametrize("text, first, again, what", [
    ("budget = 4\n# more\nbudget = 5\n", 1, 3, "the key budget"),
    ("seed = 1\n[defaults]\ncurrency = 'EUR'\n[companies.Lua]\ncurrency = 'EUR'\ncurrency = 'USD'", 5, 6,
     "the key currency"),
    ("[companies.Lua]\n[defaults]\n[companies.Lua]  # mine\n", 1, 3, "the table [companies.Lua]")])
def test_what_stands_there_twice_is_told_with_both_lines(text, first, again, what, file):
    told = complaint(file, text)
    assert f"{what} stands there in line {first} and again in line {again}: " in told and str(file) in told
    assert "value" not in told and "mutate" not in told
    with pytest.raises(InputError, match=f"again in line {again}"): change_settings(file, {"eps_km": 12.5})


@pytest.mark.parametrize("line, value", [
    ('cluster_method = "HDBSCAN"', "hdbscan"), ('seeding = "Geography"', "geography"),
    ('policy = "Delegated"', "delegated"), ('after_ingest = "DELETE"', "delete"),
    ('match_threshold = "Auto"', "auto"), ('range_threshold = "AUTO"', "auto"),
    ('backend = "Dask"', "dask")])
def test_words_of_a_list_are_understood_in_capitals(line, value, file):
    file.write_text(line)
    assert getattr(read_settings(file), line.split()[0]) == value


def test_a_weekday_and_a_currency_are_understood_in_any_case(file, monkeypatch):
    file.write_text('[defaults]\nchangeover = "Tuesday"\n[companies.Lua]\ncurrency = "eur"\n')
    own = read_settings(file).company("Lua")
    assert (own.weekday, own.currency) == (1, "EUR")
    monkeypatch.setenv("SCRAPEOPT_CLUSTER_METHOD", "HDBSCAN")
    assert read_settings(file).cluster_method == "hdbscan"
    assert "should be 'monday'" in complaint(file, '[defaults]\nchangeover = "tue"\n')


def test_doctor_and_status_find_a_table_whose_company_has_no_stores(tmp_path, capsys):
    ws = small_chain.new_workspace(tmp_path / "ws")
    name = ws.companies()[0]
    file = ws.path / "scrapeopt.toml"
    file.write_text(file.read_text() + f'\n[companies."{name}s"]\ncurrency = "EUR"\n')
    found = [one for one in examine(type(ws).open(ws.path)) if one.kind == "settings"]
    assert [(one.which, one.needs_person) for one in found] == [(f"{name}s", False)]
    assert f"which has no stores. Correct the name (did you mean {name}" in found[0].words()
    with suppress(SystemExit): main(["status", "-w", str(ws.path)])
    assert f"which has no stores: correct the name (did you mean {name}" in capsys.readouterr().err
