"""Token strips for the page: tokens, the weight that shades them at rest, marks, a few attention patterns as bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from interp.findings import TokenStrip
from interp.report.pack import Pack, pool_pattern
from interp.report.text import clean

MAX_TOKENS = 2048  # longer strips cannot be read anyway
MAX_KEYS = 512  # STYLE: patterns are pooled above this


def encode_pattern(pack: Pack, pattern: np.ndarray) -> dict[str, Any]:
    """Store [queries, keys] as bytes: value = max * (byte / 255) ** 2, an error of at most 0.4 % of the largest weight.

    A causal pattern is stored as its lower triangle, row after row.
    """
    pattern = np.nan_to_num(np.asarray(pattern, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0).clip(min=0.0)
    top = float(pattern.max()) if pattern.size else 0.0
    coded = np.rint(np.sqrt(pattern / top) * 255) if top > 0 else np.zeros_like(pattern)
    square = pattern.shape[0] == pattern.shape[1]
    causal = square and not np.triu(coded, 1).any()
    stored = coded[np.tril_indices(len(coded))] if causal else coded
    return {**pack.add(stored, "u1"), "shape": list(pattern.shape), "top": top, "causal": causal}


def strips(found: list[TokenStrip], pack: Pack, budget: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Strips for the page's JSON, and a sentence for each thing reduced.

    Args:
        pack: receives weights and patterns.
        budget: bytes of patterns in all; above it every pattern is pooled further, evenly.
    """
    notes: list[str] = []
    extra = 1
    while _bytes(found, extra) > budget and extra < 64:
        extra *= 2
    pools: dict[int, int] = {}
    out = []
    for strip in found:
        patterns = {}
        pool = max(1, strip.pool)
        for name, pattern in strip.patterns.items():
            by = extra * max(1, -(-pattern.shape[1] // MAX_KEYS))
            pool = max(1, strip.pool) * by
            patterns[clean(name)] = {
                **encode_pattern(pack, pool_pattern(pattern, by) if by > 1 else pattern),
                "pool": pool,
            }
        if patterns and pool > 1:
            pools[pool] = pools.get(pool, 0) + 1
        tokens = strip.tokens[:MAX_TOKENS]
        if len(strip.tokens) > MAX_TOKENS:
            notes.append(
                f"Token strip of {clean(strip.name)}: {MAX_TOKENS:,} of {len(strip.tokens):,} tokens are shown."
            )
        out.append(
            {
                "prompt": int(strip.prompt),
                "name": clean(strip.name),
                "tokens": [clean(token) for token in tokens],
                "weightLabel": clean(strip.weight_label),
                "weight": pack.add(np.asarray(strip.weight)[:MAX_TOKENS], "f4"),
                "marks": {int(position): clean(kind) for position, kind in strip.marks.items()},
                "patterns": patterns,
            }
        )
    for pool, count in sorted(pools.items()):
        notes.append(
            f"Attention patterns of {count} prompt{'s' * (count > 1)} are pooled over blocks of {pool} tokens: "
            "each cell is the mean over its queries of what they give to its keys together."
        )
    return out, notes


def _bytes(found: list[TokenStrip], extra: int) -> int:
    """About how many bytes the patterns take when pooled `extra` times (lower triangles)."""
    sizes = [p.shape for strip in found for p in strip.patterns.values()]
    return sum(min(q, MAX_KEYS * q // max(k, 1)) * min(k, MAX_KEYS) // (2 * extra * extra) for q, k in sizes)
