"Machines with folders of their own share a bucket and a state, and nothing else: it ends as on one machine."
import gzip
import itertools
import os
import re
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from clusters import can_hide, dask_cluster, kill, seen_by_workers
from drill_world import NOW, WEEK, W, land_trouble, make, natural_rows, remove
from effort import drilled
from small_chain import ZONES, lines, scrape_all, shelf
from typed import CHILDREN

from scrapeopt.cli import main
from scrapeopt.core.backends import work_on
from scrapeopt.core.errors import InputError, LeftOutWarning
from scrapeopt.storage.backup import restore_backup, write_backup
from scrapeopt.storage.doctor import examine, mend
from scrapeopt.storage.remote_files import RemoteError, drop_files, list_files, make_place, open_place, put_file
from scrapeopt.storage.settings_file import change_settings
from scrapeopt.storage.shared_files import place_of, send_inbox
from scrapeopt.storage.tidy import tidy
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

pytestmark = pytest.mark.skipif(not (find_spec("moto") and find_spec("s3fs") and find_spec("flask")),
                                reason="needs an S3 server: pip install moto[s3] flask flask-cors s3fs")
AT = ("--now", f"{NOW:%Y-%m-%dT%H:%M}")


@pytest.fixture(scope="module")
def s3():
    from buckets import bucket
    with bucket() as found: yield found


numbers = itertools.count()


@pytest.fixture
def url(s3) -> str:
    "A place that nobody has used."
    from buckets import BUCKET
    return f"s3://{BUCKET}/chain-{next(numbers)}"


def share(ws: Workspace, url: str) -> Workspace:
    "The workspace, with its files in a place."
    ws.engine.dispose()
    settings = ws.path / "scrapeopt.toml"
    settings.write_text(settings.read_text().replace('# files = ""', f'files = "{url}"'))
    make_place(url)
    return Workspace.open(ws.path)


def another(ws: Workspace, name: str) -> Workspace:
    "Another machine: all that it gets is a copy of the settings."
    folder = ws.path.with_name(name)
    folder.mkdir()
    text = (ws.path / "scrapeopt.toml").read_text()
    if ws.engine.dialect.name == "sqlite": text = text.replace("sqlite:///state.db", f"sqlite:///{ws.path}/state.db")
    (folder / "scrapeopt.toml").write_text(text)
    return Workspace.open(folder)


def texts(folder: Path, kind: str) -> dict[str, bytes]:
    "The files of a folder, unpacked."
    found = [p for p in sorted((folder / kind).rglob("*")) if p.is_file() and not p.name.endswith(".part")]
    return {p.relative_to(folder).as_posix().removesuffix(".gz"): gzip.decompress(p.read_bytes()) if p.suffix == ".gz"
            else p.read_bytes() for p in found}


def plain(found: dict[str, bytes]) -> dict[str, bytes]:
    "Without the digests in the names of refused files, and the time in one that was packed and torn."
    return {re.sub(r"\.[0-9a-f]{8}\.re", ".re", name): b"" if ".gz." in name else text for name, text in found.items()}


def there(url: str, kind: str, to: Path) -> dict[str, bytes]:
    "The files of a folder of a place, unpacked."
    place = open_place(url)
    for name in list_files(place, kind):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        place.system.get_file(place.at(name), str(to / name))
    return texts(to, kind)


def same(one: Workspace, url: str, reader: Workspace, to: Path) -> None:
    "That a local workspace and the machines that share a place have the same state, files and prices."
    assert natural_rows(reader.engine) == natural_rows(one.engine)
    for kind in ("archive", "quarantine", "inbox", "prices"):
        assert plain(there(url, kind, to)) == plain(texts(one.path, kind)), kind
    pd.testing.assert_frame_equal(reader.prices(now=NOW), one.prices(now=NOW))


def local(folder: Path) -> Workspace:
    "What one machine would come to."
    ws = make(folder, None)
    scrape_all(ws, companies=[W])
    update_db(ws, now=NOW)
    land_trouble(ws)
    update_db(ws, now=NOW)
    return ws


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Workspace: return local(tmp_path_factory.mktemp("local") / "one")


