"""How plug-ins are found, and what is refused."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys

import pytest

from bench.launching.worker import Order
from methods.base import Method
from methods.core.errors import UserError
from methods.core.registry import Registry
from methods.core.style import Style
from tests.dashboard_server import ROOT


@pytest.fixture(autouse=True)
def _heard(monkeypatch):
    """Warnings are printed anew in each test."""
    monkeypatch.setattr("methods.core.registry._said", set())


class Point:
    """An entry point, loaded."""

    def __init__(self, name, item):
        self.name, self.value, self.item = name, f"package:{name}", item

    def load(self):
        return self.item


def registry(monkeypatch, *points):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points if group == "some" else [])
    return Registry("method", "methods", Method, "some")


class Foreign(Method):
    """A method of another package."""

    name = "foreign"
    style = Style("Foreign", hue="#000000", hue_dark="#ffffff")


def test_methods_of_other_packages_stand_beside_ours(monkeypatch):
    found = registry(monkeypatch, Point("foreign", Foreign))
    assert found.get("foreign") is Foreign
    assert set(found.names()) > {"ssvi", "dense_vi", "static_vi"}


def test_an_entry_point_takes_no_name_that_is_built_in(monkeypatch, capsys):
    class Usurper(Foreign):
        name = "ssvi"

    found = registry(monkeypatch, Point("ssvi", Usurper), Point("foreign", Foreign))
    assert found.get("ssvi").__module__ == "methods.ssvi" and found.get("foreign") is Foreign
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"warning: .*test_registry.py:\d+: entry point ssvi \(package:ssvi\): method 'ssvi' is built in "
        r"already; the method is left out",
        line,
    )
    assert list(found.broken()) == ["entry point ssvi (package:ssvi)"]


def test_neither_of_two_entry_points_of_one_name_is_used(monkeypatch):
    class Other(Foreign):
        name = "foreign"

    found = registry(monkeypatch, Point("one", Foreign), Point("two", Other), Point("three", Other))
    assert "foreign" not in found.names() and "ssvi" in found.names()
    with pytest.raises(UserError, match=r"^method 'foreign': .*method 'foreign' is defined already"):
        found.get("foreign")


def test_a_class_that_two_entry_points_name_is_one(monkeypatch, capsys):
    found = registry(monkeypatch, Point("one", Foreign), Point("two", Foreign))
    assert found.get("foreign") is Foreign and capsys.readouterr().err == ""


class Bare(Method):
    """A method whose options are no options."""

    name = "bare"
    style = Foreign.style
    Options = 5


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (5, r"entry point five \(package:five\): not a method with a name"),
        (object, r"not a method with a name"),
        (type("Nameless", (Foreign,), {}), r"not a method with a name"),
        (Bare, r"test_registry.py:\d+: .*: Options: TypeError: expected a dataclass, got 5"),
    ],
)
def test_an_entry_point_that_is_not_of_the_kind_is_an_error_for_who_asks(item, words, monkeypatch, capsys):
    found = registry(monkeypatch, Point("five", item))
    assert "ssvi" in found.names()
    found.names()
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(f"^warning: .*{words}; the method is left out$", line)
    with pytest.raises(UserError, match=f"^here: method 'five': .*{words}$"):
        found.get("five", "here")


def test_processes_that_another_one_started_do_not_repeat_warnings(monkeypatch, capsys):
    monkeypatch.setattr("methods.core.registry._is_quiet", False)
    order = Order(1, "results", (), None, "folder")
    assert order.specs() == []
    registry(monkeypatch, Point("six", 6)).names()
    assert capsys.readouterr().err == ""


def test_a_method_without_a_style_is_refused_where_it_is_written():
    with pytest.raises(TypeError, match="method unstyled: needs a style"):

        class Unstyled(Method):
            name = "unstyled"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write a package of somebody else; its entry point is real."""

    def made(init="", **files):
        root = tmp_path / "theirs"
        root.mkdir()
        for name, text in {"__init__": init, **files}.items():
            (root / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        return root

    yield made
    for name in [name for name in sys.modules if name.partition(".")[0] == "theirs"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("files", "value", "place", "words"),
    [
        ({}, "missing:A", "", "ModuleNotFoundError: No module named 'missing'"),
        ({}, "theirs.a:A", "theirs", "ModuleNotFoundError: No module named 'theirs.a'"),
        ({"a": ""}, "theirs.a:A", "theirs", "AttributeError: module 'theirs.a' has no attribute 'A'"),
        ({"a": "\n\nimport nowhere"}, "theirs.a:A", "theirs/a.py:3", "ModuleNotFoundError: .*'nowhere'"),
        ({"a": "\nx = ("}, "theirs.a:A", "theirs/a.py:2", r"SyntaxError: '\(' was never closed.*"),
        ({"a": "\nimport sys\nsys.exit(3)"}, "theirs.a:A", "theirs/a.py:3", "SystemExit: 3"),
        ({"init": "\n1 / 0", "a": ""}, "theirs.a:A", "theirs/__init__.py:2", "ZeroDivisionError: .*"),
        ({"a": "from theirs import b", "b": "b.c"}, "theirs.a:A", "theirs/b.py:1", "NameError: .*"),
        (
            {"a": "raise RuntimeError('two\\nlines')"},
            "theirs.a:A",
            "theirs/a.py:1",
            "RuntimeError: two lines",
        ),
    ],
)
def test_an_entry_point_that_cannot_be_loaded_is_a_warning(
    files, value, place, words, package, monkeypatch, capsys
):
    package(**files)
    point = importlib.metadata.EntryPoint("bad", value, "some")
    found = registry(monkeypatch, point, Point("foreign", Foreign))
    assert {"foreign", "ssvi"} <= set(found.names())
    reason = rf"{place}(: )?entry point bad \({value}\): cannot be loaded: {words}"
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(rf"^warning: .*{reason}; the method is left out$", line)
    with pytest.raises(UserError, match=rf"(?s)^method 'bad': .*{reason.replace('two lines', 'two.lines')}$"):
        found.get("bad")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A package of one's own to look through: write files, get the registry."""
    package = tmp_path / "kinds"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(**files):
        for name, text in files.items():
            (package / f"{name}.py").write_text(text)
        return Registry("method", "kinds", Method, "none")

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] == "kinds"]:
        del sys.modules[name]


