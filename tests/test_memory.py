"""Peak memory: of this process, since the run began."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner import memory
from bench.runner.execute import execute
from bench.runner.memory import PeakMemory

CPU = torch.device("cpu")
MEGABYTE = 2**20


needs_reset = pytest.mark.skipif(PeakMemory(CPU).bytes is None, reason="this system cannot reset the peak")


@needs_reset
def test_a_small_run_after_a_big_one_in_the_same_process_reports_less(tmp_path):
    store, peaks, weights = Store(tmp_path, create=True), [], 4 * 1500**2
    for hidden in ([1500, 1500], [16]):
        options = {"network": "mlp", "network.hidden": hidden, "method": "dense_vi", "epochs": 1}
        run = parse_spec(nest({"dataset": "digits", "batch_size": 2000, **options}))
        assert execute(run, store, Execution()) == "done"
        peaks.append(store.run(run.run_id).read("costs")["peak_memory_bytes"])
    big, small = peaks
    assert small < big - 6 * weights  # means, scales, their gradients and momenta


@needs_reset
def test_a_child_process_is_not_counted():
    before = PeakMemory(CPU)
    start = before.bytes
    subprocess.run([sys.executable, "-c", f"bytearray({400 * MEGABYTE})"], check=True)
    assert before.bytes < start + 100 * MEGABYTE


@pytest.mark.parametrize("fault", ["no such files", "writing does nothing", "no such field"])
def test_nothing_is_reported_where_the_peak_cannot_be_reset(fault, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "missing" if fault == "no such files" else tmp_path)
    status = "VmHWM:\t  900000 kB\nVmRSS:\t  100000 kB\n"
    (tmp_path / "status").write_text("Name: python\n" if fault == "no such field" else status)
    assert PeakMemory(CPU).bytes is None


def test_a_reset_peak_is_read_in_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_PROCESS", tmp_path)
    (tmp_path / "status").write_text("VmHWM:\t  100100 kB\nVmRSS:\t  100000 kB\n")
    peak = PeakMemory(CPU)
    assert (tmp_path / "clear_refs").read_text() == "5"
    (tmp_path / "status").write_text("VmHWM:\t  250000 kB\nVmRSS:\t  100000 kB\n")
    assert peak.bytes == 250_000 * 1024


def test_a_gpu_is_reset_too_and_a_cpu_has_no_device_memory(monkeypatch):
    """Replaces a GPU: its peak must be reset first, and be read from the device of the run."""
    calls = []
    monkeypatch.setattr(torch.cuda, "init", lambda: calls.append("init"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append(device))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: {device: 12345}[device])
    second = torch.device("cuda:1")
    assert PeakMemory(second).device_bytes == 12345
    assert calls == ["init", second]
    assert PeakMemory(CPU).device_bytes is None
