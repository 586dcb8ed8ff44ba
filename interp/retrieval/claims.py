"""The figures of the scores, of their sparsity and of their stability, as ``summary["claims"]`` keeps them.

Each is {mean, low, high, n}, n = needles: instances of one needle are one observation. Where there is no figure, mean
and ends are None and ``why`` says what is missing; a count has no interval. Pure NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from interp.retrieval import stability
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.instances import Instances
from interp.retrieval.resample import around, resampled, sums
from interp.retrieval.table import Scores
from interp.verify import over_prompts

NOTHING_KEPT = "no instance was kept: the answers did not come back"
ONE_NEEDLE = "at least two needles with kept instances are needed"
NOTHING_COPIED = "no head copied anything"
NORMAL = 1.96


def claims(
    instances: Instances, found: Scores, halves: stability.Halves | None, config: RetrievalConfig
) -> dict[str, Any]:
    """What the scores say, before any head is masked.

    ``recall`` and ``kept_share`` over all instances; ``retrieval_share`` and ``zero_share`` of all heads, and
    ``retrieval_heads``, their count; ``split_half`` and ``top_overlap`` over random halves of the needles;
    ``always_active`` and ``sometimes_active`` of the retrieval heads.
    """
    retrieval = found.retrieval(config.threshold)
    correlation, overlap, needles, silent = (
        (halves.correlation, halves.overlap, halves.needles, halves.silent)
        if halves
        else ((), (), len(np.unique(found.which)), 0)
    )
    why = (NOTHING_COPIED if halves else ONE_NEEDLE) if found.kept else NOTHING_KEPT
    return {
        "recall": over_prompts(instances.by_needle(instances.recall), config.seed, ""),
        "kept_share": over_prompts(instances.by_needle(instances.kept.astype(np.float64)), config.seed, ""),
        "retrieval_share": retrieval_share(found, config),
        "zero_share": zero_share(found),
        "retrieval_heads": {
            "mean": int(retrieval.sum()) if found.kept else None,
            "low": None,
            "high": None,
            "n": needles,
            **({} if found.kept else {"why": NOTHING_KEPT}),
        },
        "split_half": stability.over_halves(np.asarray(correlation), needles, why, silent),
        "top_overlap": stability.over_halves(np.asarray(overlap), needles, why, silent),
        **stability.activity(found.per_instance, found.which, retrieval, config.seed),
    }


def retrieval_share(found: Scores, config: RetrievalConfig) -> dict[str, Any]:
    """Share of all heads at the threshold, with a bootstrap interval over needles (see `around`)."""
    n = len(np.unique(found.which))
    if not n:
        return {"mean": None, "low": None, "high": None, "n": 0, "why": NOTHING_KEPT}
    counts: np.ndarray = sum(
        (means >= config.threshold).sum(axis=1) for _, means in resampled(found.per_instance, found.which, config.seed)
    )  # pyright: ignore[reportAssignmentType]
    heads = len(found.score)
    mean = float((found.score >= config.threshold).mean())
    low, high = around(mean, counts / heads)
    return {"mean": mean, "low": low, "high": high, "n": n}


def zero_share(found: Scores) -> dict[str, Any]:
    """Share of all heads that never copied, with the interval of the jackknife over needles (a bootstrap, which leaves
    out a third of them each time, would see more such heads in every draw than there are)."""
    totals, counts = sums(found.per_instance, found.which)
    n = len(counts)
    if not n:
        return {"mean": None, "low": None, "high": None, "n": 0, "why": NOTHING_KEPT}
    copying = totals > 0  # [needle, head]
    times = copying.sum(axis=0)
    mean = float((times == 0).mean())
    without = np.array([(times - copying[i] == 0).mean() for i in range(n)])
    half = NORMAL * float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))
    ends = {"low": max(mean - half, 0.0), "high": min(mean + half, 1.0)}
    return {"mean": mean, **ends, "n": n, "interval": "jackknife over needles"}
