"""``ssvi-bench``: every command as a verb of one, and the dashboard."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from bench import __main__ as console
from bench import dashboard
from tests.dashboard_server import free_port

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = str(ROOT / "results" / "reference")


@pytest.fixture
def typed(monkeypatch, capsys):
    """What the console command does with a line: exit status, standard output, standard error."""

    def typed(*words, program="/somewhere/bin/ssvi-bench"):
        monkeypatch.setattr(sys, "argv", [program, *words])
        with pytest.raises(SystemExit) as caught:
            console.main()
        return caught.value.code, *capsys.readouterr()

    return typed


def test_every_command_is_a_verb():
    commands = {path.stem for path in (ROOT / "bench").glob("[!_]*.py") if "entry(main)" in path.read_text()}
    assert set(console.VERBS) == commands


def test_help_is_a_quick_start(typed):
    for words in ((), ("-h",), ("--help",)):
        status, out, err = typed(*words)
        assert (status, err) == (0, "")
        assert out.startswith("usage: ssvi-bench VERB [options]\n")
    start = [line.split() for line in out.partition("\nverbs:\n")[0].splitlines() if line.startswith("  ")]
    assert len(start) == 5
    assert all(words[0] == "ssvi-bench" and words[1] in console.VERBS for words in start)
    assert all(f"\n  {verb} " in out for verb in console.VERBS)
    assert typed(program="/there/bench/__main__.py")[1] == out.replace("ssvi-bench ", "python -m bench ")


@pytest.mark.parametrize("verb", console.VERBS)
def test_a_verb_is_its_module_and_shows_what_was_typed(verb, typed, monkeypatch, capsys):
    status, out, err = typed(verb, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: ssvi-bench {verb} ")
    monkeypatch.setattr(sys, "argv", [f"/there/bench/{verb}.py", "--help"])
    with pytest.raises(SystemExit):
        importlib.import_module(f"bench.{verb}").main()
    plain = capsys.readouterr().out.replace(f"usage: python -m bench.{verb} ", f"usage: ssvi-bench {verb} ")
    assert plain.split() == out.split()
    status, _, err = typed(verb, "--no-such-option", program="/there/bench/__main__.py")
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert err.endswith(f"; see python -m bench {verb} --help\n")


def test_an_unknown_verb_is_one_line(typed):
    status, out, err = typed("grd", "--help")
    assert (status, out) == (2, "")
    assert (
        err
        == f"error: unknown verb 'grd' (did you mean 'grid'?); valid: {', '.join(sorted(console.VERBS))}\n"
    )


@pytest.mark.parametrize("status", [0, 1, 143])
def test_the_status_is_that_of_the_verb(status, typed, monkeypatch):
    given = []
    monkeypatch.setattr("bench.status.main", lambda argv: given.append(argv) or status)
    assert typed("status", "--watch", "--scale=demo")[0] == status
    assert given == [["--watch", "--scale=demo"]]


def test_bad_input_is_what_it_is_of_the_module():
    arguments = ["--results", "no such folder"]
    done = [
        subprocess.run([sys.executable, "-m", *words, *arguments], cwd=ROOT, capture_output=True, text=True)
        for words in (["bench", "status"], ["bench.status"])
    ]
    assert [(each.returncode, each.stdout, each.stderr) for each in done] == 2 * [
        (2, "", "error: results folder no such folder: does not exist\n")
    ]


def test_a_verb_loads_its_own_module_alone():
    code = (
        "import sys; sys.argv = ['ssvi-bench', 'status', '--results', 'results/reference']\n"
        "from bench.__main__ import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'pandas', 'bench.grid', 'bench.run'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


# -- the dashboard ---------------------------------------------------------------------------


def test_the_dashboard_refuses_what_is_no_folder_before_it_starts(typed, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    status, out, err = typed("dashboard", "--results", REFERENCE, "no such folder")
    assert (status, out, err) == (2, "", "error: results folder no such folder: does not exist\n")


def test_without_streamlit_the_dashboard_says_what_to_install(typed, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "streamlit" else find(name))
    status, _, err = typed("dashboard", "--results", REFERENCE)
    assert status == 2
    assert err == "error: the dashboard needs Streamlit: pip install 'ssvi-bench[dashboard]'\n"


@pytest.mark.parametrize(("ended", "status"), [(0, 0), (1, 1), (-signal.SIGKILL, 137)])
def test_the_dashboard_gets_all_folders_and_its_status_is_handed_on(ended, status, monkeypatch):
    started = []

    class Process:
        def __init__(self, command, env):
            started.append(command)
            assert "STREAMLIT_SERVER_ADDRESS" not in env

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def wait(self):
            return ended

    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setenv("STREAMLIT_SERVER_ADDRESS", "0.0.0.0")
    before = signal.getsignal(signal.SIGTERM)
    try:
        found = dashboard.main(["--results", REFERENCE, str(ROOT), "--results", str(ROOT), "--port", "1234"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert found == status
    (command,) = started
    app = str(ROOT / "dashboard" / "app.py")
    assert command[1:] == [
        *("-m", "streamlit", "run", app, "--server.address", "localhost"),
        *("--browser.gatherUsageStats", "false", "--server.port", "1234", "--"),
        *("--results", REFERENCE, "--results", str(ROOT), "--results", str(ROOT)),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_dashboard_is_served_until_it_is_interrupted(number, tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "bench", "dashboard", "--results", REFERENCE, "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://localhost:{port}/_stcore/health") as answer:
                    assert answer.read() == b"ok"
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in out and "0.0.0.0" not in out  # reached from this machine alone
    assert below and not any(each.is_running() for each in below)
