"""How views show methods and criteria: files from those who know them to those who only read."""

from __future__ import annotations

import json
import os

import pytest

from bench.reporting.collecting import collect
from bench.results import styles
from bench.results.files import StoreError
from bench.results.store import Store
from methods.base import METHODS
from methods.core.style import Style
from methods.criteria.base import CRITERIA
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


WORDS = {"formula": "std^2 <é>", "latex": r"\sigma^2", "source": "A paper, equation 3", "ranks_as": ""}
#: What another package's would have, and the registry, by the file.
FOREIGNERS = {"methods.json": FOREIGN, "criteria.json": {**FOREIGN, **WORDS}}
REGISTRIES = {"methods.json": METHODS, "criteria.json": CRITERIA}


@pytest.fixture(params=styles.FILES, ids=lambda of: of.kind)
def of(request):
    """A file of styles."""
    return request.param


@pytest.fixture
def foreign(of):
    """An entry of ``of`` that this package does not have."""
    return FOREIGNERS[of.file]


@pytest.fixture
def path(store, of):
    """Where the styles lie."""
    return store.root / SUITE / of.file


def test_collecting_writes_the_style_of_every_method(store):
    assert collect(store, SUITE)["methods.json"] == store.root / SUITE / "methods.json"
    found = store.read_styles(SUITE)
    assert set(found) == set(METHODS.names())
    ssvi = METHODS.get("ssvi")
    assert Style(**{key: found["ssvi"][key] for key in vars(ssvi.style)}) == ssvi.style
    assert found["ssvi"]["version"] == ssvi.version
    assert found["ssvi"]["doc"] == ssvi.__doc__.splitlines()[0]


def test_collecting_writes_the_style_and_the_words_of_every_criterion(store):
    assert collect(store, SUITE)["criteria.json"] == store.root / SUITE / "criteria.json"
    found = store.read_styles(SUITE, styles.CRITERIA)
    assert list(found) == CRITERIA.names()
    for name, entry in found.items():
        known = CRITERIA.get(name)
        assert Style(**{key: entry[key] for key in vars(known.style)}) == known.style
        words = [entry[key] for key in ("formula", "latex", "source", "version")]
        assert words == [known.formula, known.latex, known.source, known.version]
        assert entry["doc"] == known.__doc__.splitlines()[0]
        assert entry["ranks_as"] == ("snr" if name == "snr_abs" else "")


def test_what_is_not_installed_here_keeps_its_style(store, path, of, foreign):
    collect(store, SUITE)
    name = REGISTRIES[of.file].names()[0]
    stale = {**store.read_styles(SUITE, of), "foreign": foreign, name: foreign}
    path.write_text(json.dumps(stale))
    collect(store, SUITE)
    found = store.read_styles(SUITE, of)
    assert found["foreign"] == foreign
    assert found[name]["label"] == REGISTRIES[of.file].get(name).style.label


def test_styles_are_written_only_when_they_change(store, path):
    collect(store, SUITE)
    os.utime(path, (1, 1))
    collect(store, SUITE)
    assert path.stat().st_mtime == 1


def test_other_fields_are_left_out(store, path, of, foreign):
    path.write_text(json.dumps({"foreign": {**foreign, "onclick": "alert(1)"}}))
    assert store.read_styles(SUITE, of) == {"foreign": foreign}


def test_no_field_may_be_missing(store, path, of, foreign):
    for field in foreign:
        rest = {key: value for key, value in foreign.items() if key != field}
        path.write_text(json.dumps({"foreign": rest}))
        with pytest.raises(StoreError, match=rf"{of.file}: foreign: {field}: None is not valid"):
            store.read_styles(SUITE, of)


#: What is wrong with a whole file, given an entry that is right, or with a field of it.
FILES = {
    "a list": lambda entry: [],
    "no style": lambda entry: {"foreign": "blue"},
    "a name without letters": lambda entry: {"": entry},
    "a name of two lines": lambda entry: {"for\neign": entry},
    "a long name": lambda entry: {"f" * 81: entry},
    "entries without end": lambda entry: {f"m{number}": entry for number in range(10_001)},
}
FIELDS = {
    "a hue by name": {"hue": "red"},
    "a hue and more": {"hue_dark": "#FFFFFF;x:url(y)"},
    "a hue and a line": {"hue_dark": "#FFFFFF\n"},
    "a label that is long": {"label": "x" * 81},
    "a label of two lines": {"label": "x\ny"},
    "a label that turns text round": {"label": "x\u202ey"},
    "a label that is none": {"label": ""},
    "a label that is a number": {"label": 7},
    "a marker of markup": {"marker": "<b>"},
    "an order that is a truth value": {"order": True},
    "an order that is no integer": {"order": 1.5},
    "an order out of bounds": {"order": 10**10},
    "a docstring that is long": {"doc": "x" * 1001},
    "a version below 0": {"version": -1},
}
#: Of criteria alone.
WORDS_ALONE = {
    "a formula that is none": {"formula": ""},
    "a formula that is long": {"formula": "x" * 301},
    "mathematics that end": {"latex": "x$ [here](http://there)"},
    "mathematics with code": {"latex": "x`y`"},
    "mathematics of two lines": {"latex": "x\n\ny"},
    "a source that turns text round": {"source": "x\u202ey"},
    "a list of those it ranks as": {"ranks_as": ["snr"]},
    "none that it ranks as": {"ranks_as": None},
}


def refused(store, path, of, content):
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match=rf"{of.file}: ") as caught:
        store.read_styles(SUITE, of)
    assert len(str(caught.value)) < len(str(path)) + 200
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_not_valid_is_refused_by_readers(store, path, of, foreign, case):
    refused(store, path, of, FILES[case](foreign))


@pytest.mark.parametrize("case", FIELDS)
def test_a_field_that_is_not_valid_is_refused_by_readers(store, path, of, foreign, case):
    refused(store, path, of, {"foreign": {**foreign, **FIELDS[case]}})


@pytest.mark.parametrize("case", WORDS_ALONE)
@pytest.mark.parametrize("of", [styles.CRITERIA], indirect=True, ids=["criteria"])
def test_words_of_a_criterion_that_are_not_valid_are_refused_by_readers(store, path, of, foreign, case):
    refused(store, path, of, {"foreign": {**foreign, **WORDS_ALONE[case]}})


@pytest.mark.parametrize("damage", ["", "{", '{"foreign": {"order": NaN}}', json.dumps({"foreign": "blue"})])
def test_collecting_mends_a_file_that_is_of_no_use(store, path, of, damage):
    path.write_text(damage)
    collect(store, SUITE)
    assert set(store.read_styles(SUITE, of)) == set(REGISTRIES[of.file].names())


def test_where_nothing_was_collected_there_are_no_styles(store, of):
    with pytest.raises(StoreError, match=rf"{of.file}: no such file"):
        store.read_styles(SUITE, of)


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
