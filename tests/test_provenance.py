"""The provenance of a run: code with its changes, other packages, machine, job, attempts."""

from __future__ import annotations

import os
import stat
import subprocess
from types import SimpleNamespace

import pytest

from bench.data.base import DATASETS
from bench.experiment.execution import Execution
from bench.experiment.spec import parse_spec
from bench.results.files import StoreError
from bench.results.store import Store
from bench.runner import git_state, provenance
from methods.base import METHODS


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository that contains ``bench/runner/git_state.py``, so that it counts as the code in use."""
    folder = tmp_path / "a: repository"
    for name in ("bench/runner/git_state.py", "methods/one.py", "setup.py", "README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name}\n" * 20)
    (folder / ".gitignore").write_text("*.so\n__pycache__/\n")
    monkeypatch.setattr(git_state, "__file__", str(folder / "bench" / "runner" / "git_state.py"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def git(folder, *arguments):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout.decode().strip()


def code():
    return git_state.code.__wrapped__()


def change(folder):
    """Every kind of change."""
    (folder / "bench" / "runner" / "git_state.py").write_text("changed\n")
    (folder / "methods" / "one.py").unlink()
    (folder / "methods" / "añadido uno.py").write_text("new\n")
    (folder / "bench" / "table.npz").write_bytes(bytes(range(256)))
    (folder / "setup.py").chmod(0o755)
    git(folder, "add", "bench/runner/git_state.py")
    (folder / "bench" / "runner" / "git_state.py").write_text("changed again, after it was staged\n")


def content(folder):
    """Files, with their modes, that decide results."""
    paths = (path for name in git_state.CODE for path in [folder / name, *(folder / name).rglob("*")])
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode & stat.S_IXUSR)
        for path in paths
        if path.is_file() and path.suffix != ".so"
    }


# -- code ------------------------------------------------------------------------------------


def test_a_clean_checkout_is_its_commit(repository, tmp_path):
    (repository / "results").mkdir()
    (repository / "results" / "table.csv").write_text("not code")
    (repository / "methods" / "kernels.so").write_text("not source")
    (repository / "README.md").write_text("not code either")
    os.utime(repository / "methods" / "one.py")  # touched, which git can only tell by reading it
    found = code()
    assert found.name == found.commit == git(repository, "rev-parse", "HEAD")
    found.keep(tmp_path)
    assert not (tmp_path / "patches").exists()


def test_the_patch_of_all_changes_brings_another_checkout_to_the_same_files(repository, tmp_path):
    git(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "other"))
    change(repository)
    found = code()
    assert found.name == f"{git(repository, 'rev-parse', 'HEAD')}+{found.digest}"
    found.keep(tmp_path)
    git(tmp_path / "other", "apply", str(tmp_path / "patches" / f"{found.digest}.diff"))
    assert content(tmp_path / "other") == content(repository)


def test_the_repository_stays_as_it_is(repository):
    change(repository)
    os.utime(repository / "setup.py")

    def state():
        paths = (repository / ".git").rglob("*")
        return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in paths}

    before = state()
    assert code().patch
    assert state() == before


def test_the_same_changes_have_one_digest_whatever_git_is_told(repository, monkeypatch):
    change(repository)
    before = code()
    for key, value in {
        "diff.noprefix": "true", "diff.context": "7", "diff.algorithm": "histogram", "color.diff": "always",
        "diff.external": "/bin/false", "core.quotePath": "false",
        "diff.renames": "copies", "diff.relative": "true",
    }.items():  # fmt: skip
        git(repository, "config", key, value)
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook of another repository
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert code() == before
    (repository / "methods" / "añadido uno.py").write_text("new and different\n")
    assert code().digest != before.digest


def test_a_worktree_is_a_checkout_too(repository, tmp_path, monkeypatch):
    git(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "other"))
    change(repository)
    (tmp_path / "other" / "methods" / "two.py").write_text("two\n")
    monkeypatch.setattr(git_state, "__file__", str(tmp_path / "other" / "bench" / "runner" / "git_state.py"))
    assert b"two.py" in code().patch and b"git_state.py" not in code().patch


def test_changes_that_can_not_be_read_are_marked(repository):
    change(repository)
    (repository / ".git" / "index").write_bytes(b"DIRC broken")
    assert code().name == git(repository, "rev-parse", "HEAD") + "+"


def test_a_repository_around_an_installed_package_is_not_ours(repository, monkeypatch):
    inside = repository / "site-packages" / "bench"
    inside.mkdir(parents=True)
    monkeypatch.setattr(git_state, "__file__", str(inside / "runner" / "git_state.py"))
    assert code() is None


@pytest.mark.parametrize("path", [os.defpath, ""])
def test_without_a_repository_or_without_git_there_is_none(tmp_path, monkeypatch, path):
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(git_state, "__file__", str(tmp_path / "bench" / "runner" / "git_state.py"))
    (tmp_path / "bench").mkdir()
    assert code() is None


def test_a_patch_is_written_once_and_a_large_one_is_told_of(tmp_path):
    small = git_state.Code("a" * 40, b"diff\n")
    small.keep(tmp_path)
    path = tmp_path / "patches" / f"{small.digest}.diff"
    assert path.read_bytes() == b"diff\n"
    os.utime(path, (1, 1))
    small.keep(tmp_path)
    assert path.stat().st_mtime == 1
    large = git_state.Code("a" * 40, b"x" * (git_state.MOST_BYTES + 1))
    large.keep(tmp_path)
    told = (tmp_path / "patches" / f"{large.digest}.diff").read_text()
    assert told.startswith(f"# {git_state.MOST_BYTES + 1} bytes of changes to {'a' * 40}") and len(told) < 200
    assert [entry.suffix for entry in (tmp_path / "patches").iterdir()] == [".diff", ".diff"]


@pytest.mark.parametrize("obstacle", ["link", "file"])
def test_patches_go_to_no_other_place(tmp_path, obstacle):
    (tmp_path / "elsewhere").mkdir()
    root = tmp_path / "results"
    root.mkdir()
    if obstacle == "link":
        (root / "patches").symlink_to(tmp_path / "elsewhere")
    else:
        (root / "patches").write_text("")
    with pytest.raises(StoreError, match="patches"):
        git_state.Code("a" * 40, b"diff\n").keep(root)
    assert not list((tmp_path / "elsewhere").iterdir())


# -- the rest --------------------------------------------------------------------------------


def spec(**changes):
    return parse_spec({"dataset": "digits", "network": "mlp", "method": "ssvi", **changes})


def told(store, monkeypatch, patch=b""):
    monkeypatch.setattr(provenance, "code", lambda: git_state.Code("b" * 40, patch))
    document = provenance.provenance(spec(), Execution(), store)
    store.run(spec().run_id).write("provenance", document)
    return document


def test_a_run_tells_of_code_machine_and_cores(tmp_path, monkeypatch):
    store = Store(tmp_path / "results", create=True)
    document = told(store, monkeypatch, b"diff\n")
    digest = git_state.Code("b" * 40, b"diff\n").digest
    assert document["git_sha"] == f"{'b' * 40}+{digest}"
    assert (store.root / "patches" / f"{digest}.diff").exists()
    assert document["affinity"] == sorted(os.sched_getaffinity(0))
    assert document["memory_bytes"] > 2**28
    assert (document["gpu"], document["packages"], document["earlier"]) == (None, {}, [])


def test_fewer_cores_are_told(monkeypatch):
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        assert provenance.affinity() == [max(allowed)]
    finally:
        os.sched_setaffinity(0, allowed)


def test_earlier_attempts_are_kept_as_far_as_they_are_whole(tmp_path, monkeypatch):
    store = Store(tmp_path / "results", create=True)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    first = told(store, monkeypatch)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    second = told(store, monkeypatch)
    third = told(store, monkeypatch)
    assert [a["started_at"] for a in third["earlier"]] == [first["started_at"], second["started_at"]]
    assert third["earlier"][1]["git_sha"] == "b" * 40
    assert [a["slurm"]["restarts"] for a in third["earlier"]] == [0, 1]
    for _ in range(provenance.MOST_EARLIER):
        last = told(store, monkeypatch)
    assert len(last["earlier"]) == provenance.MOST_EARLIER
    assert last["earlier"][-1]["started_at"] <= last["started_at"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("{", []),
        ("[]", []),
        ('{"host": "n", "earlier": 3}', [{"host": "n", "slurm": None}]),
        ('{"host": ["n"], "device": "' + "x" * 5000 + '", "slurm": {"job_id": [], "nodes": "n", "x": 1}}',
         [{"slurm": {"nodes": "n"}}]),
        ('{"earlier": [7, {"slurm": 1}]}', [{"slurm": None}, {"slurm": None}]),
    ],
)  # fmt: skip
def test_a_foreign_provenance_brings_nothing_along(tmp_path, text, kept):
    folder = Store(tmp_path / "results", create=True).run(spec().run_id)
    folder.write("provenance", {})
    (folder.path / "provenance.json").write_text(text)
    assert provenance.earlier(folder) == kept


def test_a_job_is_told_by_numbers_and_words():
    job = {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "10", "SLURM_ARRAY_TASK_ID": "3"}
    site = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_PARTITION": "gpu", "HOME": "/"}
    assert provenance.slurm(job | site) == {
        "job_id": 12, "array_job_id": 10, "array_task_id": 3, "restarts": 0,
        "nodes": "n[1-2]", "partition": "gpu", "cpus_per_task": None,
    }  # fmt: skip
    assert provenance.slurm(job | {"SLURM_RESTART_COUNT": "2", "SLURM_CPUS_PER_TASK": "4"})["restarts"] == 2
    assert provenance.slurm(site) is None


def test_packages_of_others_are_told_with_their_versions(monkeypatch):
    class Mine(METHODS.get("ssvi")):
        name = "mine"

    Mine.__module__ = "my_package.deep"
    monkeypatch.setitem(METHODS._registered, "mine", Mine)
    owner = SimpleNamespace(name="my-package", version="1.2")
    point = SimpleNamespace(name="mine", load=lambda: Mine, dist=owner)
    other = SimpleNamespace(
        name="theirs", load=lambda: DATASETS.get("digits"), dist=SimpleNamespace(name="x", version="0")
    )
    groups = {METHODS.group: [point, other]}
    monkeypatch.setattr(provenance, "entry_points", lambda group: groups.get(group, []))
    assert provenance.packages(spec()) == {}
    assert provenance.packages(spec(method="mine")) == {"my-package": "1.2"}


def test_the_driver_of_a_gpu_is_read_from_what_the_kernel_says(tmp_path, monkeypatch):
    for line, version in [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023",
            "535.104.05",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build", "570.86.15"),
        ("something else", None),
    ]:
        (tmp_path / "version").write_text(f"{line}\nGCC version: gcc version 12.2.0 (Debian 12.2.0-14)\n")
        monkeypatch.setattr(provenance, "DRIVER", tmp_path / "version")
        assert provenance.driver() == version
    monkeypatch.setattr(provenance, "DRIVER", tmp_path / "none")
    assert provenance.driver() is None
