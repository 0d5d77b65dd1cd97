"""Start the dashboard: read the folders, show filters and a summary line, and draw the chosen page.

streamlit run dashboard/app.py -- --results DIR [--results ANOTHER]
"""

from __future__ import annotations

import streamlit as st

from bench.figures.parts.chart import GRID, INK, SOFT, Mode
from bench.results.files import StoreError, shell_path
from bench.results.words import counted
from dashboard import address, configuration, data, exposure, filters, live, marks
from dashboard.plain import plain

#: File, title and icon of each page.
PAGES = (
    ("overview", "Overview", "home"),
    ("questions", "Questions", "quiz"),
    ("claims", "Claims", "fact_check"),
    ("leaderboard", "Leaderboard", "leaderboard"),
    ("significance", "Significance", "compare_arrows"),
    ("tradeoff", "Trade-off", "balance"),
    ("criteria", "Criteria", "rule"),
    ("subspace", "Subspace", "scatter_plot"),
    ("calibration", "Calibration", "target"),
    ("uncertainty", "Uncertainty", "help"),
    ("cost", "Cost", "speed"),
    ("runs", "Runs", "list_alt"),
    ("definitions", "Definitions", "menu_book"),
)

#: Less air than Streamlit leaves, titles of 28 pixels, and minor text with a contrast of 4.5 : 1 and more.
_CSS = """<style>
[data-testid="stMainBlockContainer"] {{padding: 3.5rem 2.5rem 3rem}}
[data-testid="stMainBlockContainer"] h1 {{font-size: 28px; padding: 0.25rem 0}}
[data-testid="stMainBlockContainer"] h2, [data-testid="stMainBlockContainer"] h3 {{font-size: 20px}}
[data-testid="stSidebarHeader"] {{height: 2.5rem; padding-bottom: 0; margin-bottom: 0}}
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] p {{color: {minor}; opacity: 1}}
[data-testid="stMultiSelect"] [data-tag] {{background-color: {tag}}}
[data-testid="stMultiSelect"] [data-tag], [data-testid="stMultiSelect"] [data-tag] * {{color: {ink}}}
@media (max-width: 640px) {{[data-testid="stMainBlockContainer"] {{padding: 3.5rem 1rem 2rem}}}}
</style>"""


def main() -> None:
    """Draw the chosen page."""
    st.set_page_config(page_title="ssvi-bench", page_icon="📉", layout="wide")
    if (refusal := exposure.refusal()) is not None:
        st.error(refusal, icon=":material/error:")
        return
    pages = [
        st.Page(
            f"views/{file}.py",
            title=title,
            icon=f":material/{icon}:",
            url_path="home" if number == 0 else file,
            default=number == 0,
        )
        for number, (file, title, icon) in enumerate(PAGES)
    ]
    # the first page is at /, whatever its path: its own name would not be found
    first, title, _ = PAGES[0]
    also = st.Page(f"views/{first}.py", title=title, url_path=first, visibility="hidden")
    page = st.navigation([*pages, also], expanded=True)
    data.begin()
    address.begin()
    try:
        where = data.folders()
    except StoreError as error:
        st.title("Unknown command line option", anchor=False)
        st.error(plain(error), icon=":material/error:")
        return
    parts, faults = data.parts(where)
    for fault in faults:
        st.error(plain(fault), icon=":material/error:")
    if not parts:
        folder = plain(", ".join(where))
        st.title("Nothing to show yet", anchor=False)
        if faults:
            st.markdown(f"There is no readable suite in {folder}.")
            return
        st.markdown(f"There is no suite in {folder}. This computes one in a few minutes:")
        into = f" --results {shell_path(where[0])}" if where != data.USUAL else ""
        st.code(f"python -m bench.grid --suite criteria_ablation{into}", language="bash")
        return
    mode: Mode = "dark" if st.context.theme.type == "dark" else "light"
    st.html(_CSS.format(minor=SOFT[mode], ink=INK[mode], tag=GRID[mode]))
    selection, fault = filters.choose(parts, mode)
    if selection is None:
        # a grid that has just begun has no tables yet, but its progress can be shown
        part = next(part for part in parts if part.name == st.session_state["suite"])
        st.title(plain(part.name), anchor=False)
        if data.is_new(part):
            live.panel(part)
        else:
            st.error(plain(fault), icon=":material/error:")
        return
    st.session_state["selection"] = selection
    _line(where, selection)
    for note in address.notes():
        st.info(plain(note), icon=":material/info:")
    page.run()
    configuration.show(selection)
    marks.listen()


def _line(where: tuple[str, ...], selection: filters.Selection) -> None:
    """Show one line about the selected runs: their numbers, date, commit and folders."""
    found = filters.described(selection.runs)
    parts = [
        f"{counted(found['runs'], 'run')} done", f"{found['open']:,} open", f"{found['failed']:,} failed",
        counted(found["methods"], "method"), found["seeds"], f"data of {found['date']}",
    ]  # fmt: skip
    commits = [commit[:7] + ("+" if "+" in commit else "") for commit in found["commits"]]
    parts.append(f"commit {', '.join(commits)}" if len(commits) < 4 else f"{len(commits)} commits")
    st.caption(plain(" · ".join([*parts, ", ".join(map(data.shown, where))])))


main()
