"""Is the primary weaker where secondaries begin? The statistic, its intervals and its null. Pure.

In a prompt with secondary sinks let a[l] be the attention the anchor receives in layer l (alpha, mean over heads), R
the layers that read the anchor as a sink, and S those of R that read a secondary's first state. The statistic is

    mean of a over S  -  mean of a over R without S,

its mean over prompts, with a bootstrap interval; the ratio of the two means likewise. Two nulls move S:

- ``p``: one relabelling of layers for all prompts at once. The prompts share the model's profile over layers, so this
  is the test of "those layers, rather than others"; with few layers it cannot become small.
- ``p_prompts``: another choice of as many layers of R in every prompt by itself. It takes prompts for independent
  witnesses about layers, which they are only in part.

Both are one-sided (weaker) with the observed case counted in (Phipson and Smyth 2010, doi 10.2202/1544-6115.1585).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from interp.verify import bootstrap_mean


@dataclass(frozen=True)
class Case:
    """One prompt: the anchor's mass by layer, and the layers S and R without S."""

    mass: np.ndarray
    there: tuple[int, ...]
    elsewhere: tuple[int, ...]

    @property
    def difference(self) -> float:
        """The statistic of this prompt."""
        return contrast(self.mass, self.there, self.elsewhere)

    @property
    def ratio(self) -> float:
        """The mean over S as a share of the mean elsewhere."""
        return float(self.mass[list(self.there)].mean() / self.mass[list(self.elsewhere)].mean())


def contrast(mass: np.ndarray, there: Sequence[int], elsewhere: Sequence[int]) -> float:
    """Mean over some layers minus mean over others."""
    return float(mass[list(there)].mean() - mass[list(elsewhere)].mean())


def weakening(cases: Sequence[Case], shuffles: int, seed: int) -> dict[str, dict[str, Any]]:
    """Claims ``weakening.difference`` and ``weakening.ratio``: mean, interval, prompts; of the first also ``p``,
    ``p_prompts`` and the sign test (``below``, ``above``, ``p_sign``)."""
    if not cases:
        why = "no prompt has layers in which secondary sinks begin and others in which the anchor is read"
        nothing = {"mean": None, "low": None, "high": None, "n": 0, "why": why}
        return {"weakening.difference": {**nothing, "p": None}, "weakening.ratio": nothing}
    differences = [case.difference for case in cases]
    below, above = sum(d < 0 for d in differences), sum(d > 0 for d in differences)
    found = bootstrap_mean(differences, seed=seed)
    ratio = bootstrap_mean([case.ratio for case in cases], seed=seed)
    return {
        "weakening.difference": {
            **{"mean": found.mean, "low": found.low, "high": found.high, "n": len(cases)},
            "p": p_layers(cases, shuffles, seed),
            "p_prompts": p_prompts(cases, shuffles, seed),
            **{"below": below, "above": above, "p_sign": sign_test(below, above)},
        },
        "weakening.ratio": {"mean": ratio.mean, "low": ratio.low, "high": ratio.high, "n": len(cases)},
    }


def sign_test(below: int, above: int) -> float:
    """Two-sided exact binomial p of so many signs each way; ties are left out by the caller."""
    n, least = below + above, min(below, above)
    return min(1.0, 2 * sum(comb(n, k) for k in range(least + 1)) / 2**n)


def p_layers(cases: Sequence[Case], shuffles: int, seed: int) -> float:
    """p under one relabelling of layers for all prompts; a prompt sits out the draws that leave it without S or
    without other layers."""
    observed = float(np.mean([case.difference for case in cases]))
    layers = sorted({layer for case in cases for layer in (*case.there, *case.elsewhere)})
    rng = np.random.default_rng((seed, 0))
    beyond = 0
    for _ in range(shuffles):
        moved = dict(zip(layers, rng.permutation(layers).tolist(), strict=True))
        values = []
        for case in cases:
            own = {*case.there, *case.elsewhere}
            there = own & {moved[layer] for layer in case.there}
            if there and there != own:
                values.append(contrast(case.mass, sorted(there), sorted(own - there)))
        beyond += not values or float(np.mean(values)) <= observed + 1e-12
    return (1 + beyond) / (1 + shuffles)


def p_prompts(cases: Sequence[Case], shuffles: int, seed: int) -> float:
    """p under another choice of layers in every prompt by itself."""
    observed = float(np.mean([case.difference for case in cases]))
    rng = np.random.default_rng((seed, 1))
    total = np.zeros(shuffles)
    for case in cases:
        mass = case.mass[[*case.there, *case.elsewhere]]
        size, n = len(case.there), len(mass)
        drawn = mass[np.argsort(rng.random((shuffles, n)), axis=1)]
        total += drawn[:, :size].mean(axis=1) - drawn[:, size:].mean(axis=1)
    return float((1 + (total / len(cases) <= observed + 1e-12).sum()) / (1 + shuffles))
