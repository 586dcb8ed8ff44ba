"""Ranks and rank correlations of many rows at once (Spearman 1904), ties at their mean rank.

`rank_correlations` is the Numba kernel, `rank_correlations_plain` the same row by row in NumPy, kept for the test that
they agree.
"""

from __future__ import annotations

import numba
import numpy as np

from interp.scoring.compiled import announced

SAME = 1e-6
"""Values that differ by no more than this share of the largest do not vary: it is the rounding of float32."""


def rank_correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float64 [row]: Spearman's rho of each row of `x` with the same row of `y`; NaN where it is not defined: fewer
    than two pairs, one of the two does not vary, or something is no number.

    Args:
        x: float [row, pair].
        y: float [row, pair], or [pair] for all rows.

    Raises:
        ValueError: shapes that do not belong together.
    """
    x, y = _both(x, y)
    out = np.empty(len(x))
    _correlations(x, y, out)
    return out


@numba.njit(cache=True)
def _ranked(values, order, into):
    """Ranks less their mean; False where the values do not vary or one is no number."""
    n = len(values)
    smallest, largest, size = values[0], values[0], 0.0
    for i in range(n):
        if np.isnan(values[i]):
            return False
        smallest, largest, size = min(smallest, values[i]), max(largest, values[i]), max(size, abs(values[i]))
    if not largest - smallest > SAME * size:
        return False
    first = 0
    while first < n:
        last = first
        while last + 1 < n and values[order[last + 1]] == values[order[first]]:
            last += 1
        for i in range(first, last + 1):
            into[order[i]] = 0.5 * (first + last) - 0.5 * (n - 1)
        first = last + 1
    return True


@announced
@numba.njit(cache=True, parallel=True)
def _correlations(x, y, out):
    n = x.shape[1]
    for row in numba.prange(len(x)):
        out[row] = np.nan
        if n < 2:
            continue
        one, other = np.empty(n), np.empty(n)
        mine = x[row]
        theirs = y[row] if len(y) > 1 else y[0]
        if not _ranked(mine, np.argsort(mine), one) or not _ranked(theirs, np.argsort(theirs), other):
            continue
        both, left, right = 0.0, 0.0, 0.0
        for i in range(n):
            both += one[i] * other[i]
            left += one[i] * one[i]
            right += other[i] * other[i]
        out[row] = min(1.0, max(-1.0, both / np.sqrt(left * right)))


def rank_correlations_plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`rank_correlations`, row by row."""
    x, y = _both(x, y)
    found = [_plain(row, y[at if len(y) > 1 else 0]) for at, row in enumerate(x)]
    return np.array(found, dtype=np.float64)


def _plain(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 2 or not all(np.isfinite(one).all() and np.ptp(one) > SAME * np.abs(one).max() for one in (x, y)):
        return float("nan")
    return float(np.corrcoef(ranks(x), ranks(y))[0, 1])


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of values [n] from 1, ties at their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def _both(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.ascontiguousarray(x, dtype=np.float64), np.ascontiguousarray(y, dtype=np.float64)
    y = y[None] if y.ndim == 1 else y
    if x.ndim != 2 or y.ndim != 2 or y.shape[1] != x.shape[1] or len(y) not in (1, len(x)):
        raise ValueError(
            f"rank_correlations: expected x [row, pair] and y [row, pair] or [pair], got {list(x.shape)} and "
            f"{list(y.shape)}"
        )
    return x, y
