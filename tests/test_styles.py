"""How views show methods: ``methods.json``, from those who know methods to those who only read."""

from __future__ import annotations

import json
import os

import pytest

from bench.reporting.collecting import collect
from bench.results.files import StoreError
from bench.results.store import Store
from methods.base import METHODS, Style
from tests.run_folders import cell, config, plan, run_files, write_run

SUITE = "criteria_ablation"
FOREIGN = {
    "label": "Of another package <é>", "hue": "#12ab9F", "hue_dark": "#FFFFFF", "marker": "triangle-up-open",
    "dash": "longdashdot", "order": -3, "doc": "What it does.", "version": 2,
}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path, create=True)
    write_run(tmp_path, run_files(config()))
    store.merge_plan(plan([cell(config())], SUITE))
    return store


@pytest.fixture
def path(store):
    """Where the styles lie."""
    return store.root / SUITE / "methods.json"


def test_collecting_writes_the_style_of_every_method(store, path):
    assert collect(store, SUITE)["methods.json"] == path
    found = store.read_styles(SUITE)
    assert set(found) == set(METHODS.names())
    ssvi = METHODS.get("ssvi")
    assert Style(**{key: found["ssvi"][key] for key in vars(ssvi.style)}) == ssvi.style
    assert found["ssvi"]["version"] == ssvi.version
    assert found["ssvi"]["doc"] == ssvi.__doc__.splitlines()[0]


def test_a_method_that_is_not_installed_here_keeps_its_style(store, path):
    collect(store, SUITE)
    stale = {**store.read_styles(SUITE), "foreign": FOREIGN, "ssvi": FOREIGN}
    path.write_text(json.dumps(stale))
    collect(store, SUITE)
    found = store.read_styles(SUITE)
    assert found["foreign"] == FOREIGN
    assert found["ssvi"]["label"] == METHODS.get("ssvi").style.label


def test_styles_are_written_only_when_they_change(store, path):
    collect(store, SUITE)
    os.utime(path, (1, 1))
    collect(store, SUITE)
    assert path.stat().st_mtime == 1


def test_other_fields_are_left_out(store, path):
    path.write_text(json.dumps({"foreign": {**FOREIGN, "onclick": "alert(1)"}}))
    assert store.read_styles(SUITE) == {"foreign": FOREIGN}


HOSTILE = {
    "a list": [],
    "no style": {"foreign": "blue"},
    "a name without letters": {"": FOREIGN},
    "a name of two lines": {"for\neign": FOREIGN},
    "a long name": {"f" * 81: FOREIGN},
    "a missing field": {"foreign": {key: value for key, value in FOREIGN.items() if key != "hue"}},
    "a hue by name": {"foreign": {**FOREIGN, "hue": "red"}},
    "a hue and more": {"foreign": {**FOREIGN, "hue_dark": "#FFFFFF;x:url(y)"}},
    "a hue and a line": {"foreign": {**FOREIGN, "hue_dark": "#FFFFFF\n"}},
    "a label that is long": {"foreign": {**FOREIGN, "label": "x" * 81}},
    "a label of two lines": {"foreign": {**FOREIGN, "label": "x\ny"}},
    "a label that turns text round": {"foreign": {**FOREIGN, "label": "x\u202ey"}},
    "a label that is none": {"foreign": {**FOREIGN, "label": ""}},
    "a label that is a number": {"foreign": {**FOREIGN, "label": 7}},
    "a marker of markup": {"foreign": {**FOREIGN, "marker": "<b>"}},
    "an order that is a truth value": {"foreign": {**FOREIGN, "order": True}},
    "an order that is no integer": {"foreign": {**FOREIGN, "order": 1.5}},
    "an order out of bounds": {"foreign": {**FOREIGN, "order": 10**10}},
    "a docstring that is long": {"foreign": {**FOREIGN, "doc": "x" * 1001}},
    "a version below 0": {"foreign": {**FOREIGN, "version": -1}},
    "methods without end": {f"m{number}": FOREIGN for number in range(10_001)},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_valid_is_refused_by_readers(store, path, case):
    path.write_text(json.dumps(HOSTILE[case]))
    with pytest.raises(StoreError, match=r"methods\.json: ") as caught:
        store.read_styles(SUITE)
    assert len(str(caught.value)) < len(str(path)) + 200
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("damage", ["", "{", '{"foreign": {"order": NaN}}', json.dumps({"foreign": "blue"})])
def test_collecting_mends_a_file_that_is_of_no_use(store, path, damage):
    path.write_text(damage)
    collect(store, SUITE)
    assert set(store.read_styles(SUITE)) == set(METHODS.names())


def test_where_nothing_was_collected_there_are_no_styles(store):
    with pytest.raises(StoreError, match=r"methods\.json: no such file"):
        store.read_styles(SUITE)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"hue": "green"}, "hue: 'green' is not #rrggbb"),
        ({"hue_dark": "#fff"}, "hue_dark: '#fff' is not #rrggbb"),
        ({"marker": "Star!"}, "marker: 'Star!' is not a name of plotly's"),
        ({"marker": "blob"}, "marker: 'blob' is not a name of plotly's, as circle, "),
        ({"marker": "bowtie-dot"}, "marker: 'bowtie-dot' is not a name"),
        ({"dash": "dashed"}, "dash: 'dashed' is not a name of plotly's: solid, dot, dash, "),
        ({"dash": ""}, "dash: '' is not a name of plotly's"),
        ({"label": "x" * 81}, "is not a label of 1 to 80 characters"),
        ({"label": "x\ty"}, r"is not a label of 1 to 80 characters"),
    ],
)
def test_a_style_that_readers_would_refuse_is_an_error_where_it_is_written(wrong, words):
    with pytest.raises(ValueError, match=words):
        Style(**{"label": "Mine", "hue": "#000000", "hue_dark": "#ffffff", **wrong})


@pytest.mark.parametrize("marker", ["circle", "diamond-tall-open", "hash-open-dot", "arrow-wide-open"])
def test_what_plotly_draws_is_a_style(marker):
    style = Style("Mine", hue="#000000", hue_dark="#ffffff", marker=marker, dash="longdashdot")
    assert style.marker == marker
