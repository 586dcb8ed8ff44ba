"""Figures over prompts with their intervals, as claims and as curves of a chart. Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from interp.findings import Series
from interp.verify import Estimate, bootstrap_mean, over_prompts


def finite(values: Any) -> np.ndarray:
    """The finite ones of `values`, float64."""
    given = np.asarray(values, dtype=np.float64)
    return given[np.isfinite(given)]


def estimate(values: Any, seed: int) -> Estimate | None:
    """Mean with its bootstrap interval over the finite ones of `values` [prompt]; None when there is none."""
    given = finite(values)
    return bootstrap_mean(given, seed=seed) if len(given) else None


def claim(values: Any, seed: int, why: str, **more: Any) -> dict[str, Any]:
    """What ``summary["claims"]`` keeps of one figure: mean, low, high and n over prompts; where there is none, None
    and `why`."""
    return over_prompts(finite(values), seed, why, **more)


def curve(
    name: str, values: np.ndarray, seed: int, draw: Literal["line", "points", "bars"] = "line", plain: bool = False
) -> Series:
    """Means over prompts of `values` [prompt, x] at x = 0, 1, 2, ... with their intervals; NaN = not measured there,
    `plain` = without intervals."""
    found = [estimate(column, seed) for column in np.asarray(values, dtype=np.float64).T]
    y = tuple(None if one is None else one.mean for one in found)
    x = tuple(float(i) for i in range(len(found)))
    if plain:
        return Series(name, x, y, draw=draw)
    low = tuple(None if one is None else one.low for one in found)
    high = tuple(None if one is None else one.high for one in found)
    return Series(name, x, y, low, high, draw)


def stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """[prompt, ...] float64 of one array a prompt."""
    return np.stack([np.asarray(row, dtype=np.float64) for row in rows])


def mean_over(values: np.ndarray) -> np.ndarray:
    """Mean of `values` [prompt, ...] over the prompts that have a number; NaN where none has."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    counts = known.sum(axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)
