"""A comparison as findings: a row a run, its charts over one another, its tables below one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from interp.comparison import circuit_drawn, circuit_tables, circuits, claims, own, shared
from interp.comparison.facts import Compared, facts, lengths
from interp.findings import Findings, Verification

FINDER = "compare"
HOW = (
    "A comparison changes nothing in a model; what each run's own causal check found stands in the table and in the "
    "chart of effects."
)


def side_by_side(runs: Sequence[Compared]) -> tuple[Findings, dict[str, Any]]:
    """The findings of a comparison, and the provenance of its runs by name."""
    known = [(fact, [fact.of(run) for run in runs]) for fact in facts(runs)]
    given = [(fact.column, values) for fact, values in known if any(value is not None for value in values)]
    columns = tuple(column for column, _ in given)
    table = pd.DataFrame({c.name: pd.Series(values, dtype=object) for c, values in given})
    charts, not_drawn = shared.charts(runs)
    made = circuits.pairs(runs) if circuits.is_circuits(runs) else []
    findings = Findings(
        FINDER,
        table.astype({column.name: column.dtype for column in columns}),
        columns,
        " ".join(filter(None, (circuits.verdict(made), verdict(runs)))),
        summary={run.name: {"folder": str(run.folder), "verdict": run.result.verdict} for run in runs},
        caveats=[*circuits.caveats(made), *caveats(runs), *not_drawn],
        verification=Verification("nothing to verify", "", HOW),
        heatmaps=circuit_drawn.heatmaps(runs, made) if made else [],
        charts=[*circuit_drawn.charts(made), *own.charts(runs), *charts],
        sheets=[
            *(circuit_tables.sheets(made) if made else []),
            *own.sheets(runs),
            *claims.sheets(runs),
            *shared.sheets(runs),
        ],
        graphs=circuit_drawn.graphs(made),
        table_title="The runs",
    )
    names = ", ".join(run.name for run in runs)
    return findings, {"model": names, "runs": {run.name: run.result.provenance for run in runs}}


def verdict(runs: Sequence[Compared]) -> str:
    """Which runs stand here; then what each one's check said."""
    finder = runs[0].result.findings.finder
    names = ", ".join(run.name for run in runs[:-1])
    stand = f"{len(runs)} runs of {finder!r} side by side: {names} and {runs[-1].name}"
    stand = stand if len(runs) > 1 else f"One run of {finder!r}: {runs[0].name}"
    checked = [(run.name, getattr(run.result.findings.verification, "verdict", "not run")) for run in runs]
    told = "; ".join(f"{name}: {outcome}" for name, outcome in checked)
    return f"{stand}. Causal checks: {told}."


def caveats(runs: Sequence[Compared]) -> list[str]:
    """What makes these runs hard to compare; their own caveats are a table of the page."""
    said = []
    by_text = not circuits.is_circuits(runs)  # circuits are compared head by head, whatever the texts
    if by_text and len({lengths(run) for run in runs}) > 1:
        told = "; ".join(f"{run.name}: {lengths(run)}" for run in runs)
        said.append(
            f"The prompts differ in length T ({told} tokens), so attention received does not compare one to one."
        )
    if by_text and len({tuple(prompt.text for prompt in run.result.prompts) for run in runs}) > 1:
        said.append("The runs do not share the same texts.")
    settings = {run.name: _settings(run) for run in runs}
    differ = sorted({key for one in settings.values() for key in one if _several(settings, key)})
    if differ:
        told = "; ".join(f"{key} = {', '.join(str(one.get(key)) for one in settings.values())}" for key in differ[:8])
        said.append(f"The runs differ in settings, in this order: {told}.")
    if by_text and len(runs) > 1:
        said.append("Models cut a text into tokens differently: the same position need not be the same word.")
    return said


def _settings(run: Compared) -> dict[str, Any]:
    """What decides the numbers of a run, beside the model."""
    effect = run.result.provenance.get("effect")
    effect = effect if isinstance(effect, dict) else {}
    own_settings = effect.get("set")
    return {
        **(own_settings if isinstance(own_settings, dict) else {}),
        "bos": effect.get("bos"),
        "chat": effect.get("chat"),
    }


def _several(settings: dict[str, dict[str, Any]], key: str) -> bool:
    return len({repr(one.get(key)) for one in settings.values()}) > 1
