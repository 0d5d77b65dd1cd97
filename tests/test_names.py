"""Names of configurations in words, made of their labels."""

from __future__ import annotations

import pytest

from bench.results.names import in_words, setting, sparsity, variant

METHODS = {"ssvi": {"label": "SSVI"}, "dense_vi": {"label": "Dense VI"}, "odd": {}}
CRITERIA = {"snr": {"label": "SNR"}}


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("ssvi sparsity=0.95 budget=flops", "SSVI · 95 % · equal FLOPs"),
        ("ssvi budget=flops sparsity=0.95", "SSVI · 95 % · equal FLOPs"),
        ("dense_vi budget=epochs sparsity=0", "Dense VI · equal epochs"),
        ("ssvi budget=epochs budget_cap=10 sparsity=0.9", "SSVI · 90 % · equal epochs"),
        ("ssvi budget=flops budget_cap=20 sparsity=0.9", "SSVI · 90 % · equal FLOPs · budget cap 20"),
        ("ssvi sparsity=0.9995 criterion=snr recipe=default", "SSVI · 99.95 % · by SNR · recipe default"),
        ("ssvi criterion=mine", "SSVI · by mine"),
        ("ssvi method.lam=0.5 kl_factor=0.1 replace_until=0.9", "SSVI · λ 0.5 · κ 0.1 · replace until 0.9"),
        ("ssvi dataset=digits network=mlp", "SSVI · digits · mlp"),
        ("ssvi network.hidden=[8, 8] sparsity=0.99999", "SSVI · 99.999 % · network.hidden [8, 8]"),
        ("odd sparsity=none budget=years", "odd · sparsity none · budget years"),
        # what is no setting is kept: two labels never become one name
        ("ssvi sparsity=0.9 (12ab)", "SSVI (12ab) · 90 %"),
        ("as in ssvi sparsity=0.9", "as in ssvi · 90 %"),
        ("", ""),
    ],
)
def test_a_label_is_said_in_words(label, name):
    assert in_words(label, METHODS, CRITERIA) == name


def test_parts_of_names_are_said_alone():
    assert (sparsity(0.07), sparsity("0.5"), sparsity(0.0)) == ("7 %", "50 %", "")
    assert setting("method.replace_every", "80") == "M 80" and setting("prior_std", "1") == "prior std 1"
    assert variant("ssvi sparsity=0.9 criterion=snr budget=flops") == "criterion=snr budget=flops"
