"""Page Claims: what the paper claims, and what our nearest setting shows of each claim."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from bench.figures.paper.claims import Examined, examine, reported, settings
from bench.figures.paper.judges import JUDGES
from bench.figures.paper.setting import Setting
from bench.results.files import StoreError
from bench.results.words import counted
from dashboard import data, show
from dashboard.data import Part
from dashboard.plain import plain, restrained


def _found() -> list[Examined]:
    """Judge every claim in all results that are here."""
    suites = {suite for _, tested in JUDGES.values() for suite in tested}
    tables: dict[Part, pd.DataFrame] = {}
    for part in data.parts(data.folders())[0]:
        if part.suite in suites:
            try:
                tables[part] = data.table(part, "runs")
            except StoreError as error:
                st.info(plain(error), icon=":material/info:")
    claims = reported(data.REPORTED)

    def make() -> list[Examined]:
        found: list[Setting] = []
        for part, runs in tables.items():
            found += settings(part.suite, part.scale, runs, data.references(part))
        return examine(claims, found)

    return data.kept("claims", list(tables), make, claims)


st.title("Claims", anchor=False)
st.markdown(
    "What the paper on SSVI claims, and what the results that are here show of it, in the setting that is "
    "nearest to the paper's. A verdict is about that setting alone. Differences are paired by seed; ± is the "
    "half width of the 95 % t-interval. The same sentences are in docs/findings.md for the reference results."
)
with show.forgiving():
    examined = _found()
    if not any(each.outcomes for each in examined):
        st.info("No finished run that is here tests any of these claims.", icon=":material/info:")
    for number, each in enumerate(examined):
        st.subheader(plain(each.claim.statement), anchor=False)
        st.markdown(f"**{plain(each.verdict)}**")
        st.markdown("\n".join(f"- {restrained(line)}" for line in each.sentences))
        table = each.table().replace("`", "", regex=True)  # code is marked in text alone
        if len(table):
            with st.expander(f"{counted(len(table), 'setting')}, the nearest first", key=f"claim-{number}"):
                st.dataframe(
                    table, hide_index=True, key=f"claim-{number}-data", alt=f"Settings of: {each.claim.claim}"
                )
