"""Direct logit attribution: what each head and MLP itself writes into the logit difference.

The residual stream at the last position is a sum: what entered the first block, what every head and MLP added, biases
(see `interp.models.writes`). The final norm, at the scale that it had in the clean run, is linear, and so is the
unembedding; so each term has a share of its own, and the shares add up to the logit difference (Wang et al. 2022, arXiv
2211.00593). A post-norm is linear, too, at the scale that it had.

Logits are taken before any cap or factor that the model applies to them (Gemma 2's soft cap, Cohere's scale): behind a
cap there is no sum. What a term does through the scales of norms is not in its share; `direct_effects` has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interp.circuits.edits import SetRows, SetStates
from interp.circuits.effects import Effects, Found
from interp.circuits.states import Sides
from interp.errors import SiteError, UsageError
from interp.models.device import in_memory
from interp.models.writes import TOLERANCE, factor, not_a_sum
from interp.tracing.calls import skip_logits
from interp.tracing.tracer import trace

OUT, ADDED, Z, MLP_ADDED = "attn.hook_out", "hook_attn_out", "attn.hook_z", "hook_mlp_out"
NORMED = "ln_final.hook_normalized"


@dataclass(frozen=True)
class LogitParts:
    """The logit difference of the clean run as a sum.

    Attributes:
        effects: of heads [layer, head, pair] and MLPs [layer, pair], in logits.
        start: of what enters the first block, [pair].
        biases: of the attention output projections, [pair].
        constant: of the final norm's and the unembedding's biases, [pair].
        total: the logit difference before any cap or factor, [pair].
    """

    effects: Effects
    start: Tensor
    biases: Tensor
    constant: Tensor
    total: Tensor


def direct_logit_attribution(model: Any, sides: Sides) -> Effects:
    """Share of each head [layer, head, pair] and MLP [layer, pair] in the logit difference of the clean run, in logits.

    Raises:
        UsageError: the model's residual stream is no such sum, or its unembedding is packed by a quantisation.
        SiteError: a norm is no rescaling.
    """
    return logit_parts(model, sides).effects


def attribution_or_nan(model: Any, sides: Sides) -> Effects:
    """`direct_logit_attribution`; NaN throughout for a model whose logits are no such sum."""
    try:
        return direct_logit_attribution(model, sides)
    except (UsageError, SiteError):
        shape = (model.n_layers, model.n_heads, len(sides.batch.clean))
        return Effects(np.full(shape, np.nan, np.float32), np.full((shape[0], shape[2]), np.nan, np.float32))


@torch.no_grad()
def logit_parts(model: Any, sides: Sides) -> LogitParts:
    """See `LogitParts`; raises as `direct_logit_attribution`. One run of one token a pair."""
    why = not_a_sum(model.sites)
    if why is not None:
        raise UsageError(f"direct logit attribution: {why}")
    at = _last_tokens(model, sides)
    direction, offset = _unembedded(model, sides)
    seen, constant = direction, offset
    if NORMED in at:
        norm = model.sites.binding(NORMED).module
        final = at[f"blocks.{model.n_layers - 1}.hook_resid_post"]
        seen, bias = through_norm(norm, final, at[NORMED], direction)
        constant = offset + direction @ bias
    found = Found(model, len(sides.batch))
    biases = torch.zeros(len(sides.batch))
    for layer in sides.clean.z:
        out, added, z = (at[f"blocks.{layer}.{name}"] for name in (OUT, ADDED, Z))
        weight, bias = model.sites.output_weight(layer)
        met = factor(model.sites, layer, (OUT, ADDED), out, added) * seen  # as the output projection meets it
        heads = torch.einsum("phd,hdm,pm->hp", z.float(), weight.float(), met)
        found.heads[layer, : len(heads)] = heads.cpu().numpy()
        if bias is not None:
            biases += (met @ bias.float()).cpu()
    for layer in sides.clean.mlp:
        found.mlps[layer] = (at[f"blocks.{layer}.{MLP_ADDED}"].float() * seen).sum(-1).cpu().numpy()
    start = (at["blocks.0.hook_resid_pre"].float() * seen).sum(-1).cpu()
    before = NORMED if NORMED in at else f"blocks.{model.n_layers - 1}.hook_resid_post"
    total = ((at[before].float() * direction).sum(-1) + offset).cpu()
    return LogitParts(found.effects(), start, biases, constant.cpu(), total)


def _last_tokens(model: Any, sides: Sides) -> dict[str, Tensor]:
    """Sites of the clean run at the last position, [pair, ...]: with z held no other token is needed."""
    names, last = set(model.sites.names()), slice(-1, None)
    asked = [f"blocks.{layer}.{name}" for layer in sides.clean.z for name in (OUT, ADDED, Z)]
    asked += [f"blocks.{layer}.{MLP_ADDED}" for layer in sides.clean.mlp]
    asked += ["blocks.0.hook_resid_pre", f"blocks.{model.n_layers - 1}.hook_resid_post"]
    asked += [NORMED] if NORMED in names else []
    edits = [
        SetStates(0, sides.clean.resid[0][:, last]),
        SetRows(Z, {layer: z[:, last] for layer, z in sides.clean.z.items()}),
    ]
    with sides.metric.on(model), trace(model, read=asked, edit=edits) as t:
        t.run(sides.batch.clean[:, last], **skip_logits(model))
        return {site: t[site][:, -1] for site in asked}


def _unembedded(model: Any, sides: Sides) -> tuple[Tensor, Tensor]:
    """(direction [pair, d_model] in what the unembedding reads, constant [pair]) of the logit difference."""
    module, batch = model.sites.binding("unembed.hook_out").module, sides.batch
    plain = isinstance(getattr(module, "weight", None), Tensor)
    weight = in_memory(module, "weight") if plain else None
    bias = None if getattr(module, "bias", None) is None else in_memory(module, "bias")
    if not isinstance(weight, Tensor) or not weight.is_floating_point() or weight.shape[-1] != model.d_model:
        raise UsageError(
            f"direct logit attribution: the unembedding ({type(module).__name__}) does not read the residual stream "
            "with one plain matrix; load the model without quantisation"
        )

    def difference(values: Tensor) -> Tensor:
        answer, wrong = (values[ids.to(values.device)].float() for ids in (batch.answer, batch.wrong))
        weights = batch.weight.to(values.device).reshape(*batch.weight.shape, *[1] * (values.dim() - 1))
        return answer - (wrong * weights).sum(1)

    direction = difference(weight)
    return direction, direction.new_zeros(len(batch)) if bias is None else difference(bias)


def through_norm(norm: nn.Module, entering: Tensor, leaving: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """A direction behind a norm as what enters the norm meets it, at the scale that the norm had on each token.

    Args:
        entering, leaving: the norm's input and output, [token, d].
        direction: [token, d].

    Returns:
        ([token, d], bias [d]): ``direction . leaving = result . entering + direction . bias``.

    Raises:
        SiteError: the norm is no rescaling (with or without taking the mean off).
    """
    d = entering.shape[-1]
    alternating = torch.ones(1, 1, d, dtype=entering.dtype, device=entering.device)
    alternating[..., 1::2] = -1
    up, down = (norm(sign * alternating).reshape(-1).float() for sign in (1, -1))
    bias = (up + down) / 2
    centred = alternating.reshape(-1).float()
    shifted = norm(alternating + 3).reshape(-1).float()  # as without the shift, if the mean is taken off
    takes_mean = bool(torch.allclose(shifted, up, atol=1e-2, rtol=1e-2))
    if takes_mean:
        centred = centred - centred.mean()
    weights = (up - down) / 2 / centred
    x = entering.float()
    x = x - x.mean(-1, keepdim=True) if takes_mean else x
    whole, result = weights * x, leaving.float() - bias
    scale = (result * whole).sum(-1, keepdim=True) / whole.square().sum(-1, keepdim=True).clamp(min=1e-30)
    left, allowed = (result - scale * whole).norm(dim=-1), max(TOLERANCE, 8 * torch.finfo(leaving.dtype).eps)
    if bool((left > allowed * result.norm(dim=-1)).any()):
        raise SiteError(f"the final norm ({type(norm).__name__}) is not a rescaling, so its input has no linear shares")
    met = direction * weights * scale
    return met - met.mean(-1, keepdim=True) if takes_mean else met, bias
