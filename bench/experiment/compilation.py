"""What ``torch.compile`` is given: the parts of a network that are not variational."""

from __future__ import annotations

import torch
from torch import nn

from methods.core import passes


def compile_plain(module: nn.Module) -> None:
    """Have what lies between the variational layers of ``module`` compiled, when it is first called.

    What asks for the pass in force is left as it is: the compiler can't see the pass. It gives up a
    loop that calls such modules, so a container's children are compiled, not itself, and so are those
    of a list, which nobody calls.
    """
    for part in passes.modules(module):
        part.forward = torch.compiler.disable(part.forward)
    # parts share one function of torch's, each of them compiled for training and evaluation, and a last batch
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
