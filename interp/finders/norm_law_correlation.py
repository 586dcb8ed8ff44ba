"""Correlations that need no more than NumPy, with intervals over groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interp.scoring.ranks import ranks


@dataclass(frozen=True)
class Correlation:
    """A correlation with the ends of its bootstrap interval; `n` pairs. None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def pearson(x: np.ndarray, y: np.ndarray) -> float | None:
    """Pearson's r; None where it is not defined: fewer than two pairs, or one of them does not vary."""
    if len(x) < 2 or not (varies(x) and varies(y)):
        return None
    x, y = x - x.mean(), y - y.mean()
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(np.clip(x @ y / length, -1, 1)) if length > 0 else None


def varies(values: np.ndarray) -> bool:
    """Whether values differ by more than the rounding of the numbers they come from (float32)."""
    return bool(np.ptp(values) > 1e-6 * np.abs(values).max())


def spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    """Spearman's rho (Pearson's r of ranks, ties at their mean); None where it is not defined."""
    return pearson(ranks(x), ranks(y)) if len(x) > 1 and varies(x) and varies(y) else None


def over_groups(
    x: Sequence[float],
    y: Sequence[float],
    groups: Sequence[int],
    *,
    kind: str = "spearman",
    resamples: int = 2_000,
    level: float = 0.95,
    seed: int = 0,
) -> Correlation:
    """Correlation of all pairs, with a percentile bootstrap interval that draws whole groups (prompts): pairs of one
    prompt are not independent. Draws in which it is not defined are left out; with one group there is no interval.

    Raises:
        ValueError: the sequences differ in length, or `kind` is neither ``spearman`` nor ``pearson``.
    """
    measures = {"spearman": spearman, "pearson": pearson}
    if kind not in measures or not len(x) == len(y) == len(groups):
        raise ValueError(f"kind={kind!r} of {sorted(measures)}; lengths {len(x)}, {len(y)}, {len(groups)}")
    one, other, of = np.asarray(x, np.float64), np.asarray(y, np.float64), np.asarray(groups)
    value = measures[kind](one, other)
    members = [np.flatnonzero(of == group) for group in np.unique(of)]
    if value is None or len(members) < 2:
        return Correlation(value, None, None, len(one))
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        pick = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        found = measures[kind](one[pick], other[pick])
        if found is not None:
            drawn.append(found)
    if not drawn:
        return Correlation(value, None, None, len(one))
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2)).tolist()
    return Correlation(value, low, high, len(one))
