"""Train one method on one small problem: the runs and the trained module that the checks examine."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from bench.checking.interruption import Interrupted, interrupt
from bench.checking.parts.inputs import candidates, takes
from bench.checking.verdicts import Failed, reason, tell
from bench.checking.watched import Step, Watched
from bench.data.base import DATASETS
from bench.experiment import preflight
from bench.experiment.budget import planned_stages
from bench.experiment.execution import Execution
from bench.experiment.problem import Problem, make_problem
from bench.experiment.settings import chosen_names, locate, open_sections, section_keys, valid_keys
from bench.experiment.spec import RunSpec
from bench.networks.base import NETWORKS
from bench.planning.expansion import Expansion, Scale
from bench.results.predictions import PREDICTIONS
from bench.results.run_folder import RunFolder
from bench.results.store import Store
from bench.runner.execute import execute
from bench.training import checkpoints, packed_model
from bench.training.trainer import Trainer
from methods.base import METHODS, Method, Predictor, Stage
from methods.core.errors import UserError, unknown
from methods.core.options import describe
from methods.core.options import names as option_names
from methods.core.streams import Streams

#: Sparsity of methods that have the option: one dense tensor is then more than all numbers they may keep.
SPARSITY = 0.95
SEED, OTHER_SEED = 0, 1
#: Settings by network. All checks of one method then take seconds.
TRIALS: dict[str, dict[str, Any]] = {
    "mlp": {"dataset": "digits", "network.hidden": [64], "epochs": 6, "samples": 4},
    "cnn": {"dataset": "digits", "network.channels": [16, 32], "epochs": 6, "samples": 4},
}
#: Methods that would train for more epochs than the first number, over all stages, get the second number; on
#: large networks, where a stage has two steps, they get the lower sparsity, and so fewer levels of pruning.
MOST_EPOCHS, EPOCHS_OF_MANY, SPARSITY_OF_MANY = 12, 2, 0.6
#: More epochs are refused, because the checks train a method several times.
EPOCHS_ALLOWED = 50
#: Settings on other networks: two steps, in which nothing is learnt.
TWO_STEPS: dict[str, Any] = {
    "dataset": "fashion_mnist_sample", "dataset.val": 10, "dataset.test": 10,
    "epochs": 1, "max_steps": 2, "batch_size": 8, "samples": 2,
}  # fmt: skip
#: Those that some data sets do not have.
_FEW = ("dataset.val", "dataset.test")


def specification(method: str, network: str, overrides: Mapping[str, Any]) -> RunSpec:
    """Return the run by which ``method`` is checked on ``network``.

    Parameters
    ----------
    method, network
        Their names.
    overrides
        Settings that win over those of the checks and of the recipe ``default``.

    Raises
    ------
    UserError
        If a name or setting is unknown, or method, network and data do not fit.
    """
    NETWORKS.get(network)
    cls = METHODS.get(method)
    if not is_dataclass(cls.Options):
        raise UserError(f"method {method}: Options: expected a dataclass, got {cls.Options!r}")
    settings = TRIALS[network] if network in TRIALS else _two_steps(method, network, overrides)
    # a sparsity of null is the outcome of a rule, and what the rule leaves is checked
    is_sparse = any(info.name == "sparsity" and info.default is not None for info in describe(cls.Options))
    if is_sparse:
        settings = settings | {"method.sparsity": SPARSITY}
    _require_known(method, network, settings, overrides)
    spec = _expanded(method, network, settings, overrides)
    if spec.training.epochs > EPOCHS_ALLOWED:
        raise UserError(
            f"--set: epochs: {spec.training.epochs} are too many: the checks train a method several times; "
            f"valid: 1 to {EPOCHS_ALLOWED}"
        )
    try:
        if sum(stage.epochs for stage in _stages(spec)) > MOST_EPOCHS:
            if network in TRIALS:
                settings = settings | {"epochs": EPOCHS_OF_MANY}
            elif is_sparse:
                settings = settings | {"method.sparsity": SPARSITY_OF_MANY}
            spec = _expanded(method, network, settings, overrides)
        if _can_be_trained(spec):
            preflight.check(spec)
    except UserError:
        raise
    except (Exception, SystemExit):
        pass  # an error of the method, which the check `contract` will meet too, and report
    return spec


def _two_steps(method: str, network: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of two steps, on the first data set here whose inputs the network takes."""
    without = {key: value for key, value in TWO_STEPS.items() if not key.startswith("dataset")}
    if "dataset" in overrides:
        return {**without, "dataset": overrides["dataset"]}
    _require_known(method, network, TWO_STEPS, overrides)
    for name in candidates():
        few = {key: TWO_STEPS[key] for key in _FEW if key[8:] in option_names(DATASETS.get(name).Options)}
        settings = {**without, "dataset": name, **few}
        spec = _expanded(method, network, settings, overrides)
        if takes(spec) and preflight.missing_data([spec]) is None:
            return settings
    return TWO_STEPS


