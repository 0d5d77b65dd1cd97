"""What is promised of every removal criterion: its checks by ``bench.check --criterion``, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.checking.verdicts import Check, Failed
from methods.criteria.base import CRITERIA, Criterion
from methods.criteria.moments import Moments

#: Weights of a layer that are scored, and how many times as many numbers a tensor may have on the way.
WEIGHTS, MOST_TIMES = 4096, 8
#: Round-off that is allowed where order of summation may differ.
_RELATIVE = 1e-9
_SHARED = (
    *("mean", "a", "std", "z", "s", "normal_loss", "unit_variance_abs"),
    *("expected_abs", "log_expected_exp", "log_moment_ratio"),
)


@dataclass(frozen=True)
class Subject:
    """A criterion, and weights as a sparse layer has them: means N(0, 0.03^2), scales about 1e-3."""

    cls: type[Criterion]

    @property
    def criterion(self) -> Criterion:
        """A new object, so that none can remember."""
        return self.cls()

    def weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and standard deviations, float32; the same each time."""
        stream = torch.Generator().manual_seed(0)
        mean = 0.03 * torch.randn(WEIGHTS, generator=stream)
        return mean, 1e-3 * torch.randn(WEIGHTS, generator=stream).exp()

    def score(self, lam: float = 1.0) -> torch.Tensor:
        """The scores of ``weights``."""
        return self.criterion.score(Moments(*self.weights(), lam))


def declared(subject: Subject) -> str:
    """Name, version, docstring, and whom it ranks as."""
    cls = subject.cls
    if not re.fullmatch(r"[a-z0-9_]+", str(cls.name)):
        raise Failed(f"name is {cls.name!r}; it is made of a to z, 0 to 9 and _, as keys are")
    if type(cls.version) is not int or cls.version < 1:
        raise Failed(f"version is {cls.version!r}; it is a whole number, 1 at first")
    if not (vars(cls).get("__doc__") or "").strip():
        raise Failed(f"{cls.__name__} has no docstring; its first line is what lists and views say of it")
    if cls.ranks_as is not None and (cls.ranks_as == cls.name or cls.ranks_as not in CRITERIA.names()):
        raise Failed(f"ranks_as is {cls.ranks_as!r}; it is the name of another criterion, or None")
    return f"{cls.formula} ({cls.source})"


