"""Draw charts of results from data frames with plotly. No Streamlit, no torch, no methods.

The title of every chart is the question that it answers. A chart holds its data, how they were computed, and
a description in words, so that a dashboard page, a report and a file all show the same. Colours and markers
of methods are those in the ``attrs`` of tables from ``bench.tables``, unless a ``Look`` is given. In a
notebook, show the attribute ``figure`` of a chart.
"""

from bench.figures.beside.shifted import (
    EVERY_SHIFT,
    SHIFTED,
    corruption_error,
    over_shifts,
    scaled_under_shift,
    severity,
    shifts,
)
from bench.figures.beside.unknown import (
    DETECTORS,
    auroc_axis,
    by_split,
    detection_by_set,
    foreign_splits,
    matrix,
)
from bench.figures.calibration import BINS, SCALED, reliability, scaling
from bench.figures.cost import COUNTED, MEASURED, costs, not_comparable, speed, stored
from bench.figures.course.convergence import convergence
from bench.figures.course.dimension import dimension
from bench.figures.course.settling import settled, settling, worth
from bench.figures.course.updates import updates
from bench.figures.criteria.paired import criteria
from bench.figures.criteria.removed_sets import (
    MOMENTS,
    coincidences,
    few_at_the_end,
    overlap_in_time,
    overlap_map,
)
from bench.figures.criteria.settings_map import BESIDE, beside_criteria, settings_map
from bench.figures.criteria.weight_scores import weight_scores
from bench.figures.criteria.words import aliases, same_results, verdicts
from bench.figures.leaderboard import grouped, latex, leaderboard, shown
from bench.figures.overview import MOST_ROWS, coverage, forest
from bench.figures.parts.axes import COSTS, axes, ranked_by
from bench.figures.parts.chart import Chart, Look, Missing, interval, signed
from bench.figures.parts.configurations import MOST_CHOSEN, one_a_method
from bench.figures.parts.varied import setting_name, varied
from bench.figures.parts.verdicts import said, tally, within
from bench.figures.posterior import GAINS, posterior_gain, scored_by
from bench.figures.questions.answer import Answer
from bench.figures.questions.answers import answers
from bench.figures.questions.headlines import headlines
from bench.figures.questions.networks import layer_types, rank_map
from bench.figures.questions.pairs import matrix_of_pairs, seed_differences, verdict
from bench.figures.questions.responses import responses
from bench.figures.questions.selection import examples_needed, finding, recovery
from bench.figures.runs import AGAINST, MOST_RUNS, differing, recorded, run_curves, seed_curves, settings
from bench.figures.significance import compare, middle, ranks
from bench.figures.standings import compared, standings
from bench.figures.subspace import (
    MOST_CONFIGURATIONS,
    MOVES,
    MOVES_EXPLAINED,
    NO_FINAL,
    default_choice,
    layer_map,
    moves,
    subspace,
)
from bench.figures.tradeoff import at_compression, tradeoff
from bench.figures.uncertainty import (
    DETECTION,
    UNCERTAINTIES,
    detection,
    risk_coverage,
    separation,
    tells_errors,
)
from bench.results.tables.columns import PREDICTORS, SCORES
from bench.statistics.seeds import MOST_COMPARED

__all__ = [
    "AGAINST",
    "BESIDE",
    "BINS",
    "COSTS",
    "COUNTED",
    "DETECTION",
    "DETECTORS",
    "EVERY_SHIFT",
    "GAINS",
    "MEASURED",
    "MOMENTS",
    "MOST_CHOSEN",
    "MOST_COMPARED",
    "MOST_CONFIGURATIONS",
    "MOST_ROWS",
    "MOST_RUNS",
    "MOVES",
    "MOVES_EXPLAINED",
    "NO_FINAL",
    "PREDICTORS",
    "SCALED",
    "SCORES",
    "SHIFTED",
    "UNCERTAINTIES",
    "Answer",
    "Chart",
    "Look",
    "Missing",
    "aliases",
    "answers",
    "at_compression",
    "auroc_axis",
    "axes",
    "beside_criteria",
    "by_split",
    "coincidences",
    "compare",
    "compared",
    "convergence",
    "corruption_error",
    "costs",
    "coverage",
    "criteria",
    "default_choice",
    "detection",
    "detection_by_set",
    "differing",
    "dimension",
    "examples_needed",
    "few_at_the_end",
    "finding",
    "foreign_splits",
    "forest",
    "grouped",
    "headlines",
    "interval",
    "latex",
    "layer_map",
    "layer_types",
    "leaderboard",
    "matrix",
    "matrix_of_pairs",
    "middle",
    "moves",
    "not_comparable",
    "one_a_method",
    "over_shifts",
    "overlap_in_time",
    "overlap_map",
    "posterior_gain",
    "rank_map",
    "ranked_by",
    "ranks",
    "recorded",
    "recovery",
    "reliability",
    "responses",
    "risk_coverage",
    "run_curves",
    "said",
    "same_results",
    "scaled_under_shift",
    "scaling",
    "scored_by",
    "seed_curves",
    "seed_differences",
    "separation",
    "setting_name",
    "settings",
    "settings_map",
    "settled",
    "settling",
    "severity",
    "shifts",
    "shown",
    "signed",
    "speed",
    "standings",
    "stored",
    "subspace",
    "tally",
    "tells_errors",
    "tradeoff",
    "updates",
    "varied",
    "verdict",
    "verdicts",
    "weight_scores",
    "within",
    "worth",
]
