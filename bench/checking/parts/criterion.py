"""Check a removal criterion against its contract, for ``bench.check --criterion``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.checking.parts.common import declared_line
from bench.checking.verdicts import Check, Failed
from methods.criteria.base import CRITERIA, Criterion
from methods.criteria.moments import Moments

#: Number of weights that are scored, and most numbers in a tensor made meanwhile, as a multiple of it.
WEIGHTS, MOST_TIMES = 4096, 8
#: Relative tolerance of scores whose terms may be summed in another order.
_RELATIVE = 1e-9
_SHARED = (
    *("mean", "a", "std", "z", "s", "normal_loss", "unit_variance_abs"),
    *("expected_abs", "log_expected_exp", "log_moment_ratio"),
)


@dataclass(frozen=True)
class Subject:
    """A criterion to check, and weights such as a sparse layer has: means N(0, 0.03^2), scales about 1e-3."""

    cls: type[Criterion]

    @property
    def criterion(self) -> Criterion:
        """A new object on each access, so that a criterion cannot pass a check by remembering results."""
        return self.cls()

    def weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return means and standard deviations, float32 of shape (WEIGHTS,); the same on each call."""
        stream = torch.Generator().manual_seed(0)
        mean = 0.03 * torch.randn(WEIGHTS, generator=stream)
        return mean, 1e-3 * torch.randn(WEIGHTS, generator=stream).exp()

    def score(self, lam: float = 1.0) -> torch.Tensor:
        """Return the scores of ``weights``."""
        return self.criterion.score(Moments(*self.weights(), lam))


def declared(subject: Subject) -> str:
    """Check name, version, docstring and ``ranks_as``."""
    cls = subject.cls
    declared_line(cls)
    if cls.ranks_as is not None and (cls.ranks_as == cls.name or cls.ranks_as not in CRITERIA.names()):
        raise Failed(f"ranks_as is {cls.ranks_as!r}; it is the name of another criterion or None")
    return f"{cls.formula} ({cls.source})"


def scores(subject: Subject) -> str:
    """Check type and shape of scores, for weights of several types and shapes."""
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
                raise Failed(f"score returns {type(found).__name__} {given}; it must be a tensor")
            if found.shape != shape:
                raise Failed(f"score has shape {tuple(found.shape)} {given}; it must be that of the weights")
            if found.dtype != torch.float64:
                raise Failed(f"score is {found.dtype} {given}; it must be float64, which avoids ties")
            if found.requires_grad:
                raise Failed("score requires a gradient; it must be detached")
    return f"float64 of the shape of the weights, for shapes {', '.join(map(str, shapes))}"


def finite(subject: Subject) -> str:
    """Check that scores are finite for weights of all scales."""
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
    """Check that scores have the same bits twice and that no random number is drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(5_741)  # a seed that no criterion is likely to set itself
        before = torch.get_rng_state()
        first = subject.score()
        if not torch.equal(torch.get_rng_state(), before):
            raise Failed("score draws from torch's global random stream, or seeds it")
    again = subject.score()
    if not torch.equal(first, again):
        raise Failed(f"{int((first != again).sum())} of {WEIGHTS} scores differ the second time")
    return f"{WEIGHTS} scores have the same bits the second time"


def inputs(subject: Subject) -> str:
    """Check that scoring changes none of its inputs, which other criteria read too."""
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
    return "means, scales and all moments are unchanged"


def order(subject: Subject) -> str:
    """Check that the score of a weight does not depend on its slot."""
    mean, std = subject.weights()
    shuffled = torch.randperm(WEIGHTS, generator=torch.Generator().manual_seed(1))
    found = subject.criterion.score(Moments(mean[shuffled], std[shuffled]))
    wanted = subject.score()[shuffled]
    if not torch.allclose(found, wanted, rtol=_RELATIVE, atol=0):
        worst = int((found - wanted).abs().argmax())
        raise Failed(
            f"weights in another order have other scores, {found[worst]:.6g} instead of {wanted[worst]:.6g}"
        )
    return "each weight has the same score if weights are in another order"


class _Largest(TorchDispatchMode):
    """Context that finds the largest tensor which operations return within it."""

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
    """Check that no tensor of the layer's dense size, or of pairs of weights, is made."""
    moments = Moments(*subject.weights())
    with _Largest() as largest:
        subject.criterion.score(moments)
    if largest.numbers > MOST_TIMES * WEIGHTS:
        raise Failed(
            f"{largest.operation} makes {largest.numbers} numbers for {WEIGHTS} weights; a tensor may have "
            f"at most {MOST_TIMES} for each weight"
        )
    return f"the largest tensor made has {largest.numbers / WEIGHTS:g} numbers for each weight"


def definition(subject: Subject) -> str:
    """Check that scores rank weights as the criterion's value does."""
    if subject.cls.value is Criterion.value:
        return "the score is the value itself"
    moments = Moments(*subject.weights())
    value = subject.criterion.value(moments)[subject.criterion.score(moments).argsort()]
    if wrong := int((value.diff() < -_RELATIVE * value[1:].abs()).sum()):
        raise Failed(
            f"value falls {wrong} times where scores rise; score must be an increasing function of it"
        )
    return "value rises wherever scores rise"


def equivalence(subject: Subject) -> str:
    """Check that the criterion ranks weights as the one that ``ranks_as`` names."""
    other = subject.cls.ranks_as
    if other is None:
        return "ranks_as names no other criterion"
    theirs = Subject(CRITERIA.get(other)).score()
    wrong = int((subject.score().argsort() != theirs.argsort()).sum())
    if wrong:
        raise Failed(f"ranks_as is {other}, which ranks {wrong} of {WEIGHTS} weights differently")
    return f"{WEIGHTS} weights are ranked as by {other}"


def lam(subject: Subject) -> str:
    """Check ``uses_lam``: if it is False, runs that differ only in lambda are trained once."""
    same = torch.equal(subject.score(1.0), subject.score(2.0))
    if subject.cls.uses_lam and same:
        raise Failed("uses_lam is True, but scores are the same at lambda 1 and 2")
    if not subject.cls.uses_lam and not same:
        raise Failed("uses_lam is False, but scores differ at lambda 1 and 2")
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
        "for weights of any floating type and shape, score returns a float64 tensor of that shape",
        scores,
        vital=True,
    ),
    Check("finite", "no score is NaN or infinite, for weights of any scale", finite),
    Check(
        "determinism", "the same weights have the same scores to the bit, without random numbers", determinism
    ),
    Check("inputs", "score reads its inputs, which criteria share, and never changes them", inputs),
    Check("order", "the score of a weight does not depend on its slot", order),
    Check("size", "score works on the active weights: it makes no tensor of the layer's dense size", size),
    Check("definition", "score is an increasing function of value", definition),
    Check("equivalence", "the criterion that ranks_as names ranks exactly as this one", equivalence),
    Check("lambda", "uses_lam says whether lambda changes scores", lam),
)
