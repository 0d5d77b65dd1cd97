"""Tables of the user: files of numpy, OpenML through a cache made by hand; and real gene expression."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from urllib.error import URLError

import numpy as np
import pytest
import torch

from bench.data.base import DATASETS
from bench.data.tables import gene_expression, npz, openml, planted
from bench.experiment.spec import parse_spec
from methods.core.errors import UserError
from methods.core.options import hashed_dict, parse, to_dict
from methods.core.streams import Streams
from tests.image_files import needed


def load(cls, seed=0, **options):
    dataset = cls(parse(cls.Options, options))
    return dataset, dataset.parts(Streams(seed)["split"], False, seed)


def arrays(rows=40, **changed):
    rng = np.random.default_rng(0)
    found = {"X": rng.normal(size=(rows, 6)), "y": np.arange(rows) % 3, **changed}
    return {name: value for name, value in found.items() if value is not None}


def saved(path, **changed):
    np.savez(path, **arrays(**changed))
    return str(path)


# npz


def spec(path, **options):
    dataset = {"name": "npz", "path": path, **options}
    return parse_spec({"dataset": dataset, "network": "mlp", "method": "deterministic"})


def test_the_id_is_that_of_the_content_and_not_of_the_path(tmp_path):
    first = spec(saved(tmp_path / "a.npz"))
    shutil.copy(tmp_path / "a.npz", tmp_path / "b.npz")
    np.savez_compressed(tmp_path / "c.npz", **arrays(), feature_names=np.array(list("abcdef")))
    same = [spec(str(tmp_path / name)) for name in ("b.npz", "c.npz")]
    assert {one.run_id for one in same} == {first.run_id}
    changed = arrays()["X"]
    changed[3, 2] += 1e-9
    assert spec(saved(tmp_path / "d.npz", X=changed)).run_id != first.run_id
    # a shape is content too
    assert spec(saved(tmp_path / "e.npz", X=arrays()["X"].reshape(40, 3, 2))).run_id != first.run_id
    assert "path" not in hashed_dict(first.dataset[1]) and to_dict(first.dataset[1])["path"].endswith("a.npz")


def test_a_stored_run_is_read_where_the_file_is_not(tmp_path):
    first = spec(saved(tmp_path / "a.npz"))
    (tmp_path / "a.npz").unlink()
    assert parse_spec(first.to_dict()).run_id == first.run_id
    with pytest.raises(UserError, match=r"^data set npz: no file .*a\.npz$"):
        DATASETS.get("npz")(first.dataset[1]).rows()


def test_a_file_that_changed_since_is_not_the_run_s_data(tmp_path):
    first = spec(saved(tmp_path / "a.npz"))
    saved(tmp_path / "a.npz", y=np.arange(40) % 2)
    with pytest.raises(
        UserError, match=r"the content has changed: its digest is \w{16}, the run is of \w{16}"
    ):
        DATASETS.get("npz")(first.dataset[1]).rows()


@pytest.mark.parametrize(
    "labels", [np.arange(40) % 3 * 5 - 5, np.array(["b", "c", "a", "b"] * 10), np.arange(40.0) % 2]
)
def test_classes_are_numbered_in_sorted_order(tmp_path, labels):
    dataset, splits = load(npz.Npz, path=saved(tmp_path / "a.npz", y=labels))
    names = sorted(set(labels.tolist()))
    assert splits.classes == len(names)
    assert dataset.rows().labels.tolist() == [names.index(label) for label in labels.tolist()]


def test_an_official_split_missing_numbers_and_images_are_read(tmp_path):
    split = np.array(["train"] * 30 + ["test"] * 10)
    inputs = arrays()["X"]
    inputs[5, 1] = np.nan
    path = saved(tmp_path / "a.npz", split=split, X=inputs)
    _, splits = load(npz.Npz, path=path, resampling="official")
    assert len(splits.test) == 10 and bool(splits.train.inputs.isfinite().all())
    images = np.random.default_rng(0).integers(0, 255, (40, 3, 4, 4)).astype(np.uint8)
    _, splits = load(npz.Npz, path=saved(tmp_path / "b.npz", X=images))
    assert splits.train.inputs.dtype == torch.uint8 and splits.train.inputs.shape[1:] == (3, 4, 4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"X": None}, r"no array 'X'; it has y"),
        ({"X": np.ones(40)}, r"X has shape \(40,\) and type float64; it must be numbers \(N, features\)"),
        ({"X": np.array([["a"]] * 40)}, r"X has shape \(40, 1\) and type <U1"),
        ({"X": np.full((40, 2), np.inf)}, r"X has infinite numbers; a missing value is NaN"),
        ({"y": np.zeros(39)}, r"y has shape \(39,\); X has 40 rows"),
        ({"y": np.linspace(0, 1, 40)}, r"y: holds numbers that are not whole; this is regression"),
        ({"y": np.arange(40)}, r"y: has 40 different values for 40 rows; this is no classification"),
        ({"y": np.zeros(40)}, r"y: has 1 class; it needs two"),
        (
            {"split": np.array(["train", "tset"] * 20)},
            r"split has the word 'tset'; it must say train or test",
        ),
        ({"split": np.array(["train"] * 39)}, r"split has shape \(39,\)"),
        (
            {"X": np.array([[{}]] * 40, object)},
            r"an array holds Python objects, which would have to be unpickled",
        ),
        ({"y": np.array([None, 1] * 20, object)}, r"an array holds Python objects"),
    ],
)
def test_each_fault_of_a_file_is_one_line(tmp_path, changed, message):
    with pytest.raises(UserError, match=rf"^data set npz: .*a\.npz: {message}"):
        load(npz.Npz, path=saved(tmp_path / "a.npz", **changed))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"label,1\n"])
def test_a_file_that_is_no_npz_is_one_line(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(
        UserError, match=r"^data set npz: .*a\.npz: (not a file of numpy's npz|an array holds)"
    ):
        load(npz.Npz, path=str(tmp_path / "a.npz"))


def test_no_path_is_said_when_the_data_are_needed():
    with pytest.raises(UserError, match=r"^data set npz: dataset\.path is not set; it names the data$"):
        load(npz.Npz)


# OpenML


def cached(root, columns, rows, number=77, target="kind", name="fruit"):
    """Write the cache that scikit-learn keeps of a table: ``columns`` are (name, ARFF type, OpenML type)."""
    lines = [f"@relation {name}", *(f"@attribute {c} {kind}" for c, kind, _ in columns), "@data", *rows]
    arff = ("\n".join(lines) + "\n").encode()
    url = f"https://www.openml.org/data/v1/download/{number}/{name}.arff"
    info = {"id": str(number), "name": name, "version": "1", "format": "ARFF", "url": url, "status": "active",
            "description": "made by hand", "md5_checksum": hashlib.md5(arff).hexdigest(),
            "default_target_attribute": target}  # fmt: skip
    features = [
        {"index": str(at), "name": c, "data_type": kind, "is_target": str(c == target).lower(),
         "is_ignore": "false", "is_row_identifier": "false",
         "number_of_missing_values": str(sum(row.split(",")[at] == "?" for row in rows))}
        for at, (c, _, kind) in enumerate(columns)
    ]  # fmt: skip
    listed = {"data": {"dataset": [{"did": number, "name": name, "version": 1, "status": "active"}]}}
    files = {
        f"api/v1/json/data/{number}": {"data_set_description": info},
        f"api/v1/json/data/features/{number}": {"data_features": {"feature": features}},
        f"api/v1/json/data/qualities/{number}": {"data_qualities": {"quality": [
            {"name": "NumberOfInstances", "value": str(len(rows))}]}},
        f"api/v1/json/data/list/data_name/{name}/limit/2/data_version/1": listed,
    }  # fmt: skip
    contents = {key: json.dumps(value).encode() for key, value in files.items()}
    contents[f"data/v1/download/{number}/{name}.arff"] = arff
    for key, content in contents.items():
        path = root / "openml" / "openml.org" / f"{key}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content))


NUMBER, KIND = ("weight", "REAL", "numeric"), ("kind", "{apple,pear}", "nominal")


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty data folder, and a network that answers nothing."""

    def unreachable(*_, **__):
        raise URLError("no network in tests")

    monkeypatch.setenv("BENCH_DATA_ROOT", str(tmp_path))
    monkeypatch.setattr("sklearn.datasets._openml.urlopen", unreachable)
    openml._rows.cache_clear()
    return tmp_path


