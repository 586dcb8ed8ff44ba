"""Levels: the few (start layer, lifetime) pairs that sinks of many prompts fall into (Wong et al. 2025, arXiv
2512.22213)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TOLERANCE = 1
"""A pair joins a more frequent one that starts, and ends, within so many layers of it."""


def levels(pairs: list[tuple[int, int]]) -> tuple[list[int], list[tuple[int, int]]]:
    """Cluster (start, lifetime) pairs: the most frequent pair takes in its neighbours, then the next; nothing chains.

    Returns:
        the level of every pair, and the pair each level is named after, in order of start, then lifetime.
    """
    counts = Counter(pairs)
    heads: list[tuple[int, int]] = []
    belongs: dict[tuple[int, int], tuple[int, int]] = {}
    for pair in sorted(counts, key=lambda pair: (-counts[pair], pair)):
        near = [
            head for head in heads if abs(head[0] - pair[0]) <= TOLERANCE and abs(sum(head) - sum(pair)) <= TOLERANCE
        ]
        if not near:
            heads.append(pair)
        belongs[pair] = near[0] if near else pair
    heads.sort()
    return [heads.index(belongs[pair]) for pair in pairs], heads


def describe(
    rows: Sequence[Mapping[str, Any]], heads: Sequence[tuple[int, int]], prompts: Sequence[int], n_prompts: int
) -> list[dict[str, Any]]:
    """One dict a level: how often, in which share of the prompts, which kinds and tokens, how long the states are.

    Args:
        rows: the rows of the sinks table, `level` filled in.
        heads: pair each level is named after.
        prompts: index of the prompt of each row (names may repeat).
        n_prompts: how many prompts were scanned.
    """
    told = []
    for level, (start, lifetime) in enumerate(heads):
        members = [(row, prompt) for row, prompt in zip(rows, prompts, strict=True) if row["level"] == level]
        tokens = Counter((row["token_id"], row["token"]) for row, _ in members)
        low, median, high = np.quantile([row["norm"] for row, _ in members], (0.1, 0.5, 0.9)).tolist()
        holding = {prompt for _, prompt in members}
        told.append(
            {
                "level": level,
                "start_layer": start,
                "lifetime": lifetime,
                "sinks": len(members),
                "kinds": dict(sorted(Counter(row["kind"] for row, _ in members).items())),
                "prompts": len(holding),
                "share_of_prompts": len(holding) / n_prompts,
                "tokens": [{"token_id": i, "token": text, "sinks": n} for (i, text), n in tokens.most_common(10)],
                "norm": {"low": low, "median": median, "high": high},
            }
        )
    return told
