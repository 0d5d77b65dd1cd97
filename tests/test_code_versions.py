"""The notes on runs that were computed by different code, versions or devices."""

from __future__ import annotations

import pandas as pd

from bench.statistics.consistency import differences, equal_methods

ONE, TWO = "1" * 40, "2" * 40


def runs(*rows):
    """The table with these rows: git_sha, torch_version, device, and what else differs."""
    columns = {"status": "done", "scale": "demo", "torch_version": "2.11.0", "device": "cpu", "git_sha": ONE}
    table = pd.DataFrame([columns | row for row in rows])
    return table.astype("str").where(table.notna()) if len(rows) else pd.DataFrame(columns=list(columns))


def test_runs_that_are_alike_are_no_news():
    assert differences(runs()) == []
    assert (
        differences(
            runs({}, {"device": "cuda:0", "status": "failed"}, {"status": "pending", "git_sha": None})
        )
        == []
    )
    assert differences(runs({"device": "cuda:0"}, {"device": "cuda:1"}, {"device": "cuda"})) == []
    assert differences(runs({}, {"scale": "small", "git_sha": TWO, "torch_version": "2.12.0"})) == []


def test_versions_of_the_code_are_listed_by_their_number_of_runs():
    table = runs(
        {"git_sha": TWO + "+0a1b2c3d"}, {}, {"git_sha": None}, {}, {"git_sha": TWO}, {}, {"git_sha": TWO}
    )
    (line,) = differences(table)
    assert line.startswith(
        "7 finished runs were computed by 4 versions of the code: 1111111 (3), 2222222 (2), "
    )
    assert "2222222+0a1b2c3d (1)" in line and "unknown (1)" in line
    assert line.endswith("; --force computes them anew, another --results keeps them apart")


def test_many_versions_are_a_short_line():
    (line,) = differences(runs(*({"git_sha": f"{number:040x}"[::-1]} for number in range(1000))))
    assert ", 996 more;" in line and len(line) < 250


def test_torch_and_devices_have_lines_of_their_own():
    lines = differences(runs({}, {}, {"torch_version": "2.12.0", "device": "cuda:1"}))
    assert [line.partition(";")[0] for line in lines] == [
        "3 finished runs were computed by 2 versions of torch: 2.11.0 (2), 2.12.0 (1)",
        "3 finished runs were computed on 2 kinds of device: cpu (2), cuda (1)",
    ]


def test_each_scale_is_told_of_by_name():
    lines = differences(runs({}, {"git_sha": TWO}, {"scale": "small"}, {"scale": "small", "device": "cuda"}))
    assert len(lines) == 2
    assert lines[0].startswith("2 finished runs at scale demo were computed by 2 versions of the code: ")
    assert lines[1].startswith("2 finished runs at scale small were computed on 2 kinds of device: ")


def scored(*rows):
    """The table with these rows: method, and what else differs."""
    columns = {"status": "done", "scale": "demo", "dataset": "digits", "network": "mlp", "seed": 0}
    columns |= {"accuracy": 0.9, "nll": 0.25, "brier": 0.125, "ece": 0.0625}
    columns |= {"config.method.sparsity": 0.5, "config.method.rate": None, "config.training.lr": 0.1}
    table = pd.DataFrame([columns | {"run_id": f"{number:012x}"} | row for number, row in enumerate(rows)])
    return table.assign(**{"config.method.name": table["method"], "config.seed": table["seed"]})


def test_methods_with_equal_settings_and_results_are_told_of():
    own = {"config.method.rate": 0.3}  # an option that the other method does not have
    (line,) = equal_methods(scored({"method": "ssvi"}, {"method": "mine"} | own))
    assert line.startswith("mine has the results of ssvi in every digit, with equal settings (1 of its runs)")
    both = [{"method": method, "seed": seed} for seed in (0, 1) for method in ("ssvi", "mine")]
    (line,) = equal_methods(scored(*both, {"method": "other", "nll": 0.26}))
    assert "(2 of its runs)" in line


def test_methods_that_differ_in_a_setting_or_a_digit_are_no_news():
    one = {"method": "ssvi"}
    for row in (
        {"nll": 0.25 + 1e-15}, {"seed": 1}, {"config.training.lr": 0.2}, {"config.method.sparsity": 0.9},
        {"status": "failed"}, {"dataset": "wine"}, {"scale": "small"}, {"method": "ssvi"},
    ):  # fmt: skip
        assert equal_methods(scored(one, {"method": "mine"} | row)) == [], row
