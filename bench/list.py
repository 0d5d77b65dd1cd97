"""List suites, methods, data sets, networks, criteria, recipes and settings: ``python -m bench.list``."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.cli import arguments as cli
from bench.cli.entry import entry
from bench.experiment.notation import show
from bench.results.words import counted
from methods.core.errors import UserError, unknown

if TYPE_CHECKING:
    from bench.planning.suite import Suite
    from bench.results.store import Store
    from methods.core.registry import Registry


@dataclass(frozen=True)
class Entry:
    """An item of a list: its name, a sentence about it, lines on its state, and details.

    Details are pairs of a head and a text, which are shown if they are asked for.
    """

    name: str
    doc: str
    details: tuple[tuple[str, str], ...] = ()
    state: tuple[str, ...] = ()


def main(argv: list[str] | None = None) -> int:
    """Print the lists of the kinds that were asked for, or of all kinds."""
    parser = cli.parser("bench.list", __doc__)
    parser.add_argument("kind", nargs="*", metavar="KIND", help=f"any of: {', '.join(KINDS)} (default: all)")
    parser.add_argument(
        "-v", "--options", action="store_true", help="show the options of each with defaults and valid values"
    )
    parser.add_argument(
        "--against",
        metavar="RECIPE",
        help="list where the cells of --suite depart from this recipe, and from what its source did",
    )
    parser.add_argument("--suite", metavar="SUITE", help="with --against: name or file of a suite")
    parser.add_argument("--scale", default="demo", help="with --against: scale of the suite (default: demo)")
    arguments = parser.parse_args(argv)
    if arguments.against is not None or arguments.suite is not None:
        if arguments.against is None or arguments.suite is None or arguments.kind not in ([], ["recipes"]):
            parser.error("--against RECIPE and --suite SUITE go together, with the kind recipes or none")
        print(_departures(arguments.against, arguments.suite, arguments.scale))
        return 0
    for kind in arguments.kind:
        if kind not in KINDS:
            raise unknown("kind", kind, KINDS)
    width = max(60, shutil.get_terminal_size((100, 24)).columns)
    # to say what a suite costs takes a while, and is done if suites are asked for
    lists = KINDS | ({"suites": partial(_suites, costs=True)} if "suites" in arguments.kind else {})
    shown = [f"{kind}\n{render(lists[kind](), arguments.options, width)}" for kind in arguments.kind or KINDS]
    print("\n\n".join(shown))
    return 0


def _departures(recipe: str, name: str, scale: str) -> str:
    """Return the departures of a suite's cells from a recipe as text, by data set and network."""
    from bench.planning import suite
    from bench.planning.departures import departures

    lines = []
    for found in departures(suite.load(name).expand(scale), recipe):
        lines += [f"{found.place}: {counted(found.cells, 'configuration')} with recipe {recipe}"]
        width = max(map(len, found.settings), default=0)
        lines += [
            f"  {key:<{width}}  {theirs} in the recipe, {ours} in the suite"
            for key, (theirs, ours) in found.settings.items()
        ]
        lines += [f"  {sentence}" for sentence in found.beyond]
    return "\n".join(lines)


def render(entries: list[Entry], details: bool, width: int) -> str:
    """Return ``entries`` as text, wrapped at ``width`` columns if names are short enough."""
    column = max((len(item.name) for item in entries), default=0) + 4
    lines: list[str] = []
    for item in entries:
        lines += _hanging(f"  {item.name}", item.doc, column, width)
        for line in item.state:
            lines += _hanging(f"{' ' * column}{'-'}", line, column + 2, width)
        if details:
            for head, text in item.details:
                lines += _hanging(f"      {head}", text, 10, width)
    return "\n".join(lines)


def _hanging(head: str, text: str, column: int, width: int) -> list[str]:
    """Return the lines of ``head`` and ``text``; the text starts at ``column``, below a longer head."""
    indent = " " * column
    wrapped = textwrap.wrap(text, width - column)
    if len(head) < column and wrapped:
        return [f"{head:<{column}}{wrapped[0]}", *(indent + line for line in wrapped[1:])]
    return [head, *(indent + line for line in wrapped)]


# These functions import what they list themselves, so that a typo is answered without loading torch.


def _suites(costs: bool = False) -> list[Entry]:
    from bench.planning import suite

    entries, launched = [], _states(costs)
    for name in suite.names():
        try:
            found = suite.load(name)
        except UserError as error:
            entries.append(Entry(name, f"broken: {error}"))
            continue
        scales = tuple(
            (f"{scale}: {counted(len(block.grids), 'grid')}, seeds {show(block.seeds)}", "")
            for scale, block in found.scales.items()
        )
        state = launched.get(name) or (_not_launched(found) if costs else ())
        entries.append(Entry(name, f"{found.question} ({', '.join(found.scales)})", scales, tuple(state)))
    return entries


def _not_launched(suite: Suite) -> list[str]:
    """Say what the smallest scale of a suite costs, and how it is launched."""
    from bench.cli.describe_plan import cost
    from bench.planning.estimate import estimate

    scale = next(iter(suite.scales))
    command = f"python -m bench.grid --suite {suite.name}" + (f" --scale {scale}" if scale != "demo" else "")
    try:
        expected = cost(estimate(suite.expand(scale), None))
    except UserError as error:  # data or a package that is not here
        return [f"not launched: {command} ({error})"]
    return [f"{scale}: not launched, {expected}: {command}"]


