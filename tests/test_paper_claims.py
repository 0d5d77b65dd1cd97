"""What the paper claims is judged by our results: each verdict follows from the intervals."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.figures import Missing
from bench.figures.paper.claims import NOT_ENTERED, examine, reported, settings
from bench.figures.paper.judges import JUDGES
from bench.figures.paper.setting import FAILS, HOLDS, UNDECIDED
from bench.planning.suite import load
from tests.claimed_runs import DENSE, runs

REPORTED = Path(__file__).resolve().parent.parent / "results" / "paper_reported.csv"


def judged(claim, table, references, suite="any"):
    judge, _ = JUDGES[claim]
    (setting,) = settings(suite, "demo", table, references)
    return judge(setting)


def compared(claim, *mine, **more):
    """The outcome of a claim about SSVI and dense VI."""
    table = runs(*mine, DENSE, **more)
    ids = table.loc[table["method"] == "ssvi", "config_id"].unique()
    return judged(claim, table, dict.fromkeys(ids, "dense"))


@pytest.mark.parametrize(
    ("accuracy", "spread", "smaller", "verdict"),
    [
        (0.88, 0.001, 13.0, HOLDS),  # 2 points are lost
        (0.88, 0.01, 13.0, UNDECIDED),  # 2.0 ± 2.5 points
        (0.86, 0.001, 13.0, FAILS),
        (0.88, 0.001, 9.0, None),  # not a compression that the paper names
    ],
)
def test_accuracy_is_kept_if_its_interval_is_within_three_points(accuracy, spread, smaller, verdict):
    mine = {"accuracy": accuracy, "spread": spread, "compression_vs_dense_vi": smaller}
    found = compared("compression", mine)
    assert (found and found.verdict) == verdict
    if verdict == HOLDS:
        expected = "13.0 times smaller at sparsity 0.95: accuracy -2.00 ± 0.25 points (n = 3)"
        assert found.result == f"{expected}, surely within 3 points"


def test_recipes_that_disagree_leave_compression_undecided():
    found = compared("compression", {}, {"recipe": "released", "accuracy": 0.8, "config_id": "other"})
    assert found.verdict == UNDECIDED
    assert "sparsity 0.95, recipe released: accuracy -10.00" in found.result


@pytest.mark.parametrize(
    ("ratio", "accuracy", "spread", "verdict"),
    [
        (0.04, 0.89, 0.001, HOLDS),
        (0.04, 0.80, 0.001, FAILS),
        (0.04, 0.88, 0.02, UNDECIDED),
        (0.06, 0.90, 0.001, FAILS),  # nothing saves as much
    ],
)
def test_flops_count_where_accuracy_is_kept(ratio, accuracy, spread, verdict):
    mine = {"train_flops_ratio": ratio, "accuracy": accuracy, "spread": spread}
    assert compared("flops", mine).verdict == verdict


@pytest.mark.parametrize(
    ("accuracies", "losses", "verdict"),
    [
        ((0.92,), (0.2,), HOLDS),
        ((0.92, 0.85), (0.2, 0.5), HOLDS),  # occasionally
        ((0.92,), (0.4,), FAILS),  # worse in one of both
        ((0.85, 0.92), (0.4, 0.4), FAILS),
        ((0.9001,), (0.2999,), UNDECIDED),
        ((0.85, 0.9001), (0.5, 0.2999), UNDECIDED),
    ],
)
def test_one_configuration_ahead_of_dense_vi_in_both_is_enough(accuracies, losses, verdict):
    mine = [
        {"accuracy": accuracy, "nll": loss, "sparsity": 0.5 + number / 10}
        for number, (accuracy, loss) in enumerate(zip(accuracies, losses, strict=True))
    ]
    assert compared("dense", *mine).verdict == verdict


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ([(0.85, 0.5), (0.8, 0.6)], HOLDS),
        ([(0.85, 0.5), (0.9001, 0.2999)], UNDECIDED),
        ([(0.85, 0.5), (0.85, 0.2)], FAILS),  # a rival has a lower NLL
    ],
)
def test_every_rival_at_the_same_sparsity_has_to_be_behind(scores, verdict):
    rivals = [
        {"method": name, "accuracy": accuracy, "nll": nll, "config_id": name}
        for name, (accuracy, nll) in zip(("rigl", "snr_vi"), scores, strict=True)
    ]
    others = [
        {"method": "rigl", "sparsity": 0.5, "accuracy": 0.99, "nll": 0.01, "config_id": "denser"},
        {"method": "rigl", "budget": "flops", "accuracy": 0.99, "nll": 0.01, "config_id": "dearer"},
    ]
    table = runs({"config_id": "ssvi"}, *(row | {"spread": 0.002} for row in rivals), *others, DENSE)
    found = judged("rivals", table, dict.fromkeys(table["config_id"].unique(), "ssvi"))
    assert found.verdict == verdict
    assert "of 2 comparisons" in found.result


@pytest.mark.parametrize(
    ("gain", "spread", "verdict"),
    [(0.02, 0.001, HOLDS), (0.0, 0.001, FAILS), (-0.02, 0.001, FAILS), (0.002, 0.01, UNDECIDED)],
)
def test_a_criterion_that_is_equivalent_to_magnitude_is_not_better(gain, spread, verdict):
    table = runs(
        {"criterion": "abs_mean", "spread": 0.0, "config_id": "abs_mean"},
        {"criterion": "snr", "accuracy": 0.9 + gain, "spread": spread, "config_id": "snr"},
        {"criterion": "snr_exp", "accuracy": 0.5, "config_id": "snr_exp"},
    )
    found = judged("criteria", table, dict.fromkeys(["abs_mean", "snr", "snr_exp"], "abs_mean"))
    assert found.verdict == verdict
    assert "of 1 comparison of other criteria, 1 differs" in found.result


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"), [(0.8, 0.5, HOLDS), (0.5, 0.8, FAILS), (0.7, 0.7, UNDECIDED)]
)
def test_robust_is_what_loses_less_when_a_hyperparameter_varies(ours, theirs, verdict):
    rows = [
        {
            "method": method, "config.training.lr": rate, "accuracy": accuracy,
            "config_id": f"{method} {rate}", "spread": 0.01 * (rate == 1.0) * (method == "ssvi"),
        }
        for method, worst in (("ssvi", ours), ("dense_vi", theirs))
        for rate, accuracy in ((0.01, 0.8), (0.1, 0.9), (1.0, worst))
    ]  # fmt: skip
    found = judged("robustness", runs(*rows), {})
    assert found.verdict == verdict and found.n == 3
    assert "learning rate 0.01 to 1: " in found.result


def test_the_setting_that_is_nearest_to_the_papers_speaks():
    """A larger scale before a smaller one, the paper's data before others, and two seeds last of all."""
    few = runs({}, DENSE, seeds=2, scale="paper", dataset="cifar10")
    many = [runs({}, DENSE, scale="reduced", dataset=name) for name in ("svhn", "cifar10")]
    demo = runs({}, DENSE)
    references = dict.fromkeys(["ssvi 0.95 snr"], "dense")
    found = []
    for table in (demo, few, *many):
        found += settings("sparsity_sweep", table["scale"].iloc[0], table, references)
    claims = [claim for claim in reported(REPORTED) if claim.claim == "compression"]
    (examined,) = examine(claims, found)
    order = [(setting.scale, setting.dataset) for setting, _ in examined.outcomes]
    assert order == [("reduced", "cifar10"), ("reduced", "svhn"), ("demo", "digits"), ("paper", "cifar10")]
    assert examined.said.endswith(" Holds here.") and "reduced, cifar10 and mlp" in examined.sentences[1]
    assert list(examined.table()["n"]) == [3, 3, 3, 2]


def test_a_claim_that_nothing_tests_is_undecided_and_one_without_figures_is_not_entered():
    examined = {each.claim.claim: each for each in examine(reported(REPORTED), [])}
    assert {name: each.verdict for name, each in examined.items()} == {
        **dict.fromkeys(JUDGES, UNDECIDED), "tables": NOT_ENTERED,
    }  # fmt: skip
    assert "None of the suites that test it was run." in examined["dense"].sentences


def test_what_would_decide_a_claim_can_be_run():
    for claim in reported(REPORTED):
        for suite, scale in re.findall(
            r"`python -m bench\.grid --suite (\w+) --scale (\w+)", claim.decided_by
        ):
            assert scale in load(suite).scales
        assert all(part for part in (claim.statement, claim.figure, claim.source, claim.place, claim.setting))


def test_a_file_of_claims_that_cannot_be_meant_is_said(tmp_path):
    with pytest.raises(Missing, match="no readable file of claims"):
        reported(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("claim,figure\na,b\n")
    with pytest.raises(Missing, match="its columns are claim, figure; valid: claim, statement, figure"):
        reported(tmp_path / "other.csv")
