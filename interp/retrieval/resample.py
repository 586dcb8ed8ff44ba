"""Means over instances under a bootstrap of needles (instances of one needle stay together), for many columns at once.

A needle drawn twice counts with all its instances twice, so the mean stays one over instances, as published. Where
every needle has equally many instances this is the bootstrap of `interp.verify.bootstrap_mean` over the needles' own
means.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from interp.scoring import bootstrap
from interp.verify import LEVEL, RESAMPLES


def sums(values: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sum [needle, column], number of instances [needle]) of values [instance, column], needles without any left out.

    Args:
        values: [instance, column].
        which: [instance] number of the needle.
    """
    present, at = np.unique(which, return_inverse=True)
    member = np.zeros((len(present), len(which)))
    member[at, np.arange(len(which))] = 1.0
    return member @ values, member.sum(axis=1)


def resampled(
    values: np.ndarray, which: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> Iterator[tuple[slice, np.ndarray]]:
    """The bootstrap means of some columns at a time: (columns, [resample, column]).

    Args:
        values: [instance, column].
        which: [instance] number of the needle.
        seed: of the draws, which are the same for all columns.
    """
    totals, counts = sums(values, which)
    times = bootstrap.draws(len(counts), seed, resamples)
    instances = (times @ counts)[:, None]
    step = max(1, bootstrap.CELLS // resamples)
    for first in range(0, values.shape[1], step):
        columns = slice(first, min(first + step, values.shape[1]))
        yield columns, (times @ totals[:, columns]) / instances


def around(mean: float, drawn: np.ndarray) -> tuple[float, float]:
    """(low, high): the 95 % interval of a share from its bootstrap draws, moved by their bias.

    A share of heads beyond a threshold is another one in most draws (a draw leaves out a third of the needles), so the
    plain percentile interval can miss the share that was measured. This one always holds it, and stays in 0 to 1.
    """
    low, high = np.quantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)) - (drawn.mean() - mean)
    return max(min(float(low), mean), 0.0), min(max(float(high), mean), 1.0)


def intervals(values: np.ndarray, which: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) [column]: 95 % percentile intervals of the mean over instances; see the module docstring."""
    return bootstrap.intervals(*sums(values, which), seed, resamples=RESAMPLES, level=LEVEL)
