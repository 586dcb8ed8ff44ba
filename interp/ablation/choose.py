"""Which prompts choose, which heads are chosen, and which random heads stand against them. Pure NumPy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from interp.ablation.config import AblationConfig, Head
from interp.verify import LEVEL, MIN_PROMPTS, Estimate

MIN_TRAIN = 3
"""With fewer training prompts nothing is chosen."""
CHANCE = (1 - LEVEL) / 2
"""Share of heads without any effect that an interval on one side of 0 chooses, were their changes normal."""
EXACT, DRAWS = 12, 10_000
"""Sign-flip test: all flips up to so many prompts, else so many random ones."""


def numbered(hashes: Sequence[str]) -> list[int]:
    """The number of each prompt's token sequence: prompts of the same tokens have one number."""
    first = {one: number for number, one in enumerate(dict.fromkeys(hashes))}
    return [first[one] for one in hashes]


def split(sequences: Sequence[int], config: AblationConfig) -> tuple[list[int], list[int]]:
    """(training, held-out) indices of prompts given their `numbered` sequences, seeded; named heads leave all prompts
    to judge.

    A sequence is never on both sides. Sequences held out are at least `MIN_PROMPTS`, which a verdict needs, where that
    leaves `MIN_TRAIN` to train on; where it does not, there is no verdict to be had and the share decides.
    """
    if config.heads:
        return [], list(range(len(sequences)))
    n = len(set(sequences))
    n_test = max(n - int(n * config.train), MIN_PROMPTS if n >= MIN_PROMPTS + MIN_TRAIN else min(n, 1))
    held_out = set(np.random.default_rng((config.seed, n)).permutation(n)[:n_test].tolist())
    test = [index for index, one in enumerate(sequences) if one in held_out]
    return sorted(set(range(len(sequences))) - set(test)), test


def per_sequence(sequences: Sequence[int], values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Mean of the values of each sequence, in the order in which sequences come."""
    array = np.asarray(values, dtype=np.float64)
    return np.array([array[np.equal(sequences, one)].mean() for one in dict.fromkeys(sequences)])


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


def t_quantile(degrees: int) -> float:
    """Student's t that a variable of so many degrees of freedom stays within, both sides, with probability `LEVEL`."""
    # with t = sqrt(degrees) tan(u) the density of u is cos(u) ** (degrees - 1)
    u = np.linspace(0, np.pi / 2, 100_001)
    density = np.cos(u) ** (degrees - 1)
    area = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(np.sqrt(degrees) * np.tan(np.interp(LEVEL, area / area[-1], u)))


def t_interval(values: np.ndarray) -> Estimate:
    """Mean with Student's interval. A percentile bootstrap over three or four prompts is so narrow that it chooses one
    in eight heads without any effect. Of a single value the interval is that value."""
    mean, n = float(values.mean()), len(values)
    half = t_quantile(n - 1) * float(values.std(ddof=1)) / n**0.5 if n > 1 else 0.0
    return Estimate(mean, mean - half, mean + half)


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
    """A candidate's effects by training sequence, summed up."""
    if len(effects) == 0 or not np.isfinite(effects).all():
        return Trial()
    told = t_interval(effects)
    beyond = told.high < 0 if config.lowers else told.low > 0
    p = sign_flip(effects, config.lowers, config.seed)
    usable = len(effects) >= MIN_TRAIN
    return Trial(told.mean, told.low, told.high, p, usable, usable and beyond)


def chosen(trials: Sequence[Trial], config: AblationConfig) -> list[int]:
    """Indices of the candidates that count, in their own order; with `select`, of the best so many whose mean is on the
    side aimed at, whatever their interval."""
    toward = -1 if config.lowers else 1
    worth = {
        i: one.effect
        for i, one in enumerate(trials)
        if one.effect is not None and (one.counts if config.select is None else one.usable and toward * one.effect > 0)
    }
    best = sorted(worth, key=lambda i: worth[i] if config.lowers else -worth[i])
    return sorted(best[: config.select])


def random_heads(
    found: Sequence[Head], shape: tuple[int, int], seed: Sequence[int], exclude: Iterable[Head] = ()
) -> list[Head] | None:
    """As many heads that were not found, from the same layers (where a layer has too few left, from the nearest ones);
    None when the model has not enough. Those in `exclude` are not drawn either."""
    n_layers, n_heads = shape
    wanted, drawn = set(found), []
    taken = wanted | set(exclude)
    if len(wanted) + len(taken) > n_layers * n_heads:
        return None
    rng = np.random.default_rng(list(seed))

    def draw(at: int) -> bool:
        free = [(at, head) for head in range(n_heads) if (at, head) not in taken]
        if free:
            drawn.append(free[int(rng.integers(len(free)))])
            taken.add(drawn[-1])
        return bool(free)

    without = [layer for layer in sorted(layer for layer, _ in wanted) if not draw(layer)]
    for layer in without:
        nearest = sorted(range(n_layers), key=lambda other: (abs(other - layer), other))
        next(at for at in nearest if draw(at))
    return sorted(drawn)


def control_layers(found: Sequence[Head], shape: tuple[int, int]) -> tuple[int, int]:
    """How many of the `random_heads` stand in the layers of those found, and how many in other layers."""
    layers = [layer for layer, _ in set(found)]
    same = sum(min(layers.count(layer), shape[1] - layers.count(layer)) for layer in set(layers))
    return same, len(layers) - same
