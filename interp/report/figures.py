"""Notebook figures of findings: plotly figures that set no global template.

The page draws the same matrices itself (assets/*.js), with the colours and scales of `interp.report.scales`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from interp.errors import UsageError
from interp.findings import Findings, Heatmap, Verification
from interp.report import scales
from interp.report.chart_figure import chart_figure
from interp.report.graph_figure import graph_figure
from interp.report.text import label, number, plotly_text, plural

CHECK = "check"
_LAYOUT: dict[str, Any] = {
    "template": None,
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#77808c"},  # readable on light and on dark
    "margin": {"l": 70, "r": 20, "t": 60, "b": 60},
}


def figure(findings: Findings, name: str | None = None) -> Any:
    """One figure of `findings` as a `plotly.graph_objects.Figure`.

    Args:
        findings: what a finder returned.
        name: a heatmap's, chart's or graph's name, or ``check`` for the causal check. None: the first layer x head
            heatmap, else the first heatmap, else the first chart, graph, or the check.

    Raises:
        UsageError: no figure of that name, or nothing to draw; names those there are.
    """
    names = figure_names(findings)
    if name is None:
        if not names:
            raise UsageError(
                f"These {findings.finder!r} findings hold no heatmap, chart, graph or causal check: "
                "there is nothing to draw."
            )
        by_head = [heatmap.name for heatmap in findings.heatmaps if heatmap.kind == "layer-head"]
        name = (by_head or names)[0]
    if name == CHECK and findings.verification is not None:
        return _check(findings.verification)
    for heatmap in findings.heatmaps:
        if heatmap.name == name:
            return _heatmap(heatmap)
    for chart in findings.charts:
        if chart.name == name:
            return chart_figure(chart, _LAYOUT)
    for graph in findings.graphs:
        if graph.name == name:
            return graph_figure(graph, _LAYOUT)
    raise UsageError(f"No figure named {name!r}. These findings have: {', '.join(names) or 'none'}.")


def figure_names(findings: Findings) -> list[str]:
    """What `figure` accepts for these findings, in drawing order."""
    check = [CHECK] if findings.verification is not None and findings.verification.effect is not None else []
    return [drawn.name for drawn in (*findings.heatmaps, *findings.charts, *findings.graphs)] + check


def _heatmap(heatmap: Heatmap) -> Any:
    import plotly.graph_objects as go

    values = np.asarray(heatmap.values, dtype=np.float64)
    how = scales.scale(heatmap)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = np.log10(values) if how.log else values
    ends = (np.log10(how.low), np.log10(how.high)) if how.log else (how.low, how.high)
    labels = heatmap.column_labels or tuple(str(i) for i in range(values.shape[1]))
    row_text = [plotly_text(text) for text in heatmap.row_labels or map(str, range(values.shape[0]))]
    column_text = [plotly_text(label(text)) for text in labels]
    named = heatmap.column_labels is not None
    kinds = [plotly_text(kind) for kind in heatmap.categories]

    def told(at: float) -> str:
        return kinds[int(at)] if kinds and np.isfinite(at) else number(at)

    column, row, value = (plotly_text(t) for t in (heatmap.column_label, heatmap.row_label, heatmap.value_label))
    hover = [
        [
            f"{row} {row_text[r]} · {column} {c}{f' {column_text[c]}' if named else ''}"
            f"<br>{value}: {told(values[r, c])}"
            for c in range(values.shape[1])
        ]
        for r in range(values.shape[0])
    ]
    bar: dict[str, Any] = {"title": {"text": value, "side": "right"}, "thickness": 12}
    if how.log:
        ticks = np.unique(np.round(np.linspace(*ends, 5), 2))
        bar |= {"tickvals": ticks.tolist(), "ticktext": [number(10**tick, 2) for tick in ticks]}
    if kinds:
        colours: Any = scales.steps(len(kinds))
        bar |= {"title": {"text": ""}, "tickvals": list(range(len(kinds))), "ticktext": kinds}
    else:
        colours = [list(stop) for stop in scales.DIVERGING] if how.low < 0 else scales.SEQUENTIAL
    plot = go.Heatmap(
        z=drawn,
        zmin=ends[0],
        zmax=ends[1],
        text=hover,
        hoverinfo="text",
        colorbar=bar,
        colorscale=colours,
    )
    shown = go.Figure(plot)
    shown.update_layout(
        **_LAYOUT, title={"text": plotly_text(heatmap.title)}, height=int(min(900, 220 + 16 * values.shape[0]))
    )
    shown.update_xaxes(title={"text": column}, showgrid=False, zeroline=False)
    shown.update_yaxes(title={"text": row}, showgrid=False, zeroline=False)
    if heatmap.row_labels is not None:
        shown.update_yaxes(tickvals=list(range(len(row_text))), ticktext=row_text)
    return shown


def check_rows(check: Verification) -> list[dict[str, Any]]:
    """The causal check as rows of a dot-and-interval plot: found, control, difference; those that were measured."""
    rows = (
        ("Found", check.effect, check.effect_low, check.effect_high, "effect", scales.FOUND),
        ("Matched controls", check.control, check.control_low, check.control_high, "control", scales.CONTROL),
        ("Difference", check.difference, check.difference_low, check.difference_high, None, scales.DIFFERENCE),
    )
    out = []
    for name, mean, low, high, key, colour in rows:
        if mean is None:
            continue
        pairs = [(p.get("effect"), p.get("control")) for p in check.per_prompt]
        points = [
            p.get(key) if key else (None if None in pair else pair[0] - pair[1])  # type: ignore[operator]
            for p, pair in zip(check.per_prompt, pairs, strict=True)
        ]
        names = [str(p.get("name", "")) for p in check.per_prompt]
        out.append(
            {"name": name, "mean": mean, "low": low, "high": high, "colour": colour, "points": points, "prompts": names}
        )
    return out


def check_sentence(check: Verification) -> str:
    """The causal check in one or two plain sentences, every figure with its interval."""
    if check.effect is None:
        return f"Causal check: {check.verdict}. {check.how}"

    name, _, unit = check.metric.partition(", ")

    def interval(mean: float | None, low: float | None, high: float | None) -> str:
        between = f" [{_signed(low)}, {_signed(high)}]" if low is not None and high is not None else ""
        return f"{_signed(mean)} {unit}".rstrip() + between

    text = f"Change in {name}: {interval(check.effect, check.effect_low, check.effect_high)} for what was found"
    if check.control is not None:
        text += f", {interval(check.control, check.control_low, check.control_high)} for matched controls"
    if check.difference is not None:
        text += f"; difference {interval(check.difference, check.difference_low, check.difference_high)}"
    return f"{text}, over {plural(check.prompts, check.unit)}."


def _signed(value: float | None) -> str:
    text = number(value)
    return text if text.startswith("-") or value is None or value == 0 else f"+{text}"


def _check(check: Verification) -> Any:
    import plotly.graph_objects as go

    shown = go.Figure()
    rows = check_rows(check)
    for row in rows:
        kept = [(x, plotly_text(p)) for x, p in zip(row["points"], row["prompts"], strict=True) if x is not None]
        shown.add_scatter(
            x=[x for x, _ in kept],
            y=[row["name"]] * len(kept),
            mode="markers",
            showlegend=False,
            name="",
            text=[p for _, p in kept],
            hovertemplate="%{text}: %{x:.4g}",
            marker={"color": row["colour"], "opacity": 0.4, "symbol": "line-ns-open", "size": 12},
        )
        bars = {}
        if row["low"] is not None and row["high"] is not None:
            bars = {
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [row["high"] - row["mean"]],
                    "arrayminus": [row["mean"] - row["low"]],
                }
            }
        shown.add_scatter(
            x=[row["mean"]],
            y=[row["name"]],
            mode="markers",
            showlegend=False,
            name="",
            hovertemplate="mean: %{x:.4g}",
            marker={"color": row["colour"], "size": 11},
            **bars,
        )
    shown.update_layout(
        **_LAYOUT, title={"text": f"Causal check: {plotly_text(check.verdict)}"}, height=120 + 60 * len(rows)
    )
    shown.update_xaxes(title={"text": f"change in {plotly_text(check.metric)}"}, zeroline=True, zerolinecolor="#77808c")
    shown.update_yaxes(autorange="reversed", automargin=True)
    return shown
