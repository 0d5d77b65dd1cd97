"""``examples/plugin_package``: a method, a criterion, a data set and a network of others, on every page."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest
from streamlit.testing.v1 import AppTest

from bench.data.base import DATASETS
from bench.networks.base import NETWORKS
from bench.results import styles
from bench.results.store import Store
from methods.base import METHODS
from methods.criteria.base import CRITERIA
from tests.packages import install

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "examples" / "plugin_package"
README = (PACKAGE / "README.md").read_text()
#: What the package adds: registry, name, and the first words that lists have of it.
ADDED = {
    "methods": (METHODS, "focal", "A deterministic network that learns most from what it gets wrong"),
    "criteria": (CRITERIA, "optimistic", "|mean| + lambda std: an upper confidence bound of the magnitude"),
    "datasets": (DATASETS, "wine", "Wines of three growers by 13 chemical measurements"),
    "networks": (NETWORKS, "tanh", "One hidden layer of tanh units"),
}
#: What is added to a command of the README so that it takes seconds.
SMALLER = {
    "bench.check focal": "--set epochs=5",
    "bench.grid": "--seeds 0-1 --set epochs=4,network.units=16,replace_every=2 --workers 2 --results results",
}


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Run a command of the README as one who has installed the package, beside its suite."""
    folder = tmp_path_factory.mktemp("package")
    source, site, here = folder / "source", folder / "site-packages", folder / "here"
    copytree(PACKAGE, source, ignore=ignore_patterns("build", "dist", "*.egg-info", "__pycache__"))
    install(source, site)
    here.mkdir()
    (source / "growers.yaml").rename(here / "growers.yaml")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(site)]), "COLUMNS": "200"}

    def command(start):
        (line,) = re.findall(rf"^    python -m ({re.escape(start)}\b.*)$", README, re.MULTILINE)
        words = [sys.executable, "-m", *shlex.split(f"{line} {SMALLER.get(start, '')}")]
        done = subprocess.run(words, env=environment, cwd=here, capture_output=True, text=True, timeout=400)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout

    command.folder = here
    return command


def test_each_is_one_file_and_none_is_known_here():
    files = {path.stem for path in (PACKAGE / "ssvi_bench_example").glob("*.py")}
    assert files == {"__init__", *(name for _, name, _ in ADDED.values())}
    for registry, name, _ in ADDED.values():
        assert name not in registry.names()


def test_all_are_listed(command):
    sections = dict(part.split("\n", 1) for part in command("bench.list").strip().split("\n\n"))
    for kind, (_, name, words) in ADDED.items():
        assert re.search(rf"^  {name} +{re.escape(words)}", sections[kind], re.MULTILINE), kind
    listed = re.findall(r"^  (\w+)", sections["criteria"], re.MULTILINE)
    assert listed == ["abs_mean", "snr", "mean_abs", "snr_abs", "mean_exp", "snr_exp", "optimistic"]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("start", ["bench.check focal", "bench.check --criterion"])
def test_they_keep_their_promises(command, start):
    assert ", 0 FAIL, " in command(start)


def words(app):
    """All text of a page."""
    kinds = (app.title, app.subheader, app.caption, app.markdown)
    return "\n".join(element.value for kind in kinds for element in kind)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_they_are_in_grid_tables_and_dashboard_with_their_own_looks_and_words(command, monkeypatch):
    assert "by Optimistic" in command("bench.grid")
    store = Store(command.folder / "results")

    # tables
    tables = store.read_tables("growers")
    runs, pairs = tables["runs"], tables["criteria_pairs"]
    assert runs["packages"].str.fullmatch(r"\S+ \d\S*").all()
    assert (runs["status"] == "done").all()
    assert set(runs["dataset"]) == {"wine"} and set(runs["network"]) == {"tanh"}
    assert {"focal", "deterministic", "ssvi"} == set(runs["method"])
    assert set(runs["criterion"].dropna()) == {*CRITERIA.names(), "optimistic"} - {"snr_abs"}
    assert set(runs["config.network.units"]) == {16} and runs["accuracy"].notna().all()
    package = {"ssvi-bench-example": "1.0"}
    for run_id in runs["run_id"]:
        assert store.run(run_id).read("provenance")["packages"] == package
    recorded = pairs.groupby("criterion_used", observed=True)["criterion_b"].agg(set)
    assert [name for name, others in recorded.items() if "optimistic" in others] == ["optimistic"]

    # what is written beside them, by one who has the package, for those who don't
    look = store.read_styles("growers", styles.CRITERIA)["optimistic"]
    assert (look["label"], look["hue"], look["latex"]) == ("Optimistic", "#0B6E4F", r"|\mu| + \lambda \sigma")
    assert store.read_styles("growers")["focal"]["label"] == "Focal loss"

    # dashboard
    monkeypatch.setattr(sys, "argv", ["app.py", "--results", str(store.root)])
    app = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=100).run()
    app.switch_page("views/leaderboard.py").run()
    assert not app.exception
    assert "wine · tanh" in words(app)
    assert "Focal loss" in set(app.dataframe[0].value["method"])
    every = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=100)
    every.query_params["leaderboard_rows"] = "every configuration"
    every.switch_page("views/leaderboard.py").run()
    assert any("by Optimistic" in label for label in every.dataframe[0].value["settings"])
    app.switch_page("views/criteria.py").run()
    assert not app.exception
    assert "**Optimistic**" in words(app) and "an upper confidence bound of the magnitude" in words(app)
    assert any(look["latex"] in element.value for element in app.latex)
    differences = json.loads(app.get("plotly_chart")[0].proto.spec)
    (mark,) = (trace for trace in differences["data"] if trace.get("name") == "optimistic")
    assert mark["marker"]["color"] == look["hue"] and mark["marker"]["symbol"].removesuffix("-open") == "star"
    assert "Optimistic" in differences["layout"]["yaxis"]["ticktext"]
