"""``bench.tune`` and chosen settings: what is searched and looked at, what is written, what it changes."""

from __future__ import annotations

import csv
import importlib
import itertools
import json
import signal
import statistics
import threading
import time
from dataclasses import replace

import pytest
import yaml

from bench import grid, suites, tune
from bench.cli.entry import entry as entry_
from bench.planning import expansion, suite, tuned_settings
from bench.planning.search_space import parse_range
from bench.planning.search_spec import check_searchable, parse_search, trials
from bench.planning.suite import load, parse_suite
from bench.results.store import Store
from bench.tuning import trial_scores
from bench.tuning.study import Searching
from methods.core.errors import UserError
from tests import run_folders, toys  # noqa: F401  (registers the toys)

SUITE = """
question: Which?
reference: {method: dense_vi}
search:
  space:
    lr: {log: [0.01, 1]}
    prior_std: {log: [0.03, 1]}
    replace_every: {uniform: [2, 9]}
    allocation: [uniform, global]
  at: {sparsity: 0.5}
  trials: 3
  seeds: 100-101
scales:
  demo:
    seeds: 0-1
    base: {dataset: toy_blobs, network: toy_network, epochs: 2, batch_size: 16}
    grids:
      - {recipe: default, method: dense_vi}
      - {recipe: default, method: [static_vi, ssvi], sparsity: [0, 0.5, 0.75]}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory of its own; signals are afterwards what they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def write(here):
    """Write a suite's text as ``toy.yaml`` and load it."""

    def write(text=SUITE, name="toy"):
        (here / f"{name}.yaml").write_text(text)
        return load(f"./{name}.yaml")

    return write


@pytest.fixture
def call(here, capsys):
    """Call the command as its process would: exit status, standard output, standard error."""

    def call(*arguments, command=tune):
        line = ["--suite", "./toy.yaml", *map(str, arguments)]
        line += [] if "--dry-run" in line else ["--executor", "inline"]
        with pytest.raises(SystemExit) as caught:
            entry_(lambda: command.main(line))
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return call


def changed(**keys):
    """``SUITE`` with keys of its search replaced."""
    content = yaml.safe_load(SUITE)
    content["search"] |= keys
    return yaml.safe_dump(content, sort_keys=False)


def written(here, name="toy"):
    """The entries of the file of choices by scale and method, read as plain YAML."""
    content = yaml.safe_load((here / f"{name}.tuned.yaml").read_text())
    return {scale: {entry["method"]: entry for entry in entries} for scale, entries in content.items()}


def table(here, name="toy"):
    with (here / f"{name}.search.csv").open() as file:
        return list(csv.DictReader(file))


# -- the space ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.1, r"space: lr: 0\.1 is not a range; valid: \{log: \[low, high\]\}"),
        ({"normal": [0, 1]}, r"space: lr: \{normal: \[0, 1\]\} is not a range"),
        ({"log": [0.1, 1], "uniform": [0, 1]}, "is not a range"),
        ({"log": [0.1]}, r"space: lr: log: expected \[low, high\], got \[0\.1\]"),
        ({"uniform": ["a", 1]}, r"expected \[low, high\], got \[a, 1\]"),
        ({"uniform": [0, float("inf")]}, r"expected \[low, high\]"),
        ({"log": [1, 0.1]}, r"log: 1 is not below 0\.1"),
        ({"uniform": [1, 1]}, "uniform: 1 is not below 1"),
        ({"log": [0, 1]}, "log: 0 has no logarithm"),
        ([0.1], r"\[0\.1\]: give two or more different choices"),
        ([0.1, 0.1], "two or more different choices"),
    ],
    ids=str,
)
def test_what_is_no_range_is_one_line(value, message):
    with pytest.raises(UserError, match=f"^toy: demo: search: .*{message}") as caught:
        parse_search({"space": {"lr": value}}, "toy: demo")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"space": {}}, ": space: no key to search"),
        ({"speed": 1}, ": unknown key 'speed'.*; valid: at, check_at, .*, space, trials"),
        ({"trials": 0}, r"trials: 0 lies outside \[1, inf\)"),
        ({"metric": "nll_test"}, "metric: 'nll_test' is not valid; valid: nll_val, brier_val, accuracy_val"),
        ({"seeds": "0-2"}, "seeds: 0 is kept for reported runs; valid: 100 and up"),
        ({"seeds": [100, 99]}, "seeds: 99 is kept for reported runs"),
        ({"at": {"seed": 100}}, "at: 'seed' can't be fixed for a search"),
        ({"at": {"method": "ssvi"}}, r"at: 'method\.name' can't be fixed for a search"),
    ],
    ids=str,
)
def test_a_search_that_is_none_is_refused_when_the_suite_is_read(write, keys, message):
    with pytest.raises(UserError, match=rf"^toy\.yaml: demo: search.*{message}"):
        write(changed(**keys))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"space": {"spead": [1, 2]}},
            r"space: unknown key 'spead'.*; valid: (?!.*method: .*sparsity).*method: .*replace_every",
        ),
        (
            {"space": {"epochs": [1, 2]}},
            r"space: 'training\.epochs' can't be searched: .* how long training",
        ),
        ({"space": {"sparsity": [0.1, 0.2]}}, r"'method\.sparsity' can't be searched: .*compared at"),
        (
            {"space": {"keep_dense": [["a"], ["b"]]}},
            r"'method\.keep_dense' .*which weights a sparsity counts",
        ),
        ({"space": {"batch_size": [8, 16]}}, r"'training\.batch_size' .*how many steps an epoch has"),
        ({"space": {"network.dropout": [0.0, 0.1]}}, r"space: 'network\.dropout' can't be searched"),
        ({"space": {"lr": {"uniform": [-1, 1]}}}, r"space: training: lr: -1\.0 lies outside \(0, inf\)"),
        ({"space": {"allocation": ["uniform", "none"]}}, "space: method: allocation: 'none' is not valid"),
        ({"space": {"lr": [0.1, 1], "training.lr": [1, 2]}}, r"space: key 'training\.lr' is given twice"),
        ({"at": {"sparsity": 0.5, "speed": 1}}, "at: unknown key 'speed'"),
        ({"at": {"sparsity": 0.5, "lr": 0.1}}, r"at: key 'training\.lr' is given twice, or is also searched"),
        ({"at": {"sparsity": 2}}, r"at: method: sparsity: 2\.0 lies outside"),
        (
            {"at": {"sparsity": 0.6}},
            r"at: sparsity: no cell of static_vi \(.*\) has 0\.6; valid: 0\.5, 0\.75$",
        ),
        (
            {"at": {"sparsity": 0.5, "criterion": "abs_mean"}},
            r"at: criterion: no cell has abs_mean, so it would be tuned as it is not reported; valid: snr$",
        ),
        (
            {"at": {}},
            r"cells of static_vi \(.*\) differ in method\.sparsity \(0\.5, 0\.75\); fix one value: `at: ",
        ),
        (
            {"at": {"sparsity": 0.5, "protocol": "refit"}},
            "protocol refit has no validation data to choose by",
        ),
    ],
    ids=str,
)
def test_a_search_that_does_not_fit_the_suite_is_one_line(write, keys, message):
    with pytest.raises(UserError, match=rf"^toy\.yaml: demo: search: .*{message}"):
        Searching(write(changed(**keys)), "demo")


