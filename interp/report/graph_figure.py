"""A layered graph as a plotly figure for notebooks; the page draws it itself (assets/graphs.js), at the same places."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from interp.findings import Edge, Graph
from interp.report import scales
from interp.report.layers import layout
from interp.report.text import number, plotly_text

_ROW = 66  # pixels between next layers
_HALF = 0.2  # height of a box, in rows, halved
_WIDE = 0.4  # its width, in columns, halved
_ALONG = np.linspace(0, 1, 13)


def graph_figure(graph: Graph, ground: dict[str, Any]) -> Any:
    """`graph` as a `plotly.graph_objects.Figure` with `ground` as its layout; no global template is set."""
    import plotly.graph_objects as go

    placed = layout(graph)
    labels = {node.name: plotly_text(node.label) for node in graph.nodes}
    most = max([abs(edge.weight) for edge in graph.edges if np.isfinite(edge.weight)], default=0.0) or 1.0
    shown = go.Figure()
    order = sorted(range(len(graph.edges)), key=lambda i: _size(graph.edges[i]))
    for i in order:
        edge = graph.edges[i]
        x, y = _curve(placed.paths[i])
        told = f"{labels[edge.source]} → {labels[edge.target]}" + (f", {plotly_text(edge.label)}" if edge.label else "")
        shown.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={
                "color": _colour(edge),
                "width": 1 + 5 * _size(edge) / most,
                "dash": "dash" if edge.weight < 0 else "solid",
            },
            opacity=0.8,
            text=f"{told}<br>{plotly_text(graph.weight_label)}: {number(edge.weight)}",
            hoverinfo="text",
            showlegend=False,
        )
    shown.add_scatter(
        x=[placed.paths[i][-1][0] for i in order],
        y=[placed.paths[i][-1][1] - _HALF - 0.07 for i in order],
        mode="markers",
        marker={
            "symbol": "triangle-up",
            "size": [7 + 8 * _size(graph.edges[i]) / most for i in order],
            "color": [_colour(graph.edges[i]) for i in order],
        },
        hoverinfo="skip",
        showlegend=False,
    )
    for k, kind in enumerate(graph.kinds):
        colour = scales.kind_colour(k)
        nodes = [node for node in graph.nodes if node.kind == kind]
        for node in nodes:
            x, y = placed.places[node.name]
            box = {"x0": x - _WIDE, "x1": x + _WIDE, "y0": y - _HALF, "y1": y + _HALF}
            shown.add_shape(type="rect", layer="above", fillcolor=colour, line={"width": 0}, **box)
            name = {"text": labels[node.name], "font": {"color": scales.ink(colour), "size": 12}}
            shown.add_annotation(x=x, y=y, showarrow=False, **name)
        if nodes:
            shown.add_scatter(
                x=[placed.places[node.name][0] for node in nodes],
                y=[placed.places[node.name][1] for node in nodes],
                mode="markers",
                name=plotly_text(kind),
                marker={"symbol": "square", "size": 13, "color": colour},
                text=["<br>".join(filter(None, (labels[n.name], plotly_text(n.note)))) for n in nodes],
                hoverinfo="text",
                showlegend=k > 0,
            )
    named = [(at, text) for at, text in placed.rows if text]
    top = placed.rows[-1][0] if placed.rows else 0.0
    shown.update_layout(**ground, title={"text": plotly_text(graph.title)}, height=int(160 + _ROW * (top + 1)))
    shown.update_layout(legend={"orientation": "h", "y": 0, "yanchor": "top"}, hovermode="closest")
    shown.update_xaxes(visible=False, range=[-0.5, placed.columns - 0.5])
    shown.update_yaxes(
        title={"text": "layer"},
        range=[-0.5, top + 0.5],
        tickvals=[at for at, _ in named],
        ticktext=[text for _, text in named],
        showgrid=False,
        zeroline=False,
    )
    return shown


def _size(edge: Edge) -> float:
    return abs(edge.weight) if np.isfinite(edge.weight) else 0.0


def _colour(edge: Edge) -> str:
    return scales.NEGATIVE if edge.weight < 0 else scales.POSITIVE


def _curve(path: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Cubic curves from row to row that leave, pass and arrive upright."""
    x, y = [], []
    s = _ALONG
    a, b, c, d = (1 - s) ** 3, 3 * s * (1 - s) ** 2, 3 * s**2 * (1 - s), s**3
    for i, ((x0, low), (x1, high)) in enumerate(pairwise(path), start=1):
        y0, y1 = low + _HALF, high - _HALF - (0.12 if i == len(path) - 1 else 0.0)
        x += ((a + b) * x0 + (c + d) * x1).tolist()
        y += (a * y0 + (b + c) * (y0 + y1) / 2 + d * y1).tolist()
    return x, y
