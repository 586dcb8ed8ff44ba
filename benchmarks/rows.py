"""What every benchmark says in the same words: one row a thing measured, with its goal, for the table of the suite."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

MET, MISSED, UNMEASURED, NO_GOAL = "met", "MISSED", "not measured", ""


@dataclass(frozen=True)
class Goal:
    """What was promised.

    Attributes:
        sign: ``<=``, ``<``, ``>=``, or ``within`` (the ratio is at most `value` away from 1).
        value: in the row's unit.
        source: the issue and part that names it.
    """

    sign: str
    value: float
    source: str

    def __post_init__(self) -> None:
        if self.sign not in ("<=", "<", ">=", "within"):
            raise ValueError(f"goal: sign {self.sign!r} is none of <=, <, >=, within")

    def reached(self, ratio: float) -> bool:
        """Whether `ratio` keeps it; what is no number never does."""
        if self.sign == "within":
            return abs(ratio - 1) <= self.value
        return {"<=": ratio <= self.value, "<": ratio < self.value, ">=": ratio >= self.value}[self.sign]

    def __str__(self) -> str:
        return f"within {self.value:.0%}" if self.sign == "within" else f"{self.sign} {self.value:g}"


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: `benchmark.thing`, dotted; `goals.GOALS` has the goal under this name or the name less its last part.
        what, against: what was measured, and what it stands beside.
        unit: of the numbers, as it is read after them (``x its time``, ``s``).
        ratio: median of the paired ratios, or the number itself where there is nothing to divide by; None: not
            measured.
        low, high: the smallest and largest of the pairs; None where there is a single one.
        pairs: how many.
        goal: None where none was named.
        note: why it was not measured, or what helps to read it.
    """

    name: str
    what: str
    against: str
    unit: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    goal: Goal | None = None
    note: str = ""

    @property
    def status(self) -> str:
        """`MET`, `MISSED`, `UNMEASURED` or `NO_GOAL`; decided by the median, whatever the spread."""
        if self.ratio is None or math.isnan(self.ratio):
            return UNMEASURED
        if self.goal is None:
            return NO_GOAL
        return MET if self.goal.reached(self.ratio) else MISSED


def measured(name: str, ratios: Sequence[float], *, note: str = "", **text: str) -> Row:
    """The row of some paired ratios.

    Args:
        name: as in `Row`; text and goal come from `goals.GOALS` where it knows the name.
        ratios: one a pair; none at all makes a row that was not measured.
        text: `what`, `against`, `unit` where the catalogue has none, or has them too general.

    Raises:
        KeyError: the catalogue does not know the name, and a text is missing.
    """
    from goals import known

    told, goal = known(name)
    what, against, unit = (text.get(part) or told[part] for part in ("what", "against", "unit"))
    if not ratios:
        return Row(name, what, against, unit, goal=goal, note=note)
    spread = (min(ratios), max(ratios)) if len(ratios) > 1 else (None, None)
    return Row(name, what, against, unit, statistics.median(ratios), *spread, len(ratios), goal, note)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What a benchmark puts under ``suite`` in its result file."""
    return [asdict(row) | {"status": row.status} for row in rows]


def from_json(records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """`as_json` undone.

    Raises:
        TypeError, KeyError: a record that is no row.
    """
    rows = []
    for record in records:
        fields = {name: value for name, value in record.items() if name != "status"}
        rows.append(Row(**fields | {"goal": Goal(**fields["goal"]) if fields.get("goal") else None}))
    return rows
