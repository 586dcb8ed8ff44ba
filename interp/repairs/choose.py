"""Which prompts choose, and which heads are chosen on them. Pure NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from interp.ablation.choose import MIN_TRAIN, numbered
from interp.circuits.config import Head
from interp.repairs.config import RepairConfig
from interp.verify import MIN_PROMPTS
from probes.base import Prompt


def split(prompts: Sequence[Prompt], config: RepairConfig) -> tuple[list[int], list[int]]:
    """(training, held-out) indices, seeded; of prompts of the same tokens the first stands for all. At least
    `MIN_PROMPTS` judge where that leaves `MIN_TRAIN` to train on."""
    sequences = numbered([prompt.hash for prompt in prompts])
    first = [index for index, one in enumerate(sequences) if sequences.index(one) == index]
    n = len(first)
    n_test = max(n - int(n * config.train), MIN_PROMPTS if n >= MIN_PROMPTS + MIN_TRAIN else min(n, 1))
    held_out = set(np.random.default_rng((config.seed, n)).permutation(n)[:n_test].tolist())
    test = [index for index in first if sequences[index] in held_out]
    return [index for index in first if index not in test], test


@dataclass(frozen=True, order=True)
class Score:
    """Of an edit on the training prompts, compared in this order: share right by the metric, mean logit difference."""

    right: float
    difference: float


def best(values: np.ndarray, number: int) -> list[Head]:
    """The `number` heads of the highest value [layer, head], best first; NaN counts as lowest."""
    flat = np.where(np.isnan(values), -np.inf, values).ravel()
    order = np.argsort(-flat, kind="stable")[:number]
    return [(int(at) // values.shape[1], int(at) % values.shape[1]) for at in order if np.isfinite(flat[at])]


def ranked(right: np.ndarray, difference: np.ndarray, number: int) -> list[Head]:
    """The best heads by the share right [layer, head], those alike by the mean difference [layer, head]."""
    order = np.lexsort((-difference.ravel(), -right.ravel()))[:number]
    return [(int(at) // right.shape[1], int(at) % right.shape[1]) for at in order if np.isfinite(right.ravel()[at])]


def greedy(
    candidates: Sequence[Head],
    untouched: Score,
    score: Callable[[Sequence[tuple[Head, ...]]], Sequence[Score]],
    most: int,
) -> tuple[tuple[Head, ...], list[Score]]:
    """Heads added one at a time, each time the one that helps most, as long as more prompts come right.

    Args:
        score: of each of several sets of heads.

    Returns:
        The set, in the order in which it grew, and its score at each size.
    """
    chosen: tuple[Head, ...] = ()
    path: list[Score] = []
    now = untouched
    while len(chosen) < most:
        sets = [(*chosen, head) for head in candidates if head not in chosen]
        if not sets:
            break
        scores = score(sets)
        at = max(range(len(sets)), key=lambda i: (scores[i], -i))
        if scores[at].right <= now.right:
            break
        chosen, now = sets[at], scores[at]
        path.append(now)
    return chosen, path
