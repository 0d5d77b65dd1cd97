"""Stored models: written by a run, read in another process without the data, in fewer bytes when asked to."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bench
from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.files import StoreError
from bench.results.store import Store
from bench.runner.execute import execute
from bench.training import checkpoints, packed_model
from methods.core.errors import UserError
from methods.core.streams import Streams
from methods.layers.layer import variational_layers
from tests import toys  # noqa: F401  (registers the toys)

ROOT = Path(__file__).resolve().parent.parent
#: By what they have of a stored model's parts; at most 1 in 32 weights active makes an index the smaller.
RUNS = {
    "ssvi, bitmaps": {"method": "ssvi", "sparsity": 0.8, "replace_every": 3},
    "ssvi, indices": {"method": "ssvi", "sparsity": 0.98, "replace_every": 3},
    "static_vi, bitmaps": {"method": "static_vi", "sparsity": 0.8},
    "static_vi, indices": {"method": "static_vi", "sparsity": 0.98},
    "dense_vi": {"method": "dense_vi"},
    "batch normalisation": {"method": "ssvi", "network": "cnn", "network.channels": [4, 6]},
    "float16": {"method": "ssvi", "sparsity": 0.8, "replace_every": 3, "stored": "float16"},
    "bfloat16": {"method": "ssvi", "sparsity": 0.8, "replace_every": 3, "stored": "bfloat16"},
}


def spec(**options):
    chosen = {"dataset": "digits", "network": "mlp", "epochs": 1, "batch_size": 128, "samples": 3} | options
    if chosen["network"] == "mlp":
        chosen["network.hidden"] = [40, 30]
    return parse_spec(nest(chosen))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A results folder with a run of every kind: the store, and the runs by name."""
    store = Store(tmp_path_factory.mktemp("stored") / "results", create=True)
    specs = {name: spec(**options) for name, options in RUNS.items()}
    for run in specs.values():
        assert execute(run, store, Execution()) == "done"
    return store, specs


@pytest.fixture(scope="module")
def images(runs):
    return make_problem(runs[1]["dense_vi"]).splits.test.inputs


def arrays(store, run):
    with np.load(store.run(run.run_id).path / "predictions.npz") as found:
        return {name: found[name] for name in found.files}


def payload(packed):
    return sum(tensor.numel() * tensor.element_size() for tensor in packed.values())


def packed(store, run):
    return checkpoints.load(store.run(run.run_id).path / "model.pt")


