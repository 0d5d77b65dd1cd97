"""Judge each claim of the paper in one setting. A judge returns None where the setting says nothing of it.

Differences are those of ``bench.statistics.paired``: paired by seed, with 95 % t-intervals. Where a claim is
about the best of several configurations, or all of them, their verdicts are corrected by Holm's procedure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from bench.figures.paper.setting import FAILS, HOLDS, UNDECIDED, Outcome, Setting
from bench.figures.parts.axes import axes
from bench.figures.parts.varied import Response, setting_name, varied
from bench.figures.parts.verdicts import by_how_much, tally
from bench.results.words import counted
from bench.statistics.seeds import direction, paired

#: Largest loss of accuracy that counts as keeping it, and the range of compression that the paper names.
LOSS, SMALLER = 0.03, (10.0, 20.0)
#: How many times fewer training FLOPs the paper names.
FEWER = 20.0
_WITHIN = {
    HOLDS: "surely within 3 points",
    FAILS: "surely not within 3 points",
    UNDECIDED: "undecided at 3 points",
}
_OWN, _DENSE = "ssvi", "dense_vi"
#: The paper's criterion, under the name of the criterion that removes the same weights.
_CRITERION = "snr"
#: Hyperparameters that dense VI has too.
_SHARED = ("training.lr", "training.lr_scale", "method.initial_std", "method.kl_factor", "method.prior_std")

Row = Mapping[Any, Any]


def compression(setting: Setting) -> Outcome | None:
    """Judge whether models 10 to 20 times smaller than those of dense VI lose less than 3 points."""
    smaller = setting.mean("compression_vs_dense_vi")
    rows = [row for row in _losses(setting) if SMALLER[0] <= smaller[row["config_id"]] <= SMALLER[1]]
    if not rows:
        return None
    kept = [_kept(row) for row in rows]
    verdict = kept[0] if len(set(kept)) == 1 else UNDECIDED
    told = [
        f"{smaller[row['config_id']]:.1f} times smaller at {_lost(setting, row)}, {_WITHIN[_kept(row)]}"
        for row in rows
    ]
    return Outcome("; ".join(told), _pairs(rows), verdict)


def flops(setting: Setting) -> Outcome | None:
    """Judge whether accuracy within 3 points of dense VI is kept with 20 times fewer training FLOPs."""
    fewer = 1 / setting.mean("train_flops_ratio")
    rows = sorted(_losses(setting), key=lambda row: float(fewer[row["config_id"]]))
    rows = [row for row in rows if fewer[row["config_id"]] == fewer[row["config_id"]]]
    if not rows:
        return None
    enough = [_kept(row) for row in rows if fewer[row["config_id"]] >= FEWER]
    verdict = HOLDS if HOLDS in enough else UNDECIDED if UNDECIDED in enough else FAILS
    kept = [row for row in rows if _kept(row) == HOLDS]
    told = [("most with accuracy surely kept", kept[-1])] if kept else []
    told += [("most of all", rows[-1])] if not kept or rows[-1] is not kept[-1] else []
    words = [
        f"{what}: {fewer[row['config_id']]:.1f} times fewer at {_lost(setting, row)}, {_WITHIN[_kept(row)]}"
        for what, row in told
    ]
    return Outcome("; ".join(words), _pairs(rows), verdict)


def rivals(setting: Setting) -> Outcome | None:
    """Judge whether SSVI is ahead of every other sparse network at its sparsity, in accuracy and NLL."""
    known = setting.configurations
    equal = (
        known["recipe"].astype(str) + " " + known["sparsity"].astype(str) + " " + known["budget"].astype(str)
    )
    own = {
        equal[config_id]: config_id
        for config_id in dict.fromkeys(setting.references.values())
        if config_id in known.index and known.loc[config_id, "method"] == _OWN
    }
    others = known[(known["sparsity"].astype(float) > 0) & (known["method"].astype(str) != _OWN)]
    references = {config_id: own[equal[config_id]] for config_id in others.index if equal[config_id] in own}
    return _ahead(setting, references, every=True, flip=True)


def dense(setting: Setting) -> Outcome | None:
    """Judge whether any configuration of SSVI is ahead of dense VI in accuracy and NLL."""
    return _ahead(setting, of_dense(setting), every=False, flip=False)


def criteria(setting: Setting) -> Outcome | None:
    """Judge whether the paper's criterion has a better accuracy than magnitude; 0.5 points do not matter."""
    known = setting.configurations
    references = {
        mine: theirs
        for mine, theirs in setting.references.items()
        if mine in known.index and known.loc[mine, "method"] == _OWN and mine != theirs
    }
    found = paired(setting.runs, "accuracy", references)
    found = found.assign(config_id=found["config_id"].astype(str))
    found = found.assign(criterion=found["config_id"].map(known["criterion"].astype(str)))
    own = found[found["criterion"] == _CRITERION].to_dict("records")
    if not own:
        return None
    better = [row["verdict"] == "differs" and row["difference"] > 0 for row in own]
    surely = [row["verdict"] != "undecided" for row in own]
    verdict = HOLDS if all(better) else FAILS if all(surely) and not any(better) else UNDECIDED
    told = [f"{_place(setting, row)}: {_difference(row, 'accuracy')}, {row['verdict']}" for row in own]
    rest = found[found["criterion"] != _CRITERION]["verdict"]
    words = f"accuracy with `{_CRITERION}`, which removes what `snr_abs` does, less that with `abs_mean`: "
    words += "; ".join(told)
    if len(rest):
        words += f"; of {counted(len(rest), 'comparison')} of other criteria, {tally(rest)}"
    return Outcome(words, _pairs(own), verdict)


