"""Backups: heads that add more to the answer when the movers are gone (Wang et al. 2022, arXiv 2211.00593, 3.4).

1. The movers' outputs at the last position are replaced by their mean over the prompts (or by zero, or by the corrupted
   twin's), and all that follows is computed anew.
2. What each head gains is its direct logit attribution then less that before, both at the scale of the untouched run's
   final norm: a smaller residual stream is no larger head.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.circuits.config import CircuitConfig, Head
from interp.circuits.dla import NORMED, direct_logit_attribution, through_norm
from interp.circuits.pairs import Batch, batches, pair_of
from interp.circuits.states import sides_of, states_of
from interp.errors import UsageError
from interp.tracing.budget import BUDGET
from interp.tracing.calls import skip_logits
from interp.tracing.tracer import trace
from probes.base import Prompt


def gained(model: Any, prompts: Sequence[Prompt], movers: Collection[Head], config: CircuitConfig) -> np.ndarray:
    """What each head's direct logit attribution gains when the movers are taken away at the last position.

    Args:
        model: a loaded `Model`.
        prompts: with pairs; ``config.knockout`` says what stands for a mover: its ``mean`` over these, ``zero``, or the
            corrupted twin's output (``resample``).
        movers: heads (layer, head).

    Returns:
        float32 [layer, head, prompt], in logits; NaN in a layer without attention. A mover's own entry is negative:
        what it loses.

    Raises:
        UsageError: no movers, a head that the model does not have, or a model whose heads' shares in the logits cannot
            be told.
        SiteError: a norm is no rescaling.
    """
    by_layer = _by_layer(model, movers)
    most = max(1, BUDGET.get().side_by_side(config.tokens) // _longest(prompts))
    groups = list(batches([pair_of(prompt) for prompt in prompts], most))
    means = _means(model, [batch for _, batch in groups], by_layer) if config.knockout == "mean" else {}
    found = np.full((model.n_layers, model.n_heads, len(prompts)), np.nan, dtype=np.float32)
    for index, batch in groups:
        sides = sides_of(model, batch)
        edits = []
        for layer, heads in by_layer.items():
            own = sides.clean.z[layer][:, -1, heads]
            stand_in = {"zero": torch.zeros_like(own), "resample": sides.corrupt.z[layer][:, -1, heads]}
            edits.append(PutLast(layer, tuple(heads), means.get(layer, stand_in.get(config.knockout, own))))
        with trace(model, edit=edits):
            without = states_of(model, batch.clean, sides.metric, resid=True)
        after = direct_logit_attribution(model, replace(sides, clean=without)).heads
        ratio = scale_ratio(model, sides.clean.final[:, -1], without.final[:, -1]).cpu().numpy()
        found[..., index] = after * ratio - direct_logit_attribution(model, sides).heads
    return found


@torch.no_grad()
def scale_ratio(model: Any, one: Tensor, other: Tensor) -> Tensor:
    """By how much more the final norm multiplies in residual streams `one` [pair, d_model] than in `other`, [pair].

    Raises:
        SiteError: the norm is no rescaling.
    """
    if NORMED not in model.sites.names():
        return torch.ones(len(one))
    norm = model.sites.binding(NORMED).module
    signs = torch.ones_like(one, dtype=torch.float32)
    signs[:, 1::2] = -1
    first, second = (through_norm(norm, stream, norm(stream[:, None])[:, 0], signs)[0] for stream in (one, other))
    return (first * second).sum(-1) / second.square().sum(-1)


@dataclass(frozen=True)
class PutLast:
    """Heads of one layer put out `z` at the last position: [pair, head, d_head], or [head, d_head] for all pairs."""

    layer: int
    heads: tuple[int, ...]
    z: Tensor

    @property
    def sites(self) -> tuple[str, ...]:
        return (f"blocks.{self.layer}.attn.hook_z",)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """z with those heads' own there."""
        out = value.clone()
        out[:, -1, list(self.heads)] = self.z.to(value)
        return out


def _by_layer(model: Any, movers: Collection[Head]) -> Mapping[int, list[int]]:
    if not movers:
        raise UsageError("no movers to take away: nothing can back them up")
    found: dict[int, list[int]] = {}
    for layer, head in sorted(set(movers)):
        if not 0 <= layer < model.n_layers or not 0 <= head < model.sites.n_heads(layer):
            heads = f"heads 0..{model.sites.n_heads(layer) - 1}" if 0 <= layer < model.n_layers else "not that layer"
            raise UsageError(f"mover {layer}.{head}: {model.name} has {model.n_layers} layers, and there {heads}")
        found.setdefault(layer, []).append(head)
    return found


def _longest(prompts: Sequence[Prompt]) -> int:
    return max(len(prompt) for prompt in prompts)


def _means(model: Any, groups: Sequence[Batch], by_layer: Mapping[int, list[int]]) -> dict[int, Tensor]:
    """Layer -> mean over all prompts of its movers' output at the last position [head, d_head]."""
    kept: dict[int, list[Tensor]] = {layer: [] for layer in by_layer}
    for batch in groups:
        with trace(model, [f"blocks.{layer}.attn.hook_z" for layer in by_layer]) as t:
            t.run(batch.clean, **skip_logits(model))
            for layer, heads in by_layer.items():
                kept[layer].append(t[f"blocks.{layer}.attn.hook_z"][:, -1, heads].float())
    return {layer: torch.cat(parts).mean(0) for layer, parts in kept.items()}
