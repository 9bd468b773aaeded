"""The container file: what can be held of it without an engine, and with buildah, the whole of it."""
import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbs
import packaged
import pytest
from small_chain import new_workspace, scraped_once
from test_ends import wait_for

COMMAND = Path(sys.executable).with_name("scrapeopt")


def instructions() -> list[tuple[str, str]]:
    "The instructions of the Dockerfile."
    text = re.sub(r"^#.*\n", "", (nbs.ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


LINES = instructions()
FIRST, LAST = (LINES[:k] if part == 0 else LINES[k:] for part in (0, 1)
               for k in [max(i for i, (word, _) in enumerate(LINES) if word == "FROM")])


def one(word: str) -> str:
    "What stands behind an instruction that the last stage has once."
    found, = (rest for name, rest in LAST if name == word)
    return found


def sent(path: str) -> bool:
    "Whether a file is in what is sent to the builder: the last line of .dockerignore that fits decides."
    kept = True
    for rule in (nbs.ROOT / ".dockerignore").read_text().split():
        bare = rule.removeprefix("!").removeprefix("**/")
        parts = [path, *(str(p) for p in Path(path).parents)]
        if any(fnmatch.fnmatch(part, bare) or fnmatch.fnmatch(Path(part).name, bare) for part in parts if part != "."):
            kept = rule.startswith("!")
    return kept


def test_it_builds_from_the_package_registry_alone():
    runs = [rest for word, rest in LINES if word == "RUN"]
    assert not [r for r in runs if re.search(r"\b(apt|apt-get|apk|curl|wget|git)\b|https?:", r)]
    assert not [word for word, _ in LINES if word == "ADD"]
    assert [r for r in runs if "pip install" in r] == [r for r in runs if "--no-cache-dir" in r] != []
    assert {rest.split()[0] for word, rest in LINES if word == "FROM"} == {"${PYTHON}"}
    assert re.fullmatch(r"PYTHON=python:3\.\d+-slim", next(rest for word, rest in LINES if word == "ARG"))


def test_what_is_copied_is_there_and_is_sent():
    for rest in (rest for word, rest in LINES if word == "COPY" and "--from" not in rest):
        for name in rest.split()[:-1]: assert (nbs.ROOT / name).exists() and sent(name), name
    assert not any(map(sent, ("nbs/index.ipynb", "tests/nbs.py", ".git/config", "settings.toml", ".venv/bin/python")))
    assert sent("scrapeopt/core/data/land.npz") and not sent("scrapeopt/__pycache__/x.pyc")
    assert os.access(nbs.ROOT / "deploy/every", os.X_OK)


def test_who_runs_in_it_is_not_root_and_starts_without_a_shell():
    words = [word for word, _ in LAST]
    assert one("USER") == "scrapeopt" and "RUN" not in words[words.index("USER"):]
    assert one("WORKDIR") == one("VOLUME") == "/workspace" and "SCRAPEOPT_WORKSPACE=/workspace" in one("ENV")
    assert (json.loads(one("ENTRYPOINT")), json.loads(one("CMD"))) == (["scrapeopt"], ["status"])


@pytest.mark.slow
def test_it_is_healthy_while_nobody_is_needed(tmp_path):
    "Docker takes 0 for healthy and 1 for not; 2, with which `status` ends, is reserved."
    ws = scraped_once(tmp_path / "ws")
    check = one("HEALTHCHECK").partition("CMD ")[2].replace("scrapeopt", shlex.quote(str(COMMAND)), 1)
    def health(): return subprocess.run(["sh", "-c", check], env=os.environ | {"SCRAPEOPT_WORKSPACE": str(ws.path)})
    now = subprocess.run([COMMAND, "status", "-w", ws.path], capture_output=True)
    assert health().returncode == (1 if now.returncode else 0)
    (ws.path / "inbox/lost.csv").touch()
    assert health().returncode == 1
    (ws.path / "scrapeopt.toml").unlink()
    done = health()
    assert done.returncode == 1 and done.stdout is None


STUBBORN = """
import pathlib, signal, sys, time
def end(*_): pathlib.Path({at!r}, "told").touch(); sys.exit(1)
signal.signal(signal.SIGTERM, end)
pathlib.Path({at!r}, "began").touch()
time.sleep(60)
"""


@pytest.fixture
def scraping(tmp_path):
    "The words of a scrape that lasts, and the folder in which its scraper says that it began, and was told to end."
    ws = new_workspace(tmp_path / "ws")
    ws.engine.dispose()
    (tmp_path / "slow.py").write_text(STUBBORN.format(at=str(tmp_path)))
    command = f"{sys.executable} {tmp_path / 'slow.py'} {{output}}"
    return [str(COMMAND), "-w", str(ws.path), "scrape", "-n", "1", "--command", command], tmp_path


def unshared(words) -> list[str]:
    "A command as process 1 of its own, as in a container."
    return ["unshare", "--pid", "--fork", "--mount-proc", *words]


def may_unshare() -> bool:
    "Whether there may be processes of one's own here."
    return bool(shutil.which("unshare")) and subprocess.run(unshared(["true"]), capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not may_unshare(), reason="only root may make a process the first of its own")
@pytest.mark.parametrize("before", [[], [str(nbs.ROOT / "deploy/every"), "60"]], ids=["alone", "every"])
def test_process_one_ends_its_scrapers(before, scraping):
    "docker stop: SIGTERM to process 1, which has no handlers but its own."
    words, folder = scraping
    outside = subprocess.Popen(unshared([*before, *words]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert wait_for(lambda: (folder / "began").exists())
    first, = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()
    os.kill(int(first), signal.SIGTERM)
    _, said = outside.communicate(timeout=30)
    assert outside.returncode == 143 and "Traceback" not in said, said
    assert (folder / "told").exists()
    assert not [p for p in (folder / "ws/inbox").rglob("*") if p.is_file()]


def test_every_goes_on_whatever_a_run_ended_with(tmp_path):
    run = f"echo x >> {shlex.quote(str(tmp_path / 'runs'))}; exit 2"
    loop = subprocess.Popen([nbs.ROOT / "deploy/every", "0.01", "sh", "-c", run])
    assert wait_for(lambda: (tmp_path / "runs").exists() and (tmp_path / "runs").read_text().count("x") >= 3)
    loop.send_signal(signal.SIGTERM)
    assert loop.wait(10) == 143


BUILDAH = [name for name in ("buildah", "crun", "debootstrap") if not shutil.which(name)]


@pytest.mark.drill
@pytest.mark.timeout(3600)
@pytest.mark.skipif(bool(BUILDAH) or os.geteuid(), reason=f"root and apt-get install {' '.join(BUILDAH)} are needed")
def test_the_image_is_built_and_runs(tmp_path):
    "On a base of Debian's own packages, since no registry of images is asked; every instruction is carried out."
    base = tmp_path / "base"
    given = {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot", "HOME": str(tmp_path),
             "XDG_DATA_HOME": str(tmp_path / "images")}
    kept = ["--root", str(tmp_path / "images"), "--runroot", str(tmp_path / "run")]
    def buildah(*words, codes=(0,)): return packaged.ran(["buildah", *kept, *words], nbs.ROOT, codes, **given)
    brings = "--include=python3,python3-venv,ca-certificates"
    packaged.ran(["debootstrap", "--variant=minbase", brings, "bookworm", base], tmp_path)
    empty = buildah("from", "scratch").strip()
    buildah("add", "-q", empty, str(base), "/")
    buildah("config", "--env", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", empty)  # Python's images have one
    buildah("commit", "-q", empty, "localhost/python-slim")
    buildah("build", "--format", "docker", "--build-arg", "PYTHON=localhost/python-slim", "--build-arg", "EXTRAS=maps",
            "--volume", "/etc/ssl/certs:/etc/ssl/certs:ro", "-t", "localhost/scrapeopt", ".")
    made = json.loads(buildah("inspect", "--type", "image", "localhost/scrapeopt"))["Docker"]["config"]
    assert made["User"] == "scrapeopt" and made["Volumes"] == {"/workspace": {}}
    assert made["Healthcheck"]["Test"][0] == "CMD-SHELL" and made["Entrypoint"] == ["scrapeopt"]
    box = buildah("from", "localhost/scrapeopt").strip()
    def inside(*words, codes=(0,)): return buildah("run", box, "--", *words, codes=codes)
    assert inside("id", "-un").strip() == "scrapeopt"
    assert "made" in inside("scrapeopt", "init", ".")
    inside("python3", "-c", "from scrapeopt.commands.demo import make_twins\n"
                            "make_twins('twin', n_products=60, n_stores={'Coles': 8})")
    inside("scrapeopt", "import-stores", "twin/stores.csv")
    inside("scrapeopt", "cluster-stores")
    scraper = "python3 -m scrapeopt.twin twin {company} {store_id} {output}"
    assert "scraped 8 of 8 stores" in inside("scrapeopt", "scrape", "-n", "8", "--update", "--command", scraper)
    inside("scrapeopt", "status", codes=(0, 2))
