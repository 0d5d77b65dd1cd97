"""Page Definitions: the columns, how intervals are computed, how FLOPs are counted, and known limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import streamlit as st

from bench.figures import SCORES, axes, within
from bench.results.styles import CRITERIA
from bench.results.tables.columns import definitions
from bench.statistics.multiple import ALPHA
from bench.statistics.seeds import LEVEL
from dashboard import data
from dashboard.filters import Selection
from dashboard.plain import plain

_CODE = re.compile(r"`([^`]*)`")
_BETTER = {"higher": "↑ higher is better", "lower": "↓ lower is better"}
#: Names of sections that define the values of a column, such as ``metrics.metric``.
_VALUES = re.compile(r"(\w+)\.(\w+)")
#: What a definition that is not about numbers has besides its words.
_BARE = {"unit": None, "better": None}
_COUNTED = ("train_flops", "train_flops_ratio", "inference_flops", "train_flops_rigl_ratio")


selection: Selection = st.session_state["selection"]


def _words(text: object) -> str:
    """Keep code in backticks as code, and escape the rest of ``text``."""
    pieces = _CODE.split(str(text))
    return "".join(f"`{piece}`" if number % 2 else plain(piece) for number, piece in enumerate(pieces))


def _methods() -> dict[str, Mapping[str, Any]]:
    """Return what the methods of the suite are, in the form of definitions of columns."""
    known = data.styles(selection.part)
    return {
        f"{style.get('label', name)} ({name})": {**_BARE, "definition": style.get("doc", "")}
        for name, style in known.items()
    }


def _criteria() -> dict[str, Mapping[str, Any]]:
    """Return what the removal criteria are, with their formulas and papers, in the same form."""
    return {
        name: {**_BARE, "definition": f"{style['formula']}. {style['doc']}", "source": style["source"]}
        for name, style in data.styles(selection.part, CRITERIA).items()
    }


def _heading(section: str) -> str:
    if section not in definitions():
        return section
    if match := _VALUES.fullmatch(section):
        return f"Values of {match[2]} in {match[1]}"
    return f"Table {section}"


def _entry(name: str, known: Mapping[str, Any]) -> str:
    parts = [known.get("type"), known["unit"], _BETTER.get(str(known["better"]))]
    facts = " · ".join(plain(part) for part in parts if part)
    source = f"  \nFrom {_words(known['source'])}." if known.get("source") else ""
    return f"**`{name}`** {facts}  \n{_words(known['definition'])}{source}"


def _has(name: str, known: Mapping[str, Any], wanted: list[str]) -> bool:
    text = " ".join(str(part) for part in (name, *known.values())).lower()
    return all(word in text for word in wanted)


st.title("Definitions", anchor=False)
find = st.text_input(
    "Find", key="definitions_find", bind="query-params", icon=":material/search:",
    placeholder="a method, a criterion, or words in a column's name, unit or definition",
)  # fmt: skip
wanted = (find or "").lower().split()
every: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "Methods": _methods(),
    "Removal criteria": _criteria(),
    **definitions(),
}
#: Metrics come first, since readers look for them most.
order = sorted(every, key=lambda section: "." not in section)
found = {
    section: {name: known for name, known in every[section].items() if _has(name, known, wanted)}
    for section in order
}
count = sum(map(len, found.values()))
if wanted:
    st.caption(f"{count} of {sum(map(len, every.values()))} definitions")
if not count:
    st.info("No definition has all of these words.", icon=":material/info:")
for section, entries in found.items():
    if not entries:
        continue
    with st.expander(
        f"{_heading(section)} ({len(entries)})",
        expanded=bool(wanted),
        key=f"definitions-{section}",
        on_change="rerun",
    ) as opened:
        if opened.open:
            if section == "runs" and not wanted:
                st.caption(
                    "One row per run and scale. The table also has a column `config.<key>` for each key of "
                    "the resolved configuration."
                )
            st.markdown("\n\n".join(_entry(name, known) for name, known in entries.items()))

if not wanted:
    margins = ", ".join(f"{axes()[score].name}{within(score)}" for score in SCORES)
    st.subheader("How are intervals computed?", anchor=False)
    st.markdown(
        f"""
- **Means** over seeds have the {LEVEL:.0%} **t-interval**: ± is its half width. A single seed has no
  interval, and curves have a band from three seeds on.
- **Differences** from a reference configuration are computed seed by seed and then averaged (**paired**),
  with the t-interval of the differences. p values are those of the paired t-test (Welch's t-test if two
  configurations share fewer than two seeds), adjusted by **Holm's** procedure for all comparisons made at
  once, or by **Shaffer's** for all pairs of a ranking.
- **Verdicts**: two configurations **differ** if the adjusted p is below {ALPHA:g}. They are **equivalent** if
  two one-sided t-tests show, at the same level, that the difference is smaller than the margin of the score
  ({margins}). Otherwise the seeds leave it **undecided**; the smallest difference that they would have shown
  is given.
- **Best**: a configuration may be the best unless another one is significantly better.
- **Ranks** range from 1 plus the number of configurations that are significantly better to the number of
  those that are not significantly worse.
- **Shares** of examples (accuracy in a bin of confidence) have the **Wilson** interval.
- Statistics that need more data are refused: the bootstrap and Wilcoxon's test below 10 values, critical
  differences below 5 data sets.

Seeds stand for the randomness of training: initial weights, subspace, order of examples and noise. Where
all seeds have the same test part, an interval says nothing about other examples. Where each seed draws its
own (`digits` with `dataset.split: per_seed`), test parts overlap, and all intervals and tests are corrected
for it: the variance of a mean over n seeds is s² (1/n + n_test/n_train) (Nadeau and Bengio 2003).
`runs.test_set` tells which of the two it is. No interval here covers other data sets.
"""
    )
    st.subheader("How are FLOPs counted?", anchor=False)
    st.markdown("\n\n".join(_entry(name, every["runs"][name]) for name in _COUNTED))
    st.subheader("What are the known limits?", anchor=False)
    st.markdown(
        """
- Scores of different scales (demo, small, reduced, paper), data sets or networks are not comparable, and no
  page averages over them.
- The best of many configurations, chosen by the scores that are shown, looks a little better than it would
  in a repetition.
- The ECE of a calibrated model is above 0 too: `ece_null` says how much is to be expected.
- Counted FLOPs are not time. Seconds of runs that shared a machine, or ran in different circumstances, are
  not comparable. Claims of speed come only from the suite `cost`.
- Validation scores during training are those of the mean network, not of averaged samples.
- A mark or row without a value belongs to a run that does not have it: a failed run, a method without the
  option, or a run that is not finished."""
    )
