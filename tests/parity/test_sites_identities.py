"""Arithmetic that the sites of every architecture must satisfy, in float32 at 1e-5 of the values' scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from interp.models.sites import SiteMap
from interp.tracing.tracer import trace
from tests.parity.site_cases import CASES, TOLERANCE, build, eager_patterns, gap, read_all, seen, token_ids
from tests.tiny import BYPASSING

NO_RESID_MID = {
    *("phi", "phi-qk-norm", "gpt_neox", "gptj", "codegen", "cohere", "stablelm-parallel"),
    *("falcon", "falcon-grouped", "falcon-alibi"),
}


@dataclass(frozen=True)
class ChangeAt:
    """An edit: `change` at the given sites."""

    sites: tuple[str, ...]
    change: Callable[[torch.Tensor], torch.Tensor]

    def apply(self, value: torch.Tensor, site: str, layer: int | None) -> torch.Tensor:
        return self.change(value)


@pytest.mark.parametrize("case", CASES)
def test_residual_stream_adds_up(case: str) -> None:
    model, sites, at, logits = seen(case)
    structure = sites.structure
    assert gap(logits, model(token_ids(), use_cache=False).logits) <= TOLERANCE
    start = at["hook_embed"] + at["hook_pos_embed"] if "hook_pos_embed" in at else at["hook_embed"]
    assert gap(start.expand_as(at["blocks.0.hook_resid_pre"]), at["blocks.0.hook_resid_pre"]) <= TOLERANCE
    for layer in range(sites.n_layers):
        here = {
            name: at.get(f"blocks.{layer}.hook_{name}")
            for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
        }
        before, attn, mid, mlp, after = here.values()
        assert before is not None and attn is not None and mlp is not None and after is not None
        assert (mid is None) == (case in NO_RESID_MID)
        parts = sites.block(layer)
        if structure.norm_after_add:
            assert mid is not None
            assert gap(parts.self_attn_layer_norm(before + attn), mid) <= TOLERANCE
            assert gap(parts.final_layer_norm(mid + mlp), after) <= TOLERANCE
        elif structure.residual_from_norm:
            assert mid is not None
            assert gap(parts.input_layernorm(before) + attn, mid) <= TOLERANCE
            assert gap(parts.post_attention_layernorm(mid) + mlp, after) <= TOLERANCE
        else:
            assert gap(before + attn + mlp, after) <= TOLERANCE
            if mid is not None:
                assert gap(before + attn, mid) <= TOLERANCE
        if layer + 1 < sites.n_layers:
            assert gap(after, at[f"blocks.{layer + 1}.hook_resid_pre"]) == 0.0


@pytest.mark.parametrize("case", CASES)
def test_pattern_times_values_is_z_and_heads_add_up(case: str) -> None:
    model = build(case)
    patterns = eager_patterns(model)
    sites, at, _ = read_all(model)
    assert len(patterns) == sites.n_layers
    for layer, pattern in enumerate(patterns):
        v, z = at[f"blocks.{layer}.attn.hook_v"], at[f"blocks.{layer}.attn.hook_z"]
        assert pattern.shape[1] == z.shape[2] == sites.n_heads(layer)
        assert v.shape[2] == sites.n_kv_heads(layer)
        values = v.repeat_interleave(z.shape[2] // v.shape[2], dim=2)
        assert gap(torch.einsum("bhqk,bkhd->bqhd", pattern, values), z) <= TOLERANCE
        weight, bias = sites.output_weight(layer)
        heads = torch.einsum("bqhd,hdm->bqhm", z, weight)
        total = heads.sum(2) + (0 if bias is None else bias)
        assert gap(total, at[f"blocks.{layer}.attn.hook_out"]) <= TOLERANCE
        if not sites.structure.post_norm:
            scaled = total * sites.structure.residual_scale
            assert gap(scaled, at[f"blocks.{layer}.hook_attn_out"]) <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_final_norm_and_unembedding(case: str) -> None:
    model, sites, at, _ = seen(case)
    last = at[f"blocks.{sites.n_layers - 1}.hook_resid_post"]
    if sites.structure.norm_after_add:
        assert "ln_final.hook_normalized" not in at
        normed = last
    else:
        normed = sites.binding("ln_final.hook_normalized").module(last)
        assert gap(normed, at["ln_final.hook_normalized"]) <= TOLERANCE
    if case == "opt-narrow":
        normed = model.model.decoder.project_out(normed)
    unembed = model.get_output_embeddings()
    assert gap(unembed(normed), at["unembed.hook_out"]) <= TOLERANCE


def activation(sites: SiteMap, layer: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """The MLP's activation function, found by the names modeling files give it."""
    owner = sites.binding(f"blocks.{layer}.mlp.hook_in").module
    names = ("act_fn", "activation_fn", "act", "gelu_impl")
    for module in (owner, sites.block(layer)):
        found = next((getattr(module, name) for name in names if hasattr(module, name)), None)
        if found is not None:
            return found
    raise AssertionError(f"no activation function on {type(owner).__name__}")


