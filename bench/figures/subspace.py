"""Draw how the sparse subspace moves: how much an update replaces, and how much of the beginning is left."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.bands import FEWEST, MOST_POINTS, in_bins, over_seeds
from bench.figures.parts.chart import BACKGROUND, Chart, Look, Missing, escaped, translucent
from bench.figures.parts.configurations import short_names, whose

#: Quantities of an update, with names for readers.
MOVES = {
    "turnover": "turnover",
    "iou_previous": "IoU to the previous",
    "iou_initial": "IoU to the initial",
    "returns": "share that comes back",
    "age": "median age (steps)",
}
#: Greatest number of configurations in one picture.
MOST_CONFIGURATIONS = 7
#: Greatest number of columns of a heat map; if there are more updates, neighbouring ones are averaged.
_MOST_COLUMNS = 60
#: Shades for configurations of one hue: how far their colour is mixed with that of text or the background.
_SHADES = ((0.0, "ink"), (0.6, "ink"), (0.36, "background"), (0.35, "ink"))
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "triangle-down")
MOVES_EXPLAINED = {
    "turnover": (
        "**Turnover**: of the weights that are active after an update, the share that was not active before "
        "it. It falls with the schedule of the method (the number that may be replaced shrinks, and updates "
        "end before training does), and when weights chosen for removal win their place back."
    ),
    "iou_previous": (
        "**IoU to the previous**: intersection over union of the active sets before and after an update. At "
        "1 nothing moved. With a constant number of active weights it is (1 − t) / (1 + t) for a turnover t."
    ),
    "iou_initial": (
        "**IoU to the initial**: intersection over union of the active sets at the start of the stage and "
        "after an update. On a plateau, updates replace only weights that were added later; at 0, nothing "
        "is left of the initial set."
    ),
    "returns": (
        "**Share that comes back**: of the weights added at an update, the share that an earlier update had "
        "removed. Each layer remembers as many removed weights as it has active ones. Near 1, updates move "
        "the same weights out and in."
    ),
    "age": (
        "**Median age**: steps since half of the active weights became active, the mean of the layers' "
        "medians by their active weights. A subspace at rest ages by one step a step."
    ),
}
_QUESTIONS = {
    "turnover": "How much of the subspace does an update replace?",
    "iou_previous": "How much of the subspace does an update leave in place?",
    "iou_initial": "How much of the initial subspace is left?",
    "returns": "Do updates bring back weights that were removed before?",
    "age": "How long have active weights been active?",
}
_MAP_QUESTIONS = {
    "turnover": "In which layers is most replaced, and when?",
    "iou_previous": "In which layers does the subspace come to rest, and when?",
    "iou_initial": "In which layers is the initial subspace kept?",
    "returns": "In which layers do removed weights come back?",
    "age": "In which layers do weights stay?",
}
#: Says where an overlap is that readers may look for here.
NO_FINAL = (
    "The IoU to the final subspace is known when training ends. Runs record it for some updates, for "
    "all layers together, as the metric `iou_final` of the table history."
)


def moves(layers: pd.DataFrame, layer: str | None = None) -> pd.DataFrame:
    """Compute turnover and overlaps of every run and update.

    For all layers, the active weights of the whole network are one set: its overlaps follow from the counts
    of the layers.

    Parameters
    ----------
    layers
        Rows of the table ``layers``.
    layer
        Name of a layer; None for all layers as one set.

    Returns
    -------
    pandas.DataFrame
        One row for each run and update: ``run_id``, ``stage``, ``step``, ``epoch``, ``slots`` (active
        weights), and ``MOVES``; ``returns`` and ``age`` are NaN for runs of earlier versions, and ``returns``
        for updates that add nothing.

    Raises
    ------
    Missing
        There are no rows.
    """
    rows = layers if layer is None else layers[layers["layer"].astype(str) == layer]
    if rows.empty:
        raise Missing(
            "No updates of a subspace were recorded here. Finished runs of ssvi and rigl have them, unless "
            "max_steps cut them short: python -m bench.grid --suite sparsity_sweep"
        )
    slots = rows["slots"].astype("float64")
    replaced, removed = rows["replaced"].astype("float64"), rows["removed"].astype("float64")
    keys = ["run_id", "stage", "layer"]
    began = (
        (slots - replaced + removed).groupby([rows[key] for key in keys], observed=True).transform("first")
    )
    overlap = rows["iou_initial"].astype("float64")
    both = overlap * (began + slots) / (1 + overlap)
    frame = rows[["run_id", "stage", "step"]].assign(
        epoch=rows["epoch"].astype("float64"), slots=slots, replaced=replaced, kept=slots - replaced,
        either=slots + removed, both=both, ends=began + slots - both,
        regrown=rows["regrown"].astype("float64"), aged=slots * rows["age_q50"].astype("float64"),
    )  # fmt: skip
    frame["step"] = frame["step"].astype("int64")
    groups = frame.groupby(["run_id", "stage", "step"], sort=False, observed=True)
    sums = groups[["slots", "replaced", "kept", "either", "both", "ends"]].sum()
    later = groups[["regrown", "aged"]].sum(min_count=1)
    table = sums[["slots"]].assign(
        epoch=groups["epoch"].first(),
        turnover=sums["replaced"] / sums["slots"],
        iou_previous=sums["kept"] / sums["either"],
        iou_initial=sums["both"] / sums["ends"],
        returns=later["regrown"] / sums["replaced"].where(sums["replaced"] > 0),
        age=later["aged"] / sums["slots"],
    )
    return table.reset_index()


def subspace(
    layers: pd.DataFrame,
    runs: pd.DataFrame,
    move: str,
    look: Look | None = None,
    layer: str | None = None,
    among: pd.DataFrame | None = None,
    single_seeds: bool = False,
) -> Chart:
    """Draw one of ``MOVES`` over training, one line per configuration with a band of 95 % t-intervals.

    Parameters
    ----------
    layers
        Rows of the table ``layers`` for the runs in ``runs``.
    runs
        Rows of the table ``runs``.
    move
        A key of ``MOVES``.
    look
        Colours and names.
    layer
        Name of a layer; None for all layers as one set.
    among
        All rows of the table ``runs`` that could be chosen, so that colours do not depend on the choice.
    single_seeds
        Whether to draw a thin line for each run.

    Raises
    ------
    Missing
        Nothing was recorded, or there are more than ``MOST_CONFIGURATIONS``.
    """
    look = look or Look.of(runs)
    config = runs.drop_duplicates("run_id").set_index("run_id")["config_id"]
    chosen = runs.drop_duplicates("config_id")
    if len(chosen) > MOST_CONFIGURATIONS:
        raise Missing(
            f"{len(chosen)} configurations are too many for a picture; choose {MOST_CONFIGURATIONS}."
        )
    table = moves(layers, layer)
    if table[move].isna().all():
        raise Missing(f"Runs of this version record the {MOVES[move]}; these are older.")
    table["config_id"] = table["run_id"].astype(str).map(config)
    binned = in_bins(table, ["config_id"], MOST_POINTS, [move])
    found = over_seeds(binned, ["config_id", "time"], [move])
    times = binned.groupby(["config_id", "time"], sort=False)[["step", "epoch"]].mean().reset_index()
    found = found.merge(times, on=["config_id", "time"]).sort_values(["config_id", "time"])
    names = short_names(chosen, look)
    labels = chosen.set_index("config_id")["config_label"]
    found["config_label"] = found["config_id"].map(labels)
    looks = _looks(chosen, look, among)
    figure = look.figure(height=470)
    ends = []
    for config_id, name in names.items():
        mine = found[found["config_id"] == config_id]
        if mine.empty:
            continue
        colour, dash, marker = looks[config_id]
        owner = whose(chosen[chosen["config_id"] == config_id])
        banded = mine[mine[f"{move}_n"] >= FEWEST]
        if len(banded) > 1:
            figure.add_trace(_band(banded, move, colour, config_id).update(meta=owner))
        if single_seeds:
            its = binned[binned["config_id"] == config_id]
            figure.add_trace(_thin(its, move, colour, config_id).update(meta=owner))
        figure.add_trace(_line(mine, move, colour, dash, marker, config_id, name).update(meta=owner))
        ends.append(
            f"{html.unescape(name)} from {mine[f'{move}_mean'].iloc[0]:.2f} to "
            f"{mine[f'{move}_mean'].iloc[-1]:.2f}"
        )
    shown_half = found[f"{move}_half_width"].where(found[f"{move}_n"] >= FEWEST, 0)
    highest = float((found[f"{move}_mean"] + shown_half).max())
    if single_seeds:
        highest = max(highest, float(binned[move].max()))
    top = 1.03 if move.startswith("iou") else 1.08 * highest
    figure.update_yaxes(title_text=MOVES[move], range=[0, top or 1])
    figure.update_xaxes(title_text="training step", tickformat=",", rangemode="tozero")
    where = "the chosen layer" if layer else "all layers taken as one set of weights"
    return Chart(
        title=_QUESTIONS[move],
        figure=figure,
        data=found.drop(columns="time").reset_index(drop=True),
        how=(
            f"For {where}, the mean over seeds at every update (if there are more than {MOST_POINTS}, "
            f"neighbouring ones are averaged); bands: the 95 % t-interval, from {FEWEST} seeds on; n in the "
            f"tooltip.\n\n{MOVES_EXPLAINED[move]}\n\n{NO_FINAL}"
        ),
        alt=f"{MOVES[move]} of the subspace from the first update to the last: {'; '.join(ends)}.",
    )


def layer_map(layers: pd.DataFrame, move: str, look: Look | None = None) -> Chart:
    """Draw one of ``MOVES`` as a map of layers over time, averaged over seeds.

    Parameters
    ----------
    layers
        Rows of the table ``layers`` of one configuration.
    move
        A key of ``MOVES``.
    look
        Colours.

    Raises
    ------
    Missing
        Nothing was recorded.
    """
    look = look or Look.of(layers)
    names = list(dict.fromkeys(layers["layer"].astype(str)))  # in the order of the network
    parts = []
    for name in names or [""]:
        part = in_bins(moves(layers, name), [], _MOST_COLUMNS, [move, "slots"])
        found = over_seeds(part, ["time"], [move, "slots"])
        times = part.groupby("time")[["step", "epoch"]].mean().reset_index()
        parts.append(found.merge(times, on="time").assign(layer=name))
    found = pd.concat(parts, ignore_index=True)
    steps = sorted(found["step"].unique())
    table = found.pivot_table(index="layer", columns="step", values=f"{move}_mean", sort=False)
    table = table.reindex(index=names, columns=steps)
    if table.isna().all(axis=None):
        raise Missing(f"Runs of this version record the {MOVES[move]}; these are older.")
    share = move.startswith("iou")
    top = 1.0 if share else float(found[f"{move}_mean"].max())
    widths = found.groupby("layer", sort=False)[["slots_mean"]].mean()["slots_mean"]
    figure = look.figure(height=130 + 30 * len(names), legend=False)
    figure.add_trace(
        go.Heatmap(
            x=[float(step) for step in steps], y=[escaped(name) for name in names],
            z=[[None if math.isnan(v) else round(v, 4) for v in row] for row in table.to_numpy(dtype=float)],
            customdata=[[f"{widths[name]:,.0f}"] * len(steps) for name in names],
            colorscale="Cividis", zmin=0, zmax=top or 1, ygap=2, hoverongaps=False,
            hovertemplate=(
                f"<b>%{{y}}</b> (%{{customdata}} active weights)<br>step %{{x:,.0f}}<br>{MOVES[move]} "
                f"%{{z:.3f}}<extra></extra>"
            ),
            colorbar={
                "orientation": "h", "thickness": 12, "len": 0.6, "x": 0, "xanchor": "left", "y": 1.0,
                "yanchor": "bottom",
                "title": {"text": MOVES[move], "side": "top", "font": {"size": 13}},
                "tickfont": {"size": 13, "color": look.ink}, "nticks": 5,
            },
        )
    )  # fmt: skip
    figure.update_layout(margin={"t": 55})
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    figure.update_xaxes(title_text="training step", tickformat=",", showgrid=False)
    means = found.groupby("layer", sort=False)[f"{move}_mean"].mean()
    scale = "The scale is 0 to 1." if share else "The scale ends at the largest value."
    return Chart(
        title=_MAP_QUESTIONS[move],
        figure=figure,
        data=found.drop(columns="time"),
        how=(
            "A cell is the mean over seeds (n in the data) of a layer at an update; if there are more "
            f"than {_MOST_COLUMNS} updates, neighbouring ones are averaged. Layers are in the order of the "
            "network, with its input on top. "
            f"{scale} In a small layer a single weight is a visible share."
            f"\n\n{MOVES_EXPLAINED[move]}\n\n{NO_FINAL}"
        ),
        alt=(
            f"{MOVES[move]} by layer and step: on average highest in {means.idxmax()} ({means.max():.2f}), "
            f"lowest in {means.idxmin()} ({means.min():.2f})."
        ),
    )


def default_choice(configurations: pd.DataFrame, most: int = 5) -> list[str]:
    """Choose the labels to show at first, at most ``most``.

    They are those with the recipe and sparsity of the first configuration if there are several, else the
    first few. ``configurations`` has one row per configuration with the columns of the table ``runs``.
    """
    if configurations.empty:
        return []
    first = configurations.iloc[0]
    alike = configurations[
        (configurations["recipe"] == first["recipe"]) & (configurations["sparsity"] == first["sparsity"])
    ]
    return [str(label) for label in (alike if len(alike) > 1 else configurations)["config_label"].head(most)]


def _looks(chosen: pd.DataFrame, look: Look, among: pd.DataFrame | None) -> dict[str, tuple[str, str, str]]:
    """Return colour, dash and marker by ``config_id``: those of the criterion, or else of the method.

    If several of ``among`` on the same data share them, the later ones get other shades, dashes and markers.
    """
    known = chosen if among is None else among
    setting = chosen[["dataset", "network"]].iloc[0]
    known = known[(known["dataset"] == setting["dataset"]) & (known["network"] == setting["network"])]
    known = known.drop_duplicates("config_id")
    names = known["criterion"].where(known["criterion"].notna(), known["method"])
    places = dict(zip(known["config_id"].astype(str), names.groupby(names).cumcount(), strict=True))
    found = {}
    for row in chosen.to_dict("records"):
        if isinstance(row["criterion"], str):
            shown, name = look.criterion, row["criterion"]
        else:
            shown, name = look, str(row["method"])
        colour, dash, marker = shown.colour(name), shown.dash(name), shown.marker(name)
        place = places.get(str(row["config_id"]), 0)
        found[str(row["config_id"])] = (
            _shade(colour, place, look), _next(dash, _DASHES, place), _next(marker, _MARKERS, place),
        )  # fmt: skip
    return found


def _shade(colour: str, place: int, look: Look) -> str:
    """Return ``colour`` for the first configuration of a hue, and lighter or darker shades for others."""
    share, end = _SHADES[place % len(_SHADES)]
    other = look.ink if end == "ink" else BACKGROUND[look.mode]
    parts = [
        round((1 - share) * int(colour[at : at + 2], 16) + share * int(other[at : at + 2], 16))
        for at in (1, 3, 5)
    ]
    return "#" + "".join(f"{part:02X}" for part in parts)


def _next(first: str, others: Sequence[str], place: int) -> str:
    """Return ``first`` for place 0, then ``others`` in turn."""
    order = [first, *(other for other in others if other != first)]
    return order[place % len(order)]


def _line(
    rows: pd.DataFrame, move: str, colour: str, dash: str, marker: str, key: str, name: str
) -> go.Scatter:
    return go.Scatter(
        x=_rounded(rows["step"]), y=_rounded(rows[f"{move}_mean"]), mode="lines+markers", name=name,
        legendgroup=key, line={"color": colour, "dash": dash, "width": 2},
        marker={"symbol": marker, "size": 7, "color": colour, "maxdisplayed": 25},
        customdata=[
            [f"{epoch:.0f}", "" if math.isnan(half) else f" ± {half:.3f}", int(n)]
            for epoch, half, n in zip(
                rows["epoch"], rows[f"{move}_half_width"], rows[f"{move}_n"], strict=True
            )
        ],
        hovertemplate=(
            f"<b>{name}</b><br>{MOVES[move]} %{{y:.3f}}%{{customdata[1]}}<br>step %{{x:,.0f}} "
            "(epoch %{customdata[0]}), n = %{customdata[2]}<extra></extra>"
        ),
    )  # fmt: skip


def _band(rows: pd.DataFrame, move: str, colour: str, key: str) -> go.Scatter:
    mean, half = rows[f"{move}_mean"], rows[f"{move}_half_width"]
    x, high, low = _rounded(rows["step"]), _rounded(mean + half), _rounded(mean - half)
    return go.Scatter(
        x=[*x, *x[::-1]], y=[*high, *low[::-1]], mode="lines", line={"width": 0}, fill="toself",
        fillcolor=translucent(colour), legendgroup=key, showlegend=False, hoverinfo="skip",
    )  # fmt: skip


def _thin(rows: pd.DataFrame, move: str, colour: str, key: str) -> go.Scatter:
    x: list[float | None] = []
    y: list[float | None] = []
    for _, run in rows.groupby("run_id", observed=True):
        ordered = run.sort_values("time")
        x += [*_rounded(ordered["step"]), None]
        y += [*_rounded(ordered[move]), None]
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": translucent(colour, 0.5), "width": 1}, legendgroup=key,
        showlegend=False, hoverinfo="skip",
    )  # fmt: skip


def _rounded(values: pd.Series) -> list[float]:
    """Round to five significant digits: more cannot be seen, and would only enlarge the page."""
    return [float(f"{value:.5g}") for value in values]
