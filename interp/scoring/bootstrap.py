"""Bootstrap intervals of means over a whole table at once: units (prompts, needles) x columns (layer, head, ...).

The resampled means are one matrix product, how often each unit is drawn times the table, which BLAS does best; the
Numba kernel takes the interval's ends of each column by selection, where `numpy.quantile` would sort strided copies.
`intervals_plain` draws and averages unit by unit, kept for the test that they agree.
"""

from __future__ import annotations

import numba
import numpy as np

from interp.scoring.compiled import announced

CELLS = 4_000_000
"""Numbers held at a time; bounds the memory however many columns and resamples there are."""


def draws(n: int, seed: int, resamples: int) -> np.ndarray:
    """float64 [resample, unit]: how often each of n units is drawn, n a time."""
    rng = np.random.default_rng(seed)
    counts = np.empty((resamples, n))
    step = max(1, CELLS // n)
    for first in range(0, resamples, step):
        last = min(first + step, resamples)
        drawn = rng.integers(0, n, (last - first, n)) + n * np.arange(last - first)[:, None]
        counts[first:last] = np.bincount(drawn.ravel(), minlength=(last - first) * n).reshape(-1, n)
    return counts


def intervals(
    totals: np.ndarray, counts: np.ndarray, seed: int, *, resamples: int = 10_000, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) [column]: percentile intervals (Efron 1979) of the mean over all instances, under a bootstrap that
    draws whole units.

    Args:
        totals: float [unit, column], sum over the unit's instances. A column that is not finite gets NaN.
        counts: [unit] number of its instances, at least 1; with one instance a unit this is the plain bootstrap.
        seed: of the draws, the same for all columns.
        resamples, level: how many, and what share of them the interval holds.

    Raises:
        ValueError: shapes that do not belong together, no unit, or a unit without instances.
    """
    _check(totals, counts, resamples, level)
    times = draws(len(totals), seed, resamples)
    instances = times @ counts
    low, high = np.empty(totals.shape[1]), np.empty(totals.shape[1])
    step = max(1, CELLS // resamples)
    for first in range(0, totals.shape[1], step):
        piece = np.ascontiguousarray(totals[:, first : first + step].T, dtype=np.float64) @ times.T
        piece /= instances
        low[first : first + step], high[first : first + step] = ends(piece, level)
    return low, high


def ends(drawn: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) [row]: the ends of the central `level` of each row's numbers [row, draw], as `numpy.quantile` gives
    them (linear); NaN for a row that holds one."""
    out = np.empty((2, len(drawn)))
    _ends(np.ascontiguousarray(drawn, dtype=np.float64), (1 - level) / 2, (1 + level) / 2, out)
    return out[0], out[1]


@announced
@numba.njit(cache=True, parallel=True)
def _ends(drawn, lower, upper, out):
    n = drawn.shape[1]
    for row in numba.prange(len(drawn)):
        values = drawn[row]
        if np.isnan(values.sum()) and np.isnan(values).any():
            out[:, row] = np.nan
            continue
        for end in range(2):
            at = (n - 1) * (lower if end == 0 else upper)
            below = int(np.floor(at))
            parted = np.partition(values, below)
            left = parted[below]
            right = left if below + 1 == n else parted[below + 1 :].min()
            out[end, row] = left if left == right else left + (right - left) * (at - below)


def intervals_plain(
    totals: np.ndarray, counts: np.ndarray, seed: int, *, resamples: int = 10_000, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """`intervals`, as one would write it: draw units, average what they hold, sort."""
    _check(totals, counts, resamples, level)
    rng, n, drawn = np.random.default_rng(seed), len(totals), []
    for _ in range(resamples):
        units = rng.integers(0, n, n)
        drawn.append(totals[units].sum(0, dtype=np.float64) / counts[units].sum())
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2), axis=0)
    return low, high


def _check(totals: np.ndarray, counts: np.ndarray, resamples: int, level: float) -> None:
    if np.ndim(totals) != 2 or np.shape(counts) != (len(totals),) or len(totals) == 0:
        raise ValueError(
            f"intervals: expected totals [unit, column] and counts [unit], at least one unit, got "
            f"{list(np.shape(totals))} and {list(np.shape(counts))}"
        )
    if np.min(counts) < 1:
        raise ValueError(f"intervals: unit {int(np.argmin(counts))} has {np.min(counts)} instances; leave it out")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"intervals: resamples={resamples} must be 1 or more, level={level} between 0 and 1")
