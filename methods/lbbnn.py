"""Latent binary Bayesian neural networks (Hubin & Storvik 2024, Mathematics 12(6), 788, arXiv 1903.07594).

They are trained by local reparameterisation, as in Skaaret-Lund, Storvik & Hubin 2024 (TMLR, arXiv
2305.03395), but without the normalising flows of that paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from methods.base import Progress, Task
from methods.core.options import option
from methods.core.streams import Streams
from methods.core.style import Style
from methods.families.adaptive import AdaptiveOptions, AdaptiveVI
from methods.families.variational import VariationalOptions
from methods.layers.posterior import DenseGaussian, Gaussian
from methods.layers.spike_and_slab import SpikeAndSlab
from methods.subspace import pruning


@dataclass(frozen=True)
class LBBNNOptions(AdaptiveOptions, VariationalOptions):
    """Options of the spike and slab."""

    prior_std: float = option(
        0.1,
        "standard deviation of the slab, the Gaussian prior of included weights; 1 in the authors' code",
        within="(0, inf)",
    )
    prior_inclusion: float = option(0.1, "prior probability that a weight is included", within="(0, 1)")
    initial_inclusion: float = option(
        0.9,
        "initial inclusion probability of each weight; the authors draw it, in one model from 0.82 to 0.92",
        within="(0, 1)",
    )


class LBBNN(AdaptiveVI):
    """Latent binary BNN: spike-and-slab VI with learnt inclusion probabilities; keeps those above one half.

    The weights that stay form the median probability model (Barbieri & Berger 2004), with the Gaussian slabs
    as posteriors; ``finetune`` trains them on. Layers that sparsity does not apply to have Gaussian
    posteriors, as in dense VI.

    Inclusion logits are trained with the learning rate for scales. At a small ``kl_factor`` their gradients
    are small, and SGD may leave them near their initial values. Adam with ten times the learning rate for
    logits, which the authors use, does not.

    References
    ----------
    Hubin & Storvik 2024, Mathematics 12(6), 788; Skaaret-Lund, Storvik & Hubin 2024, TMLR.
    """

    name = "lbbnn"
    style = Style(
        "LBBNN", hue="#85507C", hue_dark="#F9C1FF", marker="triangle-right", dash="longdash", order=51
    )
    Options = LBBNNOptions

    def build(self, network: nn.Module, streams: Streams, task: Task) -> nn.Module:
        module = super().build(network, streams, task)
        for layer in pruning.prunable(module).values():
            slab = layer.posterior
            assert isinstance(slab, DenseGaussian)
            layer.posterior = SpikeAndSlab(slab, self.options.initial_inclusion, self.options.prior_inclusion)
        return module

    def margin(self, posterior: Gaussian) -> torch.Tensor:
        assert isinstance(posterior, SpikeAndSlab)
        return posterior.logit.detach()

    @torch.no_grad()
    def monitor(self, module: nn.Module, progress: Progress) -> dict[str, float]:
        figures = super().monitor(module, progress)
        found = [layer.posterior for layer in pruning.prunable(module).values()]
        inclusions = [p.inclusion.reshape(-1) for p in found if isinstance(p, SpikeAndSlab)]
        # after the pruning there are no inclusion probabilities
        return figures | ({"inclusion": float(torch.cat(inclusions).mean())} if inclusions else {})
