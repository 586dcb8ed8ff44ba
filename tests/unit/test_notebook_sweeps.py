"""The notebook on sweeps runs, and shows what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.notebooks import PLOT, executed, of_type, printed

if TYPE_CHECKING:
    from interp.models.model import Model


def test_sweeps_notebook_runs(smollm2: Model, tmp_path: Path) -> None:
    outputs = executed("06_sweeps.ipynb", tmp_path)
    told = printed(outputs)
    assert "attempts: [1, 1]" in told
    before, after = told.rpartition("rows: ")[2].split(" of ")
    assert int(before) == int(after) > 2
    assert len(of_type(outputs, PLOT)) == 1
    pages = of_type(outputs, "text/html")
    assert any("2 of 2 units of the sweep finished" in page for page in pages)
    assert any("attention" in page and "start_layer" in page and "without BOS" in page for page in pages)
    assert (tmp_path / "sweep" / "report.html").stat().st_size > 100_000
