"""Layered graphs in headless Chromium; `opened` (conftest.py) checks what a page must not do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp.comparison.compare import compare
from interp.findings import Findings
from interp.report.build import build_report
from interp.report.text import shown
from tests import sample_charts, sample_circuits, sample_findings
from tests.browser.conftest import Opened
from tests.browser.test_charts_and_sheets import saved
from tests.browser.test_report_page import point_at

TALL = {"width": 1200, "height": 1700}


def with_graphs(hostile: bool = False, **sizes: int) -> tuple[Findings, Any, Any]:
    findings, provenance, prompts = sample_findings.sample(count=2, length=80, hostile=hostile)
    evil = sample_findings.HOSTILE if hostile else ()
    drawn = sample_charts.graphs(np.random.default_rng(3), evil, **sizes)
    return dataclasses.replace(findings, graphs=drawn), provenance, prompts


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("graphs")
    made = {"graph": with_graphs(), "hostile": with_graphs(hostile=True, heads=12, edges=20)}
    for name, parts in made.items():
        (folder / f"{name}.html").write_text(build_report(*parts), encoding="utf-8", newline="\n")
    runs = [
        sample_circuits.save(folder / "a", task="ioi"),
        sample_circuits.save(folder / "b", task="<b>colours</b>", shift=((9, 1), (5, 5))),
    ]
    compare(runs).report(folder / "compare.html")
    return {name: folder / f"{name}.html" for name in (*made, "compare")}


@pytest.fixture(scope="module")
def watched_graphs(browser: Any, pages: dict[str, Path]) -> Opened:
    return Opened(browser, pages)


@pytest.fixture
def opened(watched_graphs: Opened) -> Iterator[Opened]:
    watched_graphs.wrong.clear()
    yield watched_graphs
    assert not watched_graphs.wrong, watched_graphs.wrong


@pytest.fixture(scope="module")
def graph() -> Any:
    return with_graphs()[0].graphs[0]


def parts(page: Any) -> Any:
    return page.evaluate(
        """() => { const plot = document.getElementById("graph-0-plot"); const full = plot._fullLayout; return {
             boxes: plot.layout.shapes.map(s => [s.x0, s.x1, s.y0, s.y1, s.fillcolor]),
             texts: plot.layout.annotations.map(a => a.text),
             lines: plot.data.filter(t => t.mode === "lines" && t.x.length > 1)
               .map(t => [t.line.width, t.line.color, t.line.dash, t.opacity, t.text]),
             legend: plot.data.filter(t => t.showlegend !== false).map(t => t.name),
             ticks: plot.layout.yaxis.ticktext, width: full._size.w,
             columns: full.xaxis.range[1] - full.xaxis.range[0]}; }"""
    )


def test_boxes_stand_apart_at_their_layers(opened: Opened, graph: Any) -> None:
    drawn = parts(opened("graph"))
    assert len(drawn["boxes"]) == len(graph.nodes) == 39 and drawn["texts"] == [n.label for n in graph.nodes]
    for i, (left, right, low, high, _) in enumerate(drawn["boxes"]):
        for other in drawn["boxes"][:i]:
            assert right <= other[0] or left >= other[1] or high <= other[2] or low >= other[3]
    heights = {node.name: box[2] for node, box in zip(graph.nodes, drawn["boxes"], strict=True)}
    layers = {node.name: node.layer for node in graph.nodes}
    assert all((heights[a] < heights[b]) == (layers[a] < layers[b]) for a in layers for b in layers)
    assert drawn["ticks"] == [str(layer) for layer in sorted({n.layer for n in graph.nodes[:-1]})]
    assert drawn["legend"][:5] == list(graph.kinds[1:]) and drawn["legend"][5:] == ["positive", "negative"]
    texts = opened("graph").locator("#graph-0-plot .annotation text").all()
    sizes = [text.bounding_box() for text in texts]
    assert all(size["width"] < 0.8 * drawn["width"] / drawn["columns"] for size in sizes if size)


def test_arrows_tell_weight_and_sign(opened: Opened, graph: Any) -> None:
    drawn = parts(opened("graph"))
    told = {line[4].split(",")[0]: line for line in drawn["lines"]}
    assert len(told) == 80
    by_size = sorted(graph.edges, key=lambda edge: abs(edge.weight))
    widths = [told[f"{edge.source} → {edge.target}"][0] for edge in by_size]
    assert widths == sorted(widths) and widths[-1] == pytest.approx(6) and widths[0] < 1.2
    for edge in graph.edges:
        _, colour, dash, _, text = told[f"{edge.source} → {edge.target}"]
        assert (colour, dash) == (("#2f78c4", "dash") if edge.weight < 0 else ("#c8661a", "solid"))
        assert "q at end" in text and float(text.split("effect: ")[1]) == pytest.approx(edge.weight, rel=0.01)


def test_pointing_and_clicking(opened: Opened, graph: Any) -> None:
    page = opened("graph", "#head=0.0", viewport=TALL)
    node = graph.nodes[7]
    point_at(page, "graph-0-plot", *place_of(page, 7))
    page.locator("#graph-0-plot .hovertext").wait_for()
    told = page.locator("#graph-0-plot .hovertext").text_content() or ""
    assert node.label in told and node.kind in told and node.note in told and "click to select" in told
    page.mouse.down()
    page.mouse.up()
    page.locator("#head-card h3", has_text=f"Head {node.name}").wait_for()
    assert page.evaluate("location.hash") == f"#head={node.name}"
    own = [line[3] for line in parts(page)["lines"] if line[3] > 0.5]
    assert len(own) == sum(node.name in (edge.source, edge.target) for edge in graph.edges)


def place_of(page: Any, i: int) -> list[float]:
    return page.evaluate(
        """i => { const s = document.getElementById("graph-0-plot").layout.shapes[i];
             return [(s.x0 + s.x1) / 2, (s.y0 + s.y1) / 2]; }""",
        i,
    )


def test_arrows_as_a_table_and_csv(opened: Opened, graph: Any) -> None:
    page = opened("graph")
    page.locator("#graph-0 summary").click()
    assert page.locator("#graph-0-data tbody tr").count() == 80
    rows = saved(page, page.get_by_role("button", name="CSV of The circuit"))
    assert [(row["from"], row["to"]) for row in rows] == [(e.source, e.target) for e in graph.edges]
    assert [float(row["weight"]) for row in rows] == pytest.approx([e.weight for e in graph.edges])


def test_hostile_graphs_show_as_text(opened: Opened) -> None:
    page = opened("hostile", viewport=TALL)
    for i, evil in enumerate(sample_findings.HOSTILE):
        point_at(page, "graph-0-plot", *place_of(page, i))
        page.locator("#graph-0-plot .hovertext").wait_for()
        page.wait_for_timeout(100)
        told = (page.locator("#graph-0-plot .hovertext").text_content() or "").replace("\xa0", " ")
        assert shown(evil)[:79] in told
    page.locator("#graph-0 summary").click()
    text = page.locator("#graphs").inner_text()
    assert all(evil in text for evil in sample_findings.HOSTILE[:4]) and "\u202e" not in text
    assert page.locator("#graphs img, #graphs a[href], #graphs script").count() == 0
    assert page.evaluate("window.__pwned") is None


@pytest.mark.parametrize("name", ["graph", "hostile"])
def test_a_narrow_screen_scrolls_down_only(opened: Opened, name: str) -> None:
    page = opened(name, viewport={"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_two_circuits_on_one_page(opened: Opened) -> None:
    page = opened("compare", viewport=TALL)
    assert page.locator("h1").inner_text().startswith("The circuits of ioi (9 heads) and <b>colours</b> (9) share 7")
    assert page.locator("#graphs h3").all_inner_texts() == ["Both circuits: ioi, <b>colours</b>"]
    drawn = parts(page)
    assert drawn["legend"][:3] == ["in both", "only ioi", "only &lt;b&gt;colours&lt;/b&gt;"]
    number = drawn["texts"].index("8.6")
    point_at(page, "graph-0-plot", *place_of(page, number))
    page.mouse.down()
    page.mouse.up()
    page.locator("#head-card h3", has_text="Head 8.6").wait_for()
    told = page.locator("#head-card").inner_text()
    assert "in both" in told and "Total effect: ioi" in told and "row of the table" not in told
    assert page.locator("#heads-score option").count() == 3
