"""Multi-head attention whose four projections are called as layers, and so can be converted.

``nn.MultiheadAttention`` reads its weights without calling a layer. In evaluation,
``nn.TransformerEncoderLayer`` also reads the weights of its linear layers (its "fast path").
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from methods.core.errors import UserError
from methods.layers.inventory import exchange, take_over, tied, would_lose

#: Parts of ``nn.MultiheadAttention`` that the layers of ``Attention`` replace.
_REPLACED = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias", "out_proj")


class Attention(nn.Module):
    """Computes ``nn.MultiheadAttention`` with linear layers ``query``, ``key``, ``value`` and ``out``.

    A call has the signature, shapes and results of the original.

    Parameters
    ----------
    original
        Attention whose weights and settings are copied.

    References
    ----------
    Vaswani et al. 2017.
    """

    #: ``nn.TransformerEncoderLayer`` does not take its fast path if this is None.
    in_proj_bias = None

    def __init__(self, original: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads, self.dropout = original.num_heads, original.dropout
        self.batch_first = original.batch_first
        packed: torch.Tensor | None = original.in_proj_weight
        separate_weights = (original.q_proj_weight, original.k_proj_weight, original.v_proj_weight)
        weights = separate_weights if packed is None else packed.chunk(3)
        biases = [None] * 3 if original.in_proj_bias is None else list(original.in_proj_bias.chunk(3))
        self.query, self.key, self.value = map(linear_of, weights, biases)
        self.out = linear_of(original.out_proj.weight, original.out_proj.bias)
        self.train(original.training)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return outputs (N, L, E) and, if ``need_weights``, attention weights; otherwise None for these.

        Attention weights are (N, L, S), averaged over heads, or (N, heads, L, S). Without ``batch_first``
        the first two dimensions of inputs and outputs are swapped; all tensors may come without N.

        Parameters
        ----------
        query, key, value
            Inputs (N, L, E), (N, S, kdim) and (N, S, vdim).
        key_padding_mask
            (N, S). A true entry excludes a key; a number is added to its score.
        need_weights
            Whether to return attention weights.
        attn_mask
            (L, S) or (N * heads, L, S), with entries as above.
        average_attn_weights
            Whether to average attention weights over heads.
        is_causal
            Hint that ``attn_mask`` is causal. Only the mask has an effect.

        Raises
        ------
        RuntimeError
            If ``is_causal`` is given without ``attn_mask``.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal needs attn_mask, which is missing")
        batched = query.dim() == 3
        inputs = [query, key, value]
        if not batched:
            inputs = [x.unsqueeze(0) for x in inputs]
        elif not self.batch_first:
            inputs = [x.transpose(0, 1) for x in inputs]
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in zip((self.query, self.key, self.value), inputs, strict=True)
        )
        mask = self._mask(attn_mask, key_padding_mask, q)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q / math.sqrt(q.shape[-1]) @ k.transpose(-2, -1)
            weights = (scores if mask is None else scores + mask).softmax(-1)
            weights = F.dropout(weights, dropout) if dropout else weights
            attended = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            attended = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        output = self.out(attended.transpose(1, 2).flatten(2))
        if not batched:
            return output[0], None if weights is None else weights[0]
        return (output if self.batch_first else output.transpose(0, 1)), weights

    def _mask(
        self, attn_mask: torch.Tensor | None, padding: torch.Tensor | None, query: torch.Tensor
    ) -> torch.Tensor | None:
        """Return what is added to the scores, in a shape that broadcasts to (N, heads, L, S), or None."""
        masks = []
        if attn_mask is not None:
            by_head = attn_mask.dim() == 3  # (N * heads, L, S)
            masks.append(attn_mask.unflatten(0, (-1, self.heads)) if by_head else attn_mask)
        if padding is not None:  # (N, S), or (S) where the inputs have no N
            masks.append(padding.reshape(-1, 1, 1, padding.shape[-1]))
        added = [_additive(mask, query.dtype) for mask in masks]
        return sum(added[1:], added[0]) if added else None


def separate(network: nn.Module) -> nn.Module:
    """Replace every ``nn.MultiheadAttention`` by an ``Attention`` with the same weights, in place.

    Attention stays as it is if it is used under several names, shares a weight, or belongs to a
    subclass with its own forward. The fast path of encoders is switched off. Returns the network.

    Raises
    ------
    UserError
        For attention with ``add_bias_kv`` or ``add_zero_attn``.
    """
    shared = tied(network)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
        elif isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
        if not is_separable(module) or any(id(p) in shared for p in module.parameters()):
            continue
        if module.bias_k is not None or module.add_zero_attn:
            raise UserError(f"layer {name!r}: attention with add_bias_kv or add_zero_attn is not supported")
        attention = Attention(module)
        take_over(module, attention, _REPLACED)
        network = exchange(network, name, attention)
    return network


def is_separable(module: nn.Module) -> bool:
    """Return whether ``module`` is ``nn.MultiheadAttention`` with the forward of that class."""
    return (
        isinstance(module, nn.MultiheadAttention)
        and type(module).forward is nn.MultiheadAttention.forward
        and "forward" not in vars(module)
        and not any(map(would_lose, (module, module.out_proj)))
    )


def linear_of(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """Create a linear layer from copies of ``weight`` and ``bias``.

    The random numbers that ``nn.Linear`` draws for its own weights do not advance torch's generator.
    """
    with torch.random.fork_rng(devices=[]):
        layer = nn.Linear(1, 1, bias=bias is not None)
    layer.out_features, layer.in_features = weight.shape
    layer.weight = nn.Parameter(weight.detach().clone(), weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return layer


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
