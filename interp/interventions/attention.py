"""Edits of attention rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from interp.errors import UsageError
from interp.interventions.rows import key_set
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
        inside = key_set(self.positions, block, "CutKeys(positions=...)")
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


@dataclass(frozen=True)
class AsItIs:
    """Changes no row. It only has the layers run on the path of a row edit, float32 rows, whatever the dtype."""

    layers: frozenset[int] | None = None
    full_rows: ClassVar[bool] = False

    def rows(self, block: RowBlock) -> Tensor:
        """The rows."""
        return block.rows


def same_path(model: Any) -> list[AsItIs]:
    """What to put beside row edits, and alone into the untouched run they are compared with.

    In bfloat16 or float16 a layer without row edits runs on transformers' fast attention, whose rounding differs from
    that of the edited layers by up to a hundredth of a nat of loss; so every layer runs on one path. In float32 the
    paths agree and nothing is needed.
    """
    hf = getattr(model, "hf", model)
    return [] if all(p.dtype == torch.float32 for p in hf.parameters() if p.is_floating_point()) else [AsItIs()]