def test_seeds_by_which_settings_are_chosen_are_not_reported(write, here, call):
    plain = write()
    for suite_ in (plain, choose(plain, here, record_of(plain))):
        with pytest.raises(
            UserError, match=r"^--seeds: seed 101 can't be reported.* valid: seeds other than \[100, 101\]"
        ):
            suite_.expand(seeds="99,101")
        assert suite_.expand(seeds="99,102").specs
    status, _, err = call("--seeds", "100", command=grid)
    assert status == 2 and err.startswith("error: --seeds: seed 100 can't be reported")
    content = yaml.safe_load(SUITE)
    del content["search"]
    with pytest.raises(UserError, match="--seeds: seed 100"):  # the choices are there still
        write(yaml.safe_dump(content)).expand(seeds="100")
    with pytest.raises(UserError, match=r"^toy\.yaml: demo: seeds: seed 101"):
        write(SUITE.replace("seeds: 0-1", "seeds: [0, 101]")).expand()


def test_a_suite_is_expanded_once_whatever_was_chosen(write, here, monkeypatch):
    plain = write()
    found = choose(plain, here, record_of(plain))
    merged, merge = [], expansion.Expansion._merge
    monkeypatch.setattr(
        expansion.Expansion, "_merge", lambda self, layers: merged.append(1) or merge(self, layers)
    )
    found.expand()
    assert len(merged) == 7 + 2  # each point once, those that settings were chosen for once more


def test_seeds_that_the_suite_reports_are_refused(write):
    with pytest.raises(UserError, match="search: seeds: 101 is also a seed that the suite reports"):
        Searching(write(SUITE.replace("seeds: 0-1", "seeds: [0, 101]")), "demo")


def test_budgets_are_searched_together_and_one_of_them_is_pinned(write):
    both = SUITE.replace("sparsity: [0, 0.5, 0.75]}", "sparsity: [0.5, 0.75], budget: [epochs, flops]}")
    with pytest.raises(
        UserError, match=r"differ in training\.budget \(epochs, flops\); fix one value: `at: "
    ):
        Searching(write(both), "demo")
    pinned = write(both.replace("at: {", "at: {budget: epochs, "))
    families = pinned.families("demo")
    assert [family.family.method for family in families] == ["dense_vi", "static_vi", "ssvi"]
    assert {family.start.training.budget for family in families} == {"epochs"}
    assert [len(family.cells) for family in families] == [2, 8, 8]


def test_ensembles_of_different_members_are_searched_apart(write, here, call):
    """Each has an entry of its own, which the file keeps."""
    content = yaml.safe_load(changed(space={"lr": {"log": [0.01, 1]}}, trials=2, seeds=[100]))
    content["scales"]["demo"]["grids"] = [
        {"recipe": "default", "method": "dense_vi"},
        {"recipe": "default", "method": "ensemble", "members": 2},
        {"recipe": "default", "method": "ensemble", "member": "rigl", "members": 2, "sparsity": [0.5, 0.75]},
    ]
    found = write(yaml.safe_dump(content))
    names = [str(family.family).split(" (")[0] for family in found.families("demo")]
    assert names == ["dense_vi", "ensemble", "ensemble member=rigl"]
    assert call()[0] == 0
    entries = yaml.safe_load((here / "toy.tuned.yaml").read_text())["demo"]
    assert [entry["method"] for entry in entries] == [
        "dense_vi",
        "ensemble",
        {"name": "ensemble", "member": "rigl"},
    ]
    records = tuned_settings.read(here / "toy.tuned.yaml", ["demo"])["demo"]
    assert [record.family.key for record in records] == [f.family.key for f in found.families("demo")]
    chosen = {str(record.family): record.chosen["training.lr"] for record in records}
    for cell in load("./toy.yaml").expand().cells:
        (family,) = (record.family for record in records if _is_of(cell, record.family))
        assert cell.spec.training.lr == chosen[str(family)]


def _is_of(cell, family):
    name, options = cell.spec.method
    member = getattr(options, "member", "deterministic")
    return family.method == name and dict(family.variant).get("member", "deterministic") == member


def test_a_search_starts_from_settings_as_they_are_written(write):
    """At sparsity 0 nothing is replaced, so that cell does not have the suite's interval."""
    content = yaml.safe_load(changed(space={"lr": {"log": [0.01, 1]}}))
    content["scales"]["demo"]["base"]["replace_every"] = 4
    content["scales"]["demo"]["grids"] = [
        {"recipe": "default", "method": "dense_vi"},
        {"recipe": "default", "method": "csgld", "sparsity": [0, 0.5]},
    ]
    (_, family) = write(yaml.safe_dump(content)).families("demo")
    assert (family.start.method[1].sparsity, family.start.method[1].replace_every) == (0.5, 4)


def test_a_suite_without_a_search_says_so(write):
    content = yaml.safe_load(SUITE)
    del content["search"]
    with pytest.raises(UserError, match=r"^toy\.yaml: demo: no search is declared"):
        Searching(write(yaml.safe_dump(content)), "demo")


def test_what_a_scale_says_of_its_search_wins_over_the_suite(write):
    content = yaml.safe_load(SUITE)
    content["scales"]["demo"]["search"] = {"trials": 7}
    search = write(yaml.safe_dump(content)).searches["demo"]
    assert (search.trials, search.seeds, search.at) == (7, (100, 101), {"sparsity": 0.5})


@pytest.mark.parametrize(
    ("value", "shares", "expected"),
    [
        ({"log": [0.01, 1]}, [0, 0.25, 0.5, 0.999999], [0.01, 0.0316, 0.1, 1.0]),
        ({"uniform": [0, 0.5]}, [0, 0.5, 0.12345], [0.0, 0.25, 0.0617]),
        (
            {"uniform": [0.50004, 0.9996]},
            [0, 0.999999],
            [0.50004, 0.9996],
        ),  # rounded, but not out of the range
        (["a", "b", "c"], [0, 0.34, 0.999999], ["a", "b", "c"]),
    ],
    ids=str,
)
def test_values_of_a_range(value, shares, expected):
    item = parse_range("key", value, "")
    assert [item.at(share) for share in shares] == expected


# -- families and trials --------------------------------------------------------------------


def test_every_method_gets_as_many_trials_and_its_own_settings_first(write):
    found = write()
    searching = Searching(found, "demo")
    assert [part.found.family.method for part in searching.parts] == ["dense_vi", "static_vi", "ssvi"]
    assert [len(part.trials) for part in searching.parts] == [3, 3, 3]
    assert len(searching.plan.specs) == 3 * 3 * 2 and {spec.seed for spec in searching.plan.specs} == {
        100,
        101,
    }
    untuned = {cell.spec.config_id for cell in found.expand().cells if cell.labels.get("sparsity") != 0.75}
    assert {part.trials[0].spec.config_id for part in searching.parts} <= untuned
    assert searching.parts[2].trials[0].settings == {
        "training.lr": 0.1,
        "method.prior_std": 0.1,
        "method.replace_every": 20,
        "method.allocation": "uniform",
    }