def fruit(count=30):
    return [f"{number},{'apple' if number % 2 else 'pear'}" for number in range(count)]


@pytest.mark.parametrize("named", [{"id": 77}, {"table": "fruit"}])
def test_a_table_is_read_from_the_cache_by_id_or_name(offline, named):
    cached(offline, [NUMBER, KIND], fruit())
    dataset, splits = load(openml.OpenML, **named)
    rows = dataset.rows()
    assert rows.inputs.tolist() == [[number] for number in range(30)]
    assert rows.labels.tolist() == [1, 0] * 15 and splits.classes == 2
    assert len(splits.train) + len(splits.val) + len(splits.test) == 30


def test_categories_become_features_and_gaps_the_mean_of_the_training_rows(offline):
    colour = ("colour", "{red,green,blue}", "nominal")
    cells = [("?" if n % 7 == 0 else str(n), ("red", "green", "blue", "?")[n % 4], ("apple", "pear")[n % 2])
             for n in range(40)]  # fmt: skip
    cached(offline, [NUMBER, colour, KIND], [",".join(row) for row in cells])
    dataset, splits = load(openml.OpenML, id=77)
    inputs = dataset.rows().inputs
    assert inputs.shape == (40, 4) and bool(inputs[::7, 0].isnan().all())
    assert inputs[:, 1:].sum(1).tolist() == [1, 1, 1, 0] * 10
    known = splits.train.inputs[:, 0]
    assert bool(known.isfinite().all()) and bool(splits.test.inputs.isfinite().all())


