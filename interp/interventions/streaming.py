"""The StreamingLLM what-if: every query sees the first keys and a recent window, nothing between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from interp.errors import UsageError
from interp.interventions.rows import NO_MASS, Pairs, checked_pairs, heads_in, layers_of, with_heads
from interp.tracing.blocks import RowBlock


@dataclass(frozen=True)
class StreamingWindow:
    """Keep the first `first` keys and the `recent` latest, the query's own included (Xiao et al. 2023, arXiv
    2309.17453).

    What remains of a row is scaled up to its former sum; where nothing remains, the sum goes to the query's own key.
    Positions stay what they are: StreamingLLM counts them anew
    inside its cache, this edit only takes the keys between away. Padding does not count among the first keys.

    Attributes:
        first: keys kept at the start of each sequence.
        recent: latest keys kept, at least 1.
        heads: (layer, head) pairs; None = all heads of all layers.
    """

    first: int = 4
    recent: int = 256
    heads: Pairs | None = None
    full_rows: ClassVar[bool] = False  # a query always sees its own key

    def __init__(self, first: int = 4, recent: int = 256, heads: Iterable[tuple[int, int]] | None = None):
        if first < 0 or recent < 1:
            raise UsageError(f"StreamingWindow(first={first}, recent={recent}): first is 0 or more, recent 1 or more")
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "recent", recent)
        object.__setattr__(self, "heads", checked_pairs(heads))

    @property
    def layers(self) -> frozenset[int] | None:
        """Layers it changes; None = all."""
        return layers_of(self.heads)

    def rows(self, block: RowBlock) -> Tensor:
        """The rows with the keys between taken away; row by row, so prefill and decoding agree."""
        chosen = heads_in(block, self.heads)
        keys, queries = block.key_positions, block.query_positions
        valid = block.frame.valid_on(block.rows.device)
        rank = keys[None] if valid is None else (valid.long().cumsum(-1) - 1)[:, keys]
        kept = (rank < self.first)[:, None, None] | (queries[:, None] - keys[None] < self.recent)
        rows = block.rows[:, chosen]
        left = rows * kept
        remaining = left.sum(-1, keepdim=True)
        scaled = left * (rows.sum(-1, keepdim=True) / remaining.clamp_min(NO_MASS))
        own = rows.sum(-1, keepdim=True) * (queries[:, None] == keys[None])
        return with_heads(block.rows, chosen, torch.where(remaining >= NO_MASS, scaled, own))
