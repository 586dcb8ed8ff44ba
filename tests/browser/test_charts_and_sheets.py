"""Charts and further tables in headless Chromium; `opened` (conftest.py) checks what a page must not do."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from interp.report.text import shown
from tests import sample_findings
from tests.browser.conftest import Opened
from tests.browser.test_report_page import point_at


@pytest.fixture(scope="module")
def drawn() -> Any:
    return sample_findings.sample(count=2, length=96)[0]


def saved(page: Any, button: Any) -> list[dict[str, str]]:
    with page.expect_download() as file:
        button.click()
    return list(csv.DictReader(io.StringIO(Path(file.value.path()).read_text(encoding="utf-8"), newline="")))


def traces(page: Any, chart: int) -> list[dict[str, Any]]:
    return page.evaluate(
        """i => document.getElementById(`chart-${i}-plot`).data.map(t => ({type: t.type, fill: t.fill ?? null,
             legend: t.showlegend, x: [...t.x], y: [...t.y], dash: t.line?.dash ?? null}))""",
        chart,
    )


def layout(page: Any, chart: int, name: str) -> Any:
    return page.evaluate(f"i => document.getElementById(`chart-${{i}}-plot`)._fullLayout.{name}", chart)


def test_lines_bands_marks_and_axes(opened: Opened, drawn: Any) -> None:
    page = opened("small")
    assert page.locator("#charts figure").count() == len(drawn.charts) == 4
    band, line, _, control, _ = traces(page, 0)
    series = drawn.charts[0].series[0]
    assert line["y"] == list(series.y) and line["y"][4] is None
    assert band["fill"] == "toself" and band["x"].count(None) == 2  # the gap at 4 splits the band
    assert band["y"][:4] == list(series.high[:4]) and band["y"][4:8] == list(series.low[:4])[::-1]
    assert [control["legend"], line["legend"], band["legend"]] == [True, True, False]
    assert layout(page, 0, "xaxis.type") == "log"
    left, right = layout(page, 0, "xaxis.range")
    assert left < 1.0 and right > 4.4  # powers of ten: 10 to 30,000
    shapes = page.evaluate("document.getElementById('chart-0-plot').layout.shapes.map(s => [s.x0, s.y0, s.line.dash])")
    assert shapes == [[2000, 0, "dot"], [2100, 0, "dot"], [0, 0.03, "dash"]]
    assert page.evaluate("document.getElementById('chart-0-plot').layout.annotations.length") == 1  # no two overlap
    assert "The line is the mean over prompts" in page.locator("#chart-0 figcaption").inner_text()


def test_maps_that_belong_to_no_prompt(opened: Opened) -> None:
    page = opened("small")
    assert page.locator("#overall h3").all_inner_texts() == [
        "Sinks by start layer and lifetime",
        "Cosine with the anchor",
    ]
    point_at(page, "overall-0-plot", 18, 11)
    page.locator("#overall-0-plot .hovertext").wait_for()
    assert "sinks: 12" in (page.locator("#overall-0-plot .hovertext").text_content() or "")
    assert page.locator("#overall-1-plot .xtick text").all_text_contents() == ["query", "key", "value", "gate", "up"]
    page.locator("#overall summary").first.click()
    page.locator("#overall-0-data tbody tr").first.wait_for()
    assert page.locator("#overall-0-data tbody tr").count() == 30
    measures = page.locator("#maps-measure option").all_inner_texts()
    assert "Sinks by start layer and lifetime" not in measures and len(measures) == 3


def test_bars_points_and_names(opened: Opened) -> None:
    page = opened("small")
    assert traces(page, 1)[0]["type"] == "bar" and layout(page, 1, "showlegend") is False
    assert page.locator("#chart-1-plot .xtick text").all_text_contents()[:2] == ["head 9.1", "head 11.4"]
    assert layout(page, 2, "yaxis.type") == "log" and layout(page, 2, "showlegend") is True
    assert page.locator("#chart-3-plot .scatterlayer .point").count() >= 40
    low, high = layout(page, 3, "yaxis.range")
    assert low < 0.0 < high  # the dashed line is inside


def test_numbers_and_csv_of_a_chart(opened: Opened, drawn: Any) -> None:
    page = opened("small")
    page.locator("#chart-0 summary").click()
    assert page.locator("#chart-0-data tbody tr").count() == 18
    assert "measured" in page.locator("#chart-0-data").inner_text()
    rows = saved(page, page.get_by_role("button", name="CSV of Sink score"))
    series = drawn.charts[0].series[0]
    assert [row["series"] for row in rows][8:10] == ["secondary sinks", "same tokens elsewhere"]
    assert [float(row["low"]) for row in rows[:9]] == pytest.approx(list(series.low))
    assert rows[4][drawn.charts[0].y_label] == ""


def test_tables_sort_grow_and_download(opened: Opened, drawn: Any) -> None:
    page = opened("small")
    column = "rows => rows.map(row => row.cells[1].textContent)"
    table = page.locator("#sheet-1 table")
    assert table.locator("tbody tr").count() == 50
    assert "The first 50 of 120 rows" in page.locator("#sheet-1 .count").inner_text()
    page.get_by_role("button", name="Show 70 more rows").click()
    assert table.locator("tbody tr").count() == 120 and page.locator("#sheet-1 .count").inner_text() == ""
    losses = sorted((row[1] for row in drawn.sheets[1].rows), reverse=True)
    header = table.locator("thead th").nth(1)
    for direction, expected in (("descending", losses), ("ascending", losses[::-1])):
        header.get_by_role("button").click()
        assert header.get_attribute("aria-sort") == direction
        found = [float(text) for text in page.eval_on_selector_all("#sheet-1 tbody tr", column)]
        assert found == pytest.approx(expected, abs=0.006)
    assert [float(row["loss"]) for row in saved(page, page.get_by_role("button", name="CSV of Loss"))] == losses[::-1]
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "none"
    first = page.locator("#sheet-0 thead th").first
    assert first.get_by_role("button").get_attribute("title") == "Which expert fired."
    first.get_by_role("button").click()
    first.get_by_role("button").click()
    cells = page.eval_on_selector_all("#sheet-0 tbody tr", "rows => rows.map(row => row.cells[0].textContent)")
    assert cells == [f"expert {i}" for i in range(7, -1, -1)] + [""]  # a missing value stays last


def test_hostile_charts_and_tables_show_as_text(opened: Opened) -> None:
    page = opened("hostile")
    point_at(page, "chart-0-plot", 30_000, 0.375)  # the last point of the first series
    page.locator("#chart-0-plot .hovertext").wait_for()
    told = page.locator("#chart-0-plot .hovertext").text_content() or ""
    assert "secondary sinks<script>window.__pwned=1" in told
    for i, evil in enumerate(sample_findings.HOSTILE):  # plotly reads labels as pseudo-HTML: letter by letter, please
        point_at(page, "chart-1-plot", i, 0.005)
        page.locator("#chart-1-plot .hovertext").wait_for()
        page.wait_for_timeout(100)
        told = (page.locator("#chart-1-plot .hovertext").text_content() or "").replace("\xa0", " ")
        assert shown(evil) in told
    point_at(page, "overall-1-plot", 0, 3)
    page.locator("#overall-1-plot .hovertext").wait_for()
    assert sample_findings.HOSTILE[0] in (page.locator("#overall-1-plot .hovertext").text_content() or "")
    for details in page.locator("#charts details").all():
        details.evaluate("node => { node.open = true; }")
    for button in page.locator("#sheets thead button").all():
        button.click()
    page.mouse.move(5, 5)
    assert page.evaluate("window.__pwned") is None
    assert (
        page.locator("#charts img, #charts a[href], #sheets img, #sheets a, #charts script, #sheets script").count()
        == 0
    )
    text = page.locator("#charts").inner_text() + page.locator("#sheets").inner_text()
    for evil in sample_findings.HOSTILE[:4]:
        assert evil in text
    assert "\u202e" not in text
    rows = saved(page, page.get_by_role("button", name="CSV of MLP outputs"))
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
    assert any(cell.startswith("'=HYPERLINK") for row in rows for cell in row.values())


def test_without_scripts_the_numbers_are_there(browser: Any, reports: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(reports["small"].as_uri())
    assert page.locator("#sheet-0 tbody tr").count() == 9
    page.locator("#chart-0 summary").click()
    assert page.locator("#chart-0-data tbody tr").first.is_visible()
    assert page.locator("#charts .plot:visible").count() == 0
    for section in ("heads", "maps", "levels", "overall", "tokens"):
        assert page.locator(f"section#{section}").is_hidden()
    assert page.locator("nav a:visible").all_inner_texts() == [
        "Verdict", "Check", "Charts", "Table", "Further tables", "Provenance",
    ]  # fmt: skip
    context.close()


@pytest.mark.parametrize("name", ["small", "hostile"])
def test_a_narrow_screen_scrolls_down_only(opened: Opened, name: str) -> None:
    page = opened(name, viewport={"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_comparison_is_a_page_like_any_other(opened: Opened) -> None:
    page = opened("compare")
    assert page.locator("h1").inner_text() == "2 runs of 'sinks' side by side: small and <b>large</b>."
    assert page.locator("#table-table tbody tr").count() == 2
    titles = page.locator("#charts h3").all_inner_texts()
    assert titles[0].startswith("Does it matter to the model") and "Levels of all sinks, by depth" in titles
    assert page.locator("#chart-0-plot .xtick text").all_text_contents() == ["small", "<b>large</b>"]
    assert page.locator("#sheets h3").first.inner_text() == "Levels side by side"
    point_at(page, "chart-2-plot", 2 / 30, 7 / 30)
    page.locator("#chart-2-plot .hovertext").wait_for()
    assert "starts in layer 2, lasts 7" in (page.locator("#chart-2-plot .hovertext").text_content() or "")
    assert page.evaluate("window.__pwned") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
