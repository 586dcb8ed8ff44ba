"""Mass received per key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp.errors import TraceError
from interp.scoring.asked import Asked, Folded
from interp.tracing.blocks import PassFrame, RowBlock
from interp.tracing.statistics.base import stack_layers


class ReceivedSum:
    """Accumulator of `Received`."""

    def __init__(self, stat: Received, frame: PassFrame):
        self.stat, self.frame = stat, frame
        self.sums: dict[int, Tensor] = {}

    def weights(self, block: RowBlock) -> Tensor:
        """[batch, row] weight of each query of the block; 0 for padding and outside the window."""
        rows = block.rows
        weight = rows.new_ones(rows.shape[0], rows.shape[2])
        if self.stat.window is not None:
            positions, (low, high) = block.query_positions, self.stat.window
            weight = weight * ((positions >= low) & (positions < high))
        if self.stat.weights is not None:
            positions = block.query_positions
            given = torch.as_tensor(self.stat.weights, dtype=weight.dtype, device=weight.device)
            if given.shape[-1] <= int(positions[-1]):
                raise TraceError(
                    f"Received(weights=...) of shape {tuple(given.shape)} does not cover query {int(positions[-1])}"
                )
            weight = weight * given[..., positions]
        if block.query_mask is not None:
            weight = weight * block.query_mask
        return weight

    def fold(self, block: RowBlock) -> None:
        rows = block.rows
        batch, heads, n_rows, n_keys = rows.shape
        if self.stat.window is None and self.stat.weights is None and block.query_mask is None:
            weight = rows.new_ones(batch * heads, 1, n_rows)
        else:
            weight = self.weights(block)[:, None, None].expand(batch, heads, 1, n_rows).flatten(0, 1)
        mass = torch.bmm(weight, rows.flatten(0, 1))
        self.add(block, mass.view(batch, heads, n_keys).detach())

    def part(self, block: RowBlock) -> Asked:
        """See `interp.tracing.one_pass`."""
        return Asked(received=self.weights(block).numpy())

    def take(self, block: RowBlock, folded: Folded, sets: slice) -> None:
        """See `interp.tracing.one_pass`."""
        self.add(block, torch.from_numpy(folded.received))

    def add(self, block: RowBlock, mass: Tensor) -> None:
        """Add a block's mass [batch, head, key] at its keys."""
        total, length = self.sums.get(block.layer), self.frame.seen
        if total is None:
            total = self.sums[block.layer] = mass.new_zeros(*mass.shape[:2], length)
        elif total.shape[-1] < length:
            total = self.sums[block.layer] = torch.nn.functional.pad(total, (0, length - total.shape[-1]))
        # fused kernels give theirs on the CPU
        total.narrow(-1, block.key_start, mass.shape[-1]).add_(mass.to(total.device))

    def result(self) -> Tensor:
        sums = stack_layers(self.sums, self.frame.n_layers, self.stat.name)
        if not self.stat.mean:
            return sums
        counts = self.counts()[None, :, None]
        return torch.where(counts == 0, 0.0, sums / counts)

    def counts(self) -> Tensor:
        """[batch, key] total weight of the queries at and after each key."""
        batch, length = self.frame.batch, self.frame.seen
        frame = PassFrame(1, batch, 0, length, None, self.frame.valid)
        shape = torch.zeros(batch, 1, length - self.frame.start, 1)
        weight = self.weights(RowBlock(0, shape, self.frame.start, 0, frame)).double()
        weight = torch.cat([weight.new_zeros(batch, self.frame.start), weight], dim=-1)
        return weight.flip(-1).cumsum(-1).flip(-1).float()


@dataclass(frozen=True)
class Received:
    """Mean attention a key gets from the queries at and after it: alpha of Gu et al. 2024, arXiv 2410.10781.

    Result: float32 [layer, batch, head, key]; 0 at padded keys and where no counted query follows.

    Attributes:
        window: count only queries at positions [low, high).
        weights: [query] or [batch, query] weight of each query; the mean is then the weighted mean.
        mean: divide by the total weight of the queries at and after the key; False gives the sum.
    """

    window: tuple[int, int] | None = None
    weights: Any = None
    mean: bool = True
    layers: frozenset[int] | None = None
    name: str = "received"

    def accumulator(self, frame: PassFrame) -> ReceivedSum:
        """See `Statistic`."""
        return ReceivedSum(self, frame)