def _states(costs: bool) -> dict[str, list[str]]:
    """Return how far the suites in the usual results folder are, by suite, and what they answer."""
    from bench.monitoring.progress import items
    from bench.results.files import StoreError
    from bench.results.store import Store

    found: dict[str, list[str]] = {}
    try:
        store = Store(cli.RESULTS)
        for plan in store.plans():
            suite, scale = str(plan["suite"]), str(plan["scale"])
            runs = items(store, suite, scale)
            documents = [store.run(run.run_id) for run in runs]
            done = sum(run.is_done() for run in documents)
            told = f"{scale}: {done} of {counted(len(runs), 'run')} done in {cli.RESULTS}"
            found.setdefault(suite, []).append(told)
            if costs:
                found[suite] += _answers(store, plan)
    except StoreError:  # there is no such folder, or it cannot be read: bench.status tells why
        return {}
    return found


def _answers(store: Store, plan: Mapping[str, Any]) -> list[str]:
    """Return the sentences that answer the question of a plan; nothing if it has no tables."""
    from bench.figures import Look, answers, ranked_by
    from bench.results.files import StoreError

    suite, scale = str(plan["suite"]), str(plan["scale"])
    try:
        look = Look("light", store.read_styles(suite))
        table, references = partial(store.read_table, suite, scale), store.references(suite, scale)
        found = answers(table, references, ranked_by(plan), look)
    except StoreError:
        return []
    return list(found[0].sentences) if found else []


def _methods() -> list[Entry]:
    from methods.base import METHODS

    return _plug_ins(METHODS)


def _datasets() -> list[Entry]:
    from bench.data.base import DATASETS

    entries = [
        Entry(name, _first_line(item), _options(item.Options) + _beside(item))
        for name, item in ((name, DATASETS.get(name)) for name in DATASETS.names())
    ]
    return entries + _broken(DATASETS)


def _beside(item: type) -> tuple[tuple[str, str], ...]:
    """Return the names of the sets on which a network can be evaluated beside the test part."""
    try:
        dataset = item()
    except (TypeError, UserError):  # an option without a default, or a package that is missing
        return ()
    sets = {
        "unknown sets, for evaluation.ood": dataset.unknown(),
        "shifts, for evaluation.shifts": dataset.shifts(),
    }
    return tuple((head, ", ".join(names)) for head, names in sets.items() if names)


def _networks() -> list[Entry]:
    from bench.networks.base import NETWORKS

    return _plug_ins(NETWORKS)


def _plug_ins(registry: Registry[Any]) -> list[Entry]:
    found = [(name, registry.get(name)) for name in registry.names()]
    usable = [Entry(name, _first_line(item), _options(item.Options)) for name, item in found]
    return usable + _broken(registry)


def _broken(registry: Registry[Any]) -> list[Entry]:
    return [Entry(name, f"broken: {reason}") for name, reason in registry.broken().items()]


def _recipes() -> list[Entry]:
    from bench.experiment import recipes

    entries = []
    for name in recipes.names():
        recipe = recipes.get(name)
        settings = {key: show(value) for key, value in recipe.settings().items()}
        for method, options in recipe.methods.items():
            settings |= {f"method.{key} of {method}": show(value) for key, value in options.items()}
        entries.append(
            Entry(name, recipe.doc, tuple((f"{key}: {text}", "") for key, text in settings.items()))
        )
    return entries


def _criteria() -> list[Entry]:
    from methods.criteria.base import CRITERIA

    entries = []
    for name in CRITERIA.names():
        criterion = CRITERIA.get(name)
        details = ((_first_line(criterion), ""), (f"LaTeX: {criterion.latex}", ""))
        entries.append(Entry(name, f"{criterion.formula} [{criterion.source}]", details))
    return entries + _broken(CRITERIA)


def _settings() -> list[Entry]:
    from bench.experiment.settings import Evaluation, Keys, Training

    sections = {"training": Training, "evaluation": Evaluation, "run": Keys}
    return [Entry(name, _first_line(cls), _options(cls)) for name, cls in sections.items()]


def _options(cls: type) -> tuple[tuple[str, str], ...]:
    from methods.core.options import REQUIRED, describe

    rows = []
    for info in describe(cls):
        default = "required" if info.default is REQUIRED else f"default {show(info.default)}"
        valid = f", valid: {info.valid}" if info.valid else ""
        rows.append((f"{info.name}: {info.type}, {default}{valid}", info.doc))
        rows += [(f"    {choice}", words) for choice, words in info.explained.items()]
    return tuple(rows)


def _first_line(item: type) -> str:
    return (item.__doc__ or "").strip().partition("\n")[0]


KINDS: dict[str, Callable[[], list[Entry]]] = {
    "suites": _suites,
    "methods": _methods,
    "datasets": _datasets,
    "networks": _networks,
    "criteria": _criteria,
    "recipes": _recipes,
    "settings": _settings,
}


if __name__ == "__main__":
    entry(main)
