"""What a scan hands back, fresh or opened from its folder: it shows itself in a notebook and writes its page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import UsageError
from interp.runs.archive import load_findings
from interp.runs.store import REPORT_FILE, RunFolder, RunFolderError, write_page
from probes.base import Prompt

if TYPE_CHECKING:
    import pandas as pd

    from interp.findings import Findings


@dataclass(eq=False)
class ScanResult:
    """One finished scan.

    Attributes:
        findings: table, arrays, verdict and causal check.
        provenance: where it comes from (the ``provenance`` part of run.json).
        prompts: the prompts it ran on, with their exact token ids.
        folder: its run folder.
    """

    findings: Findings
    provenance: dict[str, Any]
    prompts: tuple[Prompt, ...]
    folder: Path

    @property
    def table(self) -> pd.DataFrame:
        """The tidy table, one row a found thing; the columns are explained in ``findings.columns``."""
        return self.findings.table

    @property
    def verdict(self) -> str:
        return self.findings.verdict

    def top(self, n: int = 10) -> pd.DataFrame:
        """The first `n` rows, in the finder's own order."""
        if n < 0:
            raise UsageError(f"top({n}): a number of rows cannot be negative")
        return self.table.head(n)

    def figure(self, name: str | None = None) -> Any:
        """A plotly figure of the findings: a heatmap by its name, or the finder's first."""
        from interp.report.figures import figure

        return figure(self.findings, name)

    def html(self) -> str:
        """The page: one offline HTML file."""
        from interp.report.build import build_report

        return build_report(self.findings, self.provenance, list(self.prompts))

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the page to `path` (default: report.html in the run folder) and return where it is."""
        return write_page(self.folder / REPORT_FILE if path is None else Path(path), self.html())

    def _repr_html_(self) -> str:
        from interp.report.repr import findings_html

        return findings_html(self.findings, self.provenance)

    def __repr__(self) -> str:
        return f"<ScanResult {self.findings.finder}: {len(self.table)} rows, {self.verdict!r}, in {str(self.folder)!r}>"


def open_run(path: str | os.PathLike[str]) -> ScanResult:
    """A finished run, from its folder alone: no model is needed.

    Raises:
        RunFolderError: no run there, an unfinished or damaged one, or one of another schema version.
    """
    folder = RunFolder(path)
    record = finished_record(folder)
    try:
        findings = load_findings(folder, record["findings"])
        prompts = tuple(_prompt(prompt) for prompt in record["prompts"])
        _check_types(findings, record["provenance"])
        return ScanResult(findings, record["provenance"], prompts, folder.path)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{folder.path} is damaged ({type(error).__name__}: {error}); scan again with --fresh"
        ) from error


def _check_types(findings: Findings, provenance: Any) -> None:
    """`TypeError` for a record edited or damaged so that showing it would fail."""
    checked = findings.verification
    numbers: dict[str, Any] = {} if checked is None else dict(vars(checked))
    words = {name: numbers.pop(name) for name in ("verdict", "metric", "how", "unit") if name in numbers}
    numbers.pop("per_prompt", None)
    expected = [
        ("provenance", provenance, dict),
        ("summary", findings.summary, dict),
        ("verdict", findings.verdict, str),
        ("finder", findings.finder, str),
        *(("caveats", caveat, str) for caveat in findings.caveats),
        *((f"verification.{name}", word, str) for name, word in words.items()),
        *((f"verification.{name}", number, (int, float, type(None))) for name, number in numbers.items()),
    ]
    for name, value, kind in expected:
        if not isinstance(value, kind):
            raise TypeError(f"{name} is {value!r}"[:200])


def finished_record(folder: RunFolder) -> dict[str, Any]:
    """run.json of a finished run; `RunFolderError` for anything else."""
    record = folder.read_json()
    if record is None:
        raise RunFolderError(f"no run in {folder.path}: it has no run.json; interp ls runs lists those there are")
    if record.get("status") != "finished":
        raise RunFolderError(
            f"the run in {folder.path} is not finished ({record.get('status')}); resume it with: {command_of(record)}"
        )
    return record


def command_of(record: dict[str, Any]) -> str:
    """The command line a run was started with, as its record tells."""
    provenance = record.get("provenance")
    return str(provenance.get("command", "the same command")) if isinstance(provenance, dict) else "the same command"


def prompt_record(prompt: Prompt) -> dict[str, Any]:
    """A prompt as run.json keeps it."""
    from interp.runs.store import plain

    return {
        "name": prompt.name,
        "hash": prompt.hash,
        "ids": list(prompt.ids),
        "tokens": list(prompt.tokens),
        "text": prompt.text,
        "truncated": prompt.truncated,
        "extra": plain(prompt.extra),
    }


def _prompt(record: dict[str, Any]) -> Prompt:
    return Prompt(
        name=record["name"],
        text=record["text"],
        ids=tuple(record["ids"]),
        tokens=tuple(record["tokens"]),
        truncated=record["truncated"],
        extra=record["extra"],
    )
