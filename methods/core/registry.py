"""Find plug-ins: the classes of a kind in a folder, in a group of entry points, or registered by a call.

Methods, criteria, data sets and networks are all found in this way. A class belongs to a kind if it derives
from the base class of the kind and sets ``name`` itself.

A plug-in that can't be used is a warning, with its file and line, once in a command. It is an error only
where it is asked for by its name.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
import typing
from pathlib import Path
from typing import Any, Generic, TypeVar

from methods.core.errors import UserError, unknown

T = TypeVar("T")

#: What importing a module of somebody else may raise; a module may even end the process.
IMPORT_ERRORS = (Exception, SystemExit)
_said: set[str] = set()
_is_quiet = False


def warn_once(line: str) -> None:
    """Print a warning to stderr, unless it was printed before or this process keeps quiet."""
    if line not in _said and not _is_quiet:
        print(f"warning: {' '.join(line.split())}", file=sys.stderr)
    _said.add(line)


def keep_quiet() -> None:
    """Print no warnings in this process, because the one that started it has printed them."""
    global _is_quiet
    _is_quiet = True


def loaded(point: importlib.metadata.EntryPoint) -> Any:
    """Return what an entry point names.

    Raises
    ------
    UserError
        It can't be loaded; the message has the file and line at fault.
    """
    try:
        return point.load()
    except IMPORT_ERRORS as error:
        root = _root_of(point)
        place = (_place(error, root) or str(root)) + ": " if root else ""
        raise UserError(f"{place}{told(point)}: cannot be loaded: {_reason(error)}") from error


def told(point: importlib.metadata.EntryPoint) -> str:
    """Return an entry point in words for a message."""
    return f"entry point {point.name} ({point.value})"


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _root_of(point: importlib.metadata.EntryPoint) -> Path | None:
    """Return the folder of an entry point's package, or the file of its module; None if it is not found."""
    try:
        spec = importlib.util.find_spec(re.split("[.:]", point.value)[0].strip())
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)


def _place(error: BaseException, root: Path) -> str:
    """Return ``file:line`` of the last place in or below ``root`` that an error passed, or an empty text."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_relative_to(root):
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if Path(frame.filename).is_relative_to(root)]
    return f"{mine[-1].filename}:{mine[-1].lineno}" if mine else ""


def _defined(item: Any) -> str:
    """Return file and line of a class, followed by a colon; an empty text if they are not known."""
    try:
        return f"{inspect.getsourcefile(item)}:{inspect.getsourcelines(item)[1]}: "
    except (OSError, TypeError):
        return ""


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
        self._broken: dict[str, str] = {}
        self._clashing: set[str] = set()

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
            If there is no such class, or it can't be used; the message says why, or lists the valid names.
        """
        found = self._all()
        if isinstance(name, str) and name not in found and name in self._broken:
            raise UserError(f"{where}{': ' if where else ''}{self.kind} {name!r}: {self._broken[name]}")
        if not isinstance(name, str) or name not in found:
            raise unknown(self.kind, name, found, where)
        return found[name]

    def broken(self) -> dict[str, str]:
        """Return what can't be used: the reason by the name of the class, its entry point or its module."""
        found = self._all()
        return {name: why for name, why in self._broken.items() if name not in found}

    def _all(self) -> dict[str, type[T]]:
        if self._discovered is None:
            own = self._in_folder()
            self._discovered = self._from_entry_points(own) | own
        return {**self._discovered, **self._registered}

    def _in_folder(self) -> dict[str, type[T]]:
        found: dict[str, type[T]] = {}
        for info in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            name, file = f"{self.package}.{info.name}", f"{self.package.replace('.', '/')}/{info.name}.py"
            try:
                module = importlib.import_module(name)
            except IMPORT_ERRORS as error:  # users add modules there
                path = Path(str(info.module_finder.path), f"{info.name}.py")  # type: ignore[union-attr]
                line = _place(error, path).removeprefix(str(path))
                self._leave_out(info.name, f"{file}{line}: cannot be loaded: {_reason(error)}")
                continue
            for item in list(vars(module).values()):
                # a folder offers what its ``__init__`` imports from its own modules
                if self._belongs(item) and f"{item.__module__}.".startswith(f"{module.__name__}."):
                    self._add(found, item, info.name, file)
        return found

    def _from_entry_points(self, own: dict[str, type[T]]) -> dict[str, type[T]]:
        found: dict[str, type[T]] = {}
        for point in importlib.metadata.entry_points(group=self.group):
            try:
                item = loaded(point)
            except UserError as error:
                self._leave_out(point.name, str(error))
                continue
            where = f"{_defined(item)}{told(point)}"
            if not self._belongs(item):
                self._leave_out(point.name, f"{where}: not a {self.kind} with a name")
            elif (name := self._name(item)) in own:
                self._leave_out(told(point), f"{where}: {self.kind} {name!r} is built in already")
            else:
                self._add(found, item, point.name, where)
        return found

    def _add(self, found: dict[str, type[T]], item: Any, key: str, where: str) -> None:
        """Add a class to ``found``; neither of two classes of one name can be used."""
        name = self._name(item)
        try:
            self._require_options(item)
        except IMPORT_ERRORS as error:
            self._leave_out(key, f"{where}: Options: {_reason(error)}")
            return
        if name in self._clashing or found.get(name, item) is not item:
            first = found.pop(name, None)
            self._clashing.add(name)
            other = f", in {_defined(first).removesuffix(': ')}" if first is not None else ""
            self._leave_out(name, f"{where}: {self.kind} {name!r} is defined already{other}")
            return
        found[name] = item

    def _require_options(self, item: Any) -> None:
        """Raise an error if the options of a class can't be read; lists and recipes read those of all."""
        if hasattr(self.base, "Options"):
            if not dataclasses.is_dataclass(item.Options):
                raise TypeError(f"expected a dataclass, got {item.Options!r}")
            typing.get_type_hints(item.Options)

    def _leave_out(self, key: str, reason: str) -> None:
        self._broken[key] = reason
        warn_once(f"{reason}; the {self.kind} is left out")

    def _belongs(self, item: Any) -> bool:
        return isinstance(item, type) and issubclass(item, self.base) and "name" in vars(item)

    @staticmethod
    def _name(item: Any) -> str:
        return str(item.name)