def test_points_are_the_same_every_time_for_every_method_and_however_many(write):
    searching = Searching(write(), "demo")
    parts = {part.found.family.method: part for part in searching.parts}
    for key in ("training.lr", "method.prior_std"):
        tried = [[trial.settings[key] for trial in part.trials] for part in parts.values()]
        assert tried[0] == tried[1] == tried[2] and len(set(tried[0])) == 3
    few = trials(searching.search, parts["ssvi"].found, 3)
    many = trials(searching.search, parts["ssvi"].found, 20)
    assert many[:3] == few == trials(searching.search, parts["ssvi"].found)
    every = {trial.settings["method.replace_every"] for trial in many[1:]}
    assert all(type(value) is int and 2 <= value <= 9 for value in every) and len(every) > 3


def test_a_key_goes_to_the_methods_that_have_it(write):
    parts = Searching(write(), "demo").parts
    searched = {part.found.family.method: [*part.found.ranges] for part in parts}
    both = ["training.lr", "method.prior_std"]
    assert searched["dense_vi"] == both
    assert searched["static_vi"] == [*both, "method.allocation"]
    assert searched["ssvi"] == [*both, "method.replace_every", "method.allocation"]


def test_what_a_grid_writes_is_not_searched(write):
    text = SUITE.replace("method: dense_vi}\n", "method: dense_vi, set: {lr: 0.3}}\n", 2)
    text = text.replace("reference: {method: dense_vi, set: {lr: 0.3}}", "reference: {method: dense_vi}")
    (dense, *_) = Searching(write(text), "demo").parts
    assert dense.found.written == ("training.lr",) and [*dense.found.ranges] == ["method.prior_std"]
    assert {trial.spec.training.lr for trial in dense.trials} == {0.3} and len(dense.trials) == 3


def test_cells_that_write_a_searched_key_start_no_search(write):
    text = SUITE + "      - {recipe: default, method: dense_vi, lr: [0.2, 0.3]}\n"
    (dense, *_) = Searching(write(text), "demo").parts
    assert dense.trials[0].settings["training.lr"] == 0.1


def test_other_options_of_the_network_are_another_family(write):
    text = SUITE.replace("method: dense_vi}", "method: dense_vi, network.dropout: [0, 0.1]}")
    parts = Searching(
        write(text.replace("reference: {method: dense_vi, network.dropout: [0, 0.1]}", "")), "demo"
    ).parts
    assert [str(part.found.family) for part in parts[:2]] == [
        "dense_vi (toy_blobs, toy_network, recipe default)",
        "dense_vi (toy_blobs, toy_network dropout=0.1, recipe default)",
    ]


def test_only_families_that_fulfil_the_conditions_are_searched(write):
    assert [part.found.family.method for part in Searching(write(), "demo", ["method=static_vi"]).parts] == [
        "static_vi"
    ]
    with pytest.raises(UserError, match="--where: no cell fulfils"):
        Searching(write(), "demo", ["method=rigl"])


def test_a_search_in_which_grids_write_every_key_is_refused(write):
    def suite_of(**space):
        text = changed(space=space, at={"sparsity": 0.5, "allocation": "erk"})
        return write(text.replace("      sparsity:\n", "      allocation: [erk, global]\n      sparsity:\n"))

    searching = Searching(suite_of(allocation=["uniform", "erk"], lam={"log": [0.1, 1]}), "demo")
    assert [part.found.family.method for part in searching.parts] == ["ssvi"]
    fixed = {found.family.method: found.written for found in searching.fixed}
    assert fixed == {"dense_vi": (), "static_vi": ("method.allocation",)}
    with pytest.raises(UserError, match="nothing to search, the grids set every key"):
        Searching(suite_of(allocation=["uniform", "erk"]), "demo", ["method=ssvi"])


@pytest.mark.parametrize("key", ["members", "level_share", "level_length"])
def test_what_decides_how_much_is_trained_is_not_searched(key):
    with pytest.raises(UserError, match=rf"^here: 'method\.{key}' can't be searched: .*(long|more) "):
        check_searchable(f"method.{key}", "here")


def test_a_mapping_has_no_file_to_write_beside():
    found = parse_suite(yaml.safe_load(SUITE), "toy", "entry point toy (package:SUITE)")
    with pytest.raises(UserError, match=r"^entry point toy .*: this suite has no file"):
        Searching(found, "demo")


# -- what is looked at ----------------------------------------------------------------------


def store_runs(root, searching, value_of, failing=lambda trial, seed: False):
    """Run folders for all trials. value_of(trial, split, stage, predictor): the NLL that is stored."""
    for part in searching.parts:
        for trial in part.trials:
            for spec in trial.specs(searching.search.seeds):
                failed = failing(trial.number, spec.seed)
                files = run_folders.run_files(spec.to_dict(), status="failed" if failed else "done")
                files["spec"] |= {"run_id": spec.run_id, "config_id": spec.config_id}
                files["metrics"] = {
                    "metrics": list(rows(trial.number, spec.seed, value_of)),
                    "calibration": [],
                }
                if failed:
                    del files["metrics"]
                run_folders.write_run(root, files)
    (root / "schema.json").write_text('{"schema": 1}')


def rows(trial, seed, value_of):
    for stage in ("first", "last"):
        for predictor in ("mean", "samples"):
            for split in ("val", "test"):
                value = value_of(trial, split, stage, predictor) + 0.01 * (seed - 100)
                for metric, found in (("accuracy", 1 - value), ("nll", value), ("brier", value)):
                    yield {
                        "stage": stage, "predictor": predictor, "split": split, "shift": None,
                        "severity": None, "metric": metric, "value": found, "n": 30,
                    }  # fmt: skip


def one_best(trial, split, stage, predictor):
    """Trial 1 is the best on validation data by samples after the last stage, trial 2 everywhere else."""
    if (split, stage, predictor) == ("val", "last", "samples"):
        return (0.5, 0.3, 0.4)[trial]
    return (0.5, 0.3, 0.1)[trial]


@pytest.mark.parametrize("metric", ["nll_val", "brier_val", "accuracy_val"])
def test_the_best_on_validation_data_is_chosen_whatever_else_says(write, call, here, metric):
    found = write(changed(metric=metric))
    store_runs(here / "results", Searching(found, "demo"), one_best)
    assert call()[0] == 0
    entry = written(here)["demo"]["ssvi"]
    expected = {"nll_val": (0.305, 0.505), "brier_val": (0.305, 0.505), "accuracy_val": (0.695, 0.495)}[
        metric
    ]
    assert (entry["trial"], entry["value"], entry["untuned"]) == (1, *expected)
    assert entry["sd"] == pytest.approx(0.00707, abs=1e-5)