# -- the file ----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("bitmaps", "bitmap"), ("indices", "index")])
@pytest.mark.parametrize("method", ["ssvi", "static_vi"])
def test_positions_are_stored_in_the_smaller_way(runs, method, name, kind):
    store, specs = runs
    content = packed(store, specs[f"{method}, {name}"])
    positions = [key.rpartition(".")[2] for key in content if key.endswith(("index", "bitmap"))]
    assert positions == [kind] * 3
    sizes = {"bitmap": lambda n, active: (n + 7) // 8, "index": lambda n, active: 4 * active}
    for n, layer in ((64 * 40, "fc1"), (40 * 30, "fc2"), (30 * 10, "classifier")):
        active = content[f"{layer}.posterior.mean"].numel()
        assert content[f"{layer}.posterior.{kind}"].nbytes == sizes[kind](n, active)
        assert sizes[kind](n, active) <= min(size(n, active) for size in sizes.values())


@pytest.mark.parametrize("name", RUNS)
def test_the_table_has_the_bytes_of_the_file_which_are_those_of_its_values(runs, name):
    """Beyond values, a file of torch has what names and aligns each tensor: below 400 bytes here."""
    store, specs = runs
    file, content = store.run(specs[name].run_id).path / "model.pt", packed(store, specs[name])
    size = store.run(specs[name].run_id).read("costs")["checkpoint_bytes"]
    assert size == file.stat().st_size
    assert payload(content) < size < payload(content) + 400 * len(content) + 1000


def test_what_is_compared_with_is_stored_as_trained(runs):
    store, specs = runs
    costs = {name: store.run(run.run_id).read("costs") for name, run in specs.items()}
    assert costs["dense_vi"]["checkpoint_bytes"] == costs["dense_vi"]["dense_vi_bytes"]
    assert costs["float16"]["dense_vi_bytes"] == costs["dense_vi"]["dense_vi_bytes"]
    plain = make_problem(specs["dense_vi"]).network(Streams(0))
    assert costs["dense_vi"]["deterministic_bytes"] == len(packed_model.to_bytes(dict(plain.state_dict())))


# -- read elsewhere ----------------------------------------------------------------------

ELSEWHERE = """
import json, sys
sys.modules["sklearn"] = None  # the data set can't be read
import numpy as np
import bench
assert "torch" not in sys.modules
results, images, out, run_ids = sys.argv[1], np.load(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
found = {}
for run_id in run_ids:
    model = bench.load(run_id, results)
    found[f"{run_id} samples"] = model.predict(images).numpy()
    found[f"{run_id} mean"] = model.mean(images).numpy()
    assert model.spec.run_id == run_id and not model.module.training
np.savez(out, **found)
"""


def test_a_stored_model_predicts_the_same_bits_in_another_process_without_the_data(runs, images, tmp_path):
    store, specs = runs
    np.save(tmp_path / "images.npy", images.numpy())
    ids = [run.run_id for run in specs.values()]
    paths = [str(path) for path in (store.root, tmp_path / "images.npy", tmp_path / "found.npz")]
    command = [sys.executable, "-c", ELSEWHERE, *paths, json.dumps(ids)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as found:
        for name, run in specs.items():
            scored = arrays(store, run)
            for predictor in ("samples", "mean"):
                expected = scored[f"{predictor}/probabilities"]
                assert expected.dtype == np.float32
                assert found[f"{run.run_id} {predictor}"].tobytes() == expected.tobytes(), (name, predictor)


def test_another_number_of_samples(runs, images):
    store, specs = runs
    model = bench.load(specs["ssvi, bitmaps"].run_id, store.root)
    whole, more, one = (model.predict(images[:5], samples) for samples in (None, 50, 1))
    assert torch.equal(whole, model.predict(images[:5], 3))
    for found in (more, one):
        torch.testing.assert_close(found.sum(1), torch.ones(5))
        assert not torch.equal(found, whole)
    with pytest.raises(UserError, match="samples: 0 is not a positive whole number"):
        model.predict(images, 0)


def test_a_plugin_with_inputs_of_its_own_and_without_a_mean_network(tmp_path):
    store = Store(tmp_path, create=True)
    chosen = {"dataset": "toy_blobs", "network": "toy_network", "method": "ensemble", "members": 2}
    run = parse_spec(nest(chosen))
    assert execute(run, store, Execution()) == "done"
    model, inputs = bench.load(run.run_id, tmp_path), make_problem(run).splits.test.inputs
    assert model.predict(inputs).numpy().tobytes() == arrays(store, run)["samples/probabilities"].tobytes()
    with pytest.raises(UserError, match="method ensemble has no mean network; use predict"):
        model.mean(inputs)


@pytest.mark.parametrize(
    ("inputs", "got"),
    [
        (np.zeros((2, 8, 8), np.uint8), "uint8 (2, 8, 8)"),
        (np.zeros((2, 1, 8, 8)), "float64 (2, 1, 8, 8)"),
        (np.zeros((0, 1, 8, 8), np.uint8), "uint8 (0, 1, 8, 8)"),
        (np.uint8(3), "uint8 ()"),
        ("an image", "str"),
        ([["a"], [1]], "list"),
    ],
)
def test_inputs_that_are_not_those_of_the_data_set(runs, inputs, got):
    store, specs = runs
    with pytest.raises(UserError) as caught:
        bench.load(specs["dense_vi"].run_id, store.root).mean(inputs)
    assert str(caught.value) == f"inputs: expected uint8 (N, 1, 8, 8), got {got}"


# -- reduced precision -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_fewer_bits_cost_what_is_said(runs, dtype):
    """Training is that of the run stored in full; the loss is the difference of their scores."""
    store, specs = runs
    full, reduced = specs["ssvi, bitmaps"], specs[dtype]
    before, after = packed(store, full), packed(store, reduced)
    for name, tensor in before.items():
        if tensor.is_floating_point():
            assert torch.equal(after[name], tensor.to(getattr(torch, dtype))), name
        else:
            assert torch.equal(after[name], tensor), name

    def nll(run):
        rows = store.run(run.run_id).read("metrics")["metrics"]
        here = {"predictor": "samples", "split": "test", "metric": "nll"}
        return next(row["value"] for row in rows if here.items() <= row.items())

    change = store.run(reduced.run_id).read("costs")["stored_nll_change"]
    assert change == nll(reduced) - nll(full)
    assert 0 < abs(change) < 0.01
    assert store.run(full.run_id).read("costs")["stored_nll_change"] is None


class Shared(nn.Module):
    """One kernel under two names."""

    def __init__(self):
        super().__init__()
        self.one, self.other, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.other.weight = self.one.weight

    def forward(self, x):
        return self.head(self.other(self.one(x.flatten(1))))


def test_a_tied_weight_is_stored_once_in_fewer_bits_too(tmp_path):
    sizes = {}
    for dtype in (None, "float16"):
        problem = make_problem(spec(method="dense_vi", stored=dtype))
        module = problem.method.build(Shared(), Streams(0), problem.task)
        sizes[dtype] = packed_model.write(tmp_path, problem, module)
    assert sizes["float16"] < 0.7 * sizes[None]


def test_a_value_beyond_the_range_keeps_its_tensor_whole(tmp_path):
    run = spec(method="ssvi", network="cnn", stored="float16")
    problem = make_problem(run)
    module = problem.build(Streams(0))
    module.bn1.running_var[0] = 1e6
    module.bn1.num_batches_tracked += 70_001  # odd, and beyond float16: a whole number stays exact
    packed_model.write(tmp_path, problem, module)
    _, again = packed_model.read(tmp_path, run, Execution())
    assert torch.equal(again.bn1.running_var, module.bn1.running_var)
    assert again.bn1.num_batches_tracked == 70_001
    assert torch.equal(again.bn2.running_var, module.bn2.running_var.half().float())
    for layer, other in zip(variational_layers(again), variational_layers(module), strict=True):
        assert torch.equal(layer.posterior.mean, other.posterior.mean.half().float())


def test_the_option_is_no_part_of_the_id_unless_it_is_used():
    full, reduced = spec(method="ssvi"), spec(method="ssvi", stored="float16")
    assert full.run_id != reduced.run_id
    assert full.run_id == spec(method="ssvi", stored=None).run_id
    config = full.to_dict()
    del config["evaluation"]["stored"]
    assert parse_spec(config).run_id == full.run_id
    with pytest.raises(UserError, match=r"stored: 'float8' is not valid .*; valid: float16, bfloat16"):
        spec(method="ssvi", stored="float8")


# -- what cannot be read -----------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path):
    """A results folder with one finished run of a toy: the store and the run's folder."""
    store = Store(tmp_path / "results", create=True)
    run = parse_spec(nest({"dataset": "toy_blobs", "network": "toy_network", "method": "ssvi", "epochs": 1}))
    assert execute(run, store, Execution()) == "done"
    return store, store.run(run.run_id)


def refused(store, run_id):
    with pytest.raises((StoreError, UserError)) as caught:
        bench.load(run_id, store.root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_that_is_not_there_or_not_done(fresh):
    store, folder = fresh
    assert refused(store, "0" * 12) == f"run {'0' * 12} in {store.root}: there is no such run"
    assert "is not a run id" in refused(store, "../results")
    folder.write("status", {**folder.read("status"), "status": "running"})
    assert refused(store, folder.run_id).endswith("it is running, not done")
    with pytest.raises(StoreError, match="does not exist"):
        bench.load("0" * 12, store.root / "missing")


def test_a_run_of_another_version_of_its_method_or_of_another_name(fresh):
    store, folder = fresh
    document = folder.read("spec")
    document["config"]["method"]["version"] = 99
    folder.write("spec", document)
    assert refused(store, folder.run_id) == (
        f"run {folder.run_id}: method ssvi has version 1, the run is of 99"
    )
    document["config"]["method"] = {"name": "gone"}
    folder.write("spec", document)
    assert f"run {folder.run_id}: " in refused(store, folder.run_id)
    assert "'gone'" in refused(store, folder.run_id)


def test_a_folder_that_describes_another_run(fresh):
    store, folder = fresh
    document = folder.read("spec")
    document["config"]["seed"] = 5
    folder.write("spec", document)
    assert "spec.json: it describes run " in refused(store, folder.run_id)


@pytest.mark.parametrize("name", ["model.pt", "inputs.pt"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "other", "list", "code"])
def test_a_damaged_file_is_named(fresh, name, damage, tmp_path):
    store, folder = fresh
    file = folder.path / name
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "code":
        torch.save({"mean": Executed(tmp_path / "executed")}, file)
    elif damage == "list":
        torch.save([1, 2], file)
    elif damage == "other":
        torch.save({"mean": torch.zeros(3)}, file)
    else:
        header = zipfile.ZipFile(file).getinfo("archive/data/1").header_offset
        place = header + 30 + sum(struct.unpack("<HH", data[header + 26 : header + 30]))  # its first value
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        file.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "flipped": flipped}[damage])
    expected = "no such file" if damage == "missing" else "damaged, or not of this run"
    assert f"{file}: {expected}" in refused(store, folder.run_id)
    assert not (tmp_path / "executed").exists()


class Executed:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


# -- as the README has it ----------------------------------------------------------------


def test_the_lines_of_the_readme_load_and_predict(runs, monkeypatch):
    store, specs = runs
    text = (ROOT / "README.md").read_text()
    (block,) = [found for found in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE) if "bench.load" in found]
    code, replaced = re.subn(
        r'"[0-9a-f]{12}"', f'"{specs["ssvi, bitmaps"].run_id}"', block.replace("\n    ", "\n").strip()
    )
    assert replaced == 1
    monkeypatch.chdir(store.root.parent)
    names: dict = {}
    exec(code, names)
    assert names["probabilities"].shape == (1797, 10)
