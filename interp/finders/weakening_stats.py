"""Is the primary weaker where secondaries begin? The statistic, its intervals and its null. Pure.

In a prompt with secondary sinks let a[l] be the attention the anchor receives in layer l (alpha, mean over heads), R
the layers that read the anchor as a sink, and S those of R that read a secondary's first state. The statistic is

    mean of a over S  -  mean of a over R without S,

its mean over prompts, with a bootstrap interval; the ratio of the two means likewise.

``p`` asks whether those layers differ from others. The anchor's profile over layers is smooth and S mostly lies in one
piece, so layers cannot be relabelled at will: neighbours would be taken for independent, and p would be too small. S is
shifted as it is, in a circle over the layers of all R, by the same step in all prompts, which share the model's
profile; every shift is counted, the observed one included. One-sided (weaker). With n shifts p cannot fall below 1/n
(``p_smallest``): with fewer than 20 layers it never reaches 0.05. Where S is any piece of a smooth profile, p keeps its
level; at either end of a profile that drifts it does not (on a random walk p <= 0.05 in up to 17 of 100 cases).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from interp.verify import MIN_PROMPTS, bootstrap_mean

LEVEL = 0.05


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


def weakening(cases: Sequence[Case], seed: int) -> dict[str, dict[str, Any]]:
    """Claims ``weakening.difference`` and ``weakening.ratio``: mean, interval, prompts; of the first also ``p``,
    ``p_smallest``, ``shifts`` and the sign test over prompts (``below``, ``above``, ``p_sign``)."""
    if not cases:
        why = "no prompt has layers in which secondary sinks begin and others in which the anchor is read"
        nothing = {"mean": None, "low": None, "high": None, "n": 0, "why": why}
        return {"weakening.difference": {**nothing, "p": None, "p_smallest": None}, "weakening.ratio": nothing}
    differences = [case.difference for case in cases]
    below, above = sum(d < 0 for d in differences), sum(d > 0 for d in differences)
    found = bootstrap_mean(differences, seed=seed)
    ratio = bootstrap_mean([case.ratio for case in cases], seed=seed)
    p, smallest, shifts = p_layers(cases)
    return {
        "weakening.difference": {
            **{"mean": found.mean, "low": found.low, "high": found.high, "n": len(cases)},
            **{"p": p, "p_smallest": smallest, "shifts": shifts},
            **{"below": below, "above": above, "p_sign": sign_test(below, above)},
        },
        "weakening.ratio": {"mean": ratio.mean, "low": ratio.low, "high": ratio.high, "n": len(cases)},
    }


def outcome(difference: Mapping[str, Any]) -> dict[str, str]:
    """Claim ``weakening.outcome``: ``verdict`` = weaker, not weaker or cannot be told, and ``why``. Weaker takes an
    interval below 0 and p <= 0.05 against other layers, in at least 8 prompts."""
    if difference["mean"] is None:
        return {"verdict": "cannot be told", "why": difference["why"]}
    if difference["n"] < MIN_PROMPTS:
        return {"verdict": "cannot be told", "why": f"too few prompts: {difference['n']}, {MIN_PROMPTS} are needed"}
    if difference["high"] >= 0:
        return {"verdict": "not weaker", "why": "the interval of the difference is not below 0"}
    if difference["p_smallest"] > LEVEL:
        why = f"too few layers to tell from position alone: p cannot fall below {difference['p_smallest']:.2g}"
        return {"verdict": "cannot be told", "why": why}
    if difference["p"] > LEVEL:
        return {"verdict": "not weaker", "why": f"other layers would do as well: p = {difference['p']:.2g}"}
    return {"verdict": "weaker", "why": f"the interval is below 0, and p = {difference['p']:.2g} against other layers"}


def sign_test(below: int, above: int) -> float:
    """Two-sided exact binomial p of so many signs each way; ties are left out by the caller."""
    n, least = below + above, min(below, above)
    return min(1.0, 2 * sum(comb(n, k) for k in range(least + 1)) / 2**n)


def p_layers(cases: Sequence[Case]) -> tuple[float, float, int]:
    """p over all circular shifts of S, the smallest it could be, and how many shifts there are. A prompt sits out the
    shifts that leave it without S or without other layers; one that all sit out counts against."""
    observed = float(np.mean([case.difference for case in cases]))
    layers = sorted({layer for case in cases for layer in (*case.there, *case.elsewhere)})
    beyond = same = 0
    for step in range(len(layers)):
        moved = dict(zip(layers, (*layers[step:], *layers[:step]), strict=True))
        values, alike = [], True
        for case in cases:
            own = {*case.there, *case.elsewhere}
            there = own & {moved[layer] for layer in case.there}
            alike = alike and there == set(case.there)
            if there and there != own:
                values.append(contrast(case.mass, sorted(there), sorted(own - there)))
        same += alike  # S can be so regular that it falls onto itself
        beyond += not values or float(np.mean(values)) <= observed + 1e-12
    return beyond / len(layers), same / len(layers), len(layers)