def test_nothing_of_the_test_part_is_looked_at(write, call, here):
    """The same choices to the last byte, whatever the test part says."""
    files = []
    for test in (0.9, 0.001):
        results = here / f"results {test}"

        def value(trial, split, stage, predictor, test=test):
            return test * (3 - trial) if split == "test" else 0.1 * trial + 0.2

        store_runs(results, Searching(write(), "demo"), value)
        assert call("--results", results)[0] == 0
        files.append([(here / f"toy.{kind}").read_bytes() for kind in ("tuned.yaml", "search.csv")])
        (here / "toy.tuned.yaml").unlink(), (here / "toy.search.csv").unlink()
    assert files[0] == files[1]
    assert b"trial: 0" in files[0][0]


def test_the_suite_keeps_its_settings_where_nothing_does_better(write, call, here):
    store_runs(here / "results", Searching(write(), "demo"), lambda *_: 0.5)
    assert call()[0] == 0
    entry = written(here)["demo"]["dense_vi"]
    assert (entry["trial"], entry["chosen"]) == (0, {"training.lr": 0.1, "method.prior_std": 0.1})


@pytest.mark.parametrize("seeds", [(100, 101), (101,)], ids=str)
def test_a_failed_trial_is_a_row_and_is_not_chosen(write, call, here, seeds):
    store_runs(
        here / "results", Searching(write(), "demo"), one_best, lambda t, seed: t == 1 and seed in seeds
    )
    status, out, _ = call()
    assert status == 0 and "0.5050 ± 0.0071" in out
    entry = written(here)["demo"]["ssvi"]
    assert (entry["trial"], entry["failed"], entry["trials"]) == (2, 1, 3)
    (row,) = (row for row in table(here) if (row["method"], row["trial"]) == ("ssvi", "1"))
    assert (row["failed"], row["n"], row["chosen"]) == ("true", str(2 - len(seeds)), "false")


def test_trials_are_judged_on_validation_data_alone(write):
    found = write(SUITE.replace("batch_size: 16}", "batch_size: 16, ood: all, shifts: all}"))
    assert {spec.evaluation.ood for spec in found.expand().specs} == {("all",)}
    plan = Searching(found, "demo").plan
    assert {(spec.evaluation.ood, spec.evaluation.shifts) for spec in plan.specs} == {((), ())}
    assert {spec.run_id for spec in plan.specs} == {s.run_id for s in Searching(write(), "demo").plan.specs}


def test_where_the_suites_own_settings_fail_there_is_nothing_to_compare_with(write, call, here):
    store_runs(here / "results", Searching(write(), "demo"), one_best, lambda trial, seed: trial == 0)
    assert call()[0] == 0
    entry = written(here)["demo"]["ssvi"]
    assert (entry["trial"], entry["untuned"], entry["untuned_sd"]) == (1, None, None)


def test_where_no_trial_finishes_any_more_the_choice_of_before_stays_with_its_trials(write, call, here):
    store_runs(here / "results", Searching(write(), "demo"), one_best)
    assert call()[0] == 0
    before = [(here / f"toy.{kind}").read_bytes() for kind in ("tuned.yaml", "search.csv")]
    store_runs(here / "other", Searching(load("./toy.yaml"), "demo"), one_best, lambda *_: True)
    status, out, _ = call("--results", here / "other")
    assert status == 1 and "none finished" in out
    assert (
        "ssvi (toy_blobs, toy_network, recipe default): no trial finished; the earlier choice and its "
        "trials are kept" in out
    )
    assert before == [(here / f"toy.{kind}").read_bytes() for kind in ("tuned.yaml", "search.csv")]


def test_where_no_trial_finishes_nothing_is_chosen(write, call, here):
    store_runs(here / "results", Searching(write(), "demo"), one_best, lambda *_: True)
    status, out, _ = call()
    assert status == 1 and "none finished" in out
    assert load("./toy.yaml").chosen == {} and len(table(here)) == 9


def test_a_method_that_fails_is_rows_and_no_choice(here, call):
    text = """
question: Which?
scales:
  demo:
    seeds: 0
    search: {space: {lr: {log: [0.01, 0.1]}}, trials: 2, seeds: 100}
    base: {dataset: toy_blobs, network: toy_network, epochs: 1, batch_size: 16}
    grids:
      - {method: [toy_failing, dense_vi], set: {}}
"""
    (here / "toy.yaml").write_text(text)
    status, out, _ = call()
    assert status == 1 and "told to fail" in out
    assert {row["failed"] for row in table(here) if row["method"] == "toy_failing"} == {"true"}
    assert [*written(here)["demo"]] == ["dense_vi"]


# -- finalists ------------------------------------------------------------------------------

FINALS = {"finalists": 1, "final_seeds": "103-105"}
ELSEWHERE = {"check_at": {"sparsity": 0.75}}


def second_round(searching, first, value_of):
    """What is chosen: ``first`` has the values of trials by number, ``value_of`` those of further runs."""
    values = {
        spec.run_id: first[trial.number]
        for part in searching.parts
        for trial in part.trials
        for spec in trial.specs(searching.search.seeds)
    }
    outcomes = searching.outcomes(values)
    plan = searching.second_round(outcomes)
    for cell in plan.cells:
        values.setdefault(cell.alias_of or cell.run_id, value_of(cell.spec))
    return plan, {o.part.found.family.method: o for o in searching.decided(outcomes, values)}


def test_the_best_and_the_own_settings_run_again_under_other_seeds(write):
    searching = Searching(write(changed(**FINALS, **ELSEWHERE)), "demo")
    plan, _ = second_round(searching, (0.5, 0.3, 0.4), lambda spec: 0.2)
    before, labels = set(searching.plan.specs), {c.spec.config_id: c.label for c in searching.plan.cells}
    added = [spec for spec in plan.specs if spec not in before]
    assert before < set(plan.specs) and {spec.seed for spec in added} == {103, 104, 105}
    for part in searching.parts:
        mine = [spec for spec in added if spec.method[0] == part.found.family.method]
        rates = {(spec.training.lr, getattr(spec.method[1], "sparsity", None)) for spec in mine}
        tried = [trial.spec.training.lr for trial in part.trials[:2]]
        sparsities = (None,) if part.found.family.method == "dense_vi" else (0.5, 0.75)
        assert rates == {(rate, sparsity) for rate in tried for sparsity in sparsities}
    # and trials are called what they were called in the first round
    assert labels.items() <= {c.spec.config_id: c.label for c in plan.cells}.items()


def test_the_finals_decide_and_the_own_settings_may_win(write):
    found = write(changed(**FINALS))
    searching = Searching(found, "demo")
    own = {part.trials[0].spec.training.lr for part in searching.parts}
    _, lucky = second_round(searching, (0.5, 0.3, 0.4), lambda s: 0.35 if s.training.lr in own else 0.36)
    assert {outcome.chosen.trial.number for outcome in lucky.values()} == {0}
    _, better = second_round(searching, (0.5, 0.3, 0.4), lambda s: 0.35 if s.training.lr in own else 0.34)
    assert {outcome.chosen.trial.number for outcome in better.values()} == {1}
    assert {(o.chosen.value, o.untuned.value) for o in better.values()} == {(0.34, 0.35)}


