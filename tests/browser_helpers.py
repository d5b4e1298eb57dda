"""A real browser for tests: Chromium driven by playwright, JupyterLab, and axe-core."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tools.notebook_files import NOTEBOOKS, read_notebook, write_notebook

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
QUIET = re.compile(  # what JupyterLab itself says without a network or when a page is left
    r"favicon|extensions\.json|WebSocket|net::ERR|status of 404|status of 400|service ?worker|"
    r"jupyterlab/api/(news|translations)|Content Security Policy",
    re.IGNORECASE,
)


@contextmanager
def chromium() -> Iterator:
    """Yield a browser, or skip where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: the extra browser"
    )
    if CHROMIUM is None:
        pytest.skip("needs a browser: chromium or google-chrome")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def violations(page) -> list[str]:
    """Return what axe-core finds at WCAG 2.2 AA: a line for each rule that is broken."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page, options={"runOnly": RULES}).response["violations"]
    return [f"{v['id']} ({len(v['nodes'])}): {v['nodes'][0]['html'][:150]}" for v in found]


def errors_of(page) -> list[str]:
    """Return a list that gains every error of the page's console."""
    errors: list[str] = []
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: errors.append(str(e)))
    return errors


def copy_interactive(stem: str, folder: Path) -> Path:
    """Copy a notebook without its outputs, with ``interactive = True``."""
    notebook = read_notebook(NOTEBOOKS / f"{stem}.ipynb")
    changed = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source, n = re.subn(
                r"^interactive = False", "interactive = True", cell.source, flags=re.MULTILINE
            )
            changed += n
    assert changed == 1, f"{stem}: {changed} lines are 'interactive = False', expected one"
    path = folder / f"{stem}.ipynb"
    write_notebook(notebook, path)
    return path


@contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """Serve a folder by JupyterLab and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", f"--ServerApp.port={port}"]
    command += [f"--ServerApp.root_dir={folder}", "--IdentityProvider.token=", "--allow-root"]
    command += ["--ServerApp.port_retries=0", "--LabApp.expose_app_in_browser=True"]
    root = str(NOTEBOOKS.parent)
    environment = os.environ | {
        "PYTHONPATH": root,
        "JUPYTERLAB_SETTINGS_DIR": str(folder / ".settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".workspaces"),
        "JUPYTER_RUNTIME_DIR": str(folder / ".runtime"),
        "LDF_RUN_DIR": str(folder / "run"),
    }
    environment.pop("LDF_DATA_DIR", None)  # the rendered pairs
    settings = folder / ".settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)  # all cells are in the page, in view or not
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    log = open(folder / "jupyterlab.log", "w", encoding="utf-8")
    server = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "jupyterlab.log").read_text()[-3000:]
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:  # it waits for the kernel, which may be busy
            server.kill()
            server.wait()
        log.close()


_CELLS = """async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  return panel.content.widgets
    .filter(w => w.model.type === 'code' && w.model.sharedModel.source.trim())
    .map(w => ({
      count: w.model.executionCount,
      errors: w.model.outputs.toJSON().filter(o => o.output_type === 'error').map(o => o.evalue),
    }));
}"""
_HANDLES = ".widget-slider [role=slider], .widget-text input, .widget-combobox input, select"


def run_all(page, address: str, stem: str) -> list[dict]:
    """Open a notebook in JupyterLab, run all of its cells, and return their counts and errors."""
    page.goto(f"{address}/lab/tree/{stem}.ipynb?reset", timeout=120_000)
    page.locator(".jp-Notebook").wait_for(timeout=120_000)
    page.wait_for_function(
        "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
        " === 'idle'",
        timeout=120_000,
    )
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    return page.evaluate(_CELLS)


def pictures(cell) -> list[str]:
    """Return the pictures that a cell shows."""
    return cell.evaluate("e => [...e.querySelectorAll('.jp-OutputArea img')].map(i => i.src)")


def wait_for_another_picture(page, cell, before=None, timeout: float = 120.0) -> bool:
    """Wait until the pictures of a cell or widget are others than before; say whether they are."""
    before = pictures(cell) if before is None else before
    end = time.monotonic() + timeout
    while pictures(cell) == before and time.monotonic() < end:
        page.wait_for_timeout(250)
    return pictures(cell) != before


def move(handle) -> None:
    """Do with a slider, a menu or a text field what a reader does."""
    tag = handle.evaluate("e => e.tagName")
    handle.scroll_into_view_if_needed()
    if tag == "SELECT":
        options = handle.evaluate("e => [...e.options].map(o => o.value)")
        chosen = handle.input_value()
        handle.select_option(next(o for o in options if o != chosen))
    elif tag == "INPUT":
        handle.fill("a dark image")
        handle.press("Enter")
    else:
        handle.focus()
        step = (
            "ArrowLeft"
            if handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
            else "ArrowRight"
        )
        for _ in range(3):
            handle.press(step)


def move_all(page, timeout: float = 120.0) -> tuple[int, list[str]]:
    """Move every widget of a notebook; return how many there are, and which changed no picture."""
    handles, still = page.locator(f".jp-Notebook :is({_HANDLES})"), []
    for n in range(handles.count()):
        handle = handles.nth(n)
        cell = handle.locator("xpath=ancestor::*[contains(@class, 'jp-CodeCell')]").first
        before = pictures(cell)
        move(handle)
        if not wait_for_another_picture(page, cell, before, timeout):
            still.append(handle.evaluate("e => e.outerHTML.slice(0, 200)"))
    return handles.count(), still
