"""Sink tokens by their dimensions: phi of Kang et al. 2025 (VAR, arXiv 2503.03321), and heads that look at a key set.

phi(x) = max over the sink dimensions D of |x_d| / rms(x), on the input of a block. A token is a sink there when phi is
at least 20. phi cannot exceed the square root of the width (and of several dimensions together each is less), so a
model much narrower than a few thousand may need another bar: 20 is 83 % of all there can be in a width of 576. Where
ordinary tokens stand out in the same dimension (Gemma 3 270M), phi cannot tell them from sinks; look before you use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import UsageError
from interp.tracing.calls import skip_logits
from interp.tracing.tracer import trace

THRESHOLD = 20.0
FIRST_LAYER = 2


def phi(states: Float[Tensor, "*place d"], dims: Sequence[int]) -> Float[Tensor, "*place"]:
    """Largest |x_d| / rms(x) over `dims`, float32.

    Raises:
        UsageError: no dimensions, or one that the states do not have.
    """
    width = states.shape[-1]
    if not dims or not all(0 <= dim < width for dim in dims):
        raise UsageError(f"dims={list(dims)}: expected some of the dimensions 0..{width - 1}")
    x = states.float()
    return x[..., list(dims)].abs().amax(-1) / x.square().mean(-1).sqrt().clamp_min(1e-12)


def block_inputs(model: Any, token_ids: Any, attention_mask: Any = None) -> Float[Tensor, "layer batch position d"]:
    """The input of every block, float32 on the CPU."""
    n_layers = getattr(model, "n_layers", None) or model.config.num_hidden_layers
    sites = [f"blocks.{layer}.hook_resid_pre" for layer in range(n_layers)]
    with trace(model, read=sites) as t:
        t.run(token_ids, attention_mask, **skip_logits(model))
        return torch.stack([t[site].float().cpu() for site in sites])


@dataclass(frozen=True)
class SinkDimensions:
    """The dimensions that stand out at the anchor.

    Attributes:
        dims: dimension numbers, the most outstanding first.
        ratio: |x_d| / rms(x) of each, mean over prompts of its largest over layers.
        limit: square root of the width, which no ratio can exceed.
    """

    dims: tuple[int, ...]
    ratio: tuple[float, ...]
    limit: float


def sink_dimensions(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    anchor: int = 0,
    threshold: float = THRESHOLD,
    first_layer: int = FIRST_LAYER,
) -> SinkDimensions:
    """Dimensions d with |x_d| / rms(x) >= `threshold` at the anchor, at the input of some block from `first_layer` on,
    in more than half of the prompts. One pass a prompt.

    Args:
        model: a loaded `Model`, or a Hugging Face causal LM.
        prompts: token ids of each.
        anchor: position of the primary sink.

    Raises:
        UsageError: no prompts, or one without that position; a model without a layer `first_layer`.
    """
    if not prompts or any(len(ids) <= anchor for ids in prompts):
        raise UsageError(f"sink_dimensions needs prompts with a token at position {anchor}")
    ratios = []
    for ids in prompts:
        inputs = block_inputs(model, list(ids))
        if len(inputs) <= first_layer:
            raise UsageError(f"first_layer={first_layer}: the model has layers 0..{len(inputs) - 1}")
        x = inputs[first_layer:, 0, anchor]
        ratios.append((x.abs() / x.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-12)).amax(0))
    stacked = torch.stack(ratios)
    often = (stacked >= threshold).float().mean(0) > 0.5
    mean = stacked.mean(0)
    dims = [int(d) for d in mean.argsort(descending=True) if often[d]]
    return SinkDimensions(tuple(dims), tuple(float(mean[d]) for d in dims), float(stacked.shape[1]) ** 0.5)


def phi_sinks(
    model: Any,
    token_ids: Any,
    dims: Sequence[int],
    attention_mask: Any = None,
    *,
    threshold: float = THRESHOLD,
    first_layer: int = FIRST_LAYER,
) -> Bool[Tensor, "layer batch position"]:
    """Which tokens are sinks at the input of each block; none before `first_layer`, and padding never is."""
    values = phi(block_inputs(model, token_ids, attention_mask), dims)
    found = values >= threshold
    found[:first_layer] = False
    if attention_mask is not None:
        mask = torch.as_tensor(attention_mask).bool().cpu()
        found &= mask if mask.dim() == 2 else mask[None]
    return found


def looks_at(
    masses: Mapping[str, Float[Tensor, "*place"]], *, rho: float = 0.8, least: float = 0.2
) -> Bool[Tensor, "*place"]:
    """Where a head looks at a key set: its mass there is at least `least`, of which at least `rho` on keys that are no
    sinks (the criterion of `interp.interventions.redistribute.RedistributeKeys`).

    Args:
        masses: ``set`` and ``non_sinks``, as ``MassOn({"set": keys, "non_sinks": the keys that are no sinks})`` gives.

    Raises:
        UsageError: one of the two is missing.
    """
    if not {"set", "non_sinks"} <= set(masses):
        raise UsageError(f"masses needs the sets 'set' and 'non_sinks', got {sorted(masses)}")
    return (masses["set"] >= least) & (masses["non_sinks"] >= rho * masses["set"])