def test_what_choosing_at_one_sparsity_loses_at_another_is_told(write, call, here):
    found = write(changed(**FINALS, **ELSEWHERE))
    searching = Searching(found, "demo")
    own = {part.trials[0].spec.training.lr for part in searching.parts}

    def value_of(spec):
        if getattr(spec.method[1], "sparsity", 0) == 0.75:
            return 0.6 if spec.training.lr in own else 0.75
        return 0.35 if spec.training.lr in own else 0.34

    _, outcomes = second_round(searching, (0.5, 0.3, 0.4), value_of)
    assert {method: o.check_loss for method, o in outcomes.items()} == {
        "dense_vi": None,
        "static_vi": 0.15,
        "ssvi": 0.15,
    }
    searching.write(outcomes.values(), "a command")
    entry = written(here)["demo"]["ssvi"]
    assert (entry["final_seeds"], entry["check_loss"], entry["value"]) == ([103, 104, 105], 0.15, 0.34)
    row = next(row for row in table(here) if (row["method"], row["trial"]) == ("ssvi", "1"))
    assert (row["chosen"], row["value"], row["final_value"], row["check_value"]) == (
        "true", "0.3", "0.34", "0.75",
    )  # fmt: skip
    again = load("./toy.yaml")
    assert {cell.tuned for cell in again.expand().cells} == {True}
    with pytest.raises(UserError, match=r"^--seeds: seed 104 can't be reported"):
        again.expand(seeds="104")


def test_a_family_of_failed_trials_has_no_choice_and_others_go_on(write):
    searching = Searching(write(changed(**FINALS)), "demo")
    outcomes = searching.outcomes({})
    searching.second_round(outcomes)
    assert [outcome.chosen for outcome in searching.decided(outcomes, {})] == [None] * 3


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("metric", ["nll_val", "accuracy_val"])
def test_the_best_of_trials_drawn_anew_is_that_of_all_draws(write, metric, number):
    """Against an enumeration of every sequence of draws."""
    trials_ = Searching(write(), "demo").parts[0].trials[:1] * 3
    values = (0.5, 0.3, 0.4)
    scored = [trial_scores.Scored(t, v, None, 1, False) for t, v in zip(trials_, values, strict=True)]
    failed = trial_scores.Scored(trials_[0], None, None, 0, True)
    best = min if metric == "nll_val" else max
    draws = [best(draw) for draw in itertools.product(values, repeat=number)]
    expected = statistics.fmean(draws), statistics.pstdev(draws)
    assert trial_scores.best_of([*scored, failed], metric, number) == pytest.approx(expected, abs=1e-6)
    assert trial_scores.best_of([failed], metric, number) is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"finalists": 2}, "finalists and final_seeds: one of them is missing; give both or neither"),
        ({"final_seeds": "103-105"}, "finalists and final_seeds: one of them is missing"),
        ({"finalists": 1, "final_seeds": "101-103"}, "final_seeds: trials have seed 101 already"),
        ({"finalists": 1, "final_seeds": 3}, "final_seeds: 3 is kept for reported runs; valid: 100 and up"),
        ({"finalists": -1}, r"finalists: -1 lies outside \[0, inf\)"),
        (ELSEWHERE, "check_at compares finalists; give finalists and final_seeds too"),
        (FINALS | {"check_at": {"epochs": 3}}, "check_at: unknown key 'epochs'; valid: sparsity"),
    ],
    ids=str,
)
def test_finals_that_cannot_be_held_are_one_line(write, keys, message):
    with pytest.raises(UserError, match=rf"^toy\.yaml: demo: search: {message}"):
        write(changed(**keys))


def test_finalists_make_another_search_and_none_make_the_same(write):
    digest = write().searches["demo"].digest
    assert write(changed(finalists=0)).searches["demo"].digest == digest
    assert write(changed(**FINALS)).searches["demo"].digest != digest


# -- a whole search -------------------------------------------------------------------------

DIGITS = """
question: Which?
reference: {method: dense_vi}
scales:
  demo:
    seeds: 0
    search:
      space: {lr: {log: [0.01, 1]}, kl_factor: {log: [0.01, 1]}}
      at: {sparsity: 0.5}
      trials: 2
      seeds: 100
    base: {dataset: digits, network: mlp, network.hidden: [16], epochs: 1}
    grids:
      - {recipe: default, method: dense_vi}
      - {recipe: default, method: static_vi, sparsity: [0.5, 0.8]}
"""


def test_a_whole_search_on_digits_and_what_it_changes(write, call, here):
    before = write(DIGITS).expand()
    assert not any(cell.tuned for cell in before.cells)
    status, out, err = call("--results", here / "r")
    assert (status, err) == (0, "")
    assert "tune-toy, scale demo: 4 runs" in out and "written: toy.tuned.yaml, toy.search.csv" in out
    entries = written(here)["demo"]
    assert all(entry["value"] <= entry["untuned"] for entry in entries.values())
    assert [entry["command"] for entry in entries.values()] == [
        "python -m bench.tune --suite ./toy.yaml --scale demo"
    ] * 2
    after = load("./toy.yaml").expand()
    assert [cell.label for cell in after.cells] == [cell.label for cell in before.cells]
    assert [cell.tuned for cell in after.cells] == [True] * 3
    for cell in after.cells:
        settings = cell.spec.to_dict()
        chosen = entries[cell.labels["method"]]["chosen"]
        assert settings["training"]["lr"] == chosen["training.lr"]
        assert settings["method"]["kl_factor"] == chosen["method.kl_factor"]
    metrics = Store(here / "r").read_tables("tune-toy")["metrics"]
    assert set(metrics["split"]) == {"val", "test"}  # ordinary runs
    assert call("--results", here / "r", command=grid)[0] == 0
    assert list(Store(here / "r").read_tables("toy")["runs"]["tuned"]) == [True] * 3


def test_a_whole_search_with_finalists_on_digits(write, call, here):
    write(DIGITS.replace("seeds: 100", "seeds: 100\n      finalists: 1\n      final_seeds: 101-102"))
    status, out, err = call("--results", here / "r")
    assert (status, err) == (0, "")
    # two trials of each method under one seed, then both again under two
    assert len(Store(here / "r").read_tables("tune-toy")["runs"]) == 12
    assert "nll_val over 2 seeds" in out and "best of 2" in out
    for entry in written(here)["demo"].values():
        assert entry["final_seeds"] == [101, 102] and entry["value"] <= entry["untuned"]
    assert {cell.tuned for cell in load("./toy.yaml").expand().cells} == {True}
    assert "then, of each: the best 1 and its own settings again, seeds [101, 102]" in call("--dry-run")[1]
    before = {path.name: path.read_bytes() for path in here.glob("toy.*")}
    assert call("--results", here / "r", "--force")[0] == 0
    assert len([*(here / "r" / "corrupted").iterdir()]) == 12  # each run is computed again, once
    assert before == {path.name: path.read_bytes() for path in here.glob("toy.*")}


