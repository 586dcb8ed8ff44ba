"""The notebook on retrieval heads runs, and shows what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.notebooks import PLOT, executed, of_type, printed

if TYPE_CHECKING:
    from interp.models.model import Model


def test_retrieval_heads_notebook_runs(smollm2: Model, tmp_path: Path) -> None:
    outputs = executed("03_retrieval_heads.ipynb", tmp_path)
    told = printed(outputs)
    assert f"{smollm2.n_layers} layers x {smollm2.n_heads} heads" in told
    copied = [int(share) for share in re.findall(r"head \d+\.\d+ copied (\d+)%", told)]
    assert max(copied) >= 50 and "in the span" in told
    assert re.search(r"on \d+ needles", told) and "best heads masked:   -" in told
    assert "claims of wu2024" in told and "FAILED" not in told
    assert len(of_type(outputs, PLOT)) == 5
    assert any("retrieval" in page for page in of_type(outputs, "text/html"))
    assert (tmp_path / "retrieval.html").stat().st_size > 100_000
