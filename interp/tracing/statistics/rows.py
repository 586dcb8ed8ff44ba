"""What single rows say: entropy, sum, top key; and chosen rows in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interp.errors import TraceError
from interp.scoring.asked import Asked, Folded
from interp.tracing.blocks import PassFrame, RowBlock
from interp.tracing.statistics.base import PerQuery


@dataclass(frozen=True)
class Entropy:
    """Row entropy, -sum p ln p over the keys, in nats. Result: [layer, batch, head, query]."""

    layers: frozenset[int] | None = None
    name: str = "entropy"

    def accumulator(self, frame: PassFrame) -> PerQuery:
        """See `Statistic`."""
        return PerQuery(
            self.name,
            frame,
            lambda block: {"": torch.special.entr(block.rows).sum(-1)},
            lambda block: Asked(entropy=True),
            lambda folded, sets: {"": folded.entropy},
        )


@dataclass(frozen=True)
class RowSum:
    """Sum of each row: 1, or less where a learned sink logit takes its share (gpt-oss).

    Result: [layer, batch, head, query].
    """

    layers: frozenset[int] | None = None
    name: str = "row_sum"

    def accumulator(self, frame: PassFrame) -> PerQuery:
        """See `Statistic`."""
        return PerQuery(
            self.name,
            frame,
            lambda block: {"": block.rows.sum(-1)},
            lambda block: Asked(row_sum=True),
            lambda folded, sets: {"": folded.row_sum},
        )


@dataclass(frozen=True)
class TopKey:
    """Each query's most attended key.

    Result: dict of `position` (int64, first of ties) and `weight`, each [layer, batch, head, query].

    Attributes:
        rest: let a learned sink logit (gpt-oss), which stands beside the keys, compete with them: where it takes more
            than any key, `position` is -1 (no key) and `weight` is the sink's share, 1 less the sum of the row. A query
            that sees nothing is at rest as well.
    """

    layers: frozenset[int] | None = None
    name: str = "top_key"
    rest: bool = False

    def accumulator(self, frame: PassFrame) -> PerQuery:
        """See `Statistic`."""

        def at_rest(position: Tensor, weight: Tensor, total: Tensor) -> dict[str, Tensor]:
            share = 1 - total
            position = torch.where(share > weight, -1, position)
            return {"position": position, "weight": torch.maximum(share, weight)}

        def top(block: RowBlock) -> dict[str, Tensor]:
            weight, index = block.rows.max(-1)
            position = index + block.key_start
            return (
                at_rest(position, weight, block.rows.sum(-1)) if self.rest else {"position": position, "weight": weight}
            )

        def taken(folded: Folded, sets: slice) -> dict[str, np.ndarray]:
            found = {"position": folded.top_position, "weight": folded.top_weight}
            if not self.rest:
                return found
            given = (torch.from_numpy(one) for one in (*found.values(), folded.row_sum))
            return {name: value.numpy() for name, value in at_rest(*given).items()}

        return PerQuery(self.name, frame, top, lambda block: Asked(top=True, row_sum=self.rest), taken)


class KeptRows:
    """Accumulator of `Rows`."""

    def __init__(self, stat: Rows, frame: PassFrame):
        self.stat, self.frame = stat, frame
        self.pieces: dict[tuple[int, int], list[tuple[Tensor, int]]] = {}

    def fold(self, block: RowBlock) -> None:
        positions = block.query_positions
        wanted = slice(None)
        if self.stat.queries is not None:
            wanted = torch.isin(positions, torch.as_tensor(list(self.stat.queries), device=positions.device))
            if not bool(wanted.any()):
                return
        heads = [head for layer, head in self.stat.heads or () if layer == block.layer]
        for head in heads if self.stat.heads is not None else range(block.rows.shape[1]):
            if not 0 <= head < block.rows.shape[1]:
                raise TraceError(f"Rows: layer {block.layer} has heads 0..{block.rows.shape[1] - 1}, asked for {head}")
            rows = block.rows[:, head, wanted].detach().clone().cpu()
            self.pieces.setdefault((block.layer, head), []).append((rows, block.key_start))

    def result(self) -> dict[tuple[int, int], Tensor]:
        length = self.frame.seen
        pad = torch.nn.functional.pad
        return {
            key: torch.cat([pad(rows, (start, length - start - rows.shape[-1])) for rows, start in parts], dim=1)
            for key, parts in self.pieces.items()
        }


@dataclass(frozen=True)
class Rows:
    """Chosen rows in full: the one statistic whose size is the pattern's.

    Result: dict (layer, head) -> [batch, query, key].

    Attributes:
        queries: absolute query positions; None = all.
        heads: (layer, head) pairs; None = every head of `layers`.
    """

    queries: Sequence[int] | None = None
    heads: Sequence[tuple[int, int]] | None = None
    layers: frozenset[int] | None = None
    name: str = "rows"

    def __post_init__(self) -> None:
        if self.heads is not None and self.layers is None:
            object.__setattr__(self, "layers", frozenset(layer for layer, _ in self.heads))

    def accumulator(self, frame: PassFrame) -> KeptRows:
        """See `Statistic`."""
        return KeptRows(self, frame)
