"""Hold the answer to a question: sentences, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Answer:
    """A question with the sentences that answer it.

    Parameters
    ----------
    question
        The question; empty for the suite's own, which its plan has.
    sentences
        What the results say, as plain text.
    how
        How it was computed; empty if the sentences say it.
    table
        Every number behind the sentences; None if another part of a report has it.
    """

    question: str
    sentences: Sequence[str]
    how: str = ""
    table: pd.DataFrame | None = None
