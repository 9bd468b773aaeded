"""A store may be called anything: nothing of its name ever runs, and none of it becomes an option of a scraper."""
import shlex
import sys
from contextlib import nullcontext

import pytest

from scrapeopt.core.errors import InputError
from scrapeopt.discovery import ScrapeTask
from scrapeopt.scrape import fill_command, parse_command, scrape_queue

HOSTILE = ("$(touch x)", "`touch x`", "a; touch x", "a\ntouch x", "'; touch x; '", '"; touch x; "', "a && touch x",
           "{output}", "{0}", "}{", "{{store_id}}", "%s", "$1", "a b", "*", "~", "\\", "a#b")


WRITE = "import sys; open(sys.argv[-1], 'w').write(' '.join(sys.argv[1:-1]))"


class Folder:
    "What scrape_queue needs of a workspace."
    def __init__(self, path): self.path = path
    def record_failures(self, results, now): pass
    def lease(self, stores): return nullcontext(stores)


def scrape(folder, ids, command):
    tasks = [ScrapeTask("Coles", store, "discovery", "primary", "Perth") for store in ids]
    return scrape_queue(Folder(folder), tasks, command, retries=0, progress=False)


@pytest.mark.parametrize("command", [
    """sh -c 'printf %s "$1" > "$2"' sh {store_id} {output}""",
    shlex.join([sys.executable, "-c", WRITE]) + " {store_id} {output}",
    """env A=1 bash -o pipefail -ec 'printf %s "$1" | cat > "$2"' bash {store_id} {output}"""])
def test_an_id_arrives_as_it_is_and_nothing_of_it_runs(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = scrape(tmp_path / "ws", HOSTILE, command)
    assert len(report.done) == len(HOSTILE), report
    landed = [p for p in (tmp_path / "ws").rglob("*") if p.is_file()]
    assert {p.read_text() for p in landed} == set(HOSTILE)
    assert [p.name for p in tmp_path.iterdir()] == ["ws"]


@pytest.mark.parametrize("template", [
    "sh -c 'curl {store_id} > {output}'", "bash -c 'curl {store_id} > {output}'", "/bin/sh -c 'x {store_id} {output}'",
    "bash -ec 'x \"{store_id}\" {output}'", "bash -lc \"x '{store_id}' {output}\"", "env sh -c 'x {store_id} {output}'",
    "env -i A=b /usr/bin/env bash -c 'x {store_id} {output}'", "nice -n 5 dash -c 'x {company} {output}'",
    "timeout 9 zsh -c 'x {store_id}' zsh {output}", "ksh -o errexit -c 'x {store_id}' ksh {output}",
    "bash -O extglob +o posix -c 'x {store_id}' bash {output}", "sh -c -e 'x {store_id} {output}'",
    "sh -c '{store_id}' {output}", "bash --norc -c 'x {store_id} {output}'",
    "bash --rcfile y -c 'x {store_id} {output}'",
    "python3 -c 'open(\"{output}\", \"w\")'", "python -u -W ignore -c 'x(\"{store_id}\")' {output}",
    "perl -we 'system \"{store_id}\"' {output}", "node -e 'x({store_id})' {output}", "php -r 'x({store_id});' {output}",
    "env -S 'x {store_id} {output}'", "env '-Sx {store_id} {output}'", "ssh shop x {store_id} {output}",
    "fish '--command=x {store_id}' {output}",
    "su shop -c 'x {store_id} {output}'", "flock lock -c 'x {store_id} {output}'",
    "fish --command 'x {store_id}' {output}"])
def test_only_harmless_ids_are_made_part_of_a_script(template):
    words, values = shlex.split(template), {"company": "Coles", "output": "/ws/inbox/a.part", "time": "t"}
    filled = fill_command(words, values | {"store_id": "0341-b"})
    assert filled == [word.format_map(values | {"store_id": "0341-b"}) for word in words]
    for odd in (o for o in HOSTILE if o != "%s"):  # which no program minds
        values |= {"store_id": odd, "company": odd, "output": odd}
        with pytest.raises(InputError, match="part of a script") as error: fill_command(words, values)
        assert "\"$1\" > \"$2\"' sh {store_id} {output}" in str(error.value)


@pytest.mark.parametrize("template", [
    "sh -c 'eval \"$1\" > \"$2\"' sh {store_id} {output}", "sh -c 'x; eval $@' sh {store_id} {output}"])
def test_a_script_that_runs_its_words_is_refused(template):
    with pytest.raises(InputError, match="part of a script"): parse_command(template)


def test_an_id_that_would_run_fails_its_store_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = scrape(tmp_path / "ws", ["0341", "$(touch x)"], "sh -c 'echo {store_id} > {output}'")
    assert ([t.store_id for t in report.done], len(report.failed)) == (["0341"], 1)
    assert "would be made part of a script" in report.failed[0].detail and not (tmp_path / "x").exists()


@pytest.mark.parametrize("template", [
    "sh spider.sh -c {store_id} {output}", "python3 -u spider.py -c {store_id} {output}",
    "python3 -m spider {store_id} {output}",
    "env SHOP={company} sh spider.sh {store_id} {output}", "timeout 9 sh spider.sh {store_id} {output}",
    "python3 spider.py --script sh --store={store_id} {output}",
    "sh -c 'eval \"$(x)\"; y \"$1\" \"$2\"' sh {store_id} {output}"])
def test_a_placeholder_outside_of_scripts_is_not(template):
    assert parse_command(template) == shlex.split(template)


@pytest.mark.parametrize("store", ["-rf", "--output=/etc/passwd", "-"])
@pytest.mark.parametrize("words", ["{store_id} {output}", "{store_id}x {output}", "--store {store_id} {output}"])
def test_an_id_with_a_leading_dash_becomes_no_option(store, words, tmp_path):
    report = scrape(tmp_path / "ws", [store], f"sh -c 'touch ran' sh {words}")
    assert len(report.failed) == 1 and "would be an option" in report.failed[0].detail
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize("words", [
    "-- {store_id} {output}", "--store={store_id} -- {output}", "id:{store_id} {output}"])
def test_it_is_handed_over_where_it_cannot_be_one(words, tmp_path):
    assert scrape(tmp_path / "ws", ["-rf"], shlex.join([sys.executable, "-c", WRITE]) + f" {words}").done
    [landed] = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert "-rf" in landed.read_text()
