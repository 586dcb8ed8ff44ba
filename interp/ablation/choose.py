"""Which prompts choose, which heads are chosen, and which random heads stand against them. Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from interp.ablation.config import AblationConfig, Head
from interp.verify import MIN_PROMPTS, bootstrap_mean

MIN_TRAIN = 3
"""With fewer training prompts nothing is chosen."""
EXACT, DRAWS = 12, 10_000
"""Sign-flip test: all flips up to so many prompts, else so many random ones."""


def split(n: int, config: AblationConfig) -> tuple[list[int], list[int]]:
    """(training, held-out) indices of n prompts, seeded; named heads leave all prompts to judge.

    The held-out part has at least `MIN_PROMPTS` prompts as long as `MIN_TRAIN` are left to train on.
    """
    if config.heads:
        return [], list(range(n))
    n_test = max(n - int(n * config.train), min(MIN_PROMPTS, n - MIN_TRAIN), min(n, 1))
    order = np.random.default_rng((config.seed, n)).permutation(n)
    return sorted(map(int, order[n_test:])), sorted(map(int, order[:n_test]))


def sign_flip(effects: np.ndarray, helps: bool, seed: int) -> float:
    """One-sided p value of a mean effect [prompt] below 0 (`helps`) or above it, were each sign a coin's toss."""
    toward = -effects if helps else effects
    if len(toward) <= EXACT:
        signs = np.array(list(product((1.0, -1.0), repeat=len(toward))))
        return float((signs @ toward >= toward.sum() - 1e-12).mean())
    signs = np.random.default_rng(seed).choice((1.0, -1.0), size=(DRAWS, len(toward)))
    return float((1 + (signs @ toward >= toward.sum() - 1e-12).sum()) / (DRAWS + 1))


def corrected(p_values: Sequence[float], how: str) -> np.ndarray:
    """P values after Holm (1979) or Benjamini and Hochberg (1995)."""
    values = np.asarray(p_values, dtype=np.float64)
    n = len(values)
    if n == 0:
        return values
    order = np.argsort(values, kind="stable")
    if how == "holm":
        stepped = np.maximum.accumulate(values[order] * (n - np.arange(n)))
    else:
        stepped = np.minimum.accumulate((values[order] * n / np.arange(1, n + 1))[::-1])[::-1]
    out = np.empty(n)
    out[order] = np.minimum(stepped, 1.0)
    return out


@dataclass(frozen=True)
class Trial:
    """One candidate on the training prompts; None where there are none.

    `p` is the uncorrected p value; `usable`: there are enough prompts to choose by; `counts`: and its interval lies
    wholly on the side aimed at.
    """

    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    usable: bool = False
    counts: bool = False


def trial(effects: np.ndarray, config: AblationConfig) -> Trial:
    """A candidate's effects by training prompt, summed up."""
    if len(effects) == 0 or not np.isfinite(effects).all():
        return Trial()
    told = bootstrap_mean(effects, seed=config.seed)
    beyond = told.high < 0 if config.helps else told.low > 0
    p = sign_flip(effects, config.helps, config.seed)
    usable = len(effects) >= MIN_TRAIN
    return Trial(told.mean, told.low, told.high, p, usable, usable and beyond)


def chosen(trials: Sequence[Trial], config: AblationConfig) -> list[int]:
    """Indices of the candidates that count, in their own order; with `select`, of the best so many whose mean is on the
    side aimed at, whatever their interval."""
    toward = -1 if config.helps else 1
    worth = {
        i: one.effect
        for i, one in enumerate(trials)
        if one.effect is not None and (one.counts if config.select is None else one.usable and toward * one.effect > 0)
    }
    best = sorted(worth, key=lambda i: worth[i] if config.helps else -worth[i])
    return sorted(best[: config.select])


def random_heads(found: Sequence[Head], shape: tuple[int, int], seed: Sequence[int]) -> list[Head] | None:
    """As many heads that were not found, from the same layers (where a layer has too few left, from the nearest ones);
    None when the model has not enough."""
    n_layers, n_heads = shape
    taken, drawn = set(found), []
    if len(taken) * 2 > n_layers * n_heads:
        return None
    rng = np.random.default_rng(list(seed))
    for layer in sorted(layer for layer, _ in taken):
        free: list[Head] = []
        for at in sorted(range(n_layers), key=lambda other: (abs(other - layer), other)):
            free = [(at, head) for head in range(n_heads) if (at, head) not in taken]
            if free:
                break
        pick = free[int(rng.integers(len(free)))]
        taken.add(pick)
        drawn.append(pick)
    return sorted(drawn)
