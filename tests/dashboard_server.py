"""A dashboard that really runs, and a real browser to look at it: for tests, benchmarks and screenshots.

Where there is no Chromium, tests that ask for one skip themselves; in CI it is installed, or they fail.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--force-color-profile=srgb"),
)
_START_SECONDS = 60.0


def executable() -> str | None:
    """Return the Chromium to use: the one that BENCH_CHROMIUM names, else one on PATH."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("BENCH_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def required() -> str:
    """Return the Chromium to use, installed first in CI; skip or fail the test if there is none."""
    if executable() is None and os.environ.get("CI"):
        subprocess.run([str(ROOT / "tests" / "install_chromium.sh")], check=True)
    if (path := executable()) is None:
        pytest.skip("no Chromium: tests/install_chromium.sh installs one, or name it in BENCH_CHROMIUM")
    return path


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a browser of Playwright; skip or fail the test if there is none."""
    path = required()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def served(*results: str | Path, arguments: Sequence[str] = ()) -> Iterator[str]:
    """The address of a dashboard over these results folders, up until the block ends."""
    port = free_port()
    chosen = [word for folder in results for word in ("--results", str(folder))]
    command = [
        sys.executable, "-m", "streamlit", "run", str(ROOT / "dashboard" / "app.py"),
        "--server.port", str(port), *arguments, "--", *chosen,
    ]  # fmt: skip
    # a pipe that nobody reads would fill, and the server would wait for it
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT) as process,
    ):
        try:
            _wait(f"http://localhost:{port}/_stcore/health", process, said)
            yield f"http://localhost:{port}"
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def settled(page: Any) -> None:
    """Wait until the page has run and everything is drawn."""
    # before its first run the script does not run either: there is neither a title nor a message
    shown = ":has(h1, [data-testid=stAlert])"
    page.wait_for_selector(f"[data-testid=stApp][data-test-script-state=notRunning]{shown}", timeout=60_000)
    page.wait_for_function(
        # a chart whose code is still being loaded is a skeleton
        """() => !document.querySelector('[data-testid=stSkeleton]')
            && ![...document.querySelectorAll('[data-testid=stPlotlyChart]')]
            .some(chart => !chart.querySelector('.main-svg'))""",
        timeout=30_000,
    )
    page.wait_for_timeout(500)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


def _wait(address: str, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    process.kill()
    process.wait()
    said.seek(0)
    text = said.read().decode(errors="replace")
    raise AssertionError(f"the dashboard did not start: {text[-1000:]}")