def test_three_machines_share_a_bucket_and_a_server(tmp_path, postgres, one, url):
    "One scrapes, the next updates, a third that has seen nothing serves the prices: row for row as on one machine."
    scraper = share(make(tmp_path / "scraper", postgres), url)
    try:
        updater, reader = another(scraper, "updater"), another(scraper, "reader")
        scrape_all(scraper, companies=[W])
        assert send_inbox(scraper.path) == [] and not texts(scraper.path, "inbox")
        assert update_db(updater, now=NOW).files == len(ZONES[W])
        land_trouble(scraper)
        assert send_inbox(scraper.path) == []
        update_db(updater, now=NOW)
        assert not any(texts(updater.path, kind) for kind in ("inbox", "archive", "quarantine"))
        assert not texts(reader.path, "prices")
        same(one, url, reader, tmp_path / "there")
        assert texts(reader.path, "prices")
        for ws in (updater, reader): ws.engine.dispose()
    finally: remove(scraper.path, postgres)


@pytest.mark.slow
def test_workers_of_a_cluster_share_the_bucket_and_the_server_and_nothing_else(tmp_path, postgres, one, url):
    "Each has a folder of its own with the settings; one dies in the middle of an update."
    ws = share(make(tmp_path / "ws", postgres), url)
    if not can_hide(ws.path): pytest.skip("needs mounts of its own: run as root, with unshare")
    (tmp_path / "cluster").mkdir()
    try:
        with dask_cluster(tmp_path / "cluster", hidden=ws.path) as cluster:
            for trouble in (lambda: scrape_all(ws, companies=[W]), lambda: land_trouble(ws)):
                trouble()
                assert send_inbox(ws.path) == []
                with work_on("dask", cluster.address): update_db(ws, now=NOW)
                kill(cluster.workers.pop(0))
                cluster.add_worker()
                cluster.wait()
            same(one, url, ws, tmp_path / "there")
            snapshot = next((ws.path / "prices").rglob("*.parquet"))
            assert not seen_by_workers(cluster, snapshot)
            with work_on("dask", cluster.address, ws.path / "scrapeopt.toml"):
                count = ws.write_prices(tmp_path / "far.parquet", now=NOW)
            assert seen_by_workers(cluster, snapshot)  # fetched from the bucket
        assert count == one.write_prices(tmp_path / "near.parquet", now=NOW) > 100
        far, near = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("far", "near"))
        pd.testing.assert_frame_equal(far, near)
        ws.engine.dispose()
    finally: remove(ws.path, postgres)


def landed(folder: Path, url: str) -> Workspace:
    "A machine that has a first week taken in, and whose bucket has the trouble of the next."
    ws = share(make(folder, None), url)
    scrape_all(ws, companies=[W])
    update_db(ws, now=NOW)
    land_trouble(ws)
    assert send_inbox(ws.path) == []
    ws.engine.dispose()
    return ws


# --- a place that is not there, or goes away

