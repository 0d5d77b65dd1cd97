"""A run as a value: resolution to the last default, ids, short and full keys; options check themselves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.data.base import DATASETS, Dataset
from bench.experiment.settings import flatten, nest, unflatten
from bench.experiment.spec import parse_spec
from bench.networks.base import NETWORKS, Network
from methods.base import METHODS, Method
from methods.core.errors import UserError
from methods.core.options import describe, hashed_dict, option, parse, to_dict
from methods.core.style import Style
from methods.criteria.base import CRITERIA

STYLE = Style("Spec toy", hue="#000000", hue_dark="#FFFFFF")


@METHODS.register
class SpecMethod(Method):
    """Options of every kind."""

    @dataclass(frozen=True)
    class SpecOptions:
        sparsity: float = option(0.9, "share removed", within="[0, 1)")
        rule: str = option("one", "which rule", choices=("one", "two"))
        limit: float | None = option(None, "a limit, or none", within="(0, inf)")
        width: int = option(3, "a width")

    name = "spec_method"
    version = 2
    style = STYLE
    Options = SpecOptions


class SpecMethodLater(Method):
    """``spec_method`` in a version to come: one more option, added after results existed."""

    @dataclass(frozen=True)
    class LaterOptions(SpecMethod.SpecOptions):
        bias: bool = option(False, "a later thought", neutral=False)

    name = "spec_method"
    version = 2
    style = STYLE
    Options = LaterOptions


@NETWORKS.register
class SpecNetwork(Network):
    """A network with a list for an option, and one name that the method has too."""

    @dataclass(frozen=True)
    class NetworkOptions:
        hidden: tuple[int, ...] = option((4,), "units a layer", within="[1, inf)")
        width: int = option(1, "a width")

    name = "spec_network"
    Options = NetworkOptions


@DATASETS.register
class SpecData(Dataset):
    """A data set without options."""

    name = "spec_data"


NAMES = {"dataset": "spec_data", "network": "spec_network", "method": "spec_method"}


def spec(**flat: Any):
    return parse_spec(nest(NAMES | flat))


# -- ids ------------------------------------------------------------------------------------


def test_ids_do_not_change_with_the_software():
    """Stored results are found by these ids: if this test must change, a new schema is needed."""
    assert spec().run_id == "359df79fb56a"
    assert spec(seed=3, sparsity=0.5, hidden=[8, 8], epochs=7).run_id == "6cf3458b6a2f"
    assert spec().config_id == "c3338d62b6c5"


def test_a_seed_changes_the_run_but_not_the_configuration():
    assert len({spec(seed=seed).run_id for seed in range(20)}) == 20
    assert len({spec(seed=seed).config_id for seed in range(20)}) == 1
    assert spec().with_seed(5) == spec(seed=5)


@pytest.mark.parametrize(
    "change",
    [
        {"sparsity": 0.8},
        {"limit": 1},
        {"hidden": [4, 4]},
        {"epochs": 41},
        {"samples": 11},
        {"precision": "float64"},
        {"optimiser": "adam"},
    ],
    ids=str,
)
def test_what_defines_the_science_changes_both_ids(change):
    assert spec(**change).run_id != spec().run_id
    assert spec(**change).config_id != spec().config_id


def test_a_method_version_changes_the_ids(monkeypatch):
    before = spec().run_id
    monkeypatch.setattr(SpecMethod, "version", 3)
    assert spec().run_id != before


@pytest.mark.parametrize("entry", [SpecData, SpecNetwork], ids=lambda entry: entry.name)
def test_a_version_of_data_and_network_is_neutral_at_1(monkeypatch, entry):
    section, kind = ("dataset", "data set") if entry is SpecData else ("network", "network")
    ids, stored = (spec().run_id, spec().config_id), spec().to_dict()
    assert "version" not in stored[section]
    monkeypatch.setattr(entry, "version", 2)
    after = spec()
    assert after.to_dict()[section]["version"] == 2
    assert after.run_id != ids[0] and after.config_id != ids[1]
    assert parse_spec(after.to_dict()) == after
    with pytest.raises(UserError, match=rf"^here: {kind} {entry.name} has version 2, the run is of 1$"):
        parse_spec(stored, "here")
    stored[section]["version"] = 3
    with pytest.raises(UserError, match=rf"^{kind} {entry.name} has version 2, the run is of 3$"):
        parse_spec(stored)


def test_another_criterion_is_at_its_own_version(monkeypatch):
    monkeypatch.setattr(CRITERIA.get("mean_exp"), "version", 2)
    names = {"dataset": "spec_data", "network": "spec_network", "method": "ssvi"}
    one, other = (parse_spec(nest({**names, "criterion": name})) for name in ("snr", "mean_exp"))
    assert one.replaced({"method.criterion": "mean_exp"}).run_id == other.run_id
    assert other.replaced({"method.criterion": "snr"}).run_id == one.run_id
    with pytest.raises(UserError, match=r"^here: method: unknown key 'epoch'.*; valid: "):
        one.replaced({"method.epoch": 1}, "here")


@DATASETS.register
class VersionedData(Dataset):
    """Examples of which there are several editions, chosen by an option of that name."""

    @dataclass(frozen=True)
    class VersionedOptions:
        version: str = option("first", "edition")

    name = "spec_editions"
    Options = VersionedOptions


def test_an_option_may_be_called_version(monkeypatch):
    names = {"network": "spec_network", "method": "spec_method"}
    second = parse_spec(nest({**names, "dataset": "spec_editions", "dataset.version": "second"}))
    assert second.dataset[1].version == "second"
    assert parse_spec(second.to_dict()) == second
    before = second.run_id
    monkeypatch.setattr(VersionedData, "version", 2)
    raised = parse_spec(nest({**names, "dataset": "spec_editions", "dataset.version": "second"}))
    assert raised.to_dict()["dataset"] == {"name": "spec_editions", "version": "second", "entry_version": 2}
    assert raised.run_id != before and parse_spec(raised.to_dict()) == raised


@METHODS.register
class PerhapsCriterion(Method):
    """May rank weights by a criterion, or not at all."""

    @dataclass(frozen=True)
    class PerhapsOptions:
        rank_by: str | None = option(None, "criterion, or none", choices=CRITERIA)

    name = "spec_perhaps"
    style = STYLE
    Options = PerhapsOptions


def test_a_method_may_choose_no_criterion(monkeypatch):
    names = {"dataset": "spec_data", "network": "spec_network", "method": "spec_perhaps"}
    none = parse_spec(nest(names))
    assert none.method[1].rank_by is None and parse_spec(none.to_dict()) == none
    monkeypatch.setattr(CRITERIA.get("snr"), "version", 2)
    assert parse_spec(nest({**names, "rank_by": "snr"})).to_dict()["method"]["rank_by_version"] == 2


def test_a_version_of_the_criterion_is_neutral_at_1(monkeypatch):
    chosen = NAMES | {"method": "ssvi", "sparsity": 0.5}
    before, other = parse_spec(nest(chosen)), parse_spec(nest(chosen | {"criterion": "abs_mean"}))
    ids, stored = (before.run_id, other.run_id), before.to_dict()
    assert "criterion_version" not in stored["method"]
    monkeypatch.setattr(CRITERIA.get("snr"), "version", 2)
    after = parse_spec(nest(chosen))
    assert after.to_dict()["method"]["criterion_version"] == 2
    assert after.run_id != ids[0] and parse_spec(after.to_dict()) == after
    # of a run by another criterion nothing changes
    assert parse_spec(other.to_dict()).run_id == ids[1]
    with pytest.raises(UserError, match=r"^criterion snr has version 2, the run is of 1$"):
        parse_spec(stored)


def test_a_later_option_at_its_neutral_value_keeps_the_id(monkeypatch):
    before = spec().run_id
    monkeypatch.setitem(METHODS._registered, "spec_method", SpecMethodLater)
    assert spec().to_dict()["method"]["bias"] is False
    assert spec().run_id == before
    assert spec(bias=True).run_id != before


@pytest.mark.parametrize("same", [{"sparsity": 0}, {"sparsity": 0.0}, {"sparsity": -0.0}], ids=str)
def test_equal_numbers_have_one_id(same):
    assert spec(**same).run_id == spec(sparsity=0).run_id


configurations = st.fixed_dictionaries(
    {},
    optional={
        "sparsity": st.floats(0, 1, exclude_max=True),
        "rule": st.sampled_from(["one", "two"]),
        "limit": st.none() | st.floats(0, 1e9, exclude_min=True),
        "hidden": st.lists(st.integers(1, 9), max_size=3),
        "epochs": st.integers(1, 500),
        "lr": st.floats(1e-9, 10),
        "seed": st.integers(0, 2**31),
        "method.width": st.integers(),
    },
)


@given(configurations, st.randoms())
def test_the_id_depends_on_values_alone(flat, random):
    run = spec(**flat)
    items = list((NAMES | flat).items())
    random.shuffle(items)
    assert parse_spec(nest(dict(items))).run_id == run.run_id
    # stored, read again, and its sections in any order
    stored = json.loads(json.dumps(run.to_dict()))
    again = parse_spec(dict(reversed(stored.items())))
    assert again == run and again.run_id == run.run_id
    assert unflatten(flatten(run.to_dict())) == run.to_dict()


# -- keys -----------------------------------------------------------------------------------


def test_keys_may_be_short_dotted_or_in_sections():
    short = spec(sparsity=0.5, epochs=3, hidden=[2])
    dotted = spec(**{"method.sparsity": 0.5, "training.epochs": 3, "network.hidden": [2]})
    network = {"name": "spec_network", "hidden": [2]}
    sections = parse_spec(
        {
            **NAMES,
            "network": network,
            "training": {"epochs": 3},
            "method": {"name": "spec_method", "sparsity": 0.5},
        }
    )
    mixed = parse_spec(nest(NAMES | {"training": {"epochs": 3}, "network": network, "sparsity": 0.5}))
    assert short == dotted == sections == mixed


def test_dotted_keys_may_stand_before_the_names_they_need():
    flat = {
        "sparsity": 0.5,
        "method.name": "spec_method",
        "network.name": "spec_network",
        "dataset": "spec_data",
    }
    assert parse_spec(nest(flat)) == spec(sparsity=0.5)


@pytest.mark.parametrize(
    ("flat", "message"),
    [
        ({"sparsiti": 0.5}, r"^here: unknown key 'sparsiti'.*; valid: .*method: .*sparsity"),
        ({"method.sparsiti": 0.5}, r"^here: unknown key 'method\.sparsiti'.*; valid: "),
        ({"network.sparsity": 0.5}, r"^here: unknown key 'network\.sparsity'"),
        ({"width": 5}, r"^here: key 'width' is ambiguous; write network\.width or method\.width$"),
        ({"epochs": 5, "training.epochs": 5}, r"^here: key 'training\.epochs' is given twice$"),
        ({"epochs": 5, "training": {"epochs": 5}}, r"^here: key 'training\.epochs' is given twice$"),
        ({"training": {"epochs": 5}, "training.epochs": 5}, r"^here: key 'training\.epochs' is given twice$"),
        ({"training": 5}, r"^here: training: expected a mapping, got 5$"),
        ({"method": "spec_methd"}, r"^here: unknown method 'spec_methd'.*; valid: .*spec_method"),
        ({"method": None}, r"^here: unknown method None.*; valid: "),
        ({"dataset": "nope"}, r"^here: unknown data set 'nope'.*; valid: "),
        ({"network": ["mlp"]}, r"^here: unknown network \['mlp'\].*; valid: "),
    ],
    ids=str,
)
def test_a_key_or_name_that_does_not_exist_is_named(flat, message):
    with pytest.raises(UserError, match=message):
        nest(NAMES | flat, "here")


@pytest.mark.parametrize(
    ("flat", "message"),
    [
        ({"sparsity": 1}, r"^here: method: sparsity: 1\.0 lies outside \[0, 1\)$"),
        ({"sparsity": float("nan")}, r"^here: method: sparsity: must be finite"),
        ({"sparsity": True}, r"^here: method: sparsity: expected number, got True$"),
        ({"sparsity": "0.9"}, r"^here: method: sparsity: expected number, got '0\.9'$"),
        ({"rule": "three"}, r"^here: method: rule: 'three' is not valid; valid: one, two$"),
        ({"limit": 0}, r"^here: method: limit: 0\.0 lies outside \(0, inf\)$"),
        ({"hidden": [4, 0]}, r"^here: network: hidden: 0 lies outside \[1, inf\)$"),
        ({"hidden": 4}, r"^here: network: hidden: expected list of integer, got 4$"),
        ({"epochs": 1.5}, r"^here: training: epochs: expected integer, got 1\.5$"),
        ({"seed": -1}, r"^here: seed: -1 lies outside \[0, inf\)$"),
        ({"protocol": "cross"}, r"^here: protocol: 'cross' is not valid; valid: holdout, refit$"),
    ],
    ids=str,
)
def test_a_bad_value_is_one_line_with_its_key(flat, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_spec(nest(NAMES | flat), "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**NAMES, "schema": 2}, r"^configuration: schema 2; this version reads 1$"),
        ({**NAMES, "sparsity": 0.5}, r"^unknown key 'sparsity'.*; valid: .*training"),
        ({"dataset": "spec_data"}, r"^configuration: missing key 'network'$"),
        (
            {**NAMES, "method": {"name": "spec_method", "version": 1}},
            r"^method spec_method has version 2, the run is of 1$",
        ),
        ({**NAMES, "method": {"sparsity": 0.5}}, r"^unknown method None.*; valid: "),
    ],
    ids=str,
)
def test_a_nested_configuration_is_checked_too(config, message):
    with pytest.raises(UserError, match=message):
        parse_spec(config)


# -- options --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inner:
    x: int = option(1, "inside", within="[0, 9]")


@dataclass(frozen=True)
class Every:
    needed: int = option(doc="has no default", within="[0, 9]")
    ratio: float = option(0.5, "a ratio", within="(0, 1]")
    either: float | str = option("auto", "a number or a word", within="(0, inf)")
    names: tuple[str, ...] = option(("a",), "some names", choices=("a", "b"))
    inner: Inner = option(Inner(), "a group")
    table: dict[str, Any] = option({}, "anything by name")
    old: int = option(0, "later", neutral=0)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({}, r"^at: missing key 'needed'$"),
        ({"needed": 10}, r"^at: needed: 10 lies outside \[0, 9\]$"),
        ({"needed": True}, r"^at: needed: expected integer, got True$"),
        ({"needed": 1, "ratio": 10**400}, r"^at: ratio: must be finite"),
        ({"needed": 1, "either": -1}, r"^at: either: -1\.0 lies outside"),
        ({"needed": 1, "either": [1]}, r"^at: either: expected string, got \[1\]$"),
        ({"needed": 1, "names": ["a", "c"]}, r"^at: names: 'c' is not valid; valid: a, b$"),
        ({"needed": 1, "inner": {"y": 1}}, r"^at: inner: unknown key 'y'.*; valid: x$"),
        ({"needed": 1, "inner": {"x": 11}}, r"^at: inner: x: 11 lies outside \[0, 9\]$"),
        ({"needed": 1, "inner": 3}, r"^at: inner: expected mapping, got 3$"),
        ({"needed": 1, "table": [1]}, r"^at: table: expected mapping, got \[1\]$"),
        ({"needed": 1, 2: 3}, r"^at: unknown key 2.*; valid: "),
        ([1], r"^at: expected a mapping, got \[1\]$"),
    ],
    ids=str,
)
def test_options_refuse(given_, message):
    with pytest.raises(UserError, match=message):
        parse(Every, given_, "at")


def test_options_take_what_loses_nothing():
    parsed = parse(
        Every,
        {"needed": 2.0, "ratio": 1, "either": 3, "names": ["b", "a"], "inner": {"x": 4}, "table": {1: 2}},
    )
    assert parsed == Every(2, 1.0, 3.0, ("b", "a"), Inner(4), {"1": 2})
    assert parse(Every, to_dict(parsed)) == parsed
    assert parse(Every, {"needed": 1}).either == "auto"


def test_a_field_at_its_neutral_value_is_left_out_of_the_hash_only():
    assert "old" not in hashed_dict(Every(1)) and "old" in to_dict(Every(1))
    assert hashed_dict(Every(1, old=1))["old"] == 1


def test_options_describe_themselves():
    rows = {row.name: row for row in describe(Every)}
    assert list(rows) == ["needed", "ratio", "either", "names", "inner", "table", "old"]
    assert (rows["ratio"].type, rows["ratio"].default, rows["ratio"].valid) == ("number", 0.5, "(0, 1]")
    assert (rows["names"].type, rows["names"].valid) == ("list of string", "a, b")
    assert rows["either"].type == "number or string" and rows["table"].default == {}


@pytest.mark.parametrize(
    ("default", "declared", "words"),
    [
        (0.1, {"within": "0..1"}, r"within='0\.\.1' is not an interval"),
        (0.1, {"within": "[0 1]"}, "is not an interval"),
        (2.0, {"within": "[0, 1]"}, r"the default 2\.0 is not valid: \[0, 1\]"),
        ("c", {"choices": ("a", "b")}, "the default 'c' is not valid: a, b"),
    ],
)
def test_an_option_that_is_declared_wrongly_is_refused_where_it_is_written(default, declared, words):
    with pytest.raises(TypeError, match=words):
        option(default, "doc", **declared)
