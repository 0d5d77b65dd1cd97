"""Where a suite departs from a recipe, and from what the recipe's source did."""

from __future__ import annotations

import pytest

from bench import list as command
from bench.cli.entry import entry
from bench.planning import suite
from bench.planning.departures import departures

SUITE = """
question: Does it depart?
scales:
  demo:
    seeds: 0-1
    grids:
      - recipe: released
        method: [ssvi, static_vi]
        dataset: digits
        network: [mlp, cnn]
        set: {epochs: 2, lr: 0.3}
      - {recipe: default, method: ssvi, dataset: digits, network: mlp, epochs: 2}
  small:
    seeds: 0
    grids:
      - {recipe: released, method: ssvi, dataset: cifar10, network: cnn, protocol: refit}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "departs.yaml"
    path.write_text(SUITE)
    return path


def test_settings_that_differ_are_listed_once_for_each_data_set_and_network(file):
    mlp, cnn = departures(suite.load(str(file)).expand("demo"), "released")
    assert (mlp.place, mlp.cells, cnn.place, cnn.cells) == ("digits · mlp", 2, "digits · cnn", 2)
    assert mlp.settings == {"training.epochs": ("200", "2"), "training.lr": ("0.01", "0.3")}
    assert cnn.settings == mlp.settings
    assert mlp.beyond[0] == "data set: digits; there cifar10 and cifar100"
    assert mlp.beyond[1] == "N in the KL term: 1,097 (protocol holdout); there 50,000"
    assert mlp.beyond[2].startswith("first layer: sparse") and not any("first" in s for s in cnn.beyond)
    assert len(departures(suite.load(str(file)).expand("demo"), "default")) == 1


def test_what_is_as_published_is_not_listed(file):
    (found,) = departures(suite.load(str(file)).expand("small"), "released")
    assert list(found.settings) == ["protocol"]
    assert [sentence.partition(":")[0] for sentence in found.beyond] == ["standardisation"]


def called(*arguments):
    with pytest.raises(SystemExit) as caught:
        entry(lambda: command.main(list(arguments)))
    return caught.value.code


def test_the_command_lists_them_or_says_what_is_wrong(file, capsys):
    assert called("recipes", "--against", "released", "--suite", str(file)) == 0
    out = capsys.readouterr().out
    assert "digits · mlp: 2 configurations with recipe released" in out
    assert "training.lr      0.01 in the recipe, 0.3 in the suite" in out
    for arguments, words in (
        (["--against", "relesed", "--suite", str(file)], "did you mean 'released'?"),
        (["--against", "default", "--suite", str(file), "--scale", "small"], "no cell has recipe default"),
        (["--against", "released"], "go together"),
        (["methods", "--against", "released", "--suite", str(file)], "go together"),
    ):
        assert called(*arguments) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1
