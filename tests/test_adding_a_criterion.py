"""``docs/adding-a-criterion.md``: every block is run, by a reader in a clone, from the first to the last."""

from __future__ import annotations

import re

import pytest

from bench.checking.parts.criterion import CHECKS, Subject
from bench.checking.verdicts import examine
from bench.results import styles
from bench.results.store import Store
from methods.criteria.base import Criterion
from methods.criteria.moments import Moments
from tests.pages import Page, Reader

PAGE = Page("adding-a-criterion.md")


def test_there_is_no_code_but_in_blocks():
    PAGE.assert_no_code_but_in_blocks()


def test_all_of_the_contract_is_in_its_tables():
    named = set(re.findall(r"`(\w+)", " ".join(PAGE.contract())))
    for cls in (Criterion, Moments):
        public = {name for name in vars(cls) if not name.startswith("_")} | set(cls.__annotations__)
        assert public <= named


def test_the_criterion_keeps_every_promise():
    """As it stands in its block, in this process: quick, so that a change of the contract is seen."""
    ((file, code),) = PAGE.files()
    module = {"__name__": "document"}
    exec(compile(code, file, "exec"), module)
    cls = module["SecondMoment"]
    verdicts = {verdict.check.name: verdict.outcome for verdict in examine(CHECKS, Subject(cls), cls)}
    assert set(verdicts.values()) == {"pass"} and len(verdicts) == len(CHECKS)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_reader_gets_from_nothing_to_rows_in_the_tables(tmp_path):
    reader = Reader(tmp_path)
    reader.follow(PAGE)
    listed = re.compile(r"^  second_moment +E w\^2 = mean\^2 \+ std\^2: the second moment \[our own\]", re.M)
    assert listed.search(reader.outputs[0]) and listed.search(reader.outputs[-1])
    assert any("second_moment: 10 pass, 0 FAIL, 0 skipped" in output for output in reader.outputs)
    store = Store(reader.clone / "results")
    runs = store.read_tables("moments")["runs"]
    assert (runs["status"] == "done").all() and len(runs) == 12
    planned = [cell["labels"]["criterion"] for cell in store.plan("moments", "demo")["cells"]]
    built_in = ["abs_mean", "snr", "mean_abs", "snr_abs", "mean_exp", "snr_exp"]
    assert planned[::2] == [*built_in, "second_moment"] == planned[1::2]
    pairs = store.read_tables("moments")["criteria_pairs"]
    # in a clone its file is one of the package, and compared by all runs
    compared = pairs.groupby("criterion_used", observed=True)["criterion_b"].agg(set)
    assert len(compared) == 6 and all("second_moment" in others for others in compared)
    style = store.read_styles("moments", styles.CRITERIA)["second_moment"]
    assert (style["label"], style["marker"], style["source"]) == ("Second moment", "hexagon", "our own")
