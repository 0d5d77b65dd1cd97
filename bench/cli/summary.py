"""Print the summary at the end of a grid: a line for each configuration, with mean ± interval over seeds."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cli.live import say
from bench.monitoring.progress import duration, reason
from bench.results.files import printable
from bench.results.tables.columns import definitions
from bench.results.words import counted
from bench.statistics.multiple import ALPHA
from bench.statistics.seeds import MOST_COMPARED, paired, ranking, summarise
from bench.statistics.splits import scope

if TYPE_CHECKING:
    import pandas as pd

    from bench.planning.plan import Cell

#: Columns of the table ``runs`` to show: name, head, factor and number of decimals.
_SHOWN = (
    ("accuracy", "accuracy %", 100, 2),
    ("nll", "NLL", 1, 3),
    ("ece", "ECE %", 100, 2),
    ("train_flops_ratio", "FLOPs ratio", 1, 3),
    ("compression_vs_dense_vi", "compression", 1, 1),
    ("seconds_per_step", "ms/step", 1000, 1),
    ("wall_seconds", "seconds", 1, 1),
)
_WITH_INTERVAL = ("accuracy", "nll", "ece")


@dataclass(frozen=True)
class Ranking:
    """The order of a summary: by one metric, within each data set and network.

    Parameters
    ----------
    by
        Column of the table ``runs``.
    references
        ``config_id`` of a configuration to that of its reference.
    reference
        Labels of the reference, in words.
    """

    by: str
    references: Mapping[str, str]
    reference: str

    @property
    def head(self) -> str:
        """The head of the column."""
        return self._shown[1]

    def order(self, row: Mapping[Any, Any]) -> tuple[str, str, float]:
        """Return the sort key of a configuration's row."""
        mean = float(row[f"{self.by}_mean"])
        better = -mean if self._higher else mean
        return str(row["dataset"]), str(row["network"]), math.inf if math.isnan(better) else better

    def differences(self, runs: pd.DataFrame) -> dict[str, str]:
        """Return the difference of each configuration from its reference, formatted, by ``config_id``."""
        _, _, factor, digits = self._shown
        found = paired(runs, self.by, self.references)
        texts = {}
        for row in found.to_dict("records"):
            if row["config_id"] == self.references[row["config_id"]]:
                texts[row["config_id"]] = "reference"
                continue
            text = f"{row['difference'] * factor:+.{digits}f}"
            if not math.isnan(row["half_width"]):
                text += f" ± {row['half_width'] * factor:.{digits}f}"
            texts[row["config_id"]] = text
        return texts

    @cached_property
    def _higher(self) -> bool:
        """Whether higher values are better."""
        return bool(definitions()["runs"][self.by]["better"] == "higher")

    @property
    def _shown(self) -> tuple[str, str, int, int]:
        return next(shown for shown in _SHOWN if shown[0] == self.by)


