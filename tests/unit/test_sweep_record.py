"""What a sweep's record and table make of values that they were not made for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interp.runs.store import RunFolderError
from interp.sweeps import results
from interp.sweeps.folder import SweepFolder


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"id": ["a"]}, "id of unit 0 is \\['a'\\]"),
        ({"effect": 1}, "effect of unit 0 is 1"),
        ({"attempts": [1]}, "an attempt of unit 0 is no object"),
        ({"attempts": None}, "attempts of unit 0 is None"),
        ({"provenance": ["x"]}, "its provenance is no object"),
    ],
)
def test_a_damaged_record(damage: dict[str, Any], told: str, tmp_path: Path) -> None:
    record = {"schema": 1, "provenance": {}, "units": [{"folder": "f", "id": "a", "attempts": []}]}
    record["units"][0].update({key: value for key, value in damage.items() if key != "provenance"})
    record |= {key: value for key, value in damage.items() if key == "provenance"}
    (tmp_path / "sweep.json").write_text(json.dumps(record))
    with pytest.raises(RunFolderError, match=f"is damaged: {told}"):
        SweepFolder(tmp_path).read()


def test_numbers_beyond_a_column_are_kept_as_text() -> None:
    assert results._typed("set_seed", [2**70, None, 1]).to_pylist() == [str(2**70), None, "1"]
    assert results._typed("seed", [2**70]).to_pylist() == [str(2**70)]
    assert results._typed("limit", [None]).type == "int64"
