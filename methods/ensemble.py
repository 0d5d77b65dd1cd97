"""Deep ensembles, of any method (Lakshminarayanan, Pritzel & Blundell, NeurIPS 2017, arXiv 1612.01474)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import torch
from torch import nn

from methods.base import (
    METHODS,
    Batch,
    Budget,
    Context,
    Equivalent,
    Method,
    NoOptions,
    Predictor,
    Progress,
    Stage,
    Task,
)
from methods.core.errors import UserError
from methods.core.options import names, option, parse, to_dict, without
from methods.core.streams import Streams
from methods.core.style import Style
from methods.layers import costs


@dataclass(frozen=True)
class EnsembleOptions:
    """Options of an ensemble; those of its members are resolved to the last default."""

    members: int = option(5, "number of networks, each trained for the whole budget", within="[1, inf)")
    member: str = option(
        "deterministic", "method that trains each member", choices=METHODS, neutral="deterministic"
    )
    member_options: Any = option(
        {},
        "options of this method by name, all but its sparsity; others have its defaults",
        neutral=NoOptions(),
    )
    sparsity: float | None = option(
        None,
        "sparsity of each member, if its method has this option; null: the default of the method",
        within="[0, 1)",
        neutral=None,
    )

    def __post_init__(self) -> None:
        """Resolve the options of the members.

        Raises
        ------
        UserError
            If an option of the members is not valid, or they are ensembles themselves.
        """
        cls = METHODS.get(self.member)
        given = self.member_options
        if is_dataclass(given):  # resolved before
            given = to_dict(given)
        shared: Any = parse(without(cls.Options, "sparsity"), given, "member_options")
        object.__setattr__(self, "member_options", shared)
        sparsity = None
        if "sparsity" in names(cls.Options):
            sparsity = cls.Options().sparsity if self.sparsity is None else self.sparsity
        object.__setattr__(self, "sparsity", sparsity)
        if self.alone.members() > 1:
            raise UserError(f"member: {self.member!r} is itself an ensemble")

    @property
    def alone(self) -> Method:
        """The method of one member, with its options."""
        cls = METHODS.get(self.member)
        sparsity = {} if self.sparsity is None else {"sparsity": self.sparsity}
        return cls(parse(cls.Options, to_dict(self.member_options) | sparsity, "member_options"))

    @property
    def keep_dense(self) -> tuple[str, ...]:
        """Patterns of the names of layers that members keep dense."""
        keep: tuple[str, ...] = getattr(self.member_options, "keep_dense", ())
        return keep


class Members(nn.ModuleList):
    """Networks of an ensemble, in the order of their training.

    Attributes
    ----------
    in_use
        Number of members that predict: all until training begins, then those that have been trained,
        with the one in training. It is a buffer, so that checkpoints and stored models have it.
    used
        The same as a plain number, which is read in each step.
    """

    in_use: torch.Tensor

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__(networks)
        self.used = len(self)
        self.register_buffer("in_use", torch.tensor(self.used))

    def use(self, number: int) -> None:
        """Let the first ``number`` members predict."""
        self.used = number
        self.in_use.fill_(number)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.used = int(self.in_use)


class Ensemble(Method):
    """Networks with different initial weights and data orders, trained separately; averages probabilities.

    Each member is trained by the method ``member`` in stages of its own, which have the whole budget, on the
    loss of all examples. The adversarial examples of the paper are left out; it finds that they matter less.
    A stage is scored as the ensemble of the members so far; training curves are those of the member in
    training. FLOPs of a step and of inference are those of one member; weights and bytes are those of all
    members. Sparse members, as of ``rigl``, are the ensembles of FreeTickets.

    References
    ----------
    Lakshminarayanan, Pritzel & Blundell, NeurIPS 2017, arXiv 1612.01474.
    Liu et al., ICLR 2022, arXiv 2106.14568 (FreeTickets).
    """

    name = "ensemble"
    style = Style("Ensemble", hue="#147144", hue_dark="#22FF0A", marker="star", dash="longdashdot", order=80)
    Options = EnsembleOptions
    variants = ("member",)

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._alone = self.options.alone

    @classmethod
    def equivalent(cls, options: Any) -> Equivalent | None:
        alone = options.alone
        if options.members == 1:
            return Equivalent(options.member, to_dict(alone.options), "an ensemble of one is one network")
        same = alone.equivalent(alone.options)
        if same is None:
            return None
        others = {key: value for key, value in same.options.items() if key != "sparsity"}
        sparsity = {"sparsity": same.options["sparsity"]} if "sparsity" in same.options else {}
        found = {"members": options.members, "member": same.method, "member_options": others} | sparsity
        return Equivalent(cls.name, found, f"of members, {same.reason}")

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Check that a member can be trained on ``network``.

        Raises
        ------
        UserError
            If it cannot.
        """
        alone = options.alone
        alone.validate(alone.options, network)

    def members(self) -> int:
        return int(self.options.members)

    def build(self, network: nn.Module, streams: Streams, task: Task) -> Members:
        alone = not isinstance(network, nn.ModuleList) or self.members() == 1
        networks = [network] if alone else list(network.children())
        return Members([self._alone.build(each, streams, task) for each in networks])

    def stages(self, budget: Budget) -> list[Stage]:
        """Return the stages of one member after another.

        Raises
        ------
        UserError
            If a stage of a member starts from weights that a run keeps for its first training only.
        """
        found = []
        for member in range(self.members()):
            for number, stage in enumerate(self._alone.stages(budget)):
                if number and (stage.start == "fresh" or (stage.start == "rewind" and stage.rewind_to > 0)):
                    raise UserError(
                        f"member: stage {stage.name!r} of {self.options.member} starts {stage.start}, which "
                        "members can do from their initial weights only: go on, or rewind to epoch 0"
                    )
                start = stage.start if number else "keep"
                found.append(replace(stage, name=_name(member, stage.name), start=start))
        return found

    def loss(self, module: nn.Module, batch: Batch, progress: Progress) -> torch.Tensor:
        # the other members are not called and get no gradient, so that nothing changes them: neither weight
        # decay nor momentum nor running statistics
        member, progress = self._in_training(module, progress)
        return self._alone.loss(member, batch, progress)

    def scale_parameters(self, module: nn.Module) -> list[nn.Parameter]:
        return [scale for member in _members(module) for scale in self._alone.scale_parameters(member)]

    # -- hooks of the member in training --------------------------------------------------

    def enter_stage(self, context: Context, stage: Stage) -> None:
        module = context.module
        assert isinstance(module, Members)
        number, name = _place(stage.name)
        if module.used != number + 1:
            context.memory.clear()  # of the member before
        module.use(number + 1)
        self._call(context, lambda inner: self._alone.enter_stage(inner, replace(stage, name=name)))

    def leave_stage(self, context: Context, stage: Stage) -> None:
        _, name = _place(stage.name)
        self._call(context, lambda inner: self._alone.leave_stage(inner, replace(stage, name=name)))

    def before_step(self, context: Context) -> None:
        self._call(context, self._alone.before_step)

    def after_step(self, context: Context) -> None:
        self._call(context, self._alone.after_step)

    def rewind(self, module: nn.Module, snapshot: dict[str, torch.Tensor], stage: Stage) -> None:
        """Restore the member in training, and no other, to its initial weights."""
        number, name = _place(stage.name)
        own = _part(snapshot, number)
        self._alone.rewind(_members(module)[number], own, replace(stage, name=name))

    def monitor(self, module: nn.Module, progress: Progress) -> dict[str, float]:
        return self._alone.monitor(*self._in_training(module, progress))

    def _in_training(self, module: nn.Module, progress: Progress) -> tuple[nn.Module, Progress]:
        """Return the member in training, and the progress as it would be alone."""
        number, name = _place(progress.stage)
        return _members(module)[number], replace(progress, stage=name)

    def _call(self, context: Context, hook: Callable[[Context], None]) -> None:
        """Call a hook of the member in training, with a context as it would have alone."""
        member, progress = self._in_training(context.module, context.progress)
        stage = {"stage": context.progress.stage}
        inner = replace(
            context,
            module=member,
            progress=progress,
            network=lambda: self._network_in_training(context),
            record=lambda table, row: context.record(table, {**row, **stage}),
        )
        hook(inner)
        context.skip_step, context.pruned = inner.skip_step, inner.pruned
        context.gradient_consumer = inner.gradient_consumer

    def _network_in_training(self, context: Context) -> nn.Module:
        """Build the plain network of the member in training."""
        networks, (number, _) = context.network(), _place(context.progress.stage)
        return networks[number] if isinstance(networks, nn.ModuleList) else networks

    # -- prediction and costs ----------------------------------------------------------------

    def mean(self, module: nn.Module) -> Predictor | None:
        return self._alone.mean(_members(module)[0]) if self.members() == 1 else None

    def draws(self, module: nn.Module, samples: int, generator: torch.Generator) -> Iterator[Predictor]:
        """Yield the draws of each member trained so far, the newest first.

        Each has its share of ``samples``, rounded up. A member without variance has one.
        """
        trained = _trained(module)
        for member in reversed(trained):
            yield from self._alone.draws(member, math.ceil(samples / len(trained)), generator)

    def counts(self, module: nn.Module) -> costs.Counts:
        found = [self._alone.counts(member) for member in _members(module)]
        kernel, active = sum(each.kernel for each in found), sum(each.active for each in found)
        return costs.Counts(kernel, active, sum(each.other for each in found))

    def flops(self, module: nn.Module, event: str) -> float:
        """Return the FLOPs of the member in training; for inference, the mean over the members so far."""
        trained = _trained(module)
        chosen = trained if event == "inference" else trained[-1:]
        return sum(self._alone.flops(member, event) for member in chosen) / len(chosen)

    def training_flops(self, module: nn.Module, budget: Budget) -> float:
        return self.members() * self._alone.training_flops(_members(module)[0], budget)

    def update_period(self) -> int | None:
        return self._alone.update_period()

    def held_per_weight(self) -> int:
        return self._alone.held_per_weight()

    def pack(self, module: nn.Module) -> dict[str, torch.Tensor]:
        members = _members(module)
        packed = {"in_use": members.in_use}
        for number, member in enumerate(members):
            packed |= {f"{number}.{name}": value for name, value in self._alone.pack(member).items()}
        return packed

    def unpack(self, module: nn.Module, packed: dict[str, torch.Tensor]) -> None:
        members = _members(module)
        for number, member in enumerate(members):
            self._alone.unpack(member, _part(packed, number))
        members.use(int(packed["in_use"]))


def _members(module: nn.Module) -> Members:
    assert isinstance(module, Members)
    return module


def _trained(module: nn.Module) -> list[nn.Module]:
    """Return the members that predict."""
    members = _members(module)
    return list(members)[: members.used]


def _part(state: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    """Return the state of one member, by the names that it has alone."""
    prefix = f"{number}."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


#: Name of a member's first stage, which is left out of the names of later members.
_FIRST = "train"


def _name(member: int, stage: str) -> str:
    """Return the name of a member's stage. Those of the first member are as if it were alone."""
    if member == 0:
        return stage
    return f"member {member + 1}" if stage == _FIRST else f"member {member + 1} {stage}"


def _place(name: str) -> tuple[int, str]:
    """Return the number of the member, from 0 on, and its stage as it has it alone; inverts ``_name``."""
    found = re.fullmatch(r"member (\d+)(?: (.+))?", name)
    return (int(found[1]) - 1, found[2] or _FIRST) if found else (0, name)
