"""The estimated peak against the measured one, for a small model whose logits dominate: a guard for the benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPT = """
import json, sys, machine, memory_plan
folder, case = sys.argv[1] + "/model", memory_plan.Case("tiny-random", 500)
memory_plan.save(case.model, folder)
estimated = memory_plan.worker("estimate", case, folder)
machine.reset_peak()
measured = memory_plan.worker("scan", case, folder)
print(json.dumps([estimated, measured]))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the high-water mark is read as Linux gives it")
def test_the_estimate_is_within_a_fifth(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    )
    estimated, measured = json.loads(done.stdout.splitlines()[-1])
    assert (
        estimated["logits_bytes"] == 500 * 60_000 * 4 + 279 * 60_000 * 4
    )  # what makes the peak, beside the process itself
    assert estimated["peak_bytes"] == pytest.approx(measured["peak_bytes"], rel=0.2)
    without_logits = estimated["peak_bytes"] - estimated["logits_bytes"]
    assert without_logits < 0.8 * measured["peak_bytes"]  # so that leaving them out would be seen