@pytest.mark.parametrize("case", CASES)
def test_mlp_internals(case: str) -> None:
    _, sites, at, _ = seen(case)
    dense = [layer for layer in range(sites.n_layers) if f"blocks.{layer}.mlp.hook_post" in at]
    experts_only = {"mixtral": [], "gpt_oss": [], "qwen3_moe": [0], "deepseek_v3": [0], "deepseek_v3-full-queries": [0]}
    assert dense == experts_only.get(case, list(range(sites.n_layers)))
    for layer in dense:
        expected = activation(sites, layer)(at[f"blocks.{layer}.mlp.hook_pre"])
        assert (f"blocks.{layer}.mlp.hook_pre_linear" in at) == sites.structure.gated_mlp
        if sites.structure.gated_mlp:
            expected = expected * at[f"blocks.{layer}.mlp.hook_pre_linear"]
        assert gap(expected, at[f"blocks.{layer}.mlp.hook_post"]) <= TOLERANCE
        down = sites.binding(f"blocks.{layer}.mlp.hook_post").module
        assert gap(down(at[f"blocks.{layer}.mlp.hook_post"]), at[f"blocks.{layer}.mlp.hook_out"]) <= TOLERANCE
    for layer in range(sites.n_layers):
        if not sites.structure.post_norm:
            scaled = at[f"blocks.{layer}.mlp.hook_out"] * sites.structure.residual_scale
            assert gap(scaled, at[f"blocks.{layer}.hook_mlp_out"]) <= TOLERANCE


ROTARY = [case for case in CASES if case.split("-")[0] not in {"gpt2", "opt", *BYPASSING}]
UNROTATED = [
    *("gpt2", "opt", "bloom", "gpt_neo", "mpt", "falcon-alibi"),
    *("opt-norm-after", "opt-narrow", "bloom-residual-from-norm"),
]
QK_NORMED = {"qwen3", "qwen3_moe", "gemma3", "olmo2", "olmo3", "cohere", "stablelm-qk-norm", "phi-qk-norm"}


@pytest.mark.parametrize("case", ROTARY)
def test_rotation_at_position_zero_changes_nothing(case: str) -> None:
    """So there `hook_q` (before rotary) equals `hook_rot_q`, unless a norm stands between; keys likewise."""
    _, sites, at, _ = seen(case)
    pairs = [("q", "rot_q")] if sites.structure.latent_kv else [("q", "rot_q"), ("k", "rot_k")]
    for layer in range(sites.n_layers):
        for plain, rotated in pairs:
            first = at[f"blocks.{layer}.attn.hook_{plain}"][:, 0]
            after = at[f"blocks.{layer}.attn.hook_{rotated}"][:, 0]
            if sites.structure.latent_kv:  # DeepSeek reorders the rotated part; the entries are the same
                first, after = first.sort(-1).values, after.sort(-1).values
            assert (gap(first, after) <= TOLERANCE) == (case not in QK_NORMED)


