"""What one pass over a block of attention rows is asked for, and what it finds. Without Numba, which costs imports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

OFFSETS = ("previous", "current", "duplicate", "induction")


@dataclass(frozen=True)
class Asked:
    """What to take from a block.

    Attributes:
        received: [batch, row] weight of each query in the sum over queries; None = no sum.
        entropy, row_sum, top: per query.
        sets: float32 [set, batch or 1, key] indicators of key sets; None = none.
        offsets: of `OFFSETS`.
        ids: int64 [batch, position] token ids, for ``duplicate`` and ``induction``.
    """

    received: np.ndarray | None = None
    entropy: bool = False
    row_sum: bool = False
    top: bool = False
    sets: np.ndarray | None = None
    offsets: Sequence[str] = ()
    ids: np.ndarray | None = None


@dataclass
class Folded:
    """What was asked for; the rest stays empty.

    Attributes:
        received: float32 [batch, head, key], weighted sum over the block's queries.
        entropy: float32 [batch, head, row], -sum p ln p in nats.
        row_sum: the same shape.
        top_position: int64, absolute position of the first of the largest; `top_weight` float32.
        sets: float32 [set, batch, head, row], mass on each set.
        offsets: name -> float32 [batch, head, row].
    """

    received: np.ndarray
    entropy: np.ndarray
    row_sum: np.ndarray
    top_position: np.ndarray
    top_weight: np.ndarray
    sets: np.ndarray
    offsets: dict[str, np.ndarray] = field(default_factory=dict)