def refused(key: str) -> bool:
    """Return whether ``overrides`` must not set ``key``: method and network are arguments, seeds fixed."""
    section, _, leaf = key.partition(".")
    return key == "seed" or (section in ("method", "network") and leaf in ("", "name"))


def _require_known(
    method: str, network: str, settings: Mapping[str, Any], overrides: Mapping[str, Any]
) -> None:
    """Raise ``UserError`` for a key that is no option here, with the keys that may be set."""
    opened = open_sections(overrides, "--set")
    names = {**chosen_names(open_sections(settings)), **chosen_names(opened)}
    try:
        keys = section_keys({**names, "method": method, "network": network}, "--set")
    except UserError:
        raise
    except Exception:
        return  # the method's Options are broken, which the next step reports
    for key in opened:
        if locate(key, keys, "--set") is None:
            valid = [each for each in valid_keys(keys) if not refused(each)]
            raise unknown("key", key, valid, f"--set, network {network}")


def _expanded(method: str, network: str, settings: dict[str, Any], overrides: Mapping[str, Any]) -> RunSpec:
    grid = {"recipe": "default", "method": method, "network": network, "set": settings}
    expansion = Expansion(Scale(seeds=SEED, grids=(grid,)), f"{method} on {network}", overrides, None)
    try:
        (draft,) = expansion.drafts()
    except UserError:
        raise
    except Exception as error:  # for example, a field of Options that was not made by `option`
        raise UserError(f"method {method}: {tell(error, METHODS.get(method))}") from error
    return draft.spec


def _stages(spec: RunSpec) -> list[Stage]:
    name, options = spec.method
    return METHODS.get(name)(options).stages(preflight.budget(spec))


def _can_be_trained(spec: RunSpec) -> bool:
    """Return whether the stages are valid; if not, the method is at fault, and `contract` reports it."""
    name, options = spec.method
    try:
        planned_stages(METHODS.get(name)(options), preflight.budget(spec))
    except UserError:
        return False
    return True


@dataclass(frozen=True)
class Trained:
    """What training left in memory.

    Parameters
    ----------
    module, optimiser
        The trained module and its optimiser.
    memory
        State of the method, ``Context.memory``.
    steps
        All steps, with what was counted in each.
    unflagged
        Places where the number of active weights changed, but ``context.pruned`` was not set.
    """

    module: nn.Module
    optimiser: torch.optim.Optimizer
    memory: dict[str, Any]
    steps: list[Step]
    unflagged: list[str]


