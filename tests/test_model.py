"""A loaded model: what it takes, what it says of itself, and ids written by their first digits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import bench
from bench import cancel, logs
from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.files import StoreError
from bench.results.store import Store
from bench.runner.execute import execute
from methods.core.errors import UserError
from tests import toys  # noqa: F401  (registers the toys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A results folder, and the runs on tables and on images in it."""
    root, runs = tmp_path_factory.mktemp("model") / "results", {}
    for dataset, network in (("toy_blobs", "toy_network"), ("digits", "mlp")):
        chosen = {"dataset": dataset, "network": network, "method": "ssvi", "epochs": 1, "samples": 2}
        runs[dataset] = parse_spec(nest(chosen))
        assert execute(runs[dataset], Store(root, create=True), Execution()) == "done"
    return root, runs


@pytest.fixture(scope="module")
def tabular(trained):
    root, runs = trained
    return bench.load(runs["toy_blobs"].run_id, root)


@pytest.fixture(scope="module")
def images(trained):
    root, runs = trained
    return bench.load(runs["digits"].run_id, root)


ROWS = np.arange(24.0).reshape(3, 8) / 7


@pytest.mark.parametrize(
    "inputs",
    [
        ROWS,
        ROWS.astype(np.float32),
        ROWS.tolist(),
        torch.from_numpy(ROWS),
        pd.DataFrame(ROWS),
        pd.DataFrame(ROWS, columns=list("abcdefgh"), index=["x", "y", "z"]),
        pd.DataFrame(ROWS).astype({0: "float32", 1: "Float64"}),
        np.asfortranarray(ROWS),
        ROWS[::-1][::-1],
    ],
    ids=lambda value: type(value).__name__,
)
def test_arrays_and_data_frames_are_taken(inputs, tabular):
    expected = tabular.predict(torch.from_numpy(ROWS).float())
    assert torch.equal(tabular.predict(inputs), expected)
    assert torch.equal(tabular.mean(inputs), tabular.mean(torch.from_numpy(ROWS).float()))


def test_whole_numbers_are_taken_as_they_are(tabular, images):
    whole = np.arange(24).reshape(3, 8) % 5
    assert torch.equal(tabular.predict(whole), tabular.predict(whole.astype(np.float32)))
    pixels = np.arange(2 * 64).reshape(2, 1, 8, 8) % 17
    assert torch.equal(images.predict(pixels), images.predict(pixels.astype(np.uint8)))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (ROWS[:, :7], r"expected float32 \(N, 8\), got float64 \(3, 7\)"),
        (ROWS[0], r"got float64 \(8,\)"),
        (ROWS[:0], r"got float64 \(0, 8\)"),
        (ROWS.astype(str), r"expected float32 \(N, 8\), got <U"),
        (ROWS.astype(complex), "got complex128"),
        (ROWS * 1e300, "got float64"),
        (pd.DataFrame(ROWS[:, :7]), "a data frame with 7 columns"),
        (pd.DataFrame(ROWS).assign(label="a"), "a data frame with 9 columns"),
        (pd.DataFrame(ROWS).assign(kind=list("abc")).drop(columns=0), "column 'kind' of the data frame has"),
        ("text", "got str"),
        (None, "got NoneType"),
        (5.0, "got float32"),
    ],
)
def test_other_inputs_are_refused_in_one_line(inputs, words, tabular):
    with pytest.raises(UserError, match=f"^inputs: .*{words}") as told:
        tabular.predict(inputs)
    assert "\n" not in str(told.value)


def test_other_numbers_and_shapes_are_refused_for_images(images):
    for inputs, words in [
        (np.full((1, 1, 8, 8), 0.5), "got float64"),
        (np.zeros((1, 1, 8, 8)), "got float64"),
        (np.full((1, 1, 8, 8), -1), r"got int64 \(1, 1, 8, 8\), with numbers that uint8 does not have"),
        (np.full((1, 1, 8, 8), 256), r"got int64 \(1, 1, 8, 8\), with numbers that uint8 does not have"),
        (pd.DataFrame(np.zeros((1, 64))), "got a data frame, which has two dimensions"),
    ]:
        with pytest.raises(UserError, match=words):
            images.predict(inputs)


def test_a_model_says_what_it_is(tabular, trained):
    run = trained[1]["toy_blobs"]
    first, weights, scores = repr(tabular).splitlines()
    assert first == f"Model ssvi on toy_blobs with network toy_network: run {run.run_id}, seed 0"
    counts = tabular._problem.method.counts(tabular.module)
    assert (
        f"{counts.active:,} of {counts.kernel:,} kernel weights active, sparsity {1 - counts.density:.4g}"
        in weights
    )
    chosen = {"dataset": "toy_blobs", "network": "toy_network", "epochs": 1, "samples": 2}
    stored = bench.train("ssvi", results=trained[0], **chosen)
    assert stored.id == run.run_id
    assert f"accuracy {stored.metrics['accuracy']:.4g}" in scores


def test_ids_are_written_by_their_first_digits(trained, capsys):
    root, runs = trained
    run = runs["digits"].run_id
    assert bench.load(run[:5], root).spec.run_id == run
    assert logs.main([run[:5], "--results", str(root)]) == 0
    assert "status: done" in capsys.readouterr().out
    store = Store(root)
    assert store.full_id(run) == store.full_id(run[:11]) == run
    with pytest.raises(StoreError, match="no run whose id begins with ffffff"):
        store.full_id("ffffff")
    several = ["ffffff000001", "ffffff000002", "ffffff000003", "ffffff000004"]
    with pytest.raises(StoreError, match=r"the ids of 4 runs begin with ffffff \(.*1, .*2, .*3, …\)"):
        store.full_id("ffffff", several)
    assert store.full_id("ffffff000003", several) == several[2]
    for wrong in ("", "xyz", run + "0", "../results", None):
        with pytest.raises(StoreError, match="is not a run id"):
            store.full_id(wrong)


def test_runs_are_cancelled_by_their_first_digits(trained):
    with pytest.raises(StoreError, match="was launched"):
        cancel.main([trained[1]["digits"].run_id[:5], "--results", str(trained[0])])