def scores(subject: Subject) -> str:
    """Type and shape, whatever those of the weights."""
    flat = subject.weights()
    shapes: tuple[tuple[int, ...], ...] = ((WEIGHTS,), (64, WEIGHTS // 64), (1,))
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for shape in shapes:
            count = torch.Size(shape).numel()
            mean, std = (values[:count].to(dtype).reshape(shape) for values in flat)
            moments = Moments(mean.requires_grad_(), std)
            found: Any = subject.criterion.score(moments)
            given = f"of {dtype} weights of shape {shape}"
            if not isinstance(found, torch.Tensor):
                raise Failed(f"score returns {type(found).__name__} {given}; it is a tensor")
            if found.shape != shape:
                raise Failed(f"score has shape {tuple(found.shape)} {given}; it is a number a weight")
            if found.dtype != torch.float64:
                raise Failed(f"score is {found.dtype} {given}; it is float64, or ties are made")
            if found.requires_grad:
                raise Failed("score requires a gradient; it is a plain number")
    return f"float64, a number a weight, for shapes {', '.join(map(str, shapes))}"


def finite(subject: Subject) -> str:
    """No NaN and no infinity over all scales."""
    std = torch.logspace(-12, 1, 27, dtype=torch.float64)
    mean = torch.cat([torch.zeros(1, dtype=torch.float64), std])
    means, stds = torch.meshgrid(mean, std, indexing="ij")
    for lam in (0.01, 1.0, 100.0):
        score = subject.criterion.score(Moments(means, stds, lam))
        bad = (~score.isfinite()).nonzero()
        if len(bad):
            at = tuple(bad[0].tolist())
            place = f"mean {means[at]:.3g}, std {stds[at]:.3g}, lambda {lam:g}"
            raise Failed(f"{score[at]} at {place}, and at {len(bad) - 1} more of {score.numel()} weights")
    return "finite for |mean| from 0 to 10, std from 1e-12 to 10, lambda from 0.01 to 100"


def determinism(subject: Subject) -> str:
    """The same bits twice, by no random number."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(5_741)  # no seed that a criterion would choose
        before = torch.get_rng_state()
        first = subject.score()
        if not torch.equal(torch.get_rng_state(), before):
            raise Failed("score draws from torch's global stream, or seeds it")
    again = subject.score()
    if not torch.equal(first, again):
        raise Failed(f"{int((first != again).sum())} of {WEIGHTS} scores are others the second time")
    return f"{WEIGHTS} scores have the same bits the second time"


def inputs(subject: Subject) -> str:
    """What it is given is as it was, for the criteria that come after it."""
    mean, std = subject.weights()
    moments, untouched = Moments(mean, std), Moments(*subject.weights())
    for name in _SHARED:
        getattr(moments, name)
    subject.criterion.score(moments)
    kept = dict(zip(("the means", "the standard deviations"), (mean, std), strict=True))
    wanted = dict(zip(kept, subject.weights(), strict=True))
    kept |= {f"moments.{name}": getattr(moments, name) for name in _SHARED}
    wanted |= {f"moments.{name}": getattr(untouched, name) for name in _SHARED}
    for name, values in kept.items():
        if not torch.equal(values, wanted[name]):
            raise Failed(f"score changes {name} in place; other criteria read it too")
    return "means, scales and all moments are as they were"


def order(subject: Subject) -> str:
    """Which slot a weight is in does not matter."""
    mean, std = subject.weights()
    shuffled = torch.randperm(WEIGHTS, generator=torch.Generator().manual_seed(1))
    found = subject.criterion.score(Moments(mean[shuffled], std[shuffled]))
    wanted = subject.score()[shuffled]
    if not torch.allclose(found, wanted, rtol=_RELATIVE, atol=0):
        worst = int((found - wanted).abs().argmax())
        raise Failed(
            f"weights in another order have other scores, {found[worst]:.6g} in place of {wanted[worst]:.6g}"
        )
    return "weights in another order have the same scores, in that order"


class _Largest(TorchDispatchMode):
    """Finds the largest tensor that operations return while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types there
        self.numbers, self.operation = 0, ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor) and value.numel() > self.numbers:
                self.numbers, self.operation = value.numel(), str(func)
        return result


def size(subject: Subject) -> str:
    """Nothing of the layer's dense size, or of pairs of weights, is made."""
    moments = Moments(*subject.weights())
    with _Largest() as largest:
        subject.criterion.score(moments)
    if largest.numbers > MOST_TIMES * WEIGHTS:
        raise Failed(
            f"{largest.operation} makes {largest.numbers} numbers for {WEIGHTS} weights; no tensor may have "
            f"more than {MOST_TIMES} times as many as there are weights"
        )
    return f"the largest tensor on the way has {largest.numbers / WEIGHTS:g} numbers a weight"


def definition(subject: Subject) -> str:
    """Scores rank weights as the criterion's value does."""
    if subject.cls.value is Criterion.value:
        return "scores are the criterion itself"
    moments = Moments(*subject.weights())
    value = subject.criterion.value(moments)[subject.criterion.score(moments).argsort()]
    if wrong := int((value.diff() < -_RELATIVE * value[1:].abs()).sum()):
        raise Failed(f"value falls {wrong} times where scores rise; a score is an increasing function of it")
    return "value rises wherever scores do"


def equivalence(subject: Subject) -> str:
    """Whom it is said to rank as ranks as it."""
    other = subject.cls.ranks_as
    if other is None:
        return "ranks as no other criterion, by its own account"
    theirs = Subject(CRITERIA.get(other)).score()
    wrong = int((subject.score().argsort() != theirs.argsort()).sum())
    if wrong:
        raise Failed(f"ranks_as is {other}, which has {wrong} of {WEIGHTS} weights in another place")
    return f"{WEIGHTS} weights are in the order of {other}"


def lam(subject: Subject) -> str:
    """lambda matters where it is said to, so that runs that differ in it alone are trained once."""
    same = torch.equal(subject.score(1.0), subject.score(2.0))
    if subject.cls.uses_lam and same:
        raise Failed("uses_lam is True, and scores are the same at lambda 1 and 2")
    if not subject.cls.uses_lam and not same:
        raise Failed("uses_lam is False, and scores at lambda 1 and 2 differ")
    return f"scores {'change' if subject.cls.uses_lam else 'do not change'} with lambda, as declared"


CHECKS: tuple[Check[Subject], ...] = (
    Check(
        "declared",
        "name, version, docstring and ranks_as are as methods/criteria/base.py says",
        declared,
        vital=True,
    ),
    Check(
        "scores",
        "of weights of any floating type and shape, score returns a float64 tensor of that shape",
        scores,
        vital=True,
    ),
    Check("finite", "no score is NaN or infinite, at whatever scale weights are", finite),
    Check("determinism", "the same weights have the same bits as scores, by no random number", determinism),
    Check("inputs", "what criteria are given and share is read, never written", inputs),
    Check("order", "scores do not depend on the slots that weights are in", order),
    Check("size", "only the weights that there are are looked at: nothing of the dense size is made", size),
    Check("definition", "score is an increasing function of value", definition),
    Check("equivalence", "ranks_as names a criterion that ranks exactly as this one", equivalence),
    Check("lambda", "uses_lam says whether lambda changes scores", lam),
)