def robustness(setting: Setting) -> Outcome | None:
    """Judge whether accuracy falls less below its best when a hyperparameter varies than that of dense VI."""
    lines = [line for line in varied(setting.runs) if line.setting in _SHARED and len(line.config_ids) > 2]
    pairs = [
        (mine, theirs)
        for mine in lines
        if mine.method == _OWN
        for theirs in lines
        if theirs.method == _DENSE
        and (theirs.setting, *theirs.config_ids) == (mine.setting, *mine.config_ids)
    ]
    if not pairs:
        return None
    tables, references, names = [], {}, {}
    for number, (mine, theirs) in enumerate(pairs):
        own, other = f"{number}", f"{number} {_DENSE}"
        tables += [_shortfall(setting.runs, line, name) for line, name in ((mine, own), (theirs, other))]
        references[own] = other
        names[own] = _named(mine)
    found = paired(pd.concat(tables, ignore_index=True), "accuracy", references).to_dict("records")
    if not found:
        return None
    signs = [(row["verdict"] == "differs") * (1 if row["difference"] < 0 else -1) for row in found]
    verdict = UNDECIDED
    if any(signs) and -min(signs) * max(signs) <= 0:
        verdict = HOLDS if max(signs) > 0 else FAILS
    told = [f"{names[row['config_id']]}: {_difference(row, 'accuracy')}, {row['verdict']}" for row in found]
    words = "mean loss of accuracy to the best value, SSVI's less that of dense VI, over "
    return Outcome(words + "; ".join(told), _pairs(found), verdict)


#: By the name of the claim: its judge, and the suites whose results it is judged on.
JUDGES: dict[str, tuple[Callable[[Setting], Outcome | None], tuple[str, ...]]] = {
    "compression": (compression, ("sparsity_sweep",)),
    "flops": (flops, ("sparsity_sweep",)),
    "rivals": (rivals, ("baselines",)),
    "dense": (dense, ("sparsity_sweep",)),
    "robustness": (robustness, ("initialisation", "kl_schedule")),
    "criteria": (criteria, ("criteria_ablation",)),
}


def of_dense(setting: Setting) -> dict[str, str]:
    """Return dense VI by each configuration of SSVI that is compared with it."""
    method = setting.configurations["method"].astype(str)
    return {
        mine: theirs
        for mine, theirs in setting.references.items()
        if method.get(mine) == _OWN and method.get(theirs) == _DENSE
    }


def _losses(setting: Setting) -> list[dict[Any, Any]]:
    """Return the accuracy of each configuration of SSVI less that of dense VI."""
    found = paired(setting.runs, "accuracy", of_dense(setting))
    return found.assign(config_id=found["config_id"].astype(str)).to_dict("records")


