"""``docs/adding-a-method.md``: every block is run, by a reader in a clone, from the first to the last."""

from __future__ import annotations

import importlib
import re
import sys
import types

import pytest

from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner.execute import execute
from methods.base import METHODS, Method
from tests import toys  # noqa: F401  (registers the toys)
from tests.pages import Page, Reader

PAGE = Page("adding-a-method.md")


def test_there_is_no_code_but_in_blocks():
    PAGE.assert_no_code_but_in_blocks()


def test_every_hook_of_the_contract_is_in_its_table():
    hooks = {name for name in vars(Method) if not name.startswith("_")} | set(Method.__annotations__)
    rows = PAGE.contract()
    named = set(re.findall(r"`(\w+)", " ".join(rows)))
    assert hooks <= named
    methods = [row for row in rows if "(" in row]
    assert all(hasattr(Method, name) for row in methods for name in re.findall(r"`(\w+)\(", row))


def test_what_it_says_is_there_is_there():
    """Names beside a file of ``methods/``, as in ``methods/families/sparse.py``: ``SparsityOptions``."""
    found = re.findall(r"`(methods/[\w/]+)\.py`: ((?:`\w+`(?:, )?)+)", PAGE.text)
    assert len(found) == 7
    for path, names in found:
        module = importlib.import_module(path.replace("/", "."))
        assert [each for each in re.findall(r"\w+", names) if not hasattr(module, each)] == []


def test_the_methods_keep_the_contract(monkeypatch, tmp_path):
    """Each as it stands in its block, in this process: quick, so that a change of the contract is seen."""
    store, ids = Store(tmp_path, create=True), []
    for file, code in PAGE.files():
        module = types.ModuleType(f"document_{len(ids)}")
        monkeypatch.setitem(sys.modules, module.__name__, module)  # where types of options are looked up
        exec(compile(code, file, "exec"), vars(module))
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


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_reader_gets_from_nothing_to_rows_in_the_tables(tmp_path):
    reader = Reader(tmp_path)
    reader.follow(PAGE)
    listed = re.compile(r"^  smoothed +A deterministic network, trained on labels that leave", re.MULTILINE)
    assert listed.search(reader.outputs[0]) and listed.search(reader.outputs[-1])
    assert sum("is done already" in output for output in reader.outputs) == 1
    runs = Store(reader.clone / "results").read_tables("smoothing")["runs"]
    assert (runs["status"] == "done").all()
    assert runs["config.method.smoothing"].value_counts().to_dict() == {0.05: 2, 0.1: 2, 0.2: 2}
    assert set(runs["method"]) == {"smoothed", "deterministic"}
    style = Store(reader.clone / "results").read_styles("smoothing")["smoothed"]
    assert (style["label"], style["marker"], style["order"]) == ("Smoothed labels", "hexagon", 91)
