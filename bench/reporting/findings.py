"""Say what results show, in sentences and tables that are made from them alone: for docs/findings.md.

Each part answers one question of a reader, in every setting that has results, the largest scale first. A part
without results says so. Verdicts are corrected for the comparisons of the sentence that they stand in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.reporting.claims import removed_alike
from bench.reporting.document import Section
from bench.results.words import counted

if TYPE_CHECKING:  # pandas and plotly take a second to import
    from pathlib import Path

    import pandas as pd

    from bench.figures.paper.claims import Examined
    from bench.figures.paper.setting import Setting
    from bench.results.store import Store

#: A setting needs as many seeds of its best covered configuration to be told of.
_FEWEST = 3
#: Comparisons without a decision that are told one by one.
_TOLD = 3
_NOTHING = "No results that are here answer this."
_SSVI = "ssvi"
_LENGTHS = {"epochs": "in as many epochs", "flops": "with the training FLOPs of dense VI"}


def findings(store: Store, reported: Path) -> dict[str, str]:
    """Return each part as Markdown, by its name.

    Parameters
    ----------
    store
        Results folder.
    reported
        File of the paper's claims.
    """
    from bench.figures.paper import claims

    every: list[Setting] = []
    for suite in store.suites():
        runs = store.read_tables(suite, ["runs"])["runs"]
        for scale in store.scales(suite):
            here = runs[runs["scale"] == scale]
            every += claims.settings(suite, scale, here, store.references(suite, scale))
    judged = claims.examine(claims.reported(reported), every)
    told = sorted(filter(_has_seeds, every), key=claims.by_nearness)
    return {
        "claims of the paper": _claims(judged),
        "kept accuracy": _told(told, "sparsity_sweep", _kept),
        "moving subspace": _told(told, "sparsity_sweep", _moving),
        "criteria": _told(told, "criteria_ablation", partial(_criteria, store)),
        "posterior": _posterior(told),
        "rivals": _told(told, "baselines", _rivals),
        "does not hold": _contrary(judged),
        "not shown": _undecided(told, judged),
    }


def _has_seeds(setting: Setting) -> bool:
    seeds = setting.runs.groupby("config_id", observed=True)["seed"].nunique()
    return bool(seeds.max() >= _FEWEST)


def _claims(judged: Sequence[Examined]) -> str:
    """Tell each claim with its verdict, and every setting in which it was tested, folded."""
    found = []
    for each in judged:
        listed = "\n".join(f"  - {line}" for line in each.sentences)
        found.append(f"- **{each.said}**\n{listed}\n")
        if len(each.outcomes) > 1:
            found.append(_indented(_folded("Every setting", Section("", table=each.table()).markdown())))
    return "\n".join(found)


# -- the parts ---------------------------------------------------------------------------------------


def _kept(setting: Setting) -> tuple[list[str], pd.DataFrame | None]:
    """Tell what each sparsity of SSVI costs against dense VI, and how much smaller and cheaper it is."""
    from bench.figures.paper.judges import compression, of_dense

    judged = compression(setting)
    words = []
    if judged is not None:
        words.append(f"{judged.result[0].upper()}{judged.result[1:]}.")
    references = of_dense(setting)
    words += _compared(setting, references, ("accuracy", "nll"), "less that of dense VI")
    table = _differences(setting, references, ("accuracy", "nll"))
    if table is None:
        return words, None
    smaller, flops = (
        setting.mean(column).reindex(table.index)
        for column in ("compression_vs_dense_vi", "train_flops_ratio")
    )
    table.insert(1, "times smaller", smaller.map("{:.1f}".format))
    table.insert(2, "times fewer training FLOPs", (1 / flops).map("{:.1f}".format))
    return words, table


def _moving(setting: Setting) -> tuple[list[str], pd.DataFrame | None]:
    """Tell what a fixed subspace loses to one that moves, at equal sparsity and in the same recipe."""
    known = setting.configurations
    equal = known["recipe"].astype(str) + " " + known["sparsity"].astype(str)
    moving = known.index[known["method"].astype(str) == _SSVI]
    own = dict(zip(equal[moving], moving, strict=True))
    fixed = known.index[(known["method"].astype(str) == "static_vi") & equal.isin(list(own))]
    references = {config_id: own[equal[config_id]] for config_id in fixed}
    what = "of a subspace that never moves less that of SSVI at the same sparsity"
    words = _compared(setting, references, ("accuracy", "nll"), what)
    return words, _differences(setting, references, ("accuracy", "nll"))


def _criteria(store: Store, setting: Setting) -> tuple[list[str], pd.DataFrame | None]:
    """Tell what other criteria than magnitude, and no moving at all, change."""
    what = "less that of SSVI with `abs_mean` in the same recipe and at the same sparsity"
    words = _compared(setting, setting.references, ("nll", "accuracy"), what)
    pairs = store.read_tables(setting.suite, ["criteria_pairs"])["criteria_pairs"]
    alike = removed_alike(setting.runs, setting.references, pairs)
    if alike:
        told = [f"{setting.named(config_id)}: {share:.2f}" for config_id, share in alike.items()]
        words.append(
            "Of the weights that a criterion or its reference would remove at an update, both would remove "
            f"this share (where it is near 1, an equal score says little): {'; '.join(told)}."
        )
    return words, None


def _rivals(setting: Setting) -> tuple[list[str], pd.DataFrame | None]:
    """Tell who is ahead of SSVI or behind it, with as many epochs and with the training FLOPs of dense VI."""
    known = setting.configurations
    method, budget = known["method"].astype(str), known["budget"].astype(str)
    own = [c for c in dict.fromkeys(setting.references.values()) if method.get(c) == _SSVI]
    words: list[str] = []
    for at in known.loc[own[:1], "sparsity"]:
        fits = known["sparsity"].isin([0.0, at]) | method.isin(["sparse_vd", "lbbnn"])
        for length, how in (
            ("epochs", "in as many epochs"),
            ("flops", "with the training FLOPs of dense VI"),
        ):
            mine = known.index[(budget == length) & (method == _SSVI) & (known["sparsity"] == at)]
            if len(mine) == 1:
                others = known.index[(budget == length) & fits & (known.index != mine[0])]
                what = f"less that of SSVI at sparsity {at:g}, both {how}"
                words += _compared(setting, dict.fromkeys(others, mine[0]), ("nll", "accuracy"), what)
    return words, None


def _posterior(told: Sequence[Setting]) -> str:
    """Tell what averaging gains on the test part."""
    from bench.figures import Missing, axes, posterior_gain
    from bench.figures.posterior import GAINS

    found = []
    for suite in ("posterior", "baselines"):
        for setting in (each for each in told if each.suite == suite):
            words = []
            for gain in GAINS:
                try:
                    chart, axis = posterior_gain(setting.runs, gain), axes()[gain]
                except Missing:
                    continue
                words.append(f"{_capital(axis.name)}: {chart.alt[0].lower()}{chart.alt[1:]}")
                rows = chart.data
                rows = rows[rows["method"].isin(["dense_vi", _SSVI])]
                each = [
                    f"{setting.named(row['config_id'])} {_signed(row, gain)} (n = {row[f'{gain}_n']})"
                    for row in rows.to_dict("records")
                ]
                words[-1] += f" Dense VI and SSVI: {'; '.join(each)}."
            found.append(_block(setting, words, None))
    return "\n".join(found) or _NOTHING


def _contrary(judged: Sequence[Examined]) -> str:
    """Tell where a claim fails, in every setting, and where SSVI is surely behind dense VI."""
    lines = []
    for each in judged:
        for setting, outcome in each.outcomes:
            if outcome.verdict == "fails here":
                lines.append(f"- {each.claim.statement} Not in {setting}: {outcome.result}.")
    return "\n".join(lines) + "\n" if lines else f"{_NOTHING}\n"


def _undecided(told: Sequence[Setting], judged: Sequence[Examined]) -> str:
    """Tell how much the seeds leave open: comparisons without a decision, and claims."""
    import pandas as pd

    from bench.figures import axes
    from bench.statistics import paired

    rows = []
    for setting in told:
        for score in ("nll", "accuracy", "ece"):
            axis = axes()[score]
            found = paired(setting.runs, score, setting.references)
            found = found[found["verdict"] != "reference"]
            left = found[found["verdict"] == "undecided"]
            smallest = left["smallest"].median() * axis.factor
            shown = f"{smallest:.{axis.digits}f} {axis.step}" if smallest == smallest else "–"
            rows.append([str(setting), axis.name, len(found), len(left), shown])
    heads = ["setting", "score", "comparisons with the reference", "undecided", "would have shown (median)"]
    table = Section("", table=pd.DataFrame(rows, columns=heads)).markdown()
    claims = [each.claim.statement for each in judged if "undecided" in each.verdict]
    lines = [f"- Undecided in the nearest setting: {statement}" for statement in claims]
    if all(setting.scale != "paper" for setting in told):
        lines.insert(
            0, f"- The paper's own setting, scale `paper`: no results with {_FEWEST} seeds are here."
        )
    return "\n".join([*lines, "", _folded("What the seeds leave open", table)])


# -- how they are told -------------------------------------------------------------------------------


def _told(
    told: Sequence[Setting], suite: str, tell: Callable[[Setting], tuple[list[str], pd.DataFrame | None]]
) -> str:
    found = [_block(setting, *tell(setting)) for setting in told if setting.suite == suite]
    return "\n".join(found) or f"{_NOTHING}\n"


def _block(setting: Setting, words: list[str], table: pd.DataFrame | None) -> str:
    listed = "\n".join(f"- {line}" for line in words) or f"- {_NOTHING}"
    folded = "" if table is None else "\n" + _folded("Every difference", Section("", table=table).markdown())
    return f"**{setting!s}**\n\n{listed}\n{folded}"


def _compared(setting: Setting, references: Mapping[str, str], scores: Iterable[str], what: str) -> list[str]:
    """Tell for each score how many comparisons show what; those that show it, and the largest undecided."""
    from bench.figures import axes, tally, within
    from bench.statistics import paired

    lines = []
    for score in scores:
        axis, found = axes()[score], paired(setting.runs, score, references)
        found = found[(found["verdict"] != "reference") & found["difference"].notna()]
        if found.empty:
            continue
        found = found.iloc[(-found["difference"].abs()).argsort(kind="stable")]
        parts = [f"{_capital(axis.name)} {what}: of {counted(len(found), 'comparison')}, "]
        parts[0] += f"{tally(found['verdict'])}."
        for verdict, head in (
            ("differs", "Surely different"),
            ("equivalent", f"Equivalent{within(score)}"),
            ("undecided", "Undecided"),
        ):
            rows = found[found["verdict"] == verdict].to_dict("records")
            told = rows if verdict != "undecided" else rows[:_TOLD]
            names = [f"{setting.named(r['config_id'])} {_signed(r, score)} (n = {r['n']})" for r in told]
            if len(rows) > len(told):
                head, names = f"{head}, the largest first", [*names, f"and {len(rows) - len(told)} more"]
            parts += [f"{head}: {'; '.join(names)}."] if rows else []
        lines.append(" ".join(parts))
    return lines


def _differences(
    setting: Setting, references: Mapping[str, str], scores: Iterable[str]
) -> pd.DataFrame | None:
    """Return a row for each configuration, in order of sparsity: its difference in each score, n, verdict."""
    import pandas as pd

    from bench.figures import axes, said
    from bench.statistics import paired

    columns: dict[str, dict[str, Any]] = {}
    for score in scores:
        axis = axes()[score]
        for row in paired(setting.runs, score, references).to_dict("records"):
            mine = columns.setdefault(str(row["config_id"]), {"n": row["n"]})
            mine[f"difference of {axis.title}"] = _signed(row, score)
            mine[f"verdict, {axis.name}"] = said(row, axis)
    if not columns:
        return None
    table = pd.DataFrame.from_dict(columns, orient="index")
    known = setting.configurations.loc[list(table.index)]
    table.insert(0, "configuration", [setting.named(config_id) for config_id in table.index])
    order = known.assign(recipe=known["recipe"].astype(str)).sort_values(
        ["recipe", "sparsity"], kind="stable"
    )
    return table.loc[list(order.index)]


def _signed(row: Mapping[Any, Any], score: str) -> str:
    from bench.figures import axes, signed

    axis = axes()[score]
    names = ("difference", "half_width") if "difference" in row else (f"{score}_mean", f"{score}_half_width")
    return f"{signed(row[names[0]], row[names[1]], axis.digits, axis.factor)} {axis.step}".rstrip()


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{content.strip()}\n\n</details>\n"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.splitlines()) + "\n"
