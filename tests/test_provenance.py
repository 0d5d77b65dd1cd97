"""Which commit a run says that it was computed by."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with ``bench/provenance.py`` in it, under which ``git_sha`` finds itself."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "methods").mkdir()
    (tmp_path / "bench" / "provenance.py").write_text("")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "bench" / "provenance.py"))

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, capture_output=True, check=True)
        return done.stdout.decode().strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    return tmp_path, git


def sha():
    return provenance.git_sha.__wrapped__()


def test_a_clean_checkout_is_its_commit(checkout):
    folder, git = checkout
    (folder / "results").mkdir()
    (folder / "results" / "table.csv").write_text("not code")
    assert sha() == git("rev-parse", "HEAD")


@pytest.mark.parametrize("file", ["bench/provenance.py", "methods/mine.py"])
def test_changed_and_added_code_is_marked(checkout, file):
    folder, git = checkout
    (folder / file).write_text("changed")
    assert sha() == git("rev-parse", "HEAD") + "+"


def test_a_repository_around_an_installed_package_is_not_ours(checkout, monkeypatch):
    folder, _ = checkout
    inside = folder / "site-packages" / "bench"
    inside.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(inside / "provenance.py"))
    assert sha() is None


def test_outside_any_repository_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "bench" / "provenance.py"))
    Path(tmp_path / "bench").mkdir()
    assert sha() is None
