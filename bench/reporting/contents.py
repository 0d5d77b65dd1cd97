"""Make the contents of a report: question, tables, differences, figures, failures and provenance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.reporting.claims import claims
from bench.reporting.document import Report, Section
from bench.results import styles
from bench.results.files import StoreError, not_launched
from bench.results.predictions import EXAMPLE_SCORES, example_scores
from bench.results.store import Store
from bench.results.tables.columns import PREDICTORS, SCORES
from bench.results.words import counted
from bench.statistics.consistency import notes

if TYPE_CHECKING:  # pandas and plotly take a second to import
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from bench.figures import Chart, Look


_COST = "compression_vs_dense_vi"


def make(
    store: Store,
    suite: str,
    scale: str | None = None,
    scores: Sequence[str] = (),
    predictor: str = "samples",
) -> Report:
    """Make the report of a suite at one scale.

    Parameters
    ----------
    store
        Results folder.
    suite
        Name of the suite.
    scale
        Name of the scale; may be None if the suite was launched at one scale only.
    scores
        Scores by which configurations are ranked, each in sections of its own; by default the one that the
        suite ranks by. The other figures are of the first.
    predictor
        Whose scores to compare: ``samples`` or ``mean``.

    Raises
    ------
    StoreError
        If the suite was not launched at that scale or not collected, or if it was launched at several scales
        and none is named.
    """
    plan = _plan(store, suite, scale)  # before anything that takes long to import
    from bench.figures import Look, answers, rank_map, ranked_by, scored_by

    scores = scores or [ranked_by(plan)]
    runs = store.read_tables(suite, ["runs"])["runs"]
    runs = runs[runs["scale"] == plan["scale"]]
    if predictor != "samples":
        runs = scored_by(runs, store.read_tables(suite, ["metrics"])["metrics"], predictor)
    look = Look("light", _styles(store, suite, styles.METHODS), _styles(store, suite, styles.CRITERIA))
    report = Report(f"{suite}, scale {plan['scale']}")
    report.sections.append(_head(plan, runs, store.commands(suite, plan["scale"]), predictor, look))
    settings = runs["dataset"].astype(str) + " · " + runs["network"].astype(str)
    references = store.references(suite, plan["scale"])
    answered = [
        Section(found.question or "Answer", [*found.sentences, *filter(None, [found.how])], found.table)
        for found in answers(_tables(store, suite, runs), references, scores[0], look, predictor)
    ]
    report.sections.extend(answered[:1])
    for setting in dict.fromkeys(settings):
        here = runs[settings == setting]
        for score in scores:
            report.sections.extend(
                _of_setting(setting, here, store, plan, references, look, score, predictor)
            )
        report.sections.extend(_by_tables(setting, here, store, plan, references, look, scores[0], predictor))
    report.sections.extend(answered[1:])
    if (section := _unless_missing(lambda: _drawn("", rank_map(runs, scores[0], look)))) is not None:
        report.sections.append(section)
    report.sections.extend(_tail(plan, runs, look))
    return report


def _plan(store: Store, suite: str, scale: str | None) -> dict[str, Any]:
    if suite not in store.suites():
        raise not_launched(store.root, "suite", suite, store.suites())
    scales = store.scales(suite)
    valid = ", ".join(scales)
    if scale is None and len(scales) > 1:
        raise StoreError(f"{store.root}: {suite} was launched at several scales; valid --scale: {valid}")
    if scale is not None and scale not in scales:
        raise not_launched(store.root, f"{suite} at scale", scale, scales)
    return store.plan(suite, scale or scales[0])


def _tables(store: Store, suite: str, runs: pd.DataFrame) -> Callable[[str], pd.DataFrame]:
    """Return what gives a table of ``runs`` by name, and these themselves as the table ``runs``."""

    def table(name: str) -> pd.DataFrame:
        if name == "runs":
            return runs
        found = store.read_tables(suite, [name])[name]
        return found[found["run_id"].isin(runs["run_id"])]

    return table


def _styles(store: Store, suite: str, of: styles.StyleFile) -> Mapping[str, Mapping[str, Any]]:
    try:
        return store.read_styles(suite, of)
    except StoreError:
        return {}


def _head(
    plan: Mapping[str, Any], runs: pd.DataFrame, commands: Sequence[str], predictor: str, look: Look
) -> Section:
    status = runs["status"].value_counts()
    counts = ", ".join(f"{number} {name}" for name, number in status.items() if number)
    lines = [f"`{line}`" for line in commands] or ["an unknown command"]
    again = "The same again, with `--retry-failed`," if status.get("failed", 0) else "The same again"
    completes = f"{again} completes it." if len(runs) > status.get("done", 0) else "It is complete."
    words = [
        f"{counted(len(runs), 'run')}: {counts}.",
        f"Made by {', then '.join(lines)}. {completes}",
        f"Scores of the {PREDICTORS[predictor]}, on the test set.",
    ]
    done = runs[runs["status"] == "done"]
    without = done.loc[done[list(SCORES)].isna().all(axis=1), "config_label"].astype(str).unique()
    if len(without):
        words.append(f"Left out, as they have no such scores: {', '.join(map(look.configuration, without))}.")
    return Section(str(plan.get("question") or plan["suite"]), words)


def _of_setting(
    setting: str,
    runs: pd.DataFrame,
    store: Store,
    plan: Mapping[str, Any],
    references: Mapping[str, str],
    look: Look,
    score: str,
    predictor: str,
) -> list[Section]:
    """Make the sections that compare methods by one score, on one data set and network."""
    from bench.figures import axes, grouped, latex, leaderboard, shown, tradeoff
    from bench.statistics import scope
    from bench.statistics.seeds import MOST_COMPARED

    axis = axes()[score]

    def ranked() -> Section:
        board = leaderboard(runs, score)
        group = f"{grouped(board, score)} " if len(board) <= MOST_COMPARED else ""
        words = (
            f"Best mean {axis.name} first. Mean ± half width of the 95 % t-interval over seeds. "
            f"{group}The rank is the range of ranks that these tests leave possible. {scope(runs)}"
        )
        what = f"{plan['suite']}, scale {plan['scale']}, {setting}, by {axis.name}"
        caption = f"{what}: means and 95 % t-intervals over seeds."
        return Section(
            f"{setting}: ranking by {axis.name}",
            [words],
            shown(board, look),
            latex=latex(board, look, caption),
        )

    def differences() -> Section:
        pairs = store.read_tables(str(plan["suite"]), ["criteria_pairs"])["criteria_pairs"]
        scores = None
        if score in EXAMPLE_SCORES and not store.published:
            scores = partial(_example_scores, store, score, predictor)
        return claims(setting, runs, references, score, look, pairs, scores)

    makers: list[Callable[[], Section]] = [
        ranked,
        differences,
        lambda: _drawn(setting, tradeoff(runs, _COST, score, look)),
        lambda: _drawn(setting, tradeoff(runs, "train_flops_ratio", score, look)),
    ]
    return [section for maker in makers if (section := _unless_missing(maker)) is not None]


def _example_scores(store: Store, score: str, predictor: str, run_id: str) -> NDArray[np.float64]:
    return example_scores(store.run(run_id), score, predictor)


def _by_tables(
    setting: str,
    runs: pd.DataFrame,
    store: Store,
    plan: Mapping[str, Any],
    references: Mapping[str, str],
    look: Look,
    score: str,
    predictor: str,
) -> list[Section]:
    """Make the figures of the dashboard's other pages, as they are before a reader chooses anything."""
    from bench import figures

    suite = str(plan["suite"])
    shown = (predictor, "test", look)
    few = figures.one_a_method(runs, look, references.values())

    rows = _tables(store, suite, runs)

    def criteria() -> Chart:
        left_out = figures.aliases(plan["cells"])
        return figures.criteria(runs, score, references, look, {one.name: one.of for one in left_out})

    def subspace() -> Chart:
        layers = rows("layers")
        recorded = runs[runs["run_id"].isin(layers["run_id"]) & (runs["status"] == "done")]
        labels = figures.default_choice(recorded.drop_duplicates("config_id"))
        chosen = recorded[recorded["config_label"].isin(labels)]
        mine = layers[layers["run_id"].isin(chosen["run_id"])]
        return figures.subspace(mine, chosen, "turnover", look, None, runs)

    makers: list[Callable[[], Chart]] = [
        lambda: figures.responses(runs, score, look),
        criteria,
        subspace,
        lambda: figures.convergence(rows("history"), runs, look),
        lambda: figures.updates(rows("history"), runs, None, look),
        lambda: figures.dimension(rows("layers"), rows("history"), runs, look),
        lambda: figures.recovery(runs, rows("metrics"), references, look),
        lambda: figures.finding(runs, rows("metrics"), rows("history"), references, look),
        lambda: figures.layer_types(runs, rows("layers"), look),
        lambda: figures.settling(rows("history"), runs, look),
        lambda: figures.worth(rows("history"), runs, score, look),
        lambda: figures.reliability(runs, rows("calibration"), rows("metrics"), few, *shown),
        lambda: figures.scaling(runs, rows("metrics"), "ece", *shown),
        lambda: figures.scaling(runs, rows("metrics"), "nll", *shown),
        lambda: figures.detection(runs, rows("metrics"), "error_auroc", *shown),
        lambda: figures.posterior_gain(runs, "posterior_gain_nll", look),
        lambda: figures.risk_coverage(runs, rows("selective"), few, *shown),
        lambda: figures.matrix(runs, rows("metrics"), "entropy", predictor, look),
        lambda: figures.severity(runs, rows("metrics"), score, figures.EVERY_SHIFT, few, predictor, look),
        lambda: figures.corruption_error(runs, rows("metrics"), predictor, look),
        lambda: figures.scaled_under_shift(runs, rows("metrics"), predictor, look),
        lambda: figures.speed(runs, "train_flops_ratio", "step_time_ratio", look),
        lambda: figures.stored(runs, look),
    ]
    found = (_unless_missing(partial(_made, setting, maker)) for maker in makers)
    return [section for section in found if section is not None]


