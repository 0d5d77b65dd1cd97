"""``docs/adding-a-dataset-and-network.md``: every block is run, by a reader in a clone, in order."""

from __future__ import annotations

import re

import pytest

from bench.data.base import Dataset
from bench.networks.base import Network
from bench.results.store import Store
from tests.pages import Page, Reader

PAGE = Page("adding-a-dataset-and-network.md")


def test_there_is_no_code_but_in_blocks():
    PAGE.assert_no_code_but_in_blocks()


def test_all_of_the_contract_is_in_its_tables():
    named = set(re.findall(r"`(\w+)", " ".join(PAGE.contract())))
    for cls in (Dataset, Network):
        assert {name for name in vars(cls) if not name.startswith("_")} | set(cls.__annotations__) <= named


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_reader_gets_from_nothing_to_rows_in_the_tables(tmp_path):
    reader = Reader(tmp_path)
    reader.follow(PAGE)
    for words in (r"^  breast_cancer +Breast tumours, malignant or benign", r"^  skip_mlp +Fully connected"):
        assert re.search(words, reader.outputs[-1], re.MULTILINE)
    store = Store(reader.clone / "results")
    tables = store.read_tables("tumours")
    runs, metrics = tables["runs"], tables["metrics"]
    assert (runs["status"] == "done").all() and len(runs) == 8
    assert set(runs["dataset"]) == {"breast_cancer"} and set(runs["network"]) == {"skip_mlp"}
    assert set(runs["config.network.units"]) == {32} and set(runs["config.dataset.test"]) == {120}
    assert runs["accuracy"].min() > 0.85  # of the more frequent class there are 63 %
    assert set(metrics.loc[metrics["split"] == "test", "n"]) == {120}
    sparse = runs[runs["sparsity"] == 0.95].iloc[0]
    # what is sparse is all but what stays dense by rule, and the classifier is part of it
    assert sparse["density"] < 0.2
