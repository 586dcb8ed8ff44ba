"""What a finder returns: one tidy table, named arrays, one verdict sentence, one causal check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

Verdict = Literal["verified", "failed", "too few to say", "nothing to verify", "not run"]


@dataclass(frozen=True)
class Column:
    """One column of a findings table.

    Attributes:
        name: column name, the field's own term.
        dtype: pandas dtype string (``Int64``, ``float64``, ``string``).
        label: short human label.
        help: one sentence: what the number is, with its unit.
    """

    name: str
    dtype: str
    label: str
    help: str


@dataclass(frozen=True)
class Verification:
    """The causal check of a finding (DESIGN decision 6).

    Attributes:
        verdict: what the check says.
        metric: name of the measured quantity, with unit (e.g. ``next-token loss, nats``).
        effect: mean over prompts of the change under the intervention on what was found.
        effect_low, effect_high: bootstrap interval of ``effect`` over prompts.
        control: mean change under the same intervention on matched controls.
        control_low, control_high: its interval.
        difference, difference_low, difference_high: paired effect minus control, with interval.
        prompts: number of prompts behind it.
        how: one sentence saying what was intervened on and what the controls are.
        per_prompt: one dict a prompt (name, effect, control), for the report's plot.
    """

    verdict: Verdict
    metric: str
    how: str
    prompts: int = 0
    effect: float | None = None
    effect_low: float | None = None
    effect_high: float | None = None
    control: float | None = None
    control_low: float | None = None
    control_high: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    per_prompt: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Heatmap:
    """A matrix for the report: `values` [rows, columns], with axis names; NaN = not measured.

    `kind` = ``layer-position`` or ``layer-head`` (a click selects a head) or ``other``; `prompt` = index of the prompt
    it belongs to, None = all.
    `column_labels` name the columns where numbers will not do (token strings: untrusted text).
    """

    name: str
    title: str
    values: np.ndarray
    row_label: str
    column_label: str
    value_label: str
    kind: Literal["layer-position", "layer-head", "other"] = "other"
    prompt: int | None = None
    column_labels: tuple[str, ...] | None = None
    diverging: bool = False


@dataclass(frozen=True)
class TokenStrip:
    """A prompt shown token by token; hovering a query shows the keys it attends to.

    `patterns` maps a label (``11.4`` = layer.head, or ``mean of layer 11``) to a pattern [queries, keys], pooled by
    `pool` (1 = exact).
    `weight` [tokens] shades the strip at rest (e.g. mean attention received); `marks` = found positions -> kind.
    """

    prompt: int
    name: str
    tokens: tuple[str, ...]
    weight: np.ndarray
    marks: dict[int, str] = field(default_factory=dict)
    patterns: dict[str, np.ndarray] = field(default_factory=dict)
    pool: int = 1


@dataclass
class Findings:
    """The result of one finder on one model.

    Attributes:
        finder: registry name of the finder.
        table: one row a found thing; columns as `columns` say, in that order.
        columns: schema of `table`.
        arrays: named arrays that go to ``tensors.safetensors``.
        summary: JSON-able facts that are not rows (anchor mass per layer and head, T, eps, counts).
        verdict: one sentence.
        caveats: sentences a reader must see beside the verdict (reduced, truncated, assumed).
        verification: the causal check; None until it ran.
        heatmaps, strips: what the report draws.
    """

    finder: str
    table: pd.DataFrame
    columns: tuple[Column, ...]
    verdict: str
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    caveats: list[str] = field(default_factory=list)
    verification: Verification | None = None
    heatmaps: list[Heatmap] = field(default_factory=list)
    strips: list[TokenStrip] = field(default_factory=list)

    def records(self) -> list[dict[str, Any]]:
        """Rows as plain JSON-able dicts; a missing value is None."""
        clean = self.table.astype(object).where(self.table.notna(), None)
        return [dict(row) for row in clean.to_dict("records")]
