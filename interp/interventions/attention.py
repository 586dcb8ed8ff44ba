"""Edits of attention rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp.errors import UsageError
from interp.tracing.blocks import RowBlock


@dataclass(frozen=True)
class CutKeys:
    """Take away all attention to chosen keys; what is left of each row is scaled up to the row's former sum.

    A row that had no mass elsewhere (the first tokens, or a query that can only see the cut keys) is left as it was.

    Attributes:
        positions: absolute key positions, or a bool mask [key] or [batch, key].
        layers: layers to cut in; None = all.
        heads: heads to cut in, the same in each layer; None = all.
        keep_self: leave a cut key's attention to itself (its own row) as it is.
    """

    positions: Any
    layers: frozenset[int] | None = None
    heads: Sequence[int] | None = None
    keep_self: bool = True

    def __post_init__(self) -> None:
        if self.layers is not None:
            object.__setattr__(self, "layers", frozenset(self.layers))

    def cut(self, block: RowBlock) -> Tensor:
        """[batch or 1, row, key] True where attention is taken away."""
        given = torch.as_tensor(self.positions, device=block.rows.device)
        keys = block.key_positions
        if given.dtype == torch.bool:
            if given.shape[-1] <= int(keys[-1]):
                given = torch.nn.functional.pad(given, (0, int(keys[-1]) + 1 - given.shape[-1]))
            inside = given[..., keys]
        elif given.numel() and given.is_floating_point():
            raise UsageError(f"CutKeys takes positions or a bool mask, got {given.dtype} of shape {tuple(given.shape)}")
        else:
            inside = torch.isin(keys, given.long().flatten())
        inside = inside.expand(1, -1) if inside.dim() == 1 else inside
        cut = inside[:, None, :].expand(-1, block.rows.shape[2], -1)
        if self.keep_self:
            cut = cut & (keys[None, :] != block.query_positions[:, None])
        return cut

    def rows(self, block: RowBlock) -> Tensor:
        """The rows without the cut keys."""
        cut = self.cut(block)[:, None]
        before = block.rows.sum(-1, keepdim=True)
        left = block.rows.masked_fill(cut, 0.0)
        remaining = left.sum(-1, keepdim=True)
        new = torch.where(remaining > 1e-9, left * (before / remaining.clamp_min(1e-9)), block.rows)
        if self.heads is None:
            return new
        heads = torch.zeros(block.rows.shape[1], dtype=torch.bool, device=new.device)
        if self.heads and max(self.heads) >= len(heads):
            raise UsageError(f"layer {block.layer} has heads 0..{len(heads) - 1}, asked for {max(self.heads)}")
        heads[list(self.heads)] = True
        return torch.where(heads[None, :, None, None], new, block.rows)
