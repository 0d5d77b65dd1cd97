"""Name the sets beside the test part on which a run is to be evaluated, and make their inputs.

The settings ``evaluation.ood`` and ``evaluation.shifts`` choose them. A set of inputs of no class is one that
the data set declares, or the test part of another data set whose inputs have the same shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import torch

from bench.data import validation
from bench.data.base import DATASETS, SEVERITIES, Dataset
from bench.experiment.problem import dataset_of, load
from bench.experiment.spec import RunSpec
from bench.results.beside import NAME, OOD, SHIFT, finished, key_of, lacking, parted
from bench.results.run_folder import RunFolder
from methods.base import Task
from methods.core.errors import UserError, unknown
from methods.core.global_generators import seeded
from methods.core.streams import derive

#: In place of names.
ALL = "all"
#: The setting that chooses the sets of each kind.
SETTINGS = {OOD: "evaluation.ood", SHIFT: "evaluation.shifts"}
#: Names of parts, which no set may have.
_PARTS = ("train", "val", "test")


def wanted(spec: RunSpec) -> tuple[str, ...]:
    """Return the keys of the sets on which a run is to be evaluated, each once, in the order written."""
    return _wanted(spec.dataset, spec.evaluation.ood, spec.evaluation.shifts)


@lru_cache(maxsize=256)
def _wanted(dataset: tuple[str, Any], ood: str | tuple[str, ...], shifts: str | tuple[str, ...]) -> Any:
    found: list[str] = []
    for kind, chosen in ((OOD, ood), (SHIFT, shifts)):
        names = listed(chosen)
        if ALL in names:
            names = (*(name for name in names if name != ALL), *declared(dataset_of(*dataset), kind))
        found += [key_of(kind, name) for name in names]
    return tuple(dict.fromkeys(found))


def is_over(run: RunFolder, spec: RunSpec) -> bool:
    """Tell whether nothing of a run is left to compute: it is settled, and if it is done, it lacks no set."""
    status = finished(run)
    return run.is_settled() if status is None else not lacking(status, wanted(spec))


def listed(chosen: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in one of the two settings; a text is a list of one."""
    return (chosen,) if isinstance(chosen, str) else tuple(chosen)


def declared(dataset: Dataset, kind: str) -> Mapping[str, Any]:
    """Return the sets of ``kind`` that ``dataset`` declares, by name.

    Raises
    ------
    UserError
        If a name is not valid.
    """
    found: Mapping[str, Any] = dataset.unknown() if kind == OOD else dataset.shifts()
    for name in found:
        if not isinstance(name, str) or not NAME.fullmatch(name) or name in (*_PARTS, ALL):
            raise UserError(
                f"data set {dataset.name}: {name!r} can't be the name of an evaluation set; valid: small "
                f"letters, digits and _, other than {', '.join((*_PARTS, ALL))}"
            )
    return found


def check(spec: RunSpec, task: Task) -> None:
    """Raise ``UserError`` if a run is to be evaluated on a set that there is not.

    Parameters
    ----------
    spec
        The run.
    task
        Its task, which tells what other data sets have inputs of the same shape.
    """
    for kind, chosen in ((OOD, spec.evaluation.ood), (SHIFT, spec.evaluation.shifts)):
        for name in listed(chosen):
            require(spec, task, kind, name)


def require(spec: RunSpec, task: Task, kind: str, name: str) -> None:
    """Raise ``UserError`` if there is no set of ``kind`` with this name for the data of a run."""
    dataset = dataset_of(*spec.dataset)
    own = declared(dataset, kind)
    others = _others(dataset) if kind == OOD else []
    if name in (*own, ALL) or (name in others and _fits(name, task.input_shape, load_it=True)):
        return
    fitting = (other for other in others if _fits(other, task.input_shape))
    of = f"data set {dataset.name}: " if not own and kind == SHIFT else ""
    raise unknown("set" if kind == OOD else "shift", name, [*own, ALL, *fitting], f"{of}{SETTINGS[kind]}")


def _others(dataset: Dataset) -> list[str]:
    """Return the names of the other data sets whose test part may be a set of inputs of no class."""
    return [name for name in DATASETS.names() if name != dataset.name and NAME.fullmatch(name)]


def _fits(name: str, shape: tuple[int, ...], load_it: bool = False) -> bool:
    """Tell whether the data set ``name``, with its default options, has inputs of ``shape``.

    One that does not tell without loading is loaded if ``load_it``, else taken for one that does not fit.
    """
    try:
        told = dataset_of(name, None).task()
    except (TypeError, UserError):  # an option without a default, or a package that is missing
        return False
    if told is None and load_it:
        return tuple(_test_inputs(name).shape[1:]) == shape
    return told is not None and told.input_shape == shape


def _test_inputs(name: str) -> torch.Tensor:
    """Return the test inputs of the data set ``name`` with its default options, the same for all seeds."""
    start = derive(0, "split")
    with seeded(start):
        return dataset_of(name, None).parts(torch.Generator().manual_seed(start)).test.inputs


def unknown_inputs(spec: RunSpec, name: str) -> torch.Tensor:
    """Return the stored inputs (M, ...) of a set of inputs of no class, on the CPU.

    Raises
    ------
    UserError
        If its files are missing, or its inputs do not fit the run's data set.
    """
    dataset, splits = dataset_of(*spec.dataset), load(spec)
    if (make := declared(dataset, OOD).get(name)) is None:
        found = _test_inputs(name)
    else:
        with seeded(derive(0, f"unknown/{name}")):
            found = make(splits)
    validation.require_unknown(dataset.name, name, found, splits)
    return found


def shifting(spec: RunSpec, name: str) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """Return the function from a batch of stored inputs and a severity to shifted inputs, on the CPU.

    The function raises ``UserError`` if files are missing, or if what it gives does not fit the data set.
    """
    dataset, splits = dataset_of(*spec.dataset), load(spec)
    shift = declared(dataset, SHIFT)[name]

    def shifted(batch: torch.Tensor, severity: int) -> torch.Tensor:
        with seeded(derive(0, f"shift/{name}/{severity}")):
            found = shift(batch, severity, splits)
        validation.require_shifted(dataset.name, name, found, batch)
        return found

    return shifted


def missing(specs: Iterable[tuple[RunSpec, Iterable[str]]]) -> str | None:
    """Return in one line why a set can't be made on this machine; None if all can.

    Parameters
    ----------
    specs
        Runs, each with the keys of sets. Of each data set, the first run is looked at.
    """
    seen: set[tuple[str, str]] = set()
    for spec, keys in specs:
        data = spec.key("dataset", "protocol")
        for key in keys:
            if (data, key) in seen:
                continue
            seen.add((data, key))
            kind, name = parted(key)
            try:
                if kind == OOD:
                    unknown_inputs(spec, name)
                else:
                    shifting(spec, name)(load(spec).test.inputs[:1], SEVERITIES[0])
            except UserError as error:
                return str(error)
    return None


def united(specs: Iterable[RunSpec]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return ``ood`` and ``shifts`` under which a run is evaluated on all sets that ``specs`` ask for."""
    ood: dict[str, None] = {}
    shifts: dict[str, None] = {}
    for spec in specs:
        ood |= dict.fromkeys(listed(spec.evaluation.ood))
        shifts |= dict.fromkeys(listed(spec.evaluation.shifts))
    return tuple(ood), tuple(shifts)
