"""The tables of a run: whole files, and little writing."""

from __future__ import annotations

import pytest

from bench.results.run_folder import RunFolder
from bench.training import recorder
from bench.training.recorder import Recorder


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(recorder.time, "monotonic", lambda: now[0])
    return now


def test_rows_come_back_and_those_beside_them_go(tmp_path):
    folder = RunFolder(tmp_path / "run")
    first = Recorder(folder)
    first.add("history", {"epoch": 1, "value": float("nan")})
    state = first.state_dict()
    first.add("history", {"epoch": 2, "value": 0.5})
    first.add("layers", {"layer": "fc1"})
    first.write()
    second = Recorder(folder)
    second.start(state)
    assert folder.rows("history") == [{"epoch": 1, "value": None}]
    assert folder.rows("layers") == folder.rows("criteria_pairs") == []
    second.add("history", {"epoch": 3, "value": 1.0})
    second.write()
    assert [row["epoch"] for row in folder.rows("history")] == [1, 3]


def test_a_run_that_begins_leaves_no_rows_of_earlier_and_makes_no_file(tmp_path):
    folder = RunFolder(tmp_path / "run")
    Recorder(folder).start()
    assert not folder.path.exists()
    folder.write_lines("history", b'{"epoch": 1}\n{"epo')
    Recorder(folder).start()
    assert folder.rows("history") == []


def test_what_is_offered_often_is_written_in_all_a_few_times(tmp_path, clock, monkeypatch):
    folder, written = RunFolder(tmp_path / "run"), []
    write = folder.write_lines
    monkeypatch.setattr(
        folder, "write_lines", lambda name, data: (written.append(len(data)), write(name, data))
    )
    tables = Recorder(folder)
    for epoch in range(5000):
        clock[0] += 0.5
        tables.add("history", {"epoch": epoch, "text": "x" * 100})
        tables.offer()
        if epoch == 25:
            assert len(folder.rows("history")) == 26  # at once, as long as it is little
    tables.write()
    size = len(folder.lines("history"))
    assert size > 500_000 and len(folder.rows("history")) == 5000
    assert sum(written) <= 4 * size + 2**16
    assert len(written) > 35


def test_little_time_between_two_writings_is_not_enough(tmp_path, clock):
    folder = RunFolder(tmp_path / "run")
    tables = Recorder(folder)
    tables.add("history", {"text": "x" * 2**17})
    tables.offer()
    for seconds, rows in ((1.9, 1), (0.2, 3)):
        clock[0] += seconds
        tables.add("history", {"seconds": seconds})
        tables.offer()
        assert len(folder.rows("history")) == rows
