"""The dashboard listens on this machine only and sends nothing, however it is started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest
from streamlit import config, runtime

from dashboard import exposure
from tests.dashboard_server import ROOT, chromium, free_port, settled

APP = str(ROOT / "dashboard" / "app.py")
REFERENCE = str(ROOT / "results" / "reference")
PUBLIC = {"STREAMLIT_SERVER_ADDRESS": "0.0.0.0", "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "true"}
CONFIG = '[server]\naddress = "0.0.0.0"\n[browser]\ngatherUsageStats = true\n'


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.0.0.2", True),
        ("::1", True),
        ("unix:///tmp/a.sock", True),
        (None, False),
        ("", False),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.7", False),
        ("no.such.host.invalid", False),
    ],
)
def test_what_is_local(address, local):
    assert exposure.is_local(address) is local


@pytest.mark.parametrize(
    ("address", "statistics", "where", "variable", "words"),
    [
        ("localhost", False, "a file", False, None),
        ("0.0.0.0", False, "command-line argument or environment variable", False, None),
        ("0.0.0.0", False, "command-line argument or environment variable", True, "is 0.0.0.0), so nothing"),
        ("0.0.0.0", False, "/a/config.toml", False, "server.address is 0.0.0.0), so nothing is shown"),
        (None, False, "<default>", False, "server.address is not set), so nothing is shown"),
        ("localhost", True, "a file", False, "sends usage statistics here"),
    ],
)
def test_what_was_not_asked_for_is_refused(address, statistics, where, variable, words, monkeypatch):
    options = {"server.address": address, "browser.gatherUsageStats": statistics}
    monkeypatch.setattr(exposure.st, "get_option", options.get)
    monkeypatch.setattr(config, "get_where_defined", lambda key: where)
    monkeypatch.setattr(runtime, "get_instance", lambda: object.__new__(runtime.Runtime))
    monkeypatch.delenv("STREAMLIT_SERVER_ADDRESS", raising=False)
    if variable:
        monkeypatch.setenv("STREAMLIT_SERVER_ADDRESS", "0.0.0.0")
    found = exposure.refusal()
    assert found is None if words is None else words in found


@contextmanager
def started(command, folder, environment):
    """Start a dashboard in ``folder``; yield the addresses that its processes listen on, and its port."""
    port = free_port()
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("STREAMLIT_")}
    process = subprocess.Popen(
        [*command(port)], cwd=folder, env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (found := listening(process.pid, port)):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        yield found, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def listening(pid, port):
    parent = psutil.Process(pid)
    return {
        connection.laddr.ip
        for each in (parent, *parent.children(recursive=True))
        for connection in each.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    }


def console(*more):
    return lambda port: [
        *(sys.executable, "-m", "bench", "dashboard", "--results", REFERENCE, "--port", str(port), *more)
    ]


def plain(port):
    run = (sys.executable, "-m", "streamlit", "run", APP, "--server.port", str(port))
    return [*run, "--", "--results", REFERENCE]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "environment"), [(console(), {}), (console(), PUBLIC), (plain, {})], ids=["a", "b", "c"]
)
def test_it_listens_on_this_machine_only(command, environment, tmp_path):
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "config.toml").write_text(CONFIG)
    with started(command, tmp_path, environment) as (addresses, _):
        assert addresses <= {"127.0.0.1", "::1"}


@pytest.mark.slow
def test_others_can_reach_it_if_asked_for(tmp_path):
    with started(console("--address", "0.0.0.0"), tmp_path, {}) as (addresses, _):
        assert addresses == {"0.0.0.0"}


@pytest.mark.browser
@pytest.mark.parametrize(
    ("command", "environment", "refused"),
    [(plain, PUBLIC, True), (console(), PUBLIC, False), (console("--address", "0.0.0.0"), {}, False)],
    ids=["environment", "console", "asked for"],
)
def test_a_bind_that_was_not_asked_for_shows_one_line_and_nothing_else(
    command, environment, refused, tmp_path
):
    with started(command, tmp_path, environment) as (_, port), chromium() as browser:
        page = browser.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://localhost:{port}")
        settled(page)
        text = page.inner_text("[data-testid=stApp]")
        assert ("so nothing is shown" in text) is refused
        assert ("Overview" in text) is not refused
        assert refused or all(f"localhost:{port}" in url for url in asked if url.startswith("http"))
