"""results.parquet: one row a model and finding, over all units of a sweep, typed so that DuckDB reads it as it lies.

Finders have different columns: the file has all of them, empty where a finder has none of that name. Two finders that
use one name for different types, or a name that a column of the sweep has, keep theirs as ``<finder>_<name>``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.runs.result import ScanResult

if TYPE_CHECKING:
    import pandas as pd

FACTS = {
    "unit": "Id of the unit of the sweep: one scan.",
    "model": "The model's label in the sweep.",
    "finder": "Which finder.",
    "source": "The probe, or the file of prompts.",
    "max_length": "Prompts are cut to so many tokens.",
    "limit": "Only so many prompts; empty = all.",
    "generate": "Tokens of the model's own continuation; empty = none.",
    "seed": "Seed of what draws.",
    "bos": "What was asked to stand at position 0.",
    "dtype": "Precision of the model.",
    "check": "Verdict of the unit's causal check.",
}
_WHOLE = ("max_length", "limit", "generate", "seed")


def table_of(finished: Sequence[tuple[Mapping[str, Any], ScanResult]]) -> Any:
    """The arrow table of finished units.

    Args:
        finished: (the unit as sweep.json has it, its run), in the sweep's order.
    """
    import pyarrow as pa

    renamed = _renamed([result for _, result in finished])
    tables = []
    for unit, result in finished:
        found = pa.Table.from_pandas(result.table, preserve_index=False).replace_schema_metadata(None)
        names = [renamed.get((unit["finder"], name), name) for name in found.column_names]
        tables.append(found.rename_columns(names))
    facts = [_facts(unit, result) for unit, result in finished]
    order = [*FACTS, *dict.fromkeys(name for one in facts for name in one if name not in FACTS)]
    first = {name: _typed(name, [one.get(name) for one in facts]) for name in order}
    whole = []
    for row, found in enumerate(tables):
        repeated = {name: pa.array([values[row].as_py()] * len(found), values.type) for name, values in first.items()}
        columns = {**repeated, **{name: found.column(name) for name in found.column_names}}
        whole.append(pa.table(columns))
    if not whole:
        return pa.table(first)
    return _explained(pa.concat_tables(whole, promote_options="permissive"), finished, renamed)


def parquet(table: Any) -> bytes:
    """The file, as bytes to be written at once."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def read(path: Path) -> pd.DataFrame:
    """The file as a DataFrame, with whole numbers that may be missing as ``Int64``."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pd.StringDtype()
    kinds = {pa.int64(): pd.Int64Dtype(), pa.string(): text, pa.large_string(): text, pa.bool_(): pd.BooleanDtype()}
    return pq.read_table(pa.BufferReader(path.read_bytes())).to_pandas(types_mapper=kinds.get)


def _facts(unit: Mapping[str, Any], result: ScanResult) -> dict[str, Any]:
    """What stands in every row of a unit."""
    effect, run = unit["effect"], result.provenance.get("effect") or {}
    return {
        "unit": unit["id"],
        "model": unit["model"],
        "finder": unit["finder"],
        "source": unit["source"],
        **{name: effect[name] for name in _WHOLE},
        "bos": run.get("bos"),
        "dtype": run.get("dtype"),
        "check": unit["check"],
        **{f"set_{name}": value for name, value in effect["set"].items()},
        **{f"probe_{name}": value for name, value in effect["probe_set"].items()},
    }


def _typed(name: str, values: list[Any]) -> Any:
    """An arrow array of one type: of the values' own where they agree, else of their JSON text."""
    import pyarrow as pa

    try:
        made = pa.array(values, pa.int64()) if name in _WHOLE else pa.array(values)
    except (pa.ArrowException, OverflowError):  # of several types, or whole numbers beyond 64 bits
        texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
        return pa.array(texts, pa.string())
    if name in _WHOLE:
        return made
    empty = pa.types.is_null(made.type) or (pa.types.is_list(made.type) and pa.types.is_null(made.type.value_type))
    return pa.array([None if v is None else json.dumps(v) for v in values], pa.string()) if empty else made


def _renamed(results: Sequence[ScanResult]) -> dict[tuple[str, str], str]:
    """(finder, column) -> its name here, for the columns that cannot keep theirs."""
    kinds: dict[str, dict[str, str]] = {}
    for result in results:
        for column in result.findings.columns:
            kinds.setdefault(column.name, {})[result.findings.finder] = column.dtype
    taken = {name for name, of in kinds.items() if _is_ours(name) or _differ(set(of.values()))}
    return {(finder, name): f"{finder.replace('-', '_')}_{name}" for name in taken for finder in kinds[name]}


def _is_ours(name: str) -> bool:
    return name in FACTS or name.startswith(("set_", "probe_"))


def _differ(kinds: set[str]) -> bool:
    """Whether columns of these types cannot be one; whole and other numbers can."""
    return len(kinds) > 1 and not kinds <= {"Int64", "float64"}


def _explained(table: Any, finished: Sequence[tuple[Any, ScanResult]], renamed: Mapping[tuple[str, str], str]) -> Any:
    """The table with what each column means, as metadata of its field."""
    import pyarrow as pa

    told = dict(FACTS)
    for _, result in finished:
        for column in result.findings.columns:
            told.setdefault(renamed.get((result.findings.finder, column.name), column.name), column.help)
    fields = [field.with_metadata({"help": told.get(field.name, "A setting of this sweep.")}) for field in table.schema]
    return table.cast(pa.schema(fields))
