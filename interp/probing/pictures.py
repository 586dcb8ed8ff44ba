"""What is drawn of probes: scores by layer beside baseline and control, and all positions at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.findings import Chart, Findings, Heatmap, Series

LINES = (("score", "probe", "found"), ("control", "control task", "control"), ("baseline", "baseline", None))


def charts(findings: Findings) -> list[Chart]:
    """Scores by layer at the best row's position; none without a probe."""
    best = findings.summary["best"]
    if best is None:
        return []
    table: Any = findings.table
    here = table[table["position"] == best["position"]].sort_values("layer")
    x = tuple(float(layer) for layer in here["layer"])

    def column(name: str) -> tuple[float | None, ...]:
        return tuple(None if pd.isna(value) else float(value) for value in here[name])

    series = []
    for name, told, role in LINES:
        ends = (column("score_low"), column("score_high")) if name == "score" else ((), ())
        series.append(Series(told, x, column(name), *ends, role=role))  # pyright: ignore[reportArgumentType]
    kind = "R squared" if findings.summary["numbers"] else "accuracy"
    caption = (
        f"The question: {findings.summary['question']['told']}. Held-out prompts, the band a 95 % bootstrap interval "
        "over them. A probe no better than the control task may remember tokens instead of reading a property."
    )
    title = f"Probe by layer, position {best['position']}"
    return [Chart("probe_layers", title, "block (its output)", f"held-out {kind}", tuple(series), caption)]


def heatmaps(findings: Findings, positions: Sequence[str]) -> list[Heatmap]:
    """Gain over the baseline, [layer, position], where several positions were read."""
    table: Any = findings.table
    layers = sorted({int(layer) for layer in table["layer"]})
    if len(positions) < 2 or not layers:
        return []
    values = np.full((len(layers), len(positions)), np.nan)
    for row in table.itertuples():
        values[layers.index(int(row.layer)), positions.index(row.position)] = row.gain
    return [
        Heatmap(
            "probe_gain",
            "Held-out score above the baseline",
            values,
            "block",
            "position",
            "gain",
            column_labels=tuple(positions),
            row_labels=tuple(str(layer) for layer in layers),
            diverging=True,
        )
    ]
