"""The edit that replaces whole sets of heads, a set a row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Swap:
    """In row r, the heads `out` [row, head] of one layer put out `other` [pair, position, head, d_head] of pair
    `pairs[r]` (None: zeros), at the positions `where` [pair, position] (None: all)."""

    layer: int
    out: Tensor
    pairs: Tensor
    other: Tensor | None
    where: Tensor | None

    @property
    def sites(self) -> tuple[str, ...]:
        return (f"blocks.{self.layer}.attn.hook_z",)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """z with those heads replaced."""
        mask = self.out[:, None, :]
        if self.where is not None:
            mask = mask & self.where[self.pairs][:, :, None]
        mask = mask[..., None].to(value.device)
        if self.other is None:
            return value.masked_fill(mask, 0)
        return torch.where(mask, self.other[self.pairs.to(self.other.device)].to(value), value)
