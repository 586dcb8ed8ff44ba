"""Findings to files and back: parquet with column metadata, safetensors, and the JSON part of run.json.

Everything the page draws is stored (``report.*`` in tensors.safetensors), so a page can be rebuilt without a model.
"""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.findings import Chart, Column, Edge, Findings, Graph, Heatmap, Node, Series, Sheet, TokenStrip, Verification
from interp.runs.store import (
    ARRAYS_FILE,
    TABLE_FILE,
    RunFolder,
    RunFolderError,
    load_arrays,
    plain,
    save_arrays,
    write_atomically,
)

_DRAWN = "report."


def save_findings(folder: RunFolder, findings: Findings) -> dict[str, Any]:
    """Write table and arrays; the returned dict is what run.json keeps of the rest."""
    arrays = dict(findings.arrays)
    reserved = [name for name in arrays if name.startswith(_DRAWN)]
    if reserved:
        raise ValueError(
            f"finder {findings.finder}: array names that start with {_DRAWN!r} are reserved, got {reserved}"
        )
    heatmaps = [_put_heatmap(heatmap, number, arrays) for number, heatmap in enumerate(findings.heatmaps)]
    strips = [_put_strip(strip, number, arrays) for number, strip in enumerate(findings.strips)]
    save_arrays(folder.path / ARRAYS_FILE, arrays)
    write_atomically(folder.path / TABLE_FILE, _parquet(findings))
    return {
        "finder": findings.finder,
        "verdict": findings.verdict,
        "verification": None if findings.verification is None else plain(dataclasses.asdict(findings.verification)),
        "caveats": list(findings.caveats),
        "columns": [dataclasses.asdict(column) for column in findings.columns],
        "summary": plain(findings.summary),
        "rows": len(findings.table),
        "heatmaps": heatmaps,
        "strips": strips,
        "charts": [plain(dataclasses.asdict(chart)) for chart in findings.charts],
        "sheets": [plain(dataclasses.asdict(sheet)) for sheet in findings.sheets],
        "graphs": [plain(dataclasses.asdict(graph)) for graph in findings.graphs],
        "table_title": findings.table_title,
    }


def load_findings(folder: RunFolder, record: dict[str, Any]) -> Findings:
    """The findings `save_findings` wrote; `RunFolderError` when a file is missing, damaged or does not fit run.json."""
    arrays, _ = load_arrays(folder.path / ARRAYS_FILE)
    table = _read_parquet(folder.path / TABLE_FILE)
    try:
        columns = tuple(Column(**column) for column in record["columns"])
        if list(table.columns) != [column.name for column in columns] or len(table) != record["rows"]:
            raise RunFolderError(f"{folder.path / TABLE_FILE} does not fit run.json; scan again to rebuild it")
        checked = record["verification"]
        return Findings(
            finder=record["finder"],
            table=table.astype({column.name: column.dtype for column in columns}),
            columns=columns,
            verdict=record["verdict"],
            arrays={name: array for name, array in arrays.items() if not name.startswith(_DRAWN)},
            summary=record["summary"],
            caveats=list(record["caveats"]),
            verification=checked and Verification(**{**checked, "per_prompt": tuple(checked["per_prompt"])}),
            heatmaps=[_get_heatmap(heatmap, arrays) for heatmap in record["heatmaps"]],
            strips=[_get_strip(strip, arrays) for strip in record["strips"]],
            charts=[_get_chart(chart) for chart in record.get("charts", [])],
            sheets=[_get_sheet(sheet) for sheet in record.get("sheets", [])],
            graphs=[_get_graph(graph) for graph in record.get("graphs", [])],
            table_title=record.get("table_title"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"{folder.path} is damaged ({type(error).__name__}: {error}); scan again to rebuild it"
        ) from error


def _put_heatmap(heatmap: Heatmap, number: int, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    name = f"{_DRAWN}heatmap.{number}"
    arrays[name] = np.asarray(heatmap.values)
    return {**_scalars(heatmap), "values": name}


def _get_heatmap(record: dict[str, Any], arrays: dict[str, np.ndarray]) -> Heatmap:
    named = {name: record.get(name) for name in ("column_labels", "row_labels", "limits")}
    restored = {name: labels and tuple(labels) for name, labels in named.items()}
    return Heatmap(
        **{**record, **restored, "values": arrays[record["values"]], "categories": tuple(record.get("categories", ()))}
    )


def _put_strip(strip: TokenStrip, number: int, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    weight = f"{_DRAWN}strip.{number}.weight"
    arrays[weight] = np.asarray(strip.weight)
    patterns = {}
    for place, (label, pattern) in enumerate(strip.patterns.items()):
        patterns[label] = f"{_DRAWN}strip.{number}.pattern.{place}"
        arrays[patterns[label]] = np.asarray(pattern)
    marks = [[int(position), kind] for position, kind in strip.marks.items()]
    return {**_scalars(strip), "weight": weight, "marks": marks, "patterns": patterns}


def _get_strip(record: dict[str, Any], arrays: dict[str, np.ndarray]) -> TokenStrip:
    restored = {
        "tokens": tuple(record["tokens"]),
        "weight": arrays[record["weight"]],
        "marks": dict(record["marks"]),
        "patterns": {label: arrays[name] for label, name in record["patterns"].items()},
    }
    return TokenStrip(**{**record, **restored})


def _get_chart(record: dict[str, Any]) -> Chart:
    series = tuple(Series(**_tuples(one, "x", "y", "low", "high", "labels")) for one in record["series"])
    marks = tuple((at, text) for at, text in record["marks"])
    return Chart(**{**_tuples(record, "x_names"), "series": series, "marks": marks})


def _get_sheet(record: dict[str, Any]) -> Sheet:
    columns = tuple(Column(**column) for column in record["columns"])
    return Sheet(**{**record, "columns": columns, "rows": tuple(tuple(row) for row in record["rows"])})


def _get_graph(record: dict[str, Any]) -> Graph:
    nodes = tuple(Node(**node) for node in record["nodes"])
    weights = (float("nan") if edge["weight"] is None else edge["weight"] for edge in record["edges"])
    edges = tuple(Edge(**{**edge, "weight": weight}) for edge, weight in zip(record["edges"], weights, strict=True))
    return Graph(**{**_tuples(record, "kinds"), "nodes": nodes, "edges": edges})


def _tuples(record: dict[str, Any], *names: str) -> dict[str, Any]:
    """`record` with the lists of JSON as tuples again."""
    return {**record, **{name: tuple(record[name]) for name in names}}


def _scalars(drawn: Heatmap | TokenStrip) -> dict[str, Any]:
    """Every field but the arrays, JSON-able."""
    fields = {field.name: getattr(drawn, field.name) for field in dataclasses.fields(drawn)}
    return {
        name: plain(value) for name, value in fields.items() if name not in {"values", "weight", "patterns", "marks"}
    }


def _parquet(findings: Findings) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(findings.table, preserve_index=False)
    for place, column in enumerate(findings.columns):
        told = table.schema.field(place).with_metadata({"label": column.label, "help": column.help})
        table = table.set_column(place, told, table.column(place))
    stored = json.dumps([dataclasses.asdict(column) for column in findings.columns])
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"interp.columns": stored.encode()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(pa.BufferReader(path.read_bytes())).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise RunFolderError(f"cannot read {path}: {error}") from error
