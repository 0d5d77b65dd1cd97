"""How removal criteria are shown: the same colour, marker and dash in every chart that tells them apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.figures.parts.chart import Look


@dataclass(frozen=True)
class CriterionStyle:
    """Colours by mode, plotly marker and dash, and what the criterion is, in words."""

    light: str
    dark: str
    marker: str
    dash: str
    words: str = ""

    def colour(self, look: Look) -> str:
        """The colour in the mode of ``look``."""
        return self.dark if look.mode == "dark" else self.light


#: By name, in the order that all charts have. The magnitude, what others are compared with, is in ink.
_STYLES = {
    "abs_mean": CriterionStyle("#3A3A3A", "#E0E0E0", "square", "solid", "|mean|: the magnitude"),
    "snr": CriterionStyle("#414AAF", "#5B86E8", "circle", "dash", "|mean| / std: the signal-to-noise ratio"),
    "mean_abs": CriterionStyle("#2B9F58", "#19A549", "diamond", "dot", "E|w|: the expected magnitude"),
    "snr_abs": CriterionStyle("#918CDA", "#00D6FF", "cross", "dashdot", "E|w| / sd|w|: ranks exactly as snr"),
    "mean_exp": CriterionStyle("#A19301", "#F2CF00", "triangle-up", "longdash", "E exp(lambda |w|)"),
    "snr_exp": CriterionStyle(
        "#B83280", "#E73590", "pentagon", "longdashdot", "E exp(lambda |w|) / sd exp(lambda |w|)"
    ),
}
#: Of one that nobody gave looks: plain grey, and every time the same.
_PLAIN = CriterionStyle("#6E7781", "#9BA4AE", "circle-open", "dot")


def criterion_style(name: str) -> CriterionStyle:
    """The looks of a criterion."""
    return _STYLES.get(name, _PLAIN)


def ordered_criteria(names: Iterable[str]) -> list[str]:
    """``names``, each once, in the order in which all charts have them; unknown ones last, by name."""
    places = {name: place for place, name in enumerate(_STYLES)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))
