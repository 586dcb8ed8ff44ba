"""Which (start, lifetime) pairs name a level in each bootstrap resample of prompts.

The Numba kernel of `interp.finders.sink_levels`, whose `levels` clusters one list of pairs in plain Python: the test
compares the two.
"""

from __future__ import annotations

import numba
import numpy as np

from interp.scoring.compiled import announced


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
    return _level_heads(starts, ends, counts.astype(np.int64), draws.astype(np.int64), tolerance)


@announced
@numba.njit(cache=True)
def _level_heads(starts, ends, counts, draws, tolerance):
    n_pairs = len(starts)
    out = np.zeros((len(draws), n_pairs), dtype=np.bool_)
    for resample in range(len(draws)):
        total = np.zeros(n_pairs, dtype=np.int64)
        for prompt in draws[resample]:
            for pair in range(n_pairs):
                total[pair] += counts[prompt, pair]
        for pair in np.argsort(-total, kind="mergesort"):  # stable: of equally frequent pairs the earlier comes first
            if total[pair] == 0:
                break
            near = False
            for head in range(n_pairs):
                if out[resample, head] and abs(starts[head] - starts[pair]) <= tolerance:
                    near = near or abs(ends[head] - ends[pair]) <= tolerance
            out[resample, pair] = not near
    return out
