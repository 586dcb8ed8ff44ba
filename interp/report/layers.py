"""Where the boxes and arrows of a layered graph stand (Sugiyama, Tagawa and Toda 1981).

1. Rows are layers, in order. An arrow that passes rows gets a narrow place in each, so that no box covers it.
2. Order within a row: by the barycentre of what stands in the row before, swept up and down; the order with the fewest
   crossings is kept.
3. In that order, places move to the barycentre of both neighbouring rows, as near as they can without touching.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from interp.findings import Graph
from interp.report.text import number

LEAST_COLUMNS = 8  # so that few boxes do not become as wide as the page
SKIPPED = 1.3  # distance of two rows between which layers are left out; next layers are 1 apart
PASSING = 0.14  # width that a passing arrow takes in a row; a box takes 1
PORTS = 0.6  # of a box's width, over which its arrows are spread
STRAIGHT = 4.0  # how much more a passing arrow is drawn to its own course than a box to its neighbours
_SWEEPS, _MOVES = 16, 24


@dataclass(frozen=True)
class Layout:
    """Where things stand, in columns and rows.

    Attributes:
        places: node name -> (x, y); boxes are at most 1 wide, the first row is at y = 0.
        paths: for each edge, where it leaves its source, passes each row between, and enters its target, as (x, y).
        rows: (y, layer as text) of each row; empty text where all boxes are ends of the graph, which name themselves.
        columns: x runs from -0.5 to this minus 0.5.
    """

    places: dict[str, tuple[float, float]]
    paths: list[list[tuple[float, float]]]
    rows: list[tuple[float, str]]
    columns: int


def layout(graph: Graph) -> Layout:
    """Places of all nodes and edges of `graph`; the same for the same graph."""
    layers = sorted({node.layer for node in graph.nodes})
    rows, chains = _rows(graph, layers)
    links = _links(graph, chains)
    widths = [[1.0 if isinstance(item, str) else PASSING for item in row] for row in rows]
    columns = max([LEAST_COLUMNS, *(int(np.ceil(sum(row))) for row in widths)])
    x = _placed(_ordered(rows, links), links, columns)
    steps = [1.0 if high - low <= 1 else SKIPPED for low, high in pairwise(layers)]
    y = [0.0, *np.cumsum(steps).tolist()][: len(layers)]
    row_of = {layer: row for row, layer in enumerate(layers)}
    ends = _ports(graph, chains, x)
    paths = []
    for edge, chain, (start, end) in zip(graph.edges, chains, ends, strict=True):
        passed = [(x[item], y[item[1]]) for item in chain[1:-1] if not isinstance(item, str)]
        low, high = (y[row_of[_layer(graph, name)]] for name in (edge.source, edge.target))
        paths.append([(start, low), *passed, (end, high)])
    named = [all(node.kind == graph.kinds[0] for node in graph.nodes if node.layer == layer) for layer in layers]
    told = [
        (at, "" if own else number(int(layer) if float(layer).is_integer() else layer))
        for at, layer, own in zip(y, layers, named, strict=True)
    ]
    return Layout({node.name: (x[node.name], y[row_of[node.layer]]) for node in graph.nodes}, paths, told, columns)


_Item = str | tuple[int, int]  # a box's name, or (edge, row) of an arrow that passes
_Links = dict[_Item, tuple[dict[_Item, float], dict[_Item, float]]]  # to the row below, to the row above


def spread(wanted: Sequence[float], widths: Sequence[float], columns: int) -> list[float]:
    """Centres in the given order that do not touch, as near to the wanted ones as can be (least squares).

    Raises:
        ValueError: the widths do not fit into so many columns.
    """
    if sum(widths) > columns + 1e-9:
        raise ValueError(f"widths of {sum(widths):g} in all do not fit into {columns} columns")
    if not len(wanted):
        return []
    offsets = np.concatenate([[0.0], np.cumsum([(a + b) / 2 for a, b in pairwise(widths)])])
    blocks: list[list[float]] = []  # pool adjacent violators: [mean, size]
    for wish, offset in zip(wanted, offsets, strict=True):
        blocks.append([wish - offset, 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, size = blocks.pop()
            before = blocks[-1]
            before[0] = (before[0] * before[1] + mean * size) / (before[1] + size)
            before[1] += size
    free = np.repeat([mean for mean, _ in blocks], [int(size) for _, size in blocks])
    least, most = -0.5 + widths[0] / 2, columns - 0.5 - widths[-1] / 2 - offsets[-1]
    return (np.clip(free, least, most) + offsets).tolist()


def crossings(order: Sequence[Sequence[_Item]], links: _Links) -> int:
    """Pairs of lines between neighbouring rows that cross."""
    count = 0
    for low, high in pairwise(order):
        above = {item: place for place, item in enumerate(high)}
        lines = [(place, above[other]) for place, item in enumerate(low) for other in links[item][1]]
        ends = np.array([end for _, end in sorted(lines)])
        starts = np.array([start for start, _ in sorted(lines)])
        if len(ends):
            count += int(((starts[:, None] < starts) & (ends[:, None] > ends)).sum())
    return count


def _layer(graph: Graph, name: str) -> float:
    return next(node.layer for node in graph.nodes if node.name == name)


def _rows(graph: Graph, layers: list[float]) -> tuple[list[list[_Item]], list[list[_Item]]]:
    """Items of each row, and each edge as the chain of items that it runs through, from low to high."""
    row_of = {node.name: layers.index(node.layer) for node in graph.nodes}
    rows: list[list[_Item]] = [[node.name for node in graph.nodes if node.layer == layer] for layer in layers]
    chains: list[list[_Item]] = []
    for i, edge in enumerate(graph.edges):
        low, high = sorted((row_of[edge.source], row_of[edge.target]))
        passed: list[_Item] = [(i, row) for row in range(low + 1, high)]
        for item, row in zip(passed, range(low + 1, high), strict=True):
            rows[row].append(item)
        upwards = row_of[edge.source] <= row_of[edge.target]
        chains.append([edge.source, *(passed if upwards else passed[::-1]), edge.target])
    return rows, chains


def _links(graph: Graph, chains: list[list[_Item]]) -> _Links:
    links: _Links = defaultdict(lambda: ({}, {}))
    row_of = {node.name: node.layer for node in graph.nodes}
    for edge, chain in zip(graph.edges, chains, strict=True):
        if row_of[edge.source] == row_of[edge.target]:
            continue
        upwards = chain if row_of[edge.source] < row_of[edge.target] else chain[::-1]
        for low, high in pairwise(upwards):
            pull = STRAIGHT if not isinstance(low, str) and not isinstance(high, str) else 1.0
            links[low][1][high] = links[low][1].get(high, 0.0) + pull
            links[high][0][low] = links[high][0].get(low, 0.0) + pull
    return links


def _ordered(rows: list[list[_Item]], links: _Links) -> list[list[_Item]]:
    """The order of each row with the fewest crossings that the sweeps come by."""
    rows = [list(row) for row in rows]
    place = {item: at + 0.5 - len(row) / 2 for row in rows for at, item in enumerate(row)}
    best, least = [list(row) for row in rows], crossings(rows, links)
    for sweep in range(_SWEEPS):
        up = sweep % 2 == 1
        for row in rows if up else rows[::-1]:
            wanted = {item: _barycentre(item, links[item][0 if up else 1], place) for item in row}
            row.sort(key=lambda item: wanted[item])
            place.update({item: at + 0.5 - len(row) / 2 for at, item in enumerate(row)})
        if (now := crossings(rows, links)) < least:
            best, least = [list(row) for row in rows], now
    return best


def _placed(rows: list[list[_Item]], links: _Links, columns: int) -> dict[_Item, float]:
    """The x of every item, in the given order."""
    widths = [[1.0 if isinstance(item, str) else PASSING for item in row] for row in rows]
    middle = (columns - 1) / 2
    x: dict[_Item, float] = {}
    for row, wide in zip(rows, widths, strict=True):
        x.update(zip(row, spread([middle] * len(row), wide, columns), strict=True))
    for move in range(_MOVES):
        both = list(zip(rows, widths, strict=True))
        for row, wide in both if move % 2 else both[::-1]:
            wanted = [_barycentre(item, links[item][0] | links[item][1], x) for item in row]
            x.update(zip(row, spread(wanted, wide, columns), strict=True))
    return x


def _barycentre(item: _Item, joined: dict[_Item, float], x: dict[_Item, float]) -> float:
    if not joined:
        return x[item]
    return sum(weight * x[other] for other, weight in joined.items()) / sum(joined.values())


def _ports(graph: Graph, chains: list[list[_Item]], x: dict[_Item, float]) -> list[tuple[float, float]]:
    """Arrows of one box leave and enter side by side, in the order of where they go to or come from."""
    ends = [[x[edge.source], x[edge.target]] for edge in graph.edges]
    for side in (0, 1):
        at: dict[str, list[int]] = defaultdict(list)
        for i, edge in enumerate(graph.edges):
            at[(edge.source, edge.target)[side]].append(i)
        for box, edges in at.items():
            edges.sort(key=lambda i: (x[chains[i][1 if side == 0 else -2]], i))
            step = min(0.12, PORTS / max(len(edges) - 1, 1))
            for place, i in enumerate(edges):
                ends[i][side] = x[box] + (place - (len(edges) - 1) / 2) * step
    return [(start, end) for start, end in ends]
