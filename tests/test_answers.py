"""Generated answers: what sparsity costs, what averaging buys, and whether SSVI is ahead at equal cost."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.figures.questions.unknown_inputs import beside
from bench.results.files import StoreError
from tests.claims import written
from tests.figure_data import STYLES, identifier, runs
from tests.test_figures_beside import shifted
from tests.test_figures_uncertainty import SEEDS, metrics

DENSE, SSVI, RIGL, ENSEMBLE = (identifier(number) for number in range(4))
COMMON = {"seed": SEEDS, "stage": "train", "config.training.budget": "flops"}
COST, AVERAGING, AHEAD = range(3)


@pytest.fixture(scope="module")
def table():
    return runs(
        {"method": "dense_vi", **COMMON, "config.training.budget": "epochs"},
        {"method": "ssvi", "sparsity": 0.9, **COMMON},
        {"method": "rigl", "sparsity": 0.9, **COMMON},
        {"method": "ensemble", "sparsity": 0.9, **COMMON},
    )


@pytest.fixture(scope="module")
def rows(table):
    of = {config_id: table[table["config_id"] == config_id] for config_id in table["config_id"]}
    parts = []
    for config_id, auroc in (
        (DENSE, [0.9, 0.91, 0.92]),
        (SSVI, [0.8, 0.81, 0.82]),
        (RIGL, 0.7),
        (ENSEMBLE, 0.95),
    ):
        parts.append(metrics(of[config_id], "letters", auroc_entropy=auroc))
        parts.append(shifted(of[config_id], "accuracy", fog=[0.8, 0.6]))
        parts.append(shifted(of[config_id], "nll", fog=[0.5, 0.7]))
    parts.append(metrics(of[SSVI], "letters", predictor="mean", auroc_entropy=[0.7, 0.8, 0.9]))
    parts.append(metrics(of[RIGL], "letters", predictor="mean", auroc_entropy=0.7))
    # in accuracy, SSVI's predictors are equal in one run: a difference of 0, which counts
    parts.append(shifted(of[SSVI], "accuracy", "mean", fog=[[0.8, 0.9, 0.9], 0.6]))
    parts.append(shifted(of[RIGL], "accuracy", "mean", fog=[0.8, 0.6]))
    return pd.concat(parts)


def found(answer, measure, label):
    table = answer.table
    (row,) = table[
        table["measure"].str.startswith(measure) & table["configuration"].str.startswith(label)
    ].to_dict("records")
    return row


def test_sparsity_costs_what_a_configuration_loses_to_itself_dense(table, rows):
    # the second reference is of sparse configurations, and says nothing about sparsity
    cost = beside("digits · mlp", table, rows, {SSVI: DENSE, RIGL: SSVI})[COST]
    assert cost.question == "digits · mlp: what does sparsity cost on unknown and shifted inputs?"
    assert set(cost.table["configuration"]) == {"ssvi · 90 %"}
    row = found(cost, "AUROC of predictive entropy", "ssvi")
    assert row["difference"] == "-10.00 ± 0.00 points" and row["n"] == 3
    assert row["verdict"].startswith("differs") and row["compared with"] == "dense_vi"
    assert found(cost, "accuracy under shift", "ssvi")["difference"] == "+0.00 ± 0.00 points"
    assert "of 1 comparison, 1 differs, 0 are equivalent and 0 are undecided" in cost.sentences[0]
    assert "-10.00 ± 0.00 points (ssvi · 90 %)" in cost.sentences[0]


def test_averaging_is_compared_within_runs_and_only_where_it_changes_predictions(table, rows):
    averaging = beside("", table, rows, {SSVI: DENSE})[AVERAGING]
    assert set(averaging.table["configuration"]) == {"ssvi · 90 %"}
    row = found(averaging, "AUROC", "ssvi")
    assert row["compared with"] == "ssvi mean network · 90 %"
    assert row["difference"].startswith("+1.00 ±") and row["n"] == 3
    # of three runs, one has no difference of accuracy: (0 - 5 - 5) / 3
    row = found(averaging, "accuracy under shift", "ssvi")
    assert row["difference"].startswith("-3.33 ±") and row["n"] == 3


def test_rivals_of_ssvi_are_those_of_its_sparsity_under_the_budget_of_flops(table, rows):
    ahead = beside("", table, rows, {SSVI: DENSE})[AHEAD]
    assert set(ahead.table["configuration"]) == {"rigl · 90 %", "ensemble · 90 %"}
    assert found(ahead, "AUROC", "rigl")["difference"].startswith("-11.00 ±")
    assert found(ahead, "AUROC", "ensemble")["difference"].startswith("+14.00 ±")
    # the worst comes first, also where lower is better
    assert "differences are from -11.00" in ahead.sentences[0]
    epochs = table.assign(**{"config.training.budget": "epochs"})
    assert [answer for answer in beside("", epochs, rows, {}) if "ahead" in answer.question] == []


def test_without_such_sets_there_is_no_answer(table):
    assert beside("", table, metrics(table, nll=0.1), {SSVI: DENSE}) == []


def test_findings_get_sentences_and_folded_tables_between_their_marks(table, rows):
    class Results:
        def plan(self, suite, scale):
            return {"question": "What is uncertainty worth?", "rank_by": "nll"}

        def read_styles(self, suite, of):
            return STYLES

        def read_table(self, suite, scale, name):
            assert (suite, scale) == ("ood", "demo")
            found = {"runs": table.assign(nll=0.1), "metrics": rows}
            if name not in found:
                raise StoreError("not recorded")
            return found[name]

        def references(self, suite, scale):
            assert (suite, scale) == ("ood", "demo")
            return {SSVI: DENSE}

    text = "before\n<!-- answers: ood demo -->\nold\n<!-- end of the answers -->\nafter\n"
    new = written(text, Results())
    assert new.startswith(
        "before\n<!-- answers: ood demo -->\n\n### What is uncertainty worth?\n\n- Of 1 comp"
    )
    assert "\n### digits · mlp: what does sparsity cost" in new
    assert "old" not in new and new.endswith("<!-- end of the answers -->\nafter\n")
    assert "- AUROC of predictive entropy, mean of sets (%) ↑ better: of 1 comparison, 1 differs" in new
    assert new.count("<details><summary>Every comparison</summary>") == 3 == new.count("</details>")
    assert "| SSVI · 90 % | Dense VI | -10.00 ± 0.00 points | 3 | differs" in new
    assert written(new, Results()) == new
