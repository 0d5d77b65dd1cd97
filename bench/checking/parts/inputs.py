"""Find the kind of input that a network takes: images, tables, or what data sets of other packages have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from bench.data.base import DATASETS, Split
from bench.data.digits import Digits
from bench.experiment import preflight
from bench.experiment.settings import nest
from bench.experiment.spec import RunSpec, parse_spec
from bench.networks.base import NETWORKS
from methods.core import global_generators
from methods.core.errors import UserError

#: Data sets that are tried first, as they are small and here.
_FIRST = ("fashion_mnist_sample", "digits")


class DigitsTable(Digits):
    """The handwritten digits as a table of 64 numbers; only `bench.check` knows it."""

    name = "digits_table"

    def examples(self) -> Split:
        """Return the scans with their pixels in one row."""
        images = super().examples()
        return replace(images, inputs=images.inputs.flatten(1))

    def statistics(self, train: Split) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of each pixel."""
        inputs = train.inputs.float()
        return inputs.mean(0), inputs.std(0)


def candidates() -> Iterator[str]:
    """Yield names of data sets whose inputs a network may take; in this process `digits_table` is one."""
    DATASETS.register(DigitsTable)
    names = [name for name in DATASETS.names() if name not in (*_FIRST, DigitsTable.name)]
    yield from _FIRST
    yield from (name for name in names if not DATASETS.is_own(DATASETS.get(name)))
    yield DigitsTable.name
    yield from (name for name in names if DATASETS.is_own(DATASETS.get(name)))


def specification(dataset: str | None, network: str | None, overrides: Mapping[str, Any]) -> RunSpec:
    """Return a run with a data set and a network to check.

    Parameters
    ----------
    dataset
        Name of the data set; None for the first one whose inputs the network takes.
    network
        Name of the network; None if only the data set is checked.
    overrides
        Their options, by short or dotted keys.

    Raises
    ------
    UserError
        A name or option is not valid.
    """
    chosen = {"network": network or "mlp", "method": "deterministic"}
    if dataset is not None:
        DATASETS.get(dataset, "--dataset")
        return parse_spec(nest({**chosen, "dataset": dataset, **overrides}, "--set"), "--set")
    NETWORKS.get(chosen["network"], "--network")
    for name in candidates():
        spec = parse_spec(nest({**chosen, "dataset": name, **overrides}, "--set"), "--set")
        if "dataset" in overrides or takes(spec):
            return spec
    # its own error says more than that it takes nothing
    return parse_spec(nest({**chosen, "dataset": _FIRST[0], **overrides}, "--set"), "--set")


def takes(spec: RunSpec) -> bool:
    """Return whether the network of a run takes the inputs of its data set, as far as they are here."""
    name, options = spec.dataset
    try:
        task = DATASETS.get(name)(options).task() or preflight.task(spec)
    except UserError:
        return False
    network, network_options = spec.network
    try:
        with global_generators.restored(), torch.no_grad():
            NETWORKS.get(network)(network_options).build(task)(torch.zeros(2, *task.input_shape))
    except Exception:  # a network may refuse an input by any error
        return False
    return True
