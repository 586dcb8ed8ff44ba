"""What the report draws of sinks: heatmaps and token strips. Pure: it only arranges what the units hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from interp.finders.base import Unit
from interp.finders.sink_config import Measured, Sink, SinksConfig
from interp.findings import Heatmap, TokenStrip
from probes.base import Prompt

ORDER = ("primary", "secondary", "transient")
LONGEST = 512
"""Patterns of longer prompts are pooled to this many cells a side."""


def heatmaps(
    prompts: Sequence[Prompt],
    measured: Sequence[Measured],
    anchor_mass: np.ndarray | None,
    table: pd.DataFrame,
    config: SinksConfig,
) -> list[Heatmap]:
    """Anchor mass by layer and head, levels, and for each drawn prompt attention received and alignment by layer and
    position."""
    maps = []
    if anchor_mass is not None:
        title = "Attention the anchor receives, mean over the prompts that have one"
        maps.append(Heatmap("anchor", title, anchor_mass, "layer", "head", "mean attention received", "layer-head"))
        maps.append(levels_map(table, measured[0].norm.shape[0]))
    for i, (prompt, one) in enumerate(zip(prompts[: config.draw], measured, strict=False)):
        for name, title, values, label in (
            ("received", "Attention received, mean over heads", one.received.mean(axis=1), "mean attention received"),
            (
                "anchor_cosine",
                f"Cosine of block outputs with position {one.reference}'s",
                one.cosine,
                "cosine with the anchor",
            ),
        ):
            kind, diverging = "layer-position", name == "anchor_cosine"
            title = f"{title}: {prompt.name}"
            maps.append(
                Heatmap(f"{name}.{i}", title, values, "layer", "position", label, kind, i, prompt.tokens, diverging)
            )
    return maps


def levels_map(table: pd.DataFrame, n_layers: int) -> Heatmap:
    """Sinks counted by start layer (rows) and lifetime (columns, 0 and up); NaN where there is none, so that a single
    one stands out."""
    counts = np.zeros((n_layers, n_layers + 1))
    np.add.at(counts, (table["start_layer"].to_numpy(dtype=int), table["lifetime"].to_numpy(dtype=int)), 1)
    counts[counts == 0] = np.nan
    title = "Sinks by start layer and lifetime, all prompts (blank: none)"
    return Heatmap("levels", title, counts, "start layer", "lifetime", "sinks")


def strips(
    prompts: Sequence[Prompt], measured: Sequence[Measured], sinks: Sequence[Sequence[Sink]], config: SinksConfig
) -> list[TokenStrip]:
    """Token strips of the drawn prompts, still without patterns; a position of several kinds is marked with the first
    of `ORDER`."""
    made = []
    for i, (prompt, one, found) in enumerate(zip(prompts[: config.draw], measured, sinks, strict=False)):
        marks = {sink.position: sink.kind for sink in sorted(found, key=lambda sink: -ORDER.index(sink.kind))}
        made.append(
            TokenStrip(i, prompt.name, prompt.tokens, one.received.mean(axis=(0, 1)), dict(sorted(marks.items())))
        )
    return made


def heads_drawn(anchor_mass: np.ndarray | None, secondary_mass: np.ndarray | None, count: int) -> list[tuple[int, int]]:
    """The heads worth drawing: alternately those that give the anchor and those that give secondary sinks most, by
    layer and head."""
    rankings = [
        [tuple(int(i) for i in divmod(flat, mass.shape[1])) for flat in np.argsort(-mass, axis=None, kind="stable")]
        for mass in (anchor_mass, secondary_mass)
        if mass is not None
    ]
    chosen: list[tuple[int, int]] = []
    turn = 0
    while rankings and len(chosen) < min(count, len(rankings[0])):
        chosen.append(next(head for head in rankings[turn % len(rankings)] if head not in chosen))  # type: ignore[arg-type]
        turn += 1
    return sorted(chosen)


def with_patterns(strips: Sequence[TokenStrip], checks: Sequence[Unit | None]) -> list[TokenStrip]:
    """The strips with the patterns that the causal check brought along."""
    made = []
    for strip in strips:
        unit = checks[strip.prompt]
        found: dict[str, Any] = {} if unit is None else unit.arrays
        patterns = {name.removeprefix("pattern."): rows for name, rows in found.items()}
        made.append(replace(strip, patterns=patterns, pool=pool_size(len(strip.tokens))))
    return made


def pool_size(length: int) -> int:
    """How many positions share a cell of a pattern, so that `length` of them fit `LONGEST` cells."""
    return -(-length // LONGEST)


def pool(pattern: np.ndarray, size: int) -> np.ndarray:
    """Pool a pattern [query, key]: sums over blocks of `size` keys, means over blocks of `size` queries (the last may
    be shorter)."""
    if size == 1:
        return pattern
    starts = np.arange(0, pattern.shape[0], size)
    queries = np.diff(np.append(starts, pattern.shape[0]))[:, None]
    mass = np.add.reduceat(pattern, np.arange(0, pattern.shape[1], size), axis=1)
    return (np.add.reduceat(mass, starts, axis=0) / queries).astype(pattern.dtype)
