"""Charts and tables for papers: light whatever the screen, with captions, as files that LaTeX takes."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest

from bench.figures import printing, tradeoff
from bench.figures.parts import latex
from bench.figures.parts.chart import INK, SOFT
from tests.figure_data import LOOK, runs
from tests.latex import compile_fitting

DARK = replace(LOOK, mode="dark")
WORDS = "given · demo · digits · mlp · 2 methods"
#: What labels and captions may hold.
ODD = "a_b & 95 % · #1 ± 2 × λ, κ ≥ Δ → ↑ ● ○ ▽ {x} $y$ \\z ~^ é 中 <b> |"


@pytest.fixture
def table():
    cells = {"accuracy": [0.92, 0.94, 0.93], "nll": 0.5, "compression_vs_dense_vi": 10.0}
    return runs({"sparsity": 0.9, **cells}, {"method": "dense_vi", **cells, "compression_vs_dense_vi": 1.0})


@pytest.fixture
def make(table):
    return lambda look: tradeoff(table, "compression_vs_dense_vi", "accuracy", look)


@pytest.mark.parametrize("width", printing.WIDTHS)
def test_a_figure_is_light_and_as_wide_as_a_column_whatever_the_screen(make, width):
    printed = printing.printed(make, DARK, WORDS, width).figure
    assert printed == printing.printed(make, LOOK, WORDS, width).figure
    text = json.dumps(printed.to_plotly_json(), default=str)
    assert INK["light"] in text and INK["dark"] not in text and SOFT["dark"] not in text
    assert printed.layout.width == printing.WIDTHS[width] and printed.layout.paper_bgcolor == "white"
    # the plot is as high as on the screen
    screen = make(LOOK).figure.layout
    assert printed.layout.height - printed.layout.margin.t == screen.height - screen.margin.t


def test_title_and_caption_tell_filters_seeds_and_what_whiskers_are(make):
    layout = printing.printed(make, DARK, WORDS).figure.layout
    title, told = (part.text.replace("<br>", " ") for part in (layout.title, layout.title.subtitle))
    assert title == "<b>What accuracy does each compression buy?</b>"
    assert told.startswith(f"{WORDS}. n = 3 seeds. ") and "whiskers are the 95 % t-interval" in told
    assert "tooltip" not in told and "**" not in told


def test_numbers_of_seeds_that_differ_are_a_range(make):
    chart = make(LOOK)
    data = chart.data.assign(accuracy_n=[1, 3], nll_n=0)
    assert "n = 1 to 3 seeds." in printing.caption(replace(chart, data=data), WORDS)
    assert "n =" not in printing.caption(replace(chart, data=pd.DataFrame({"x": [1]})), WORDS)


def test_a_table_escapes_what_is_special_and_says_what_is_missing():
    text = printing.table_latex(
        pd.DataFrame({"a_b": ["ssvi_x", None], "n": [0.123456, 3]}), "By 5 %", "± is σ"
    )
    assert r"a\_b & n \\" in text and r"ssvi\_x & 0.1235 \\" in text and r"-- & 3 \\" in text
    assert r"\caption{By 5 \%. $\pm$ is $\sigma$}\label{tab:by-5}" in text


@pytest.mark.slow
def test_figures_and_tables_compile_and_fit_the_text(make, tmp_path):
    pytest.importorskip("kaleido")
    if why := printing.why_no_converter():
        pytest.skip(why)
    chart = printing.printed(make, DARK, ODD, "column")
    starts = {"svg": b"<svg", "pdf": b"%PDF", "png": b"\x89PNG"}
    for kind, start in starts.items():
        found = printing.picture(chart.figure, kind)
        assert found.startswith(start)
        (tmp_path / f"f.{kind}").write_bytes(found)
    wide = pd.DataFrame({f"{ODD} {number}": [ODD] * 40 for number in range(8)})
    body = printing.figure_latex(chart, ODD, "f.pdf") + printing.table_latex(wide, ODD, ODD)
    compile_fitting(body, "booktabs,graphicx", tmp_path)


def test_what_converts_pictures_is_said_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(printing, "find_spec", lambda name: None)
    assert "pip install kaleido" in printing.why_no_converter()


def test_letters_that_pdflatex_cannot_print_become_their_names():
    assert latex.escape("λ Α Δ 中") == r"$\lambda$ Alpha Delta (cjk unified ideograph-4e2d)"
