"""Means and ratios over prompts with bootstrap intervals, as findings keep them. Pure NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from interp.verify import LEVEL, RESAMPLES, over_prompts


def mean_of(values: np.ndarray, seed: int) -> dict[str, Any]:
    """``mean``, ``low``, ``high``, ``n`` of values [prompt]."""
    return over_prompts(values, seed, "no prompts")


def ratio(over: np.ndarray, under: np.ndarray, seed: int) -> dict[str, Any]:
    """Ratio of two means over the same prompts, both drawn again together. ``low`` and ``high`` are None where the
    denominator's own interval includes 0, and ``why`` says so; ``mean`` is None where it is 0."""
    n = len(over)
    which = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    tops, bottoms = over[which].mean(1), under[which].mean(1)
    smallest, largest = np.quantile(bottoms, ends)
    mean = float(over.mean() / under.mean()) if under.mean() else None
    if smallest <= 0 <= largest:
        why = "the interval of what it is divided by includes 0"
        return {"mean": mean, "low": None, "high": None, "n": n, "why": why}
    low, high = np.quantile(tops / bottoms, ends)
    return {"mean": mean, "low": float(low), "high": float(high), "n": n}
