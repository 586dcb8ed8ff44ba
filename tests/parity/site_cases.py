"""Models for the site tests: every architecture of `tests.tiny`, and the structural variants some of them come in."""

from __future__ import annotations

import functools
from typing import Any

import torch
from transformers import PreTrainedModel

from interp.models.sites import SiteMap
from interp.tracing.tracer import trace
from tests.tiny import ARCHS, tiny

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon-grouped": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 2}),
    "falcon-alibi": ("falcon", {"alibi": True, "multi_query": False, "bias": True}),
    "falcon-sequential": ("falcon", {"parallel_attn": False}),
    "gpt_neox-sequential": ("gpt_neox", {"use_parallel_residual": False}),
    "stablelm-parallel": ("stablelm", {"use_parallel_residual": True}),
    "stablelm-qk-norm": ("stablelm", {"qk_layernorm": True}),
    "phi-qk-norm": ("phi", {"qk_layernorm": True}),
    "opt-norm-after": ("opt", {"do_layer_norm_before": False}),
    "opt-narrow": ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 16}),  # as OPT-350m
    "bloom-residual-from-norm": ("bloom", {"apply_residual_connection_post_layernorm": True}),
    "deepseek_v3-full-queries": ("deepseek_v3", {"q_lora_rank": None}),
}
CASES: tuple[str, ...] = (*ARCHS, *VARIANTS)
BATCH, LENGTH = 2, 20
TOLERANCE = 1e-5


def build(case: str) -> PreTrainedModel:
    """The tiny model of a case."""
    arch, overrides = VARIANTS.get(case, (case, {}))
    return tiny(arch, **overrides)


@functools.cache
def seen(case: str) -> tuple[PreTrainedModel, SiteMap, dict[str, torch.Tensor], torch.Tensor]:
    """(model, sites, values, logits) of a case, made once; for tests that change nothing."""
    model = build(case)
    return model, *read_all(model)


def token_ids() -> torch.Tensor:
    """[2, 20] valid ids, no padding; longer than the sliding windows."""
    return torch.randint(3, 128, (BATCH, LENGTH), generator=torch.Generator().manual_seed(7))


def read_all(model: PreTrainedModel) -> tuple[SiteMap, dict[str, torch.Tensor], torch.Tensor]:
    """(sites, value of every site, logits) of one traced forward."""
    sites = SiteMap(model)
    with trace(model, read=sites.names()) as t:
        logits = t.run(token_ids()).logits
        return sites, {site: t[site] for site in sites.names()}, logits


def eager_patterns(model: PreTrainedModel) -> tuple[torch.Tensor, ...]:
    """The model's own attention patterns, [batch, head, query, key] a layer. Leaves the model eager."""
    model.config._attn_implementation = "eager"  # some families refuse `set_attn_implementation`
    return model(token_ids(), output_attentions=True, use_cache=False).attentions


def gap(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the larger of 1 and the expected values' scale."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1.0)).item()
