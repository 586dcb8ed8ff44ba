"""Whether each head's effect differs from 0, with a correction for how many heads are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interp.ablation.choose import DRAWS, EXACT, corrected
from interp.scoring.permutation import sign_flips


@dataclass(frozen=True)
class PValues:
    """P values [layer, head]; NaN where there is no effect to test.

    Attributes:
        p: two-sided sign-flip test of the mean over prompts (`interp.scoring.permutation`).
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
        values = _per_sequence(sequences, values)
    p[there] = sign_flips(values, seed, exact=EXACT, draws=DRAWS)
    out = {}
    for how in ("holm", "bh"):
        out[how] = np.full(p.shape, np.nan)
        out[how][there] = corrected(p[there].tolist(), how)
    return PValues(p, **out)


def _per_sequence(sequences: Sequence[int], values: np.ndarray) -> np.ndarray:
    """[row, sequence]: means of the values [row, prompt] of each sequence, in the order in which sequences come."""
    place = {one: at for at, one in enumerate(dict.fromkeys(sequences))}
    number = np.array([place[one] for one in sequences])
    order = np.argsort(number, kind="stable")
    firsts = np.searchsorted(number[order], np.arange(len(place)))
    return np.add.reduceat(values[:, order], firsts, axis=1) / np.bincount(number)
