"""Profiles of SLURM jobs, from files and the command line, and their errors."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from bench.launching import slurm_launch, slurm_profile
from bench.launching.slurm_profile import Profile, load, seconds
from methods.core.errors import UserError

EXAMPLE = Path(__file__).parents[1] / "slurm" / "example.yaml"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the folder of profiles, the only one that is searched."""
    monkeypatch.setattr(slurm_profile, "FOLDERS", (tmp_path,))
    return tmp_path


def test_without_a_profile_all_is_left_to_the_site():
    assert load(None, {}).sbatch() == {"time": "1:00:00", "cpus-per-task": "1"}


def test_the_example_has_every_key_and_is_valid():
    assert load(str(EXAMPLE), {}).options == {"constraint": "a100"}
    keys = re.findall(r"^(\w+):", EXAMPLE.read_text(), re.MULTILINE)
    assert keys == [field.name for field in fields(Profile)]


@pytest.mark.parametrize("path", sorted(EXAMPLE.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_profiles_that_come_along_are_found_by_name(path):
    assert load(path.stem, {}) == load(str(path), {})


def test_a_profile_is_found_by_name_and_its_keys_are_overridden(folder):
    (folder / "mine.yaml").write_text("partition: long\ncpus: 4\n")
    (folder / "other.yaml").write_text("")
    assert load("mine", {"cpus": 2}) == Profile(partition="long", cpus=2)
    assert load("other", {}) == Profile()
    with pytest.raises(UserError, match=r"there is no slurm/my.yaml; valid: mine, other, or a path"):
        load("my", {})


def test_everything_becomes_an_option_of_sbatch():
    asked = Profile("gpu", "lab", "high", 1, 8, "16G", 90, exclusive=True, options={"constraint": "a100"})
    assert asked.sbatch() == {
        "partition": "gpu",
        "account": "lab",
        "qos": "high",
        "time": "90",
        "cpus-per-task": "8",
        "mem": "16G",
        "gpus-per-node": "1",
        "constraint": "a100",
        "exclusive": True,
    }


def test_a_site_with_its_own_word_for_gpus_is_not_asked_twice():
    options = Profile(gpus=1, options={"gres": "gpu:a100:1"}).sbatch()
    assert options["gres"] == "gpu:a100:1" and "gpus-per-node" not in options


@pytest.mark.parametrize(
    ("time", "expected"),
    [(30, 1800), ("30", 1800), ("1:30", 90), ("24:00:00", 86400), ("2-3", 183600), ("1-2:03", 93780)],
)  # fmt: skip
def test_times_are_those_of_sbatch(time, expected):
    assert seconds(time) == expected


@pytest.mark.parametrize("time", ["", "0", "1 day", "1:2:3:4", "-5", "1-", "0:00:00", "½"])
def test_what_is_no_time(time):
    with pytest.raises(UserError, match="is not a time; valid: minutes, H:M:S"):
        seconds(time)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("partitoin: a", "unknown key 'partitoin'"),
        ("- a", "expected keys of a profile"),
        ("gpus: 2", r"gpus: 2 lies outside \[0, 1\]"),
        ("time: 1", "signal_seconds: 60 is more than half of the time limit, which is 60 s"),
        ("time: tomorrow", "time: 'tomorrow' is not a time"),
        ("memory: lots", "memory: 'lots' is not valid; valid: 8G"),
        ("partition: a b", "partition: 'a b' is not a name"),
        ("options: {mem: 3G}", "options: mem: set it by the key memory of the profile"),
        ("options: {array: 1-3}", "options: 'array' can't be set here"),
        ("options: {'a b': 1}", "options: 'a b' can't be set here"),
        ('options: {comment: "x"}', "options: 'comment' can't be set here"),
        ('options: {reservation: "x\\n#SBATCH --array=1"}', "is not the value of an option"),
        ("setup: module load", "setup: expected"),
        ("cpus: 1\ncpus: 2", "key 'cpus' appears twice"),
    ],
)
def test_what_is_wrong_with_a_profile_is_one_line_that_names_file_and_key(folder, text, reason):
    path = folder / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=reason) as caught:
        load("mine", {})
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_wrong_on_the_command_line_is_said_to_be_there(folder):
    (folder / "mine.yaml").write_text("")
    with pytest.raises(UserError, match=r"--set slurm: unknown key 'cpu'.*; valid: account, "):
        load("mine", {"cpu": 3})


def test_a_folder_in_the_memory_of_a_machine_is_shared_with_nobody(tmp_path):
    assert slurm_launch.not_shared(Path("/dev/shm/results")) is not None
    assert slurm_launch.not_shared(Path("/tmp/results")) is not None
    assert slurm_launch.not_shared(Path("/home/somebody/results")) is None
