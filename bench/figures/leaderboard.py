"""Rank configurations with the uncertainty of their ranks, and write the ranking as a LaTeX table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.figures.parts.axes import SCORES, axes
from bench.figures.parts.chart import Look, Missing, interval
from bench.figures.parts.verdicts import within
from bench.statistics.seeds import ranking, summarise

#: Greatest number of configurations that are compared in pairs; twice as many would take seconds and
#: hundreds of MB.
MOST_COMPARED = 500
#: Columns beside the score that decides the ranking.
COLUMNS = ("accuracy", "nll", "ece", "posterior_gain_nll", "compression_vs_dense_vi", "train_flops_ratio")
#: Marks of verdicts about a configuration and the best one.
MARKS = {"best": "●", "equivalent": "●", "undecided": "○", "worse": "▽"}
_WITH_INTERVAL = ("accuracy", "nll", "brier", "ece", "posterior_gain_nll", "posterior_gain_ece")
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "·": r"$\cdot$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def leaderboard(runs: pd.DataFrame, score: str = SCORES[0], columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """Rank configurations by the mean of ``score``, best first.

    Parameters
    ----------
    runs
        The table ``runs`` of one suite, scale, data set and network.
    score
        The column that decides the ranking.
    columns
        Further columns to show.

    Returns
    -------
    pandas.DataFrame
        One row per configuration: ``config_id``, ``config_label``, ``method``, ``sparsity``, ``n`` (finished
        seeds), ``rank_low``, ``rank_high``, ``separable`` and ``verdict`` (see ``bench.statistics.ranking``;
        null for more than ``MOST_COMPARED`` configurations, which are not compared in pairs), and mean and
        half width of ``score`` and of each of ``columns``.

    Raises
    ------
    Missing
        No finished run has ``score``.
    """
    metrics = list(dict.fromkeys([score, *columns]))
    found = summarise(runs, metrics=metrics).dropna(subset=[f"{score}_mean"])
    if found.empty:
        raise Missing(
            f"No finished run here has {axes()[score].name}. Widen the filters, or see the page Runs."
        )
    columns_of_ranks = ["rank_low", "rank_high", "separable", "verdict"]
    if len(found) <= MOST_COMPARED:
        ranks = ranking(runs, score).set_index("config_id")
        found = found.join(ranks[columns_of_ranks], on="config_id")
    else:
        found[columns_of_ranks] = pd.NA
    found["n"] = found[f"{score}_n"]
    rising = axes()[score].better == "lower"
    found = found.sort_values(f"{score}_mean", ascending=rising, kind="stable")
    head = ["config_id", "config_label", "method", "sparsity", "n", *columns_of_ranks]
    figures = [f"{metric}_{part}" for metric in metrics for part in ("mean", "half_width")]
    return found[[*head, *figures]].reset_index(drop=True)


def shown(board: pd.DataFrame, look: Look) -> pd.DataFrame:
    """Format ``board`` for readers: rounded intervals, ranks as ``1–3``, and names of methods."""
    metrics = _metrics(board)
    ranks = [_rank(low, high) for low, high in zip(board["rank_low"], board["rank_high"], strict=True)]
    verdicts = ["–" if verdict is pd.NA else f"{MARKS[verdict]} {verdict}" for verdict in board["verdict"]]
    table = pd.DataFrame({"rank": ranks, "verdict": verdicts})
    for number, metric in enumerate(metrics):
        axis = axes()[metric]
        half_widths = (
            board[f"{metric}_half_width"] if metric in _WITH_INTERVAL else [float("nan")] * len(board)
        )
        table[axis.title] = [
            interval(mean, half, axis.digits, axis.factor)
            for mean, half in zip(board[f"{metric}_mean"], half_widths, strict=True)
        ]
        if number == 0:  # the ranking's score comes first, so that narrow screens show it
            table["configuration"] = board["config_label"].astype(str).to_numpy()
            table["n"] = board["n"].astype(int).to_numpy()
    table["method"] = [look.name(str(method)) for method in board["method"]]
    return table


def latex(board: pd.DataFrame, look: Look, caption: str) -> str:
    """Write the table in LaTeX (needs booktabs): the best mean is bold, a dagger marks ties with it."""
    metrics = _metrics(board)
    heads = ["configuration", "$n$"]
    for metric in metrics:
        axis = axes()[metric]
        arrow = {"higher": r" $\uparrow$", "lower": r" $\downarrow$"}.get(axis.better or "", "")
        unit = {"%": r" (\%)", "nats": ""}.get(axis.unit, "")
        heads.append(f"{escape(axis.name)}{unit}{arrow}")
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{escape(caption)}}}",
        rf"\begin{{tabular}}{{lr{'r' * len(metrics)}}}", r"\toprule", " & ".join(heads) + r" \\", r"\midrule",
    ]  # fmt: skip
    for number, row in enumerate(board.to_dict("records")):
        label = escape(str(row["config_label"]))
        cells = [rf"{label}$^\dagger$" if is_tied(row["separable"]) else label, str(int(row["n"]))]
        for metric in metrics:
            axis = axes()[metric]
            half_width = row[f"{metric}_half_width"] if metric in _WITH_INTERVAL else float("nan")
            text = interval(row[f"{metric}_mean"], half_width, axis.digits, axis.factor)
            text = text.replace("±", r"$\pm$").replace("–", "--")
            cells.append(rf"\textbf{{{text}}}" if number == 0 and metric == metrics[0] else text)
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def is_tied(separable: object) -> bool:
    """Tell whether a configuration was compared with all others and none is significantly better."""
    return separable is not pd.NA and not separable


def grouped(board: pd.DataFrame, score: str) -> str:
    """Say which configurations of ``board`` may be the best, and by which procedure.

    Parameters
    ----------
    board
        What ``leaderboard`` returns; all its configurations were compared in pairs.
    score
        The column that decided the ranking.
    """
    count = board["verdict"].value_counts()
    equivalent, undecided, worse = (int(count.get(name, 0)) for name in ("equivalent", "undecided", "worse"))
    return (
        f"Beside the best mean (●), {equivalent} of {len(board)} are equivalent to it{within(score)} (●), "
        f"{undecided} are undecided (○: the seeds show neither), and {worse} are worse (▽: another one "
        "is significantly better). Paired t-tests on shared seeds and two one-sided tests, at 5 % after "
        "Shaffer's and Holm's correction over all pairs, so that the best may have been chosen on the same "
        "data."
    )


def _rank(low: object, high: object) -> str:
    if low is pd.NA or high is pd.NA:
        return "–"
    return f"{low}" if low == high else f"{low}–{high}"


def _metrics(board: pd.DataFrame) -> list[str]:
    """Return the columns of which ``board`` has means, starting with the score that decides the ranking."""
    return [name.removesuffix("_mean") for name in map(str, board.columns) if name.endswith("_mean")]


def escape(text: str) -> str:
    """Escape ``text`` so that LaTeX prints it literally."""
    return "".join(_SPECIAL.get(character, character) for character in text)