def test_an_interrupted_search_writes_nothing_and_goes_on(write, call, here, monkeypatch):
    write(DIGITS)
    module = importlib.import_module("bench.runner.execute")
    execute, calls = module.execute, []

    def twice(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(arguments)
        return execute(*arguments)

    monkeypatch.setattr(module, "execute", twice)
    with pytest.raises(KeyboardInterrupt):
        tune.main(["--suite", "./toy.yaml", "--executor", "inline"])
    assert not (here / "toy.tuned.yaml").exists() and len(calls) == 2
    monkeypatch.setattr(module, "execute", execute)
    stamps = {path: path.stat().st_mtime_ns for path in (here / "results" / "runs").rglob("*.json")}
    status, out, _ = call()
    assert status == 0 and "4 runs: 2 done, 2 pending" in out
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert [*written(here)["demo"]] == ["dense_vi", "static_vi"]


def test_more_trials_go_on_and_other_families_stay(write, call, here):
    write(DIGITS)
    assert call("--trials", 1)[0] == 0
    first = written(here)["demo"]
    assert [entry["trials"] for entry in first.values()] == [1, 1]
    status, out, _ = call("--trials", 2, "--where", "method=static_vi")
    assert status == 0 and "2 runs: 1 done, 1 pending" in out
    now = written(here)["demo"]
    assert now["dense_vi"] == first["dense_vi"] and now["static_vi"]["trials"] == 2
    assert now["static_vi"]["command"].endswith("--where method=static_vi --trials 2")
    assert [(row["method"], row["trial"]) for row in table(here)] == [
        ("dense_vi", "0"), ("static_vi", "0"), ("static_vi", "1"),
    ]  # fmt: skip
    # the rival had fewer trials, which makes neither of them tuned
    assert {cell.tuned for cell in load("./toy.yaml").expand().cells} == {False}
    status, _, err = call("--trials", 1)
    assert status == 2 and written(here)["demo"] == now
    assert err == (
        "error: toy.tuned.yaml: static_vi (digits, mlp hidden=[16], recipe default) was tuned by 2 trials "
        "of this search, more than 1; valid: --trials 2 and up\n"
    )
    assert call("--trials", 2)[0] == 0
    assert {cell.tuned for cell in load("./toy.yaml").expand().cells} == {True}
    write(DIGITS.replace("trials: 2", "trials: 3"))
    assert {cell.tuned for cell in load("./toy.yaml").expand().cells} == {False}
    # by another search as few trials as are asked for are no loss
    write(DIGITS.replace("kl_factor: {log: [0.01, 1]}", "kl_factor: {log: [0.01, 0.9]}"))
    assert call("--trials", 1)[0] == 0


def test_a_dry_run_shows_families_trials_and_runs_and_writes_nothing(write, call, here):
    write()
    status, out, err = call("--dry-run")
    assert (status, err) == (0, "")
    assert "ssvi (toy_blobs, toy_network, recipe default): 3 trials, 6 runs" in out
    assert "lr log [0.01, 1], now 0.1" in out and "18 cells: 18 runs (18 pending)" in out
    assert "core-hours" in out
    assert [path.name for path in here.iterdir()] == ["toy.yaml"]


# -- the file of choices --------------------------------------------------------------------


def record_of(found, method="ssvi", scale="demo", **changes):
    """What a search of 3 trials chose for ``method``, with ``changes``."""
    part = next(p for p in Searching(found, scale).parts if p.found.family.method == method)
    record = tuned_settings.Record(
        family=part.found.family, chosen=part.found.own, metric="nll_val", value=0.3, sd=0.01, untuned=0.5,
        untuned_sd=None, trial=2, trials=3, failed=1, seeds=(100, 101), start=part.found.start.config_id,
        search=found.searches[scale].digest, command="python -m bench.tune --suite toy",
    )  # fmt: skip
    return replace(record, **changes)


def choose(found, here, *records):
    """Write ``records`` for the suite, and load it with them."""
    tuned_settings.write(here / "toy.tuned.yaml", {"demo": records}, "toy.search.csv")
    return load("./toy.yaml")


@pytest.mark.parametrize("start", ["0123456789ab", "123456789012", "1234e5678901", "0e0000000001"])
def test_the_written_file_reads_back_the_same(write, here, start):
    found = write()
    records = [
        record_of(
            found,
            start=start,
            search=start,
            chosen={"training.lr": 1e-5, "training.lr_scale": None, "method.lam": 0.5},
        ),
        record_of(found, "dense_vi", sd=None, untuned=None),
        record_of(
            found, "static_vi", chosen={"method.scale_init": "yes", "method.allocation": "erk"}, search=None
        ),
    ]
    assert choose(found, here, *records).chosen == {"demo": records}


def test_the_written_table_reads_back_the_same(write, call, here):
    store_runs(here / "results", Searching(write(), "demo"), one_best)
    assert call()[0] == 0
    before = (here / "toy.search.csv").read_bytes()
    assert len(table(here)) == 9 and sum(row["chosen"] == "true" for row in table(here)) == 3
    assert call("--where", "method=ssvi")[0] == 0
    assert (here / "toy.search.csv").read_bytes() == before


@pytest.mark.parametrize("arguments", [[], ["--dry-run"]], ids=str)
def test_what_could_not_be_written_is_said_before_anything_is_computed(
    write, call, here, arguments, monkeypatch
):
    write()
    table = here / "toy.search.csv"
    table.write_text("my,own\n1,2\n")
    status, out, err = call(*arguments)
    assert (status, out) == (2, "") and err.startswith("error: toy.search.csv: not a table of trials")
    table.unlink()
    table.mkdir()
    status, out, err = call(*arguments)
    assert (status, out) == (2, "") and err.startswith("error: cannot read toy.search.csv: ")
    table.rmdir()

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.touch", refuse)  # as tests may run as root, whom nothing is refused
    status, out, err = call(*arguments)
    assert (status, out, err) == (2, "", "error: .: cannot be written: Permission denied\n")
    assert not (here / "results").exists()


def test_searches_that_end_together_lose_no_choice(write, here):
    found = write()
    parts = [Searching(found, "demo", [f"method={method}"]) for method in METHODS]
    every = Searching(found, "demo")
    store_runs(here / "results", every, one_best)
    values = {}
    for part in every.parts:
        for trial in part.trials:
            values |= {spec.run_id: 0.1 * trial.number for spec in trial.specs(every.search.seeds)}
    read = tuned_settings.read

    def slowly(*arguments):
        records = read(*arguments)
        time.sleep(0.05)
        return records

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuned_settings, "read", slowly)
        threads = [threading.Thread(target=p.write, args=(p.outcomes(values), "a command")) for p in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {*written(here)["demo"]} == {*METHODS}
    assert len(table(here)) == 9


def test_what_was_chosen_for_a_family_that_is_gone_is_named(write, call, here):
    plain = write()
    choose(plain, here, *(record_of(plain, method) for method in METHODS))
    write(SUITE.replace("[static_vi, ssvi]", "ssvi"))
    status, out, _ = call("--dry-run")
    assert status == 0
    gone = [line for line in out.splitlines() if "has it no longer" in line]
    assert len(gone) == 1 and gone[0].startswith("static_vi (toy_blobs, toy_network, recipe default): ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("training.lr: 0.1", "training.speed: 0.1", r"chosen: unknown key 'training\.speed'.*; valid: "),
        (
            "training.lr: 0.1",
            "training.epochs: 9",
            r"chosen: 'training\.epochs' can't be searched: .* long",
        ),
        ("training.lr: 0.1", "network.dropout: 0", r"chosen: 'network\.dropout' can't be searched: valid"),
        ("training.lr: 0.1", "protocol: refit", "chosen: 'protocol' can't be searched"),
        ("training.lr: 0.1", "seed: 100", "chosen: 'seed' can't be searched"),
        ("recipe: default", "recipe: fast", "unknown recipe 'fast'.*; valid: .*released"),
        ("training.lr: 0.1", "lr: 0.1", r"chosen: unknown key 'lr'.*; valid: .*training: .*lr"),
        ("method: ssvi", "method: svi", "unknown method 'svi'.*; valid: "),
        ("network: toy_network", "network: {name: toy_network, width: 3}", "unknown key 'width'"),
        ("trials: 3", "trials: three", "trials: expected integer, got 'three'"),
        ("    metric: nll_val\n", "", "missing key 'metric'"),
        ("demo:", "big:", "unknown scale 'big'"),
        ("demo:\n", "demo: 1\nsmall:\n", "demo: expected a list of entries"),
    ],
    ids=str,
)
def test_a_faulty_file_of_choices_is_one_line(write, here, old, new, message):
    choose(write(), here, record_of(write()))
    path = here / "toy.tuned.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=rf"^toy\.tuned\.yaml: .*{message}"):
        load("./toy.yaml")


