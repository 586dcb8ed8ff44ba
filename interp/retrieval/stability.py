"""How stable the scores are: from one half of the needles to the other, and from instance to instance. Pure NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.retrieval.resample import around, resampled, sums
from interp.scoring.ranks import rank_correlations
from interp.verify import LEVEL

HALVES = 200
"""Random halves of the needles."""
TOP = 20
"""Best heads of which the overlap between halves is told."""
ALWAYS, SOMETIMES = 0.9, (0.01, 0.5)
"""A head is always active above the first share of the instances, sometimes active between the others (inclusive)."""


def top_overlap(left: np.ndarray, right: np.ndarray, top: int = TOP) -> float | None:
    """Share of the best `top` of one side that are among those of the other, both cut to so many that no head with a
    score of 0 is among them; None where a side has none."""
    size = min(top, int((left > 0).sum()), int((right > 0).sum()))
    if size == 0:
        return None
    best = [set(np.argsort(-side, kind="stable")[:size].tolist()) for side in (left, right)]
    return len(best[0] & best[1]) / size


@dataclass(frozen=True)
class Halves:
    """Agreement of head scores between random halves of the needles.

    Attributes:
        correlation, overlap: one value a pair of halves; 0 where no head copies on one side, which agrees with nothing
            that the other finds. Empty where no head ever copies.
        silent: how many pairs these are.
        example: the first pair's scores, [2, head].
        needles: needles with kept instances.
    """

    correlation: np.ndarray
    overlap: np.ndarray
    example: np.ndarray
    needles: int
    silent: int


def halves(per_instance: np.ndarray, which: np.ndarray, seed: int) -> Halves | None:
    """Scores of each half, as means over its instances, compared; None with fewer than two needles.

    Args:
        per_instance: [instance, head] scores of the kept instances.
        which: [instance] number of the needle.
        seed: of the halves.
    """
    totals, counts = sums(per_instance, which)
    n = len(counts)
    if n < 2:
        return None
    rng = np.random.default_rng((seed, n))
    copying = bool((per_instance > 0).any())
    sides, overlaps, silent = np.empty((HALVES, 2, totals.shape[1])), [], 0
    for both in sides:
        order = rng.permutation(n)
        for into, side in zip(both, (order[: n // 2], order[n // 2 :]), strict=True):
            into[:] = totals[side].sum(axis=0) / counts[side].sum()
        if copying:
            overlaps.append(top_overlap(*both) or 0.0)
            silent += not both.any(axis=1).all()
    correlations = np.nan_to_num(rank_correlations(sides[:, 0], sides[:, 1])) if copying else np.empty(0)
    return Halves(correlations, np.array(overlaps), sides[0], n, silent)


def over_halves(values: np.ndarray, needles: int, why: str, silent: int = 0) -> dict[str, Any]:
    """A claim: mean over pairs of halves, and the range that holds 95 % of them; `silent` as in `Halves`."""
    if not len(values):
        return {"mean": None, "low": None, "high": None, "n": needles, "why": why}
    low, high = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return {
        "mean": float(values.mean()),
        "low": float(low),
        "high": float(high),
        "n": needles,
        "interval": f"over {len(values)} random halves of the needles"
        + (f", {silent} of them with a side on which no head copied (counted as 0)" if silent else ""),
    }


def activity(per_instance: np.ndarray, which: np.ndarray, heads: np.ndarray, seed: int) -> dict[str, dict[str, Any]]:
    """``always_active`` and ``sometimes_active``: share of some heads that copy in more than 90 % of the instances, and
    in 1 to 50 % of them, with bootstrap intervals over needles.

    Args:
        per_instance: [instance, head] scores of the kept instances.
        which: [instance] number of the needle.
        heads: bool [head], those it is told of.
        seed: of the bootstrap.
    """
    n = len(np.unique(which))
    if not heads.any() or not n:
        why = "no head reaches the threshold" if n else "no instance was kept"
        missing = {"mean": None, "low": None, "high": None, "n": n, "why": why}
        return {"always_active": missing, "sometimes_active": dict(missing)}
    active = (per_instance[:, heads] > 0).astype(np.float64)
    drawn = np.concatenate([means for _, means in resampled(active, which, seed)], axis=1)
    out = {}
    for name, counts in {"always_active": always, "sometimes_active": sometimes}.items():
        shares = counts(drawn).mean(axis=1)
        mean = float(counts(active.mean(axis=0)).mean())
        low, high = around(mean, shares)
        out[name] = {"mean": mean, "low": low, "high": high, "n": n}
    return out


def always(share: np.ndarray) -> np.ndarray:
    """Whether a head that copies in this share of the instances is always active."""
    return share > ALWAYS


def sometimes(share: np.ndarray) -> np.ndarray:
    """Whether it is sometimes active."""
    return (share >= SOMETIMES[0]) & (share <= SOMETIMES[1])
