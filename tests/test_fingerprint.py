"""Names of test parts by their content, splits that all seeds share, and the columns that tell them."""

from __future__ import annotations

import pytest
import torch

from bench.data.base import DATASETS, Split
from bench.data.fingerprint import fingerprint
from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner.execute import execute
from methods.core.options import parse
from methods.core.streams import Streams


def part(inputs, labels):
    return Split(torch.tensor(inputs), torch.tensor(labels))


def test_order_does_not_count_but_every_value_and_label_does():
    whole = part([[1.0, 2.0], [3.0, 4.0], [3.0, 4.0]], [0, 1, 1])
    assert len(fingerprint(whole)) == 12
    assert fingerprint(whole) == fingerprint(part([[3.0, 4.0], [1.0, 2.0], [3.0, 4.0]], [1, 0, 1]))
    others = [
        part([[1.0, 2.0], [3.0, 4.0], [3.0, 4.5]], [0, 1, 1]),
        part([[1.0, 2.0], [3.0, 4.0], [3.0, 4.0]], [0, 1, 0]),
        part([[1.0, 2.0], [3.0, 4.0], [3.0, 4.0]], [1, 0, 1]),
        part([[1.0, 2.0], [3.0, 4.0]], [0, 1]),
    ]
    assert len({fingerprint(whole), *map(fingerprint, others)}) == 5


@pytest.mark.parametrize("name", ["digits", "fashion_mnist_sample"])
def test_seeds_draw_their_own_parts_or_share_one_draw(name):
    kind = DATASETS.get(name)

    def tests(**options):
        dataset = kind(parse(kind.Options, options))
        return {fingerprint(dataset.parts(Streams(seed)["split"]).test) for seed in range(3)}

    assert len(tests()) == len(tests(split="per_seed")) == 3
    assert len(tests(split="fixed")) == 1


def spec(seed, **settings):
    chosen = {"dataset": "digits", "network": "mlp", "method": "deterministic", "epochs": 1, **settings}
    return parse_spec(nest(chosen)).with_seed(seed)


def test_the_option_leaves_ids_of_earlier_runs_alone():
    assert spec(0).run_id == spec(0, **{"dataset.split": "per_seed"}).run_id
    assert spec(0).run_id != spec(0, **{"dataset.split": "fixed"}).run_id


def test_a_run_records_which_examples_it_was_scored_on(tmp_path):
    store, found = Store(tmp_path, create=True), {}
    for name, settings in (
        ("holdout", {}),
        ("fixed", {"dataset.split": "fixed"}),
        ("refit", {"protocol": "refit"}),
    ):
        for seed in (0, 1):
            run = spec(seed, **settings)
            assert execute(run, store, Execution()) == "done"
            costs = store.run(run.run_id).read("costs")
            found[name, seed] = costs["train_examples"], costs["test_examples"], costs["test_set"]
    assert [found[name, 0][:2] for name in ("holdout", "fixed", "refit")] == [
        (1097, 450),
        (1097, 450),
        (1347, 450),
    ]
    assert found["holdout", 0][2] == found["refit", 0][2] != found["holdout", 1][2]
    assert found["fixed", 0][2] == found["fixed", 1][2]
