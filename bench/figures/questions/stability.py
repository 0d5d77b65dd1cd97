"""Draw and tell whether runs of a configuration use the same features most, and which these are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.chart import Chart, Look, Missing, escaped, interval
from bench.figures.parts.configurations import MOST_CHOSEN, one_a_method, short_names, whose
from bench.figures.parts.last_stage import finished
from bench.figures.questions.selection import most_examples
from bench.results.words import counted
from bench.statistics.subspaces import Stability, stability

#: Number k of inputs of each run that are compared, those with the strongest weights.
STRONGEST = 10
#: Number of features that a chart, and a sentence, names.
_DRAWN, _TOLD = 15, 5
_ROW, _REST = 44, 110


@dataclass(frozen=True)
class _Selection:
    """Hold what the runs of a configuration use most.

    Parameters
    ----------
    row
        The description of the configuration in ``runs``.
    sets
        Positions of the strongest inputs of each run.
    inputs
        Number of inputs.
    """

    row: Mapping[Hashable, object]
    sets: list[list[int]]
    inputs: int

    @property
    def index(self) -> Stability:
        """Return Kuncheva's index of the sets."""
        return stability(self.sets, self.inputs)

    @property
    def often(self) -> Counter[int]:
        """Return in how many runs each input is among the strongest."""
        return Counter(place for each in self.sets for place in each)


def stable(
    runs: pd.DataFrame,
    metrics: pd.DataFrame,
    features: pd.DataFrame,
    references: Mapping[str, str],
    look: Look | None = None,
) -> Chart:
    """Draw how much the inputs with the strongest weights agree over the runs of each method.

    Parameters
    ----------
    runs, metrics, features
        The tables of these names, of one suite, scale, data set and network.
    references
        ``config_id`` of configurations that others are compared with; these are drawn rather than others.
    look
        Colours and markers.

    Raises
    ------
    Missing
        No two runs of a configuration recorded which inputs they use.
    """
    look = look or Look.of(runs)
    found = _selections(runs, metrics, features, references, look)
    each = [(one, one.index) for one in found]
    data = pd.DataFrame(
        [
            {**one.row, "k": STRONGEST, "inputs": one.inputs, "index": index.mean,
             "half_width": index.half_width, "n": len(one.sets)}
            for one, index in each
        ]
    )  # fmt: skip
    short = short_names(data, look)
    colours = [look.colour(str(method)) for method in data["method"]]
    figure = look.figure(height=_ROW * len(data) + _REST, legend=False)
    figure.add_trace(
        go.Scatter(
            x=data["index"].round(4).tolist(), y=[short[str(config)] for config in data["config_id"]],
            mode="markers", meta=whose(data),
            marker={"symbol": [look.marker(str(m)) for m in data["method"]], "size": 11, "color": colours},
            error_x={
                "type": "data", "array": data["half_width"].fillna(0).round(4).tolist(), "color": look.soft,
            },
            customdata=[
                [escaped(look.configuration(label)), interval(index, half, 2), int(n)]
                for label, index, half, n in zip(
                    data["config_label"], data["index"], data["half_width"], data["n"], strict=True
                )
            ],
            hovertemplate=(
                "<b>%{customdata[0]}</b><br>Kuncheva index %{customdata[1]}<br>n = %{customdata[2]} runs"
                "<extra></extra>"
            ),
        )
    )  # fmt: skip
    figure.add_vline(x=0, line={"color": look.soft, "dash": "dot"})
    figure.update_xaxes(title_text=f"Kuncheva index of the {STRONGEST} strongest inputs", range=[-0.15, 1.05])
    figure.update_yaxes(autorange="reversed")
    return Chart(
        title="Are the same features selected in each run?",
        figure=figure,
        data=data,
        how=(
            f"The {STRONGEST} inputs whose weights in the first layer have the largest norm, compared "
            f"between every two runs of a configuration ({data['inputs'].max():,} inputs): 1 if they are "
            "the same, 0 (dotted) if they have in common what random ones have (Kuncheva 2007). Mean "
            "over pairs and 95 % jackknife interval over runs. Folds of a cross-validation share most of "
            "their training rows, so that what follows the data is more alike than it would be on new "
            "examples. Of each method one configuration is drawn, the one that others are compared with "
            "where there is one."
        ),
        alt=" ".join(_told(found, look)),
    )


