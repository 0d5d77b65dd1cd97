"""A search for settings as text: what it would try, and what it chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cli.describe_plan import describe_cost
from bench.experiment.notation import show
from bench.planning.estimate import Estimate
from bench.planning.search_spec import FamilySearch
from bench.planning.tuned_settings import is_current
from bench.results.words import counted

if TYPE_CHECKING:
    from bench.tuning.study import Outcome, Part, Searching
    from bench.tuning.trial_scores import Scored


def describe_search(searching: Searching, statuses: Mapping[str, str], estimate: Estimate) -> str:
    """What ``searching`` would try, family by family, and its cost; arguments as of ``describe_plan``."""
    search, plan = searching.search, searching.plan
    at = f", at {show(search.at)}" if search.at else ""
    lines = [
        f"{plan.suite}, scale {plan.scale}: by {search.metric}, seeds {show(list(search.seeds))}{at}",
        "",
    ]
    for part in searching.parts:
        lines += _described(searching, part)
    if search.finalists:
        elsewhere = f", also at {show(search.check_at)}" if search.check_at else ""
        lines.append(
            f"then, of each: the best {search.finalists} and its own settings again, "
            f"seeds {show(list(search.final_seeds))}{elsewhere} (not in the estimate)"
        )
    for found in searching.fixed:
        lines.append(f"{found.family}: nothing to search: {_why_fixed(found)}")
    for record in searching.gone:
        lines.append(f"{record.family}: chosen before, and the suite has it no longer: delete the entry")
    return "\n".join([*lines, "", *describe_cost(plan, statuses, estimate)])


def _described(searching: Searching, part: Part) -> list[str]:
    found, seeds = part.found, len(searching.search.seeds)
    lines = [
        f"{found.family}: {counted(len(part.trials), 'trial')}, {counted(len(part.trials) * seeds, 'run')}"
    ]
    own = found.own
    lines += [f"    {item}, now {show(own[key])}" for key, item in found.ranges.items()]
    if found.written:
        lines.append(f"    not searched, as its grid writes them: {', '.join(found.written)}")
    if (record := searching.before(part)) is not None:
        stale = "" if is_current(record, searching.search, found) else ", not by the search as it is now"
        lines.append(f"    chosen before, by {counted(record.trials, 'trial')}{stale}: {show(record.chosen)}")
    return lines


def _why_fixed(found: FamilySearch) -> str:
    return f"its grid writes {', '.join(found.written)}" if found.written else "it has no key of the space"


def print_outcomes(searching: Searching, outcomes: Sequence[Outcome], console: Console) -> None:
    """A table of what was chosen for each family, beside its settings untuned, and how sure that is."""
    search, number = searching.search, searching.number
    seeds = search.final_seeds or search.seeds
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(f"{search.metric} over {counted(len(seeds), 'seed')}")
    budgets = [budget for budget in (number // 2, number) if budget > 1]
    elsewhere = [f"loss at {show(search.check_at).strip('{}')}"] if search.check_at else []
    for head in ("trials", "failed", "untuned", "chosen", *(f"best of {n}" for n in budgets), *elsewhere):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("settings")
    for outcome in outcomes:
        chosen = outcome.chosen
        settings = "none finished" if chosen is None else show(chosen.trial.settings).strip("{}")
        family = Text(str(outcome.part.found.family))
        figures = [_figure(outcome.untuned), _figure(chosen)]
        figures += [_luck(outcome.best_of(budget)) for budget in budgets]
        figures += [_loss(outcome.check_loss) for _ in elsewhere]
        table.add_row(family, str(len(outcome.scored)), str(outcome.failed), *figures, Text(settings))
    console.print(table)
    console.print("mean ± standard deviation over seeds, on validation data", highlight=False)
    trials = (
        "" if search.final_seeds == () else f" under the {counted(len(search.seeds), 'seed')} of the trials"
    )
    console.print(
        f"best of n: best value{trials} if n trials were drawn anew, mean ± standard deviation",
        highlight=False,
    )


def _luck(found: tuple[float, float] | None) -> str:
    return "–" if found is None else f"{found[0]:.4f} ± {found[1]:.4f}"


def _loss(found: float | None) -> str:
    return "–" if found is None else f"{found:.4f}"


def _figure(scored: Scored | None) -> str:
    if scored is None or scored.value is None:
        return "–"
    return f"{scored.value:.4f}" + ("" if scored.sd is None else f" ± {scored.sd:.4f}")
