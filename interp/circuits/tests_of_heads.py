"""Whether each head's effect differs from 0, with a correction for how many heads are asked. Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from interp.ablation.choose import DRAWS, EXACT, corrected, per_sequence

_AT_ONCE = 1 << 22
"""Sums held at once."""


@dataclass(frozen=True)
class PValues:
    """P values [layer, head]; NaN where there is no effect to test.

    Attributes:
        p: two-sided sign-flip test of the mean over prompts.
        holm, bh: after the corrections of Holm (1979) and of Benjamini and Hochberg (1995) for all heads tested.
    """

    p: np.ndarray
    holm: np.ndarray
    bh: np.ndarray


def p_values(effects: np.ndarray, *, sequences: Sequence[int] | None = None, seed: int = 0) -> PValues:
    """Test each head.

    Args:
        effects: [layer, head, prompt].
        sequences: a number for each prompt; prompts of one number (the same tokens) count once, with their mean.
        seed: of the flips, where there are too many to try all.
    """
    p = np.full(effects.shape[:2], np.nan)
    there = np.isfinite(effects).all(-1)
    values = effects[there].astype(np.float64)
    if sequences is not None and len(values):
        values = np.array([per_sequence(sequences, one) for one in values])
    p[there] = sign_flips(values, seed)
    out = {}
    for how in ("holm", "bh"):
        out[how] = np.full(p.shape, np.nan)
        out[how][there] = corrected(p[there].tolist(), how)
    return PValues(p, **out)


def sign_flips(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """[row]: two-sided p value of each row's mean, were the sign of each of its values [row, prompt] a coin's toss.

    All flips are tried up to `interp.ablation.choose.EXACT` prompts, else `DRAWS` random ones, the same for every row.
    It is twice the smaller of the two one-sided values, at most 1.
    """
    rows, n = values.shape
    exact = n <= EXACT
    if exact:
        signs = np.array(list(product((1.0, -1.0), repeat=n)))
    else:
        signs = np.random.default_rng(seed).choice((1.0, -1.0), size=(DRAWS, n))
    seen = values.sum(1)
    slack = 1e-12 + 1e-9 * np.abs(values).sum(1)  # sums of the same size differ by rounding
    above, below = np.zeros(rows), np.zeros(rows)
    for part in np.array_split(signs, max(1, len(signs) * rows // _AT_ONCE)):
        sums = part @ values.T
        above += (sums >= seen - slack).sum(0)
        below += (sums <= seen + slack).sum(0)
    fewer = np.minimum(above, below)
    return np.minimum(1.0, 2 * (fewer / len(signs) if exact else (fewer + 1) / (len(signs) + 1)))
