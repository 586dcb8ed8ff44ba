"""Minimality of a circuit (Wang et al. 2022, arXiv 2211.00593, section 4): every head v of it should matter in the
absence of some others K, |F(C \\ (K + v)) - F(C \\ K)| >= `THRESHOLD` of F(M). Others that do the same would hide it.

K is, in this order, until the head matters: the rest of its class; none; the greedy part that completeness found. So
the largest change told is the largest of those tried, and for a head that matters perhaps not the largest there is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.circuits.config import CircuitConfig, Head
from interp.circuits.estimates import mean_of

if TYPE_CHECKING:
    from interp.circuits.faithful import Measure

THRESHOLD = 0.01
"""Share of F(M), as published."""


def minimality(
    measure: Measure,
    circuit: frozenset[Head],
    classes: Mapping[str, frozenset[Head]],
    greedy: Collection[Head],
    config: CircuitConfig,
) -> dict[str, Any]:
    """The largest change each head makes.

    Returns:
        ``threshold``; ``share`` of the heads that matter; ``heads``: [{``head``, ``class``, ``without`` (which K: the
        rest of its class, no other, greedy), ``k`` (its size), ``change``: F(C \\ (K + v)) - F(C \\ K) as {mean, low,
        high, n}, ``share``: its size as a share of |F(M)|, None where that is 0; ``needed``: at or above the
        threshold}].
    """
    class_of = {head: name for name, heads in reversed(list(classes.items())) for head in heads}
    rounds = {
        "the rest of its class": lambda head: classes[class_of[head]] - {head},
        "no other": lambda head: frozenset(),
        "greedy": lambda head: frozenset(greedy) - {head},
    }
    measure.kept.phase("minimality", len(rounds) + 1)
    whole = abs(float(measure("the whole model", [frozenset()]).mean()))
    best: dict[Head, dict[str, Any]] = {}
    tried: dict[Head, set[frozenset[Head]]] = {head: set() for head in circuit}
    outside = frozenset(measure.knockout.heads) - circuit
    for label, others in rounds.items():
        rest = {head: others(head) for head in sorted(circuit) if not best.get(head, {}).get("needed")}
        rest = {head: k for head, k in rest.items() if k not in tried[head]}
        sets = list(
            dict.fromkeys(outside | k | more for head, k in rest.items() for more in (frozenset({head}), set()))
        )
        found = dict(zip(sets, measure(f"minimality without {label}", sets), strict=True))
        for head, k in rest.items():
            tried[head].add(k)
            change = np.asarray(found[outside | k | {head}] - found[outside | k], dtype=np.float64)
            size = abs(float(change.mean()))
            if head in best and size <= abs(best[head]["change"]["mean"]):
                continue
            best[head] = {
                "head": list(head),
                "class": class_of[head],
                "without": label if k else "no other",
                "k": len(k),
                "change": mean_of(change, config.seed),
                "share": size / whole if whole else None,
                "needed": bool(whole and size / whole >= THRESHOLD),
            }
    heads = [best[head] for head in sorted(best)]
    return {"threshold": THRESHOLD, "share": float(np.mean([one["needed"] for one in heads])), "heads": heads}
