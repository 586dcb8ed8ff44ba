"""The notebook on circuits runs, and shows what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.notebooks import PLOT, executed, of_type, printed

if TYPE_CHECKING:
    from interp.models.model import Model


def test_circuits_notebook_runs(gemma3: Model, tmp_path: Path) -> None:
    outputs = executed("04_circuits.ipynb", tmp_path)
    told = printed(outputs)
    assert f"{gemma3.n_layers} layers x {gemma3.n_heads} heads" in told
    assert re.search(r"accuracy +1\.00", told)  # of IOI
    # the head that Gemma hangs on, by its total effect, and by the search
    assert re.search(r"head 11\.3: total effect \+", told) and re.search(r"^11\.3: ", told, re.MULTILINE)
    assert "verdict: verified" in told
    assert len(of_type(outputs, PLOT)) == 2
    assert any("circuit" in page for page in of_type(outputs, "text/html"))
    assert (tmp_path / "circuit.html").stat().st_size > 100_000
