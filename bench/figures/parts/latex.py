"""Write texts and tables in LaTeX that compile with pdflatex and fit the width of the text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "·": r"$\cdot$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
    "×": r"$\times$", "–": "--", "—": "---", "−": "$-$", "…": r"\ldots{}", "≥": r"$\geq$", "≤": r"$\leq$",
    "<": "$<$", ">": "$>$", "|": "$|$", "→": r"$\rightarrow$", "←": r"$\leftarrow$", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$", "●": r"$\bullet$", "○": r"$\circ$", "▽": r"$\nabla$", "²": "$^2$",
    "†": r"$^\dagger$", "‡": r"$^\ddagger$", "√": r"$\surd$", "∞": r"$\infty$", "\u2060": "",
}  # fmt: skip
#: Rows of a table that fit on a page with its caption.
ROWS_OF_A_PAGE = 18


def escape(text: str) -> str:
    """Escape ``text`` so that LaTeX prints it literally; what pdflatex cannot print becomes its name."""
    return "".join(map(_printed, text))


def label(kind: str, text: str) -> str:
    """Return a label, made of ``text``, of the kind ``tab`` or ``fig``."""
    return rf"\label{{{kind}:{re.sub(r'[^a-z0-9]+', '-', text.lower()).strip('-')}}}"


def figure(file: str, caption: str, name: str) -> str:
    """Write the environment that includes the picture ``file``, as wide as its column if the page allows.

    Parameters
    ----------
    file
        Name of the file, without a folder.
    caption
        Text below the picture, unescaped.
    name
        What the label is made of.
    """
    lines = [
        r"% needs \usepackage{graphicx}",
        r"\begin{figure}",
        r"\centering",
        rf"\includegraphics[width=\linewidth,height=0.7\textheight,keepaspectratio]{{{file}}}",
        rf"\caption{{{escape(caption)}}}{label('fig', name)}",
        r"\end{figure}",
    ]
    return "\n".join([*lines, ""])


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str, name: str) -> str:
    """Write a table of texts; a wide one is made as narrow as the text, a long one is split into pages.

    Parameters
    ----------
    heads, rows
        Cells, unescaped.
    caption
        Text above the table, unescaped.
    name
        What the label is made of.
    """
    lines = [" & ".join(map(escape, row)) + r" \\" for row in rows]
    parts = [lines[start : start + ROWS_OF_A_PAGE] for start in range(0, len(lines), ROWS_OF_A_PAGE)]
    head = " & ".join(map(escape, heads)) + r" \\"
    pages = []
    for number, part in enumerate(parts or [[]]):
        told = r"\caption{(continued)}" if number else rf"\caption{{{escape(caption)}}}{label('tab', name)}"
        pages += [
            *(r"\begin{table}", r"\centering", told, r"\vspace{4pt}"),
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{@{{}}{'l' * len(heads)}@{{}}}}",
            *(r"\toprule", head, r"\midrule", *part, r"\bottomrule"),
            *(r"\end{tabular}}", r"\end{table}"),
        ]
    return "\n".join([r"% needs \usepackage{booktabs,graphicx}", *pages, ""])


def _printed(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii() or "LATIN" in (name := unicodedata.name(character, "")):
        return character
    if (greek := re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (\w+)", name)) is not None:
        small = greek[2].lower().replace("lamda", "lambda")
        # capitals that look like Latin ones have no command
        return rf"$\{small}$" if greek[1] == "SMALL" and small != "omicron" else small.capitalize()
    return f"({name.lower() or '?'})"
