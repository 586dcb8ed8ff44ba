"""How much two circuits share, and what random circuits of the same heads a layer would. Pure NumPy.

The random circuits have as many heads in each layer as the real ones, drawn without replacement. How many two of them
share in a layer is then hypergeometric, and in all layers the sum of that: the distribution is computed exactly, so
mean, range and p value need no draws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

Head = tuple[int, int]
LEVEL = 0.95


@dataclass(frozen=True)
class Chance:
    """Heads that two random circuits share: mean, the middle 95 %, and the probability of as many as were found."""

    mean: float
    low: int
    high: int
    p: float


@dataclass(frozen=True)
class Overlap:
    """What two circuits share.

    Attributes:
        both, only_first, only_second: heads (layer, head), in order.
        jaccard: shared / union; None where both circuits are empty.
        of_first, of_second: shared / heads of one circuit; None where that is empty.
        of_larger: shared / heads of the larger circuit: the in-circuit share of Merullo et al. 2023 (25 of 32).
        chance: what random circuits would share.
    """

    both: tuple[Head, ...]
    only_first: tuple[Head, ...]
    only_second: tuple[Head, ...]
    jaccard: float | None
    of_first: float | None
    of_second: float | None
    of_larger: float | None
    chance: Chance

    @property
    def union(self) -> int:
        """Number of heads in either."""
        return len(self.both) + len(self.only_first) + len(self.only_second)


def overlap(first: Collection[Head], second: Collection[Head], heads: Sequence[int]) -> Overlap:
    """What the circuits `first` and `second` share.

    Args:
        heads: number of heads in each layer of the model.

    Raises:
        ValueError: a head that the model does not have.
    """
    one, other = set(first), set(second)
    lost = sorted(head for head in one | other if not (0 <= head[0] < len(heads) and 0 <= head[1] < heads[head[0]]))
    if lost:
        raise ValueError(f"heads {lost}: the model has {len(heads)} layers of {sorted(set(heads))} heads")
    both = one & other

    def share(of: int) -> float | None:
        return len(both) / of if of else None

    return Overlap(
        tuple(sorted(both)),
        tuple(sorted(one - other)),
        tuple(sorted(other - one)),
        share(len(one | other)),
        share(len(one)),
        share(len(other)),
        share(max(len(one), len(other))),
        chance(one, other, heads, len(both)),
    )


def chance(first: Collection[Head], second: Collection[Head], heads: Sequence[int], shared: int) -> Chance:
    """Of random circuits with as many heads in each layer as `first` and `second`; `p` = probability that they share
    `shared` heads or more."""
    by_layer = [Counter(layer for layer, _ in circuit) for circuit in (first, second)]
    distribution = np.ones(1)
    for layer, total in enumerate(heads):
        distribution = np.convolve(distribution, hypergeometric(total, *(counts[layer] for counts in by_layer)))
    at = np.arange(len(distribution))
    below = np.cumsum(distribution)
    low, high = (int(np.searchsorted(below, end - 1e-12)) for end in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    p = min(float(distribution[shared:].sum()), 1.0)
    return Chance(float(at @ distribution), low, min(high, len(at) - 1), p)


def hypergeometric(total: int, marked: int, drawn: int) -> np.ndarray:
    """[k]: probability that `drawn` of `total` things hold k of the `marked` ones, k = 0 .. min(marked, drawn)."""
    ways = [comb(marked, k) * comb(total - marked, drawn - k) for k in range(min(marked, drawn) + 1)]
    return np.array(ways, dtype=np.float64) / float(comb(total, drawn))