def selected(
    runs: pd.DataFrame,
    metrics: pd.DataFrame,
    features: pd.DataFrame,
    references: Mapping[str, str],
    look: Look | None = None,
) -> Chart:
    """Draw which inputs are most often among the strongest, by method.

    Arguments and errors are those of ``stable``.
    """
    look = look or Look.of(runs)
    found, names = _selections(runs, metrics, features, references, look), _names(features)
    shares: defaultdict[int, float] = defaultdict(float)
    for one in found:
        for place, count in one.often.items():
            shares[place] += count / len(one.sets)
    places = sorted(shares, key=lambda place: (-shares[place], place))[:_DRAWN]
    data = pd.DataFrame(
        [
            {**one.row, "input": place, "name": _name(place, names), "runs": one.often[place],
             "n": len(one.sets), "share": one.often[place] / len(one.sets)}
            for one in found for place in places
        ]
    )  # fmt: skip
    short = short_names(data, look)
    figure = look.figure(height=26 * len(places) + 190, legend=False)
    figure.add_trace(
        go.Heatmap(
            x=[short[str(config)] for config in data["config_id"]],
            y=[escaped(name) for name in data["name"]],
            z=data["share"].round(3).tolist(), zmin=0, zmax=1, xgap=2, ygap=2,
            colorscale=[[0, "rgba(0,0,0,0)"], [1, look.accent]],
            text=[
                f"{count} of {n}" if count else ""
                for count, n in zip(data["runs"].tolist(), data["n"].tolist(), strict=True)
            ],
            texttemplate="%{text}", showscale=False,
            hovertemplate="<b>%{y}</b><br>%{x}<br>among the strongest in %{z:.0%} of runs<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(showgrid=False, tickangle=30)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return Chart(
        title="Which features are selected most often?",
        figure=figure,
        data=data,
        how=(
            f"In how many runs of a configuration an input is among the {STRONGEST} whose weights in the "
            f"first layer have the largest norm. The {len(places)} inputs that are so most often, by the "
            "mean of these shares over the configurations drawn. An input without a name in the data is "
            "told by its position, from 0."
        ),
        alt=_often(found[0], names, look),
    )


def stable_words(
    runs: pd.DataFrame,
    metrics: pd.DataFrame,
    features: pd.DataFrame,
    references: Mapping[str, str],
    look: Look,
) -> list[str]:
    """Tell how stable the strongest inputs are, and which the first method uses most often.

    Arguments and errors are those of ``stable``. The first configuration is the one that others are compared
    with, where there is one.
    """
    found = _selections(runs, metrics, features, references, look)
    first = next((one for one in found if one.row["config_id"] in set(references.values())), found[0])
    return [*_told(found, look), _often(first, _names(features), look)]


def _told(found: list[_Selection], look: Look) -> list[str]:
    each = [(look.name(str(one.row["method"])), one.index) for one in found]
    number = min(len(one.sets) for one in found)
    return [
        f"Stability over runs of the {STRONGEST} strongest of {found[0].inputs:,} inputs (Kuncheva index: 1 "
        "the same each time, 0 chance; ± 95 % jackknife interval): "
        f"{', '.join(f'{name} {interval(*index, 2)}' for name, index in each)} "
        f"(n = {counted(number, 'run')})."
    ]


def _often(one: _Selection, names: Mapping[int, str], look: Look) -> str:
    places = sorted(one.often, key=lambda place: (-one.often[place], place))[:_TOLD]
    told = [f"{_name(place, names)} ({one.often[place]} of {len(one.sets)})" for place in places]
    method = look.name(str(one.row["method"]))
    return f"Most often among the {STRONGEST} strongest inputs of {method}: {', '.join(told)}."


def _selections(
    runs: pd.DataFrame,
    metrics: pd.DataFrame,
    features: pd.DataFrame,
    references: Mapping[str, str],
    look: Look,
) -> list[_Selection]:
    """Return the strongest inputs of one configuration of each method, in the order of methods."""
    sizes = metrics[metrics["metric"].astype(str) == "inputs_used"].drop_duplicates("run_id", keep="last")
    inputs = dict(zip(sizes["run_id"].astype(str), sizes["n"].astype(int), strict=True))
    done = finished(runs)
    rows = features.astype({"run_id": str, "stage": str})
    rows = rows[rows["run_id"].map(dict(zip(done["run_id"], done["stage"], strict=True))) == rows["stage"]]
    rows = rows[rows["rank"] <= STRONGEST].drop_duplicates(["run_id", "rank"])
    sets = {run: mine["input"].astype(int).tolist() for run, mine in rows.groupby("run_id", sort=False)}
    # where all inputs are taken there is no choice
    known = done["run_id"].map(lambda run: run in sets and inputs.get(run, 0) > STRONGEST)
    table = done[known.astype(bool)]
    repeated = table.groupby("config_id", observed=True)["run_id"].transform("size") > 1
    table = most_examples(table[repeated])
    found = []
    for config_id in one_a_method(table, look, references.values(), most=MOST_CHOSEN + 2):
        mine = table[table["config_id"] == config_id]
        ids = mine["run_id"].tolist()
        row = mine[["config_id", "config_label", "method", "sparsity"]].iloc[0].to_dict()
        found.append(_Selection(row, [sets[run] for run in ids], inputs[ids[0]]))
    if not found:
        raise Missing(
            "No two runs of a configuration here recorded which inputs they use; runs of this version on "
            "tables do: python -m bench.grid --suite high_dimensional"
        )
    return found


def _names(features: pd.DataFrame) -> dict[int, str]:
    known = features.dropna(subset=["name"]).drop_duplicates("input")
    return dict(zip(known["input"].astype(int), known["name"].astype(str), strict=True))


def _name(place: int, names: Mapping[int, str]) -> str:
    """Return the name of an input; names may repeat, as of a gene that is measured twice."""
    twice = list(names.values()).count(names[place]) > 1 if place in names else False
    if place not in names:
        return f"input {place}"
    return f"{names[place]} [{place}]" if twice else names[place]
