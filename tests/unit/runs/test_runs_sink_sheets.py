"""The tables beside the sinks reach a finished run and its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import interp
from tests.contracts.test_finders import LOOSE, TEXT


def scanned(folder: str, out: Path, **more: Any) -> interp.ScanResult:
    texts = {"first": TEXT, "second": "it was " + TEXT}
    interp.scan(folder, find="sinks", texts=texts, config=LOOSE["sinks"] | more, out=out, progress=False)
    return interp.open_run(out)


def test_a_sinks_run_says_who_formed_the_sinks(folder: str, tmp_path: Path) -> None:
    run = scanned(folder, tmp_path / "run")
    assert [sheet.name for sheet in run.findings.sheets] == ["levels", "formation"]
    levels, formation = run.findings.sheets
    assert levels.rows and formation.rows
    assert sum(row[2] for row in formation.rows) == len(run.table)
    assert "Who formed the sinks" in (tmp_path / "run/report.html").read_text("utf-8")


def test_without_formation_there_is_no_such_table(folder: str, tmp_path: Path) -> None:
    run = scanned(folder, tmp_path / "run", formation=False)
    assert [sheet.name for sheet in run.findings.sheets] == ["levels"]
