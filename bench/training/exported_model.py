"""Write a trained model as one graph, from raw inputs to class probabilities, in the formats of others."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import nn

from bench.experiment.problem import Problem
from methods.base import Predictor
from methods.core.errors import UserError

#: Packages that write ONNX; those of the extra `onnx`.
PACKAGES = ("onnx", "onnxscript")


class Graph(nn.Module):
    """Probabilities of raw inputs, averaged over predictors.

    Parameters
    ----------
    problem
        The run's data set and input statistics.
    module
        The trained network, computed densely.
    predictors
        Functions from prepared inputs to logits.
    """

    def __init__(self, problem: Problem, module: nn.Module, predictors: Sequence[Predictor]) -> None:
        super().__init__()
        self.module = module
        self._problem, self._predictors = problem, predictors

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return probabilities (N, C), float32, of raw inputs (N, ...) of the stored type."""
        problem = self._problem
        prepared = problem.dataset.prepare(inputs, problem.splits, None).to(problem.dtype)
        found = [predict(prepared).softmax(-1) for predict in self._predictors]
        return torch.stack(found).mean(0).float()


def program_of(graph: Graph, like: torch.Tensor) -> torch.export.ExportedProgram:
    """Return ``graph`` as ``torch.export`` makes it, for any number of inputs.

    Parameters
    ----------
    graph
        The graph.
    like
        Inputs of the stored type and shape, of any number.

    Raises
    ------
    UserError
        If the network or the data set can't be written as one graph.
    """
    example = like.new_zeros((2, *like.shape[1:]))
    sizes = {"inputs": {0: torch.export.Dim("batch", min=1)}}
    try:
        with torch.no_grad():  # not strict: a tracer of bytecode can't see which forward pass is in force
            return torch.export.export(graph.eval(), (example,), dynamic_shapes=sizes, strict=False)
    except Exception as error:  # torch raises many kinds, for what a network's code does
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"export: the network can't be written as one graph: {reason}") from None


def to_pt2(program: torch.export.ExportedProgram) -> bytes:
    """Return the file that ``torch.export.load`` reads."""
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()


def to_onnx(program: torch.export.ExportedProgram) -> bytes:
    """Return the ONNX file with the input ``inputs`` and the output ``probabilities``.

    Raises
    ------
    UserError
        If a package is missing, or ONNX has no operator for a step of the network.
    """
    for name in PACKAGES:
        if find_spec(name) is None:
            raise UserError(f"export: ONNX needs the package {name}: pip install 'ssvi-bench[onnx]'")
    try:
        made = torch.onnx.export(
            program, input_names=["inputs"], output_names=["probabilities"], verbose=False
        )
    except torch.onnx.OnnxExporterError as error:
        raise UserError(f"export: no ONNX graph: {' '.join(str(error).split())[:200]}") from None
    assert made is not None
    return bytes(made.model_proto.SerializeToString())
