"""Parsing of settings: conditions, key=value, seeds, YAML."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.experiment.notation import parse_overrides, parse_seeds, parse_yaml, read_yaml, show
from bench.planning.filters import parse_where, select
from methods.core.errors import UserError

ROWS = [
    {
        "method": "dense_vi",
        "seed": 0,
        "label": "dense, VI",
        "limit": None,
        "flag": True,
        "network.hidden": [4],
    },
    {"method": "ssvi", "seed": 0, "sparsity": 0.9, "method.sparsity": 0.9, "limit": 1.5, "flag": False},
    {"method": "ssvi", "seed": 1, "sparsity": 0.98, "method.sparsity": 0.98, "limit": 2, "flag": True},
    {"method": "static_vi", "seed": 1, "sparsity": 0, "method.sparsity": 0, "limit": None, "flag": False},
]


def chosen(*where):
    return [number for number, row in enumerate(select(ROWS, parse_where(where))) if row]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("method=ssvi", [1, 2]),
        ("method==ssvi", [1, 2]),
        ("method != ssvi", [0, 3]),
        ("method=ssvi|static_vi", [1, 2, 3]),
        ("method!=ssvi|static_vi", [0]),
        (" method = 'ssvi' | \"static_vi\" ", [1, 2, 3]),
        ("sparsity>=0.9", [1, 2]),
        ("sparsity>0.9", [2]),
        ("sparsity<=9e-1", [1, 3]),
        ("sparsity<.9", [3]),
        ("sparsity=0.90", [1]),
        ("sparsity=0.0", [3]),
        ("sparsity!=0.9", [0, 2, 3]),  # a row without a sparsity has not 0.9
        ("method.sparsity=0.98", [2]),
        ("sparsity>=0.9,method=ssvi,seed=1", [2]),
        ("sparsity >= 0.9 , seed < 1", [1]),
        ("limit=null", [0, 3]),
        ("limit>0", [1, 2]),  # null is on no side of a number
        ("flag=true", [0, 2]),
        ("network.hidden=[4]", [0]),
        ('label="dense, VI"', [0]),
    ],
)
def test_conditions(where, expected):
    assert chosen(where) == expected


def test_repeated_conditions_must_all_hold():
    assert chosen("method=ssvi", "seed=1") == chosen("method=ssvi,seed=1") == [2]
    assert chosen() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("sparsty>0.9", r"unknown column 'sparsty'.*; valid: flag, label, limit, method, seed, sparsity$"),
        ("method<ssvi", r"'method<ssvi': < compares numbers only; use = or != for text$"),
        ("method<3", r"'method<3': method is 'dense_vi' in some cell, which is not a number; use = or !=$"),
        ("flag>0", r"'flag>0': flag is 'true' in some cell, which is not a number"),
        ("sparsity>0.9|0.5", r"only = and != take alternatives \(\|\)$"),
        ("sparsity", r"'sparsity' is not a condition; write a column, = != < <= > or >=, a value$"),
        ("sparsity=", r"'sparsity=' is not a condition"),
        ("sparsity=0.9,", r"'' is not a condition"),
        ("method=ssvi|", r"'method=ssvi\|': a value is missing$"),
        ("method='ssvi", r"leaves a quote open$"),
        ("network.hidden=[4", r"leaves a bracket open$"),
        ("method=[4}", r"malformed YAML"),
        ("method=svi", r"no cell fulfils 'method=svi'; values of method: dense_vi, ssvi, static_vi$"),
        ("sparsity>0.99", r"no cell fulfils 'sparsity>0.99'; values of sparsity: 0\.9, 0\.98, 0$"),
        ("method=dense_vi,seed=1", r"no cell fulfils all of 'method=dense_vi', 'seed=1'$"),
    ],
)
def test_bad_conditions_are_one_line(where, message):
    with pytest.raises(UserError, match=r"^--where\b.*" + message) as caught:
        chosen(where)
    assert "\n" not in str(caught.value)


def test_true_is_not_one():
    assert select([{"x": True}, {"x": 1}], parse_where(["x=1"])) == [False, True]


# -- key=value ------------------------------------------------------------------------------


def test_overrides_are_yaml_values():
    items = [
        "epochs=5,lr=1e-2",
        "network.hidden=[64, 32]",
        "lr_scale=null",
        "a='x,y'",
        "b=no",
        "c={d: 1, e: 2}",
        "f=a=b",
    ]
    assert parse_overrides(items) == {
        "epochs": 5,
        "lr": 0.01,
        "network.hidden": [64, 32],
        "lr_scale": None,
        "a": "x,y",
        "b": "no",
        "c": {"d": 1, "e": 2},
        "f": "a=b",
    }
    assert parse_overrides([" epochs = 5 "]) == {"epochs": 5}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("epochs", r"'epochs' is not of the form key=value$"),
        ("epochs=", r"'epochs=' is not of the form key=value$"),
        ("=5", r"'=5' is not of the form key=value$"),
        ("", r"'' is not of the form key=value$"),
        ("epochs=5,", r"'' is not of the form key=value$"),
        ("ep ochs=5", r"not of the form"),
        ("hidden=[64", r"'hidden=\[64' leaves a bracket open$"),
        ("hidden=[64}", r"hidden:1: malformed YAML: "),
        ("epochs=5,epochs=6", r"key 'epochs' is given twice$"),
    ],
)
def test_bad_overrides_are_one_line(item, message):
    with pytest.raises(UserError, match=r"^--set\b.*" + message) as caught:
        parse_overrides([item])
    assert "\n" not in str(caught.value)


# -- seeds ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "seeds"),
    [
        ("0-4", (0, 1, 2, 3, 4)),
        ("0,2,5-7", (0, 2, 5, 6, 7)),
        (" 3 , 1 ", (3, 1)),
        ("7", (7,)),
        (7, (7,)),
        ([100, 101], (100, 101)),
        ("2-2", (2,)),
        ("0-2,1-3", (0, 1, 2, 3)),
    ],
)
def test_seeds(written, seeds):
    assert parse_seeds(written) == seeds


@given(st.lists(st.integers(0, 500), min_size=1, unique=True))
def test_a_list_of_seeds_is_read_as_written(seeds):
    assert parse_seeds(",".join(map(str, seeds))) == tuple(seeds)


@pytest.mark.parametrize(
    "bad", ["", "a", "4-0", "-1", "0-", "1.5", "0,,1", "0 1", "0-4-8", -3, "0-99999999", "9" * 30]
)
def test_bad_seeds_are_one_line(bad):
    with pytest.raises(UserError, match=r"^--seeds: '.*' is "):
        parse_seeds(bad)


# -- YAML -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-8", 1e-8),
        ("5.0e-4", 5e-4),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("+3", 3),
        ("-.inf", float("-inf")),
        ("no", "no"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("010", "010"),
        ("0-4", "0-4"),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("'1'", "1"),
        ("{a: [1, b], <<: {c: 2}}", {"a": [1, "b"], "c": 2}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = parse_yaml(text, "text")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", r":3: malformed YAML: "),
        ("a: 1\n  b: 2\n", r":2: malformed YAML: "),
        ("a: 1\nb: 2\na: 3\n", r":3: malformed YAML: key 'a' appears twice$"),
        ("x:\n  - {y: 1, y: 2}\n", r":2: malformed YAML: key 'y' appears twice$"),
        ("a: !!python/object/apply:os.system [ls]\n", r":1: malformed YAML: "),
        ("a: *nowhere\n", r":1: malformed YAML: "),
        ("[a]: 1\n", r":1: malformed YAML: "),
        ("a: \x01\n", r": malformed YAML: "),
        ("a: " + "9" * 5000, r": malformed YAML: "),
    ],
)
def test_malformed_yaml_is_one_line_with_file_and_line(tmp_path, text, message):
    path = tmp_path / "some.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"some\.yaml" + message) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"absent\.yaml: No such file or directory$"):
        read_yaml(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(UserError, match=r"latin\.yaml: not UTF-8 text$"):
        read_yaml(tmp_path / "latin.yaml")


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(-1e6, 1e6)
    | st.sampled_from(["a", "snr_abs"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=2),
)


@given(plain)
def test_what_is_shown_reads_as_the_same(value):
    assert parse_yaml(show(value), "shown") == value
