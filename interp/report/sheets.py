"""Further tables for the page: what the scripts sort and save, and the plain HTML that is there without a script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from interp.findings import Sheet
from interp.report.text import clean, h, label, number

ROWS = 2_000  # of one sheet in the page
CELLS = 100_000  # of all sheets together
WORDY = 40  # letters from which a cell may break into lines
STATIC_ROWS = 50  # of one sheet in HTML; the scripts show more on demand


def fit(sheets: Sequence[Sheet], share: float = 1.0) -> tuple[list[list[tuple[Any, ...]]], list[str]]:
    """The rows of each sheet that the page holds, and a sentence for each sheet cut short.

    Args:
        share: part of the size budgets to use; every sheet keeps at least `STATIC_ROWS` rows.
    """
    cells = int(CELLS * share) // max(len(sheets), 1)
    kept, said = [], []
    for sheet in sheets:
        most = max(STATIC_ROWS, min(int(ROWS * share), cells // max(len(sheet.columns), 1)))
        kept.append(list(sheet.rows[:most]))
        if len(sheet.rows) > most:
            said.append(f"Table {sheet.title!r}: the first {most:,} of {len(sheet.rows):,} rows; all are in run.json.")
    return kept, said


def sheet_data(sheet: Sheet, rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """One sheet as JSON-able facts."""
    return {
        "name": clean(sheet.name),
        "columns": [
            {"name": clean(c.name), "label": clean(c.label), "help": clean(c.help), "number": _numeric(rows, i)}
            for i, c in enumerate(sheet.columns)
        ],
        "rows": rows,
        "total": len(sheet.rows),
    }


def sheets_section(sheets: Sequence[Sheet], kept: Sequence[Sequence[tuple[Any, ...]]]) -> str:
    """The section as HTML; empty where there is no sheet."""
    if not sheets:
        return ""
    parts = "".join(_sheet(i, sheet, rows) for i, (sheet, rows) in enumerate(zip(sheets, kept, strict=True)))
    return f'<section id="sheets" tabindex="-1">\n<h2>Further tables</h2>\n{parts}</section>\n'


def _sheet(i: int, sheet: Sheet, rows: Sequence[tuple[Any, ...]]) -> str:
    numeric = [_numeric(rows, column) for column in range(len(sheet.columns))]
    head = "".join(
        f'<th scope="col"{_class(number)} title="{h(column.help)}">{h(column.label)}</th>'
        for column, number in zip(sheet.columns, numeric, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            _td(cell(column.name, value), number)
            for column, number, value in zip(sheet.columns, numeric, row, strict=True)
        )
        + "</tr>"
        for row in rows[:STATIC_ROWS]
    )
    caption = f'<p class="caption" dir="auto">{h(sheet.caption)}</p>' if sheet.caption else ""
    shown = min(len(rows), STATIC_ROWS)
    count = f"The first {shown} of {len(sheet.rows):,} rows." if shown < len(sheet.rows) else ""
    empty = '<p class="empty">This table is empty.</p>' if not sheet.rows else ""
    return (
        f'<div class="sheet" id="sheet-{i}"><h3>{h(sheet.title)}</h3>{caption}{empty}'
        f'<div class="scroll"><table class="findings"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="caption count">{count}</p><p class="buttons"></p></div>\n'
    )


def cell(column: str, value: Any) -> str:
    """One value for people: short numbers, yes and no, tokens as labels; nothing for a missing one."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)  # ids and positions carry no thousands separator
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else number(value)
    return label(value) if column.startswith("token") else str(value)


def _numeric(rows: Sequence[tuple[Any, ...]], column: int) -> bool:
    given = [row[column] for row in rows if row[column] is not None]
    return bool(given) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in given)


def _td(text: str, numeric: bool) -> str:
    kind = "num" if numeric else "wordy" if len(text) > WORDY else ""
    return (f'<td class="{kind}">' if kind else "<td>") + f"<bdi>{h(text)}</bdi></td>"


def _class(numeric: bool) -> str:
    return ' class="num"' if numeric else ""
