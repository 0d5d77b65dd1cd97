"""Data and networks are not believed: a fault is one line that says where it is and what mends it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bench import run
from bench.data import validation
from bench.data.base import DATASETS, Dataset, Split, Splits
from bench.experiment import preflight
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.networks.base import NETWORKS, Network
from methods.core.errors import UserError


def part(n, seed, classes=3):
    stream = torch.Generator().manual_seed(seed)
    return Split(torch.randn(n, 5, generator=stream), torch.arange(n) % classes)


def sound():
    return Splits(part(30, 1), part(12, 2), part(15, 3), classes=3)


class Table(Dataset):
    """A table of numbers, changed by a test."""

    name = "suspect"
    change = staticmethod(lambda splits: splits)
    own_statistics = True

    def load(self, split):
        return type(self).change(sound())

    def statistics(self, train):
        return (train.inputs.mean(0), train.inputs.std(0)) if self.own_statistics else None


def parts(change, statistics=True):
    class Changed(Table):
        own_statistics = statistics

    Changed.change = staticmethod(change)
    return Changed().parts(torch.Generator().manual_seed(0))


def changed(name, **values):
    """Replace tensors of one part: functions of the old ones."""

    def change(splits):
        old = getattr(splits, name)
        new = {key: function(getattr(old, key).clone()) for key, function in values.items()}
        return replace(splits, **{name: replace(old, **new)})

    return change


def put(at, value):
    def changed(tensor):
        tensor[at] = value
        return tensor

    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            changed("train", labels=lambda y: y + 1),
            r"train: labels\[2\] is 3; valid: 0 to 2 .*: use labels - 1",
        ),
        (changed("test", labels=put(4, 7)), r"test: labels\[4\] is 7; valid: 0 to 2 .*; set classes to 8"),
        (
            changed("val", labels=put(5, -1)),
            r"val: labels\[5\] is -1; valid: 0 to 2 .*; drop examples without",
        ),
        (
            changed("train", labels=lambda y: y[:-1]),
            r"train: 30 inputs and 29 labels; example 29 has no label",
        ),
        (changed("test", inputs=lambda x: x[:-3]), r"test: 12 inputs and 15 labels; example 12 has no input"),
        (changed("train", labels=lambda y: y.float()), r"train: labels are torch.float32, .*labels.long\(\)"),
        (changed("train", labels=lambda y: y == 1), r"train: labels are torch.bool, .*labels.long\(\)"),
        (
            changed("val", labels=lambda y: y[:, None]),
            r"val: labels have shape \(12, 1\), .*labels.flatten\(\)",
        ),
        (changed("test", labels=lambda y: nn.functional.one_hot(y, 3)), r"\(15, 3\), .*labels.argmax\(1\)"),
        (changed("train", labels=lambda y: y[0]), r"train: labels have shape \(\), not \(N,\)"),
        (changed("train", inputs=put((7, 2), float("nan"))), r"train: inputs\[7, 2\] is nan; drop"),
        (
            changed("test", inputs=put((slice(3, 5), 1), float("-inf"))),
            r"test: inputs\[3, 1\] is -inf, and 1 more numbers are not finite; drop",
        ),
        (
            changed("val", inputs=lambda x: x[:0], labels=lambda y: y[:0]),
            r"val: has no examples; set val to None",
        ),
        (changed("train", inputs=lambda x: x[:0], labels=lambda y: y[:0]), r"train: has no examples"),
        (
            changed("test", inputs=lambda x: x[:, :4]),
            r"test: inputs of one example have shape \(4,\), .*\(5,\)",
        ),
        (changed("train", inputs=lambda x: x[:, :0]), r"train: inputs have shape \(30, 0\)"),
        (changed("train", inputs=lambda x: x.numpy()), r"train: inputs are of type ndarray; give Split"),
        (changed("train", labels=lambda y: y.tolist()), r"train: labels are of type list; give Split"),
        (lambda splits: replace(splits, test=None), r"test: inputs are of type NoneType; give Split"),
        (
            lambda splits: replace(splits, classes=np.int64(3)),
            r"classes is np.int64\(3\); valid: a whole number",
        ),
        (lambda splits: (splits.train, splits.test), r"load returns tuple; return bench.data.Splits"),
    ],
)
def test_a_fault_of_the_data_is_one_line(change, words):
    with pytest.raises(UserError, match=rf"^data set suspect: .*{words}") as caught:
        parts(change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"std": torch.tensor([1.0, 0, 1, 1, 1])}, r"std\[1\] is 0, but inputs vary there"),
        ({"std": torch.tensor(-1.0)}, r"std is -1; it can't be negative"),
        ({"mean": torch.tensor([0, 0, float("nan"), 0, 0])}, r"mean\[2\] is nan; statistics\(train\)"),
        ({"std": torch.ones(4)}, r"train: prepare fails on inputs \(16, 5\), mean \(\), std \(4,\): "),
        ({"std": torch.ones(16, 1, 1)}, r"train: prepare turns inputs of shape \(16, 5\) into \(16, 16, 5\)"),
        ({"std": 2.0}, r"std is of type float; it must be a tensor"),
        ({"mean": torch.tensor(0j)}, r"train: prepare returns torch.complex64; .*floating-point"),
    ],
)
def test_a_fault_of_the_statistics_is_one_line(values, words):
    with pytest.raises(UserError, match=rf"^data set suspect: {words}"):
        parts(lambda splits: replace(splits, **values), statistics=False)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8, torch.int64])
def test_labels_of_any_integer_type_are_classes(dtype):
    found = parts(changed("train", labels=lambda y: y.to(dtype)))
    assert found.train.labels.dtype == torch.int64
    assert torch.equal(found.train.labels, sound().train.labels)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 3e-9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_feature_becomes_0_and_the_others_keep_their_bits(value, dtype):
    def fixed(splits):
        return changed("train", inputs=lambda x: put((slice(None), 2), value)(x.to(dtype)))(splits)

    found = parts(fixed)
    inputs = found.train.inputs
    prepared = Table().prepare(inputs, found, None)
    assert torch.equal(prepared[:, 2], torch.zeros(30, dtype=dtype))
    others = [0, 1, 3, 4]
    assert torch.equal(prepared[:, others], ((inputs - inputs.mean(0)) / inputs.std(0))[:, others])
    # as scikit-learn: what differs in another part differs by as much after it
    test = Table().prepare(found.test.inputs, found, None)
    assert torch.allclose(test[:, 2].double(), found.test.inputs[:, 2].double() - value, atol=1e-6)


def test_a_feature_that_nearly_stands_still_keeps_its_statistics():
    def change(splits):
        return changed("train", inputs=lambda x: torch.cat([1e4 + 1e-2 * x[:, :1], x[:, 1:]], 1))(splits)

    found = parts(change)
    assert torch.equal(found.std, found.train.inputs.std(0))


def test_a_black_channel_becomes_0():
    images = torch.randint(0, 256, (20, 3, 4, 4), dtype=torch.uint8)
    images[:, 1] = 7

    class Black(Table):
        def load(self, split):
            return replace(sound(), **{
                key: Split(images[at], torch.arange(len(images[at])) % 3)
                for key, at in {"train": slice(10), "val": slice(10, 15), "test": slice(15, 20)}.items()
            })  # fmt: skip

        def statistics(self, train):
            inputs = train.inputs.float()
            return inputs.mean((0, 2, 3), keepdim=True), inputs.std((0, 2, 3), keepdim=True)

    found = Black().parts(torch.Generator())
    assert torch.equal(Black().prepare(found.test.inputs, found, None)[:, 1], torch.zeros(5, 4, 4))


def test_a_set_that_says_other_sizes_than_it_loads_is_named():
    class Boasting(Table):
        def task(self, refit=False):
            return replace(preflight.task_of(sound()), classes=4)

    with pytest.raises(UserError, match=r"^data set suspect: task says inputs of \(5,\) and 4 classes, load"):
        Boasting().parts(torch.Generator())


def test_parts_that_share_rows_are_warned_of():
    splits = sound()
    mixed = replace(
        splits,
        test=Split(
            splits.test.inputs.index_copy(0, torch.tensor([4, 9]), splits.train.inputs[[7, 1]]),
            splits.test.labels,
        ),
    )
    assert validation.warnings("suspect", splits) == []
    (line,) = validation.warnings("suspect", mixed)
    assert line.startswith("data set suspect: test: 2 of 15 rows are also in train (test[4] is train[7]): ")
    same = replace(splits, val=splits.train, test=splits.train)
    assert [line.partition(" (")[0] for line in validation.warnings("suspect", same)] == [
        "data set suspect: val: all 30 rows are also in train",
        "data set suspect: test: all 30 rows are also in train",
        "data set suspect: test: all 30 rows are also in val",
    ]


def test_classes_that_nothing_is_trained_on_are_warned_of():
    (line,) = validation.warnings("suspect", replace(sound(), classes=5))
    assert line.startswith("data set suspect: train: no example of 2 of the 5 classes (3, 4)")


@pytest.mark.parametrize("name", ["digits", "fashion_mnist_sample"])
def test_data_sets_of_this_package_are_sound(name):
    assert validation.warnings(name, DATASETS.get(name)().parts(torch.Generator().manual_seed(0))) == []


# -- networks --------------------------------------------------------------------------------


class Wrapped(nn.Module):
    """A linear network whose output is changed by a test."""

    def __init__(self, task, change):
        super().__init__()
        self.flat, self.linear, self.change = nn.Flatten(), nn.Linear(64, task.classes), change

    def forward(self, x):
        return self.change(self, self.linear(self.flat(x)))


@pytest.fixture
def spec(monkeypatch):
    """The run of a network whose outputs are changed by a function."""
    for cached in (preflight.network, preflight._require_logits):
        cached.cache_clear()

    def made(change):
        class Odd(Network):
            name = "odd"

            def build(self, task):
                return Wrapped(task, change)

        monkeypatch.setitem(NETWORKS._registered, "odd", Odd)
        return parse_spec(nest({"dataset": "digits", "network": "odd", "method": "deterministic"}))

    yield made
    for cached in (preflight.network, preflight._require_logits):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda self, y: (y, y), "returns a tuple; return the tensor of logits alone"),
        (lambda self, y: {"logits": y}, "returns a dict; return the tensor of logits alone"),
        (lambda self, y: (y, y) if self.training else y, "returns a tuple in training; return the tensor"),
        (lambda self, y: y[:, None], r"returns outputs of shape \(1, 1, 10\) .*flatten the axes"),
        (lambda self, y: y[:, :9], r"returns outputs of shape \(1, 9\) .*\(1, 10\): end the network in task"),
        (lambda self, y: torch.cat([y, y], 1), r"returns outputs of shape \(1, 20\) .*\(1, 10\): end the"),
        (lambda self, y: y.squeeze(), r"returns outputs of shape \(10,\) .*flatten\(1\), since squeeze"),
        (lambda self, y: y.argmax(1), r"returns outputs of shape \(1,\) .*\(1, 10\)"),
        (lambda self, y: y.long(), r"returns torch.int64; logits are floating-point"),
        (lambda self, y: y.mean(0, keepdim=True), r"returns outputs of shape \(1, 10\) in training"),
    ],
)  # fmt: skip
def test_outputs_that_are_no_logits_are_one_line_before_training(change, words, spec):
    with pytest.raises(UserError, match=rf"^network odd: {words}"):
        preflight.check(spec(change))


def test_a_pass_in_training_leaves_the_network_as_it_is(spec):
    network = NETWORKS.get("resnet18")()
    task = preflight.task(spec(lambda self, y: y))
    built = network.initialised(task, preflight.Streams(0))
    before = {key: value.clone() for key, value in built.state_dict().items()}
    state = torch.get_rng_state()
    network.require_logits(built, task)
    assert all(torch.equal(value, before[key]) for key, value in built.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


# -- a whole run -----------------------------------------------------------------------------


def test_a_run_says_it_in_one_line_before_it_begins(tmp_path, monkeypatch, capsys):
    class Unfit(Table):
        """Labels from 1."""

        name = "unfit"
        change = staticmethod(changed("train", labels=lambda y: y + 1))

    monkeypatch.setitem(DATASETS._registered, "unfit", Unfit)
    results = tmp_path / "results"
    with pytest.raises(UserError, match=r"^data set unfit: train: labels\[2\] is 3"):
        run.main(["--set", "dataset=unfit,method=deterministic,epochs=1", "--results", str(results)])
    assert not results.exists()


def test_a_run_on_parts_that_share_rows_is_warned_of_once(tmp_path, monkeypatch, capsys):
    class Shared(Table):
        """The test part is the training part."""

        name = "shared"
        change = staticmethod(lambda splits: replace(splits, test=splits.train))

    monkeypatch.setitem(DATASETS._registered, "shared", Shared)
    arguments = ["dataset=shared,method=deterministic,epochs=1", "--results", str(tmp_path / "results")]
    assert run.main(["--set", *arguments]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning:")]
    assert len(lines) == 1 and "test: all 30 rows are also in train" in lines[0]


class Beside(Table):
    """A table that has an unknown set and a shift."""

    name = "suspect_beside"

    def unknown(self):
        return {"far": lambda splits: splits.test.inputs + 100}

    def shifts(self):
        return {"added": lambda batch, severity, splits: batch + severity * splits.std}


def test_a_data_set_has_no_unknown_sets_and_no_shifts_unless_it_says_so():
    assert Table().unknown() == {} == Table().shifts()
    table, splits = Beside(), parts(lambda splits: splits)
    found = table.unknown()["far"](splits)
    validation.require_unknown("suspect_beside", "far", found, splits)
    assert torch.equal(found, splits.test.inputs + 100)
    batch = splits.test.inputs[:4]
    shifted = table.shifts()["added"](batch, 3, splits)
    validation.require_shifted("suspect_beside", "added", shifted, batch)
    assert torch.equal(shifted, batch + 3 * splits.std)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda x: x.numpy(), "inputs are of type ndarray; they must be a tensor"),
        (
            lambda x: x.double(),
            "inputs are torch.float64 of shape (15, 5), not torch.float32 of shape ({}, 5)",
        ),
        (lambda x: x[:, :4], "inputs are torch.float32 of shape (15, 4), not torch.float32 of shape ({}, 5)"),
        (lambda x: x.sum(), "inputs are torch.float32 of shape (), not torch.float32 of shape ({}, 5)"),
        (lambda x: x / 0, "inputs[0, 0] is "),
    ],
)
def test_inputs_beside_the_test_part_must_be_like_it(change, line):
    splits = parts(lambda splits: splits)
    found = change(splits.test.inputs)
    with pytest.raises(UserError) as unknown:
        validation.require_unknown("suspect", "far", found, splits)
    assert str(unknown.value).startswith(f"data set suspect: unknown set far: {line.format('M')}")
    with pytest.raises(UserError) as shifted:
        validation.require_shifted("suspect", "added", found, splits.test.inputs)
    assert str(shifted.value).startswith(f"data set suspect: shift added: {line.format(15)}")


def test_an_unknown_set_has_inputs_and_a_shifted_batch_its_own_number():
    splits = parts(lambda splits: splits)
    validation.require_unknown("suspect", "far", splits.test.inputs[:7], splits)
    with pytest.raises(UserError, match="unknown set far: has no inputs"):
        validation.require_unknown("suspect", "far", splits.test.inputs[:0], splits)
    with pytest.raises(UserError, match=r"of shape \(7, 5\), not torch.float32 of shape \(15, 5\)"):
        validation.require_shifted("suspect", "added", splits.test.inputs[:7], splits.test.inputs)