def _unless_missing(maker: Callable[[], Section]) -> Section | None:
    """Return the section of ``maker``; None if it has nothing to show.

    A table that can't be read becomes a section that says so.
    """
    from bench.figures import Missing

    try:
        return maker()
    except Missing:
        return None
    except StoreError as error:
        return Section("Left out", [str(error)])


def _made(setting: str, maker: Callable[[], Chart]) -> Section:
    return _drawn(setting, maker())


def _drawn(setting: str, chart: Chart) -> Section:
    return Section(f"{setting}: {chart.title}" if setting else chart.title, chart=chart)


def _tail(plan: Mapping[str, Any], runs: pd.DataFrame, look: Look) -> list[Section]:
    """Make the last sections: missing runs, provenance and definitions."""
    import pandas as pd

    from bench.figures import axes

    sections = []
    missing = runs[runs["status"] != "done"]
    if len(missing):
        told = ["seed", "status", "error_kind", "error", "run_id"]
        table = missing[told].astype(object)
        table.insert(0, "configuration", missing["config_label"].map(look.configuration))
        sections.append(Section("Failed and missing runs", table=table.where(table.notna(), "–")))
    omitted = {str(cell["label"]): str(cell["omitted"]) for cell in plan["cells"] if cell.get("omitted")}
    if omitted:
        table = pd.DataFrame(
            {"configuration": list(map(look.configuration, omitted)), "why": list(omitted.values())}
        )
        sections.append(Section("Not run", ["Cells of the suite that are not trained on their own."], table))
    done = runs[runs["status"] == "done"]
    facts = ("git_sha", "torch_version", "packages", "device", "execution", "threads")
    found = {name: sorted({str(value) for value in done[name].dropna()}) for name in facts}
    found["computed"] = sorted({str(value)[:10] for value in done["started_at"].dropna()})
    table = pd.DataFrame(
        {"what": list(found), "values": [", ".join(values) or "–" for values in found.values()]}
    )
    sections.append(Section("Provenance", [f"Note: {line}." for line in notes(runs)], table))
    known = pd.DataFrame(
        [
            {"column": axis.name, "unit": axis.unit or "–", "definition": axis.definition}
            for axis in axes().values()
        ]
    )
    return [*sections, Section("Definitions", table=known)]
