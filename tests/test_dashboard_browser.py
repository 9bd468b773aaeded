"""The dashboard in JupyterLab, driven by a real browser: every panel opens, a slider moves, a setting is saved."""
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import browser
import pytest
import small_chain

from scrapeopt.update import update_db

pytestmark = [pytest.mark.browser, pytest.mark.slow]
pytest.importorskip("jupyterlab", reason="jupyterlab is not installed: pip install jupyterlab")
START_S, STEP_MS = 60, 60_000  # a busy machine takes its time
OPEN_LAB = ["--ip=127.0.0.1", "--allow-root", "--IdentityProvider.token=", "--ServerApp.password=",
            "--ServerApp.disable_check_xsrf=True", "--ServerApp.terminals_enabled=False"]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def jupyterlab(folder, home):
    "The address of a JupyterLab that `scrapeopt dashboard` started on a workspace."
    port = free_port()
    env = os.environ | {f"JUPYTER{name}": str(home / name) for name in
                        ("_CONFIG_DIR", "_DATA_DIR", "_RUNTIME_DIR", "LAB_WORKSPACES_DIR", "LAB_SETTINGS_DIR")}
    command = [
        sys.executable,
        "-m",
        "scrapeopt.cli",
        "dashboard",
        "-w",
        str(folder),
        "--no-browser",
        "--port",
        str(port),
    ]
    with (home / "lab.log").open("w") as log:
        server = subprocess.Popen([*command, "--", *OPEN_LAB], env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=5).read()
                break
            except OSError:
                if time.monotonic() > end or server.poll() is not None:
                    pytest.fail((home / "lab.log").read_text()[-2000:])
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # JupyterLab, its kernel, and the command that waits for it
        server.wait(30)


@contextmanager
def opened(address, chromium):
    "The page with the notebook run, and the requests that left this machine."
    page = chromium.new_page(viewport={"width": 1440, "height": 1000})
    page.set_default_timeout(STEP_MS)
    outside = []
    page.on(
        "request",
        lambda r: outside.append(r.url) if r.url.startswith("http") and not r.url.startswith(address) else None,
    )
    page.goto(f"{address}/lab/tree/dashboard.ipynb?reset")
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    run_all(page)
    page.wait_for_selector(".scrapeopt-dashboard .lm-TabBar-tab")
    yield page
    page.close()
    assert not outside, outside


def run_all(page):
    "Run the notebook; while its kernel is not quite there, JupyterLab ignores that, or asks for a kernel."
    prompt, ask = page.locator(".jp-CodeCell .jp-InputPrompt").first, page.locator(".jp-Dialog .jp-mod-accept")
    for _ in range(20):
        if ask.count(): ask.click()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_timeout(2500)
        if not ask.count() and prompt.inner_text() != "[ ]:": return
    raise AssertionError("the notebook does not run")


def panel(page, title):
    "Open a tab; what is in it."
    page.locator(".scrapeopt-dashboard .lm-TabBar-tab", has_text=title).click()
    here = page.locator(".scrapeopt-dashboard .widget-tab-contents > *:visible").first
    here.locator(".widget-html-content:has(> *)").first.wait_for()
    return here


def pictures(here): return here.locator("figure img").evaluate_all("all => all.map(i => i.src)")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    ws = small_chain.new_workspace(tmp_path_factory.mktemp("dashboard") / "ws")
    small_chain.scrape_all(ws)
    update_db(ws)
    return ws


def test_every_panel_answers_and_a_setting_is_saved(workspace, tmp_path):
    with (
        browser.chromium() as chromium,
        jupyterlab(workspace.path, tmp_path) as address,
        opened(address, chromium) as page,
    ):
        for title, drawn in (("Clusters", 1), ("Overlap", 3), ("Groups", 2)):
            here = panel(page, title)
            page.wait_for_function("n => [...document.querySelectorAll('.scrapeopt-dashboard figure img')]"
                                   ".filter(i => i.offsetParent).length === n", arg=drawn)
            before, handle = pictures(here), here.locator(".noUi-handle").first
            assert len(before) == drawn and all(here.locator("figcaption").all_inner_texts())
            said = here.inner_text()
            handle.focus()
            for _ in range(3): page.keyboard.press("Home" if title == "Clusters" else "ArrowLeft")
            page.wait_for_function(
                "([text, title]) => [...document.querySelectorAll('.scrapeopt-dashboard .widget-tab-contents > *')]"
                ".filter(e => e.offsetParent).some(e => e.innerText !== text)",
                arg=[said, title],
            )
            if title != "Groups": wait_for_change(page, before)
        assert "press Measure" in panel(page, "Budget").inner_text()

        here = panel(page, "Overlap")
        assert "+match_threshold" in here.locator("pre").inner_text()
        before = (workspace.path / "scrapeopt.toml").read_text()
        here.get_by_role("button", name="Save to scrapeopt.toml").click()
        here.locator(".good").wait_for()
        after = (workspace.path / "scrapeopt.toml").read_text()
    changed = [line for line in after.splitlines() if line not in before.splitlines()]
    assert (
        len(changed) == 1 and changed[0].startswith("match_threshold = 0.") and "# share of equal prices" in changed[0]
    )


def wait_for_change(page, before):
    "Until a picture on the open tab is another."
    page.wait_for_function(
        "old => { const now = [...document.querySelectorAll('.scrapeopt-dashboard figure img')]"
        ".filter(i => i.offsetParent).map(i => i.src);"
        "return now.length === old.length && now.some((src, i) => src !== old[i]) }", arg=before)
