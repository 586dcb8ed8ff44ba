"""`interp.compare`: several finished runs of one finder, or all runs of a sweep, side by side.

The comparison is itself a `Findings`, so the page, the notebook view and the figures are those of any other finding.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import UsageError
from interp.text import printable

if TYPE_CHECKING:
    import pandas as pd

    from interp.comparison.facts import Compared
    from interp.findings import Findings

LONGEST_NAME = 40  # of a run, in legends and tables
LEAST = 2


@dataclass(eq=False)
class Comparison:
    """Runs side by side.

    Attributes:
        findings: one row a run in the table, then charts and further tables.
        provenance: that of every run, by its name here.
    """

    findings: Findings
    provenance: dict[str, Any]

    @property
    def table(self) -> pd.DataFrame:
        """One row a run; the columns are explained in ``findings.columns``."""
        return self.findings.table

    @property
    def verdict(self) -> str:
        return self.findings.verdict

    def figure(self, name: str | None = None) -> Any:
        """A plotly figure of the comparison: a chart by its name, or the first."""
        from interp.report.figures import figure

        return figure(self.findings, name)

    def html(self) -> str:
        """The page: one offline HTML file."""
        from interp.report.build import build_report

        return build_report(self.findings, self.provenance, [])

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to `path` and return where it is.

        Raises:
            UsageError: `path` is a folder.
            RunFolderError: it cannot be written.
        """
        from interp.runs.store import write_page

        return write_page(Path(path), self.html())

    def _repr_html_(self) -> str:
        from interp.report.repr import findings_html

        return findings_html(self.findings, self.provenance)

    def __repr__(self) -> str:
        return f"<Comparison {self.verdict!r}>"


def compare(runs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Comparison:
    """Put finished runs of one finder side by side, or the runs of a sweep.

    Args:
        runs: two or more run folders, in the order in which they are to be shown; the folder of a sweep stands for its
            finished runs. Or the folder of one sweep alone, which may hold runs of several finders.

    Raises:
        UsageError: fewer than two, one named twice, one that is no finished run, or runs of different finders; names
            which.
        RunFolderError: a sweep that cannot be read.
    """
    from interp.comparison.build import side_by_side
    from interp.sweeps.folder import is_sweep

    if isinstance(runs, str | os.PathLike):
        if not is_sweep(runs):
            raise UsageError(f"compare({str(runs)!r}): expected a list of run folders, or the folder of a sweep")
        runs = [runs]
    if len(runs) == 1 and is_sweep(runs[0]):
        from interp.comparison.sweep import compare_sweep

        return compare_sweep(runs[0])
    folders = [folder for run in runs for folder in _folders(Path(run))]
    if len(folders) < LEAST:
        raise UsageError(f"a comparison needs two runs or more, got {len(folders)}: {_listed(folders) or 'none'}")
    twice = [folder for folder, times in Counter(folder.resolve() for folder in folders).items() if times > 1]
    if twice:
        raise UsageError(f"named twice, and would be compared with itself: {_listed(twice)}")
    opened = [open_finished(folder) for folder in folders]
    finders = {folder: result.findings.finder for folder, result in zip(folders, opened, strict=True)}
    if len(set(finders.values())) > 1:
        told = ", ".join(f"{folder} holds {finder!r}" for folder, finder in finders.items())
        raise UsageError(f"only runs of one finder can be compared: {told}")
    return Comparison(*side_by_side(_named(folders, opened)))


def _folders(run: Path) -> list[Path]:
    """A run, or the finished runs of a sweep."""
    from interp.sweeps.folder import SweepFolder, is_sweep

    if not is_sweep(run):
        return [run]
    sweep = SweepFolder(run)
    return sweep.runs_of(sweep.read() or {"units": []})


def open_finished(folder: Path) -> Any:
    """A finished run; `UsageError` naming the folder for anything else."""
    from interp.runs.result import open_run
    from interp.runs.store import RunFolderError

    try:
        return open_run(folder)
    except RunFolderError as error:
        raise UsageError(f"cannot compare {folder}: {error}") from error


def _listed(folders: Sequence[Path]) -> str:
    return ", ".join(map(str, folders))


def _named(folders: Sequence[Path], opened: Sequence[Any]) -> list[Compared]:
    """Each run under its model's name (a circuit's: its task, with the model where these differ), with the folder's
    added where two share it, and a number where that does not tell them apart."""
    from interp.comparison.circuits import FINDER
    from interp.comparison.facts import Compared, inside, model_of

    models = [str(model_of(result).get("name") or "unnamed model") for result in opened]
    called = list(models)
    if opened[0].findings.finder == FINDER:
        tasks = [inside(result.findings.summary, "task") for result in opened]
        several = len(set(models)) > 1
        called = [
            model if not task else f"{task} in {model}" if several else str(task)
            for task, model in zip(tasks, models, strict=True)
        ]
    called = [printable(name, LONGEST_NAME) for name in called]
    shared = Counter(called)
    names: list[str] = []
    for folder, own in zip(folders, called, strict=True):
        name = own if shared[own] == 1 else f"{own} ({printable(folder.resolve().name, LONGEST_NAME)})"
        names.append(name if name not in names else f"{name} {len(names) + 1}")
    return [Compared(*each) for each in zip(names, folders, opened, strict=True)]
