"""How plug-ins are found, and what is refused."""

from __future__ import annotations

import importlib.metadata

import pytest

from methods.base import Method, Style
from methods.errors import UserError
from methods.registry import Registry


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

    with pytest.raises(UserError, match=r"^entry points some: method 'ssvi' is there already$"):
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
