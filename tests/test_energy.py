"""Energy counters, on a tree of files as Linux has it and a library that answers as NVIDIA's."""

from __future__ import annotations

import itertools
import sys
import threading
from types import SimpleNamespace

import pytest
import torch

from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner import energy
from bench.runner.energy import Counter, EnergyMeter, package_counters
from bench.runner.execute import execute
from tests import toys  # noqa: F401  (registers the toys)

RANGE = 65_532_610_987


@pytest.fixture
def powercap(tmp_path):
    """Two packages, parts of the first, and the zone of the whole platform; a function sets a counter."""
    zones = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "package-1", "2": "psys"}
    for number, name in zones.items():
        zone = tmp_path / f"intel-rapl:{number}"
        zone.mkdir()
        (zone / "name").write_text(f"{name}\n")
        (zone / "max_energy_range_uj").write_text(f"{RANGE}\n")
        (zone / "energy_uj").write_text("1000000\n")
    (tmp_path / "intel-rapl").mkdir()  # the control type itself, which counts nothing

    def count(number, microjoules):
        (tmp_path / f"intel-rapl:{number}" / "energy_uj").write_text(f"{microjoules}\n")

    return tmp_path, count


def test_packages_are_added_up_and_their_parts_are_not(powercap):
    root, count = powercap
    with EnergyMeter(package_counters(root)) as meter:
        assert meter.joules == 0.0
        count("0", 3_500_000)
        count("1", 1_250_000)
        for other in ("0:0", "0:1", "2"):
            count(other, 9_000_000)
        assert meter.joules == pytest.approx(2.75)


def test_a_counter_that_overflows_goes_on_from_zero(powercap):
    root, count = powercap
    count("0", RANGE - 2_000_000)
    with EnergyMeter(package_counters(root)) as meter:
        count("0", 1_000_000)
        assert meter.joules == pytest.approx(3.0)
        count("0", RANGE - 1_000_000)
        assert meter.joules == pytest.approx(3.0 + RANGE * 1e-6 - 2.0)
        count("0", 0)
        assert meter.joules == pytest.approx(3.0 + RANGE * 1e-6 - 1.0)


def test_a_counter_is_read_by_itself_so_that_no_overflow_is_missed(monkeypatch):
    monkeypatch.setattr(energy, "_READ_EVERY_SECONDS", 0.001)
    values, all_read = [0, 60, 20, 80, 40], threading.Event()

    def read():
        if len(values) == 1:
            all_read.set()
            return values[0]
        return values.pop(0)

    with EnergyMeter([Counter(read, wrap=100)]) as meter:
        assert all_read.wait(10)
        assert meter.joules == pytest.approx(240e-6)


@pytest.mark.parametrize("damage", ["unreadable", "gone", "no number"])
def test_what_cannot_be_read_has_no_energy(powercap, damage):
    root, _ = powercap
    file = root / "intel-rapl:1" / "energy_uj"
    with EnergyMeter(package_counters(root)) as meter:
        assert meter.joules == 0.0
        file.unlink()
        if damage == "unreadable":
            file.mkdir()  # root may read whatever the mode says
        elif damage == "no number":
            file.write_text("\n")
        assert meter.joules is None
        if damage == "gone":
            file.write_text("5000000\n")
            assert meter.joules is None  # what was missed meanwhile is not known


def test_a_machine_without_counters_has_no_energy(tmp_path):
    with EnergyMeter(package_counters(tmp_path)) as meter:
        assert meter.joules is None
    with EnergyMeter(package_counters(tmp_path / "missing")) as meter:
        assert meter.joules is None


def test_a_neighbour_on_the_processors_would_be_counted_too(powercap, monkeypatch):
    monkeypatch.setattr(energy, "package_counters", lambda: package_counters(powercap[0]))
    assert len(energy.counters(torch.device("cpu"), concurrency=1)) == 2
    assert energy.counters(torch.device("cpu"), concurrency=2) == []


class FakeNVML(SimpleNamespace):
    class NVMLError(Exception):
        pass

    def __init__(self):
        super().__init__(millijoules=10_000, processes=[1], known={"GPU-1234"})

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid not in self.known:
            raise self.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if self.millijoules is None:
            raise self.NVMLError("Not Supported")
        return self.millijoules

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return self.processes


@pytest.fixture
def nvml(monkeypatch):
    fake = FakeNVML()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_a_gpu_counts_its_board(nvml):
    with EnergyMeter(energy.gpu_counters("GPU-1234")) as meter:
        nvml.millijoules = 12_500
        assert meter.joules == pytest.approx(2.5)


def test_a_shared_gpu_an_old_one_and_an_unknown_one_have_no_energy(nvml):
    with EnergyMeter(energy.gpu_counters("GPU-1234")) as meter:
        nvml.processes = [1, 2]
        assert meter.joules is None
        nvml.processes = [1]
        assert meter.joules is None
    nvml.millijoules = None
    with EnergyMeter(energy.gpu_counters("GPU-1234")) as meter:
        assert meter.joules is None
    assert energy.gpu_counters("GPU-9") == []


def test_without_pynvml_a_gpu_has_no_energy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy.gpu_counters("GPU-1234") == []


# -- in a run ----------------------------------------------------------------------------


@pytest.fixture
def joules(tmp_path, monkeypatch):
    """``costs.json`` of a run in a process whose package counts 1 J each time that it is read."""
    readings = itertools.count(0, 1_000_000)
    monkeypatch.setattr(energy, "package_counters", lambda: [Counter(lambda: next(readings))])
    store = Store(tmp_path, create=True)
    run = parse_spec(nest({"dataset": "toy_blobs", "network": "toy_network", "method": "ssvi", "epochs": 3}))

    def joules(stop=lambda: False, **execution):
        execute(run, store, Execution(checkpoint_seconds=0.0, **execution), stop)
        return (store.run(run.run_id).read("costs") or {}).get("energy_joules")

    return joules


def test_a_run_alone_on_its_machine_has_its_energy(joules):
    assert joules() == pytest.approx(1.0)


def test_a_run_beside_another_has_none(joules):
    assert joules(concurrency=2) is None


def test_a_run_that_was_interrupted_has_none_but_one_that_had_not_begun_has(joules):
    assert joules(stop=lambda: True) is None  # not done; and before its first step
    assert joules() == pytest.approx(1.0)


def test_what_an_earlier_attempt_consumed_is_not_known(joules):
    asked = iter([False] * 5 + [True])
    assert joules(stop=lambda: next(asked)) is None
    assert joules() is None
