"""Contrast of the dashboard's colours: WCAG AA asks for 4.5 : 1 of text and 3 : 1 of marks."""

from __future__ import annotations

import tomllib

import pytest

from bench.figures.beside import unknown
from bench.figures.criteria import settings_map
from bench.figures.parts import chart
from bench.reporting.collecting import criterion_styles, method_styles
from tests.dashboard_server import ROOT

THEMES = tomllib.loads((ROOT / "dashboard" / ".streamlit" / "config.toml").read_text())["theme"]
MODES = ("light", "dark")


def luminance(colour):
    shares = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_is_that_of_wcag():
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("mode", MODES)
def test_text_has_4_5_to_1_on_both_backgrounds_of_its_theme(mode):
    theme = THEMES[mode]
    assert theme["backgroundColor"] == chart.BACKGROUND[mode]
    for name in ("backgroundColor", "secondaryBackgroundColor"):
        for text in (chart.INK[mode], chart.SOFT[mode], theme["textColor"], theme["primaryColor"]):
            assert contrast(text, theme[name]) >= 4.5, (text, name)
    assert contrast(chart.INK[mode], chart.GRID[mode]) >= 4.5  # of chosen values
    for shades in (unknown._SHADES, [colour for _, colour in settings_map._SHADES]):
        assert all(contrast(chart.INK["light"], shade) >= 4.5 for shade in shades)


@pytest.mark.parametrize("mode", MODES)
def test_marks_have_3_to_1(mode):
    key = "hue" if mode == "light" else "hue_dark"
    own = [
        (name, style[key])
        for styles in (method_styles(), criterion_styles())
        for name, style in styles.items()
        if not name.startswith("test")
    ]
    plain = [("no style", chart._PLAIN[mode]), ("accent", chart.ACCENT[mode])]
    faint = {name: contrast(hue, chart.BACKGROUND[mode]) for name, hue in [*own, *plain]}
    assert {name: ratio for name, ratio in faint.items() if ratio < 3} == {}
