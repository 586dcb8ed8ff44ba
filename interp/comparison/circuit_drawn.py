"""What a comparison of circuits draws: shared heads against chance, and whose circuit each head is in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from interp.circuits.pictures import ENDS, graph, name_of
from interp.comparison.circuits import Pair, summary_of, totals
from interp.comparison.facts import Compared
from interp.findings import Chart, Edge, Graph, Heatmap, Node, Series

DRAWN_PAIRS = 3
"""Pairs that get a map and a graph of their own; the tables hold all."""


def charts(made: Sequence[Pair]) -> list[Chart]:
    """Shared heads of each pair beside what random circuits share."""
    known = [(pair, pair.found) for pair in made if pair.found is not None]
    if not known:
        return []
    x = tuple(float(place) for place in range(len(known)))
    found = tuple(float(len(one.both)) for _, one in known)
    luck = [one.chance for _, one in known]
    ends = tuple(tuple(float(getattr(one, end)) for one in luck) for end in ("low", "high"))
    return [
        Chart(
            "overlap",
            "Heads that two circuits share",
            "pair",
            "shared heads",
            (
                Series("measured", x, found, draw="bars", role="found"),
                Series("random circuits of the same layers", x, tuple(one.mean for one in luck), *ends, draw="bars",
                       role="control"),
            ),
            "Random circuits: mean and where the middle 95 % lie.",
            x_names=tuple(f"{pair.first.name} and {pair.second.name}" for pair, _ in known),
        )
    ]  # fmt: skip


def heatmaps(runs: Sequence[Compared], made: Sequence[Pair]) -> list[Heatmap]:
    """Which circuit each head is in, for the first pairs; total effects of each run. Only of models of one shape."""
    shapes = {tuple(summary_of(run).get("shape") or ()) for run in runs}
    if len(shapes) != 1 or shapes == {()}:
        return []
    (shape,) = shapes
    maps = []
    for number, pair in enumerate(_drawn(made)):
        assert pair.found is not None
        values = np.zeros(shape)
        for kind, part in enumerate((pair.found.both, pair.found.only_first, pair.found.only_second), start=1):
            for head in part:
                values[head] = kind
        title = f"In which circuit: {pair.first.name}, {pair.second.name}"
        kinds = ("neither", *_kinds(pair))
        name = "overlap" if number == 0 else f"overlap.{number}"
        maps.append(Heatmap(name, title, values, "layer", "head", "in", kind="layer-head", categories=kinds))
    for number, run in enumerate(runs):
        values = totals(run)
        if np.isfinite(values).any():
            title, unit = f"Total effect: {run.name}", "share of the gap"
            maps.append(
                Heatmap(f"total.{number}", title, values, "layer", "head", unit, kind="layer-head", diverging=True)
            )
    return maps


def graphs(made: Sequence[Pair]) -> list[Graph]:
    """Both circuits in one graph, coloured by which of them a head is in, for the first pairs."""
    return [_graph(pair, number) for number, pair in enumerate(_drawn(made))]


def _graph(pair: Pair, number: int) -> Graph:
    assert pair.found is not None
    runs, kinds = (pair.first, pair.second), _kinds(pair)
    parts = (pair.found.both, pair.found.only_first, pair.found.only_second)
    kind_of = {name_of(head): kind for kind, part in zip(kinds, parts, strict=True) for head in part}
    nodes: dict[str, Node] = {}
    arrows: dict[tuple[str, str, str], list[float | None]] = {}
    for place, run in enumerate(runs):
        drawn = graph(summary_of(run))
        for node in drawn.nodes if drawn else ():
            note = f"{run.name}: {node.kind}\n{node.note}" if node.name in kind_of else ""
            told = "\n".join(filter(None, (nodes[node.name].note if node.name in nodes else "", note)))
            nodes[node.name] = Node(node.name, node.layer, kind_of.get(node.name, ENDS), node.label, told)
        for edge in drawn.edges if drawn else ():
            arrows.setdefault((edge.source, edge.target, edge.label), [None, None])[place] = edge.weight
    edges = []
    for (source, target, label), weights in arrows.items():
        known = [weight for weight in weights if weight is not None]
        told = (
            "both" if len(known) == 2 else next(run.name for run, w in zip(runs, weights, strict=True) if w is not None)
        )
        edges.append(Edge(source, target, float(np.mean(known)), f"{label}, {told}"))
    title = f"Both circuits: {runs[0].name}, {runs[1].name}"
    unit = "effect in its stage (mean of both where both have it)"
    return Graph(
        "circuits" if number == 0 else f"circuits.{number}",
        title,
        tuple(nodes.values()),
        tuple(edges),
        (ENDS, *kinds),
        unit,
        "Colour says which circuit a head is in.",
    )


def _drawn(made: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in made if pair.found is not None and pair.found.union][:DRAWN_PAIRS]


def _kinds(pair: Pair) -> tuple[str, str, str]:
    return "in both", f"only {pair.first.name}", f"only {pair.second.name}"
