"""Several statistics of one block taken in a single pass over it, where that is faster: on a CPU, from two on.

An accumulator that can share says so with ``part(block)``, what it asks of `interp.scoring.block_fold`, and gets it by
``take(block, folded, sets)``. Any other, and everything on a GPU, folds the block by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from interp.scoring.asked import Asked, Folded
from interp.tracing.blocks import RowBlock
from interp.tracing.statistics.base import Accumulator

LEAST = 1 << 14
"""Numbers in a block from which on sharing pays; below, starting the threads costs more than the pass."""


@runtime_checkable
class Shares(Protocol):
    """What an accumulator has that can share a pass."""

    def part(self, block: RowBlock) -> Asked | None:
        """What it needs of this block; None = it folds this one by itself."""
        ...

    def take(self, block: RowBlock, folded: Folded, sets: slice) -> None:
        """Take in what was found; `sets` are its own of ``folded.sets``."""
        ...


def fold_all(block: RowBlock, accumulators: Sequence[Accumulator]) -> None:
    """Hand a block to every accumulator."""
    shared, alone = together(block, accumulators)
    for one in alone:
        one.fold(block)
    if shared:
        from interp.scoring.block_fold import block_fold

        parts = [part for _, part in shared]
        folded = block_fold(block.rows.numpy(), block.query_start, block.key_start, joined(parts))
        first = 0
        for one, part in shared:
            count = 0 if part.sets is None else len(part.sets)
            one.take(block, folded, slice(first, first + count))
            first += count


def together(
    block: RowBlock, accumulators: Sequence[Accumulator]
) -> tuple[list[tuple[Any, Asked]], Sequence[Accumulator]]:
    """Those that share a pass, with what they ask; and those that do not."""
    rows = block.rows
    if rows.device.type != "cpu" or len(accumulators) < 2 or rows.numel() < LEAST or not rows.is_contiguous():
        return [], accumulators
    shared: list[tuple[Any, Asked]] = []
    alone: list[Accumulator] = []
    for one in accumulators:
        part = one.part(block) if isinstance(one, Shares) else None
        summed = part is not None and part.received is not None  # a pass makes one weighted sum
        if part is None or (summed and any(other.received is not None for _, other in shared)):
            alone.append(one)
        else:
            shared.append((one, part))
    return (shared, alone) if len(shared) > 1 else ([], accumulators)


def joined(parts: Sequence[Asked]) -> Asked:
    """Everything that is asked."""
    sets = [part.sets for part in parts if part.sets is not None]
    batch = max((one.shape[1] for one in sets), default=1)
    wide = [np.broadcast_to(one, (len(one), batch, one.shape[2])) for one in sets]
    return Asked(
        received=next((part.received for part in parts if part.received is not None), None),
        entropy=any(part.entropy for part in parts),
        row_sum=any(part.row_sum for part in parts),
        top=any(part.top for part in parts),
        sets=np.concatenate(wide) if wide else None,
        offsets=tuple(dict.fromkeys(kind for part in parts for kind in part.offsets)),
        ids=next((part.ids for part in parts if part.ids is not None), None),
    )
