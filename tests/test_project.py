"""The project itself: who imports whom, what loads without what, and what a wheel holds."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections import Counter
from importlib import import_module, metadata
from pathlib import Path
from shutil import copytree, ignore_patterns, rmtree

import pytest
import yaml
from importlinter.cli import lint_imports

from tests import import_rules

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("bench", "dashboard", "methods")
#: Python files in a folder, ``__init__.py`` left out.
MOST_FILES = 13
CACHES = ignore_patterns("__pycache__", "*.pyc")


def python(code, *arguments, interpreter=sys.executable, cwd=ROOT):
    command = [str(interpreter), "-c", code, *arguments]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    return result.stdout


def write(root, **files):
    for name, text in files.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


# -- who imports whom ------------------------------------------------------------------------


def test_import_contracts_hold(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    status = lint_imports(no_cache=True)
    assert status == 0, capsys.readouterr().out


def test_every_package_and_command_has_its_layer():
    """The contract says nothing of a package that it does not name."""
    layers = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    named = {name.strip() for layer in layers for name in layer.split("|")}
    here = {f"bench.{module.name}" for module in pkgutil.iter_modules([str(ROOT / "bench")])}
    assert named == {*here, "dashboard", "methods"}


def test_packages_import_only_what_they_may():
    assert import_rules.forbidden(ROOT) == []


def test_no_module_uses_the_private_names_of_another():
    assert import_rules.private(ROOT) == []


def test_the_rules_see_what_they_forbid(tmp_path):
    write(
        tmp_path,
        methods__a="import bench.run\nimport torch\nfrom methods import b\nb._inner\nb.__doc__",
        methods__b="from methods.a import _name, name",
        bench__run="from dashboard import app\nfrom methods import a",
        bench__results="import json",
        dashboard__app="from bench.results import Store\nfrom bench import figures, run\nimport methods.a",
    )
    assert import_rules.forbidden(tmp_path) == [
        "bench/run.py: dashboard.app",
        "dashboard/app.py: bench.run",
        "dashboard/app.py: methods.a",
        "methods/a.py: bench.run",
    ]
    assert import_rules.private(tmp_path) == [
        "methods/a.py: methods.b._inner",
        "methods/b.py: methods.a._name",
    ]


@pytest.mark.parametrize("name", import_rules.ALLOWED["dashboard"])
def test_the_read_side_loads_without_torch_and_methods(name):
    modules = [
        name,
        *(module.name for module in pkgutil.walk_packages(import_module(name).__path__, f"{name}.")),
    ]
    loaded = python(f"import sys, {', '.join(modules)}; print(*sys.modules)").split()
    assert set(modules) <= set(loaded)
    assert {"torch", "methods"}.isdisjoint(loaded)


def test_methods_and_single_runs_need_no_more_than_they_say():
    blocked = ("pydantic", "rich", "sklearn", "streamlit", "submitit")
    code = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    sys.modules[name] = None  # importing it raises ImportError
import bench.run, bench.runner.execute, methods
for module in pkgutil.walk_packages(methods.__path__, "methods."):
    importlib.import_module(module.name)
print(*methods.names())
"""
    assert "ssvi" in python(code, *blocked).split()
    with pytest.raises(AssertionError, match="ModuleNotFoundError"):
        python("import sys; sys.modules['rich'] = None; import rich")


def test_no_folder_holds_more_than_a_reader_can_scan():
    """Folders that grow by what is added to the package (commands, pages, registered things) may."""
    growing = {"bench", "bench/data", "bench/networks", "dashboard/views", "methods", "methods/criteria"}
    counts = Counter(
        path.parent.relative_to(ROOT).as_posix()
        for path in import_rules.sources(ROOT)
        if path.name != "__init__.py"
    )
    assert growing <= counts.keys()
    assert {folder: n for folder, n in counts.items() if n > MOST_FILES and folder not in growing} == {}


# -- what is promised ------------------------------------------------------------------------


