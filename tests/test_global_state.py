"""Global state of the process: generators are seeded wherever code of users runs, and all is restored."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import bench
from bench.data.base import DATASETS, Splits
from bench.experiment import problem
from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.networks import fingerprint
from bench.networks.base import NETWORKS, Network
from bench.results.files import StoreError
from bench.results.store import Store
from bench.runner.execute import execute
from bench.runner.single import specify
from methods.base import METHODS, Budget, Method, Stage, Task
from methods.core import global_generators, torch_flags
from methods.core.streams import Streams
from tests import toys


class Shuffled(nn.Module):
    """Permutes its inputs, and hides some, as drawn from the global generators of numpy, Python and torch."""

    def __init__(self, task: Task, kept: float) -> None:
        super().__init__()
        size = task.input_shape[0]
        self.order = np.random.permutation(size)
        self.sign = [random.choice((-1.0, 1.0)) for _ in range(size)]
        self.register_buffer("hidden", (torch.rand(size) < kept).float(), persistent=False)
        self.body = toys.Small(size, task.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and np.random.rand() < 0.5:  # stochastic depth, as many write it
            x = x * random.uniform(0.5, 1.5)
        return self.body(x[:, self.order] * torch.tensor(self.sign, dtype=x.dtype) * self.hidden)


class ShuffledNetwork(Network):
    """Draws when it is constructed, too."""

    name = "toy_shuffled"

    def __init__(self, options: object = None) -> None:
        super().__init__(options)
        self.kept = np.random.uniform(0.4, 0.9)

    def build(self, task: Task) -> nn.Module:
        return Shuffled(task, self.kept)


class Unseeded(ShuffledNetwork):
    """Draws from a generator of its own, which nobody seeds."""

    name = "toy_unseeded"

    def build(self, task: Task) -> nn.Module:
        network = Shuffled(task, self.kept)
        network.order = np.random.default_rng().permutation(task.input_shape[0])
        return network


class DrawnBlobs(toys.Blobs):
    """Draws its examples and their augmentation from the global generators."""

    name = "toy_drawn_blobs"

    def __init__(self, options: object = None) -> None:
        super().__init__(options)
        self.order = np.random.permutation(8)

    def load(self, split: torch.Generator) -> Splits:
        splits = super().load(split)
        splits.train.inputs[:] += torch.from_numpy(np.random.rand(*splits.train.inputs.shape)).float()
        splits.test.inputs[:] *= random.uniform(0.5, 2) + torch.rand(())
        return splits

    def prepare(self, inputs, splits, augmentation):
        prepared = super().prepare(inputs, splits, augmentation)[:, self.order]
        if augmentation is None:
            return prepared
        return prepared + float(np.random.randn()) * random.gauss(0, 0.1) + 0.1 * torch.randn(())


class Afresh(Method):
    """Begins with a new network in its second stage."""

    name = "toy_afresh"
    style = toys.STYLE

    def stages(self, budget: Budget) -> list[Stage]:
        return [Stage("first", 1), Stage("second", budget.epochs - 1)]


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    for registry, cls in [
        (NETWORKS, ShuffledNetwork), (NETWORKS, Unseeded), (DATASETS, DrawnBlobs), (METHODS, Afresh),
    ]:  # fmt: skip
        monkeypatch.setitem(registry._registered, cls.name, cls)


EVERY_STEP = Execution(checkpoint_seconds=0.0)
CHOSEN = {
    "dataset": "toy_drawn_blobs",
    "network": "toy_shuffled",
    "epochs": 3,
    "batch_size": 32,
    "samples": 2,
}


def spec(**options):
    return parse_spec(nest({"method": "dense_vi", **CHOSEN, **options}))


def disturb():
    """Leave every global generator in another state, as code before a run may."""
    np.random.seed(random.SystemRandom().randrange(2**32))
    random.seed()
    torch.default_generator.manual_seed(random.SystemRandom().randrange(2**62))
    problem._load.cache_clear()


def after(minibatches):
    """Return a function that asks a run to stop after so many minibatches."""
    calls = iter(range(minibatches))
    return lambda: next(calls, None) is None


def files(run, root):
    """Compute a run from whatever state the global generators are in, and return what it wrote."""
    disturb()
    store = Store(root, create=True)
    assert execute(run, store, Execution()) == "done", store.run(run.run_id).read("status")
    folder = store.run(run.run_id)
    rows = [row for row in folder.rows("history") if row["metric"] != "seconds"]
    return folder.read("metrics"), rows, (folder.path / "network.json").read_bytes()


@pytest.mark.parametrize("method", ["dense_vi", "toy_afresh", "ensemble"])
def test_a_seed_fixes_what_is_drawn_from_global_generators(method, tmp_path):
    run = spec(method=method)
    assert files(run, tmp_path / "a") == files(run, tmp_path / "b")


@pytest.mark.parametrize("method", ["dense_vi", "toy_afresh"])
def test_a_stopped_run_draws_the_same_from_global_generators(method, tmp_path):
    run = spec(method=method)
    whole = files(run, tmp_path / "whole")
    store, minibatches = Store(tmp_path / "parts", create=True), 0
    for last in (1, 3, 5, 7):
        disturb()
        assert execute(run, store, EVERY_STEP, after(last - minibatches)) == "preempted"
        minibatches = last
    assert files(run, tmp_path / "parts") == whole


@pytest.mark.parametrize("method", ["dense_vi", "toy_afresh"])
def test_a_loaded_model_predicts_as_the_trained_one(method, tmp_path):
    run = spec(method=method)
    files(run, tmp_path)
    splits = problem.load(run)
    disturb()
    model = bench.load(run.run_id, tmp_path)
    disturb()
    stored = np.load(tmp_path / "runs" / run.run_id / "predictions.npz")
    (name,) = [name for name in stored.files if name.endswith("samples/probabilities")]
    np.testing.assert_allclose(model.predict(splits.test.inputs).numpy(), stored[name], atol=1e-6)


def test_a_network_that_is_another_one_when_built_again_is_refused(tmp_path):
    run = spec(network="toy_unseeded")
    files(run, tmp_path)
    with pytest.raises(StoreError, match=r"toy_unseeded: built again.*: the network has other") as told:
        bench.load(run.run_id, tmp_path)
    assert "\n" not in str(told.value)
    (tmp_path / "runs" / run.run_id / "network.json").unlink()  # as in runs of earlier versions
    bench.load(run.run_id, tmp_path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    run, store = spec(network="toy_unseeded"), Store(tmp_path, create=True)
    assert execute(run, store, EVERY_STEP, after(2)) == "preempted"
    assert execute(run, store, Execution()) == "failed"
    assert "toy_unseeded: built again" in store.run(run.run_id).read("status")["error"]


def drawn():
    """Numbers from every global generator, and the states after them."""
    return [random.gauss(0, 1), float(np.random.randn()), float(torch.randn(()))]


@pytest.mark.parametrize("bits", [np.random.MT19937, np.random.PCG64])
def test_calls_leave_the_global_generators_as_they_were(bits, tmp_path):
    """The normal variate that Python and numpy keep for the next call is part of the state."""
    from numpy.random import mtrand

    before = mtrand.get_bit_generator()
    mtrand.set_bit_generator(bits(1))
    try:

        def calls():
            run = bench.train("dense_vi", results=tmp_path, **CHOSEN)
            run.model.predict(torch.zeros(2, 8))
            specify({**CHOSEN, "method": "ssvi", "budget": "flops"}, "dense", "here")

        random.seed(1), torch.manual_seed(1), drawn()
        state = np.random.get_state(legacy=False)
        expected = drawn()
        random.seed(1), torch.manual_seed(1), drawn()
        np.random.set_state(state)
        calls()
        assert drawn() == expected
    finally:
        mtrand.set_bit_generator(before)


def test_streams_hold_the_state_of_every_global_generator():
    with global_generators.restored():
        streams = Streams(3)
        streams.take_global()
        drawn()
        state = streams.state_dict()
        first = drawn() + drawn()
        streams.load_state_dict(state)
        assert drawn() + drawn() == first


# -- flags ---------------------------------------------------------------------------------

USERS = [
    "pass",
    "b.cudnn.allow_tf32 = False",
    "torch.set_float32_matmul_precision('medium')",
    "torch.set_float32_matmul_precision('high'); b.cudnn.fp32_precision = 'tf32'",
    "b.fp32_precision = 'tf32'",
    "b.cudnn.conv.fp32_precision = 'ieee'",
    "b.cudnn.conv.fp32_precision = 'ieee'; b.cudnn.rnn.fp32_precision = 'ieee'",
    "b.cuda.matmul.fp32_precision = 'tf32'; b.mkldnn.conv.fp32_precision = 'bf16'",
    "b.cudnn.benchmark = True; torch.set_default_dtype(torch.float64)",
]


def flags():
    """Every flag of torch that arithmetic has, or how reading it fails."""
    found = {}
    readers = {
        "cudnn": lambda: torch.backends.cudnn.allow_tf32,
        "cuda": lambda: torch.backends.cuda.matmul.allow_tf32,
        "matmul": torch.get_float32_matmul_precision,
        "dtype": torch.get_default_dtype,
        "threads": torch.get_num_threads,
        "deterministic": lambda: torch.backends.cudnn.deterministic,
        "benchmark": lambda: torch.backends.cudnn.benchmark,
        "algorithms": torch.are_deterministic_algorithms_enabled,
        "gradients": torch.is_grad_enabled,
    }
    places = [
        ("generic", "all"),
        *((b, o) for b in ("cuda", "mkldnn") for o in ("all", "matmul", "conv", "rnn")),
    ]
    for place in places:
        readers[str(place)] = lambda place=place: torch._C._get_fp32_precision_getter(*place)
    for name, read in readers.items():
        try:
            found[name] = read()
        except RuntimeError:
            found[name] = "raises"
    return found


def whole_state():
    """The state of the process beside torch's flags."""
    with np.printoptions():
        return {
            "warnings": list(warnings.filters),
            "environment": dict(os.environ),
            "signals": [
                signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
            ],
            "umask": [os.umask(0o022), os.umask(0o022)][0],
            "folder": os.getcwd(),
            "numpy": np.geterr(),
            "threads": [t.name for t in threading.enumerate() if t.name.startswith("claim")],
        }