def _kept(row: Row) -> str:
    """Tell by the interval of a difference in accuracy whether less than ``LOSS`` is lost."""
    loss, half = -row["difference"], row["half_width"]
    return HOLDS if loss + half < LOSS else FAILS if loss - half > LOSS else UNDECIDED


def _lost(setting: Setting, row: Row) -> str:
    return f"{_place(setting, row)}: accuracy {_difference(row, 'accuracy')}"


def _place(setting: Setting, row: Row) -> str:
    """Name a configuration of SSVI by its sparsity, and by its recipe where the setting has several."""
    known = setting.configurations
    own = known.loc[str(row["config_id"])]
    recipe = f", recipe {own['recipe']}" if known["recipe"].nunique() > 1 else ""
    return f"sparsity {own['sparsity']:g}{recipe}"


def _difference(row: Row, score: str) -> str:
    """Say a difference with its interval and number of pairs."""
    return f"{by_how_much(row, axes()[score])} (n = {row['n']})"


def _pairs(rows: list[dict[Any, Any]]) -> int:
    return min(int(row["n"]) for row in rows)


def _ahead(setting: Setting, references: Mapping[str, str], every: bool, flip: bool) -> Outcome | None:
    """Judge whether SSVI is ahead of what it is compared with, in accuracy and in NLL.

    Parameters
    ----------
    references
        What is compared with what: SSVI with others, or others with SSVI if ``flip``.
    every
        Whether it has to be ahead in every comparison, or in one.
    """
    found = {score: paired(setting.runs, score, references) for score in ("accuracy", "nll")}
    if any(table.empty for table in found.values()):
        return None
    method = setting.configurations["method"].astype(str)
    ahead: dict[str, dict[str, int]] = {}
    words = []
    for score, table in found.items():
        sign = direction(axes()[score].better) * (-1 if flip else 1)
        signs = {
            str(row["config_id"]): (row["verdict"] == "differs") * (1 if sign * row["difference"] > 0 else -1)
            for row in table.to_dict("records")
        }
        ahead[score] = signs
        place = (table["difference"] * sign).argmin() if flip else (table["difference"] * sign).argmax()
        best = table.iloc[int(place)].to_dict()
        who = f"SSVI at {_place(setting, best)}"
        if flip:
            who = f"`{method[str(best['config_id'])]}` less SSVI"
        counts = list(signs.values())
        words.append(
            f"{axes()[score].name}: ahead in {counts.count(1)} of {counted(len(counts), 'comparison')}, "
            f"behind in {counts.count(-1)}; the best mean of these, {who}: {_difference(best, score)}, "
            f"{best['verdict']}"
        )
    both = [(ahead["accuracy"][key], ahead["nll"].get(key, 0)) for key in ahead["accuracy"]]
    if every:
        verdict = HOLDS if all(min(pair) > 0 for pair in both) else UNDECIDED
        verdict = FAILS if any(min(pair) < 0 for pair in both) else verdict
    else:
        verdict = FAILS if all(min(pair) < 0 for pair in both) else UNDECIDED
        verdict = HOLDS if any(min(pair) > 0 for pair in both) else verdict
    n = min(int(table["n"].min()) for table in found.values())
    return Outcome("; ".join(words), n, verdict)


def _shortfall(runs: pd.DataFrame, line: Response, name: str) -> pd.DataFrame:
    """Return, for each seed that has all values, how far the mean accuracy is below the best one, as runs."""
    mine = runs[runs["config_id"].astype(str).isin(list(line.config_ids.values()))]
    mine = mine.drop_duplicates(["config_id", "seed"])
    seeds = mine.groupby("seed")["accuracy"]
    whole = seeds.count() == len(line.config_ids)
    loss = (seeds.max() - seeds.mean())[whole]
    first = mine.drop_duplicates("seed").set_index("seed").loc[loss.index].reset_index()
    return first.assign(accuracy=loss.to_numpy(), config_id=name, run_id=name + first["seed"].astype(str))


def _named(line: Response) -> str:
    values = list(line.config_ids)
    sparsity = line.others.get("method.sparsity")
    at = f" at sparsity {sparsity:g}" if sparsity else ""
    return f"{setting_name(line.setting)} {values[0]:g} to {values[-1]:g}{at}"