def test_a_chosen_value_that_is_none_names_the_file(write, here):
    found = choose(write(), here, record_of(write(), chosen={"training.lr": -1}))
    with pytest.raises(UserError, match=r"^toy\.tuned\.yaml: ssvi .*lr: -1\.0 lies outside"):
        found.expand()


def test_a_file_of_choices_is_no_suite(tmp_path, monkeypatch):
    (tmp_path / "toy.yaml").write_text(SUITE)
    (tmp_path / "toy.tuned.yaml").write_text("")
    monkeypatch.setattr(suites, "FOLDER", tmp_path)
    assert [name for name in suite.names() if name.startswith("toy")] == ["toy"]
    assert load("toy").chosen == {}


# -- the layer ------------------------------------------------------------------------------


def rates(plan):
    """Learning rate by label."""
    return {cell.label: cell.spec.training.lr for cell in plan.cells}


def test_chosen_settings_win_over_recipe_and_base_and_not_over_a_grid_or_the_command_line(write, here):
    text = SUITE.replace("batch_size: 16}", "batch_size: 16, lr: 0.2}")
    text += "      - {recipe: default, method: ssvi, sparsity: 0.5, lr: [0.4, 0.5]}\n"
    plain = write(text)
    assert rates(plain.expand())["ssvi lr=0.2 sparsity=0.75"] == 0.2
    found = choose(plain, here, record_of(plain, chosen={"training.lr": 0.3, "method.prior_std": 0.7}))
    plan = found.expand()
    of = rates(plan)
    assert (of["ssvi lr=0.3 sparsity=0.75"], of["ssvi lr=0.4 sparsity=0.5"]) == (0.3, 0.4)
    assert of["static_vi lr=0.2 sparsity=0.5"] == 0.2
    assert {cell.spec.method[1].prior_std for cell in plan.cells if cell.labels["method"] == "ssvi"} >= {0.7}
    forced = found.expand(overrides={"lr": 0.6})
    assert {cell.spec.training.lr for cell in forced.cells} == {0.6}


def test_labels_are_those_without_chosen_settings(write, here):
    text = SUITE.replace("method: dense_vi}\n      -", "method: dense_vi, set: {lr: 0.1}}\n      -")
    plain = write(text)
    without = plain.expand()
    records = [record_of(plain, name, chosen={"training.lr": 0.3}) for name in ("static_vi", "ssvi")]
    plan = choose(plain, here, *records).expand()
    # one grid writes a learning rate, the one that all have: it tells nothing apart, chosen or not
    assert [cell.label for cell in plan.cells] == [cell.label for cell in without.cells]
    assert {tuple(cell.labels) for cell in plan.cells} == {tuple(cell.labels) for cell in without.cells}
    assert {c.spec.training.lr for c in plan.cells if c.labels["method"] == "ssvi" and not c.omitted} == {0.3}


def test_sparsity_0_has_the_settings_chosen_for_dense_vi(write, here):
    plain = write()
    records = [
        record_of(plain, "dense_vi", chosen={"training.lr": 0.05, "method.prior_std": 0.5}),
        record_of(plain, "ssvi", chosen={"training.lr": 0.3, "method.prior_std": 0.7}),
    ]
    plan = choose(plain, here, *records).expand(seeds="0")
    dense = next(cell for cell in plan.cells if cell.labels["method"] == "dense_vi")
    aliases = [cell for cell in plan.cells if cell.omitted]
    assert [cell.label for cell in aliases] == ["static_vi sparsity=0", "ssvi sparsity=0"]
    assert {cell.alias_of for cell in aliases} == {dense.run_id}
    assert dense.spec.training.lr == 0.05 and dense.spec.method[1].prior_std == 0.5


METHODS = ("dense_vi", "static_vi", "ssvi")


def flags(plan):
    """``tuned`` of the cells of SSVI that are trained."""
    return {cell.tuned for cell in plan.cells if cell.labels["method"] == "ssvi" and cell.omitted is None}


def test_a_run_is_tuned_by_the_search_that_the_suite_declares_and_no_other(write, here):
    plain = write()
    records = [record_of(plain, method) for method in METHODS]
    tuned = choose(plain, here, *records)
    assert {cell.tuned for cell in tuned.expand().cells} == {True}
    assert flags(tuned.expand(where=["method=ssvi"])) == {True}
    assert flags(tuned.expand(overrides={"epochs": 3})) == {False}
    assert flags(tuned.expand(overrides={"lr": 0.3})) == {False}
    assert flags(tuned.expand(overrides={"samples": 2})) == {True}
    assert flags(write(SUITE.replace("epochs: 2", "epochs: 3")).expand()) == {False}


@pytest.mark.parametrize(
    "keys",
    [
        {"metric": "accuracy_val"},
        {"seeds": "100-102"},
        {"trials": 4},
        {"at": {"sparsity": 0.75}},
        {"space": {"lr": {"log": [0.01, 0.1]}, "prior_std": {"log": [0.03, 1]}}},
        {"at": {"sparsity": 0.5, "precision": "float64"}},
    ],
    ids=str,
)
def test_what_another_search_chose_is_not_tuned(write, here, keys):
    plain = write()
    choose(plain, here, *(record_of(plain, method) for method in METHODS))
    assert flags(write(changed(**keys)).expand()) == {False}