@pytest.fixture
def keeping_flags():
    """Restores the flags that a test sets."""
    with torch_flags.restored():
        yield


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("user", USERS)
def test_flags_of_the_caller_are_restored(user, precision, keeping_flags):
    exec(user, {"torch": torch, "b": torch.backends})
    before = flags()
    with torch_flags.arithmetic(precision):
        within = flags()
        with torch.backends.cudnn.flags():  # which reads the flags of both kinds
            pass
    assert "raises" not in within.values()
    assert within["cudnn"] == within["cuda"] == (precision == "tf32")
    assert [within[f"('cuda', '{op}')"] for op in ("matmul", "conv", "rnn")] == [
        "tf32" if precision == "tf32" else "ieee"
    ] * 3
    assert flags() == before
    torch.backends.fp32_precision = "ieee"  # a place without a value of its own still has that of its parent
    assert user != "b.fp32_precision = 'tf32'" or flags()["('cuda', 'matmul')"] == "ieee"


def test_runs_and_models_leave_no_flag_changed(tmp_path):
    before, process = flags(), whole_state()
    run = bench.train("dense_vi", results=tmp_path, threads=torch.get_num_threads() + 1, **CHOSEN)
    assert flags() == before
    store = Store(tmp_path / "other", create=True)
    assert execute(spec(), store, Execution(threads=torch.get_num_threads() + 1)) == "done"
    model = bench.load(run.id, tmp_path)
    model.predict(torch.zeros(2, 8))
    assert flags() == before
    assert whole_state() == process
    with torch.backends.cudnn.flags():
        pass
    torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),))


