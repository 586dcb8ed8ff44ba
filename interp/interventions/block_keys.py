"""Named heads that cannot see named keys, each layer with heads of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from interp.interventions.ablate import as_pairs
from interp.interventions.rows import NO_MASS, as_keys, heads_in, key_set, layers_of, with_heads
from interp.tracing.blocks import RowBlock


def without_keys(block: RowBlock, rows: Tensor, inside: Tensor, last: Tensor) -> Tensor:
    """Rows [batch, head, row, key] of the queries behind the keys, without them; the rest is scaled up to a row's sum.

    Where there is no rest, a query's own key gets the sum. Queries that do not stand behind all of the keys are left as
    they are: what the keys' own tokens read of each other is not the reading that is blocked.

    Args:
        block: where the rows stand.
        rows: those of any heads of the block.
        inside: bool [batch or 1, key], the keys that are taken away.
        last: int [batch or 1], position of the last of them.
    """
    left = rows.masked_fill(inside[:, None, None, :], 0.0)
    total, rest = rows.sum(-1, keepdim=True), left.sum(-1, keepdim=True)
    own = total * (block.query_positions[:, None] == block.key_positions[None])
    scaled = torch.where(rest >= NO_MASS, left * (total / rest.clamp_min(NO_MASS)), own)
    behind = block.query_positions[None] > last[:, None]
    return torch.where(behind[:, None, :, None], scaled, rows)


def last_key(keys: Any) -> Tensor:
    """Int [batch or 1]: the last position of a key set in each sequence, -1 = none."""
    given = as_keys(keys, "BlockKeys(keys=...)")
    if given.dtype != torch.bool:
        return given.max()[None] if given.numel() else torch.tensor([-1])
    given = given[None] if given.dim() == 1 else given
    return torch.where(given, torch.arange(given.shape[-1], device=given.device), -1).amax(-1)


@dataclass(frozen=True)
class BlockKeys:
    """Take away the attention of (layer, head) pairs to chosen keys, in every query behind the last of these.

    What is left of a row is scaled up to its former sum; where nothing is left, the query's own key gets it.

    Attributes:
        heads: the pairs.
        keys: absolute key positions, or a bool mask [key] or [batch, key].
    """

    heads: tuple[tuple[int, int], ...]
    keys: Any
    full_rows: ClassVar[bool] = False  # a query always sees its own key

    def __init__(self, heads: Iterable[tuple[int, int]], keys: Any):
        object.__setattr__(self, "heads", as_pairs(heads))
        object.__setattr__(self, "keys", keys)

    @property
    def layers(self) -> frozenset[int] | None:
        """Layers it changes."""
        return layers_of(self.heads)

    def rows(self, block: RowBlock) -> Tensor:
        """The rows without the keys."""
        chosen = heads_in(block, self.heads)
        inside = key_set(self.keys, block, "BlockKeys(keys=...)")
        last = last_key(self.keys).to(block.rows.device)
        return with_heads(block.rows, chosen, without_keys(block, block.rows[:, chosen], inside, last))
