"""A sweep's runs on one page: a row a model, with the facts of every finder, and what each finder's runs compare.

Runs of one finder are compared as `interp.compare` does it; several finders' comparisons stand one after another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from interp.comparison.build import FINDER, HOW, side_by_side
from interp.comparison.compare import Comparison, open_finished
from interp.comparison.facts import Compared
from interp.errors import UsageError
from interp.findings import Column, Findings, Sheet, Verification
from interp.sweeps.folder import RUNS, SweepFolder
from interp.sweeps.result import open_sweep
from interp.text import printable

LONGEST_NAME = 60
SIDE = ("prompts", "T", "secondary_levels", "levels_low", "levels_high", "effect_low", "effect_high")
"""Facts that stand in the table of their finder and not in the table of the models."""
APART = (*SIDE, "run", "layers", "verdict", "folder")
UNIT_COLUMNS = (
    Column("model", "string", "model", "The model's label in the sweep."),
    Column("finder", "string", "finder", "Which finder."),
    Column("prompts", "string", "prompts", "The probe, or the file of prompts."),
    Column("settings", "string", "settings", "Those that the sweep names."),
    Column("status", "string", "status", "How the unit stands."),
    Column("check", "string", "causal check", "Verdict of its causal check."),
    Column("attempts", "Int64", "attempts", "How often it was begun."),
    Column("seconds", "float64", "seconds", "How long the attempt took that finished it."),
    Column("error", "string", "error", "What went wrong."),
    Column(
        "folder", "string", "run folder", "Its run folder, inside the sweep's folder; report.html there is its page."
    ),
)


def compare_sweep(path: str | os.PathLike[str]) -> Comparison:
    """The finished runs of a sweep side by side.

    Raises:
        UsageError: none has finished, or a finished one cannot be read.
        RunFolderError: no sweep there, or a damaged one.
    """
    record = open_sweep(path).record
    folder = SweepFolder(path)
    units = [unit for unit in record["units"] if unit.get("status") == "finished"]
    if not units:
        raise UsageError(f"no unit of the sweep in {folder.path} has finished; run it again to go on")
    groups: dict[str, list[tuple[Mapping[str, Any], Path]]] = {}
    for unit, run in zip(units, folder.runs_of(record), strict=True):
        groups.setdefault(str(unit.get("finder")), []).append((unit, run))
    made = {finder: side_by_side(_compared(group)) for finder, group in groups.items()}
    findings = _one(made) if len(made) == 1 else _several(made)
    findings.sheets.append(_units(record["units"]))
    findings.verdict = f"{_ended(record['units'])} {findings.verdict}"
    findings.caveats[:0] = _failures(record["units"])
    runs = {f"{finder}: {name}": run for finder, (_, told) in made.items() for name, run in told["runs"].items()}
    models = ", ".join(dict.fromkeys(str(unit.get("model")) for unit in record["units"]))
    return Comparison(findings, {"model": models, "sweep": record.get("provenance") or {}, "runs": runs})


def _compared(group: Sequence[tuple[Mapping[str, Any], Path]]) -> list[Compared]:
    """The runs of one finder, each by its model, with what sets it apart where a model has several."""
    told = [_told(unit) for unit, _ in group]
    differing = [
        key for key in dict.fromkeys(key for one in told for key in one) if len({_at(one, key) for one in told}) > 1
    ]
    models = [str(unit.get("model")) for unit, _ in group]
    names: list[str] = []
    for model, one in zip(models, told, strict=True):
        apart = [f"{key} {_at(one, key)}" for key in differing] if models.count(model) > 1 else []
        name = printable(f"{model} ({', '.join(apart)})" if apart else model, LONGEST_NAME)
        names.append(name if name not in names else f"{name} {len(names) + 1}")
    inside = Path(RUNS)  # the page names run folders as they are seen from where it lies
    return [Compared(name, inside / run.name, open_finished(run)) for name, (_, run) in zip(names, group, strict=True)]


def _told(unit: Mapping[str, Any]) -> dict[str, Any]:
    """What may set a unit apart from others of its model and finder."""
    effect = unit.get("effect") or {}
    parts = [effect.get(name) or {} for name in ("crossed", "set", "probe_set")]
    return {"prompts": unit.get("source"), **{key: value for part in parts for key, value in part.items()}}


def _at(one: Mapping[str, Any], key: str) -> str:
    value = one.get(key)
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _one(made: Mapping[str, tuple[Findings, Any]]) -> Findings:
    ((findings, _),) = made.values()
    return findings


def _several(made: Mapping[str, tuple[Findings, Any]]) -> Findings:
    """Comparisons of several finders as one: everything under its finder's name."""
    columns, rows = _models(made)
    table = pd.DataFrame({c.name: pd.Series([row.get(c.name) for row in rows], dtype=object) for c in columns})
    whole = Findings(
        FINDER,
        table.astype({column.name: column.dtype for column in columns}),
        tuple(columns),
        " ".join(findings.verdict for findings, _ in made.values()),
        verification=Verification("nothing to verify", "", HOW),
        table_title="The models",
    )
    for finder, (findings, _) in made.items():
        whole.summary[finder] = findings.summary
        whole.caveats += [f"{finder}: {caveat}" for caveat in findings.caveats]
        for kind in ("heatmaps", "charts", "sheets", "graphs"):
            getattr(whole, kind).extend(_under(finder, drawn) for drawn in getattr(findings, kind))
        runs = tuple(tuple(row.values()) for row in findings.records())
        title = f"{finder}: the runs"
        place = len(whole.sheets) - len(findings.sheets)
        whole.sheets.insert(place, Sheet(f"{finder}.runs", title, findings.columns, runs))
    return whole


