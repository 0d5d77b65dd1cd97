"""How many runs at once fit into a machine's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.launching import memory_fit

MIB = 2**20


def spec(**chosen):
    return parse_spec(nest({"dataset": "digits", "network": "mlp", "method": "ssvi", **chosen}))


def test_a_small_run_takes_an_interpreter_with_torch():
    assert memory_fit.PROCESS_BYTES < memory_fit.expected_bytes(spec()) < memory_fit.PROCESS_BYTES + 5 * MIB


def test_a_large_network_takes_what_dense_vi_has_for_each_weight():
    width = 4096
    grown = memory_fit.expected_bytes(spec(**{"network.hidden": [width, width]})) - memory_fit.expected_bytes(
        spec()
    )
    assert grown == pytest.approx(40 * width**2, rel=0.05)


def test_images_count_without_being_there():
    fashion = memory_fit.expected_bytes(spec(dataset="fashion_mnist", network="lenet5"))
    assert fashion - memory_fit.PROCESS_BYTES > 3 * 55_000 * 784 * 4


def test_the_largest_run_decides_and_one_always_fits(monkeypatch):
    specs = [spec(), spec(**{"network.hidden": [2048, 2048]})]
    largest = memory_fit.expected_bytes(specs[1])
    monkeypatch.setattr(memory_fit, "available_bytes", lambda: 3 * largest + 1)
    assert memory_fit.fitting(specs) == 3
    monkeypatch.setattr(memory_fit, "available_bytes", lambda: 1)
    assert memory_fit.fitting(specs) == 1


@pytest.mark.parametrize(
    ("limit", "current", "stat", "expected"),
    [
        ("1000000", "400000", "anon 1\ninactive_file 100000\n", 700_000),
        ("1000", "5000", "", 0),
        ("max", "5000", "", None),
    ],
)
def test_a_container_has_what_its_limit_leaves(tmp_path, limit, current, stat, expected):
    for name, content in (("memory.max", limit), ("memory.current", current), ("memory.stat", stat)):
        Path(tmp_path / name).write_text(f"{content}\n" if content else "")
    found = memory_fit.available_bytes(tmp_path)
    assert found == expected if expected is not None else found > 10 * MIB
