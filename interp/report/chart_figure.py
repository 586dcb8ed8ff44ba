"""A chart as a plotly figure for notebooks; the page draws it itself (assets/charts.js), with the same colours."""

from __future__ import annotations

from typing import Any

from interp.findings import Chart, Series
from interp.report import scales
from interp.report.text import number, plotly_text


def chart_figure(chart: Chart, layout: dict[str, Any]) -> Any:
    """`chart` as a `plotly.graph_objects.Figure` with `layout` as its ground; no global template is set."""
    import plotly.graph_objects as go

    shown = go.Figure()
    several = len(chart.series) > 1
    for i, series in enumerate(chart.series):
        colour = scales.colour_of(series.role, i)
        common = {
            "x": list(series.x),
            "y": [None if chart.log_y and y is not None and y <= 0 else y for y in series.y],
            "name": plotly_text(series.name),
            "text": [_hover(chart, series, k) for k in range(len(series.x))],
            "hoverinfo": "text",
            "showlegend": several,
            "error_y": _error(series, colour),
        }
        if series.draw == "bars":
            shown.add_bar(**common, marker={"color": colour})
        else:
            mode = "markers" if series.draw == "points" else "lines+markers"
            dash = ("solid", "dash", "dot")[i // len(scales.CATEGORIES) % 3]
            shown.add_scatter(**common, mode=mode, marker={"color": colour}, line={"color": colour, "dash": dash})
    shown.update_layout(**layout, title={"text": plotly_text(chart.title)}, barmode="group", height=420)
    names = [plotly_text(name) for name in chart.x_names]
    ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": names} if names else {}
    shown.update_xaxes(title={"text": plotly_text(chart.x_label)}, type="log" if chart.log_x else "linear", **ticks)
    shown.update_yaxes(title={"text": plotly_text(chart.y_label)}, type="log" if chart.log_y else "linear")
    for at, text in chart.marks:
        shown.add_vline(
            at, line={"dash": "dot", "color": scales.CONTROL, "width": 1}, annotation_text=plotly_text(text)
        )
    if chart.equal is not None:
        shown.add_hline(chart.equal, line={"dash": "dash", "color": scales.CONTROL})
    return shown


def _error(series: Series, colour: str) -> dict[str, Any]:
    """Error bars from the interval: plotly wants distances from y."""
    if not series.low:
        return {"visible": False}

    def gaps(ends: tuple[float | None, ...], sign: int) -> list[float | None]:
        return [
            None if end is None or y is None else max(sign * (end - y), 0.0)
            for end, y in zip(ends, series.y, strict=True)
        ]

    plus, minus = gaps(series.high, 1), gaps(series.low, -1)
    return {"type": "data", "symmetric": False, "array": plus, "arrayminus": minus, "color": colour, "thickness": 1}


def _hover(chart: Chart, series: Series, k: int) -> str:
    x = series.x[k]
    named = float(x).is_integer() and 0 <= x < len(chart.x_names)
    at = plotly_text(chart.x_names[int(x)]) if named else number(x)
    between = f" [{number(series.low[k])}, {number(series.high[k])}]" if series.low else ""
    lines = [
        plotly_text(series.name),
        f"{plotly_text(chart.x_label)}: {at}",
        f"{plotly_text(chart.y_label)}: {number(series.y[k])}{between}",
        *([plotly_text(series.labels[k])] if series.labels else []),
    ]
    return "<br>".join(lines)
