"""Latent binary Bayesian neural networks (Hubin & Storvik 2024, Mathematics 12(6), 788, arXiv 1903.07594).

Trained by local reparameterisation, as in Skaaret-Lund, Storvik & Hubin 2024 (TMLR, arXiv 2305.03395),
without the normalising flows of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from methods.base import Progress, Style, Task
from methods.core.options import option
from methods.core.streams import Streams
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
        "standard deviation of the Gaussian prior of each included weight, the slab; 1 in the authors' code",
        within="(0, inf)",
    )
    prior_inclusion: float = option(0.1, "prior probability that a weight is included", within="(0, 1)")
    initial_inclusion: float = option(
        0.9,
        "inclusion probability of each weight at first; the authors draw it, from 0.82 to 0.92 for one",
        within="(0, 1)",
    )


class LBBNN(AdaptiveVI):
    """Latent binary BNN: spike-and-slab VI with learnt inclusion probabilities; those above one half stay.

    What stays is the median probability model (Barbieri & Berger 2004), with its Gaussian slabs; ``finetune``
    trains it on. Layers that sparsity is not about have Gaussian posteriors, as in dense VI. Inclusion logits
    take the learning rate for scales. At a small ``kl_factor`` their gradients are small, and SGD may leave
    them where they start: Adam, which the authors use, with ten times the learning rate for logits, does not.
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
        # after the pruning there is none
        return figures | ({"inclusion": float(torch.cat(inclusions).mean())} if inclusions else {})
