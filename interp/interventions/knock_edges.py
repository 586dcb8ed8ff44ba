"""Attention from some positions to others, cut in named heads (attention knockout)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from interp.interventions.ablate import as_pairs
from interp.interventions.rows import NO_MASS, as_keys, heads_in, key_set, layers_of, with_heads
from interp.tracing.blocks import RowBlock


@dataclass(frozen=True, eq=False)
class KnockEdges:
    """Take away the attention that (layer, head) pairs pay from query positions to key positions (attention knockout;
    Geva et al. 2023, arXiv 2304.14767). Other queries are left alone.

    Attributes:
        heads: the pairs.
        queries: absolute query positions.
        keys: absolute key positions, or a bool mask [key] or [batch, key].
        renormalise: what is left of a row is scaled up to its former sum, as a mask before the softmax does; a row
            that has nothing left stays as it was. Without it the row keeps what is left, and the head writes less.
    """

    heads: tuple[tuple[int, int], ...]
    queries: Any
    keys: Any
    renormalise: bool = True
    full_rows: ClassVar[bool] = False  # it never puts mass on a key that had none

    def __init__(self, heads: Iterable[tuple[int, int]], queries: Any, keys: Any, renormalise: bool = True):
        object.__setattr__(self, "heads", as_pairs(heads))
        object.__setattr__(self, "queries", as_keys(queries, "KnockEdges(queries=...)"))
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "renormalise", renormalise)
        as_keys(keys, "KnockEdges(keys=...)")

    @property
    def layers(self) -> frozenset[int] | None:
        """Layers concerned."""
        return layers_of(self.heads)

    def rows(self, block: RowBlock) -> Tensor:
        """The rows without those edges."""
        queries = self.queries.to(block.rows.device)
        if queries.dtype == torch.bool:
            queries = queries.nonzero()[:, 0]
        here = torch.isin(block.query_positions, queries)
        chosen = heads_in(block, self.heads)
        if not here.any() or not len(chosen):
            return block.rows
        inside = key_set(self.keys, block, "KnockEdges(keys=...)")
        cut = here[None, None, :, None] & inside[:, None, None, :]
        before = block.rows[:, chosen]
        left = before.masked_fill(cut, 0.0)
        if self.renormalise:
            total, rest = before.sum(-1, keepdim=True), left.sum(-1, keepdim=True)
            scaled = torch.where(rest >= NO_MASS, left * (total / rest.clamp_min(NO_MASS)), before)
            left = torch.where(cut.any(-1, keepdim=True), scaled, before)
        return with_heads(block.rows, chosen, left)
