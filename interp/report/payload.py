"""What the page's scripts draw from: JSON-able facts that refer to arrays in a `Pack`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from interp.findings import Findings, Heatmap
from interp.report import scales, tokens
from interp.report.figures import check_rows, check_sentence
from interp.report.pack import Pack, pool_columns
from interp.report.text import clean
from probes.base import Prompt

MAX_COLUMNS = 1024  # wider maps are pooled: no screen shows more
MAX_ROWS = 20_000  # of the table
CELLS = 1_200_000  # of all layer x position maps together
PATTERN_BYTES = 3_000_000


def payload(
    findings: Findings, prompts: Sequence[Prompt], share: float = 1.0
) -> tuple[dict[str, Any], Pack, list[str]]:
    """The page's data, its arrays, and a sentence for each thing that was reduced to fit.

    Args:
        findings: what to draw.
        prompts: the prompts of the run; may be empty.
        share: part of the size budgets to use.
    """
    pack, notes, texts = Pack(), [], _Texts()
    strips, strip_notes = tokens.strips(findings.strips, pack, int(PATTERN_BYTES * share))
    for strip in strips:
        strip["tokens"] = texts.add(strip["tokens"])
    names = prompt_names(findings, prompts)
    maps = _heatmaps(findings.heatmaps, names, pack, texts, int(CELLS * share), notes)
    check = findings.verification
    data = {
        "finder": findings.finder,
        "prompts": names,
        "table": _table(findings, notes),
        "heatmaps": maps,
        "strips": strips,
        "texts": texts.lists,
        "check": None
        if check is None or check.effect is None
        else {
            "rows": check_rows(check),
            "metric": clean(check.metric),
            "sentence": check_sentence(check),
            "verdict": check.verdict,
            "unit": clean(check.unit),
        },
        "colours": {
            "sequential": scales.SEQUENTIAL,
            "diverging": scales.DIVERGING,
            "categories": scales.CATEGORIES,
            "found": scales.FOUND,
            "negative": scales.NEGATIVE,
            "positive": scales.POSITIVE,
        },
    }
    return data, pack, notes + strip_notes


def prompt_names(findings: Findings, prompts: Sequence[Prompt]) -> list[str]:
    """Names by prompt index, from the prompts, else the strips, else the index itself."""
    names = {i: prompt.name for i, prompt in enumerate(prompts)}
    for strip in findings.strips:
        names.setdefault(strip.prompt, strip.name)
    used = [*names, *(m.prompt for m in findings.heatmaps if m.prompt is not None)]
    return [clean(names.get(i, f"prompt {i}")) for i in range(max(used, default=-1) + 1)]


class _Texts:
    """Token lists, each stored once however many maps and strips show it."""

    def __init__(self) -> None:
        self.lists: list[list[str]] = []
        self._seen: dict[tuple[str, ...], int] = {}

    def add(self, words: Sequence[str]) -> int:
        key = tuple(clean(word) for word in words)
        if key not in self._seen:
            self._seen[key] = len(self.lists)
            self.lists.append(list(key))
        return self._seen[key]


def _heatmaps(
    found: Sequence[Heatmap], names: Sequence[str], pack: Pack, texts: _Texts, budget: int, notes: list[str]
) -> list[dict[str, Any]]:
    out, dropped, pooled = [], set(), {}
    for heatmap in found:
        values = np.asarray(heatmap.values, dtype=np.float64)
        by_head = heatmap.kind == "layer-head"
        pool = 1
        if not by_head:
            values, pool = pool_columns(values, MAX_COLUMNS)
            if values.size > budget:
                dropped.add(heatmap.prompt)
                continue
            budget -= values.size
        if pool > 1:
            pooled[pool] = pooled.get(pool, 0) + 1
        group, title = _measure(heatmap, names)
        out.append(
            {
                "name": clean(heatmap.name),
                "group": group,
                "title": title,
                "kind": heatmap.kind,
                "prompt": heatmap.prompt,
                "rowLabel": clean(heatmap.row_label),
                "columnLabel": clean(heatmap.column_label),
                "valueLabel": clean(heatmap.value_label),
                "columns": None if heatmap.column_labels is None else texts.add(heatmap.column_labels),
                "rows": None if heatmap.row_labels is None else texts.add(heatmap.row_labels),
                "pool": pool,
                "scale": asdict(scales.scale(heatmap)),
                "categories": [clean(name) for name in heatmap.categories],
                "letters": ["", *map(scales.letters, heatmap.categories[1:])],
                "steps": scales.steps(len(heatmap.categories)),
                "values": pack.add(values, "f4" if by_head else "f2"),
            }
        )
    for pool, count in sorted(pooled.items()):
        notes.append(
            f"{count} map{'s' * (count > 1)}: {pool} neighbouring positions are drawn as one cell, "
            "which shows the value of the largest magnitude."
        )
    if dropped:
        notes.append(
            f"Maps of {len(dropped)} prompt{'s' * (len(dropped) > 1)} did not fit and are left out; "
            "their arrays may be in tensors.safetensors."
        )
    if any(m["kind"] != "layer-head" for m in out):
        notes.append("Values of the layer x position maps carry 3 significant digits here.")
    return out


def _measure(heatmap: Heatmap, names: Sequence[str]) -> tuple[str, str]:
    """Name and title without the prompt's index and name, which the page shows in a list of their own."""
    name, title = clean(heatmap.name), clean(heatmap.title)
    if heatmap.prompt is None:
        return name, title
    return name.removesuffix(f".{heatmap.prompt}"), title.removesuffix(f": {names[heatmap.prompt]}")


def _table(findings: Findings, notes: list[str]) -> dict[str, Any]:
    table = findings.table
    if len(table) > MAX_ROWS:
        notes.append(f"The table holds the first {MAX_ROWS:,} of {len(table):,} rows; all are in findings.parquet.")
        table = table.head(MAX_ROWS)
    columns, data = [], []
    known = {column.name: column for column in findings.columns}
    for name in table.columns:
        series = table[name]
        numeric = pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series)
        column = known.get(str(name))
        columns.append(
            {
                "name": clean(name),
                "label": clean(column.label if column else name),
                "help": clean(column.help if column else ""),
                "number": bool(numeric),
            }
        )
        values = series.astype(object).where(series.notna(), None).tolist()
        data.append(values if numeric else [None if value is None else clean(value) for value in values])
    return {"columns": columns, "data": data, "total": len(findings.table)}
