"""Write and read the trained model of a run.

``model.pt`` holds what the method packs. ``inputs.pt`` holds the type, shape and statistics of raw inputs, so
that the model predicts without the data set. Both are read with ``weights_only``. ``network.json`` holds the
fingerprint of the network, which is built again when the model is read.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.data.base import Split, Splits
from bench.experiment.budget import planned_stages
from bench.experiment.execution import Execution
from bench.experiment.problem import Problem, problem_of, salt_of
from bench.experiment.spec import RunSpec
from bench.networks import fingerprint
from bench.results.files import StoreError, write_bytes
from bench.results.run_folder import RunFolder
from bench.training import safe_load
from methods.base import Task
from methods.core import global_generators
from methods.core.streams import Streams

MODEL, INPUTS, NETWORK = "model.pt", "inputs.pt", "network"


def to_bytes(content: dict[str, Any]) -> bytes:
    """Return the bytes of the file for ``content``, a dict of tensors and plain values."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def is_extra(name: str) -> bool:
    """Return whether a name in a ``state_dict`` is that of a module's extra state, which may be any value."""
    return name.rpartition(".")[2] == "_extra_state"


def write(folder: Path, problem: Problem, module: nn.Module) -> int:
    """Write both files of a trained module, each in one step.

    Floating-point tensors are stored in the type ``evaluation.stored``. A tensor with a value outside the
    range of that type keeps its own, so that no value becomes infinite.

    Returns
    -------
    int
        Size of ``model.pt`` in bytes.
    """
    splits, model = problem.splits, to_bytes(_pack(problem, module))
    inputs = {
        "like": splits.train.inputs[:0].cpu().clone(),  # without a copy, the whole tensor would be stored
        "classes": splits.classes,
        "examples": problem.task.examples,
        "mean": splits.mean.cpu(),
        "std": splits.std.cpu(),
    }
    write_bytes(folder / INPUTS, to_bytes(inputs))
    write_bytes(folder / MODEL, model)
    return len(model)


def read(folder: Path, spec: RunSpec, execution: Execution) -> tuple[Problem, nn.Module]:
    """Read the problem, without its examples, and the trained module.

    Parameters
    ----------
    folder
        Folder of the run.
    spec
        Settings of the run.
    execution
        Device and way of computing.

    Raises
    ------
    StoreError
        A file is missing, damaged, or does not belong to ``spec``, or the network built now is not the one
        that was trained.
    """
    found, packed = _content(folder / INPUTS), _content(folder / MODEL)
    try:
        like = found["like"]
        nothing = Split(like, torch.empty(0, dtype=torch.long))
        splits = Splits(nothing, nothing, nothing, found["classes"], found["mean"], found["std"])
        task = Task(tuple(like.shape[1:]), found["classes"], found["examples"])
        problem = problem_of(spec, splits.to(execution.device), task, execution)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise _damaged(folder / INPUTS, error) from None
    described = RunFolder(folder).read(NETWORK)
    try:
        return problem, _unpack(problem, packed, described)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise _damaged(folder / MODEL, error) from None


def _pack(problem: Problem, module: nn.Module) -> dict[str, Any]:
    packed: dict[str, Any] = problem.method.pack(module)
    stored = problem.spec.evaluation.stored
    if stored is None:
        return packed
    reduced: dict[tuple[Any, ...], torch.Tensor] = {}
    for name, tensor in packed.items():
        if is_extra(name):
            continue
        # tied weights share one tensor, which is stored once
        storage = tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
        packed[name] = reduced.setdefault(storage, _reduced(tensor, getattr(torch, stored)))
    return packed


def _reduced(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Convert a floating-point tensor to ``dtype``, unless a value would become infinite."""
    if not tensor.is_floating_point():
        return tensor
    reduced = tensor.to(dtype)
    return reduced if torch.equal(reduced.isfinite(), tensor.isfinite()) else tensor


def _unpack(problem: Problem, packed: dict[str, torch.Tensor], described: dict[str, Any] | None) -> nn.Module:
    streams, stages = (
        Streams(problem.spec.seed, problem.device),
        planned_stages(problem.method, problem.budget),
    )
    with global_generators.restored(problem.device):
        streams.take_global()
        module, rebuilt = problem.build_described(streams, salt_of(stages))
    # runs of earlier versions of this package have no fingerprint
    if described is not None and (told := fingerprint.difference(described, rebuilt)) is not None:
        raise StoreError(
            f"run {problem.spec.run_id}: network {problem.spec.network[0]}: {fingerprint.CHANGED}: {told}"
        )
    whole = {
        name: value if is_extra(name) or not value.is_floating_point() else value.to(problem.dtype)
        for name, value in packed.items()
    }
    problem.method.unpack(module, whole)
    problem.choose_execution(module)  # layers that were pruned before storing have been built dense above
    return module


def _content(path: Path) -> dict[str, Any]:
    try:
        return safe_load.read(path)
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file") from None
    except safe_load.Damaged as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: object) -> StoreError:
    return StoreError(f"{path}: damaged, or not of this run: {' '.join(str(error).split())[:200]}")
