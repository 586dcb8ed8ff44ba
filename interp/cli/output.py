"""What commands print on stdout: JSON, or text in which nothing from a model or a prompt can steer a terminal."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from interp.text import printable

if TYPE_CHECKING:
    from interp.findings import Verification
    from interp.runs.estimate import Estimate
    from interp.runs.result import ScanResult

TOP_ROWS = 12
_WIDEST = 32


def warn(message: str) -> None:
    """One line on stderr."""
    print(printable(message), file=sys.stderr, flush=True)


def say(message: str = "") -> None:
    """One line on stdout."""
    print(printable(message))


def print_json(value: Any) -> None:
    """Strict JSON; plain ASCII where stdout is not UTF-8 or the text holds half a surrogate pair."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False)
    print(text)


def print_rows(rows: Sequence[Mapping[str, Any]], widest: int = _WIDEST) -> None:
    """Aligned columns under a header; numbers to the right."""
    names: list[str] = []
    for row in rows:
        names += [name for name in row if name not in names]
    cells = [[_cell(row.get(name), widest) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[place]) for line in cells)) for place, name in enumerate(names)]
    numeric = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in names]
    for line in [names, *cells]:
        padded = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, numeric, strict=True)]
        print("  ".join(padded).rstrip())


def _cell(value: Any, widest: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {item}" for key, item in value.items())
    text = str(value)
    return printable(text if text == text.strip() else f"'{text}'", widest)  # a token that is a space is still seen


def print_result(result: ScanResult, rows: int | None = TOP_ROWS) -> None:
    """Verdict, table (the first `rows` rows; None = all), causal check, position 0, caveats, where the page is."""
    findings = result.findings
    say(findings.verdict)
    records = findings.records()
    if records:
        say()
        print_rows([without_ends(record) for record in records[:rows]])
        if rows is not None and len(records) > rows:
            say(f"... {len(records) - rows} more; all in {result.folder / 'findings.parquet'}")
        say()
    say(check_line(findings.verification))
    say(f"position 0: {result.provenance.get('position0')}")
    for caveat in findings.caveats:
        say(f"caveat: {caveat}")
    say(f"report: {result.folder / 'report.html'}")


def without_ends(record: Mapping[str, Any]) -> dict[str, Any]:
    """A row without the ends of its figures' intervals (``score_low`` beside ``score``): they are in the file."""
    ends = {f"{name}_{end}" for name in record for end in ("low", "high")}
    return {name: value for name, value in record.items() if name not in ends}


def check_line(checked: Verification | None) -> str:
    """The causal check in one line."""
    if checked is None:
        return "causal check: not run"
    line = f"causal check: {checked.verdict}"
    if checked.effect is None:
        return line
    line += f"; {checked.metric}: {_interval(checked.effect, checked.effect_low, checked.effect_high)}"
    if checked.control is not None:
        line += f" against {_interval(checked.control, checked.control_low, checked.control_high)} for matched controls"
    return f"{line}; {checked.prompts} {checked.unit}{'s' if checked.prompts != 1 else ''}"


def _interval(value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"{value:+.4g}"
    return f"{value:+.4g} [{low:+.4g}, {high:+.4g}]"


def print_estimate(estimate: Estimate) -> None:
    """What ``--dry-run`` says."""
    for name, value in estimate.lines():
        say(f"{name}: {value}")
