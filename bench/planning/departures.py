"""List where the cells of a plan depart from a recipe, and from what the source of the recipe did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from bench.experiment import preflight, recipes
from bench.experiment.notation import show
from bench.experiment.settings import unflatten
from bench.experiment.spec import RunSpec, parse_spec
from bench.planning.plan import Plan, canonical
from methods.base import METHODS
from methods.core.contractions import CONVOLUTIONS
from methods.core.errors import UserError

#: Settings that say what is run, not how.
_IDENTITY = ("seed", "dataset.", "network.")


@dataclass(frozen=True)
class Departures:
    """Hold the departures of the cells on one data set and network.

    Parameters
    ----------
    place
        Data set and network.
    cells
        Number of configurations with the recipe.
    settings
        The recipe's values and those of the cells, as text, by full key; only where they differ.
    beyond
        What the source of the recipe did otherwise and no setting expresses, a sentence each.
    """

    place: str
    cells: int
    settings: dict[str, tuple[str, str]]
    beyond: tuple[str, ...]


def departures(plan: Plan, name: str) -> list[Departures]:
    """Compare all trained cells of ``plan`` that have the recipe ``name`` with the recipe alone.

    Parameters
    ----------
    plan
        The plan.
    name
        Name of the recipe.

    Returns
    -------
    list of Departures
        One for each data set and network, in the order of the plan.

    Raises
    ------
    UserError
        If there is no such recipe, or no cell has it.
    """
    recipe = recipes.get(name)
    places: dict[str, dict[str, RunSpec]] = {}
    for cell in plan.cells:
        if cell.recipe == name and cell.omitted is None:
            place = f"{cell.spec.dataset[0]} · {cell.spec.network[0]}"
            places.setdefault(place, {})[cell.spec.config_id] = cell.spec
    if not places:
        used = ", ".join(sorted({cell.recipe for cell in plan.cells if cell.recipe})) or "none"
        raise UserError(f"suite {plan.suite}, scale {plan.scale}: no cell has recipe {name}; recipes: {used}")
    found = []
    for place, specs in places.items():
        pairs: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
        for spec in specs.values():
            for key, theirs, ours in _differences(spec, recipe):
                sets = pairs.setdefault(key, ({}, {}))
                sets[0][theirs], sets[1][ours] = None, None
        texts = {key: (" or ".join(theirs), ", ".join(ours)) for key, (theirs, ours) in pairs.items()}
        beyond = tuple(_beyond(next(iter(specs.values())), recipe.published))
        found.append(Departures(place, len(specs), texts, beyond))
    return found


def _differences(spec: RunSpec, recipe: recipes.Recipe) -> Iterator[tuple[str, str, str]]:
    """Yield key, the recipe's value and the cell's value of each setting in which a cell departs."""
    names = {"dataset.name": spec.dataset[0], "network.name": spec.network[0], "method.name": spec.method[0]}
    whole = parse_spec(unflatten({**recipe.settings(METHODS.get(spec.method[0])), **names}))
    # a cell is trained as an equal configuration, if there is one, and so would be the recipe
    alone = canonical(whole)[0].settings
    for key, ours in spec.settings.items():
        if not key.startswith(_IDENTITY) and key in alone and alone[key] != ours:
            yield key, show(alone[key]), show(ours)


def _beyond(spec: RunSpec, published: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each thing that the source of a recipe did otherwise in a run like ``spec``."""
    if not published:
        return
    datasets, examples = published["datasets"], preflight.task(spec).examples
    if spec.dataset[0] not in datasets:
        yield f"data set: {spec.dataset[0]}; there {' and '.join(datasets)}"
    if examples != published["examples"]:
        yield f"N in the KL term: {examples:,} (protocol {spec.protocol}); there {published['examples']:,}"
    layers: list[nn.Module] = list(preflight.network(spec).modules())
    if not any(isinstance(layer, CONVOLUTIONS) for layer in layers):
        yield "first layer: sparse, as the network has no convolution; there the first convolution is dense"
    yield f"standardisation: by the training part; there {published['standardisation']}"
