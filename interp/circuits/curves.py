"""Curves of a ranking: how much of the model the best so many heads or edges carry (MIB: Mueller et al. 2025, arXiv
2504.13151).

1. Keep the best share of a ranking and ablate the rest: m(C). f = (m(C) - m(empty)) / (m(N) - m(empty)), with m the
   mean logit difference, N the whole model, and in `empty` everything ablated.
2. CPR (circuit performance ratio) = area under f; CMD (circuit-model distance) = area under |1 - f|. As in MIB's own
   code, trapezoids on a linear axis between the first and the last share: nothing is added below the first, so a curve
   that is 1 everywhere has CPR .999. Each share takes floor(share * n) of n.
3. The best are those that support the answer most (CPR), or those of the largest size either way (CMD): MIB scores the
   two on these two orders.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from interp.circuits.config import Head
from interp.errors import UsageError

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of the heads or edges that are kept, as in MIB."""


class Ablates(Protocol):
    """What a curve needs of `interp.circuits.knockout.Knockout`."""

    @property
    def heads(self) -> tuple[Head, ...]:
        """All heads of the model."""
        ...

    def differences(self, sets: Sequence[Collection[Head]]) -> np.ndarray:
        """Logit difference [set, prompt] with the heads of each set ablated."""
        ...


def area(shares: Sequence[float], f: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """(CPR, CMD) of the values `f`, one a share.

    Raises:
        UsageError: fewer than two shares, shares out of order, or not one value a share.
    """
    x, y = np.asarray(shares, dtype=np.float64), np.asarray(f, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2 or (np.diff(x) <= 0).any() or x.shape != y.shape:
        raise UsageError(f"{list(y.shape)} values at shares {x.tolist()}; expected one a share, shares increasing")
    return float(np.trapezoid(y, x)), float(np.trapezoid(np.abs(1 - y), x))


def taken(share: float, n: int) -> int:
    """How many of n a share takes: floor(share * n), safe from rounding of the product."""
    return int(np.floor(share * n + 1e-9))


def ordered(scores: np.ndarray, *, absolute: bool = False, seed: int = 0) -> list[int]:
    """Indices of `scores` [n] from best to worst; equal ones in an order drawn with `seed`, NaN last."""
    values = np.abs(scores) if absolute else np.asarray(scores, dtype=np.float64)
    shuffled = np.random.default_rng(seed).permutation(len(values))
    return shuffled[np.argsort(-np.nan_to_num(values, nan=-np.inf)[shuffled], kind="stable")].tolist()


def normalised(values: np.ndarray, empty: float, whole: float) -> np.ndarray:
    """f of mean logit differences.

    Raises:
        UsageError: ablating everything leaves the model where it was.
    """
    if whole == empty:
        raise UsageError(f"ablating everything leaves the mean logit difference at {whole:g}: there is no share of it")
    return (np.asarray(values, dtype=np.float64) - empty) / (whole - empty)


def head_curve(
    knockout: Ablates, rankings: Mapping[str, np.ndarray], shares: Sequence[float] = SHARES, seed: int = 0
) -> dict[str, Any]:
    """Curves of several rankings of heads, over the prompts of `knockout`; every different set of heads runs once.

    Args:
        rankings: name -> scores [layer, head]; positive = supports the answer; NaN ranks last.

    Returns:
        JSON-able: ``shares``, ``kept`` (heads by share), ``whole`` and ``empty`` (mean logit difference), ``sets`` (how
        many were run), and ``curves``: name -> ``signed`` and ``absolute`` ({f by share, cpr, cmd}), ``cpr`` (of
        signed) and ``cmd`` (of absolute).

    Raises:
        UsageError: a ranking without a score for every head.
    """
    heads, index = list(knockout.heads), tuple(np.array(knockout.heads).T)
    kept = [taken(share, len(heads)) for share in shares]
    orders: dict[tuple[str, bool], list[Head]] = {}
    for name, ranking in rankings.items():
        if ranking.ndim != 2 or (np.array(ranking.shape) <= np.array(heads).max(0)).any():
            raise UsageError(f"ranking {name!r} of shape {list(ranking.shape)}; expected a score for each of the heads")
        for absolute in (False, True):
            orders[name, absolute] = [heads[i] for i in ordered(ranking[index], absolute=absolute, seed=seed)]
    wanted = {frozenset(order[:count]) for order in orders.values() for count in kept}
    sets = sorted(wanted | {frozenset(), frozenset(heads)}, key=lambda one: (len(one), sorted(one)))
    means = dict(zip(sets, knockout.differences([set(heads) - one for one in sets]).mean(1).tolist(), strict=True))
    empty, whole = means[frozenset()], means[frozenset(heads)]
    curves: dict[str, Any] = {}
    for name in rankings:
        found = {}
        for label, absolute in (("signed", False), ("absolute", True)):
            order = orders[name, absolute]
            f = normalised(np.array([means[frozenset(order[:count])] for count in kept]), empty, whole)
            cpr, cmd = area(shares, f)
            found[label] = {"f": f.tolist(), "cpr": cpr, "cmd": cmd}
        curves[name] = {**found, "cpr": found["signed"]["cpr"], "cmd": found["absolute"]["cmd"]}
    return {
        "shares": list(shares),
        "kept": kept,
        "whole": whole,
        "empty": empty,
        "sets": len(sets),
        "curves": curves,
    }


def random_rankings(shape: tuple[int, int], draws: int, seed: int = 0) -> dict[str, np.ndarray]:
    """``random 1``, ``random 2``, ...: scores [layer, head] drawn evenly, to compare with."""
    rng = np.random.default_rng(seed)
    return {f"random {draw + 1}": rng.random(shape) for draw in range(draws)}
