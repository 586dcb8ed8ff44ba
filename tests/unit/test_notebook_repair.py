"""The notebook on repair runs, and shows what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.notebooks import PLOT, executed, of_type, printed

if TYPE_CHECKING:
    from interp.models.model import Model


def test_repair_notebook_runs(gemma3: Model, tmp_path: Path) -> None:
    outputs = executed("05_repair.ipynb", tmp_path)
    told = printed(outputs)
    assert "heads that point: " in told and "verdict: verified" in told
    assert len(of_type(outputs, PLOT)) == 1
    assert any("oracle" in page for page in of_type(outputs, "text/html"))
    assert (tmp_path / "repair.html").stat().st_size > 100_000
