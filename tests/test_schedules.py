"""What `scrapeopt schedule` prints runs as printed: under cron's own environment, and to systemd's own reading."""
import os
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbs
import pytest
from small_chain import PRODUCTS, new_workspace
from test_ends import wait_for

SCRAPER = """
import json, pathlib, sys
company, store, output = sys.argv[1:]
if pathlib.Path(f"{store.replace('/', '_')}.closed").exists(): sys.exit("the shop answered 503")
pathlib.Path(output).write_text("".join(json.dumps({"product_id": p, "price": "2.50"}) + "\\n" for p in %r))
"""
COMMAND = "python my_scraper.py {company} {store_id} {output}"
ANALYZE = shutil.which("systemd-analyze")


@pytest.fixture
def folder(tmp_path):
    "A folder with a hard name, a scraper and a workspace in it."
    folder = tmp_path / "50% off 'n' \"$HOME"
    folder.mkdir()
    (folder / "my_scraper.py").write_text(SCRAPER % PRODUCTS[:20])
    new_workspace(folder / "Fruit & Veg").engine.dispose()
    return folder


def scheduled(folder, kind, *words):
    "What the command prints, typed in a folder."
    words = ["schedule", kind, "-w", "Fruit & Veg", "--command", COMMAND, *words]
    done = subprocess.run([sys.executable, "-m", "scrapeopt.cli", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def jobs(crontab) -> tuple[dict[str, str], list[str]]:
    "The variables and commands of a crontab, as crontab(5) has them read."
    variables, commands = {}, []
    for line in crontab.splitlines():
        assert len(line) < 998
        if not line or line.startswith("#"): continue
        if m := re.match(r"(\w+)=(.*)", line):
            variables[m[1]] = m[2].strip()[1:-1] if m[2][:1] in "\"'" else m[2].strip()
            continue
        words = line.split(None, 5)
        assert all(re.fullmatch(r"[\d*/,-]+", word) for word in words[:5]) and "%" not in words[5], line
        commands.append(words[5])
    return variables, commands


def as_cron(variables, command):
    "A command as cron runs it: its code, and what would be mailed."
    me = pwd.getpwuid(os.getuid())
    given = {"HOME": me.pw_dir, "LOGNAME": me.pw_name, "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"} | variables
    given |= {"SCRAPEOPT_RETRIES": "0"} | {k: os.environ[k] for k in ("PYTHONPATH",) if k in os.environ}  # this copy
    done = subprocess.run(["/bin/sh", "-c", command], cwd=me.pw_dir, env=given, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout


def taken_in(folder): return sorted(p.parent.name for p in (folder / "Fruit & Veg" / "archive").rglob("*.jsonl"))


@pytest.mark.slow
def test_the_crontab_works_as_printed(folder):
    variables, (scrape, again, status, weekly) = jobs(scheduled(folder, "cron", "-n", "2"))
    assert as_cron(variables, scrape) == "" and len(taken_in(folder)) == 2
    for store in ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "a", "b", "c", "d=1", "d 2"):
        (folder / f"{store}.closed").touch()
    assert as_cron(variables, scrape) == "" and len(taken_in(folder)) == 2  # exit code 1: nobody is told
    for closed in folder.glob("*.closed"): closed.unlink()
    assert as_cron(variables, again) == "" and len(taken_in(folder)) == 4  # and the same stores are asked again
    assert as_cron(variables, again) == "" and len(taken_in(folder)) == 4
    assert as_cron(variables, weekly) == ""
    log = (folder / "Fruit & Veg" / "cron.log").read_text()
    assert "scraped 0 of 2 stores" in log and "503" in log and "No store has failed." in log and "nothing to" in log
    (folder / "Fruit & Veg" / "inbox" / "lost.csv").touch()
    assert "lost.csv" in as_cron(variables, scrape)  # exit code 2: cron mails the end of the log
    assert "lost.csv" in as_cron(variables, status)


@pytest.mark.slow
def test_cron_tells_of_what_cannot_run_at_all(folder):
    variables, (scrape, *_) = jobs(scheduled(folder, "cron"))
    (folder / "my_scraper.py").unlink()
    assert "there is no file 'my_scraper.py'" in as_cron(variables, scrape)
    (folder / "Fruit & Veg").rename(folder / "gone")
    assert "cannot create" in as_cron(variables, scrape)


def test_cron_leaves_a_run_out_while_the_last_one_is_at_work(folder):
    variables, (scrape, *_) = jobs(scheduled(folder, "cron", "-n", "2"))
    with subprocess.Popen(["flock", folder / "Fruit & Veg" / "cron.log.lock", "sleep", "60"]) as other:
        try:
            while not (folder / "Fruit & Veg" / "cron.log.lock").exists(): pass
            assert as_cron(variables, scrape) == "" and taken_in(folder) == []
        finally: other.kill()


@pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze: apt-get install systemd")
@pytest.mark.parametrize("whose", ["--system", "--user"])
def test_systemd_reads_the_units_as_they_are_meant(folder, whose, tmp_path):
    scheduled(folder, "systemd", "-n", "2", "--out", str(tmp_path / "units"))
    units = sorted(str(p) for p in (tmp_path / "units").iterdir())
    away = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([ANALYZE, whose, "--man=no", "verify", *units], capture_output=True, text=True,
                          env=os.environ | away)
    ours = [line for line in done.stderr.splitlines() if "scrapeopt" in line]
    assert len(units) == 5 and (done.returncode, ours) == (0, []), done.stderr


@pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze: apt-get install systemd")
def test_systemd_runs_at_the_times_of_cron():
    timer = (Path(nbs.ROOT) / "scrapeopt/commands/schedules/scrape.timer").read_text()
    when = re.search(r"OnCalendar=(.*)", timer)[1]
    told = subprocess.check_output([ANALYZE, "calendar", "--iterations=9", "--base-time=2026-11-29 00:00:00 UTC", when],
                                   text=True, env=os.environ | {"TZ": "UTC"})
    hours = re.findall(r"(\d\d):17:00", told)
    assert hours[:9] == ["06", "08", "10", "12", "14", "16", "18", "20", "06"], told


CRON = shutil.which("cron") or shutil.which("crond")


@pytest.mark.drill
@pytest.mark.skipif(not CRON or os.geteuid(), reason="root and cron are needed: apt-get install cron")
def test_a_real_cron_runs_it(folder, tmp_path):
    "cron itself, every minute, with its crontabs in a folder that nobody else sees."
    (tmp_path / "crontab").write_text(re.sub(r"^17 6-20/2 \* \* \*", "* * * * *", scheduled(folder, "cron", "-n", "2"),
                                             flags=re.M))
    (tmp_path / "spool").mkdir()
    script = ("mount --bind spool /var/spool/cron/crontabs && mount -t tmpfs none /etc/cron.d && "
              "mount --bind /dev/null /etc/crontab && crontab crontab && exec cron -f")
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    cron = subprocess.Popen([*alone, "sh", "-c", script], cwd=tmp_path)
    try: assert wait_for(lambda: len(taken_in(folder)) >= 2, 200), (folder / "Fruit & Veg/cron.log").read_text()
    finally:
        cron.kill()
        cron.wait()


SYSTEMD = Path("/usr/lib/systemd/systemd")
MORNING = f"""
mount -t tmpfs none /run && mkdir -p /run/user/0 /run/systemd/system && chmod 700 /run/user/0
export XDG_RUNTIME_DIR=/run/user/0 HOME="$PWD/home"
unset DBUS_SESSION_BUS_ADDRESS
{SYSTEMD} --user &
until systemctl --user is-system-running --quiet; do sleep 0.2; done
unit=scrapeopt-Fruit-Veg
systemctl --user start $unit.service; echo "first: $?"
for store in 0001 0002 0003 0004 0005 0006 0007 a b c d=1 "d 2"; do touch "$store.closed"; done
systemctl --user start $unit.service; echo "some failed: $?"
rm my_scraper.py
systemctl --user start $unit.service; echo "no scraper: $?"
systemctl --user show --property=Result,ExecMainStatus $unit.service
for wait in 1 2 3 4 5 6 7 8 9; do test -e ../told || sleep 1; done; cat ../told
systemctl --user start $unit.timer $unit-weekly.timer; systemctl --user list-timers --no-pager
"""


@pytest.mark.drill
@pytest.mark.skipif(not SYSTEMD.exists() or os.geteuid(), reason="root and systemd are needed: apt-get install systemd")
def test_a_real_systemd_runs_it(folder, tmp_path):
    "A manager of its own, apart from everything else; only the pause before the second try is cut short."
    scheduled(folder, "systemd", "-n", "2", "--out", "home/.config/systemd/user")
    units = folder / "home/.config/systemd/user"
    for unit, old, new in (("scrapeopt-Fruit-Veg", "/bin/sleep 900", "/bin/sh -c 'rm *.closed'"),
                           ("scrapeopt-Fruit-Veg-alert", r"/bin/sh -c 'journalctl.*",
                            f"/bin/sh -c 'echo $$MONITOR_UNIT $$MONITOR_EXIT_STATUS > {tmp_path}/told'")):
        text, n = re.subn(old, new, (units / f"{unit}.service").read_text())
        assert n == 1
        (units / f"{unit}.service").write_text(text)
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", MORNING]
    at_once = os.environ | {"SCRAPEOPT_RETRIES": "0"}
    done = subprocess.run(alone, cwd=folder, env=at_once, capture_output=True, text=True, timeout=500)
    said = done.stdout
    assert "first: 0" in said and "some failed: 0" in said and len(taken_in(folder)) == 4, (said, done.stderr)
    assert "no scraper: 1" in said and "ExecMainStatus=2" in said and "Result=exit-code" in said, (said, done.stderr)
    assert "scrapeopt-Fruit-Veg.service 2" in said and ":17:00" in said and "2 timers listed" in said, said
