"""Files of ``torch.save``: what is read, and what is refused before torch makes anything of it."""

from __future__ import annotations

import io
import os
import random
import tempfile
import zipfile
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bench.results.files import StoreError
from bench.training import checkpoints, safe_load
from bench.training.safe_load import Damaged
from tests.fuzzing import tries


def stored(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def read(data):
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "a.pt"
        path.write_bytes(data)
        return safe_load.read(path)


def changed(data, change=lambda name, part: part, **options):
    """The archive ``data`` written anew, each entry as ``change`` has it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", **options) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
    return buffer.getvalue()


def content():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 2, dtype=torch.float64))
    optimiser = torch.optim.AdamW(module.parameters(), fused=True)
    numbers = {str(dtype): torch.ones(3, dtype=dtype) for dtype in (
        torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8, torch.int8,
        torch.int16, torch.int32, torch.int64, torch.complex64, torch.uint16,
    )}  # fmt: skip
    return {
        "module": module.state_dict(), "optimiser": optimiser.state_dict(), "numbers": numbers,
        "stream": torch.Generator().get_state(), "parameter": nn.Parameter(torch.ones(2)),
        "part": torch.arange(10)[3:5], "same": torch.ones(1).expand(7), "empty": torch.empty(0),
        "plain": [1, 2.5, None, True, "text", b"bytes", (1, {2: 3})], "shape": torch.Size([2, 3]),
        "kind": torch.float32, "large": 2**70, "infinite": float("inf"),
    }  # fmt: skip


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_what_is_saved_comes_back(tmp_path):
    checkpoints.save(tmp_path / "a.pt", content())
    assert same(checkpoints.load(tmp_path / "a.pt"), content())
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


class Bomb:
    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cut short, or not an archive"),
        (b"garbage", "cut short, or not an archive"),
        (stored([1]), "it holds a list"),
        (changed(stored({"a": torch.zeros(10**6)}), compression=zipfile.ZIP_DEFLATED), "it is compressed"),
        (stored({"a": Bomb(bytearray, 10**12)}), "it holds bytes by their number alone"),
        (stored({"a": Bomb(torch.Tensor, 10**6, 10**6)}), "it holds a torch.Tensor"),
        (stored({"a": Bomb(os.system, "false")}), r"it holds a posix.system"),
        (stored({"a": Fraction(1, 2)}), "it holds a fractions.Fraction"),
        (stored({"a": torch.ones(1).expand(10**6, 10**6)}), "a tensor of 1000000000000 numbers"),
    ],
    ids=["empty", "garbage", "list", "compressed", "bytes", "tensor", "call", "fraction", "expanded"],
)
def test_what_is_more_than_its_bytes_is_refused(data, words):
    with pytest.raises(Damaged, match=words) as caught:
        read(data)
    assert "\n" not in str(caught.value)


def test_a_tensor_that_reaches_beyond_its_data_is_refused():
    data = stored({"a": torch.arange(4.0)})
    longer = changed(data, lambda name, part: part.replace(b"cpuq\x06K\x04", b"cpuq\x06K\x40"))
    assert longer != data
    with pytest.raises(Damaged, match="tensor data 0 has 16 bytes, not 256"):
        read(longer)


def test_entries_that_share_their_bytes_are_refused():
    """A zip bomb without compression."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as new:
        new.writestr("archive/data.pkl", b"." * 10_000)
        new.filelist += [new.filelist[0]] * 10
    with pytest.raises(Damaged, match="its parts overlap"):
        read(buffer.getvalue())


def test_a_link_a_pipe_and_a_large_file_are_no_archives(tmp_path):
    (tmp_path / "a.pt").write_bytes(stored({}))
    (tmp_path / "link.pt").symlink_to(tmp_path / "a.pt")
    os.mkfifo(tmp_path / "pipe.pt")
    for path, words in ((tmp_path / "link.pt", "cannot read"), (tmp_path / "pipe.pt", "not a regular file")):
        with pytest.raises(StoreError, match=words):
            safe_load.read(path)
    with pytest.raises(StoreError, match="the limit is 100"):
        safe_load.read(tmp_path / "a.pt", limit=100)
    with pytest.raises(FileNotFoundError):
        safe_load.read(tmp_path / "none.pt")


SOUND = stored({"module": {"weight": torch.arange(20.0)}, "step": 3, "names": ["a", "b"]})


@settings(max_examples=tries(300), deadline=None)
@given(st.data())
def test_any_change_of_a_byte_is_seen_or_changes_nothing(data):
    """Checksums cover what is stored, not every byte of the archive's own."""
    at = data.draw(st.integers(0, len(SOUND) - 1))
    bit = data.draw(st.integers(0, 7))
    broken = SOUND[:at] + bytes([SOUND[at] ^ 1 << bit]) + SOUND[at + 1 :]
    try:
        found = read(broken)
    except Damaged:
        return
    assert same(found, read(SOUND))


@settings(max_examples=tries(200), deadline=None)
@given(st.integers(0, len(SOUND) - 1))
def test_an_archive_that_was_cut_is_damaged(at):
    with pytest.raises(Damaged):
        read(SOUND[:at])


@settings(max_examples=tries(300), deadline=None)
@given(st.integers(0, 2**32))
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_a_pickle_of_any_bytes_is_damaged_or_harmless(seed):
    """Its checksum is right, as it would be in a file that somebody made."""
    numbers = random.Random(seed)

    def broken(name, part):
        if not name.endswith("data.pkl"):
            return part
        part = bytearray(part)
        for _ in range(numbers.randint(1, 5)):
            part[numbers.randrange(len(part))] = numbers.randrange(256)
        return bytes(part)

    try:
        assert isinstance(read(changed(SOUND, broken)), dict)
    except Damaged:
        return
