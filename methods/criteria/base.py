"""What a removal criterion is: a name, a formula, a score for each weight; and the registry of criteria.

A new criterion is one file in this folder (or a package with an entry point in the group
``ssvi_bench.criteria``) that defines one subclass of ``Criterion``.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from methods.core.registry import Registry
from methods.core.style import Style
from methods.criteria.moments import Moments

#: The most characters that a formula and a source may have, since views show them on a line.
LONGEST = 300


class Criterion:
    """One way to rank weights for removal: subclass it, set the attributes, write ``score``.

    name: what the option ``criterion`` calls it. version: raise it when a change alters scores; unless
    it is 1, it is part of the ids of runs that remove by this criterion.
    style: how views show it. formula: the formula in words, after it what that is; latex: the same,
    without dollar signs; source: paper and equation.
    uses_lam: whether the method's option ``lam`` (lambda) enters.
    ranks_as: the criterion that ranks all weights exactly as this one, and is run instead; because: why.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    style: ClassVar[Style]
    formula: ClassVar[str]
    latex: ClassVar[str]
    source: ClassVar[str]
    uses_lam: ClassVar[bool] = False
    ranks_as: ClassVar[str | None] = None
    because: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in vars(cls):
            return
        if not isinstance(getattr(cls, "style", None), Style):
            raise TypeError(f"criterion {cls.name}: needs a style, a Style, by which views show it")
        for attribute in ("formula", "latex", "source"):
            text = getattr(cls, attribute, None)
            if not isinstance(text, str) or not 1 <= len(text) <= LONGEST or not text.isprintable():
                raise TypeError(f"criterion {cls.name}: {attribute} is a line of 1 to {LONGEST} characters")
        if {*"$`"} & {*cls.latex}:
            raise TypeError(f"criterion {cls.name}: latex stands without dollar signs and backticks")
        if cls.ranks_as is not None and not cls.because:
            raise TypeError(f"criterion {cls.name}: ranks as {cls.ranks_as}: because says why")

    def score(self, moments: Moments) -> torch.Tensor:
        """What weights are ranked by: those of lowest score are removed.

        It need not be the criterion itself: any increasing function of it may be safer to compare.

        Parameters
        ----------
        moments
            Of the weights that there are, those of one layer.

        Returns
        -------
        torch.Tensor
            float64, of the shape of ``moments.std``; NaN where a mean is NaN.
        """
        raise NotImplementedError

    def value(self, moments: Moments) -> torch.Tensor:
        """The criterion by its formula, shaped as ``score``, which is this one unless overridden.

        Where the formula overflows, a logarithm of it.
        """
        return self.score(moments)


#: Criteria from the files of this folder, then those from entry points and from ``register``.
CRITERIA: Registry[Criterion] = Registry(
    "criterion", "methods.criteria", Criterion, "ssvi_bench.criteria", own_first=True
)
register = CRITERIA.register
