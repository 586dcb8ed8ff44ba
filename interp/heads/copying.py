"""Copying: whether a head, by what it writes, raises the logit of the token it attends to.

The question is that of Olsson et al. 2022, arXiv 2209.11895 (copying is half of what makes an induction head; the other
half is where it attends). The score here is a rank among the tokens of the sequence. A rank needs no scale: the norms
between a head and the logits multiply all logits of a position by one positive number once their weights (and a
LayerNorm's centring) are counted, and a soft cap or a logit factor keeps the order as well. So it is exact on every
family whose blocks only add to the residual stream, and nothing of the vocabulary's size is ever held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import SiteError
from interp.models.device import in_memory
from interp.models.sites import SiteMap
from interp.models.writes import not_a_sum
from interp.tracing.blocks import PassFrame, RowBlock
from interp.tracing.statistics.base import PerQuery


@dataclass(frozen=True)
class TopOrdinary:
    """Each query's most attended key among those at or after position `first`.

    Result: dict of `position` (int64, first of ties; -1 where the query sees none) and `weight`, each
    [layer, batch, head, query].
    """

    first: int = 1
    layers: frozenset[int] | None = None
    name: str = "top_ordinary"

    def accumulator(self, frame: PassFrame) -> PerQuery:
        """See `Statistic`."""

        def top(block: RowBlock) -> dict[str, Tensor]:
            early = block.key_positions < self.first
            weight, index = block.rows.masked_fill(early, -1.0).max(-1)
            position = torch.where(weight < 0, -1, index + block.key_start)
            return {"position": position, "weight": weight.clamp_min(0.0)}

        return PerQuery(self.name, frame, top)


@torch.no_grad()
def copying(
    sites: SiteMap,
    layer: int,
    z: Float[Tensor, "query head d_head"],
    attended: Int[Tensor, "head query"],
    weight: Float[Tensor, "head query"],
    tokens: Sequence[int],
) -> Float[Tensor, " head"]:
    """How far the attended token stands above the others among the logits that each head writes, float32.

    At every query, the head's own addition to the logits of `tokens` is ranked: 1 when the attended token is raised
    most, 0 when half of the others are raised more, -1 when all are. The score is the mean over queries, weighted by
    the attention weight on the attended token, so that a head which mostly rests counts where it does not. A head that
    does not care which token it attends to scores 0.

    Args:
        sites: of the model.
        layer: block index.
        z: ``attn.hook_z`` of the queries.
        attended: index into `tokens` of each head's most attended token; negative = none.
        weight: its attention weight.
        tokens: distinct token ids, at least two: those whose logits are looked at.

    Raises:
        SiteError: what the head adds to the logits cannot be told (see `reading`), or packed weights.
    """
    read = reading(sites, layer, tokens)  # [token, d_model]
    output, _ = sites.output_weight(layer)
    per_head = torch.einsum("hdm,tm->hdt", output.float(), read.to(output.device))
    logits = torch.einsum("qhd,hdt->hqt", z.to(per_head.device).float(), per_head)
    attended, weight = attended.to(logits.device), weight.to(logits.device).float()
    own = logits.gather(-1, attended.clamp_min(0)[..., None])
    below, equal = (logits < own).sum(-1), (logits == own).sum(-1) - 1
    rank = (below + 0.5 * equal) / (len(tokens) - 1)
    weight = torch.where(attended < 0, 0.0, weight)
    return ((2 * rank - 1) * weight).sum(-1).div(weight.sum(-1)).float().cpu()  # no weight at all: NaN


def reading(sites: SiteMap, layer: int, tokens: Sequence[int]) -> Float[Tensor, "token d_model"]:
    """The directions of an attention output projection's result that raise the logits of `tokens`, up to one positive
    factor a position.

    Raises:
        SiteError: the blocks do more than add, or the unembedding is packed or reads another space than the residual.
    """
    why = not_a_sum(sites)
    if why is not None:
        raise SiteError(why)
    unembed: Any = sites.binding("unembed.hook_out").module
    vectors = in_memory(unembed, "weight")
    out, added = (sites.binding(f"blocks.{layer}.{name}") for name in ("attn.hook_out", "hook_attn_out"))
    d_model = int(sites.output_weight(layer)[0].shape[-1])
    if not vectors.is_floating_point() or vectors.ndim != 2 or vectors.shape[1] != d_model:
        raise SiteError(
            f"the unembedding ({type(unembed).__name__}, weight {list(vectors.shape)}) does not read the residual "
            f"stream of {d_model} dimensions directly"
        )
    read = vectors[torch.as_tensor(list(tokens), device=vectors.device)].float()
    if "ln_final.hook_normalized" in sites.names():
        read = through(sites.binding("ln_final.hook_normalized").module, read)
    return read if added.module is out.module else through(added.module, read)


def through(norm: nn.Module, read: Tensor) -> Tensor:
    """Directions [n, d_model] behind a norm, as they are before it: times its weights and, where it centres, centred.

    The norm is asked, not named: on a vector of equal sizes and mixed signs RMSNorm and LayerNorm only multiply by
    their weights, and on a constant one LayerNorm leaves nothing.

    Raises:
        SiteError: the norm does neither.
    """
    like = next(norm.parameters(), read)
    like = read if like.device.type == "meta" else like  # fetched when it runs, wherever its input is
    signs = torch.ones(read.shape[-1], dtype=like.dtype, device=like.device)
    constant = _odd(norm, signs)
    signs = signs.clone()
    signs[1::2] = -1
    mixed = _odd(norm, signs)
    weights, left = (mixed * signs).to(read.device), constant.norm() / mixed.norm().clamp_min(1e-30)
    if left < 1e-2:
        scaled = read * weights
        return scaled - scaled.mean(-1, keepdim=True)
    if (constant.to(read.device) - weights).norm() > 1e-2 * weights.norm():
        raise SiteError(f"{type(norm).__name__} neither rescales nor centres: what passes it cannot be told by parts")
    return read * weights


def _odd(norm: nn.Module, vector: Tensor) -> Tensor:
    """The part of the norm's result that changes sign with its argument (a bias does not), [d_model]."""
    return ((norm(vector[None, None]) - norm(-vector[None, None])) / 2).flatten().float()
