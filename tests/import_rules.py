"""Who imports whom, read from the source: the rules that hold also for code that nothing has loaded."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("bench", "dashboard", "methods")
#: What each package may import of ours, beside itself.
ALLOWED = {
    "methods": (),
    "bench": ("methods",),
    "dashboard": ("bench.figures", "bench.monitoring", "bench.results", "bench.statistics", "bench.suites"),
}


def sources(root: Path) -> list[Path]:
    """The Python files of our packages, as far as there are any yet."""
    return sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What a module of ours imports of ours: pairs of a full name and the local name it is bound to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [(alias.name, alias.asname or alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute in this tree"
            found = [(f"{node.module}.{alias.name}", alias.asname or alias.name) for alias in node.names]
        else:
            continue
        yield from ((name, local) for name, local in found if name.split(".")[0] in PACKAGES)


def forbidden(root: Path) -> list[str]:
    """Imports against ``ALLOWED``, each as ``file: name``."""
    found = []
    for path in sources(root):
        package = path.relative_to(root).parts[0]
        allowed = (package, *ALLOWED[package])
        for name, _ in imported(ast.parse(path.read_text())):
            if not any(f"{name}.".startswith(f"{other}.") for other in allowed):
                found.append(f"{path.relative_to(root)}: {name}")
    return found


def private(root: Path) -> list[str]:
    """Uses of another module's underscore names, imported or reached through the module: ``file: name``."""
    found = []
    for path in sources(root):
        tree = ast.parse(path.read_text())
        names = {local: name for name, local in imported(tree)}
        used = [name for name in names.values() if any(is_private(part) for part in name.split("."))]
        used += [
            f"{names[node.value.id]}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and is_private(node.attr)
            and isinstance(node.value, ast.Name)
            and is_module(names.get(node.value.id, ""), root)
        ]
        found += [f"{path.relative_to(root)}: {name}" for name in used]
    return found


def is_private(name: str) -> bool:
    """One leading underscore, not a dunder name."""
    return name.startswith("_") and not name.endswith("__")


def is_module(name: str, root: Path) -> bool:
    """Whether the full name ``name`` is a module or package of ours."""
    path = root / name.replace(".", "/")
    return bool(name) and (path.with_suffix(".py").exists() or path.is_dir())
