"""Networks that are unusual and still fine, or refused in one line: without kernels, with extra states."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

import bench
from bench.cli.describe_run import preview
from bench.experiment import preflight
from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.networks.base import NETWORKS, Network
from bench.results.store import Store
from bench.runner.execute import execute
from bench.training import safe_load
from methods.base import Task
from methods.core.errors import UserError
from methods.core.options import option


class Product(nn.Module):
    """A matrix that is no layer."""

    def __init__(self, inputs, classes):
        super().__init__()
        self.matrix, self.norm = nn.Parameter(0.1 * torch.randn(inputs, classes)), nn.LayerNorm(classes)

    def forward(self, x):
        return self.norm(x.flatten(1) @ self.matrix)


@NETWORKS.register
class WithoutKernels(Network):
    """No layer with a kernel, or none that a method can convert."""

    @dataclass(frozen=True)
    class WithoutKernelsOptions:
        frozen: bool = option(False, "whether there is a layer, which is frozen")

    name = "toy_without_kernels"
    Options = WithoutKernelsOptions

    def build(self, task):
        product = Product(math.prod(task.input_shape), task.classes)
        if not self.options.frozen:
            return product
        return nn.Sequential(product, nn.Linear(task.classes, task.classes).requires_grad_(False))


class Counting(nn.Linear):
    """A head whose extra state is ``STATES[kind]``, and which counts its calls in training."""

    STATES: ClassVar = {
        "numbers": {"calls": 0, "rate": 0.5, "names": ["a", ("b", None, True)], "big": 2**70},
        "tensor": torch.arange(4, dtype=torch.float64) / 3,
        "nested": OrderedDict(a=Counter("aab"), b={1, 2}, c=b"\x00\xff", d=bytearray(b"xyz"), e=1 + 2j),
        "nothing": None,
        "type": [torch.float16, torch.Size([2, 3]), torch.device("cpu")],
        "function": {"f": math.sin},
        "path": Path("a"),
        "set less": 3,
    }

    def __init__(self, inputs, classes, kind):
        super().__init__(inputs, classes)
        self.state = self.STATES[kind]

    def forward(self, x):
        return super().forward(x)

    def get_extra_state(self):
        return self.state

    def set_extra_state(self, state):
        self.state = state


class SetLess(Counting):
    set_extra_state = nn.Module.set_extra_state


@NETWORKS.register
class WithExtraState(Network):
    """An MLP whose head has an extra state."""

    @dataclass(frozen=True)
    class WithExtraStateOptions:
        kind: str = option("numbers", "what the state is", choices=tuple(Counting.STATES))

    name = "toy_extra_state"
    Options = WithExtraStateOptions

    def build(self, task: Task) -> nn.Module:
        head = (SetLess if self.options.kind == "set less" else Counting)(16, task.classes, self.options.kind)
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(task.input_shape), 16), nn.ReLU(), head)


def spec(network, method, **settings):
    chosen = {"dataset": "digits", "network": network, "method": method, "epochs": 2, "samples": 2}
    return parse_spec(nest(chosen | {"max_steps": 3} | settings))


def computed(chosen, folder):
    """How a run ended, and its store."""
    store = Store(folder, create=True)
    preflight.check(chosen)
    return execute(chosen, store, Execution()), store


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("deterministic", {}),
        ("ensemble", {"members": 2}),
        ("deterministic", {"budget": "flops", "max_steps": None}),
    ],
)
def test_a_network_without_kernels_is_trained_by_methods_that_convert_none(method, options, frozen, tmp_path):
    chosen = spec("toy_without_kernels", method, **{"network.frozen": frozen} | options)
    assert "density: 1 (" in preview(chosen)
    done, store = computed(chosen, tmp_path)
    assert done == "done", store.run(chosen.run_id).read("status")
    costs = store.run(chosen.run_id).read("costs")
    assert costs["density"] == 1
    assert costs["params_active"] == costs["params_total"] == options.get("members", 1) * (660 + 110 * frozen)
    bench.load(chosen.run_id, tmp_path)


POSTERIORS = (
    *("dense_vi", "ssvi", "static_vi", "magnitude_vi", "snr_vi"),
    *("lottery_ticket", "sparse_vd", "lbbnn", "rigl"),
)


@pytest.mark.parametrize("method", POSTERIORS)
def test_methods_with_posteriors_refuse_it_before_training(method):
    sparse = {} if method in ("dense_vi", "sparse_vd", "lbbnn") else {"sparsity": 0.5}
    for frozen in (False, True):
        with pytest.raises(UserError, match=r"^[^\n]*no layer[^\n]*$") as refusal:
            preflight.check(spec("toy_without_kernels", method, **sparse | {"network.frozen": frozen}))
        if method == "dense_vi":
            assert ("(1: frozen)" if frozen else "(it has no weight layer)") in str(refusal.value)


@pytest.mark.parametrize("kind", ["numbers", "tensor", "nested", "nothing", "type"])
@pytest.mark.parametrize(
    ("method", "options"),
    [("ssvi", {"sparsity": 0.5}), ("lottery_ticket", {"sparsity": 0.5}), ("ensemble", {})],
)
@pytest.mark.parametrize("stored", [None, "float16"])
def test_an_extra_state_comes_back(method, options, stored, kind, tmp_path):
    chosen = spec("toy_extra_state", method, **options | {"network.kind": kind, "evaluation.stored": stored})
    done, store = computed(chosen, tmp_path)
    assert done == "done", store.run(chosen.run_id).read("status")
    module = bench.load(chosen.run_id, tmp_path).module
    (state, *_) = [part.state for part in module.modules() if isinstance(part, Counting)]
    expected = Counting.STATES[kind]
    assert type(state) is type(expected)
    assert torch.equal(state, expected) if kind == "tensor" else state == expected


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("function", r"\(Counting\) cannot be stored: it holds a math.sin;"),
        ("path", r"\(Counting\) cannot be stored: it holds a pathlib.*Path;"),
        ("set less", r"\(SetLess\) cannot be stored: there is no set_extra_state;"),
    ],
)
def test_an_extra_state_that_could_not_come_back_ends_the_run_before_training(kind, reason, tmp_path):
    chosen = spec("toy_extra_state", "dense_vi", **{"network.kind": kind})
    done, store = computed(chosen, tmp_path)
    assert done == "failed"
    status = store.run(chosen.run_id).read("status")
    error = status["error"].strip().splitlines()
    assert len(error) == 1
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(error[0])
    assert not (store.run(chosen.run_id).path / "model.pt").exists()


@pytest.mark.parametrize(
    "value", [{1}, 1j, bytearray(b"a\xff"), Counter("aa"), [b"\x80"], "ü", float("inf"), {}]
)
def test_plain_values_can_be_stored(value, tmp_path):
    assert safe_load.why_not_storable(value) is None
    torch.save({"value": value}, tmp_path / "file")
    found = safe_load.read(tmp_path / "file")["value"]
    assert (found, type(found)) == (value, type(value))


def test_a_file_cannot_ask_for_bytes_that_it_does_not_have(tmp_path):
    class Long:
        def __reduce__(self):
            return bytearray, (2**40,)

    torch.save({"value": Long()}, tmp_path / "file")
    with pytest.raises(safe_load.Damaged, match="by their number alone"):
        safe_load.read(tmp_path / "file")
