"""Tables of a method of somebody else: made by bench.publish, and held against the protocol of a suite."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from bench import check, publish
from bench.cli.entry import entry
from bench.experiment.execution import Execution
from bench.launching.pool import run_inline
from bench.planning.suite import load
from bench.reporting import collecting
from bench.results.store import Store
from tests import toys  # noqa: F401 (the toys are registered: they are methods from elsewhere)

#: The suite to which a method is submitted.
OURS = """
question: Which method is best?
reference: {method: dense_vi}
scales:
  demo:
    seeds: 0-1
    base: {dataset: toy_blobs, network: toy_network, epochs: 2, batch_size: 30, samples: 2}
    grids:
      - {recipe: default, method: [dense_vi, deterministic]}
"""
#: A method of somebody else under its protocol, with a learning rate of its own.
THEIRS = OURS.replace("[dense_vi, deterministic]", "toy_two_stage, lr: 0.05").replace(
    "dense_vi", "toy_two_stage"
)


def submitted(tmp_path, text=THEIRS, **asked):
    """Compute a suite of somebody else, and make the folder to send."""
    (path := tmp_path / "theirs.yaml").write_text(text)
    plan = load(str(path)).expand("demo", **asked)
    store = Store(tmp_path / "results", create=True)
    store.merge_plan(load(str(path)).expand("demo").to_dict("python -m bench.grid --suite theirs.yaml"))
    run_inline(store, plan.specs, Execution())
    collecting.collect(store, "theirs")
    target = tmp_path / "to-send"
    done = publish.main(["--suite", "theirs", "--results", str(store.root), "--to", str(target)])
    assert done == 0
    # whether this tree has changes is another matter
    replaced(target, "git_sha", "0123456789" * 4)
    return target


def replaced(folder, column, value, where=lambda table: pc.equal(table["status"], "done")):
    """Put ``value`` into a column of the table ``runs``."""
    path = folder / "theirs" / "runs.parquet"
    table = pq.read_table(path)
    kind = table.schema.field(column).type
    new = pc.if_else(where(table), pa.scalar(value, kind), table[column])
    pq.write_table(table.set_column(table.column_names.index(column), column, new), path)


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    return submitted(tmp_path_factory.mktemp("sent"))


@pytest.fixture
def copy(sent, tmp_path):
    return shutil.copytree(sent, tmp_path / "copy")


@pytest.fixture
def checked(tmp_path, capsys):
    """Check a submission to the suite; returns the status, and outcome and words of each check."""
    (tmp_path / "ours.yaml").write_text(OURS)

    def checked(folder, *more):
        capsys.readouterr()
        status = check.main(["--submission", str(folder), "--suite", str(tmp_path / "ours.yaml"), *more])
        lines = [line.split(None, 2) for line in capsys.readouterr().out.splitlines()[:-1]]
        return status, {name: (outcome, words) for outcome, name, words in lines if not outcome.endswith(":")}

    return checked


def test_a_method_under_the_protocol_of_a_suite_may_be_sent(sent, checked):
    status, found = checked(sent)
    assert status == 0
    assert {name: outcome for name, (outcome, _) in found.items()} == {
        "tables": "pass", "complete": "pass", "protocol": "pass", "seeds": "pass", "provenance": "pass",
        "tuning": "skipped",
    }  # fmt: skip
    assert found["tables"][1] == "2 finished runs of toy_two_stage"
    assert found["provenance"][1] == "commit 0123456"


def test_what_was_sent_is_added_to_the_tables_of_who_receives_it(sent, tmp_path):
    asked = ["--suite", "theirs", "--results", str(sent), "--to", str(tmp_path / "all")]
    assert publish.main(asked) == 0 and publish.main([*asked, "--merge"]) == 0
    assert len(Store(tmp_path / "all").read_tables("theirs")["runs"]) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("epochs: 2", "training.epochs is 3"),
        ("batch_size: 30", "training.batch_size is 15"),
        ("samples: 2", "evaluation.samples is 3"),
        ("dataset: toy_blobs", "protocol is refit"),
    ],
)
def test_what_makes_a_comparison_unfair_is_found(tmp_path, checked, change, words):
    key, _, value = change.partition(": ")
    other = words.rpartition(" ")[2]
    text = f"{change}, protocol: refit" if key == "dataset" else f"{key}: {other}"
    status, found = checked(submitted(tmp_path, THEIRS.replace(change, text)))
    assert status == 1 and found["protocol"][0] == "FAIL"
    told = found["protocol"][1]
    assert told.startswith(f"toy_two_stage: {words}, in ours {value if key != 'dataset' else 'holdout'}")


def test_seeds_and_runs_that_are_left_out_are_found(tmp_path, checked):
    status, found = checked(submitted(tmp_path, seeds="0"))
    assert status == 1
    assert found["complete"] == ("FAIL", "1 planned run not done, such as toy_two_stage, seed 1: pending")
    assert found["seeds"] == ("FAIL", "toy_two_stage: no run of seed 1")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("torch_version", None, "2 runs without torch_version, such as "),
        ("git_sha", "0123456789" * 4 + "+0a1b2c3d", "commit 0123456 with changes that are not in patches/"),
    ],
)
def test_runs_that_do_not_say_where_they_are_from_are_found(copy, checked, column, value, words):
    replaced(copy, column, value)
    status, found = checked(copy)
    assert status == 1 and found["provenance"][0] == "FAIL" and found["provenance"][1].startswith(words)


def test_runs_of_two_versions_of_the_code_are_found(copy, checked):
    replaced(copy, "git_sha", "f" * 40, lambda table: pc.equal(table["seed"], 1))
    status, found = checked(copy)
    assert status == 1 and "by 2 versions of the code" in found["provenance"][1]


def test_changed_files_that_come_along_are_provenance(copy, checked):
    replaced(copy, "git_sha", "0123456789" * 4 + "+0a1b2c3d")
    (copy / "patches").mkdir(exist_ok=True)
    (copy / "patches" / "0a1b2c3d.diff").write_text("a change\n")
    assert checked(copy)[0] == 0


def test_a_folder_that_is_no_submission_is_said(tmp_path, checked):
    store = Store(tmp_path / "plain", create=True)
    status, found = checked(store.root)
    assert status == 1 and found["tables"][0] == "FAIL" and "python -m bench.publish" in found["tables"][1]
    assert {outcome for name, (outcome, _) in found.items() if name != "tables"} == {"skipped"}


@pytest.mark.parametrize(
    "arguments",
    [["--submission", "x"], ["--submission", "x", "--suite", "y", "ssvi"], ["ssvi", "--suite", "y"]],
)
def test_options_that_do_not_go_together_are_said(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        entry(lambda: check.main(arguments))
    assert caught.value.code == 2 and "--submission DIR" in capsys.readouterr().err