def typed(capsys, *words: object) -> tuple[int, str, str]:
    "A command: its exit code, what it said and what it complained of."
    code = 0
    try: main([str(word) for word in words])
    except SystemExit as e: code = int(e.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def one_line(told: str) -> bool: return len(told.strip().splitlines()) == 1 and told.startswith("scrapeopt: ")


def test_a_bucket_that_is_not_there_is_one_sentence_and_loses_nothing(tmp_path, s3, url, capsys):
    "From the first command to the last; what has landed waits, and goes on once the bucket is there."
    code, _, told = typed(capsys, "init", tmp_path / "none", "--files", "s3://no-such-bucket/x")
    assert code == 2 and one_line(told) and "s3://no-such-bucket/x" in told and "make the bucket" in told
    assert not (tmp_path / "none").exists()
    ws = make(tmp_path / "ws", None)
    scrape_all(ws, companies=[W])
    settings = ws.path / "scrapeopt.toml"
    settings.write_text(settings.read_text().replace('# files = ""', 'files = "s3://not-yet-there/x"'))
    before = natural_rows(ws.engine), texts(ws.path, "inbox")
    for words in (("update-db",), ("doctor",)):
        code, _, told = typed(capsys, *words, "-w", ws.path)
        assert code == 2, (words, told)
        if words[0] == "update-db": assert one_line(told) and "s3://not-yet-there/x is not there" in told
    assert (natural_rows(ws.engine), texts(ws.path, "inbox")) == before
    s3.make("not-yet-there")
    code, said, _ = typed(capsys, "doctor", "--mend", "-w", ws.path)
    assert "put into the remote place" in said
    code, said, told = typed(capsys, "update-db", "-w", ws.path, *AT)
    assert code == 0 and said.startswith(f"{len(ZONES[W])} files"), told


def test_nobody_has_said_who_is_there(tmp_path, url, capsys, monkeypatch):
    from s3fs import S3FileSystem
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"): monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    open_place.cache_clear()
    S3FileSystem.clear_instance_cache()
    code, _, told = typed(capsys, "init", tmp_path / "ws", "--files", f"{url}/private")
    assert code == 2 and one_line(told) and "AWS_ACCESS_KEY_ID" in told
    open_place.cache_clear()
    S3FileSystem.clear_instance_cache()
    code, _, told = typed(capsys, "init", tmp_path / "ws", "--files", "s3://someone:s3cret@bucket/x")
    assert code == 2 and "s3cret" not in told and one_line(told)


@pytest.mark.slow
def test_wrong_keys_are_one_sentence_and_lose_nothing(tmp_path, s3, url, capsys, monkeypatch):
    "An id that nobody has, a secret that is not the id's; with the right ones it goes on."
    from s3fs import S3FileSystem

    def use(key: str, secret: str) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        open_place.cache_clear()
        S3FileSystem.clear_instance_cache()
    ws = share(make(tmp_path / "ws", None), url)
    scrape_all(ws, companies=[W])
    before = natural_rows(ws.engine), texts(ws.path, "inbox")
    with s3.asking_for_keys() as (key, secret):
        for wrong in (("AKIANOBODYHASTHISID0", "x" * 40), (key, "y" * 40)):
            use(*wrong)
            code, _, told = typed(capsys, "init", tmp_path / "none", "--files", f"{url}/other")
            assert code == 2 and one_line(told) and not (tmp_path / "none").exists()
            for words in (("update-db",), ("doctor",), ("tidy",)):
                code, _, told = typed(capsys, *words, "-w", ws.path)
                assert code == 2 and one_line(told), (words, told)
                assert f"{url} does not let this machine in" in told and "look at AWS_ACCESS_KEY_ID" in told
                assert "y" * 40 not in told
            assert (natural_rows(ws.engine), texts(ws.path, "inbox")) == before
        use(key, secret)
        code, said, told = typed(capsys, "update-db", "-w", ws.path, *AT)
        assert code == 0 and said.startswith(f"{len(ZONES[W])} files"), told
    monkeypatch.undo()
    open_place.cache_clear()
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("when", ["read_files", drilled("fetch_inbox"), "_learn_from", drilled("close_inbox")])
def test_a_server_that_goes_in_mid_run_and_comes_back(tmp_path, s3, url, capsys, monkeypatch, when):
    "One sentence, nothing lost; the same command once more, and it ends as on one machine that saw nothing of it."
    from scrapeopt import company_update, outlooks, update
    ws, alone = share(make(tmp_path / "ws", None), url), make(tmp_path / "alone", None)
    for each in (ws, alone): scrape_all(each, companies=[W])
    assert send_inbox(ws.path) == []
    home = company_update if hasattr(company_update, when) else update
    real = getattr(home, when)
    def gone(*args, **kwargs):
        found = real(*args, **kwargs) if when != "close_inbox" else None
        s3.go()
        return real(*args, **kwargs) if when == "close_inbox" else found
    monkeypatch.setattr(home, when, gone)
    monkeypatch.setattr(outlooks, "due_questions", lambda *_: iter(()))
    try: code, said, told = typed(capsys, "update-db", "-w", ws.path, *AT)
    finally: s3.come_back()
    assert code == 2 and one_line(told) and url in told, (said, told)
    monkeypatch.undo()
    again = another(ws, "again")
    update_db(again, now=NOW)
    update_db(ws, now=NOW)  # which has copies of the files in its own inbox
    update_db(alone, now=NOW)
    same(alone, url, again, tmp_path / "there")


def test_a_cache_serves_without_its_place_and_a_missing_file_is_no_loss_then(tmp_path, s3, url):
    "What lies here is served; what does not is an error while the place is silent, and no store is taken for lost."
    ws = share(make(tmp_path / "ws", None), url)
    scrape_all(ws, companies=[W])
    update_db(ws, now=NOW)
    empty, expected = another(ws, "empty"), ws.prices(now=NOW)
    s3.go()
    try:
        pd.testing.assert_frame_equal(ws.prices(now=NOW), expected)
        with pytest.raises(RemoteError, match="nothing is lost"): empty.prices(now=NOW)
        assert len(empty.queue(3, now=NOW + WEEK)) == 3  # it reads no price
    finally: s3.come_back()
    pd.testing.assert_frame_equal(empty.prices(now=NOW), expected)


# --- what lies here is a cache

def test_a_damaged_or_old_file_here_is_fetched_again(tmp_path, url):
    ws = share(make(tmp_path / "ws", None), url)
    scrape_all(ws, companies=[W])
    update_db(ws, now=NOW)
    expected = ws.prices(now=NOW)
    files = sorted((ws.path / "prices").rglob("*.parquet"))
    files[0].write_bytes(files[0].read_bytes()[:-9])
    files[1].write_bytes(files[2].read_bytes())  # another store's
    files[3].unlink()
    pd.testing.assert_frame_equal(ws.prices(now=NOW), expected)
    assert examine(ws, now=NOW) == []


def test_a_snapshot_that_the_place_has_lost_is_one_store_s_hole_until_it_is_mended(tmp_path, url):
    "The others are served; the doctor puts there what a folder has, and makes anew what the archive can tell."
    ws = share(make(tmp_path / "ws", None), url)
    scrape_all(ws, companies=[W])
    update_db(ws, now=NOW)
    place, expected = place_of(ws.path), ws.prices(now=NOW)
    first, second, *_ = list_files(place, "prices")
    drop_files(place, [first, second])
    assert [found.kind for found in examine(ws, now=NOW)] == ["unsent"]
    other = another(ws, "other")
    with pytest.warns(LeftOutWarning, match="is lost"): assert len(other.prices(now=NOW)) >= len(expected) * 0.9
    mend(ws, examine(ws, now=NOW))
    assert {first, second} <= list_files(place, "prices").keys()
    drop_files(place, [first])
    for machine in (ws, other): (machine.path / first).unlink(missing_ok=True)
    assert [found.kind for found in examine(other, now=NOW)] == ["lost"]
    assert "made anew from the archive" in mend(other, examine(other, now=NOW))[0]
    assert first in list_files(place, "prices")
    pd.testing.assert_frame_equal(ws.prices(now=NOW), expected)


def test_tidying_puts_snapshots_together_in_the_place(tmp_path, url):
    "A machine with an old cache and one with none serve the same prices after it; what was killed leaves nothing."
    ws = share(make(tmp_path / "ws", None), url)
    for week in (0, 1): scrape_all(ws, week, companies=[W])
    update_db(ws, now=NOW + WEEK)
    old, expected, place = another(ws, "old"), ws.prices(now=NOW), place_of(ws.path)
    old.prices(now=NOW)
    before, kept = list_files(place, "prices"), next(iter(list_files(place, "prices")))
    shutil.copyfile(ws.path / kept, tmp_path / "kept")
    later = NOW + pd.Timedelta(days=60)
    assert tidy(ws, now=later).problems == []
    assert len(before) == 14
    assert {name.rpartition("/")[2] for name in list_files(place, "prices")} == {"2026-11.parquet"}
    put_file(place, tmp_path / "kept", kept)  # as if the tidying had been killed before it came to this one
    tidier = another(ws, "tidier")
    assert tidy(tidier, now=later).problems == []
    assert kept not in list_files(place, "prices")
    for machine in (ws, old, another(ws, "new")): pd.testing.assert_frame_equal(machine.prices(now=NOW), expected)
    assert len(list_files(place, "archive")) == 14
    assert tidy(tidier, now=NOW + pd.Timedelta(days=500)).problems == []
    assert list_files(place, "archive") == {} and not texts(tidier.path, "archive")


def test_copies_that_nobody_reads_go_and_come_again(tmp_path, url):
    ws = share(make(tmp_path / "ws", None), url)
    change_settings(ws.path / "scrapeopt.toml", {"compact_days": 0}).save()
    ws = Workspace.open(ws.path)
    for week in (0, 1): scrape_all(ws, week, companies=[W])
    update_db(ws, now=NOW + WEEK)
    expected, there = ws.prices(now=NOW), set(list_files(place_of(ws.path), "prices"))
    rare, wall = sorted(there)[0], pd.Timestamp.now("UTC")
    for name in there: os.utime(ws.path / name, ns=(0, wall.value if name != rare else 0))
    assert {row["chore"]: row["freed_files"] for row in tidy(ws, now=wall).rows()}["cache_days"] == 1
    assert [name for name in sorted(there) if not (ws.path / name).exists()] == [rare]
    assert tidy(ws, now=wall + pd.Timedelta(days=61)).problems == [] and not texts(ws.path, "prices")
    assert [found.words() for found in examine(ws, now=NOW)] == []
    pd.testing.assert_frame_equal(ws.prices(now=NOW), expected)
    assert set(list_files(place_of(ws.path), "prices")) >= {rare}


def test_what_is_newer_than_a_backup_comes_back_from_the_archive_of_the_place(tmp_path, url):
    ws = share(make(tmp_path / "ws", None), url)
    scrape_all(ws, 0, companies=[W])
    update_db(ws, now=NOW)
    write_backup(ws, tmp_path / "backup")
    scrape_all(ws, 1, companies=[W])
    update_db(ws, now=NOW + WEEK)
    expected = ws.prices(now=NOW)
    shutil.rmtree(ws.path / "prices")
    ws.engine.dispose()
    restored = restore_backup(ws.path, tmp_path / "backup")
    assert (restored.taken_back, restored.holes, restored.unknown) == (len(ZONES[W]), (), ())
    ws = Workspace.open(ws.path)
    update_db(ws, now=NOW + WEEK)
    pd.testing.assert_frame_equal(ws.prices(now=NOW), expected)


# --- commands

def test_a_machine_that_only_scrapes_sends_what_it_lands(tmp_path, s3, url, capsys):
    "Its own inbox is empty then; while the place is silent its files wait, and the next scrape sends them."
    ws = share(make(tmp_path / "ws", None), url)
    (tmp_path / "shelf").write_text("\n".join(lines(shelf(W, "0001"))) + "\n")
    scrape = ("scrape", "-n", 2, "--retries", 0, "--command", f"cp {tmp_path}/shelf {{output}}", "-w", ws.path)
    code, said, told = typed(capsys, *scrape, *AT)
    assert code == 0 and "scraped 2 of 2" in said, told
    assert len(list_files(place_of(ws.path), "inbox")) == 2 and not texts(ws.path, "inbox")
    s3.go()
    try: code, said, told = typed(capsys, *scrape, "--now", f"{NOW + WEEK:%Y-%m-%dT%H:%M}")
    finally: s3.come_back()
    assert code == 2 and one_line(told) and "the next scrape sends it" in told and len(texts(ws.path, "inbox")) == 2
    code, *_ = typed(capsys, *scrape, "--now", f"{NOW + 2 * WEEK:%Y-%m-%dT%H:%M}")
    assert code == 0 and len(list_files(place_of(ws.path), "inbox")) == 6


def test_prices_are_written_to_a_bucket_whole_or_not_at_all(tmp_path, url, capsys):
    ws = make(tmp_path / "ws", None)
    scrape_all(ws, companies=[W])
    update_db(ws, now=NOW)
    for name in ("p.parquet", "p.csv"):
        code, said, told = typed(capsys, "prices", "--out", f"{url}/{name}", "-w", ws.path, *AT)
        assert code == 0 and f"to {url}/{name}" in said, told
        open_place(url).system.get_file(open_place(url).at(name), str(tmp_path / name))
    count = len(ws.prices(now=NOW))
    assert len(pd.read_parquet(tmp_path / "p.parquet")) == len(pd.read_csv(tmp_path / "p.csv")) == count
    code, _, told = typed(capsys, "prices", "--out", "s3://no-such-bucket/p.parquet", "-w", ws.path, *AT)
    assert code == 2 and one_line(told) and "s3://no-such-bucket/p.parquet cannot be written" in told


def test_two_machines_never_change_a_state_at_the_same_time(tmp_path, postgres, url):
    "The server keeps the lock, for their folders know nothing of each other; it ends with whoever holds it."
    ws = share(make(tmp_path / "ws", postgres), url)
    try:
        other = another(ws, "other")
        with ws.lock(), pytest.raises(InputError, match="another machine"), other.lock(0.2): pass
        with other.lock(0.2): pass
        for machine in (ws, other): machine.engine.dispose()
    finally: remove(ws.path, postgres)


def test_a_stranger_in_the_inbox_of_a_place_stops_nothing(tmp_path, url):
    "Odd names are told, and the good files taken; no name leads out of the folder."
    ws = share(make(tmp_path / "ws", None), url)
    scrape_all(ws, companies=[W], only={"0001", "0002"})
    assert send_inbox(ws.path) == []
    place = place_of(ws.path)
    for name in ("inbox/../../out.jsonl", "inbox/Woolworths/0001/20261119T020000Z.jsonl/in/it.jsonl", "inbox/note.txt"):
        place.system.pipe_file(place.at(name), b"{}\n")
    report = update_db(ws, now=NOW)
    assert report.files == 2 and not (ws.path.parent / "out.jsonl").exists()
    assert [told for told in report.problems if "and 2 more left there: only files named like" in told]
    assert len(list_files(place, "inbox")) == 3


# --- killed in mid-run

ASKED = ("put_file", "rm_file", "get_file")  # of s3fs: what an update asks of a bucket, beside its lists


def obey(folder: str, nth: int, environment: dict[str, str], started) -> None:
    "The child: update a workspace; it is killed before the nth call of a bucket, or commit of its state."
    from s3fs import S3FileSystem
    from sqlalchemy import Engine, event
    os.environ.update(environment)  # whoever makes our children may have begun before there was a bucket
    calls: list[str] = []

    def call(what: str) -> None:
        calls.append(what)
        if len(calls) == nth: os.kill(os.getpid(), signal.SIGKILL)

    for name in ASKED:
        real = getattr(S3FileSystem, f"_{name}")

        async def counted(self, *args, real=real, name=name, **kwargs):
            call(name)
            return await real(self, *args, **kwargs)
        setattr(S3FileSystem, f"_{name}", counted)
    event.listen(Engine, "commit", lambda _: call("commit"))
    update_db(Workspace.open(folder), now=NOW)
    started.send(calls)


def updated(folder: Path, nth: int = 0) -> list[str]:
    "Update a workspace in a child; the calls that it made, none of a child that was killed."
    ours, its = CHILDREN.Pipe(duplex=False)
    child = CHILDREN.Process(target=obey, args=(str(folder), nth, dict(os.environ), its))
    child.start()
    its.close()
    try: calls = ours.recv()
    except EOFError: calls = []
    child.join(60)
    assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
    return calls


def copied_place(before: str, after: str) -> None:
    "Copy all objects of a place."
    place = make_place(after)
    for name in list_files(open_place(before), ""): place.system.cp_file(open_place(before).at(name), place.at(name))


@pytest.fixture(scope="module")
def yard(s3, tmp_path_factory):
    "A machine with files waiting in its bucket; and the calls of an update that nobody kills."
    from buckets import BUCKET
    folder, url = tmp_path_factory.mktemp("yard"), f"s3://{BUCKET}/yard"
    return landed(folder / "machine", url), url


def again(yard, folder: Path, url: str) -> Workspace:
    "The machine of the yard once more, with a bucket of its own."
    ws, before = yard
    shutil.copytree(ws.path, folder)
    settings = folder / "scrapeopt.toml"
    settings.write_text(settings.read_text().replace(before, url))
    copied_place(before, url)
    return Workspace.open(folder)


def test_what_an_update_asks_of_a_bucket_comes_in_an_order_that_loses_nothing(yard, tmp_path, url, one):
    ws = again(yard, tmp_path / "calm", url)
    ws.engine.dispose()
    calls = updated(ws.path)
    asked = [call for call, _ in itertools.groupby(call for call in calls if call != "commit")]
    assert asked == ["get_file", "put_file", "rm_file"]
    assert "commit" in calls[calls.index("put_file"):calls.index("rm_file")]
    same(one, url, Workspace.open(ws.path), tmp_path / "there")


@pytest.mark.parametrize(("what", "nth"), [
    drilled("get_file", 9), ("put_file", 3), drilled("put_file", 1), drilled("commit", 3), drilled("commit", 5),
    ("commit", -2), drilled("put_file", -3), ("rm_file", 5), drilled("rm_file", -1), drilled("put_file", -1)])
def test_an_update_that_is_killed_is_carried_on(yard, tmp_path, url, one, what, nth, calm_calls):
    "Killed at a get, a put, a commit or a removal; another machine with an empty folder goes on, and it is as ever."
    ws = again(yard, tmp_path / "killed", url)
    ws.engine.dispose()
    at = [k for k, call in enumerate(calm_calls, 1) if call == what][nth]
    assert updated(ws.path, at) == []
    other = another(Workspace.open(ws.path), "other")
    update_db(other, now=NOW)
    same(one, url, other, tmp_path / "there")
    assert examine(other, now=NOW) == []


@pytest.fixture(scope="module")
def calm_calls(yard, tmp_path_factory) -> list[str]:
    "The calls of an update that nobody kills."
    from buckets import BUCKET
    ws = again(yard, tmp_path_factory.mktemp("calm") / "ws", f"s3://{BUCKET}/calm")
    ws.engine.dispose()
    return updated(ws.path)
