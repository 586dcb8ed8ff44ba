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
        unit: what ``prompts`` and ``per_prompt`` count where it is not prompts; a word whose plural has an s.
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
    unit: str = "prompt"


@dataclass(frozen=True)
class Heatmap:
    """A matrix for the report: `values` [rows, columns], with axis names; NaN = not measured.

    `kind` = ``layer-position`` or ``layer-head`` (a click selects a head) or ``other``; `prompt` = index of the prompt
    it belongs to, None = all.
    `column_labels` name the columns where numbers will not do (token strings: untrusted text), `row_labels` the rows
    (drawn of maps of kind ``other`` only).
    `categories` name the values 0, 1, 2, ... of a map that shows kinds and not quantities; 0 is "nothing of note" and
    drawn pale.
    `limits` are the values at the ends of the colour scale, where these are known beforehand (a share: 0 and 1).
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
    categories: tuple[str, ...] = ()
    row_labels: tuple[str, ...] | None = None
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class TokenStrip:
    """A prompt shown token by token; hovering a query shows the keys it attends to.

    `patterns` maps a label (``11.4`` = layer.head, or ``mean of layer 11``) to a pattern [queries, keys], pooled by
    `pool` (1 = exact).
    `weight` [tokens] shades the strip at rest, and `weight_label` says what it is; `marks` = found positions -> kind.
    """

    prompt: int
    name: str
    tokens: tuple[str, ...]
    weight: np.ndarray
    marks: dict[int, str] = field(default_factory=dict)
    patterns: dict[str, np.ndarray] = field(default_factory=dict)
    pool: int = 1
    weight_label: str = "attention received"


@dataclass(frozen=True)
class Series:
    """One line or cloud of a chart; the sequences are equally long.

    Attributes:
        name: for the legend (untrusted text).
        x, y: numbers; a `y` of None is a gap.
        low, high: ends of the interval of each `y`; empty = none.
        draw: ``line`` (with its interval as a band), ``points`` (with its interval as bars), or ``bars``.
        labels: what hovering tells of each point, beside its numbers (untrusted text); empty = nothing.
        role: what it keeps its colour by: ``found`` and ``control`` as in the causal check, a number = the colour of
            that kind in a map of `Heatmap.categories`; None = the next colour of the chart.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    draw: Literal["line", "points", "bars"] = "line"
    labels: tuple[str, ...] = ()
    role: Literal["found", "control"] | int | None = None

    def __post_init__(self) -> None:
        sizes = {"x": len(self.x), "y": len(self.y)}
        for name in ("low", "high", "labels"):
            given = getattr(self, name)
            if given or (name in ("low", "high") and bool(self.low) != bool(self.high)):
                sizes[name] = len(given)
        if len(set(sizes.values())) > 1:
            raise ValueError(f"series {self.name!r}: x, y, low, high and labels must be equally long, got {sizes}")


@dataclass(frozen=True)
class Chart:
    """A plot of numbers against numbers for the report.

    `caption` says how to read it; `marks` are vertical lines, (x, what stands there); `x_names` name the x values 0, 1,
    2, ... where they are no quantity (untrusted text); `equal` = a dashed line at this y (chance, "no effect").
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    caption: str = ""
    marks: tuple[tuple[float, str], ...] = ()
    log_x: bool = False
    log_y: bool = False
    x_names: tuple[str, ...] = ()
    equal: float | None = None


@dataclass(frozen=True)
class Sheet:
    """A further table of the report: `rows` hold one plain value (str, int, float, bool, None) a column."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str = ""

    def __post_init__(self) -> None:
        wrong = sorted({len(row) for row in self.rows} - {len(self.columns)})
        if wrong:
            raise ValueError(f"sheet {self.name!r}: rows of {wrong} values for {len(self.columns)} columns")


@dataclass(frozen=True)
class Node:
    """A box of a `Graph`. `layer` = its height (block number, 0 at the bottom; the model's number of blocks = logits).

    Attributes:
        name: unique; for a head ``layer.head``.
        kind: its class, one of the graph's `kinds`; sets its colour.
        label: what is written in it (untrusted text).
        note: what hovering tells (untrusted text).
    """

    name: str
    layer: float
    kind: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Edge:
    """An arrow of a `Graph`, from one node's name to another's. `weight` is signed; its size sets the width, its sign
    the colour. `label` (``q at end``) and weight are told on hovering."""

    source: str
    target: str
    weight: float
    label: str = ""


@dataclass(frozen=True)
class Graph:
    """A layered graph for the report: information flows upwards from low layers to the logits.

    `kinds` lists the kinds of nodes in the order of the legend, coloured as `Heatmap.categories`: the first is "nothing
    of note" (the ends: input, logits) and drawn pale. `weight_label` says what an edge's weight is.
    """

    name: str
    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    kinds: tuple[str, ...]
    weight_label: str
    caption: str = ""

    def __post_init__(self) -> None:
        names = [node.name for node in self.nodes]
        if len(set(names)) < len(names):
            raise ValueError(f"graph {self.name!r}: two nodes of one name in {names}")
        lost = sorted({end for edge in self.edges for end in (edge.source, edge.target)} - set(names))
        if lost:
            raise ValueError(f"graph {self.name!r}: edges to {lost}, which are no nodes of it")
        odd = sorted({node.kind for node in self.nodes} - set(self.kinds))
        if odd:
            raise ValueError(f"graph {self.name!r}: nodes of kinds {odd}, its kinds are {', '.join(self.kinds)}")


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
        heatmaps, strips, charts, sheets, graphs: what the report draws.
        table_title: for findings whose table is the main thing: its heading; the page then begins with it.
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
    charts: list[Chart] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)
    graphs: list[Graph] = field(default_factory=list)
    table_title: str | None = None

    def records(self) -> list[dict[str, Any]]:
        """Rows as plain JSON-able dicts; a missing value is None."""
        clean = self.table.astype(object).where(self.table.notna(), None)
        return [dict(row) for row in clean.to_dict("records")]
