"""Dense mean-field variational inference."""

from __future__ import annotations

from methods.core.style import Style
from methods.families.variational import VariationalMethod


class DenseVI(VariationalMethod):
    """Mean-field Gaussian VI over all weights with local reparameterisation: the dense reference.

    References
    ----------
    Graves 2011; Blundell et al. 2015; Kingma et al. 2015.
    """

    name = "dense_vi"
    style = Style("Dense VI", hue="#3A3A3A", hue_dark="#E0E0E0", marker="square", dash="dash", order=10)
