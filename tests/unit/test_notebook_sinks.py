"""The notebooks on attention sinks run, and show what they say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.notebooks import PLOT, executed, of_type, printed

if TYPE_CHECKING:
    from interp.models.model import Model


def test_sinks_notebook_runs(smollm2: Model, tmp_path: Path) -> None:
    outputs = executed("01_sinks.ipynb", tmp_path)
    told = printed(outputs)
    assert f"{smollm2.n_layers} layers x {smollm2.n_heads} heads" in told
    assert "verdict: verified" in told
    assert len(of_type(outputs, PLOT)) == 5
    assert any("primary" in page for page in of_type(outputs, "text/html"))
    assert (tmp_path / "sinks.html").stat().st_size > 100_000


def test_secondary_sinks_notebook_runs(smollm2: Model, gemma3: Model, tmp_path: Path) -> None:
    outputs = executed("02_secondary_sinks.ipynb", tmp_path)
    told = printed(outputs)
    names = ("smollm2-135m", "gemma3-270m")
    assert str(list(names)) in told
    for name in names:
        assert f"{name} - Of 14 claims of wong2025" in told
        assert (tmp_path / f"wong2025-{name}.html").stat().st_size > 100_000
    assert told.count("| passed |") == 9 and "FAILED" not in told
    assert "with ACT in all heads" in told
    assert len(of_type(outputs, PLOT)) == 5
    assert any("secondary" in page for page in of_type(outputs, "text/html"))