def test_a_run_computes_in_its_own_arithmetic(tmp_path, keeping_flags):
    expected = files(spec(), tmp_path / "a")
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    assert files(spec(), tmp_path / "b") == expected


# -- fingerprints --------------------------------------------------------------------------


class Parts(nn.Module):
    def __init__(self, **changes) -> None:
        super().__init__()
        chosen = {
            "stride": 1,
            "order": [2, 0, 1],
            "scale": 0.5,
            "mode": "a",
            "table": torch.arange(4.0),
        } | changes
        self.conv = nn.Conv2d(1, 2, 3, stride=chosen["stride"])
        self.register_buffer("table", chosen["table"], persistent=False)
        self.order, self.mode, self.scale = chosen["order"], chosen["mode"], chosen["scale"]
        self.act = chosen.get("act", nn.ReLU)()


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"stride": 2}, "conv has other parts"),
        ({"act": nn.GELU}, "act has other parts"),
        ({"order": [0, 2, 1]}, "the network has other parts"),
        ({"order": np.array([2, 0, 1])}, "the network has other parts"),
        ({"scale": 0.6}, "the network has other numbers"),
        ({"mode": "b"}, "the network has other parts"),
        ({"table": torch.tensor([0.0, 1, 3, 2])}, "the network has other numbers"),
        ({"table": torch.arange(5.0)}, "the network has other parts"),
        ({"act": lambda: nn.Sequential(nn.ReLU())}, "act has other parts"),
    ],
)
def test_fingerprints_differ_where_networks_do(changes, where):
    one, other = fingerprint.fingerprint(Parts()), fingerprint.fingerprint(Parts(**changes))
    assert fingerprint.difference(one, json.loads(json.dumps(other))).startswith(where)


def test_fingerprints_leave_out_weights_and_rounding():
    one = fingerprint.fingerprint(Parts())
    other = fingerprint.fingerprint(Parts(table=torch.arange(4.0) * (1 + 1e-6), scale=0.5 + 1e-9))
    assert fingerprint.difference(one, other) is None