def test_no_cache_and_no_network_are_one_line(offline):
    message = (
        r"^data set openml: 78: is not in .*/openml, and openml\.org cannot be reached "
        r"\(no network in tests\); fetch it once where there is a network$"
    )
    with pytest.raises(UserError, match=message):
        load(openml.OpenML, id=78)


def test_an_unknown_id_is_one_line(offline, monkeypatch):
    from urllib.error import HTTPError

    def answered(request, **__):
        raise HTTPError(request.full_url, 412, "Precondition Failed", None, None)

    monkeypatch.setattr("sklearn.datasets._openml.urlopen", answered)
    with pytest.raises(UserError, match=r"^data set openml: 99999999: openml\.org has no such data set$"):
        load(openml.OpenML, id=99999999)
    with pytest.raises(
        UserError, match=r"^data set openml: nuts \(version 3\): openml\.org has no such data set$"
    ):
        load(openml.OpenML, table="nuts", table_version=3)


@pytest.mark.parametrize(
    ("columns", "row", "options", "message"),
    [
        ([NUMBER, ("kind", "REAL", "numeric")], lambda n: f"{n},{n / 7}", {},
         r"column 'kind': holds numbers that are not whole; this is regression, not classes"),
        ([NUMBER, ("name", "STRING", "string"), KIND], lambda n: f"{n},'n{n}',apple", {},
         r"column 'name' holds text; features are numbers or categories"),
        ([NUMBER, KIND], lambda n: f"{n},{'?' if n == 3 else ('apple', 'pear')[n % 2]}", {},
         r"Target column 'kind' has 1 missing values"),
        ([NUMBER, KIND], lambda n: f"{n},apple", {"target": "taste"},
         r"has no column 'taste'; dataset\.target must name one"),
        ([NUMBER, KIND], lambda n: f"{n},apple", {}, r"column 'kind': has 1 class; it needs two"),
    ],
)  # fmt: skip
def test_each_table_that_is_no_classification_is_one_line(offline, columns, row, options, message):
    cached(offline, columns, [row(number) for number in range(30)])
    with pytest.raises(UserError, match=rf"^data set openml: 77: {message}"):
        load(openml.OpenML, id=77, **options)


