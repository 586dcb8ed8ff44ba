"""One retrieval event as the report shows it: what the best heads look at while an answer is written.

The instance is run once more with its answer behind it, and the rows of a few heads are kept: those of the whole prompt
where it is short, else those of its first tokens, the needle's neighbourhood, the question and the answer. What lies
between is one cell, which holds the mass on all of it, so that every row still sums to what it did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from interp.finders.base import Unit
from interp.findings import Findings, TokenStrip
from interp.report.text import plural
from interp.retrieval.instances import Instances
from interp.retrieval.table import Head, label
from interp.retrieval.task import task_of
from interp.tracing.calls import skip_logits
from interp.tracing.statistics import Rows
from interp.tracing.tracer import trace
from probes.base import Prompt

HEADS = 4
WHOLE = 400
"""Up to so many tokens the whole prompt is shown."""
FIRST, AROUND = 4, 32
"""Tokens shown of a longer one: at its beginning, and on each side of the needle and before the question."""


def shown(instances: Instances, heads: Sequence[Head]) -> dict[str, Any] | None:
    """Which instance and heads are shown: the shortest kept one in which the best head copied, one answered word for
    word if there is such; None where nothing was kept or no head copies.

    Args:
        heads: those that copy at all, the best first.
    """
    kept = [i for i in np.flatnonzero(instances.kept) if heads and instances.units[i].arrays["events"][heads[0]] > 0]
    if not kept:
        return None
    index = int(min(kept, key=lambda i: (not instances.exact[i], len(instances.tasks[i].prompt))))
    return {
        "prompt": index,
        "heads": [list(head) for head in heads[:HEADS]],
        "generated": [int(one) for one in instances.units[index].facts["generated"]],
    }


def windows(prompt: Prompt, written: int) -> list[tuple[int, int]]:
    """Spans of positions [start, stop) that are shown, ascending and apart; `written` tokens follow the prompt."""
    task, total = task_of(prompt), len(prompt) + written
    if total <= WHOLE:
        return [(0, total)]
    needle = min(task.sentence[0], task.span[0]), max(task.sentence[1], task.span[1])
    wanted = [(0, FIRST), (needle[0] - AROUND, needle[1] + AROUND), (task.tail - AROUND, total)]
    out: list[tuple[int, int]] = []
    for start, stop in wanted:
        start = max(start, 0)
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(stop, out[-1][1]))
        else:
            out.append((start, stop))
    return out


def event(model: Any, prompt: Prompt, told: dict[str, Any]) -> Unit:
    """Run the instance with its answer and keep the rows that are shown.

    Arrays: ``event`` float32 [head, cell, cell], where a gap's own row is 0. Facts: ``event``, what `strip` needs more.
    """
    heads = [(int(layer), int(head)) for layer, head in told["heads"]]
    ids = [*prompt.ids, *told["generated"]]
    parts = windows(prompt, len(told["generated"]))
    queries = [at for start, stop in parts for at in range(start, stop)]
    with trace(model, stats=[Rows(queries=queries, heads=heads)]) as t:
        t.run(ids, **skip_logits(model))
        rows = t.stats["rows"]
    patterns = np.stack([folded(rows[head][0].float().numpy(), parts) for head in heads])
    tokens = model.decode_tokens(ids)
    cells: list[str] = []
    marks: dict[int, str] = {}
    for i, (start, stop) in enumerate(parts):
        if i:
            cells.append(f" [… {plural(start - parts[i - 1][1], 'token')} …] ")
        for at in range(start, stop):
            kind = kind_of(prompt, at)
            if kind is not None:
                marks[len(cells)] = kind
            cells.append(tokens[at])
    first = len(cells) - len(told["generated"]) - 1  # the row that made the first token of the answer
    facts = {
        "cells": cells,
        "marks": [[at, kind] for at, kind in marks.items()],
        "answer": [first, len(cells) - 1],
        "tokens": len(ids),
        "whole": len(parts) == 1,
    }
    return Unit({"event": patterns.astype(np.float32)}, {"event": facts})


def folded(rows: np.ndarray, parts: Sequence[tuple[int, int]]) -> np.ndarray:
    """[cell, cell] of rows [shown query, key]: keys between two parts are summed into one cell, which has no row."""
    columns: list[np.ndarray] = []
    gaps: list[int] = []
    for i, (start, stop) in enumerate(parts):
        if i:
            gaps.append(sum(column.shape[1] for column in columns))
            columns.append(rows[:, parts[i - 1][1] : start].sum(axis=1, keepdims=True))
        columns.append(rows[:, start:stop])
    cells = np.concatenate(columns, axis=1)
    out = np.zeros((cells.shape[1], cells.shape[1]), dtype=cells.dtype)
    out[[at for at in range(len(out)) if at not in gaps]] = cells
    return out


def kind_of(prompt: Prompt, at: int) -> str | None:
    """What a position is in the event, as the strip marks it."""
    task = task_of(prompt)
    if at >= len(prompt):
        return "answer written"
    for kind, (start, stop) in {"answer in the needle": task.span, "needle": task.sentence}.items():
        if start <= at < stop:
            return kind
    return "question" if task.query[0] <= at < task.query[1] else None


def strip(index: int, name: str, heads: Sequence[Head], unit: Unit) -> TokenStrip:
    """The event for the report; at rest it shows what the heads look at while the answer is written."""
    facts, patterns = unit.facts["event"], unit.arrays["event"]
    start, stop = facts["answer"]
    labels = [label(head) for head in heads]
    return TokenStrip(
        index,
        name,
        tuple(facts["cells"]),
        patterns[:, start:stop].mean(axis=(0, 1)),
        {int(at): kind for at, kind in facts["marks"]},
        dict(zip(labels, patterns, strict=True)),
        weight_label=f"what heads {', '.join(labels)} attend to while the answer is written (mean)",
    )


def drawn(findings: Findings, checks: Sequence[Unit | None]) -> Findings:
    """The findings with the strip of the event, where one was run."""
    shown = findings.summary["shown"]
    if shown is None:
        return findings
    unit = checks[shown["prompt"]]
    assert unit is not None  # it was measured for this prompt
    name = findings.summary["prompts"][shown["prompt"]]["name"]
    heads = [(int(layer), int(head)) for layer, head in shown["heads"]]
    said = [] if unit.facts["event"]["whole"] else [left_out(name, unit)]
    return replace(findings, strips=[strip(shown["prompt"], name, heads, unit)], caveats=[*findings.caveats, *said])


def left_out(name: str, unit: Unit) -> str:
    """What a reader must know of a strip that does not show the whole prompt."""
    return (
        "The token strip shows the beginning, the needle's neighbourhood, the question and the answer of "
        f"{name} ({unit.facts['event']['tokens']:,} tokens); each stretch between is one cell, with the attention on "
        "all of it."
    )