def test_the_version_has_one_source():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PYPROJECT["project"]["version"]
    stated = re.compile(r"__version__\s*=|version\s*=\s*[\"']\d")
    assert [str(path) for path in import_rules.sources(ROOT) if stated.search(path.read_text())] == []


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/adding-a-method.md",
        "docs/architecture.md",
        "docs/datasets-and-networks.md",
        "docs/python.md",
        "docs/tuning.md",
        "examples/plugin/README.md",
        ".ci/run",
    ],
)
def test_documents_name_only_commands_and_files_that_exist(document):
    text = (ROOT / document).read_text()
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^\s*|`)make ([\w-]+)", text, re.MULTILINE)) <= targets
    for module in re.findall(r"python -m (bench\.\w+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / document).parent.joinpath(link).exists(), link


# -- what a wheel holds ----------------------------------------------------------------------


def tree_files():
    """Every file of the packages, as a wheel should name it; no caches, no hidden files."""
    found = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*")]
    skipped = (".", "__pycache__")
    return [
        p for p in found if (ROOT / p).is_file() and not any(part.startswith(skipped) for part in p.parts)
    ]


def test_packages_and_package_data_are_listed_by_name():
    listed = PYPROJECT["tool"]["setuptools"]
    for path in tree_files():
        package = max((p for p in listed["packages"] if path.is_relative_to(p.replace(".", "/"))), key=len)
        within = path.relative_to(package.replace(".", "/"))
        patterns = ["*.py", *listed["package-data"].get(package, [])]
        assert any(
            within.match(pattern) and len(within.parts) == pattern.count("/") + 1 for pattern in patterns
        ), path


@pytest.mark.slow
def test_a_wheel_works_from_another_folder(tmp_path):
    source, environment = tmp_path / "source", tmp_path / "environment"
    for package in PACKAGES:
        copytree(ROOT / package, source / package, ignore=CACHES)
    rmtree(source / "methods" / "kernels" / "compiled")  # to be compiled for the wheel
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        (source / name).write_text((ROOT / name).read_text())
    python("from setuptools import build_meta; build_meta.build_wheel('dist')", cwd=source)
    (wheel,) = (source / "dist").glob("*.whl")
    held = zipfile.ZipFile(wheel).namelist()
    assert {path.as_posix() for path in tree_files()} <= set(held)
    assert any(name.endswith("licenses/LICENSE") for name in held)
    assert "dashboard/.streamlit/config.toml" in held  # without which others would reach the dashboard

    # a new environment with the wheel alone, and the libraries of this one behind it
    venv.create(environment, with_pip=False)
    interpreter = environment / "bin" / "python"
    site = Path(
        python("import sysconfig; print(sysconfig.get_path('purelib'))", interpreter=interpreter).strip()
    )
    zipfile.ZipFile(wheel).extractall(site)
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    elsewhere = tmp_path / "elsewhere"
    code = "from methods.kernels import library; print(library.__file__, library.absent())"
    told = python(code, interpreter=interpreter, cwd=tmp_path)
    assert told.startswith(str(environment)) and told.endswith(" None\n")
    elsewhere.mkdir()
    where = python("import bench; print(bench.__file__)", interpreter=interpreter, cwd=elsewhere)
    assert Path(where.strip()).is_relative_to(site)
    command = [str(interpreter), "-m", "bench.list", "suites"]
    result = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stderr) == (0, "")
    assert "criteria_ablation" in result.stdout
    # the console command, as an installer writes it
    script = environment / "bin" / "ssvi-bench"
    (point,) = (p for p in metadata.distribution("ssvi-bench").entry_points if p.group == "console_scripts")
    assert point.name == script.name
    script.write_text(f"#!{interpreter}\nfrom {point.module} import {point.attr}\n{point.attr}()\n")
    script.chmod(0o755)
    for arguments, status, out, err in (
        (["--help"], 0, "usage: ssvi-bench VERB", ""),
        (["list", "suites"], 0, "suites\n", ""),
        (["status"], 2, "", "error: results folder results: does not exist\n"),
        (["dashboard", "--results", "nowhere"], 2, "", "error: results folder nowhere: does not exist\n"),
    ):
        done = subprocess.run(
            [str(script), *arguments], cwd=elsewhere, capture_output=True, text=True, timeout=100
        )
        assert (done.returncode, done.stderr) == (status, err)
        assert done.stdout.startswith(out)
    app = python(
        "from bench import dashboard; print(dashboard._app())", interpreter=interpreter, cwd=elsewhere
    )
    assert Path(app.strip()).is_relative_to(site) and Path(app.strip()).exists()
    version = "import importlib.metadata as m; print(m.version('ssvi-bench'))"
    assert python(version, interpreter=interpreter, cwd=elsewhere).strip() == PYPROJECT["project"]["version"]