class Trial:
    """One run, and what the checks need of it, computed in the folder ``root`` when first asked for."""

    def __init__(self, spec: RunSpec, root: Path) -> None:
        self.spec, self.root = spec, root

    @property
    def is_short(self) -> bool:
        """Whether training is cut short, so that there is nothing to learn or to interrupt."""
        return self.spec.training.max_steps is not None

    @cached_property
    def problem(self) -> Problem:
        """The data, and the method under dense execution."""
        return make_problem(self.spec, Execution(mode="dense"))

    @cached_property
    def plain(self) -> nn.Module:
        """The network of one member, as the method received it."""
        network = self.problem.network(Streams(self.spec.seed))
        return network[0] if isinstance(network, nn.ModuleList) else network

    # -- runs ----------------------------------------------------------------------------------

    @cached_property
    def first(self) -> RunFolder:
        """A run from beginning to end; raises ``Failed`` if it does not finish."""
        return self._run("first", self.spec)

    @cached_property
    def again(self) -> RunFolder:
        """The same run in another folder."""
        return self._run("again", self.spec)

    @cached_property
    def reseeded(self) -> RunFolder:
        """The same run with another seed."""
        return self._run("reseeded", self.spec.with_seed(OTHER_SEED))

    @cached_property
    def interrupted(self) -> Interrupted:
        """The run, stopped between its stages and in the middle of each."""
        return interrupt(self.problem, Store(self.root / "interrupted", create=True))

    def _run(self, name: str, spec: RunSpec) -> RunFolder:
        store = Store(self.root / name, create=True)
        folder = store.run(spec.run_id)
        if execute(spec, store, Execution()) != "done":
            raise Failed(reason(folder, METHODS.get(spec.method[0])))
        return folder

    def cost(self, key: str) -> Any:
        """Return a value of the first run's ``costs.json``."""
        return (self.first.read("costs") or {})[key]

    # -- the trained module --------------------------------------------------------------------

    @cached_property
    def trained(self) -> Trained:
        """The run once more, under torch's FLOP counter; its module is in evaluation mode."""
        watched = Watched(self.problem.method)
        trainer = self.trainer("trained", cast(Method, watched))
        with watched, torch.enable_grad():  # the caller may have disabled gradients
            module = trainer.run()
        return Trained(
            module.eval(),
            trainer.state.optimiser,
            trainer.state.memory,
            watched.steps,
            list(watched.unflagged),
        )

    def trainer(self, name: str, method: Method) -> Trainer:
        """Return a trainer of ``method`` in place of the run's own, in a folder ``name``, without scoring."""
        # without validation data, so that no scoring is counted among the steps
        problem = replace(self.problem, splits=replace(self.problem.splits, val=None), method=method)
        return Trainer(
            problem, RunFolder(self.root / name / self.spec.run_id), stage_done=lambda module, stage: {},
            stop=lambda: False, report=lambda at: None, checkpoint_seconds=math.inf,
            started=time.perf_counter(),
        )  # fmt: skip

    def inputs(self, n: int = 16) -> torch.Tensor:
        """Return the first ``n`` test examples as the network receives them."""
        inputs, _ = next(self.problem.batches(self.problem.splits.test, n))
        return inputs

    def draws(self, module: nn.Module) -> Iterator[Predictor]:
        """Yield the draws of the method; the generator has the same state every time."""
        generator = Streams(self.spec.seed).fresh("evaluation/check")
        return self.problem.method.draws(module, self.spec.evaluation.samples, generator)

    def predictors(self, module: nn.Module) -> dict[str, Predictor]:
        """Return the mean network, if there is one, and all draws, by name."""
        mean = self.problem.method.mean(module)
        draws = {f"draw {number}": draw for number, draw in enumerate(self.draws(module), start=1)}
        return draws if mean is None else {"the mean network": mean, **draws}

    def stored(self) -> nn.Module:
        """Return the module that the first run stored, loaded anew."""
        return packed_model.read(self.first.path, self.spec, Execution())[1].eval()


def results(folder: RunFolder) -> dict[str, Any]:
    """Return the results of a run by name, arrays and plain values, without measured times."""
    model = checkpoints.load(folder.path / packed_model.MODEL)
    found: dict[str, Any] = {f"{packed_model.MODEL} {name}": tensor.numpy() for name, tensor in model.items()}
    with np.load(folder.path / PREDICTIONS) as arrays:
        found |= {f"{PREDICTIONS} {name}": arrays[name] for name in arrays.files}
    costs = folder.read("costs") or {}
    found |= {f"costs.json {key}": costs[key] for key in ("train_flops", "steps_total", "events")}
    for name in ("layers", "criteria_pairs"):
        found[f"{name}.jsonl"] = folder.rows(name)
    found["history.jsonl"] = [row for row in folder.rows("history") if row["metric"] != "seconds"]
    return found | {"metrics.json": folder.read("metrics")}
