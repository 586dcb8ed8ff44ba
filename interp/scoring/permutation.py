"""Sign-flip tests of many means at once: units (prompts) under every row (layer x head, ...) of a table.

Under the hypothesis that a row's values are symmetric about 0, each of their signs is a coin's toss (Fisher 1935, *The
Design of Experiments*, section 21). `sign_flips` is the Numba kernel: of eight values in succession all 256 signed sums
are tabled, so a flip of the whole row is one look-up for eight values, where the matrix product that NumPy would take
multiplies each; `sign_flips_plain` is that product, kept for the test that they agree.
"""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np

from interp.scoring.compiled import announced

EXACT, DRAWS = 12, 10_000
"""All flips are tried up to so many values a row, else so many random ones."""
GROUP, AT_ONCE = 8, 4
"""Values that share a table, and tables looked up in one go over the flips."""
CELLS = 1 << 22
"""Signs held at a time while they are drawn."""


def sign_flips(values: np.ndarray, seed: int = 0, *, exact: int = EXACT, draws: int = DRAWS) -> np.ndarray:
    """float64 [row]: two-sided p value of each row's mean, were the sign of each of its values a coin's toss.

    It is twice the smaller of the two one-sided values, at most 1; the flips are the same for every row, and the result
    does not depend on how many threads there are. NaN for a row that holds something that is not finite; 1 where there
    is no value at all.

    Args:
        values: float [row, unit].
        seed: of the random flips.
        exact, draws: all flips up to `exact` units, else `draws` random ones, the unflipped row counted in.

    Raises:
        ValueError: `values` is not [row, unit], `exact` is not 0 to 20, or `draws` is under 1.
    """
    values, low, high, there = _prepared(values, exact, draws)
    n = values.shape[1]
    codes = np.zeros((-(-n // (GROUP * AT_ONCE)) * AT_ONCE, 1 << n if n <= exact else draws), dtype=np.uint8)
    for first, signs in _signs(n, seed, exact, draws):
        packed = np.packbits(signs > 0, axis=1, bitorder="little")
        codes[: packed.shape[1], first : first + len(signs)] = packed.T
    above, below = np.empty(len(values), dtype=np.int64), np.empty(len(values), dtype=np.int64)
    _sign_flips(values, codes, low, high, above, below)
    return _two_sided(above, below, codes.shape[1], n <= exact, there)


@announced
@numba.njit(cache=True, parallel=True)
def _sign_flips(values, codes, low, high, above, below):
    """How many flips [group, flip] (bit i set: value i keeps its sign) bring each row's sum to `low` or above it, and
    to `high` or below it."""
    n = values.shape[1]
    n_groups, n_flips = codes.shape
    for row in numba.prange(len(values)):
        table, sums = np.empty((AT_ONCE, 1 << GROUP)), np.zeros(n_flips)
        for first in range(0, n_groups, AT_ONCE):
            for group in range(AT_ONCE):
                at = GROUP * (first + group)
                table[group, 0] = 0.0
                for i in range(at, min(at + GROUP, n)):
                    table[group, 0] -= values[row, i]
                for i in range(GROUP):
                    double = 2.0 * values[row, at + i] if at + i < n else 0.0
                    for code in range(1 << i):
                        table[group, code + (1 << i)] = table[group, code] + double
            one, two, three, four = codes[first], codes[first + 1], codes[first + 2], codes[first + 3]
            for flip in range(n_flips):
                left = table[0, one[flip]] + table[1, two[flip]]
                sums[flip] += left + (table[2, three[flip]] + table[3, four[flip]])
        high_enough, low_enough = 0, 0
        for flip in range(n_flips):
            high_enough += sums[flip] >= low[row]
            low_enough += sums[flip] <= high[row]
        above[row], below[row] = high_enough, low_enough


def sign_flips_plain(values: np.ndarray, seed: int = 0, *, exact: int = EXACT, draws: int = DRAWS) -> np.ndarray:
    """`sign_flips`, as a matrix product of signs and values."""
    values, low, high, there = _prepared(values, exact, draws)
    above, below, flips = np.zeros(len(values)), np.zeros(len(values)), 0
    for _, signs in _signs(values.shape[1], seed, exact, draws):
        sums = signs @ values.T
        above += (sums >= low).sum(0)
        below += (sums <= high).sum(0)
        flips += len(signs)
    return _two_sided(above, below, flips, values.shape[1] <= exact, there)


def _prepared(values: np.ndarray, exact: int, draws: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The rows, 0 where they are not finite, scaled so that no sum overflows; the sum of each less and more what
    rounding does to sums of the same size; and which rows are finite."""
    if np.ndim(values) != 2:
        raise ValueError(f"sign_flips: expected values [row, unit], got {list(np.shape(values))}")
    if not 0 <= exact <= 20 or draws < 1:
        raise ValueError(f"sign_flips: exact={exact} must be 0 to 20 (2 ** exact flips), draws={draws} 1 or more")
    values = np.asarray(values, dtype=np.float64)
    there = np.all(np.isfinite(values), axis=1)
    values = np.where(there[:, None], values, 0.0)
    values = np.ascontiguousarray(values / np.maximum(1.0, np.abs(values).max(1, initial=0.0))[:, None])
    seen, slack = values.sum(1), 1e-12 + 1e-9 * np.abs(values).sum(1)
    return values, seen - slack, seen + slack, there


def _signs(n: int, seed: int, exact: int, draws: int) -> Iterator[tuple[int, np.ndarray]]:
    """The flips in portions: the number of the first, and the signs [flip, unit]."""
    total, rng = 1 << n if n <= exact else draws, np.random.default_rng(seed)
    step = max(1, CELLS // max(1, n))
    for first in range(0, total, step):
        numbers = np.arange(first, min(first + step, total))
        if n <= exact:
            yield first, 1.0 - 2.0 * (numbers[:, None] >> np.arange(n) & 1)
        else:
            yield first, rng.choice((1.0, -1.0), size=(len(numbers), n))


def _two_sided(above: np.ndarray, below: np.ndarray, flips: int, exact: bool, there: np.ndarray) -> np.ndarray:
    fewer = np.minimum(above, below).astype(np.float64)
    p = np.minimum(1.0, 2 * (fewer / flips if exact else (fewer + 1) / (flips + 1)))
    return np.where(there, p, np.nan)