ONE = """
from methods import Method, Style

class One(Method):
    name = "one"
    style = Style("One", hue="#000000", hue_dark="#ffffff")
"""


def test_two_files_of_one_name_are_told_apart(folder):
    found = folder(a=ONE, b=ONE, c=ONE.replace('"one"', '"three"'))
    assert found.names() == ["three"]
    words = r"^method 'one': kinds/b\.py: method 'one' is defined already, in .*kinds/a\.py:\d+$"
    with pytest.raises(UserError, match=words):
        found.get("one")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = (", r"SyntaxError: '\(' was never closed"),
        (ONE.replace("#ffffff", "brown"), r"ValueError: .*brown"),
        (ONE.partition("    style")[0], "TypeError: method one: needs a style"),
        (ONE.replace("Style(", "dict(label="), "TypeError: method one: needs a style"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_named(folder, text, words, capsys):
    found = folder(a=text, b=ONE)
    assert found.names() == ["one"]
    assert re.match(rf"warning: kinds/a\.py(:\d+)?: cannot be loaded: {words}", capsys.readouterr().err)
    with pytest.raises(UserError, match=rf"^method 'a': kinds/a\.py(:\d+)?: cannot be loaded: {words}"):
        found.get("a")


@pytest.mark.slow
def test_no_command_ends_by_broken_plug_ins_of_any_kind(tmp_path):
    kinds = ("methods", "criteria", "datasets", "networks", "suites")
    (tmp_path / "ruin.py").write_text("import sys\nsys.exit('ruined')\n")
    info = tmp_path / "ruin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ruin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "".join(f"[ssvi_bench.{kind}]\nmy_{kind} = ruin:Class\n" for kind in kinds)
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}

    def command(*words):
        line = [sys.executable, "-m", *words]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)

    ended = command("bench.grid", "--suite", "criteria_ablation", "--workers", "1",
                    "--where", "criterion=snr", "--seeds", "0", "--set", "max_steps=2")  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    warned = [line for line in ended.stderr.splitlines() if "ruin" in line]
    place = re.escape(str(tmp_path / "ruin.py"))
    assert len(warned) == len(set(warned)) == 4
    for line in warned:
        assert re.match(
            rf"warning: {place}:2: entry point my_\w+ \(ruin:Class\): cannot be loaded: SystemExit: ruined; "
            r"the (method|criterion|data set|network) is left out$",
            line,
        )
    assert "ruin" not in ended.stdout
    listed = command("bench.list").stdout
    assert all(re.search(rf"^  my_{kind} +broken: ", listed, re.MULTILINE) for kind in kinds)

    for key in ("method", "network", "dataset"):
        asked = command("bench.run", "--dry-run", "--set", f"{key}=my_{key}s")
        assert asked.returncode == 2 and "Traceback" not in asked.stderr
        assert re.search(rf"^error: .*'my_{key}s': {place}:2: entry point", asked.stderr, re.MULTILINE)
    asked = command("bench.grid", "--suite", "my_suites")
    assert asked.returncode == 2
    assert re.search(rf"^error: {place}:2: entry point my_suites", asked.stderr, re.MULTILINE)
