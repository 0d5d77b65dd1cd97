"""``docs/adding-a-method.md``: every block is run, by a reader in a clone, from the first to the last."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner.execute import execute
from methods.base import METHODS, Method
from tests import toys  # noqa: F401  (registers the toys)
from tests.packages import install

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = (ROOT / "docs" / "adding-a-method.md").read_text()
#: Language and content of every block, in order.
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def file_of(code):
    """The file that a block is, as its first line says; None where it is none."""
    found = re.match(r"# (\S+\.\w+)\n", code)
    return found and found[1]


def test_there_is_no_code_but_in_blocks():
    rest = re.sub(r"^```\w*\n.*?^```$", "", DOCUMENT, flags=re.MULTILINE | re.DOTALL)
    assert "```" not in rest and "~~~" not in rest
    assert re.findall(r"^(?: {4}|\t).*$", rest, re.MULTILINE) == []


def test_every_hook_of_the_contract_is_in_its_table():
    hooks = {name for name in vars(Method) if not name.startswith("_")} | set(Method.__annotations__)
    rows = re.findall(r"^\| (`.*?) \|", DOCUMENT.partition("## The contract")[2], re.MULTILINE)
    named = set(re.findall(r"`(\w+)", " ".join(rows)))
    assert hooks <= named
    methods = [row for row in rows if "(" in row]
    assert all(hasattr(Method, name) for row in methods for name in re.findall(r"`(\w+)\(", row))


def test_what_it_says_is_there_is_there():
    """Names beside a file of ``methods/``, as in ``methods/families/sparse.py``: ``SparsityOptions``."""
    found = re.findall(r"`(methods/[\w/]+)\.py`: ((?:`\w+`(?:, )?)+)", DOCUMENT)
    assert len(found) == 7
    for path, names in found:
        module = importlib.import_module(path.replace("/", "."))
        assert [each for each in re.findall(r"\w+", names) if not hasattr(module, each)] == []


def test_the_methods_keep_the_contract(monkeypatch, tmp_path):
    """Each as it stands in its block, in this process: quick, so that a change of the contract is seen."""
    store, ids = Store(tmp_path, create=True), []
    for language, code in BLOCKS:
        if language != "python" or file_of(code) is None:
            continue
        module = types.ModuleType(f"document_{len(ids)}")
        monkeypatch.setitem(sys.modules, module.__name__, module)  # where types of options are looked up
        exec(compile(code, file_of(code), "exec"), vars(module))
        defined = [value for value in vars(module).values() if isinstance(value, type)]
        (method,) = [c for c in defined if issubclass(c, Method) and c.__module__ == module.__name__]
        monkeypatch.setitem(METHODS._registered, method.name, method)
        chosen = {"dataset": "toy_blobs", "network": "toy_network", "batch_size": 16, "epochs": 4}
        spec = parse_spec(nest(chosen | {"method": method.name}))
        ids.append((method.name, spec.run_id))
        assert execute(spec, store, Execution()) == "done", store.run(spec.run_id).read("status")
    first, second, swag = ids
    assert first == second and first[0] == "smoothed"
    rows = store.run(swag[1]).read("metrics")["metrics"]
    information = {
        row["stage"]: row["value"] > 0 for row in rows
        if (row["predictor"], row["split"], row["metric"]) == ("samples", "test", "mutual_information")
    }  # fmt: skip
    assert information == {"train": False, "collect": True}


class Reader:
    """One who follows the page in a clone of the tree; outputs are kept, in order."""

    def __init__(self, folder):
        self.clone, self.site, self.package = folder / "clone", folder / "site-packages", folder / "package"
        for name in ("bench", "methods"):
            copytree(ROOT / name, self.clone / name, ignore=ignore_patterns("__pycache__"))
        self.unused, self.outputs = set(), []

    def run(self, *words, text=None):
        path = os.pathsep.join(map(str, (self.clone, self.site)))
        environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, *words],
            input=text, env=environment, cwd=self.clone, capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), f"{words}\n{done.stdout}{done.stderr}"
        self.outputs.append(done.stdout)

    def python(self, code):
        """A file of ``methods/``, which a later command must train, or a script."""
        if (file := file_of(code)) is None:
            self.run("-", text=code)
        else:
            assert file.startswith("methods/")
            (self.clone / file).write_text(code)
            self.unused.add(re.search(r'^    name = "(\w+)"$', code, re.MULTILINE)[1])

    def yaml(self, code):
        (self.clone / file_of(code)).write_text(code)
        self.unused.add(file_of(code))

    def bash(self, code):
        for line in code.splitlines():
            interpreter, *words = shlex.split(line)
            assert interpreter == "python"
            self.run(*words)
            self.unused -= {name for name in self.unused if re.search(rf"\b{re.escape(name)}\b", line)}

    def toml(self, code):
        """The package with the page's file, in place of the clone's."""
        assert file_of(code) == "pyproject.toml"
        self.package.mkdir()
        (self.package / "pyproject.toml").write_text(code)
        (self.clone / "methods" / "smoothed.py").rename(self.package / "smoothed.py")
        install(self.package, self.site)
        self.run("-m", "bench.list", "methods")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_reader_gets_from_nothing_to_rows_in_the_tables(tmp_path):
    reader = Reader(tmp_path)
    for language, code in BLOCKS:
        assert language in ("python", "bash", "yaml", "toml"), f"{language!r} can't be run:\n{code}"
        getattr(reader, language)(code)
    assert reader.unused == set(), "no command uses it after its block"
    listed = re.compile(r"^  smoothed +A deterministic network, trained on labels that leave", re.MULTILINE)
    assert listed.search(reader.outputs[0]) and listed.search(reader.outputs[-1])
    assert sum("is done already" in output for output in reader.outputs) == 1
    runs = Store(reader.clone / "results").read_tables("smoothing")["runs"]
    assert (runs["status"] == "done").all()
    assert runs["config.method.smoothing"].value_counts().to_dict() == {0.05: 2, 0.1: 2, 0.2: 2}
    assert set(runs["method"]) == {"smoothed", "deterministic"}
    style = Store(reader.clone / "results").read_styles("smoothing")["smoothed"]
    assert (style["label"], style["marker"], style["order"]) == ("Smoothed labels", "hexagon", 91)
