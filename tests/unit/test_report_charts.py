"""Charts and further tables of the report without a browser, and as notebook figures."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from interp.errors import UsageError
from interp.findings import Chart, Column, Findings, Series, Sheet
from interp.report import charts, sheets
from interp.report.build import MAX_BYTES, build_report
from interp.report.figures import figure, figure_names
from tests import sample_findings


def line(points: int, name: str = "s") -> Series:
    return Series(name, tuple(map(float, range(points))), tuple(map(float, range(points))))


def chart(*series: Series, **fields: Any) -> Chart:
    return Chart("c", "C", "x", "y", series, **fields)


def data_of(page: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">([^<]*)</script>', page)
    assert match is not None
    return json.loads(match.group(1))


@pytest.fixture(scope="module")
def sample() -> tuple[Any, Any, Any]:
    return sample_findings.sample(count=2, length=64)


def test_the_page_holds_every_chart_and_table_whole(sample: Any) -> None:
    data = data_of(build_report(*sample))
    for drawn, kept in zip(sample[0].charts, data["charts"], strict=True):
        assert [one["y"] for one in kept["series"]] == [list(series.y) for series in drawn.series]
        assert [one["low"] for one in kept["series"]] == [list(series.low) for series in drawn.series]
        assert kept["marks"] == [list(mark) for mark in drawn.marks]
    for sheet, kept in zip(sample[0].sheets, data["sheets"], strict=True):
        assert kept["rows"] == [list(row) for row in sheet.rows]
        assert [column["help"] for column in kept["columns"]] == [column.help for column in sheet.columns]


def test_no_section_for_what_is_not_there() -> None:
    page = build_report(*sample_findings.empty())
    assert '<section id="charts"' not in page and '<section id="sheets"' not in page
    assert 'href="#charts"' not in page and 'href="#sheets"' not in page
    for section in ("heads", "maps", "levels", "tokens"):
        assert f'<section id="{section}" tabindex="-1" hidden>' in page and f'<a href="#{section}" hidden>' in page


def test_numbers_of_a_chart_as_plain_html() -> None:
    named = Series("bars", (0.0, 1.0), (0.25, None), (0.2, None), (0.3, None), "bars", ("a", "b"))
    html = charts.charts_section([chart(named, line(2), x_names=("<one>", "two"), marks=((1.0, "here & now"),))])
    assert '<th scope="row">bars</th><td>&lt;one&gt;</td><td class="num">0.250</td><td class="num">0.200</td>' in html
    assert '<td>two</td><td class="num">n/a</td>' in html
    assert "<li>1: here &amp; now</li>" in html
    long = charts.charts_section([chart(line(charts.STATIC_ROWS + 1))])
    assert f"The first {charts.STATIC_ROWS} of {charts.STATIC_ROWS + 1} points." in long
    assert long.count('<th scope="row">') == charts.STATIC_ROWS


def test_points_that_a_logarithmic_axis_cannot_show_are_counted() -> None:
    series = Series("s", (0.0, 1.0, 2.0), (1.0, 0.0, 5.0))
    assert charts.not_drawn(chart(series)) == ""
    assert charts.not_drawn(chart(series, log_y=True)).startswith("1 point at or below zero")
    assert charts.not_drawn(chart(series, log_x=True, log_y=True)).startswith("2 points at or below zero")


def test_charts_over_the_budget_are_left_out_and_counted() -> None:
    kept, said = charts.fit([chart(line(60)), chart(line(60)), chart(line(40))], 100)
    assert [len(one.series[0].x) for one in kept] == [60, 40]
    assert said == ["1 chart did not fit and is left out; the numbers are in run.json."]
    assert charts.fit([chart(line(100))], 100)[1] == []


def test_long_tables_are_cut_and_counted() -> None:
    columns = (Column("a", "Int64", "a", "A."), Column("b", "string", "b", "B."))
    long = Sheet("long", "Long", columns, tuple((i, "x") for i in range(5000)))
    kept, said = sheets.fit([long])
    assert len(kept[0]) == sheets.ROWS and said == ["Table 'Long': the first 2,000 of 5,000 rows; all are in run.json."]
    assert len(sheets.fit([long], 0.0)[0][0]) == sheets.STATIC_ROWS
    html = sheets.sheets_section([long], kept)
    assert html.count("<tr>") == 1 + sheets.STATIC_ROWS and "The first 50 of 5,000 rows." in html
    assert "This table is empty." in sheets.sheets_section([dataclasses.replace(long, rows=())], [[]])


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("a", None, ""),
        ("a", float("nan"), ""),
        ("a", True, "yes"),
        ("a", 49152, "49152"),
        ("a", 3.0, "3"),
        ("a", 0.12345, "0.123"),
        ("token", " the", "␣the"),
        ("a", " the", " the"),
    ],
)
def test_cells_of_a_table(column: str, value: Any, shown: str) -> None:
    assert sheets.cell(column, value) == shown


def test_many_charts_and_tables_fit_the_page(sample: Any) -> None:
    columns = tuple(Column(f"c{i}", "string", f"c{i}", "C.") for i in range(8))
    sheet = Sheet("s", "S", columns, tuple(("words in a cell",) * 8 for _ in range(4000)))
    labelled = dataclasses.replace(line(500), labels=("what hovering tells " * 4,) * 500)
    findings = dataclasses.replace(
        sample[0], charts=[chart(*[labelled] * 6)] * 12, sheets=[sheet] * 30, heatmaps=[], strips=[]
    )
    page = build_report(findings, {}, [])
    assert len(page.encode()) <= MAX_BYTES
    assert "are left out; the numbers are in run.json" in page and "of 4,000 rows; all are in run.json" in page


def test_hostile_names_are_text_everywhere() -> None:
    findings, provenance, prompts = sample_findings.sample(heads=2, count=2, length=60, hostile=True)
    html = charts.charts_section(findings.charts) + sheets.sheets_section(
        findings.sheets, sheets.fit(findings.sheets)[0]
    )
    assert not set(re.findall(r"<(\w+)", html)) & {"script", "img", "a", "iframe"}
    assert html.count("&lt;script&gt;window.__pwned=1;alert(1)&lt;/script&gt;") > 10
    build_report(findings, provenance, prompts).encode("utf-8")


def test_notebook_figures_of_charts(sample: Any) -> None:
    findings = sample[0]
    names = figure_names(findings)
    assert names[-5:] == ["dose", "modules", "weakening", "cloud", "check"]
    drawn = figure(findings, "dose")
    assert drawn.layout.xaxis.type == "log" and drawn.layout.yaxis.type == "linear"
    assert list(drawn.data[0].y) == list(findings.charts[0].series[0].y)
    series = findings.charts[0].series[0]
    assert drawn.data[0].error_y.array[0] == pytest.approx(series.high[0] - series.y[0])
    assert drawn.data[0].error_y.array[4] is None  # a gap
    assert len(drawn.layout.shapes) == 3 and drawn.layout.template.layout.colorway is None
    bars = figure(findings, "modules")
    assert bars.data[0].type == "bar" and list(bars.layout.xaxis.ticktext)[:2] == ["head 9.1", "head 11.4"]
    assert bars.data[0].showlegend is False
    with pytest.raises(UsageError, match=r"'nope'.*dose.*cloud"):
        figure(findings, "nope")


def test_the_default_figure_is_the_first_chart_where_there_is_no_heatmap(sample: Any) -> None:
    bare = dataclasses.replace(sample[0], heatmaps=[])
    assert figure(bare).layout.title.text == "Sink score against the norm written"
    assert figure(sample[0]).layout.title.text == "Attention the anchor receives"


def test_notebook_charts_escape_what_plotly_would_interpret() -> None:
    findings = sample_findings.sample(heads=2, count=1, length=60, hostile=True)[0]
    for drawn in findings.charts:
        told = json.dumps(figure(findings, drawn.name).to_dict(), default=str).replace("<br>", "")
        assert "<" not in told.replace("<extra>", "") and "%{" not in told and "$" not in told


def test_charts_and_weight_labels_survive_the_run_folder(sample: Any, tmp_path: Any) -> None:
    from interp.runs.archive import load_findings, save_findings
    from interp.runs.store import RunFolder

    folder = RunFolder(tmp_path)
    strips = [dataclasses.replace(sample[0].strips[0], weight_label="norm of the value")]
    findings: Findings = dataclasses.replace(sample[0], strips=strips)
    record = save_findings(folder, findings)
    again = load_findings(folder, record)
    assert again.charts == findings.charts and again.sheets == findings.sheets
    assert again.strips[0].weight_label == "norm of the value"
    del record["strips"][0]["weight_label"]  # a run of before there were labels
    assert load_findings(folder, record).strips[0].weight_label == "attention received"