@pytest.mark.parametrize("case", UNROTATED)
def test_queries_and_keys_give_the_pattern(case: str) -> None:
    """Log-pattern is scale * q.k plus at most a term linear in the key's place, gone in second differences."""
    model = build(case)
    patterns = eager_patterns(model)
    _, at, _ = read_all(model)
    for layer, pattern in enumerate(patterns):
        q, k = at[f"blocks.{layer}.attn.hook_q"], at[f"blocks.{layer}.attn.hook_k"]
        scale = 1.0 if case == "gpt_neo" else q.shape[-1] ** -0.5
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * scale
        logs = pattern[:, :, -1, -6:].clamp(min=1e-30).log()
        likely = (pattern[:, :, -1, -6:] > 1e-20).all(-1)
        assert likely.float().mean() > 0.5
        assert gap(logs.diff(n=2)[likely], scores[:, :, -1, -6:].diff(n=2)[likely]) <= 1e-4


@dataclass(frozen=True)
class Probe:
    """An edit that adds a zero to every site, remembered so that its gradient can be asked for."""

    sites: tuple[str, ...]
    zeros: dict[str, torch.Tensor]

    def apply(self, value: torch.Tensor, site: str, layer: int | None) -> torch.Tensor:
        self.zeros[site] = torch.zeros_like(value, requires_grad=True)
        return value + self.zeros[site]


@pytest.mark.parametrize("case", CASES)
def test_writing_a_value_back_changes_nothing_and_every_site_reaches_the_logits(case: str) -> None:
    model, sites, _, _ = seen(case)
    own = model(token_ids(), use_cache=False).logits
    probe = Probe(sites.names(), {})
    with trace(model, edit=[probe], grad=True) as t:
        logits = t.run(token_ids()).logits
        assert gap(logits, own) <= TOLERANCE
        (logits * torch.randn_like(logits)).sum().backward()
    assert set(probe.zeros) == set(probe.sites)
    for site, zero in probe.zeros.items():
        assert zero.grad is not None and zero.grad.abs().max() > 1e-4, site
    assert torch.equal(model(token_ids(), use_cache=False).logits, own)


@pytest.mark.parametrize("case", [case for case in CASES if case not in NO_RESID_MID])
def test_editing_resid_mid_edits_the_stream_and_not_only_the_mlp(case: str) -> None:
    model, sites, at, _ = seen(case)
    site = "blocks.1.hook_resid_mid"
    names = [site, "blocks.1.hook_mlp_out", "blocks.1.hook_resid_post"]
    edit = ChangeAt((site,), lambda value: value * 0.5 + 1.0)
    with trace(model, read=names, edit=[edit]) as t:
        t.run(token_ids())
        mid, mlp, post = (t[name] for name in names)
    assert gap(mid, at[site] * 0.5 + 1.0) <= TOLERANCE
    block = sites.block(1)
    if sites.structure.norm_after_add:
        assert gap(block.final_layer_norm(mid + mlp), post) <= TOLERANCE
    elif sites.structure.residual_from_norm:
        assert gap(block.post_attention_layernorm(mid) + mlp, post) <= TOLERANCE
    else:
        assert gap(mid + mlp, post) <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_zeroing_one_head_takes_away_what_it_wrote(case: str) -> None:
    model, sites, at, _ = seen(case)
    head, layer = 1, 1
    out = f"blocks.{layer}.attn.hook_out"

    def without(value: torch.Tensor) -> torch.Tensor:
        changed = value.clone()
        changed[:, :, head] = 0
        return changed

    with trace(model, read=[out], edit=[ChangeAt((f"blocks.{layer}.attn.hook_z",), without)]) as t:
        t.run(token_ids())
        found = t[out]
    written = at[f"blocks.{layer}.attn.hook_z"][:, :, head] @ sites.output_weight(layer)[0][head]
    assert written.abs().max() > 1e-2
    assert gap(at[out] - written, found) <= TOLERANCE


def test_of_two_sites_on_one_module_the_later_sees_the_edit_of_the_earlier() -> None:
    model = seen("llama")[0]
    later = ["blocks.1.hook_attn_out", "blocks.1.hook_mlp_out"]
    edit = ChangeAt(("blocks.1.attn.hook_out", "blocks.1.mlp.hook_out"), torch.zeros_like)
    with trace(model, read=later, edit=[edit]) as t:
        t.run(token_ids())
        assert all(t[site].abs().max() == 0 for site in later)
