"""Direct logit attribution: shares add up to the logit difference; a head's is what leaving it out takes away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.circuits.dla import direct_logit_attribution, logit_parts, through_norm
from interp.errors import SiteError, UsageError
from interp.tracing.tracer import trace
from tests.circuit_pairs import random_sides
from tests.tiny import tiny

FAMILIES = (
    "llama",
    "qwen3",
    "gpt2",
    "gemma2",
    "gemma3",
    "gpt_neox",
    "olmo2",
    "phi",
    "granite",
    "cohere",
    "opt",
    "bloom",
)


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_add_up_to_the_logit_difference(family: str) -> None:
    model = interp.load(tiny(family))
    sides = random_sides(model)
    parts = logit_parts(model, sides)
    with trace(model, read=["unembed.hook_out"]) as t:
        t.run(sides.batch.clean)
        logits = t["unembed.hook_out"][:, -1]
    batch = sides.batch
    expected = logits.gather(1, batch.answer[:, None])[:, 0] - (logits.gather(1, batch.wrong) * batch.weight).sum(1)
    torch.testing.assert_close(parts.total, expected, atol=1e-4, rtol=1e-4)
    whole = parts.effects.heads.sum((0, 1)) + parts.effects.mlps.sum(0) + (parts.start + parts.biases).numpy()
    np.testing.assert_allclose(whole + parts.constant.numpy(), expected.numpy(), atol=1e-4, rtol=1e-4)
    assert np.abs(parts.effects.heads).min() > 0


def _without(model: Any, ids: torch.Tensor, layer: int, head: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """What a layer's attention adds at the last position, without one head; and what the final norm reads."""
    inner, seen = model.hf.model, {}

    def drop(module: Any, args: tuple) -> tuple:
        z = args[0].clone().unflatten(-1, (4, -1))
        z[..., head, :] = 0
        return (z.flatten(-2),)

    projection = inner.layers[layer].self_attn.o_proj
    hooks = [] if head is None else [projection.register_forward_pre_hook(drop)]
    hooks.append(projection.register_forward_hook(lambda module, args, out: seen.update(wrote=out[:, -1])))
    hooks.append(inner.norm.register_forward_pre_hook(lambda module, args: seen.update(final=args[0][:, -1])))
    with torch.no_grad():
        model.hf(input_ids=ids)
    for hook in hooks:
        hook.remove()
    return seen["wrote"], seen["final"]


def test_a_heads_share_by_hand() -> None:
    model = interp.load(tiny("llama"))
    sides = random_sides(model)
    batch, norm, rows = sides.batch, model.hf.model.norm, model.hf.lm_head.weight.detach()
    direction = rows[batch.answer] - (rows[batch.wrong] * batch.weight[..., None]).sum(1)
    found = direct_logit_attribution(model, sides)
    for layer, head in ((0, 1), (1, 3), (2, 0)):
        wrote, final = _without(model, batch.clean, layer, None)
        scale = norm.weight.detach() / (final.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
        expected = ((wrote - _without(model, batch.clean, layer, head)[0]) * scale * direction).sum(-1)
        np.testing.assert_allclose(found.heads[layer, head], expected.numpy(), atol=1e-5, rtol=1e-4)


def test_a_residual_that_is_no_sum_is_refused() -> None:
    model = interp.load(tiny("opt", do_layer_norm_before=False), check=False)
    with pytest.raises(UsageError, match="no share of the result belongs to one part"):
        direct_logit_attribution(model, random_sides(model))


def test_a_norm_that_is_no_rescaling_is_refused() -> None:
    states = torch.randn(3, 8)
    with pytest.raises(SiteError, match="not a rescaling"):
        through_norm(torch.nn.Tanh(), states, states.tanh(), torch.randn(3, 8))
