"""Tables without runs: published tables read like the originals, and nothing is computed there."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from bench import collect, grid, publish, status
from bench.cli.entry import entry
from bench.experiment.execution import Execution
from bench.launching.pool import run_inline
from bench.planning.suite import load
from bench.reporting import collecting, publishing
from bench.reporting.rounding import KEPT
from bench.results import styles
from bench.results.files import StoreError
from bench.results.store import Store
from bench.results.tables.columns import TABLES
from tests import toys  # noqa: F401 (the toys are registered)

SUITE = """
question: What is left of a published suite?
reference: {method: toy_two_stage}
scales:
  demo:
    seeds: 0-1
    base: {dataset: toy_blobs, network: toy_network, epochs: 2, batch_size: 30, lr: 0.05, samples: 2}
    grids:
      - {recipe: default, method: toy_two_stage}
      - {recipe: default, method: toy_failing, seeds: 0}
"""


@pytest.fixture
def store(tmp_path):
    """A results folder with the suite computed and collected; one run has uncommitted changes."""
    (path := tmp_path / "given.yaml").write_text(SUITE)
    plan = load(str(path)).expand("demo")
    store = Store(tmp_path / "results", create=True)
    store.merge_plan(plan.to_dict("python -m bench.grid"))
    run_inline(store, plan.specs, Execution())
    run = store.run(plan.specs[0].run_id)
    (store.root / "patches").mkdir(exist_ok=True)
    (store.root / "patches" / "0a1b2c3d.diff").write_text("a change\n")
    assert run.is_done()
    collecting.collect(store, "given")
    return store


def call(command, *arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        entry(lambda: command.main([str(argument) for argument in arguments]))
    out, err = capsys.readouterr()
    return caught.value.code, out, err


def test_what_is_published_is_read_as_it_was(store, tmp_path, capsys):
    target = tmp_path / "deep" / "published"
    code, out, _ = call(publish, "--suite", "all", "--to", target, "--results", store.root, capsys=capsys)
    assert code == 0 and out.startswith(f"{target}: given: ")
    found = Store(target)
    assert found.published and not store.published
    assert found.suites() == ["given"] and found.plans() == store.plans()
    for of in styles.FILES:
        assert found.read_styles("given", of) == store.read_styles("given", of) != {}
    expected = store.read_tables("given")
    for name, table in found.read_tables("given").items():
        exact = {"rtol": 2.0 ** -KEPT[name], "atol": 0} if name in KEPT else {"check_exact": True}
        pd.testing.assert_frame_equal(table, expected[name], **exact)
    assert not (target / "runs").exists()
    names = {path.name for path in (target / "given").iterdir()}
    kept = {"plan-demo.json", "methods.json", "criteria.json"}
    assert names == {f"{name}.parquet" for name in TABLES} | kept


def test_tables_of_a_version_that_had_fewer_are_published_as_they_are(store, tmp_path):
    (store.root / "given" / "criteria.json").unlink()
    metrics = store.root / "given" / "metrics.parquet"
    table = pq.read_table(metrics)
    pq.write_table(table.filter(pc.not_equal(table["metric"].cast("string"), "aurc")), metrics)
    (store.root / "given" / "selective.parquet").unlink()
    publishing.publish(store, ["given"], tmp_path / "published")
    assert not (tmp_path / "published" / "given" / "selective.parquet").exists()
    assert Store(tmp_path / "published").read_tables("given")["selective"].empty


def test_commands_do_not_name_a_folder_of_this_machine(store, tmp_path):
    """A relative folder stays, and so does a plan without an absolute one, to the byte."""
    path = store.root / "given" / "plan-demo.json"
    publishing.publish(store, ["given"], tmp_path / "published")
    published = tmp_path / "published" / "given" / "plan-demo.json"
    assert published.read_bytes() == path.read_bytes()
    plan = json.loads(path.read_text())
    said = {
        "command": "python -m bench.grid --suite given --results /home/me/x --workers 2",
        "commands": [
            "python -m bench.grid --suite given --where 'lr=0.1|0.2' --results=/home/me/x",
            "python -m bench.grid --suite given --results results/working",
            "python -m bench.grid --suite given --results '/home/me/x y'",
        ],
    }
    path.write_text(json.dumps({**plan, **said}))
    publishing.publish(store, ["given"], tmp_path / "published")
    assert json.loads(published.read_text()) == {
        **plan,
        "command": "python -m bench.grid --suite given --workers 2",
        "commands": [
            "python -m bench.grid --suite given --where 'lr=0.1|0.2'",
            "python -m bench.grid --suite given --results results/working",
            "python -m bench.grid --suite given",
        ],
    }


def test_publishing_again_replaces_the_suite(store, tmp_path):
    publishing.publish(store, ["given"], tmp_path / "published")
    (tmp_path / "published" / "given" / "stray.parquet").write_text("old")
    (tmp_path / "published" / "README.md").write_text("mine")
    publishing.publish(store, ["given"], tmp_path / "published")
    assert not (tmp_path / "published" / "given" / "stray.parquet").exists()
    assert (tmp_path / "published" / "README.md").read_text() == "mine"


def test_the_patch_of_a_commit_with_changes_comes_along(store, tmp_path, monkeypatch):
    read = store.read_tables

    def with_changes(suite, names=TABLES):
        tables = read(suite, names)
        return {**tables, "runs": tables["runs"].assign(git_sha="0123456789+0a1b2c3d")}

    monkeypatch.setattr(store, "read_tables", with_changes)
    publishing.publish(store, ["given"], tmp_path / "published")
    assert (tmp_path / "published" / "patches" / "0a1b2c3d.diff").read_text() == "a change\n"


def test_nothing_is_computed_over_published_tables(store, tmp_path, capsys):
    target = tmp_path / "published"
    publishing.publish(store, ["given"], target)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    words = f"error: {target}: holds only published tables; choose another --results\n"
    suite = tmp_path / "given.yaml"
    for command, arguments in (
        (grid, ["--suite", suite, "--executor", "inline"]),
        (collect, ["--suite", "given"]),
        (status, []),
    ):
        code, _, err = call(command, *arguments, "--results", target, capsys=capsys)
        assert (code, err) == (2, words)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before


def test_a_folder_with_something_else_is_not_published_to(store, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match=r"not empty \(it holds 'thesis.tex'\)"):
        publishing.publish(store, ["given"], tmp_path / "other")
    code, _, err = call(
        publish, "--suite", "given", "--to", store.root, "--results", store.root, capsys=capsys
    )
    assert code == 2 and "is the results folder itself" in err
    another = Store(tmp_path / "another", create=True).root
    with pytest.raises(StoreError, match="is a results folder with runs"):
        publishing.publish(store, ["given"], another)


def test_what_was_not_collected_is_not_published(store, tmp_path):
    (store.root / "given" / "layers.parquet").unlink()
    with pytest.raises(StoreError, match=r"layers.parquet: no such file; python -m bench.collect"):
        publishing.publish(store, ["given"], tmp_path / "published")
    assert not (tmp_path / "published" / "given").exists()


def test_links_are_not_followed(store, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (store.root / "given" / "methods.json").unlink()
    (store.root / "given" / "methods.json").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError, match=r"methods\.json"):
        publishing.publish(store, ["given"], tmp_path / "published")
    assert [path.name for path in (tmp_path / "published").iterdir()] == ["schema.json"]
    (tmp_path / "published" / "given").symlink_to(tmp_path)
    (store.root / "given" / "methods.json").unlink()
    with pytest.raises(StoreError, match="is a link"):
        publishing.publish(store, ["given"], tmp_path / "published")


def test_tables_are_kept_where_none_of_their_runs_is(store, tmp_path, capsys):
    """A copy of a results folder without its runs: what is collected there would be empty."""
    copy = tmp_path / "copy"
    shutil.copytree(
        store.root, copy, ignore=lambda folder, names: ["runs"] if folder == str(store.root) else []
    )
    before = (copy / "given" / "metrics.parquet").read_bytes()
    code, _, err = call(collect, "--suite", "given", "--recompute", "--results", copy, capsys=capsys)
    assert code == 2 and "none of its run folders is here; the tables are kept" in err
    assert (copy / "given" / "metrics.parquet").read_bytes() == before


def test_a_suite_that_is_not_there_is_said(store, tmp_path, capsys):
    asked = ["--suite", "nope", "--to", tmp_path / "published", "--results", store.root]
    code, _, err = call(publish, *asked, capsys=capsys)
    assert code == 2 and "no suite nope was launched; there are: given" in err
    assert not (tmp_path / "published").exists()