def _under(finder: str, drawn: Any) -> Any:
    return replace(drawn, name=f"{finder}.{drawn.name}", title=f"{finder}: {drawn.title}")


def _models(made: Mapping[str, tuple[Findings, Any]]) -> tuple[list[Column], list[dict[str, Any]]]:
    """A row for each name that runs go by (a model, or a model and what sets a run apart), finders side by side."""
    columns = [
        Column("run", "string", "model", "The model, and what sets its runs apart where a finder has several."),
        Column("layers", "Int64", "layers", "Number of blocks of the model."),
    ]
    rows: dict[str, dict[str, Any]] = {}
    for finder, (findings, _) in made.items():
        kept = [column for column in findings.columns if column.name not in APART]
        columns += [
            replace(column, name=f"{finder}.{column.name}", label=f"{finder}: {column.label}") for column in kept
        ]
        for record in findings.records():
            row = rows.setdefault(record["run"], {"run": record["run"], "layers": record.get("layers")})
            row |= {f"{finder}.{column.name}": record[column.name] for column in kept}
    return columns, list(rows.values())


def _units(units: Sequence[Mapping[str, Any]]) -> Sheet:
    rows = []
    for unit in units:
        told = _told(unit)
        settings = ", ".join(f"{key}={_at(told, key)}" for key in told if key != "prompts")
        asked = (unit.get("model"), unit.get("finder"), unit.get("source"), settings or None)
        ended = (unit.get("status"), unit.get("check"), len(unit.get("attempts") or []), unit.get("seconds"))
        rows.append((*asked, *ended, unit.get("error"), f"{RUNS}/{unit['folder']}"))
    caption = "An attempt that died went on, when it was tried again, from the last whole piece in its run folder."
    return Sheet("units", "The units of the sweep", UNIT_COLUMNS, tuple(rows), caption)


def _ended(units: Sequence[Mapping[str, Any]]) -> str:
    done = sum(unit.get("status") == "finished" for unit in units)
    return f"{done} of {len(units)} unit{'s' * (len(units) != 1)} of the sweep finished."


def _failures(units: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{unit.get('finder')} on {unit.get('model')} failed: {unit.get('error')}"
        for unit in units
        if unit.get("status") == "failed"
    ]
