"""The figures that runs state (``summary["claims"]``), below one another: what a claim of a paper is judged by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from interp.comparison.facts import Compared
from interp.findings import Column, Sheet

COLUMNS = (
    Column("claim", "string", "figure", "Name of the figure; the finder's page of the documentation explains it."),
    Column("run", "string", "run", "Which run it comes from."),
    Column("value", "float64", "value", "What was measured: the mean over what it counts, or a number found."),
    Column("low", "float64", "low", "Lower end of its interval."),
    Column("high", "float64", "high", "Upper end of its interval."),
    Column("n", "Int64", "n", "Over how many values."),
)


def sheets(runs: Sequence[Compared]) -> list[Sheet]:
    """One table, a claim's runs together; none where no run states any. Figures that a run could not take are left
    out."""
    told = [(run.name, dict(_figures(run.result.findings.summary.get("claims")))) for run in runs]
    names = dict.fromkeys(name for _, figures in told for name in figures)
    rows = tuple((name, run, *figures[name]) for name in names for run, figures in told if name in figures)
    return [Sheet("figures", "Figures side by side", COLUMNS, rows)] if rows else []


def _figures(claims: Any, above: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(name, (value, low, high, n)) of every figure, also of those one level down."""
    if not isinstance(claims, Mapping):
        return
    for name, told in claims.items():
        if not isinstance(told, Mapping):
            continue
        value = told.get("found", told.get("mean"))  # a count found; its mean is that over resamples
        if _number(value):
            ends = (told.get(end) if _number(told.get(end)) else None for end in ("low", "high"))
            count = told.get("n")
            yield f"{above}{name}", (float(value), *ends, count if isinstance(count, int) else None)
        elif "mean" not in told and not above:
            yield from _figures(told, f"{name}.")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
