"""Papers on circuits, on what the finders really keep: a tiny model and pairs of random tokens."""

from __future__ import annotations

from pathlib import Path

import interp
from interp.papers import circuit_checks
from interp.papers.claims import Evidence
from interp.registry import PAPERS
from tests.tiny import tiny, tiny_tokenizer
from tests.unit.test_repair import made


def test_claims_read_what_the_finders_keep(tmp_path: Path) -> None:
    """Runs of the finders on a model that can do nothing: every claim finds its figures, whatever these are."""
    model = interp.load(tiny("llama"), tokenizer=tiny_tokenizer(128), check=False)
    prompts = [made(index, index % 3) for index in range(12)]
    quick = {"anyway": True, "resamples": 5, "subsets": 1, "controls": 1, "points": 1}
    interp.scan(model, "circuit", prompts=prompts, config=quick, out=tmp_path / "circuit", progress=False)
    small = {"candidates": 2, "most": 2, "factors": (0.0, 2.0), "controls": 1, "metric": "choice"}
    interp.scan(model, "repair", prompts=prompts, config=small, out=tmp_path / "repair", progress=False)
    first, last = (interp.open_run(tmp_path / name).findings for name in ("circuit", "repair"))
    first.summary["behaviour"]["can"] = True
    given = Evidence({"ioi": first, "colored-objects": first, "repair": last}, "m", None, 3, "rotary", 12)
    for paper in ("wang2022", "merullo2023"):
        outcomes = {claim.name: claim.judge(given) for claim in PAPERS.get(paper).claims}
        if paper == "wang2022":
            assert "F(M)" in outcomes["minimal"].measured or "logit difference" in outcomes["minimal"].why
        else:
            assert outcomes["the circuits share heads"].value == 1.0
            assert " -> " in outcomes["the published edit repairs it"].measured
    checked = circuit_checks.checks(model, prompts, given.findings)
    assert checked[0].passed and sum(check.name.endswith("recomputed") and check.passed for check in checked) == 2
