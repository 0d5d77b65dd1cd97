"""Compile the parts of a network that are not variational with ``torch.compile``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from methods.core import passes


@contextmanager
def limits_restored() -> Iterator[None]:
    """Restore after the block the compiler's limit, which ``compile_plain`` raises."""
    config = torch._dynamo.config
    with config.patch(recompile_limit=config.recompile_limit):
        yield


def compile_plain(module: nn.Module) -> None:
    """Compile what lies between the variational layers of ``module``, on its first call.

    Modules that depend on the pass in force (see ``methods.core.passes``) are not compiled, because the
    compiler can't see the pass. It also gives up loops that call such modules, so the children of a
    container are compiled instead of the container. The same holds for an ``nn.ModuleList``, which is never
    called itself.
    """
    for part in passes.modules(module):
        part.forward = torch.compiler.disable(part.forward)
    # all parts share one function of torch; each is compiled for training, evaluation and a last batch
    torch._dynamo.config.recompile_limit = 8 * sum(1 for _ in module.modules())
    _compile_parts(module)


def _compile_parts(module: nn.Module) -> None:
    if isinstance(module, passes.PassModule):
        return
    if isinstance(module, nn.ModuleList) or (isinstance(module, nn.Sequential) and passes.modules(module)):
        for child in module.children():
            _compile_parts(child)
    else:
        module.compile()