def test_neither_or_both_names_are_refused(offline):
    with pytest.raises(UserError, match=r"^data set openml: set dataset\.id, or dataset\.table"):
        load(openml.OpenML)
    with pytest.raises(UserError, match=r"id 5 and table 'iris': give one of them"):
        load(openml.OpenML, id=5, table="iris")


# gene expression

SETS = {
    "golub": ([47, 25], 7129, 34),
    "alon": ([22, 40], 2000, None),
    "khan": ([29, 11, 18, 25], 2308, 20),
    "singh": ([50, 52], 6033, None),
}


@pytest.mark.parametrize("name", SETS)
def test_the_files_are_those_of_the_papers(name):
    counts, genes, tested = SETS[name]
    cls = DATASETS.get(name)
    with needed():
        rows = cls().rows()
    assert rows.labels.bincount().tolist() == counts
    assert rows.inputs.shape == (sum(counts), genes) and bool(rows.inputs.isfinite().all())
    assert (None if rows.tested is None else int(rows.tested.sum())) == tested
    # logarithms: no gene's largest value is more than a few tens above its smallest
    assert float((rows.inputs.amax(0) - rows.inputs.amin(0)).max()) < 25
    assert cls.known == (sum(counts), len(counts), (genes,)) and cls.known_tested == tested


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("resampling", ["folds", "leave_one_out"])
def test_folds_of_the_files_share_no_sample(name, resampling):
    cls = DATASETS.get(name)
    with needed():
        whole = cls().rows().labels
    tested = []
    for seed in range(5):
        dataset, splits = load(cls, seed, resampling=resampling)
        seen = [
            {row.numpy().tobytes() for row in part.inputs} for part in (splits.train, splits.val, splits.test)
        ]
        assert not (seen[0] & seen[2] or seen[1] & seen[2] or seen[0] & seen[1])
        assert dataset.task() is not None and dataset.task().examples == len(splits.train)
        tested += seen[2]
    assert len(set(tested)) == len(tested)
    assert resampling == "leave_one_out" or len(tested) == len(whole)


def test_a_gene_that_hardly_varies_in_the_training_rows_has_no_huge_values():
    """Clipped intensities are equal in all but a few samples, so that their deviation is nearly 0."""
    with needed():
        dataset, splits = load(gene_expression.Golub)
    unlimited = (splits.test.inputs - splits.mean) / splits.std
    prepared = dataset.prepare(splits.test.inputs, splits, None)
    assert unlimited.abs().max() > 100 and prepared.abs().max() == 10
    near = unlimited.abs() <= 10
    assert torch.equal(prepared[near], unlimited[near])


def test_the_official_split_of_golub_is_that_of_the_paper():
    with needed():
        _, splits = load(gene_expression.Golub, resampling="official", val=0.0)
    assert splits.train.labels.bincount().tolist() == [27, 11]
    assert splits.test.labels.bincount().tolist() == [20, 14]


def test_a_missing_file_says_where_it_was_looked_for(offline):
    with pytest.raises(
        UserError, match=r"^data set golub: no file gene-expression/golub_\S+ in .*; set BENCH_DATA_ROOT"
    ):
        load(gene_expression.Golub)


def test_every_table_has_unknown_and_shifted_inputs():
    tables = {name: DATASETS.get(name) for name in DATASETS.names() if _is_table(DATASETS.get(name))}
    assert {"planted", "npz", "openml", "golub", "indian_pines"} <= tables.keys()
    _, splits = load(planted.Planted, features=20, relevant=3, test=30)
    for name, cls in tables.items():
        dataset = cls()
        for unknown in dataset.unknown().values():
            assert unknown(splits).shape[1:] == (20,), name
        for shift in dataset.shifts().values():
            assert shift(splits.test.inputs, 3, splits).shape == (30, 20), name


def _is_table(cls):
    return cls.__module__.startswith("bench.data.tables.")
