"""Find plug-ins: the classes of a kind in a folder, in a group of entry points, or registered by a call.

Methods, criteria, data sets and networks are all found in this way. A class belongs to a kind if it derives
from the base class of the kind and sets ``name`` itself.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import traceback
from types import ModuleType
from typing import Any, Generic, TypeVar

from methods.core.errors import UserError, unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """The classes of one kind by name.

    Parameters
    ----------
    kind
        Word for the kind in error messages, such as ``method``.
    package
        Package whose modules are searched.
    base
        Base class of the kind.
    group
        Group of entry points in which other packages name their classes.
    own_first
        Whether classes of ``package`` come before all others, regardless of the order of their styles.
    """

    def __init__(self, kind: str, package: str, base: type[T], group: str, own_first: bool = False) -> None:
        self.kind, self.package, self.base, self.group = kind, package, base, group
        self._own_first = own_first
        self._registered: dict[str, type[T]] = {}
        self._discovered: dict[str, type[T]] | None = None

    def register(self, item: type[T]) -> type[T]:
        """Add a class from a script or notebook, and return it; usable as a decorator."""
        self._registered[self._name(item)] = item
        return item

    def names(self) -> list[str]:
        """Return all names, ordered by ``style.order`` (0 if there is none), then alphabetically."""
        found = self._all()

        def place(name: str) -> tuple[bool, int, str]:
            order = getattr(getattr(found[name], "style", None), "order", 0)
            return self._own_first and not self.is_own(found[name]), order, name

        return sorted(found, key=place)

    def is_own(self, item: type[T]) -> bool:
        """Tell whether a class is from a module of ``package`` and not from another package."""
        return item.__module__.startswith(f"{self.package}.")

    def get(self, name: str, where: str = "") -> type[T]:
        """Return the class called ``name``.

        Parameters
        ----------
        name
            Name of the class.
        where
            Place at which the name was written, for the error message.

        Raises
        ------
        UserError
            If there is no such class; the message lists the valid names.
        """
        found = self._all()
        if not isinstance(name, str) or name not in found:
            raise unknown(self.kind, name, found, where)
        return found[name]

    def _all(self) -> dict[str, type[T]]:
        if self._discovered is None:
            own, others = self._in_folder(), self._from_entry_points()
            if both := own.keys() & others.keys():
                raise UserError(f"entry points {self.group}: {self.kind} {min(both)!r} is built in already")
            self._discovered = own | others
        return {**self._discovered, **self._registered}

    def _in_folder(self) -> dict[str, type[T]]:
        found: dict[str, type[T]] = {}
        for info in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            module = self._imported(f"{self.package}.{info.name}")
            for item in vars(module).values():
                if self._belongs(item) and item.__module__ == module.__name__:
                    self._add(found, item, f"{self.package}/{info.name}.py")
        return found

    @staticmethod
    def _imported(name: str) -> ModuleType:
        """Import a module of ``package``; an error becomes a ``UserError``, since users add modules there."""
        try:
            return importlib.import_module(name)
        except Exception as error:
            path = f"{name.replace('.', '/')}.py"
            frames = traceback.extract_tb(error.__traceback__)
            line = next(
                (f":{frame.lineno}" for frame in reversed(frames) if frame.filename.endswith(path)), ""
            )
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"{path}{line}: cannot be loaded: {reason}") from error

    def _add(self, found: dict[str, type[T]], item: Any, where: str) -> None:
        name = self._name(item)
        if name in found:
            other = f"{found[name].__module__.replace('.', '/')}.py"
            raise UserError(f"{where}: {self.kind} {name!r} is defined already, in {other}")
        found[name] = item

    def _from_entry_points(self) -> dict[str, type[T]]:
        found: dict[str, type[T]] = {}
        for point in importlib.metadata.entry_points(group=self.group):
            try:
                item = point.load()
            except Exception as error:  # importing another package may raise anything
                reason = f"{type(error).__name__}: {error}"
                raise UserError(
                    f"entry point {point.name} ({point.value}): cannot be loaded: {reason}"
                ) from error
            if not self._belongs(item):
                raise UserError(f"entry point {point.name} ({point.value}): not a {self.kind} with a name")
            self._add(found, item, f"entry point {point.name} ({point.value})")
        return found

    def _belongs(self, item: Any) -> bool:
        return isinstance(item, type) and issubclass(item, self.base) and "name" in vars(item)

    @staticmethod
    def _name(item: Any) -> str:
        return str(item.name)
