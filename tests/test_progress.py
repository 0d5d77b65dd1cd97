"""The display of many runs: counts, time left, a table or plain lines, and the final summary."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections import Counter
from dataclasses import asdict, replace

import pandas as pd
import pytest
from rich.console import Console

from bench import status
from bench.cli import live
from bench.cli.live import named, render, shown
from bench.cli.summary import _SHOWN, Ranking, print_best, print_next, print_share, print_summary
from bench.monitoring import progress
from bench.monitoring.progress import Item, Progress, Running, Snapshot, duration
from bench.results import claims
from bench.results.claims import Process
from bench.results.files import StoreError
from bench.results.store import Store
from bench.results.tables.columns import definitions
from tests.run_folders import cell, config, identifier, plan, run_files, write_run


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, create=True)


def item(number, weight=1.0):
    return Item(identifier("item", number), f"ssvi sparsity=0.{number}", number, weight)


def write(store, which, status, alive=True, **fields):
    """Write a run with this ``status``; if it runs and is ``alive``, this process claims it."""
    run = store.run(which.run_id)
    run.write("status", {"status": status, "error": None, **fields})
    owner = Process.current() if alive else replace(Process.current(), started=1.0)
    if status == "running":
        (run.path / claims.NAME).write_text(json.dumps({**asdict(owner), "token": "t"}))


def half_way(**fields):
    """Return the status of a run in the middle of the second of two stages: three quarters are done."""
    epochs = {"epoch": 5, "epochs": 10, "step": 50, "steps": 100}
    where = {"stage": "final", "stage_index": 1, "stages": 2, **epochs}
    return {**where, "val_accuracy": 0.5, **fields}


def clock(monkeypatch, *times):
    """Let the clock of ``progress`` show ``times``, one at each reading."""
    readings = iter(times)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(readings))


def text(renderable, width=240):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


# -- counting -------------------------------------------------------------------------------


def test_every_run_is_counted_where_it_stands(store):
    items = [item(i) for i in range(7)]
    for which, said in zip(
        items, ("done", "done", "queued", "running", "preempted", "cancelled"), strict=False
    ):
        write(store, which, said)
    snapshot = Progress(store, items).look()
    assert snapshot.counts == {
        "done": 2, "queued": 1, "running": 1, "preempted": 1, "cancelled": 1, "pending": 1,
    }  # fmt: skip
    assert (snapshot.settled, snapshot.total) == (3, 7)
    assert snapshot.counted() == "1 cancelled, 2 done, 1 preempted, 1 running, 1 queued, 1 pending"


def test_a_failure_comes_with_its_reason(store):
    write(store, item(1), "failed", error="loss is nan at step 7")
    assert Progress(store, [item(1)]).look().failed == [(item(1), "loss is nan at step 7")]


def test_a_running_run_tells_how_far_it_is(store):
    write(store, item(1), "running", **half_way())
    assert Progress(store, [item(1)]).look().running == [Running(item(1), "final", 5, 10, 0.75, 0.5)]


def test_a_run_whose_process_is_gone_is_preempted(store):
    write(store, item(1), "running", alive=False)
    assert Progress(store, [item(1)]).look().counts == {"preempted": 1}


def test_a_run_that_ends_moves_on(store):
    followed = Progress(store, [item(1), item(2)])
    assert followed.look().counts == {"pending": 2}
    write(store, item(1), "running", **half_way())
    assert followed.look().counts == {"pending": 1, "running": 1}
    write(store, item(1), "done")
    snapshot = followed.look()
    assert snapshot.counts == {"pending": 1, "done": 1} and snapshot.running == []
    assert followed.status(item(1).run_id) == "done"


def test_a_run_that_two_cells_ask_for_is_counted_once(store):
    assert Progress(store, [item(1), item(1)]).look().total == 1


def test_among_thousands_every_run_is_looked_at_in_time_and_running_ones_each_time(store):
    items = [Item(identifier("many", i), "cell") for i in range(3 * progress._GLANCE)]
    followed = Progress(store, items)
    write(store, items[0], "running", **half_way(epoch=1))
    write(store, items[-1], "done")
    seen = [followed.look() for _ in range(3)]
    assert [snapshot.counts["done"] for snapshot in seen] == [0, 0, 1]
    write(store, items[0], "running", **half_way(epoch=2))
    assert followed.look().running[0].epoch == 2
    assert Progress(store, items).statuses()[items[-1].run_id] == "done"


# -- time left ------------------------------------------------------------------------------


def test_time_left_is_that_of_the_work_left_at_the_speed_so_far(store, monkeypatch):
    items = [item(1, weight=10), item(2, weight=30), item(3, weight=10)]
    write(store, items[2], "done")  # before the first look: its speed is not known
    clock(monkeypatch, 100.0, 110.0, 120.0)
    followed = Progress(store, items)
    assert followed.look().seconds_left is None
    write(store, items[0], "done")
    assert followed.look().seconds_left == pytest.approx(30.0)  # 10 in 10 s, 30 left
    write(store, items[1], "running", **half_way())
    assert followed.look().seconds_left == pytest.approx(7.5 * 20 / 32.5)  # 32.5 in 20 s, 7.5 left


def test_no_time_is_told_while_nothing_moves(store, monkeypatch):
    clock(monkeypatch, 100.0, 110.0)
    followed = Progress(store, [item(1)])
    assert [followed.look().seconds_left for _ in range(2)] == [None, None]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (1e6, "277.8 h")],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


# -- odd states -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[1]", b"{}", b'{"status": "no such status"}', b'{"status": 7}', b'{"status": null}'],
)
def test_a_status_that_says_nothing_is_a_corrupted_run(store, content):
    folder = store.run(item(1).run_id).path
    folder.mkdir()
    (folder / "status.json").write_bytes(content)
    (found,) = Progress(store, [item(1)]).look().failed
    assert found[1].startswith("corrupted: ")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        half_way(epoch="5", epochs=None, stages=[], stage=None),
        half_way(stages=0, epochs=0),
        half_way(epoch=-5, stage_index=-3),
        half_way(epoch=500, stage_index=9, val_accuracy="high"),
        half_way(stage=["a"], val_accuracy=True),
    ],
)
def test_a_running_run_that_talks_nonsense_is_shown(store, fields):
    write(store, item(1), "running", **fields)
    snapshot = Progress(store, [item(1)]).look()
    assert 0 <= snapshot.running[0].share <= 1
    assert "0/1 runs: 1 running" in text(render(snapshot))


def test_a_failure_without_a_reason_is_shown(store):
    write(store, item(1), "failed")
    assert named(item(1)) in text(render(Progress(store, [item(1)]).look()))


def test_a_file_in_place_of_a_run_is_a_corrupted_run(store):
    store.run(item(1).run_id).path.write_text("in the way")
    assert Progress(store, [item(1)]).look().counts == {"failed": 1}


def test_no_runs_at_all():
    assert "0/0 runs: no runs" in text(render(Snapshot()))


# -- the picture ----------------------------------------------------------------------------


def busy(store):
    """A snapshot with everything: running runs, one that starts, failures, and runs left."""
    items = [item(i) for i in range(1, 6)]
    write(store, items[0], "done")
    write(store, items[1], "running", **half_way())
    write(store, items[2], "running")
    write(store, items[3], "failed", error="RuntimeError: " + "long " * 50)
    return Progress(store, items).look()


def test_the_picture_tells_of_running_and_failed_runs(store):
    lines = text(render(busy(store))).splitlines()
    assert lines[0].split() == ["running", "seed", "run", "stage", "epoch", "validation", "accuracy"]
    ids = [item(number).run_id for number in (2, 3)]
    assert lines[1].split() == ["ssvi", "sparsity=0.2", "2", ids[0], "final", "5/10", "0.500"]
    assert lines[2].split() == ["ssvi", "sparsity=0.3", "3", ids[1], "starting"]
    assert lines[3].startswith(f"failed: {named(item(4))}: RuntimeError: long")
    assert lines[4].endswith("2/5 runs: 1 failed, 1 done, 2 running, 1 pending")


@pytest.mark.parametrize("width", [1, 2, 10, 20, 40, 79, 80, 81, 200])
def test_the_picture_fits_any_width(store, width):
    assert max(map(len, text(render(busy(store)), width).splitlines())) <= width


def test_a_label_with_brackets_is_no_markup(store):
    odd = Item(identifier("odd"), "ssvi network.hidden=[256] [/bold]")
    write(store, odd, "running", **half_way())
    assert odd.label in text(render(Progress(store, [odd]).look()))
    write_run(store.root, run_files(config()))
    store.merge_plan(plan([cell(config(), label=odd.label)]))
    assert odd.label in summary(store)


def test_of_many_running_and_failed_runs_some_are_shown(store):
    items = [item(i) for i in range(60)]
    for which in items[:30]:
        write(store, which, "running", **half_way())
    for which in items[30:]:
        write(store, which, "failed", error="why")
    lines = text(render(Progress(store, items).look())).splitlines()
    assert len(lines) < 30
    assert any("and 14 more" in line for line in lines)


def test_time_left_is_shown_until_all_is_settled():
    assert "; about 45 s left" in text(render(Snapshot(Counter(done=1, pending=1), seconds_left=45)))
    assert "left" not in text(render(Snapshot(Counter(done=2), seconds_left=0)))


# -- lines, where output is no terminal -----------------------------------------------------


def lines_while(store, items, act, monkeypatch, every=0.0):
    monkeypatch.setattr(live, "_REDRAW_SECONDS", 0.01)
    monkeypatch.setattr(live, "_LINE_SECONDS", every)
    console = Console(file=io.StringIO(), width=40)
    with shown(Progress(store, items), console):
        act(console.file)
    return console.file.getvalue().splitlines()


def wait_for(file, words):
    deadline = time.monotonic() + 20
    while words not in file.getvalue():
        assert time.monotonic() < deadline, f"{words!r} was not printed"
        time.sleep(0.005)


def test_a_line_whenever_something_changed(store, monkeypatch):
    def act(file):
        wait_for(file, "0/1 runs: 1 pending\n")
        time.sleep(0.1)  # in which nothing changes
        write(store, item(1), "done")
        wait_for(file, "1/1 runs: 1 done\n")

    lines = lines_while(store, [item(1)], act, monkeypatch)
    assert lines == ["0/1 runs: 1 pending", "1/1 runs: 1 done"]


def test_a_failure_is_a_line_once_whole_and_without_colours(store, monkeypatch):
    reason = "RuntimeError: [red]much too long for the width of the terminal[/red], which has 40"

    def act(file):
        write(store, item(1), "failed", error=reason)
        wait_for(file, "failed")
        time.sleep(0.1)

    lines = lines_while(store, [item(1), item(2)], act, monkeypatch)
    assert lines.count(f"failed: {named(item(1))}: {reason}") == 1
    assert sum("failed: " in line for line in lines) == 1


def test_the_last_line_tells_how_it_ended_though_nobody_waited(store, monkeypatch):
    lines = lines_while(store, [item(1)], lambda file: write(store, item(1), "done"), monkeypatch, every=1e6)
    assert lines == ["1/1 runs: 1 done"]


def test_output_stays_readable_when_the_block_raises(store):
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with pytest.raises(KeyboardInterrupt), shown(Progress(store, [item(1)]), console):
        raise KeyboardInterrupt
    out = console.file.getvalue()
    assert "0/1 runs: 1 pending" in out
    assert out.rindex("\x1b[?25h") > out.rindex("\x1b[?25l"), "the cursor stays hidden"


def test_a_terminal_is_redrawn(store, monkeypatch):
    monkeypatch.setattr(live, "_REDRAW_SECONDS", 0.01)
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with shown(Progress(store, [item(1)]), console):
        wait_for(console.file, "0/1 runs: 1 pending")
        write(store, item(1), "done")
    assert "1/1 runs: 1 done" in console.file.getvalue()


# -- the summary at the end -----------------------------------------------------------------


def launched(store, *configurations, **kwargs):
    """Plan ``configurations``, and write each as a run."""
    for configuration in configurations:
        write_run(store.root, run_files(configuration, **kwargs))
    store.merge_plan(plan([cell(configuration) for configuration in configurations]))


def summary(store, omitted=(), width=240):
    console = Console(file=io.StringIO(), width=width)
    print_summary(console, store.tables("criteria_ablation")["runs"], omitted)
    return console.file.getvalue()


def test_seeds_are_one_line_with_an_interval(store):
    launched(store, config(seed=0), accuracy=0.90)
    launched(store, config(seed=1), accuracy=0.92)
    row = summary(store).splitlines()[1]
    # mean 91, t(1) = 12.706 times 1.4142 / sqrt(2)
    assert row.split()[:7] == ["ssvi", "sparsity=0.9", "criterion=snr", "2", "91.00", "±", "12.71"]


def test_a_ranking_has_the_best_first_and_its_distance_to_the_reference(store):
    configurations = {}
    for name, sparsity, accuracies in (
        ("low", 0.8, (0.80, 0.82)),
        ("best", 0.9, (0.95, 0.99)),
        ("mid", 0.95, (0.9, 0.9)),
    ):
        for seed, accuracy in enumerate(accuracies):
            configuration = config(seed=seed, sparsity=sparsity)
            launched(store, configuration, accuracy=accuracy)
            configurations[name] = run_files(configuration)["spec"]["config_id"]
    references = dict.fromkeys(configurations.values(), configurations["mid"])
    ranking = Ranking("accuracy", references, "the middle one")
    console = Console(file=io.StringIO(), width=240)
    print_summary(console, store.tables("criteria_ablation")["runs"], (), ranking)
    head, *rows, _, scope, last = console.file.getvalue().splitlines()
    assert head.rstrip().endswith("accuracy % to reference")
    assert [row.split()[1] for row in rows] == ["sparsity=0.9", "sparsity=0.95", "sparsity=0.8"]
    # differences 5 and 9: mean 7, half width 12.706 times 2.828 / sqrt(2)
    assert rows[0].rstrip().endswith("+7.00 ± 25.41")
    assert rows[1].rstrip().endswith(" reference")
    assert rows[2].rstrip().endswith("-9.00 ± 12.71")
    assert scope.startswith("Intervals and tests over seeds cover the randomness of training on one test set")
    assert last == "best accuracy % first; differences to the middle one are paired by seed"


def test_one_seed_has_no_interval(store):
    launched(store, config(), accuracy=0.9)
    row = summary(store).splitlines()[1]
    assert row.split()[3:5] == ["1", "90.00"] and "±" not in row


def test_failures_are_told_and_how_to_repeat_them(store):
    launched(store, config(seed=0))
    launched(store, config(seed=1), status="failed")
    out = summary(store)
    run_id = identifier(config(seed=1))
    assert f"failed: ssvi sparsity=0.9 criterion=snr, seed 1 ({run_id}): nan: loss is nan at step 7" in out
    assert "--retry-failed" in out


def test_what_was_cancelled_goes_on_with_the_same_command(store):
    launched(store, config(seed=0))
    launched(store, config(seed=1), status="cancelled")
    assert "cancelled: 1 run; the same command computes the rest" in summary(store)


def test_nothing_but_failures(store):
    launched(store, config(), status="failed")
    out = summary(store)
    assert "failed: " in out and "accuracy %" not in out


def test_runs_without_costs_have_dashes(store):
    files = run_files(config())
    del files["costs"]
    write_run(store.root, files)
    store.merge_plan(plan([cell(config())]))
    assert summary(store).splitlines()[1].split()[-3:] == ["–", "–", "–"]


def test_what_was_not_run_is_counted_by_reason(store):
    launched(store, config())
    omitted = [_Omitted("the same; see that"), _Omitted("the same; see that"), _Omitted("other")]
    out = summary(store, omitted)
    assert "not run, 2 cells: the same; see that\n" in out and "not run, 1 cell: other\n" in out


class _Omitted:
    def __init__(self, omitted):
        self.omitted = omitted


@pytest.mark.parametrize("width", [1, 20, 60])
def test_the_summary_in_a_narrow_terminal(store, width):
    launched(store, config())
    assert summary(store, width=width)


def test_the_share_of_time_in_training_and_evaluation():
    console = Console(file=io.StringIO(), width=240)
    computed = pd.DataFrame({"train_seconds": [5.0, None], "evaluation_seconds": [1.0, None]})
    print_share(console, computed, seconds=10.0, workers=2)
    expected = "2 runs in 10 s by 2 processes, 30% of their time training and evaluation\n"
    assert console.file.getvalue() == expected


def test_the_columns_of_the_summary_are_columns_of_the_table():
    assert {column for column, *_ in _SHOWN} <= set(definitions()["runs"])


# -- bench.status ---------------------------------------------------------------------------


def test_the_status_of_a_suite(store, capsys):
    launched(store, config(seed=0))
    store.merge_plan(plan([cell(config(seed=0)), cell(config(seed=1))]))
    assert status.main(["--results", str(store.root), "--suite", "criteria_ablation"]) == 0
    assert "1/2 runs: 1 done, 1 pending" in capsys.readouterr().out


def test_a_failed_run_is_status_1_and_its_reason_whole(store, capsys):
    launched(store, config(seed=0), status="failed")
    assert status.main(["--results", str(store.root)]) == 1
    assert "loss is nan at step 7 of stage 'train'" in capsys.readouterr().out


def test_all_suites_and_scales_or_one(store, capsys):
    launched(store, config(seed=0))
    store.merge_plan(plan([cell(config(seed=1))], suite="another", scale="small"))
    for options, total in (
        ([], 2),
        (["--suite", "another"], 1),
        (["--scale", "demo"], 1),
        (["--suite", "another", "--scale", "small"], 1),
    ):
        status.main(["--results", str(store.root), *options])
        assert f"/{total} runs: " in capsys.readouterr().out


def test_every_run_is_listed_with_its_id(store, capsys):
    launched(store, config(seed=0))
    launched(store, config(seed=1), status="failed")
    assert status.main(["--results", str(store.root), "--runs"]) == 1
    lines = capsys.readouterr().out.splitlines()
    ids = [identifier(config(seed=seed)) for seed in (0, 1)]
    assert lines[0].split() == [ids[0], "done", "ssvi", "sparsity=0.9", "criterion=snr", "seed=0"]
    assert lines[1].split()[:2] == [ids[1], "failed"]
    assert sum("failed: " in line for line in lines) == 1, "a failure is told once"


def test_watching_ends_when_all_is_settled(store, capsys, monkeypatch):
    monkeypatch.setattr(status, "_WATCH_SECONDS", 0.01)
    launched(store, config(seed=0))
    store.merge_plan(plan([cell(config(seed=1))]))
    second = store.run(identifier(config(seed=1)))
    timer = threading.Timer(0.2, second.write, ("status", {"status": "done"}))
    timer.start()
    assert status.main(["--results", str(store.root), "--watch"]) == 0
    assert second.is_done()
    assert capsys.readouterr().out.splitlines()[-1] == "2/2 runs: 2 done"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--suite", "another"], "no suite another was launched; there are: criteria_ablation"),
        (
            ["--suite", "criteria_ablation", "--scale", "paper"],
            "no criteria_ablation at scale paper was launched; there are: demo",
        ),
        (["--suite", "../up"], '"../up" is not a name for a suite'),
    ],
)
def test_a_suite_that_was_not_launched_is_one_line(store, options, message):
    launched(store, config())
    with pytest.raises(StoreError) as caught:
        status.main(["--results", str(store.root), *options])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_results_folder_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        status.main(["--results", str(tmp_path / "none")])
    assert os.listdir(tmp_path) == []


def best(*configurations, score="accuracy"):
    """What is said of the best of some configurations: a name, and the score of each seed."""
    rows = [
        {
            "run_id": f"{number:06x}{seed:06x}", "config_id": name, "config_label": name, "scale": "demo",
            "status": "done", "dataset": "digits", "network": "mlp", "seed": seed, score: value,
        }
        for number, (name, values) in enumerate(configurations)
        for seed, value in enumerate(values)
    ]  # fmt: skip
    console = Console(file=io.StringIO(), width=240)
    print_best(console, pd.DataFrame(rows), score)
    return console.file.getvalue()


def test_the_best_is_named_and_whether_its_lead_is_real():
    close = best(("a", [0.90, 0.91, 0.92]), ("b", [0.91, 0.90, 0.93]), ("c", [0.1, 0.11, 0.12]))
    assert close.startswith("best accuracy % on digits, mlp: b, 91.33 ± ")
    assert "its lead may be chance: of 2 others, 0 equivalent to it within the margin, 1 undecided" in close
    assert "1 worse; the next is a (" in close
    far = best(("a", [0.5, 0.52, 0.51]), ("b", [0.9, 0.91, 0.92]))
    assert far.startswith("best accuracy % on digits, mlp: b, 91.00 ± ")
    assert "its lead is more than chance: all others are worse" in far
    lower = best(("a", [0.3, 0.31]), ("b", [0.9, 0.8]), score="nll")
    assert lower.startswith("best NLL on digits, mlp: a, 0.305 ± ")
    alone = best(("a", [0.5]), ("b", [0.9]))
    assert "b, 90.00; with one seed each, it can't be told whether its lead is more than chance" in alone
    assert best(("a", [0.5, 0.6])) == ""


@pytest.mark.parametrize(
    ("statuses", "command"),
    [
        (
            ["done", "failed"],
            "next: python -m bench.report --suite toy --scale demo --results 'my results'\n",
        ),
        (["failed", "pending"], "next: python -m bench.logs run0 --results 'my results'\n"),
        (["pending"], ""),
    ],
)
def test_the_next_command_can_be_pasted(statuses, command):
    console = Console(file=io.StringIO(), width=240)
    runs = pd.DataFrame({"run_id": [f"run{n}" for n in range(len(statuses))], "status": statuses})
    print_next(console, runs, "toy", "demo", "my results")
    assert console.file.getvalue() == command
