"""Layered graphs for the page: what the scripts draw from, and the plain HTML that is there without a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from interp.findings import Graph
from interp.report import scales
from interp.report.layers import layout
from interp.report.text import clean, h, number

EDGES = 400  # of one graph in the page, the heaviest
STATIC_ROWS = 200  # of the arrows behind one graph, in HTML; the scripts show all


def fit(graphs: Sequence[Graph], edges: int = EDGES) -> tuple[list[Graph], list[str]]:
    """The graphs with at most `edges` arrows each, the heaviest, and a sentence where some had to go."""
    kept, said = [], []
    for graph in graphs:
        if len(graph.edges) > edges:
            heaviest = sorted(range(len(graph.edges)), key=lambda i: -abs(graph.edges[i].weight))[:edges]
            said.append(
                f"Graph {graph.title!r}: the {edges:,} heaviest of {len(graph.edges):,} arrows; all are in run.json."
            )
            graph = replace(graph, edges=tuple(graph.edges[i] for i in sorted(heaviest)))
        kept.append(graph)
    return kept, said


def graph_data(graph: Graph) -> dict[str, Any]:
    """One graph as JSON-able facts, with the places of its boxes and arrows."""
    placed = layout(graph)
    return {
        "name": clean(graph.name),
        "title": clean(graph.title),
        "weightLabel": clean(graph.weight_label),
        "kinds": [
            {"name": clean(kind), "colour": scales.kind_colour(i), "ink": scales.ink(scales.kind_colour(i))}
            for i, kind in enumerate(graph.kinds)
        ],
        "nodes": [
            {
                "name": clean(node.name),
                "kind": graph.kinds.index(node.kind),
                "label": clean(node.label),
                "note": clean(node.note),
                "at": placed.places[node.name],
            }
            for node in graph.nodes
        ],
        "edges": [
            {
                "source": clean(edge.source),
                "target": clean(edge.target),
                "weight": float(edge.weight),
                "label": clean(edge.label),
                "path": path,
            }
            for edge, path in zip(graph.edges, placed.paths, strict=True)
        ],
        "rows": placed.rows,
        "columns": placed.columns,
    }


def graphs_section(graphs: Sequence[Graph]) -> str:
    """The section as HTML; empty where there is no graph."""
    if not graphs:
        return ""
    figures = "".join(_figure(i, graph) for i, graph in enumerate(graphs))
    return f'<section id="graphs" tabindex="-1">\n<h2>From layer to layer</h2>\n{figures}</section>\n'


def _figure(i: int, graph: Graph) -> str:
    how = (
        f"Boxes stand at the height of their layer. Arrows: {graph.weight_label}; the wider, the larger; dashed where "
        "it is negative. Point at a box or an arrow for its numbers."
    )
    return (
        f'<figure class="graph" id="graph-{i}"><h3>{h(graph.title)}</h3>'
        f'<div class="plot" id="graph-{i}-plot" hidden></div>'
        f'<figcaption dir="auto">{h(" ".join(filter(None, (graph.caption, how))))}</figcaption>'
        '<details class="behind"><summary>The boxes and arrows of this graph</summary><p class="buttons"></p>'
        f'<div class="scroll" id="graph-{i}-data">{_arrows(graph)}</div>'
        f'<div class="scroll">{_boxes(graph)}</div></details></figure>\n'
    )


def _arrows(graph: Graph) -> str:
    labels = {node.name: node.label for node in graph.nodes}
    rows = "".join(
        f'<tr><th scope="row"><bdi>{h(labels[edge.source])}</bdi></th><td><bdi>{h(labels[edge.target])}</bdi></td>'
        f'<td class="num">{h(number(edge.weight))}</td><td><bdi>{h(edge.label)}</bdi></td></tr>'
        for edge in graph.edges[:STATIC_ROWS]
    )
    more = len(graph.edges) - STATIC_ROWS
    cut = f'<p class="caption">The first {STATIC_ROWS} of {len(graph.edges):,} arrows.</p>' if more > 0 else ""
    return f"{_head('from', 'to', graph.weight_label, '')}<tbody>{rows}</tbody></table>{cut}"


def _boxes(graph: Graph) -> str:
    rows = "".join(
        f'<tr><th scope="row"><bdi>{h(node.label)}</bdi></th><td class="num">{h(number(node.layer))}</td>'
        f"<td><bdi>{h(node.kind)}</bdi></td><td><bdi>{h(node.note)}</bdi></td></tr>"
        for node in graph.nodes
    )
    return f"{_head('box', 'layer', 'kind', 'note')}<tbody>{rows}</tbody></table>"


def _head(*names: str) -> str:
    cells = "".join(f'<th scope="col">{h(name)}</th>' for name in names)
    return f"<table><thead><tr>{cells}</tr></thead>"
