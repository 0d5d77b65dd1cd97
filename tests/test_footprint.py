"""How many runs at once a machine has memory for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import footprint
from bench.spec import nest, parse_spec

MIB = 2**20


def spec(**chosen):
    return parse_spec(nest({"dataset": "digits", "network": "mlp", "method": "ssvi", **chosen}))


def test_a_small_run_takes_an_interpreter_with_torch():
    assert footprint.PROCESS_BYTES < footprint.expected_bytes(spec()) < footprint.PROCESS_BYTES + 5 * MIB


def test_a_large_network_takes_what_dense_vi_has_for_each_weight():
    width = 4096
    grown = footprint.expected_bytes(spec(**{"network.hidden": [width, width]})) - footprint.expected_bytes(
        spec()
    )
    assert grown == pytest.approx(40 * width**2, rel=0.05)


def test_images_count_without_being_there():
    fashion = footprint.expected_bytes(spec(dataset="fashion_mnist", network="lenet5"))
    assert fashion - footprint.PROCESS_BYTES > 3 * 55_000 * 784 * 4


def test_the_largest_run_decides_and_one_always_fits(monkeypatch):
    specs = [spec(), spec(**{"network.hidden": [2048, 2048]})]
    largest = footprint.expected_bytes(specs[1])
    monkeypatch.setattr(footprint, "available_bytes", lambda: 3 * largest + 1)
    assert footprint.fitting(specs) == 3
    monkeypatch.setattr(footprint, "available_bytes", lambda: 1)
    assert footprint.fitting(specs) == 1


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
    found = footprint.available_bytes(tmp_path)
    assert found == expected if expected is not None else found > 10 * MIB
