"""What the report draws of repairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from interp.findings import Chart, Column, Findings, Heatmap, Series, Sheet
from interp.repairs import words
from interp.repairs.config import EDITS, TOLD, RepairConfig

_PATH = (
    Column("edit", "string", "edit", "What replaces the attention of the heads."),
    Column("step", "Int64", "heads", "How many heads are edited together."),
    Column("heads", "string", "which", "layer.head, in the order in which they were added."),
    Column("right", "float64", "right", "Share of the training prompts that come right, by the metric set."),
    Column("difference", "float64", "difference", "Mean logit difference on the training prompts."),
)
_LEGEND = (
    Column("edit", "string", "edit", "Name."),
    Column("what", "string", "at the last token a head has", "What it does."),
    Column("label_free", "boolean", "label-free", "Whether it can do without the right answer."),
)


def heatmaps(findings: Findings, config: RepairConfig) -> list[Heatmap]:
    """Every head alone, on the training prompts."""
    maps = []
    for edit in EDITS:
        values = findings.arrays.get(f"right-{edit}")
        if values is None:
            continue
        maps.append(
            Heatmap(
                f"alone-{edit}",
                f"{edit}: every head alone (training prompts)",
                np.asarray(values, dtype=np.float64),
                "layer",
                "head",
                "share of prompts with the answer above all wrong ones",
                kind="layer-head",
                limits=(0.0, 1.0),
            )
        )
    return maps


def sheets(findings: Findings, config: RepairConfig) -> list[Sheet]:
    """What the edits are, and how the heads were added."""
    tried = [edit for edit in EDITS if edit in findings.summary["edits"]]
    told = [
        Sheet("edits", "What the edits are", _LEGEND, tuple((edit, TOLD[edit], edit != "oracle") for edit in tried))
    ]
    rows: list[tuple[Any, ...]] = []
    for edit in tried:
        one = findings.summary["edits"][edit]
        first = len(one["heads"]) - len(one["path"]) + 1
        for size, (right, difference) in enumerate(one["path"], first):
            rows.append((edit, size, words.listed(one["heads"][:size]), right, difference))
    if rows:
        caption = "Heads are added as long as more training prompts come right." if not config.heads else ""
        told.append(Sheet("path", "Heads together, on the training prompts", _PATH, tuple(rows), caption))
    return told


def charts(findings: Findings, config: RepairConfig) -> list[Chart]:
    """Accuracy before and after by edit, held-out prompts."""
    claims = findings.summary["claims"]
    edits = [edit for edit in EDITS if edit in claims]
    if not edits:
        return []
    x = tuple(float(place) for place in range(len(edits)))
    key = config.metric

    def figures(name: str) -> tuple[tuple[float | None, ...], ...]:
        return tuple(tuple(claims[edit][name][end] for edit in edits) for end in ("mean", "low", "high"))

    return [
        Chart(
            "accuracy",
            f"Held-out {words.metric(config)} by edit",
            "edit",
            words.metric(config),
            (
                Series("untouched", x, *figures(f"{key}_before"), draw="points"),
                Series("edited", x, *figures(key), draw="points", role="found"),
                Series("random heads", x, *figures("random"), draw="points", role="control"),
            ),
            "Bars are 95 % bootstrap intervals over prompts. oracle is told the answer: an upper bound, no fix.",
            x_names=tuple(f"{edit} ({words.listed(claims[edit]['heads'])})" for edit in edits),
        )
    ]
