"""Levels: the few (start layer, lifetime) pairs that sinks of many prompts fall into (Wong et al. 2025, arXiv
2512.22213)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

TOLERANCE = 1
"""A pair joins a more frequent one that starts and lasts within so many layers of it."""


def levels(pairs: list[tuple[int, int]]) -> tuple[list[int], list[tuple[int, int]]]:
    """Cluster (start, lifetime) pairs: the most frequent pair takes in its neighbours, then the next; nothing chains.

    Returns:
        the level of every pair, and the pair each level is named after, in order of start, then lifetime.
    """
    counts = Counter(pairs)
    heads: list[tuple[int, int]] = []
    belongs: dict[tuple[int, int], tuple[int, int]] = {}
    for pair in sorted(counts, key=lambda pair: (-counts[pair], pair)):
        near = [head for head in heads if max(abs(head[0] - pair[0]), abs(head[1] - pair[1])) <= TOLERANCE]
        if not near:
            heads.append(pair)
        belongs[pair] = near[0] if near else pair
    heads.sort()
    return [heads.index(belongs[pair]) for pair in pairs], heads


def describe(
    table: pd.DataFrame, heads: list[tuple[int, int]], prompts: list[int], n_prompts: int
) -> list[dict[str, Any]]:
    """One dict a level: how often, in which share of the prompts, which kinds and tokens, how long the states are.

    Args:
        table: the sinks table, `level` filled in.
        heads: pair each level is named after.
        prompts: index of the prompt of each row (names may repeat).
        n_prompts: how many prompts were scanned.
    """
    told = []
    index = np.array(prompts, dtype=int)
    for level, (start, lifetime) in enumerate(heads):
        member = (table["level"] == level).to_numpy(dtype=bool)
        rows = table[member]
        tokens = rows.groupby(["token_id", "token"]).size().sort_values(ascending=False, kind="stable").head(10)
        told.append(
            {
                "level": level,
                "start_layer": start,
                "lifetime": lifetime,
                "sinks": len(rows),
                "kinds": {str(kind): int(count) for kind, count in rows["kind"].value_counts().sort_index().items()},
                "prompts": len(set(index[member].tolist())),
                "share_of_prompts": len(set(index[member].tolist())) / n_prompts,
                "tokens": [{"token_id": int(i), "token": str(t), "sinks": int(n)} for (i, t), n in tokens.items()],  # type: ignore[misc]
                "norm": {
                    name: float(rows["norm"].quantile(q)) for name, q in (("low", 0.1), ("median", 0.5), ("high", 0.9))
                },
            }
        )
    return told
