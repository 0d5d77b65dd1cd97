"""How plug-ins are found, and what is refused."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest

from methods.base import Method
from methods.core.errors import UserError
from methods.core.registry import Registry
from methods.core.style import Style


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


def test_an_entry_point_takes_no_name_that_is_taken(monkeypatch):
    class Usurper(Foreign):
        name = "ssvi"

    with pytest.raises(UserError, match=r"^entry points some: method 'ssvi' is built in already$"):
        registry(monkeypatch, Point("ssvi", Usurper)).names()


def test_an_entry_point_must_be_of_the_kind(monkeypatch):
    words = r"^entry point five \(package:five\): not a method with a name$"
    with pytest.raises(UserError, match=words):
        registry(monkeypatch, Point("five", 5)).names()


def test_a_method_without_a_style_is_refused_where_it_is_written():
    with pytest.raises(TypeError, match="method unstyled: needs a style"):

        class Unstyled(Method):
            name = "unstyled"


def test_an_entry_point_that_cannot_be_imported_is_named(monkeypatch):
    class Broken(Point):
        def load(self):
            raise ModuleNotFoundError("No module named 'package'")

    words = (
        r"^entry point bad \(package:bad\): cannot be loaded: ModuleNotFoundError: No module named 'package'$"
    )
    with pytest.raises(UserError, match=words):
        registry(monkeypatch, Broken("bad", None)).names()


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
    with pytest.raises(UserError, match=r"^kinds/b\.py: method 'one' is defined already, in kinds/a\.py$"):
        folder(a=ONE, b=ONE).names()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = (", r"SyntaxError: '\(' was never closed"),
        (ONE.replace("#ffffff", "brown"), r"ValueError: .*brown"),
        (ONE.partition("    style")[0], "TypeError: method one: needs a style"),
        (ONE.replace("Style(", "dict(label="), "TypeError: method one: needs a style"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_named(folder, text, words):
    with pytest.raises(UserError, match=rf"^kinds/a\.py(:\d+)?: cannot be loaded: {words}"):
        folder(a=text).names()
