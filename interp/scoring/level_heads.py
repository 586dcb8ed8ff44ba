"""Which (start, lifetime) pairs name a level in each bootstrap resample of prompts.

How often a resample has each pair is a matrix product, how often it draws each prompt times what the prompts hold, left
to BLAS; the clustering of every resample is a Numba kernel. `interp.finders.sink_levels.levels` clusters one list of
pairs in plain Python: the test compares the two.
"""

from __future__ import annotations

import numba
import numpy as np

from interp.scoring.compiled import announced

CELLS = 4_000_000
"""Numbers held at a time; bounds the memory however many prompts, pairs and resamples there are."""


def level_heads(pairs: np.ndarray, counts: np.ndarray, draws: np.ndarray, tolerance: int) -> np.ndarray:
    """Cluster the pairs of every resample: the most frequent pair names a level and takes in its neighbours.

    Args:
        pairs: int [pair, 2], start and lifetime, each pair once and in ascending order.
        counts: int [prompt, pair], how often a prompt has a pair.
        draws: int [resample, draw], the prompts of each resample.
        tolerance: pairs whose starts and ends differ by at most so much are neighbours.

    Returns:
        bool [resample, pair]: whether the pair names a level there.

    Raises:
        ValueError: the shapes do not belong together.
    """
    if pairs.ndim != 2 or pairs.shape[1] != 2 or counts.ndim != 2 or counts.shape[1] != len(pairs) or draws.ndim != 2:
        raise ValueError(
            "level_heads: expected pairs [pair, 2], counts [prompt, pair] and draws [resample, draw], got "
            f"{list(pairs.shape)}, {list(counts.shape)} and {list(draws.shape)}"
        )
    starts = pairs[:, 0].astype(np.int64)
    ends = pairs.sum(axis=1).astype(np.int64)
    n, held = len(counts), counts.astype(np.float64)  # a product of float64 is exact for numbers of this size
    out = np.zeros((len(draws), len(pairs)), dtype=np.bool_)
    step = max(1, CELLS // max(1, n, len(pairs)))
    for first in range(0, len(draws), step):
        some = draws[first : first + step]
        numbered = some + n * np.arange(len(some))[:, None]
        times = np.bincount(numbered.ravel(), minlength=len(some) * n).reshape(len(some), n)
        _level_heads(starts, ends, times.astype(np.float64) @ held, tolerance, out[first : first + step])
    return out


@announced
@numba.njit(cache=True, parallel=True)
def _level_heads(starts, ends, totals, tolerance, out):
    n_pairs = len(starts)
    for resample in numba.prange(len(totals)):
        total = totals[resample]
        heads, found = np.empty(n_pairs, dtype=np.int64), 0
        for pair in np.argsort(-total, kind="mergesort"):  # stable: of equally frequent pairs the earlier comes first
            if total[pair] == 0:
                break
            near = False
            for head in heads[:found]:
                near = abs(starts[head] - starts[pair]) <= tolerance and abs(ends[head] - ends[pair]) <= tolerance
                if near:
                    break
            if not near:
                heads[found] = pair
                found += 1
                out[resample, pair] = True
