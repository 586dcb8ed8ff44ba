"""The folder of a sweep: sweep.json (what was asked, and how every unit stands), a run folder a unit, table and page.

What counts as done is what lies in the run folders; sweep.json tells of it and keeps every attempt and error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from interp.errors import UsageError
from interp.runs.store import LOCK_FILE, RunFolder, RunFolderError, write_atomically
from interp.sweeps.units import SweepUnit

SCHEMA = 1  # of sweep.json; raised when a field changes its meaning
SWEEP_FILE = "sweep.json"
RESULTS_FILE = "results.parquet"
REPORT_FILE = "report.html"
RUNS = "runs"
LOGS = "logs"
_OWN = {SWEEP_FILE, RESULTS_FILE, REPORT_FILE, RUNS, LOGS, LOCK_FILE}
_TEMPORARY = ".partial"
_KINDS: dict[str, type] = {
    **dict.fromkeys(("id", "model", "name", "finder", "source", "status"), str),
    **dict.fromkeys(("load", "arguments", "effect"), dict),
    "attempts": list,
}
"""Of what is read of a unit in sweep.json, where it is there."""


def is_sweep(path: str | os.PathLike[str]) -> bool:
    """Whether a sweep lies there."""
    return os.path.isfile(os.path.join(path, SWEEP_FILE))


class SweepFolder:
    """One sweep's folder. Nothing is created before `prepare`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def run(self, unit: SweepUnit) -> RunFolder:
        return RunFolder(self.path / RUNS / unit.folder)

    def inspect(self) -> None:
        """Refuse a folder that is neither new, empty nor a sweep's; touches nothing."""
        try:
            if self.path.exists() and not self.path.is_dir():
                raise UsageError(f"--out {self.path} is a file; name a folder")
            names = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()
        except OSError as error:
            raise RunFolderError(f"cannot use {self.path} for a sweep: {error.strerror or error}") from error
        strange = sorted(name for name in names if name not in _OWN and not name.endswith(_TEMPORARY))
        if strange and SWEEP_FILE not in names:
            raise UsageError(f"--out {self.path} holds other files ({strange[0]}); name a new or empty folder")

    def prepare(self) -> None:
        """Create the folder, or accept an empty one or a sweep's."""
        self.inspect()
        try:
            for folder in (self.path / RUNS, self.path / LOGS):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"cannot use {self.path} for a sweep: {error.strerror or error}") from error

    def clear_partial(self) -> None:
        """Remove what a killed process left half-written. Only under the lock."""
        for entry in self.path.glob(f".*{_TEMPORARY}"):
            entry.unlink(missing_ok=True)

    def read(self) -> dict[str, Any] | None:
        """sweep.json, or None when there is none; `RunFolderError` when it is not what a sweep writes."""
        path = self.path / SWEEP_FILE
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RunFolderError(f"cannot read {path}: {error}") from error
        if not isinstance(record, dict) or not isinstance(record.get("units"), list):
            raise RunFolderError(f"{path} was not written by interp sweep; name a sweep's folder")
        if record.get("schema") != SCHEMA:
            raise RunFolderError(f"{path} has schema {record.get('schema')!r}, this version of interp reads {SCHEMA}")
        if not isinstance(record.get("provenance", {}), dict):
            raise RunFolderError(f"{path} is damaged: its provenance is no object")
        for number, unit in enumerate(record["units"]):
            if not isinstance(unit, dict) or not isinstance(unit.get("folder"), str):
                raise RunFolderError(f"{path} is damaged: a unit without a folder")
            for key, kind in _KINDS.items():
                if not isinstance(unit.get(key, kind()), kind):
                    raise RunFolderError(f"{path} is damaged: {key} of unit {number} is {unit[key]!r}"[:300])
            if not all(isinstance(attempt, dict) for attempt in unit.get("attempts", ())):
                raise RunFolderError(f"{path} is damaged: an attempt of unit {number} is no object")
        return record

    def write(self, record: Mapping[str, Any]) -> None:
        text = json.dumps(record, indent=1, ensure_ascii=True, allow_nan=False)
        write_atomically(self.path / SWEEP_FILE, text.encode())

    def runs_of(self, record: Mapping[str, Any]) -> list[Path]:
        """Run folders of the finished units, in the sweep's order. Names with a path in them are refused."""
        names = [unit["folder"] for unit in record["units"] if unit.get("status") == "finished"]
        _refuse_paths(names, self.path)
        return [self.path / RUNS / name for name in names]


def _refuse_paths(names: Iterable[str], where: Path) -> None:
    for name in names:
        if Path(name).name != name or name in ("", ".", ".."):
            raise RunFolderError(f"{where / SWEEP_FILE} names the run folder {name!r}, which is not inside the sweep")
