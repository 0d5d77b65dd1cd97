"""Write a report, a list of sections, as Markdown, LaTeX and one HTML page."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.results.files import StoreError, printable, write_bytes

if TYPE_CHECKING:  # pandas and plotly take a second to import
    import pandas as pd

    from bench.figures import Chart


#: Characters that are markup in Markdown, except underscores within words, which labels often have.
_LIVELY = re.compile(r"([\\*\[\]>!~$`]|(?<!\w)_|_(?!\w))")


#: Comments at the head of the LaTeX tables.
_LATEX_HEAD = (
    r"needs \usepackage{booktabs,tabularx}",
    "best: bold; a dagger: equivalent to the best; a double dagger: undecided",
    "compr.: how many times smaller than that of dense VI the stored model is",
    "FLOPs: of training, as a share of those of dense VI",
)
_STYLE = """
body { font: 16px/1.5 "Segoe UI", Helvetica, Arial, sans-serif; color: #1F2328; margin: 2rem auto;
  max-width: 72rem; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #E3E6EA; text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid #57606A; }
pre, code { background: #F4F5F7; padding: .1rem .3rem; white-space: pre-wrap; }
details { margin: .5rem 0 2rem; }
figure { margin: 1rem 0; }
"""


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Parameters
    ----------
    title
        Heading.
    words
        Paragraphs.
    table
        Table with its column heads.
    chart
        Figure; it is shown on the HTML page only.
    latex
        Table for a paper, as LaTeX.
    """

    title: str
    words: Sequence[str] = ()
    table: pd.DataFrame | None = None
    chart: Chart | None = None
    latex: str = ""

    def markdown(self) -> str:
        """Return words and table as Markdown, without the heading."""
        lines = [line for words in self.words for line in (_markdown(words), "")]
        return "\n".join(lines if self.table is None else [*lines, _markdown_table(self.table), ""])


@dataclass(frozen=True)
class Report:
    """A title and sections, in order."""

    title: str
    sections: list[Section] = field(default_factory=list)

    def write(self, folder: Path) -> list[str]:
        """Write the report in its three forms; returns the names of the files.

        Raises ``StoreError`` where ``folder`` can't be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write {folder}: {error.strerror or error}") from None
        texts = {"report.md": self.markdown(), "report.tex": self.latex(), "report.html": self.page()}
        for name, text in texts.items():
            write_bytes(folder / name, text.encode())
        return list(texts)

    def markdown(self) -> str:
        """Return the report as Markdown, without its figures."""
        lines = [f"# {_markdown(self.title)}", ""]
        for section in self.sections:
            if section.chart is None or section.table is not None:
                lines += [f"## {_markdown(section.title)}", "", section.markdown()]
        return "\n".join(lines)

    def latex(self) -> str:
        """Return the tables of the report for a paper, as LaTeX."""
        head = "".join(f"% {line}\n" for line in _LATEX_HEAD)
        return head + "\n" + "\n".join(section.latex for section in self.sections if section.latex)

    def page(self) -> str:
        """Return the report as one HTML page that loads no other file."""
        import plotly.io
        from plotly.offline import get_plotlyjs

        parts = [f"<h1>{html.escape(self.title)}</h1>"]
        for number, section in enumerate(self.sections):
            parts.append(f"<h2>{html.escape(section.title)}</h2>")
            parts += [_paragraph(words) for words in section.words]
            if section.table is not None:
                parts.append(_html_table(section.table))
            if section.chart is not None:
                drawn = plotly.io.to_html(
                    section.chart.figure, include_plotlyjs=False, full_html=False, div_id=f"figure-{number}",
                    config={"displaylogo": False, "responsive": True},
                )  # fmt: skip
                alt = html.escape(section.chart.alt, quote=True)
                parts.append(f'<figure role="img" aria-label="{alt}">{drawn}</figure>')
                how = "".join(_paragraph(part) for part in section.chart.how.replace("**", "").split("\n\n"))
                parts.append(f"<details><summary>How it was computed</summary>{how}</details>")
        title = html.escape(self.title)
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head><body>"
            + "\n".join(parts)
            + "</body></html>\n"
        )


def _markdown_table(table: pd.DataFrame) -> str:
    def cell(value: object) -> str:
        return _markdown(str(value)).replace("|", "\\|")

    heads = [cell(head) for head in table]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    lines += [f"| {' | '.join(map(cell, row))} |" for row in table.itertuples(index=False)]
    return "\n".join(lines)


def _markdown(words: str) -> str:
    """Escape all markup in ``words`` except code between backticks, since results are data."""
    parts = printable(words).split("`")
    safe = [part if number % 2 else _LIVELY.sub(r"\\\1", part) for number, part in enumerate(parts)]
    return "`".join(safe).replace("<", "&lt;") if len(parts) % 2 else _LIVELY.sub(r"\\\1", printable(words))


def _html_table(table: pd.DataFrame) -> str:
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>"
        for row in table.itertuples(index=False)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _paragraph(words: str) -> str:
    """Make an HTML paragraph; code between backticks is the only markup."""
    parts = html.escape(words).split("`")
    marked = "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
    return f"<p>{marked}</p>"
