"""Effects as shares of the gap that corrupting the prompts opens, with intervals over prompts. Pure NumPy."""

from __future__ import annotations

import numpy as np

from interp.errors import UsageError
from interp.verify import LEVEL

RESAMPLES = 2_000


def share(changes: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """[...]: mean of `changes` [..., pair] over the mean of `gap` [pair].

    Raises:
        UsageError: corrupting the prompts changes nothing.
    """
    whole = float(np.mean(gap))
    if whole == 0 or not np.isfinite(whole):
        raise UsageError(
            f"corrupting the prompts changes the mean logit difference by {whole}: no share of it can be taken"
        )
    return changes.mean(-1) / whole


def interval(changes: np.ndarray, gap: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) [...] of `share`: percentile bootstrap over pairs, the same pairs drawn for changes and gap.

    Resamples in which the gap vanishes or turns over say nothing of a share and are left out.
    """
    n = len(gap)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    gaps = drawn @ gap
    drawn = drawn[np.sign(gaps) == np.sign(gap.sum())]
    flat = changes.reshape(-1, n)
    shares = (drawn @ flat.T.astype(np.float64)) / (drawn @ gap)[:, None]  # [resample, head]
    low, high = np.quantile(shares, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), axis=0)
    return low.reshape(changes.shape[:-1]), high.reshape(changes.shape[:-1])
