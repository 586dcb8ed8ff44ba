"""What several runs drew under the same name: charts over one another, further tables below one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from interp.comparison.facts import Compared
from interp.findings import Chart, Column, Sheet

RUN = Column("run", "string", "run", "Which run the row comes from.")
OWN_SHEETS = ("levels",)  # `interp.comparison.own` shows these with more columns


def charts(runs: Sequence[Compared]) -> tuple[list[Chart], list[str]]:
    """Charts that two runs or more have, overlaid, and a sentence for each that does not fit together."""
    drawn, said = [], []
    for name, having in _by_name(runs, "charts").items():
        axes = {(chart.x_label, chart.y_label) for _, chart in having}
        if len(axes) > 1:
            said.append(f"Chart {name!r} has other axes from run to run and is not overlaid.")
        else:
            drawn.append(_overlaid(having))
    return drawn, said


def sheets(runs: Sequence[Compared]) -> list[Sheet]:
    """Tables that two runs or more have, with the columns that all of them have."""
    made = []
    for name, having in _by_name(runs, "sheets").items():
        if name in OWN_SHEETS:
            continue
        first = having[0][1]
        common = [c for c in first.columns if all(c.name in _names(sheet) for _, sheet in having)]
        rows = tuple(
            (run.name, *(row[_names(sheet).index(column.name)] for column in common))
            for run, sheet in having
            for row in sheet.rows
        )
        made.append(replace(first, columns=(RUN, *common), rows=rows))
    return made


def _by_name(runs: Sequence[Compared], kind: str) -> dict[str, list[tuple[Compared, Any]]]:
    """Charts or sheets by name, in order of first appearance; those that a single run has are left out."""
    found: dict[str, list[tuple[Compared, Any]]] = {}
    for run in runs:
        for drawn in getattr(run.result.findings, kind):
            found.setdefault(drawn.name, []).append((run, drawn))
    return {name: having for name, having in found.items() if len({run.name for run, _ in having}) > 1}


def _names(sheet: Sheet) -> list[str]:
    return [column.name for column in sheet.columns]


def _overlaid(having: Sequence[tuple[Compared, Chart]]) -> Chart:
    """One chart with the series of all: ``run: series``, or the run alone where it drew a single one."""
    first = having[0][1]
    x_names = tuple(dict.fromkeys(name for _, chart in having for name in chart.x_names))
    series, marks = [], []
    for run, chart in having:
        for one in chart.series:
            name = run.name if len(chart.series) == 1 else f"{run.name}: {one.name}"
            series.append(replace(one, name=name, x=tuple(_moved(x, chart.x_names, x_names) for x in one.x)))
        marks += [(_moved(at, chart.x_names, x_names), f"{run.name}: {text}") for at, text in chart.marks]
    captions = dict.fromkeys(chart.caption for _, chart in having if chart.caption)
    caption = (
        first.caption if len(captions) == 1 else " ".join(f"{run.name}: {c.caption}" for run, c in having if c.caption)
    )
    return replace(
        first,
        series=tuple(series),
        marks=tuple(marks),
        x_names=x_names,
        caption=caption,
        log_x=all(chart.log_x for _, chart in having),
        log_y=all(chart.log_y for _, chart in having),
        equal=first.equal if all(chart.equal == first.equal for _, chart in having) else None,
    )


def _moved(x: float, names: tuple[str, ...], all_names: tuple[str, ...]) -> float:
    """Where a named x stands among the names of all runs."""
    return float(all_names.index(names[int(x)])) if float(x).is_integer() and 0 <= x < len(names) else x
