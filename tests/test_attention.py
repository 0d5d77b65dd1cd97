"""Attention in separate layers against torch's own, and the encoders that read weights past their layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from methods.base import Task
from methods.core import passes
from methods.core.errors import UserError
from methods.core.streams import Streams
from methods.dense_vi import DenseVI
from methods.families.variational import VariationalOptions
from methods.layers import attention
from methods.layers.attention import Attention, separate
from methods.layers.layer import sparse_layers, variational_layers
from methods.ssvi import SSVI, SSVIOptions

L, S, N, E, HEADS = 5, 7, 3, 8, 2


def make(**options):
    torch.manual_seed(0)
    original = nn.MultiheadAttention(E, HEADS, **options).eval()
    for parameter in original.parameters():
        nn.init.normal_(parameter, std=0.5)
    return original


def inputs(original, batched=True, seed=1):
    g = torch.Generator().manual_seed(seed)
    sizes = ((L, E), (S, original.kdim), (S, original.vdim))
    found = [torch.randn(N, length, width, generator=g) for length, width in sizes]
    if not batched:
        return [x[0] for x in found]
    return found if original.batch_first else [x.transpose(0, 1) for x in found]


MASKS = {
    "none": dict,
    "boolean": lambda: {"attn_mask": torch.ones(L, S, dtype=torch.bool).triu(3)},
    "additive": lambda: {"attn_mask": torch.linspace(-2, 2, L * S).view(L, S)},
    "by head": lambda: {"attn_mask": torch.linspace(-2, 2, N * HEADS * L * S).view(N * HEADS, L, S)},
    "padding": lambda: {"key_padding_mask": torch.arange(S) >= torch.tensor([[S], [S - 3], [1]])},
    "both": lambda: {
        "attn_mask": torch.ones(L, S, dtype=torch.bool).triu(3),
        "key_padding_mask": torch.arange(S) >= torch.tensor([[S], [S - 3], [1]]),
    },
}
MADE = {
    "plain": {},
    "no bias": {"bias": False},
    "other widths": {"kdim": 6, "vdim": 4},
    "other widths, no bias": {"kdim": 6, "vdim": 4, "bias": False},
}


@pytest.mark.parametrize("need", [{"need_weights": False}, {}, {"average_attn_weights": False}], ids=str)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("made", MADE)
def test_outputs_and_weights_are_torch_s(made, mask, batch_first, need):
    original = make(batch_first=batch_first, **MADE[made])
    ours = separate(original)
    assert isinstance(ours, Attention)
    arguments = inputs(original)
    expected, weights = original(*arguments, **MASKS[mask](), **need)
    found, found_weights = ours(*arguments, **MASKS[mask](), **need)
    torch.testing.assert_close(found, expected)
    assert (weights is None) == (found_weights is None)
    if weights is not None:
        torch.testing.assert_close(found_weights, weights)


@pytest.mark.parametrize("need", [{"need_weights": False}, {}], ids=str)
def test_inputs_without_a_batch(need):
    original = make()
    arguments = inputs(original, batched=False)
    padding = {"key_padding_mask": torch.arange(S) >= S - 2}
    for given in ({}, padding, {"attn_mask": torch.ones(L, S, dtype=torch.bool).triu(3)}):
        for found, expected in zip(
            separate(original)(*arguments, **given, **need),
            original(*arguments, **given, **need),
            strict=True,
        ):
            assert (found is None) == (expected is None)
            if expected is not None:
                torch.testing.assert_close(found, expected)


def test_self_attention_in_evaluation_where_torch_takes_its_fast_path():
    original = make(batch_first=True)
    x = inputs(original)[0]
    with torch.no_grad():
        torch.testing.assert_close(separate(original)(x, x, x)[0], original(x, x, x)[0])


def test_a_causal_hint_goes_with_its_mask():
    original, x = make(batch_first=True), torch.randn(N, L, E)
    causal = {"attn_mask": nn.Transformer.generate_square_subsequent_mask(L), "is_causal": True}
    for need in (True, False):
        expected = original(x, x, x, **causal, need_weights=need)[0]
        torch.testing.assert_close(separate(original)(x, x, x, **causal, need_weights=need)[0], expected)
    with pytest.raises(RuntimeError, match="attn_mask"):
        separate(original)(x, x, x, is_causal=True)


def test_dropout_acts_in_training_only():
    ours, x = separate(make(dropout=0.5, batch_first=True)), torch.randn(N, L, E)
    for need in (True, False):
        first, second = (ours.train()(x, x, x, need_weights=need)[0] for _ in range(2))
        assert not torch.equal(first, second)
        first, second = (ours.eval()(x, x, x, need_weights=need)[0] for _ in range(2))
        assert torch.equal(first, second)


def test_separating_draws_no_random_number_of_the_network_s():
    original = make()
    state = torch.get_rng_state()
    separate(original)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("option", ["add_bias_kv", "add_zero_attn"])
def test_what_is_not_supported_is_refused(option):
    with pytest.raises(UserError, match="layer '0': attention with add_bias_kv or add_zero_attn"):
        separate(nn.Sequential(nn.MultiheadAttention(E, HEADS, **{option: True})))


class Encoder(nn.Module):
    """Tokens (N, L, E) to logits by torch's encoder; with ``padded`` the last token is barred."""

    def __init__(self, padded=False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(E, HEADS, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.classifier = nn.Linear(E, 4)
        self.padded = padded

    def forward(self, x):
        mask = (torch.arange(L) == L - 1).expand(len(x), L) if self.padded else None
        return self.classifier(self.encoder(x, src_key_padding_mask=mask)[:, 0])


TASK = Task((L, E), 4, 100)
PARTS = [f"self_attn.{part}" for part in ("query", "key", "value", "out")] + ["linear1", "linear2"]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("padded", [False, True])
def test_encoders_do_not_read_past_variational_layers(padded):
    """In evaluation, without gradients, torch's encoder would take its fast path."""
    torch.manual_seed(0)
    network = Encoder(padded).eval()
    x = torch.randn(N, L, E)
    with torch.no_grad():
        expected = network(x)
        module = DenseVI(VariationalOptions(initial_std=0.3)).build(network, Streams(0), TASK).eval()
        torch.testing.assert_close(module(x), expected)
        found = variational_layers(module)
        assert len(found) == 2 * 6 + 1
        means = {layer: layer.posterior.mean for layer in found}
        for layer in found:  # each is passed through: without its weights the output is another
            with passes.weights({**means, layer: torch.zeros_like(layer.posterior.mean)}):
                assert not torch.allclose(module(x), expected)
        draws = [predict(x) for predict in DenseVI().draws(module, 2, torch.Generator().manual_seed(0))]
    assert not torch.allclose(draws[0], draws[1])


def test_attention_that_is_shared_stays_whole_and_works():
    """One attention module in two encoder layers: its weights are read, those of the other layers are not."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(
                nn.TransformerEncoderLayer(E, HEADS, 16, dropout=0.0, batch_first=True) for _ in range(2)
            )
            self.blocks[1].self_attn = self.blocks[0].self_attn

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return x[:, 0]

    network, x = Shared().eval(), torch.randn(N, L, E)
    with torch.no_grad():
        expected = network(x)
        module = DenseVI().build(network, Streams(0), TASK).eval()
        assert isinstance(module.blocks[0].self_attn, nn.MultiheadAttention)
        assert module.blocks[1].self_attn is module.blocks[0].self_attn
        assert len(variational_layers(module)) == 4
        torch.testing.assert_close(module(x), expected)


def test_projections_are_sparsifiable_before_and_after_separation():
    network = Encoder()
    names = [f"encoder.layers.{i}.{part}" for i in range(2) for part in PARTS] + ["classifier"]
    SSVI.validate(SSVIOptions(keep_dense=("*.self_attn.query",)), network)
    assert any(map(attention.is_separable, network.modules())), "validation changes nothing"
    module = SSVI(SSVIOptions(sparsity=0.5)).build(network, Streams(0), TASK)
    assert [name for name, _, _ in sparse_layers(module)] == names
