"""Variational inference on a random subspace that never moves."""

from __future__ import annotations

from methods.core.style import Style
from methods.families.variational import SparseVariationalMethod


class StaticVI(SparseVariationalMethod):
    """Mean-field VI on a fixed random subspace: the control for whether moving it matters."""

    name = "static_vi"
    style = Style("Static VI", hue="#753C00", hue_dark="#E70E1A", marker="diamond", dash="dot", order=20)
