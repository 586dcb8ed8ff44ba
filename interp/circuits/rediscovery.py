"""Whether a stage would take the same heads again: on resamples of the prompts that chose, and on others. Pure NumPy.

Resampled are prompts, not templates: the share says how far the choice hangs on which prompts of these templates were
drawn. Whether it carries over to other templates is told by the held-out half. Receivers stay as they were found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interp.circuits.config import Head


def how_many(effects: np.ndarray, share: float, least: int = 1) -> int:
    """Heads that a stage takes: `share` of those with an effect [layer, head], rounded up, but `least` where there are
    so many."""
    # 0.02 * 150 is a hair above 3
    there = int(np.isfinite(effects).sum())
    return min(there, max(least, math.ceil(round(share * there, 9))))


def strongest(effects: np.ndarray, k: int) -> list[Head]:
    """The `k` heads of largest absolute effect [layer, head], the largest first; of equals the earlier. A head without
    any effect is never among them."""
    size = np.nan_to_num(np.abs(effects))
    order = np.argsort(-size, axis=None, kind="stable")[:k]
    n_heads = effects.shape[1]
    return [(int(at) // n_heads, int(at) % n_heads) for at in order if size.flat[at] > 0]


@dataclass(frozen=True)
class Again:
    """How a stage's choice repeats.

    Attributes:
        stability: [layer, head] share of resamples that take the head; NaN without an effect or resamples.
        held_out: [layer, head] whether as many of the strongest on the held-out prompts include it; None without any.
        jaccard: heads taken in both halves, as a share of those taken in either; None without held-out prompts.
        chance: the share of heads with an effect that is taken: what `stability` would be were the order drawn.
    """

    stability: np.ndarray
    held_out: np.ndarray | None
    jaccard: float | None
    chance: float


def rediscovery(
    effects: np.ndarray,
    select: Sequence[int],
    held_out: Sequence[int],
    *,
    share: float,
    resamples: int,
    least: int = 1,
    seed: int = 0,
) -> Again:
    """See `Again`.

    Args:
        effects: of one stage [layer, head, prompt]; NaN for heads that cannot reach its receivers.
        select, held_out: prompts that chose, and the others.
        share, least: of heads that the stage takes.
        resamples: bootstrap resamples of the prompts in `select`.
    """
    chosen = effects[..., list(select)].mean(-1)
    k, reached = how_many(chosen, share, least), int(np.isfinite(chosen).sum())
    stability = resampled(effects[..., list(select)], k, resamples, seed)
    chance = k / reached if reached else 0.0
    if not len(held_out):
        return Again(stability, None, None, chance)
    here, there = set(strongest(chosen, k)), set(strongest(effects[..., list(held_out)].mean(-1), k))
    found = np.zeros(chosen.shape, dtype=bool)
    for head in there:
        found[head] = True
    either = here | there
    return Again(stability, found, len(here & there) / len(either) if either else None, chance)


def resampled(effects: np.ndarray, k: int, resamples: int, seed: int = 0) -> np.ndarray:
    """[layer, head]: share of bootstrap resamples of the prompts in whose mean a head is among the `k` strongest.

    Args:
        effects: [layer, head, prompt]; NaN for heads without one.
    """
    n_layers, n_heads, n = effects.shape
    share = np.full((n_layers, n_heads), np.nan)
    reached = np.isfinite(effects).all(-1)
    if not resamples or not reached.any():
        return share
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    means = np.abs(counts @ effects[reached].T.astype(np.float64)) / n
    order = np.argsort(-means, axis=1, kind="stable")[:, :k]
    taken = np.zeros(means.shape, dtype=bool)
    np.put_along_axis(taken, order, True, axis=1)
    share[reached] = (taken & (means > 0)).mean(0)
    return share
