"""Tell what a suite's comparisons show: each difference with its interval, its pairs and its verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bench.reporting.document import Section
from bench.results.words import counted
from bench.statistics.multiple import ALPHA
from bench.statistics.new_examples import for_new_examples

if TYPE_CHECKING:  # pandas and plotly take a second to import
    import pandas as pd
    from numpy.typing import ArrayLike

    from bench.figures import Look
    from bench.figures.parts.axes import Axis

_ALIKE = (
    "Removed alike: of the weights that either criterion would remove at an update, the share that both "
    "would; mean over updates, layers and the runs of both. Where it is near 1, an equal score says little."
)
_NEW = (
    "For new examples too: the same difference, with an interval and a test that also cover the choice of "
    "the {} test examples (seeds and examples are crossed random effects), after Holm's correction for {}."
)


def claims(
    setting: str,
    runs: pd.DataFrame,
    references: Mapping[str, str],
    score: str,
    look: Look,
    pairs: pd.DataFrame,
    scores: Callable[[str], ArrayLike] | None = None,
) -> Section:
    """Make the section of paired differences to the reference, as a figure and in numbers.

    Parameters
    ----------
    setting
        Data set and network, for the heading.
    runs, pairs
        The tables ``runs`` and ``criteria_pairs``.
    references
        ``config_id`` to the ``config_id`` of its reference.
    score
        Column of ``runs``.
    look
        Colours and markers.
    scores
        Returns the score of each test example of a run, by run id; None if they are not stored.

    Raises
    ------
    Missing
        If no configuration shares a seed with its reference.
    """
    import pandas as pd

    from bench.figures import axes, forest, said, signed, within
    from bench.statistics import scope

    chart, axis = forest(runs, references, score, look), axes()[score]
    rows = chart.data.to_dict("records")
    table = pd.DataFrame(
        {
            "configuration": chart.data["config_label"].map(look.configuration),
            "reference": chart.data["reference_label"].map(look.configuration),
            f"difference of {axis.title}": [
                signed(row["difference"], row["half_width"], axis.digits, axis.factor) for row in rows
            ],
            "n": chart.data["n"],
            "verdict": [said(row, axis) for row in rows],
        }
    )
    tests = int(chart.data["p_holm"].notna().sum())
    words = [
        f"Mean difference of {axis.name} to the reference under the same seed ± half width of its 95 % "
        f"t-interval, from n pairs. Verdicts: the paired t-test shows that it differs, or two one-sided "
        f"t-tests that it is equivalent{within(score)}, at 5 % after Holm's correction for "
        f"{counted(tests, 'comparison')}. {scope(runs)}"
    ]
    alike = chart.data["config_id"].map(removed_alike(runs, references, pairs))
    if alike.notna().any():
        table.insert(4, "removed alike", [f"{share:.2f}" if share == share else "–" for share in alike])
        words.append(_ALIKE)
    found = None if scores is None else for_new_examples(runs.dropna(subset=[score]), scores, references)
    if found is not None and found["p"].notna().any():
        told = {row["config_id"]: _for_new(row, axis) for row in found.to_dict("records")}
        table["for new examples too"] = [told.get(row["config_id"], "–") for row in rows]
        tests = int(found["p"].notna().sum())
        words.append(_NEW.format(found["examples"].max(), counted(tests, "comparison")))
    if found is not None and len(reasons := found["reason"].dropna()):
        words.append(
            f"For new examples, nothing is told of {counted(len(reasons), 'pair')}: {reasons.iloc[0]}."
        )
    return Section(f"{setting}: {chart.title}", words, table, chart)


def _for_new(row: Mapping[Any, Any], axis: Axis) -> str:
    from bench.figures import signed

    if row["p"] != row["p"]:
        return "–"
    value = signed(row["difference"], row["half_width"], axis.digits, axis.factor)
    return f"{value}, {'differs' if row['p_holm'] < ALPHA else 'undecided'} (p = {row['p_holm']:.2g})"


def removed_alike(runs: pd.DataFrame, references: Mapping[str, str], pairs: pd.DataFrame) -> dict[str, float]:
    """Return the mean IoU of what a configuration's criterion and that of its reference would remove.

    Both sets are of the same update of the same run, of all runs of the two configurations.

    Returns
    -------
    dict
        IoU by ``config_id``; only of configurations whose criterion is another than that of the reference,
        and was recorded beside it.
    """
    import pandas as pd

    known = runs.drop_duplicates("config_id").set_index("config_id")["criterion"].dropna().astype(str)
    config = runs.set_index("run_id")["config_id"].astype(str)
    names = pairs[["criterion_a", "criterion_b"]].astype(str)
    recorded = pd.DataFrame(
        {
            "config_id": pairs["run_id"].astype(str).map(config),
            "one": names.min(axis=1),
            "other": names.max(axis=1),
            "iou": pairs["iou"],
        }
    )
    means = recorded.groupby(["config_id", "one", "other"])["iou"].agg(["sum", "count"])
    found = {}
    for mine, theirs in references.items():
        if mine not in known or theirs not in known or known[mine] == known[theirs]:
            continue
        one, other = sorted((known[mine], known[theirs]))
        both = means.reindex([(mine, one, other), (theirs, one, other)]).sum()
        if both["count"]:
            found[mine] = float(both["sum"] / both["count"])
    return found