def print_summary(
    console: Console, runs: pd.DataFrame, omitted: Sequence[Cell], ranking: Ranking | None = None
) -> None:
    """Print the scores of finished runs, the failed runs with their reasons, and the cells that were not run.

    Parameters
    ----------
    console
        Console to print to.
    runs
        Rows of the table ``runs``.
    omitted
        Cells that were not run.
    ranking
        Order of the rows; None keeps the order of the suite and prints no differences.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("test set", no_wrap=True)
    for head in ("n", *(head for _, head, _, _ in _SHOWN)):
        table.add_column(head, justify="right", no_wrap=True)
    rows = summarise(runs, metrics=[column for column, *_ in _SHOWN]).to_dict("records")
    differences: dict[str, str] = {}
    if ranking is not None:
        rows = sorted(rows, key=ranking.order)
        differences = ranking.differences(runs)
        table.add_column(f"{ranking.head} to reference", justify="right", no_wrap=True)
    for row in rows:
        cells = [_cell(row, column, factor, digits) for column, _, factor, digits in _SHOWN]
        if ranking is not None:
            cells.append(differences.get(row["config_id"], "–"))
        table.add_row(Text(printable(str(row["config_label"]))), str(row["accuracy_n"]), *cells)
    if rows:
        console.print(table)
        say(console, "mean ± half width of the 95 % t-interval over seeds; definitions in bench/columns.yaml")
        say(console, scope(runs))
        if ranking is not None:
            say(console, f"best {ranking.head} first; differences to {ranking.reference} are paired by seed")
    for text, count in Counter(cell.omitted for cell in omitted).items():
        say(console, f"not run, {counted(count, 'cell')}: {text}")
    failed = runs[runs["status"] == "failed"]
    for run in failed.itertuples():
        why = reason({"error_kind": run.error_kind, "error": run.error})
        say(console, f"failed: {run.config_label}, seed {run.seed} ({run.run_id}): {why}", "red")
    if len(failed):
        say(console, "failed runs are not repeated without --retry-failed")
    if cancelled := int((runs["status"] == "cancelled").sum()):
        say(console, f"cancelled: {counted(cancelled, 'run')}; the same command computes the rest")


def print_best(console: Console, runs: pd.DataFrame, score: str) -> None:
    """Print the best configuration on each data set and network, and whether its lead is more than chance.

    Parameters
    ----------
    console
        Console to print to.
    runs
        Rows of the table ``runs`` of one scale.
    score
        Column of the table ``runs`` that decides which is best.
    """
    _, head, factor, digits = next(shown for shown in _SHOWN if shown[0] == score)
    done = runs[(runs["status"] == "done") & runs[score].notna()]
    labels = done.drop_duplicates("config_id").set_index("config_id")["config_label"]
    for (dataset, network), here in done.groupby(["dataset", "network"], sort=False, observed=True):
        number = here["config_id"].nunique()
        if not 1 < number <= MOST_COMPARED:
            continue
        means = summarise(here, metrics=[score]).set_index("config_id")
        ranks = ranking(here, score)
        best = ranks["config_id"].iloc[0]
        mean = _cell(means.loc[best].to_dict(), score, factor, digits)
        words = _lead(ranks.iloc[1:], labels)
        text = f"best {head} on {dataset}, {network}: {labels[best]}, {mean}; {words}"
        say(console, printable(text))


def _lead(others: pd.DataFrame, labels: pd.Series) -> str:
    """Say whether the best mean is really the best; ``others`` are sorted, best first."""
    number, count = len(others), others["verdict"].value_counts()
    equivalent, undecided = int(count.get("equivalent", 0)), int(count.get("undecided", 0))
    tests = f"t-tests at {ALPHA:.0%}, corrected for all pairs"
    if not equivalent + undecided:
        return f"its lead is more than chance: all others are worse ({tests})"
    if others["p_adjusted"].isna().all():
        return "with one seed each, it can't be told whether its lead is more than chance"
    next_best = labels[others.loc[~others["separable"], "config_id"].iloc[0]]
    return (
        f"its lead may be chance: of {number} others, {equivalent} equivalent to it within the margin, "
        f"{undecided} undecided, {number - equivalent - undecided} worse; the next is {next_best} ({tests})"
    )


def print_next(console: Console, runs: pd.DataFrame, suite: str, scale: str, results: str) -> None:
    """Print the command that shows more: a report of what is done, or the log of the first run that failed.

    Parameters
    ----------
    console
        Console to print to.
    runs
        Rows of the table ``runs``.
    suite, scale, results
        As they were launched; the results folder as it was typed.
    """
    failed = runs.loc[runs["status"] == "failed", "run_id"]
    if (runs["status"] == "done").any():
        words = ["bench.report", "--suite", suite, "--scale", scale]
    elif len(failed):
        words = ["bench.logs", str(failed.iloc[0])]
    else:
        return
    say(console, f"next: {shlex.join(['python', '-m', *words, '--results', results])}")


def print_share(console: Console, computed: pd.DataFrame, seconds: float, workers: int) -> None:
    """Print the time that the runs took, and the share of it spent on training and evaluation.

    Parameters
    ----------
    console
        Console to print to.
    computed
        Rows of the runs that were computed.
    seconds
        Time that this took, in seconds.
    workers
        Number of processes.
    """
    spent = (computed["train_seconds"] + computed["evaluation_seconds"]).sum()
    by = "1 process" if workers == 1 else f"{workers} processes"
    share = f"{spent / (seconds * workers):.0%} of their time training and evaluation"
    say(console, f"{counted(len(computed), 'run')} in {duration(seconds)} by {by}, {share}")


def _cell(row: dict[Any, Any], column: str, factor: float, digits: int) -> str:
    mean, half_width = row[f"{column}_mean"] * factor, row[f"{column}_half_width"] * factor
    if math.isnan(mean):
        return "–"
    if column in _WITH_INTERVAL and not math.isnan(half_width):
        return f"{mean:.{digits}f} ± {half_width:.{digits}f}"
    return f"{mean:.{digits}f}"
