"""Layered graphs: where boxes and arrows stand, the run folder, the page without scripts, the notebook figure."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp.findings import Edge, Findings, Graph, Node
from interp.report import graphs, scales
from interp.report.build import build_report
from interp.report.figures import figure, figure_names
from interp.report.layers import LEAST_COLUMNS, layout, spread
from interp.runs.archive import load_findings, save_findings
from interp.runs.store import RunFolder
from tests import sample_charts, sample_findings


def made(nodes: dict[str, float], *edges: tuple[str, str, float]) -> Graph:
    kinds = ("ends", "head")
    boxes = tuple(Node(name, layer, kinds[name[0].isdigit()], name) for name, layer in nodes.items())
    return Graph("g", "G", boxes, tuple(Edge(*edge) for edge in edges), kinds, "effect")


@pytest.fixture(scope="module")
def big() -> Graph:
    return sample_charts.graphs(np.random.default_rng(3))[0]


def test_boxes_and_passing_arrows_keep_apart(big: Graph) -> None:
    placed = layout(big)
    assert layout(big) == placed
    heights = [placed.places[node.name][1] for node in big.nodes]
    assert [a < b for a, b in pairwise(heights)] == [a.layer < b.layer for a, b in pairwise(big.nodes)]
    for i, one in enumerate(big.nodes):
        x, y = placed.places[one.name]
        assert -1e-9 <= x <= placed.columns - 1 + 1e-9
        for other in big.nodes[:i]:
            at, height = placed.places[other.name]
            assert height != y or abs(at - x) >= 1 - 1e-9
    for edge, path in zip(big.edges, placed.paths, strict=True):
        assert [y for _, y in path] == sorted({y for _, y in path})  # upwards, through every row between
        for (x, y), (start, end) in ((path[0], (edge.source, "")), (path[-1], ("", edge.target))):
            at, height = placed.places[start or end]
            assert y == height and abs(x - at) <= 0.31
        for x, y in path[1:-1]:
            assert all(abs(x - at) > 0.5 for at, height in placed.places.values() if height == y)


def test_order_avoids_crossings() -> None:
    crossed = made({"0.0": 0, "0.1": 0, "0.2": 0, "1.0": 1, "1.1": 1, "1.2": 1},
                   ("0.0", "1.2", 1), ("0.1", "1.1", 1), ("0.2", "1.0", 1))  # fmt: skip
    places = layout(crossed).places
    for i, one in enumerate(crossed.edges):
        for other in crossed.edges[:i]:
            apart = [places[a][0] - places[b][0] for a, b in ((one.source, other.source), (one.target, other.target))]
            assert apart[0] * apart[1] > 0
    assert all(places[e.source][0] == pytest.approx(places[e.target][0]) for e in crossed.edges)  # upright


def test_rows_are_named_by_layer_and_gaps_seen() -> None:
    placed = layout(made({"input": -1, "3.0": 3, "4.1": 4, "9.2": 9, "logits": 12}, ("3.0", "logits", 1.0)))
    assert [text for _, text in placed.rows] == ["", "3", "4", "9", ""]
    heights = [at for at, _ in placed.rows]
    assert heights[2] - heights[1] == pytest.approx(1.0) and heights[3] - heights[2] == pytest.approx(1.3)
    assert placed.columns == LEAST_COLUMNS and len(placed.paths[0]) == 4
    assert layout(made({})).places == {}
    level = layout(made({"1.0": 1, "1.1": 1}, ("1.0", "1.1", 1.0)))
    assert len(level.paths[0]) == 2
    down = layout(made({"1.0": 1, "2.0": 2, "3.0": 3}, ("3.0", "1.0", 1.0)))
    assert [y for _, y in down.paths[0]] == [2, 1, 0]


def test_spread_moves_as_little_as_it_must() -> None:
    assert spread([1.0, 4.0], [1, 1], 8) == [1.0, 4.0]
    assert spread([2.0, 2.0, 2.0], [1, 1, 1], 8) == [1.0, 2.0, 3.0]
    assert spread([-3.0, 9.0], [1, 1], 4) == [0.0, 3.0]
    assert spread([2.0, 2.0], [1, 0.5], 8) == pytest.approx([1.625, 2.375])
    with pytest.raises(ValueError, match="do not fit"):
        spread([0.0] * 3, [1, 1, 1], 2)


def test_a_graph_must_hold_together() -> None:
    with pytest.raises(ValueError, match=r"nodes of kinds \['odd'\], its kinds are head"):
        Graph("g", "G", (Node("1.0", 1, "odd", "1.0"),), (), ("head",), "effect")
    with pytest.raises(ValueError, match="no nodes of it"):
        made({"1.0": 1}, ("1.0", "2.0", 1.0))


@pytest.fixture(scope="module")
def findings(big: Graph) -> Findings:
    return dataclasses.replace(sample_findings.sample(count=2, length=64)[0], graphs=[big])


def test_run_folder_keeps_graphs(findings: Findings, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.prepare()
    unknown = dataclasses.replace(findings.graphs[0], edges=(Edge("0.8", "logits", float("nan")),))
    record = json.loads(
        json.dumps(save_findings(folder, dataclasses.replace(findings, graphs=[*findings.graphs, unknown])))
    )
    loaded = load_findings(folder, record).graphs
    assert loaded[0] == findings.graphs[0] and np.isnan(loaded[1].edges[0].weight)
    del record["graphs"]  # a folder written before there were graphs
    assert load_findings(folder, record).graphs == []


def test_page_without_scripts_and_data(findings: Findings, big: Graph) -> None:
    page = build_report(findings, {}, [])
    assert '<a href="#graphs">Graph</a>' in page and page.index('id="graphs"') < page.index('id="charts"')
    assert '<th scope="row"><bdi>28.0</bdi></th><td><bdi>logits</bdi></td>' in page
    assert page.count("q at end") > 80 and "looks at S2" in page
    assert 'id="graphs"' not in build_report(sample_findings.sample(count=2, length=64)[0], {}, [])
    evil = sample_charts.graphs(np.random.default_rng(3), sample_findings.HOSTILE, 12, 20)
    section = graphs.graphs_section(evil)
    assert "<script" not in section and "<img" not in section and "&lt;script&gt;" in section
    data = graphs.graph_data(big)
    assert [kind["colour"] for kind in data["kinds"]] == [scales.kind_colour(i) for i in range(6)]


def test_heaviest_arrows_are_kept(big: Graph) -> None:
    (cut,), (said,) = graphs.fit([big], 10)
    kept = sorted((abs(edge.weight) for edge in big.edges), reverse=True)[:10]
    assert sorted((abs(edge.weight) for edge in cut.edges), reverse=True) == kept and len(cut.nodes) == len(big.nodes)
    assert said == "Graph 'The circuit': the 10 heaviest of 80 arrows; all are in run.json."
    assert graphs.fit([big]) == ([big], [])


def test_notebook_figure(findings: Findings, big: Graph) -> None:
    import plotly.io

    before = plotly.io.templates.default
    assert figure_names(findings)[-2:] == ["circuit", "check"]
    drawn: Any = figure(findings, "circuit")
    assert plotly.io.templates.default == before
    assert len(drawn.layout.shapes) == 39 and [a.text for a in drawn.layout.annotations].count("logits") == 1
    lines = [trace for trace in drawn.data if trace.mode == "lines"]
    assert len(lines) == 80 and lines[-1].line.width == 6
    strongest = max(big.edges, key=lambda edge: abs(edge.weight))
    assert lines[-1].text.startswith(f"{strongest.source} → {strongest.target}, q at end")
    assert [trace.name for trace in drawn.data if trace.showlegend] == list(big.kinds[1:])
    evil = dataclasses.replace(
        findings, graphs=sample_charts.graphs(np.random.default_rng(3), sample_findings.HOSTILE, 12, 20)
    )
    told = json.dumps(figure(evil, evil.graphs[0].name).to_plotly_json(), default=str)
    assert "<script" not in told and "<img" not in told


@pytest.mark.parametrize(("colour", "ink"), [("#f0e442", "#000000"), ("#0072b2", "#ffffff"), ("#000000", "#ffffff")])
def test_text_can_be_read_on_its_box(colour: str, ink: str) -> None:
    assert scales.ink(colour) == ink
