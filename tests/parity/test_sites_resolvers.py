"""The same sites resolved by others have the same values: TransformerLens's bridge (on a copy), and interp-engine.

What is compared is written down and asserted, so that the comparison cannot shrink unnoticed: every site of every case
below, but for the differences listed with their reason.
"""

from __future__ import annotations

import logging

import pytest
import torch

from interp.models.bridged import bridged
from tests.parity.site_cases import CASES, TOLERANCE, build, gap, read_all, token_ids
from tests.tiny import BYPASSING, tiny_tokenizer

UNBRIDGED = {
    "codegen": "the bridge of TransformerLens 4.3 reads an attribute that transformers 5.24 no longer has",
    "falcon-grouped": "its weight splitter does not know the grouped layout",
    "falcon-alibi": "it runs eager attention, which in transformers 5.24 adds this variant's ALiBi twice",
    "phi-qk-norm": "its adapter has no query and key norms",
    "opt-norm-after": "its block unpacks three results where there are two",
    "opt-narrow": "its block unpacks three results where there are two",
}
BRIDGED = tuple(case for case in CASES if case not in UNBRIDGED)
# Names the bridge does not have.
ABSENT = dict.fromkeys(
    {"phi3", "gpt_neox", "gptj", "gpt_neox-sequential"} - BYPASSING, ("attn.hook_rot_q", "attn.hook_rot_k")
)
# Names the bridge gives another meaning; see interp.models.block_sites and interp.models.sites.
RENAMED = {"ln_final.hook_normalized": "ln_final.hook_out"}
RENAMED_LATENT = {
    "attn.hook_rot_q": "attn.hook_q",
    "attn.hook_rot_k": "attn.hook_k",
}  # there: [batch, head, pos, d_head]
OTHERWISE = {
    "bloom": ("attn.hook_out", "mlp.hook_out"),  # the bridge's hold the residual too
    "bloom-residual-from-norm": ("attn.hook_out", "mlp.hook_out"),
    "mpt": ("mlp.hook_out",),
    "deepseek_v3": ("attn.hook_q",),  # the bridge's is after rotary
    "deepseek_v3-full-queries": ("attn.hook_q",),
}


def short(site: str) -> str:
    return site.split(".", 2)[2] if site.startswith("blocks.") else site


@pytest.mark.parametrize("case", BRIDGED)
@pytest.mark.filterwarnings("ignore")
def test_sites_agree_with_the_bridge(case: str) -> None:
    model = build(case)
    sites, at, logits = read_all(model)
    bridge = bridged(model, None)
    with torch.no_grad():
        theirs, cache = bridge.run_with_cache(token_ids())
    assert gap(theirs, logits) <= TOLERANCE
    latent = sites.structure.latent_kv
    compared = set()
    for site, value in at.items():
        name = short(site)
        if name in OTHERWISE.get(case, ()) or name in ABSENT.get(case, ()):
            continue
        renamed = {**RENAMED, **(RENAMED_LATENT if latent else {})}
        other = cache[site.removesuffix(name) + renamed.get(name, name)]
        if latent and name in ("attn.hook_rot_q", "attn.hook_rot_k", "attn.hook_v"):
            other = other.transpose(1, 2)
        if name == "hook_pos_embed":
            value = value.expand_as(other)  # one row for the batch, or one a text
        assert gap(other.reshape(value.shape), value) <= TOLERANCE, site
        compared.add(site)
    left_out = {*OTHERWISE.get(case, ()), *ABSENT.get(case, ())}
    assert {short(site) for site in set(sites.names()) - compared} == left_out
    assert len(compared) >= 12 * sites.n_layers


def test_most_cases_are_compared_with_the_bridge() -> None:
    assert len(BRIDGED) == 34
    assert set(BRIDGED) | set(UNBRIDGED) == set(CASES)


OUTSIDE = {"embeddings": "hook_embed", "final_norm": "ln_final.hook_normalized", "lm_head": "unembed.hook_out"}
INSIDE = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_in": "attn.hook_in",
    "z": "attn.hook_z",
    "attn_out": "attn.hook_out",
    "attn_out_post": "hook_attn_out",
    "mlp_in": "mlp.hook_in",
    "mlp_pre": "mlp.hook_pre",
    "mlp_pre_linear": "mlp.hook_pre_linear",
    "mlp_act": "mlp.hook_post",
    "mlp_out": "mlp.hook_out",
    "mlp_out_post": "hook_mlp_out",
}
ENGINE_OTHERWISE = {
    "bloom": ("embeddings",),  # before their norm
    "bloom-residual-from-norm": ("embeddings",),
    "granite": ("embeddings",),  # before their factor
    "opt-narrow": ("embeddings", "resid_mid"),  # before they are widened
    "opt": ("resid_mid",),  # refused there
    "opt-norm-after": ("resid_mid",),
    "gpt_neo": ("z",),  # refused there
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore")
def test_sites_agree_with_interp_engine(case: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    model = build(case)
    sites, at, _ = read_all(model)
    pytest.importorskip("interp_engine", reason="interp-engine needs Python 3.11")
    from interp_engine.capture import capture
    from interp_engine.model import EagerModel

    engine = EagerModel(f"tiny/{case}", hf_model=model, tokenizer=tiny_tokenizer())
    points = {(point, None): site for point, site in OUTSIDE.items()}
    for layer in range(sites.n_layers):
        points |= {(point, layer): f"blocks.{layer}.{name}" for point, name in INSIDE.items()}
    points = {
        point: site for point, site in points.items() if site in at and point[0] not in ENGINE_OTHERWISE.get(case, ())
    }
    assert len(points) >= 9 * sites.n_layers
    cache = capture(engine, token_ids(), list(points))
    for point, site in points.items():
        assert gap(cache[point].reshape(at[site].shape), at[site]) <= TOLERANCE, site
