"""What the report draws of an ablation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.ablation.config import AblationConfig
from interp.ablation.words import metric
from interp.finders.base import ModelFacts
from interp.findings import Chart, Heatmap, Series, Verification

DRAWN = 64
"""Candidates a chart shows; the table has them all."""


def heatmaps(table: pd.DataFrame, config: AblationConfig, facts: ModelFacts) -> list[Heatmap]:
    """Effect of each head alone, layer by head; of layers there is none."""
    source = "held_out" if config.heads else "effect"
    rows = table[table["head"].notna() & table[source].notna()]
    if rows.empty:
        return []
    values = np.full((facts.n_layers, facts.n_heads), np.nan)
    values[rows["layer"].astype(int), rows["head"].astype(int)] = rows[source].astype(float)
    where = "all prompts" if config.heads else "training prompts"
    return [
        Heatmap(
            "effect",
            f"Effect of each head alone ({where})",
            values,
            "layer",
            "head",
            f"change of {metric(config)}",
            kind="layer-head",
            diverging=True,
        )
    ]


def charts(table: pd.DataFrame, config: AblationConfig) -> list[Chart]:
    """Candidates in order of their effect on the training prompts, beside their effect on the held-out ones."""
    toward = 1 if config.lowers else -1
    order = (toward * table["effect"].dropna()).argsort(kind="stable")[:DRAWN]
    rows = table[table["effect"].notna()].iloc[order.to_numpy()]
    if rows.empty:
        return []
    x = tuple(float(place) for place in range(len(rows)))
    labels = tuple("chosen" if chosen else "not chosen" for chosen in rows["selected"])
    held_out = tuple(None if pd.isna(value) else float(value) for value in rows["held_out"])
    return [
        Chart(
            "candidates",
            "Each candidate alone: where it was chosen, and elsewhere",
            "candidate",
            f"change of {metric(config)}",
            (
                Series(
                    "training prompts",
                    x,
                    tuple(map(float, rows["effect"])),
                    tuple(map(float, rows["effect_low"])),
                    tuple(map(float, rows["effect_high"])),
                    "points",
                    labels,
                ),
                Series("held-out prompts", x, held_out, draw="points", labels=labels),
            ),
            "Bars are 95 % intervals (Student's t) over the training prompts. Where the held-out points lie closer to "
            "0 than the training ones, choosing the extreme ones picked up chance.",
            x_names=tuple(map(str, rows["name"])),
            equal=0.0,
        )
    ]


def check_charts(checked: Verification, controls: str) -> list[Chart]:
    """Effect and control by prompt; `controls` says what random heads these are."""
    if not checked.per_prompt:
        return []
    x = tuple(float(place) for place in range(len(checked.per_prompt)))
    return [
        Chart(
            "held-out",
            "The edited heads together, prompt by prompt",
            "prompt",
            f"change of {checked.metric}",
            (
                Series("edited heads", x, tuple(one["effect"] for one in checked.per_prompt), draw="points"),
                Series("random heads", x, tuple(one["control"] for one in checked.per_prompt), draw="points"),
            ),
            f"Each prompt under the edit of the tested heads, and of as many {controls}.",
            x_names=tuple(one["name"] for one in checked.per_prompt),
            equal=0.0,
        )
    ]
