"""Charts for the page: what the scripts draw from, and the plain HTML that is there without a script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from interp.findings import Chart, Series
from interp.report import scales
from interp.report.text import clean, h, number, plural

POINTS = 30_000  # of all charts together
STATIC_ROWS = 200  # of the numbers behind one chart, in HTML; the scripts show all


def fit(charts: Sequence[Chart], budget: int = POINTS) -> tuple[list[Chart], list[str]]:
    """The charts that fit a budget of points, in their order, and a sentence where some had to go."""
    kept = []
    for chart in charts:
        size = sum(len(series.x) for series in chart.series)
        if size <= budget:
            kept.append(chart)
            budget -= size
    gone = len(charts) - len(kept)
    said = (
        f"{plural(gone, 'chart')} did not fit and {'is' if gone == 1 else 'are'} left out; the numbers are in run.json."
    )
    return kept, [said] if gone else []


def chart_data(chart: Chart) -> dict[str, Any]:
    """One chart as JSON-able facts; numbers that are not finite become None."""
    return {
        "name": clean(chart.name),
        "title": clean(chart.title),
        "xLabel": clean(chart.x_label),
        "yLabel": clean(chart.y_label),
        "series": [
            {**asdict(series), "colour": scales.colour_of(series.role, i)} for i, series in enumerate(chart.series)
        ],
        "marks": [list(mark) for mark in chart.marks],
        "logX": chart.log_x,
        "logY": chart.log_y,
        "xNames": [clean(name) for name in chart.x_names],
        "equal": chart.equal,
    }


def charts_section(charts: Sequence[Chart]) -> str:
    """The section as HTML; empty where there is no chart."""
    if not charts:
        return ""
    figures = "".join(_figure(i, chart) for i, chart in enumerate(charts))
    return (
        '<section id="charts" tabindex="-1">\n<h2>Measured curves</h2>\n'
        f'<div class="charts">{figures}</div>\n</section>\n'
    )


def _figure(i: int, chart: Chart) -> str:
    wide = ' class="wide"' if len(chart.series) > 8 or len(chart.x_names) > 24 else ""
    caption = " ".join(filter(None, (chart.caption, not_drawn(chart))))
    return (
        f'<figure{wide} id="chart-{i}"><h3>{h(chart.title)}</h3><div class="plot" id="chart-{i}-plot" hidden></div>'
        f'<figcaption dir="auto">{h(caption)}</figcaption>'
        '<details class="behind"><summary>The numbers behind this plot</summary>'
        f'<p class="buttons"></p><div class="scroll" id="chart-{i}-data">{_numbers(chart)}</div></details></figure>\n'
    )


def not_drawn(chart: Chart) -> str:
    """A sentence on the points that a logarithmic axis cannot show."""
    out = sum(
        y is not None and ((chart.log_y and y <= 0) or (chart.log_x and x <= 0))
        for series in chart.series
        for x, y in zip(series.x, series.y, strict=True)
    )
    return f"{plural(out, 'point')} at or below zero cannot stand on a logarithmic axis." if out else ""


def _numbers(chart: Chart) -> str:
    """The first `STATIC_ROWS` points as a table, and the marks as a list."""
    points = [(series, i) for series in chart.series for i in range(len(series.x))]
    interval = any(series.low for series in chart.series)
    told = any(series.labels for series in chart.series)
    head = ["series", chart.x_label, chart.y_label, *(["low", "high"] if interval else []), *([""] if told else [])]
    rows = []
    for series, i in points[:STATIC_ROWS]:
        cells = [_td(series.y[i])]
        if interval:
            cells += [_td(ends[i] if ends else None) for ends in (series.low, series.high)]
        if told:
            cells.append(f"<td>{h(series.labels[i]) if series.labels else ''}</td>")
        rows.append(f'<tr><th scope="row">{h(series.name)}</th>{_x(chart, series, i)}{"".join(cells)}</tr>')
    names = "".join(f'<th scope="col">{h(name)}</th>' for name in head)
    more = len(points) - STATIC_ROWS
    cut = f'<p class="caption">The first {STATIC_ROWS} of {len(points):,} points.</p>' if more > 0 else ""
    marks = "".join(f"<li>{h(number(at))}: {h(text)}</li>" for at, text in chart.marks)
    listed = f"<p>Marks, by {h(chart.x_label)}:</p><ul>{marks}</ul>" if marks else ""
    return f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(rows)}</tbody></table>{cut}{listed}"


def _x(chart: Chart, series: Series, i: int) -> str:
    x = series.x[i]
    if float(x).is_integer() and 0 <= x < len(chart.x_names):
        return f"<td>{h(chart.x_names[int(x)])}</td>"
    return _td(x)


def _td(value: float | None) -> str:
    missing = value is None or not math.isfinite(value)
    whole = not missing and float(value).is_integer() and abs(value) < 1e15  # type: ignore[arg-type]
    return f'<td class="num">{h(number(int(value) if whole else value))}</td>'  # type: ignore[arg-type]