def test_a_space_of_other_bounds_is_another_search_and_one_in_other_words_is_not(write):
    digest = write().searches["demo"].digest
    space = yaml.safe_load(SUITE)["search"]["space"]
    assert write(changed(space=space | {"lr": {"log": [0.01, 0.5]}})).searches["demo"].digest != digest
    assert write(changed(space=dict(reversed(space.items())))).searches["demo"].digest != digest
    same = changed(space=space | {"lr": {"log": [0.01, 1.0]}}, seeds=[101, 100], trials=9)
    assert write(same).searches["demo"].digest == digest


@pytest.mark.parametrize(
    "changes", [{"search": None}, {"search": "0123456789ab"}, {"trials": 4}, {"trials": 2}, {"chosen": {}}]
)
@pytest.mark.parametrize("method", ["ssvi", "static_vi"])
def test_who_is_not_searched_as_its_rivals_are_spoils_it_for_all(write, here, method, changes):
    plain = write()
    others = [record_of(plain, name) for name in METHODS if name != method]
    for records in (others, [*others, record_of(plain, method, **changes)]):
        assert {cell.tuned for cell in choose(plain, here, *records).expand().cells} == {False}


def test_rivals_share_recipe_data_and_network_and_a_key_of_the_space(write, here):
    released = SUITE + "      - {recipe: released, method: dense_vi}\n"
    plain = write(changed(space={"allocation": ["uniform", "global"]}))
    found = choose(plain, here, record_of(plain), record_of(plain, "static_vi"))
    assert flags(found.expand()) == {True}  # dense VI has no allocation to be searched
    plain = write(released)
    found = choose(plain, here, *(record_of(plain, method) for method in METHODS))
    tuned = {(cell.recipe, cell.tuned) for cell in found.expand().cells}
    assert tuned == {("default", True), ("released", False)}
    fixed = (
        "      - {recipe: default, method: rigl, sparsity: 0.5, lr: 0.1, replace_every: 9, allocation: erk}\n"
    )
    plain = write(SUITE + fixed)
    found = choose(plain, here, *(record_of(plain, method) for method in METHODS))
    assert flags(found.expand()) == {False}  # a rival whose grid writes all that there is to search


def test_a_cell_whose_grid_writes_what_was_chosen_is_not_tuned(write, here):
    text = SUITE + "      - {recipe: default, method: ssvi, sparsity: 0.5, lr: 0.4}\n"
    plain = write(text)
    plan = choose(plain, here, *(record_of(plain, method) for method in METHODS)).expand()
    ssvi = [cell for cell in plan.cells if cell.labels["method"] == "ssvi" and cell.omitted is None]
    assert {(cell.spec.training.lr, cell.tuned) for cell in ssvi} == {(0.1, True), (0.4, False)}


def test_tuned_goes_to_the_table_and_is_null_in_plans_of_before(write, here):
    plain = write()
    records = [record_of(plain, method) for method in METHODS]
    plan = choose(plain, here, *records).expand(seeds="0").to_dict("a command")
    for cell in plan["cells"]:
        cell["tuned"] = cell["tuned"] and cell["labels"]["method"] != "static_vi"
    store = Store(here / "results", create=True)
    store.merge_plan(plan)
    runs = store.tables("toy")["runs"].set_index("config_label")["tuned"]
    assert runs["ssvi sparsity=0.5"] is True or bool(runs["ssvi sparsity=0.5"])
    assert not runs["static_vi sparsity=0.5"]
    old = json.loads(json.dumps(plan))
    for cell in old["cells"]:
        del cell["tuned"]
    other = Store(here / "older", create=True)
    other.merge_plan(old)
    assert other.tables("toy")["runs"]["tuned"].isna().all()
    other.merge_plan(plan)  # what was launched last counts
    assert other.tables("toy")["runs"]["tuned"].notna().all()


def stored(root, *plans):
    """Label to the configurations that the stored plan has under it, and the seeds of each label."""
    store = Store(root, create=True)
    for plan in plans:
        store.merge_plan(plan.to_dict("a command"))
    (plan,) = store.plans()
    found, seeds = {}, {}
    for cell in plan["cells"]:
        found.setdefault(cell["label"], set()).add(cell["config_id"])
        seeds.setdefault(cell["label"], []).append(cell["labels"]["seed"])
    return found, seeds


def test_a_label_stands_for_one_configuration_once_settings_are_chosen(write, here):
    plain = write()
    before = plain.expand(seeds="0-2")
    forced = plain.expand(overrides={"lr": 0.7}, seeds="0", where=["method=dense_vi"])
    found = choose(plain, here, record_of(plain, chosen={"training.lr": 0.3}))
    after = found.expand(seeds="0", where=["method=ssvi", "sparsity>0"])
    configs, seeds = stored(here / "r", before, forced, after)
    assert {len(ids) for ids in configs.values()} == {1}
    # what was chosen stands for its label, of which the untuned seeds are gone; others are as they were
    assert configs["ssvi sparsity=0.5"] == {c.spec.config_id for c in after.cells if "=0.5" in c.label}
    assert seeds["ssvi sparsity=0.5"] == [0]
    assert seeds["static_vi sparsity=0.5"] == seeds["dense_vi"] == [0, 1, 2]
    assert seeds["dense_vi lr=0.7"] == [0]
    # another seed of the same configuration adds to it
    _, seeds = stored(here / "r", found.expand(seeds="5"))
    assert seeds["ssvi sparsity=0.5"] == [0, 5] and seeds["dense_vi"] == [0, 1, 2, 5]


def test_families_searched_one_after_the_other_stay_in_the_plan(write, here):
    text = SUITE.replace("method: dense_vi}", "method: dense_vi, network.dropout: [0, 0.1]}")
    text = text.replace("reference: {method: dense_vi, network.dropout: [0, 0.1]}", "")
    found = write(text + "      - {recipe: released, method: dense_vi, set: {network.dropout: 0.2}}\n")
    whole = Searching(found, "demo").plan
    conditions = (
        "method=dense_vi,dropout=0",
        "dropout=0.1",
        "dropout=0.2",
        "method=static_vi",
        "method=ssvi",
    )
    parts = [Searching(found, "demo", [condition]).plan for condition in conditions]
    configs, _ = stored(here / "r", *parts)
    assert {len(ids) for ids in configs.values()} == {1}
    assert {i for ids in configs.values() for i in ids} == {cell.spec.config_id for cell in whole.cells}
    assert {*configs} == {cell.label for cell in whole.cells}


def test_only_keys_of_a_profile_are_set(call, write, here):
    write()
    status, _, err = call("--set", "epochs=3")
    assert (status, err) == (2, "error: --set epochs: settings are searched, not set; valid: slurm.KEY\n")
    status, _, err = call("--set", "slurm.time=3")
    assert status == 2 and "--set slurm.…: only with --executor slurm" in err
    assert not (here / "results").exists()
