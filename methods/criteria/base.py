"""Define removal criteria: the base class, with name, formula and score of a weight, and the registry.

A new criterion is one file in this folder (or a package with an entry point in the group
``ssvi_bench.criteria``) that defines one subclass of ``Criterion``.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from methods.core.registry import Registry
from methods.core.style import Style
from methods.criteria.moments import Moments

#: Most characters of a formula or a source: figures and tables show each on one line.
LONGEST = 300


class Criterion:
    """A way to rank weights for removal. Subclass it, set the attributes, and write ``score``.

    Attributes
    ----------
    name
        Value of the option ``criterion`` that chooses it.
    version
        Raise it when a change alters scores. Unless it is 1, it is part of the ids of runs that remove
        weights by this criterion.
    style
        How figures and tables show it.
    formula
        The formula in words, then a colon and its name.
    latex
        The formula in LaTeX, without dollar signs.
    source
        Paper, and equation.
    uses_lam
        Whether the method's option ``lam`` (lambda) changes scores.
    ranks_as, because
        A criterion that ranks all weights exactly as this one, and is run instead; and the reason.

    Raises
    ------
    TypeError
        If a subclass lacks an attribute, or one is not a short line of text.
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
            raise TypeError(f"criterion {cls.name}: needs a style, the Style that views show it in")
        for attribute in ("formula", "latex", "source"):
            text = getattr(cls, attribute, None)
            if not isinstance(text, str) or not 1 <= len(text) <= LONGEST or not text.isprintable():
                raise TypeError(
                    f"criterion {cls.name}: {attribute} must be a line of 1 to {LONGEST} characters"
                )
        if {*"$`"} & {*cls.latex}:
            raise TypeError(f"criterion {cls.name}: latex must have no dollar signs or backticks")
        if cls.ranks_as is not None and not cls.because:
            raise TypeError(f"criterion {cls.name}: ranks as {cls.ranks_as}, but because does not say why")

    def score(self, moments: Moments) -> torch.Tensor:
        """Score each weight; the weights of lowest score are removed.

        A score may be any increasing function of the criterion, if that is safer to compare.

        Parameters
        ----------
        moments
            Moments of the active weights of one layer. They are shared by all criteria: read only.

        Returns
        -------
        torch.Tensor
            Scores, float64 of the shape of ``moments.std``; NaN where a mean is NaN.
        """
        raise NotImplementedError

    def value(self, moments: Moments) -> torch.Tensor:
        """Compute the criterion by its formula, for each weight; by default that is the score.

        A formula that overflows is given by its logarithm.
        """
        return self.score(moments)


#: Criteria from the files of this folder, then those from entry points and from ``register``.
CRITERIA: Registry[Criterion] = Registry(
    "criterion", "methods.criteria", Criterion, "ssvi_bench.criteria", own_first=True
)
register = CRITERIA.register
