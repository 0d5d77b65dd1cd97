"""What every command shares: exit statuses and one-line errors; and ``bench.list``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from bench import list as listing
from bench import run
from bench.cli import arguments as cli
from bench.cli import entry
from bench.planning.suite import load
from bench.results.files import StoreError
from bench.results.store import Store
from methods.core.errors import UserError


def ended(main):
    with pytest.raises(SystemExit) as caught:
        entry.entry(main)
    return caught.value.code


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize("status", [0, 1, 7])
def test_the_result_is_the_exit_status(status):
    assert ended(lambda: status) == status


@pytest.mark.parametrize("error", [UserError, StoreError])
def test_bad_input_is_one_line_and_status_2(error, capsys):
    assert ended(raising(error("unknown x;\n  valid: y"))) == 2
    assert capsys.readouterr() == ("", "error: unknown x; valid: y\n")


def test_an_interrupt_is_status_130_without_a_word_and_what_was_printed_stays():
    main = "def main():\n    print('printed')\n    raise KeyboardInterrupt"
    code = f"from bench.cli.entry import entry\n{main}\nentry(main)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "printed\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_leaves_at_once_can_not_swallow_a_signal(number):
    code = f"""
import os
from bench.cli.entry import leaving_at_once
with leaving_at_once():
    try:
        os.kill(os.getpid(), {int(number)})
        print("went on")
    except BaseException:
        print("swallowed it")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_after_leaving_at_once_signals_are_handled_as_before():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with entry.leaving_at_once():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        entry.entry(lambda: 1 // 0)


def test_a_reader_that_goes_away_is_no_error():
    code = "from bench.cli.entry import entry\nentry(lambda: [print('x' * 100) for _ in range(10_000)] and 0)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == entry.BROKEN_PIPE


def printing(text, **more):
    """Run a command that prints ``text`` and ends with status 7, in a process with an encoding of ASCII."""
    code = f"from bench.cli.entry import entry\nentry(lambda: print({text!a}) or 7)"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    environment.pop("PYTHONUNBUFFERED", None)
    return subprocess.run([sys.executable, "-c", code], env=environment, text=True, timeout=60, **more)


def test_characters_that_the_output_lacks_are_replaced():
    done = printing("0.95 ± 0.01 in r\udce9sultats", capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "0.95 ? 0.01 in r?sultats\n", "")


def test_a_command_without_an_output_does_its_work():
    assert printing("±", preexec_fn=lambda: os.close(1)).returncode == 7


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
def test_an_output_that_is_full_is_one_line():
    with open("/dev/full", "w") as full:
        done = printing("text", stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (
        2,
        "error: cannot write the output: No space left on device\n",
    )


def test_a_read_only_command_needs_no_torch():
    code = (
        "import sys; from bench.cli.entry import entry; from bench.results.store import Store\n"
        "def main():\n"
        "    print('torch' in sys.modules)\n"
        "    Store('/nowhere')\n"
        "entry(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert done.stderr == "error: results folder /nowhere: does not exist\n"


@pytest.fixture
def parser():
    parser = cli.parser("bench.thing", "Does a thing.")
    for add in (cli.add_results, cli.add_set, cli.add_where, cli.add_seeds):
        add(parser)
    return parser


def test_common_arguments(parser):
    given = parser.parse_args(
        [
            "--set",
            "epochs=5,lr=0.1",
            "--set",
            "criterion=snr",
            "--where",
            "a=1",
            "--where",
            "b=2",
            "--seeds",
            "0-4",
        ]
    )
    assert cli.overrides(given) == {"epochs": 5, "lr": 0.1, "criterion": "snr"}
    assert (given.where, given.seeds, given.results) == (["a=1", "b=2"], "0-4", "results")
    bare = parser.parse_args([])
    assert (cli.overrides(bare), bare.where, bare.seeds) == ({}, [], None)
    assert parser.parse_args([]).where is not given.where


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sets", "a=1"], "unrecognized arguments: --sets a=1 (did you mean '--set'?)"),
        (["--set"], "argument --set: expected one argument"),
    ],
)
def test_wrong_arguments_are_one_line(parser, arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"error: {message}; see python -m bench.thing --help\n"


def test_help_is_shown(parser, capsys):
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--help"])
    out = capsys.readouterr().out
    assert caught.value.code == 0 and "Does a thing." in out and "--where" in out


# -- bench.list -----------------------------------------------------------------------------


def test_everything_there_is_gets_listed(capsys):
    assert listing.main([]) == 0
    out = capsys.readouterr().out
    for kind, name in (
        ("suites", "criteria_ablation"),
        ("methods", "ssvi"),
        ("datasets", "digits"),
        ("networks", "mlp"),
        ("criteria", "snr_exp"),
        ("recipes", "released"),
        ("settings", "training"),
    ):
        block = out[out.index(f"{kind}\n") :].partition("\n\n")[0]
        assert f"\n  {name} " in block


def test_options_are_shown_with_type_default_and_valid_values(capsys):
    assert listing.main(["methods", "recipes", "suites", "--options"]) == 0
    out = capsys.readouterr().out
    assert "      sparsity: number, default 0.9, valid: [0, 1)\n          share of the sparsifiable" in out
    assert "      method.prior_std: 0.005\n" in out
    assert "      demo: 6 grids, seeds 0-4" in out
    assert "\nnetworks\n" not in out


def test_data_sets_name_what_they_can_be_evaluated_on(capsys):
    assert listing.main(["datasets", "--options"]) == 0
    block = capsys.readouterr().out.partition("\n  digits_without_9 ")[2]
    assert "unknown sets, for evaluation.ood\n          digit_9, letters, photographs" in block
    assert "shifts, for evaluation.shifts\n          gaussian_noise, shot_noise" in block


def test_suites_are_listed_with_how_far_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    listing.main(["suites"])
    told = " ".join(capsys.readouterr().out.split())
    assert "done in results" not in told
    assert re.search(
        r"- demo: not launched, 155 runs, about [\d.]+ core-hours or [\d.]+ GPU-hours: "
        r"python -m bench.grid --suite hyperparameters",
        told,
    )
    store = Store(tmp_path / "results", create=True)
    plan = load("hyperparameters").expand("demo", where=["replace_every=40"]).to_dict("bench.grid")
    store.merge_plan(plan)
    listing.main(["suites"])
    told = " ".join(capsys.readouterr().out.split())
    assert "(demo, small, paper) - demo: 0 of 5 runs done in results" in told
    assert "--suite hyperparameters" not in told and "--suite kl_schedule" in told


def test_every_name_of_a_kind_and_its_first_docstring_line(capsys):
    listing.main(["methods"])
    lines = capsys.readouterr().out.splitlines()
    from methods.base import METHODS

    assert [line.split()[0] for line in lines[1:] if not line.startswith("   ")] == METHODS.names()


def test_lines_fit_the_terminal(monkeypatch, capsys):
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((70, 24)))
    monkeypatch.setenv("COLUMNS", "70")
    listing.main(["criteria", "networks", "datasets"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 70


def test_an_unknown_kind_is_one_line(capsys):
    assert ended(lambda: listing.main(["method"])) == 2
    message = "error: unknown kind 'method' (did you mean 'methods'?); valid: criteria, datasets, methods, "
    assert capsys.readouterr().err.startswith(message)


def test_the_dry_run_of_a_run_says_where_settings_are_from(capsys):
    assert run.main(["--dry-run", "--set", "method=static_vi,sparsity=0.5,network.hidden=[8]"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "--set: network.hidden=[8], method=static_vi, method.sparsity=0.5" in lines
    assert "default of a run: protocol=holdout, precision=float32, dataset=digits, network=mlp" in lines
