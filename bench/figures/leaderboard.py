"""Rank configurations with the uncertainty of their ranks, and write the ranking as a LaTeX table."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from bench.figures.parts.axes import axes
from bench.figures.parts.chart import Look, Missing, interval
from bench.figures.parts.latex import ROWS_OF_A_PAGE, escape, label
from bench.figures.parts.verdicts import within
from bench.results.tables.columns import SCORES
from bench.statistics.seeds import MOST_COMPARED, ranking, summarise

_GAIN = "posterior_gain_nll"
#: Columns beside the score that decides the ranking.
COLUMNS = ("accuracy", "nll", "ece", _GAIN, "compression_vs_dense_vi", "train_flops_ratio")
#: Marks of verdicts about a configuration and the best one.
MARKS = {"best": "●", "equivalent": "●", "undecided": "○", "worse": "▽"}
_WITH_INTERVAL = ("accuracy", "nll", "brier", "ece", "posterior_gain_nll", "posterior_gain_ece")
#: Names of columns in tables for papers, where the full ones do not fit.
SHORT = {
    "brier": "Brier",
    _GAIN: "gain",
    "compression_vs_dense_vi": "compr.",
    "train_flops_ratio": "FLOPs",
}
_LATEX_MARKS = {"equivalent": r"$^\dagger$", "undecided": r"$^\ddagger$"}
_LATEX_WORDS = {"equivalent": "equivalent to the best", "undecided": "undecided whether worse than the best"}
_LATEX_INTERVAL = r"Mean over $n$ seeds $\pm$ half width of the 95\,\% t-interval; the best mean is bold"


def leaderboard(
    runs: pd.DataFrame,
    score: str = SCORES[0],
    columns: Sequence[str] = COLUMNS,
    of_equal_n: bool = False,
) -> pd.DataFrame:
    """Rank configurations by the mean of ``score``, best first.

    Parameters
    ----------
    runs
        The table ``runs`` of one suite, scale, data set and network.
    score
        The column that decides the ranking.
    columns
        Further columns to show.
    of_equal_n
        Whether a configuration is ranked among those with as many seeds alone. The best of few seeds is
        likelier to be so by luck.

    Returns
    -------
    pandas.DataFrame
        One row per configuration: ``config_id``, ``config_label``, ``method``, ``sparsity``, ``n`` (finished
        seeds), ``rank_low``, ``rank_high``, ``separable``, ``smallest`` and ``verdict`` (see ``ranking``;
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
    columns_of_ranks = ["rank_low", "rank_high", "separable", "smallest", "verdict"]
    found["n"] = found[f"{score}_n"]
    if len(found) <= MOST_COMPARED:
        groups = [mine["config_id"] for _, mine in found.groupby("n")] if of_equal_n else [found["config_id"]]
        parts = [ranking(runs[runs["config_id"].isin(ids)], score) for ids in groups]
        ranks = pd.concat(parts).set_index("config_id")
        found = found.join(ranks[columns_of_ranks], on="config_id")
    else:
        found[columns_of_ranks] = pd.NA
    rising = axes()[score].better == "lower"
    found = found.sort_values(f"{score}_mean", ascending=rising, kind="stable")
    head = ["config_id", "config_label", "method", "sparsity", "n", *columns_of_ranks]
    figures = [f"{metric}_{part}" for metric in metrics for part in ("mean", "half_width")]
    return found[[*head, *figures]].reset_index(drop=True)


def shown(board: pd.DataFrame, look: Look) -> pd.DataFrame:
    """Format ``board`` for readers: rounded intervals, ranks as ``1–3``, and names of methods."""
    metrics = _metrics(board)
    ranks = [_rank(low, high) for low, high in zip(board["rank_low"], board["rank_high"], strict=True)]
    table = pd.DataFrame({"rank": ranks, "verdict": _marked(board)})
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
            table["configuration"] = [look.configuration(label) for label in board["config_label"]]
            table["n"] = board["n"].astype(int).to_numpy()
    table["method"] = [look.name(str(method)) for method in board["method"]]
    return table


def _marked(board: pd.DataFrame) -> list[str]:
    """Return the verdicts with their marks."""
    return ["–" if verdict is pd.NA else f"{MARKS[verdict]} {verdict}" for verdict in board["verdict"]]


def latex(board: pd.DataFrame, look: Look, caption: str) -> str:
    """Write ``board`` in LaTeX, as tables that fit the width of the text (needs booktabs and tabularx).

    The best mean is bold; a dagger marks configurations that are equivalent to it, a double dagger those of
    which it is undecided whether they are worse. A long board is several tables, each of a page.
    """
    # a page has room for the other columns; a board that is ranked by the gain shows it first
    if _metrics(board)[0] != _GAIN:
        board = board.drop(columns=[f"{_GAIN}_mean", f"{_GAIN}_half_width"], errors="ignore")
    rows, marks = _latex_rows(board, look), set(board["verdict"].dropna())
    told = [rf"{mark} {_LATEX_WORDS[name]}" for name, mark in _LATEX_MARKS.items() if name in marks]
    first = f"{escape(caption)}. {'; '.join([_LATEX_INTERVAL, *told])}.{label('tab', caption)}"
    parts = [rows[start : start + ROWS_OF_A_PAGE] for start in range(0, len(rows), ROWS_OF_A_PAGE)]
    return "\n".join(
        _latex_table(_metrics(board), part, f"{escape(caption)} (continued)." if number else first)
        for number, part in enumerate(parts)
    )


def _latex_table(metrics: Sequence[str], rows: Sequence[str], caption: str) -> str:
    heads = " & ".join(["configuration", "$n$", *map(_latex_head, metrics)])
    size = r"\footnotesize" if len(metrics) < len(COLUMNS) else r"\scriptsize"
    columns = rf"@{{}}>{{\raggedright\arraybackslash\hangindent=1em}}Xr{'r' * len(metrics)}@{{}}"
    lines = [
        r"\begin{table}",
        rf"\centering{size}\setlength{{\tabcolsep}}{{3pt}}",
        rf"\caption{{{caption}}}",
        r"\vspace{4pt}",
        rf"\begin{{tabularx}}{{\textwidth}}{{{columns}}}",
        *(r"\toprule", rf"{heads} \\", r"\midrule", *rows, r"\bottomrule"),
        r"\end{tabularx}",
        r"\end{table}",
    ]
    return "\n".join([*lines, ""])


def _latex_head(metric: str) -> str:
    """Return the head of a column: its short name above its unit and the direction that is better."""
    axis = axes()[metric]
    arrow = {"higher": r"$\uparrow$", "lower": r"$\downarrow$"}.get(axis.better or "", "")
    unit = r"(\%) " if axis.unit == "%" else ""
    return rf"\shortstack[r]{{{escape(SHORT.get(metric, axis.name))}\\{unit}{arrow}}}"


def _latex_rows(board: pd.DataFrame, look: Look) -> list[str]:
    metrics, lines = _metrics(board), []
    for number, row in enumerate(board.to_dict("records")):
        named = _breakable(escape(look.configuration(row["config_label"])))
        cells = [f"{named}{_LATEX_MARKS.get(row['verdict'], '')}", str(int(row["n"]))]
        for metric in metrics:
            axis = axes()[metric]
            half_width = row[f"{metric}_half_width"] if metric in _WITH_INTERVAL else float("nan")
            mean, _, half = interval(row[f"{metric}_mean"], half_width, axis.digits, axis.factor).partition(
                " ± "
            )
            mean = mean.replace("–", "--")
            best = number == 0 and metric == metrics[0]
            spread = rf"{{\scriptsize\,$\pm$\,{half}}}" if half else ""
            cells.append((rf"\textbf{{{mean}}}" if best else mean) + spread)
        lines.append(" & ".join(cells) + r" \\")
    return lines


def _breakable(label: str) -> str:
    """Return an escaped label in which lines may break after ``_`` and commas, as they do at spaces."""
    return re.sub(r"(\\_|,)", r"\1\\allowbreak{}", label)


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
    are = {number: "is" if number == 1 else "are" for number in (equivalent, undecided, worse)}
    return (
        f"Beside the best mean (●), {equivalent} of {len(board)} {are[equivalent]} equivalent to it"
        f"{within(score)} (●), {undecided} {are[undecided]} undecided (○: the seeds show neither), and "
        f"{worse} {are[worse]} worse (▽: another one is significantly better). Paired t-tests on shared "
        "seeds and two one-sided tests, at 5 % after Shaffer's and Holm's correction over all pairs, so that "
        "the best may have been chosen on the same data."
    )


def _rank(low: object, high: object) -> str:
    if low is pd.NA or high is pd.NA:
        return "–"
    return f"{low}" if low == high else f"{low}–{high}"


def _metrics(board: pd.DataFrame) -> list[str]:
    """Return the columns of which ``board`` has means, starting with the score that decides the ranking."""
    return [name.removesuffix("_mean") for name in map(str, board.columns) if name.endswith("_mean")]
