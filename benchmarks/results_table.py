"""The one table of the suite, as Markdown and as JSON, from the rows of all benchmarks. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from goals import unanswered
from rows import MET, MISSED, UNMEASURED, Row, as_json, from_json

FINISHED, KEPT, CRASHED, TIMED_OUT, MISSING, LEFT_OUT = (
    "finished",
    "kept",
    "crashed",
    "timed out",
    "missing",
    "not asked for",
)
"""What became of a benchmark; `KEPT`: finished earlier, its result still stands."""
MARKS = {MET: "met", MISSED: "**MISSED**", UNMEASURED: "not measured", "": ""}


def build(outcomes: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], quick: bool = False) -> dict[str, Any]:
    """What `RESULTS.json` holds.

    Args:
        outcomes: one a benchmark: ``name``, ``state``, ``why`` (of one that did not finish), ``seconds``, ``date``,
            ``commit``, ``load`` (the machine's, before it), ``rows`` as `rows.as_json` writes them.
        facts: of `machine.machine`.
        quick: sizes were small, so that no goal is judged.

    A benchmark that finished without a single row is told as crashed: its format is not what the suite reads.
    """
    rows, runs = [], []
    for outcome in outcomes:
        run = {"why": "", **outcome}
        try:
            own = from_json(run.pop("rows", []))
        except (TypeError, KeyError, ValueError) as error:
            own, run["state"], run["why"] = [], CRASHED, f"its rows cannot be read: {error!r}"
        if run["state"] in (FINISHED, KEPT) and not own:
            run["state"], run["why"] = CRASHED, run["why"] or "it gave no rows"
        rows += own
        runs.append(run)
    why = {run["name"]: told for run in runs if (told := reason(run))}
    rows += unanswered(rows, why)
    order = {run["name"]: place for place, run in enumerate(runs)}
    rows.sort(key=lambda row: order.get(row.name.partition(".")[0], len(order)))
    counts = Counter(row.status for row in rows)
    return {
        "quick": quick,
        "goals": {MET: counts[MET], MISSED: counts[MISSED], UNMEASURED: counts[UNMEASURED]},
        "machine": dict(facts),
        "rows": as_json(rows),
        "benchmarks": runs,
    }


def reason(run: Mapping[str, Any]) -> str:
    """Why a benchmark's rows are not there; empty for one that did its work."""
    if run["state"] in (FINISHED, KEPT):
        return ""
    return f"{run['state']}: {run['why']}" if run["why"] else run["state"]


def markdown(result: Mapping[str, Any]) -> str:
    """`RESULTS.md`: the table, what became of each benchmark, and the machine."""
    quick = result["quick"]
    lines = ["# Side by side", ""]
    if quick:
        lines += ["**Small sizes, to see that everything runs: nothing here is a result, and no goal is judged.**", ""]
    else:
        told = result["goals"]
        lines += [
            f"Goals: {told[MET]} met, {told[MISSED]} missed, {told[UNMEASURED]} not measured. "
            "How to read and rerun this: [docs/benchmarks.md](../docs/benchmarks.md).",
            "",
        ]
    lines += ["| what | against | median | spread (pairs) | goal | | named in | note |"]
    lines += ["|---|---|---:|---:|---:|---|---|---|"]
    for row in from_json(result["rows"]):
        lines.append(_line(row, quick))
    lines += ["", "| benchmark | | minutes | load before | date | commit |", "|---|---|---:|---:|---|---|"]
    for run in result["benchmarks"]:
        state = reason(run) or run["state"]
        minutes = f"{run['seconds'] / 60:.1f}" if run.get("seconds") is not None else ""
        load = f"{run['load']:.1f}" if run.get("load") is not None else ""
        cells = (f"`{run['name']}`", _cell(state), minutes, load, run.get("date", ""), run.get("commit", ""))
        lines.append("| " + " | ".join(cells) + " |")
    facts = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines += [
        "",
        f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads, {facts['memory_gib']} GiB; "
        f"{facts['system']}; Python {facts['python']}, {versions}.",
        "",
    ]
    return "\n".join(lines)


def _line(row: Row, quick: bool) -> str:
    mark = "" if quick and row.status != UNMEASURED else MARKS[row.status]
    spread = f"{number(row.low)} to {number(row.high)} ({row.pairs})" if row.low is not None else ""
    value = f"{number(row.ratio)} {row.unit}" if row.status != UNMEASURED else ""
    goal, source = (f"{row.goal} {row.unit}", row.goal.source) if row.goal else ("", "")
    return "| " + " | ".join(map(_cell, (row.what, row.against, value, spread, goal, mark, source, row.note))) + " |"


def number(value: float | None) -> str:
    """Three figures, as one writes them."""
    if value is None:
        return ""
    if value and not 0.001 <= abs(value) < 10_000:
        return f"{value:.1e}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
