"""Plan the evaluation of finished runs on sets beside their test part, from what is stored of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.experiment import beside, preflight
from bench.experiment.problem import dataset_of
from bench.experiment.spec import RunSpec, parse_spec
from bench.planning.plan import Cell, Plan
from bench.results.beside import OOD, SHIFT, parted
from bench.results.files import StoreError
from bench.results.store import Store
from methods.core.errors import UserError


@dataclass
class Finished:
    """The finished runs of a suite at one scale.

    Parameters
    ----------
    plan
        Their cells; the runs ask for the chosen sets.
    left_out
        Why other runs of the suite are not evaluated, by run id.
    """

    plan: Plan
    left_out: dict[str, str] = field(default_factory=dict)


def finished(
    store: Store, stored: Mapping[str, Any], chosen: Mapping[str, Sequence[str]] | None = None
) -> Finished:
    """Return the finished runs of a stored plan, to be evaluated on sets beside their test part.

    Parameters
    ----------
    store
        The results folder.
    stored
        The plan, from ``Store.plan``.
    chosen
        Names of sets by kind (``ood``, ``shift``), or ``all`` for those that a data set declares. A run
        is evaluated on those that there are for its data. None: on the sets that the plan asks for.

    Raises
    ------
    UserError
        If no data set of a finished run has a set of some name.
    """
    cells = [cell for cell in stored["cells"] if cell.get("omitted") is None]
    ids = list(dict.fromkeys(cell["run_id"] for cell in cells))
    faults = {run_id: fault for run_id in store.faults(ids) if (fault := store.mended(run_id)) is not None}
    left_out: dict[str, str] = {}
    specs: dict[str, RunSpec] = {}
    for run_id in ids:
        try:
            if run_id in faults:
                raise StoreError(faults[run_id])
            specs[run_id] = _spec(store, run_id)
        except (StoreError, UserError) as error:
            left_out[run_id] = str(error)
    fitting = None if chosen is None else _fitting(specs.values(), chosen)
    found = []
    for cell in cells:
        if (spec := specs.get(cell["run_id"])) is not None:
            if fitting is None:
                wanted = _parted(cell.get("sets") or ())
            else:
                wanted = fitting[spec.key("dataset", "protocol")]
            found.append(_cell(cell, spec, wanted))
    plan = Plan(
        stored["suite"], stored["scale"], stored.get("question") or "", stored.get("reference") or {},
        tuple(found), rank_by=stored.get("rank_by"),
    )  # fmt: skip
    return Finished(plan, left_out)


def _spec(store: Store, run_id: str) -> RunSpec:
    """Return the specification of a finished run; raise ``StoreError`` if it is not finished."""
    folder = store.run(run_id)
    if (status := folder.status()) != "done":
        raise StoreError(f"it is {status}, not done")
    config = (folder.read("spec") or {}).get("config")
    if not isinstance(config, dict):
        raise StoreError("spec.json: no configuration")
    spec = parse_spec(config)
    if spec.run_id != run_id:
        raise StoreError(f"spec.json: it describes run {spec.run_id}")
    return spec


def _fitting(
    specs: Iterable[RunSpec], chosen: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the sets of ``chosen`` that there are for each data set; each must be one for some data set."""
    data: dict[str, RunSpec] = {}
    for spec in specs:
        data.setdefault(spec.key("dataset", "protocol"), spec)
    found: dict[str, dict[str, tuple[str, ...]]] = {key: {OOD: (), SHIFT: ()} for key in data}
    for kind, names in chosen.items():
        for name in names:
            refused: list[UserError] = []
            for key, spec in data.items():
                try:
                    beside.require(spec, preflight.task(spec), kind, name)
                    if name == beside.ALL and not beside.declared(dataset_of(*spec.dataset), kind):
                        raise UserError(
                            f"data set {spec.dataset[0]} declares none, for {beside.SETTINGS[kind]}: all"
                        )
                except UserError as error:
                    refused.append(error)
                else:
                    found[key][kind] += (name,)
            if refused and len(refused) == len(data):
                raise refused[0]
    return found


def _parted(keys: Iterable[str]) -> dict[str, tuple[str, ...]]:
    pairs = [parted(key) for key in keys]
    return {kind: tuple(name for of, name in pairs if of == kind) for kind in (OOD, SHIFT)}


def _cell(stored: Mapping[str, Any], spec: RunSpec, sets: Mapping[str, Any]) -> Cell:
    asked = spec.replaced({beside.SETTINGS[kind]: sets[kind] for kind in (OOD, SHIFT)})
    origins = {key: place for place, keys in (stored.get("origins") or {}).items() for key in keys}
    return Cell(
        stored.get("labels") or {}, stored["label"], stored.get("recipe"), asked,
        tuned=bool(stored.get("tuned")), origins=origins,
    )  # fmt: skip
