"""What is typed wrongly is told with what was meant, before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import typed
from bench.data.base import DATASETS
from bench.experiment.settings import SECTIONS, section_keys
from bench.networks.base import NETWORKS
from methods.base import METHODS
from methods.core.errors import UserError, meant, unknown
from methods.core.options import describe, option, parse
from methods.criteria.base import CRITERIA

SUITE = """
question: Which?
scales:
  demo:
    seeds: 0
    grids:
      - {{dataset: digits, network: mlp, {grid}}}
"""


def told(folder: Path, command: str) -> str:
    """The line that a command ends with, in a process of its own that must not have imported torch."""
    code = (
        "import importlib, sys\n"
        "from bench.cli.entry import entry\n"
        "module, *words = sys.argv[1:]\n"
        "try: entry(lambda: importlib.import_module(module).main(words))\n"
        "finally: print('torch' in sys.modules)"
    )
    words = [sys.executable, "-c", code, *command.split()]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "False\n"), done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "bench.run --set method=svi",
            "--set: unknown method 'svi' (did you mean 'ssvi'?); valid: ",
        ),
        ("bench.run --set sparsiti=0.9", "--set: unknown key 'sparsiti' (did you mean 'sparsity'?); valid: "),
        ("bench.run --set training.leanring=1", "unknown key 'training.leanring'"),
        ("bench.run --set network=mpl", "unknown network 'mpl' (did you mean 'mlp'?)"),
        ("bench.run --set dataset=digit", "unknown data set 'digit' (did you mean 'digits'?)"),
        ("bench.run --set criterion=srn", "unknown criterion 'srn' (did you mean 'snr'"),
        ("bench.check --dataset digit", "--dataset: unknown data set 'digit' (did you mean 'digits'?)"),
        ("bench.check --network mpl", "--network: unknown network 'mpl' (did you mean 'mlp'?)"),
        ("bench.check --criterion srn", "--criterion: unknown criterion 'srn' (did you mean 'snr'"),
        ("bench.run --sets a=1", "unrecognized arguments: --sets a=1 (did you mean '--set'?)"),
        ("bench.grid --suite baseline", "unknown suite 'baseline' (did you mean 'baselines'?)"),
        ("bench.grid --suite baselines --scale dem", "unknown scale 'dem' (did you mean 'demo'?)"),
        ("bench.grid --suite baselines --where spars>0", "--where: unknown column 'spars'"),
        ("bench.grid --suite baselines --set epoch=3", "unknown key 'epoch' (did you mean 'epochs'?)"),
        ("bench.grid --suite ./grid.yaml", "grid 1: unknown method 'rigle' (did you mean 'rigl'?)"),
        ("bench.grid --suite ./key.yaml", "grid 1: unknown key 'sparsty' (did you mean 'sparsity'?)"),
        ("bench.grid --suite baselines --executor slrum", "(did you mean 'slurm'?)"),
        ("bench.tune --suite baslines", "unknown suite 'baslines' (did you mean 'baselines'?)"),
        ("bench.check svi", "unknown method 'svi' (did you mean 'ssvi'?)"),
        (
            "bench.check ssvi --network resnet-18",
            "unknown network 'resnet-18' (did you mean 'resnet18'?)",
        ),
        ("bench.check --criterion srn", "--criterion: unknown criterion 'srn'"),
        ("bench.download cifar", "unknown data set 'cifar' (did you mean 'cifar10'"),
        ("bench.list metods", "unknown kind 'metods' (did you mean 'methods'?)"),
        ("bench.report --suite baselines --score nl", "--score: unknown score 'nl' (did you mean 'nll'?)"),
    ],
)
def test_a_typo_is_answered_before_torch_is_imported(tmp_path, command, message):
    (tmp_path / "grid.yaml").write_text(SUITE.format(grid="method: [ssvi, rigle]"))
    (tmp_path / "key.yaml").write_text(SUITE.format(grid="method: ssvi, sparsty: 0.5"))
    assert message in told(tmp_path, command)


def test_what_the_source_tells_is_what_the_classes_say():
    registries = {"method": METHODS, "dataset": DATASETS, "network": NETWORKS, "criterion": CRITERIA}
    for kind, registry in registries.items():
        found = typed._names(kind)
        own = [name for name in registry.names() if registry.is_own(registry.get(name))]
        assert found is not None and sorted(found) == sorted(own)
    keys = typed._keys()
    assert keys is not None
    for method in METHODS.names():
        if METHODS.is_own(METHODS.get(method)):
            known = section_keys({"dataset": "digits", "network": "mlp", "method": method})
            assert {f"{section}.{key}" for section, found in known.items() for key in found} <= keys.keys()
    assert {"seed", "protocol", "precision", *SECTIONS} <= keys.keys()


def test_what_is_meant_comes_first_and_keys_are_grouped():
    valid = ["seed", "training.lr", "training.epochs", "method.sparsity"]
    error = unknown("key", "epoch", valid, "--set")
    assert str(error) == (
        "--set: unknown key 'epoch' (did you mean 'epochs'?); "
        "valid: seed; method: sparsity; training: epochs, lr"
    )
    assert meant("training.epoch", valid) == " (did you mean 'training.epochs'?)"
    assert meant("lr", ["training.lr"]) == " (did you mean 'training.lr'?)"
    assert meant("SSVI", ["ssvi", "rigl"]) == " (did you mean 'ssvi'?)"
    assert meant("weather", valid) == "" == meant(None, ["mlp"]) == meant("x", [])


@pytest.mark.parametrize(
    ("within", "value", "hint"),
    [
        ("[0, 1)", 95, "95.0 lies outside [0, 1) (did you mean 0.95?)"),
        ("(0, 1]", 2.5, "2.5 lies outside (0, 1] (did you mean 0.025?)"),
        ("[0, 1)", 100, "100.0 lies outside [0, 1)"),  # 1 is not valid either
        ("[0, 1)", 1.5, "1.5 lies outside [0, 1)"),
        ("[0, 1)", 950, "950.0 lies outside [0, 1)"),
        ("[0, 0.5]", -3, "-3.0 lies outside [0, 0.5]"),
        ("[5, 10]", 50, "50.0 lies outside [5, 10]"),
    ],
)
def test_a_share_in_percent_is_recognised(within, value, hint):
    from dataclasses import make_dataclass

    options = make_dataclass("Options", [("share", float, option(doc="share", within=within))])
    with pytest.raises(UserError) as caught:
        parse(options, {"share": value})
    assert str(caught.value) == f"share: {hint}"


def test_choices_that_are_explained_are_valid_and_described():
    from dataclasses import make_dataclass

    words = {"fast": "without looking", "slow": "with care"}
    options = make_dataclass("Options", [("pace", str, option("fast", "pace", choices=words))])
    assert parse(options, {"pace": "slow"}).pace == "slow"
    with pytest.raises(
        UserError, match=r"^pace: 'fats' is not valid \(did you mean 'fast'\?\); valid: fast, slow$"
    ):
        parse(options, {"pace": "fats"})
    (info,) = describe(options)
    assert (info.valid, info.explained) == ("fast, slow", words)
