"""What a sweep hands back, fresh or opened from its folder: the table, how every unit ended, and the page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.runs.provenance import now
from interp.runs.store import RunFolderError, write_atomically, write_page
from interp.sweeps import results
from interp.sweeps.folder import REPORT_FILE, RESULTS_FILE, SWEEP_FILE, SweepFolder
from interp.sweeps.ledger import Ledger

if TYPE_CHECKING:
    import pandas as pd

    from interp.comparison.compare import Comparison


@dataclass(eq=False)
class SweepResult:
    """A sweep that has ended.

    Attributes:
        folder: where it lies.
        record: sweep.json.
    """

    folder: Path
    record: dict[str, Any]

    @property
    def table(self) -> pd.DataFrame:
        """One row for every finding of every model (results.parquet)."""
        return results.read(self.folder / RESULTS_FILE)

    @property
    def units(self) -> pd.DataFrame:
        """One row a unit: what it was, and how it ended."""
        import pandas as pd

        keys = ("id", "model", "finder", "source", "status", "rows", "check", "seconds", "verdict", "error", "folder")
        return pd.DataFrame([{key: unit.get(key) for key in keys} for unit in self.record["units"]], columns=list(keys))

    @property
    def failed(self) -> dict[str, str]:
        """Why, by run folder, of the units that failed."""
        return {unit["folder"]: str(unit["error"]) for unit in self.record["units"] if unit["status"] == "failed"}

    @property
    def checks_failed(self) -> list[str]:
        """Run folders of the finished units whose causal check failed."""
        return [unit["folder"] for unit in self.record["units"] if unit.get("check") == "failed"]

    def compare(self) -> Comparison:
        """The runs side by side; see `interp.comparison.sweep`.

        Raises:
            UsageError: no unit has finished.
        """
        from interp.comparison.sweep import compare_sweep

        return compare_sweep(self.folder)

    def _repr_html_(self) -> str:
        return self.compare()._repr_html_() if self.record["status"] == "finished" and self._any() else self.__repr__()

    def _any(self) -> bool:
        return any(unit["status"] == "finished" for unit in self.record["units"])

    def __repr__(self) -> str:
        ended = [unit["status"] for unit in self.record["units"]]
        told = ", ".join(f"{ended.count(status)} {status}" for status in dict.fromkeys(ended))
        return f"<SweepResult {len(ended)} units: {told}, in {str(self.folder)!r}>"


def open_sweep(path: str | os.PathLike[str]) -> SweepResult:
    """A sweep from its folder alone.

    Raises:
        RunFolderError: no sweep there, or a damaged one.
    """
    folder = SweepFolder(path)
    record = folder.read()
    if record is None:
        raise RunFolderError(f"no sweep in {folder.path}: it has no {SWEEP_FILE}")
    return SweepResult(folder.path, record)


def finish(folder: SweepFolder, ledger: Ledger) -> SweepResult:
    """Write the table and the page, and mark the sweep as finished last of all.

    A unit whose run cannot be read here, though its worker finished it, fails: the folder is not shared.
    """
    from interp.runs.result import open_run

    finished = []
    for unit in ledger.having("finished"):
        try:
            finished.append((ledger[unit], open_run(folder.run(unit).path)))
        except RunFolderError as error:
            ledger.refuse(
                unit, f"finished elsewhere, but not here ({error}): all machines must share the sweep's folder"
            )
    write_atomically(folder.path / RESULTS_FILE, results.parquet(results.table_of(finished)))
    record = ledger.record("finished")
    record["provenance"]["finished"] = now()
    folder.write({**record, "status": "running"})  # as the page is to tell it
    page = folder.path / REPORT_FILE
    if finished:
        from interp.comparison.sweep import compare_sweep

        write_page(page, compare_sweep(folder.path).html())
    else:
        page.unlink(missing_ok=True)
    folder.write(record)
    return SweepResult(folder.path, record)
