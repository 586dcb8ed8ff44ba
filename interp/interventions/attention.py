"""Edits of attention rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

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
    full_rows: ClassVar[bool] = False  # it never puts mass on a key that had none

    def __post_init__(self) -> None:
        if self.layers is not None:
            object.__setattr__(self, "layers", frozenset(self.layers))

    def columns(self, block: RowBlock) -> tuple[Tensor, Tensor]:
        """Columns of the block that are cut in any sequence [column]; in which: bool [batch or 1, column]."""
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
        inside = inside[None] if inside.dim() == 1 else inside
        columns = inside.any(0).nonzero()[:, 0]
        return columns, inside[:, columns]

    def rows(self, block: RowBlock) -> Tensor:
        """The rows without the cut keys."""
        columns, inside = self.columns(block)
        if not len(columns):
            return block.rows
        heads = self.checked_heads(block)
        before = block.rows.sum(-1, keepdim=True)
        taken = block.rows[..., columns]
        cut = inside[:, None, None, :].expand(-1, len(heads), block.rows.shape[2], -1)
        cut = cut & heads[None, :, None, None]
        if self.keep_self:
            cut = cut & (block.key_positions[columns][None, :] != block.query_positions[:, None])
        left = block.rows.clone()
        left[..., columns] = taken.masked_fill(cut, 0.0)
        remaining = left.sum(-1, keepdim=True)
        alone = remaining <= 1e-9
        scale = torch.where(cut.any(-1, keepdim=True) & ~alone, before / remaining.clamp_min(1e-9), 1.0)
        left = left * scale if torch.is_grad_enabled() else left.mul_(scale)
        left[..., columns] = torch.where(alone, taken, left[..., columns])
        return left

    def checked_heads(self, block: RowBlock) -> Tensor:
        """bool [head]: where to cut.

        Raises:
            UsageError: a head the layer does not have.
        """
        n_heads = block.rows.shape[1]
        if self.heads is None:
            return torch.ones(n_heads, dtype=torch.bool, device=block.rows.device)
        if self.heads and max(self.heads) >= n_heads:
            raise UsageError(f"layer {block.layer} has heads 0..{n_heads - 1}, asked for {max(self.heads)}")
        chosen = torch.zeros(n_heads, dtype=torch.bool, device=block.rows.device)
        chosen[list(self.heads)] = True
        return chosen
