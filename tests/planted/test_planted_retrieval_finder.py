"""The finder `retrieval-heads` on planted models: one head found, and masking shows that it is needed."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import interp
from interp.findings import Findings
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.finder import retrieval_heads
from interp.verify import MIN_PROMPTS
from tests.planted.retrieval import broken
from tests.planted.retrieval_families import REQUIRED
from tests.planted.retrieval_plan import Copying, Kind
from tests.planted.retrieval_tasks import phases, ready, record, task, verdict

CONFIG = RetrievalConfig(random_tokens=0, ks=(0, 1), draws=2, closed_book=0)
JUDGED = MIN_PROMPTS
"""Needles that judge, of three more."""
PLANTINGS = [(arch, kind, seed) for seed, (arch, kind) in enumerate(product(REQUIRED, get_args(Kind)))]
"""A planting of its own for each architecture and kind."""


def assert_found(findings: Findings, copying: Copying) -> None:
    """The planted head alone, as the table, the verdict of its class and the masks have it."""
    table = findings.table.set_index(["layer", "head"])
    scores = table["score"]
    assert scores[copying.retrieval] >= 0.9 and scores.drop(copying.retrieval).max() < 0.1
    assert list(table.index[table["class"] == "retrieval"]) == [copying.retrieval]
    assert all(table["class"][head] == "none" and scores[head] == 0 for head in copying.planted[1:])
    assert list(table["instances"].unique()) == [JUDGED + 3] == [findings.summary["kept"]]
    assert verdict(findings) == "verified"
    masks, claims = findings.summary["masks"]["1"], findings.summary["claims"]
    assert masks["retrieval"] == [list(copying.retrieval)]
    assert all(list(copying.retrieval) not in one for one in masks["random"])
    untouched = claims["mask.untouched"]["mean"]
    assert untouched == 1 and untouched + claims["mask.retrieval.1"]["mean"] <= 0.2
    assert untouched + claims["mask.random.1"]["mean"] >= 0.9
    assert claims["mask.retrieval.1"]["n"] == JUDGED


@pytest.mark.parametrize(("arch", "kind", "seed"), PLANTINGS)
def test_the_planted_head_is_found_and_needed(arch: str, kind: Kind, seed: int) -> None:
    model, copying = ready(arch, kind, seed)
    prompts = [task(copying, number, seed).prompt for number in range(JUDGED + 3)]
    findings = phases(retrieval_heads, model, prompts, CONFIG, examine=arch == "llama")
    assert_found(findings, copying)
    if arch == "llama":  # plain text holds none of its words: the head rests there
        claims = findings.summary["claims"]
        assert abs(claims["loss.retrieval.1"]["mean"]) < 0.02 * claims["loss.untouched"]["mean"]


def test_own_material_from_a_file(tmp_path: Path) -> None:
    """The same through the probe, the runner and a run folder, with retrieval and induction side by side."""
    model, copying = ready("qwen3", "induction", 20)
    path = tmp_path / "needles.jsonl"
    path.write_text("".join(json.dumps(record(copying, n, 20)) + "\n" for n in range(JUDGED + 3)), encoding="utf-8")
    config = RetrievalConfig(random_tokens=32, ks=(0, 1), draws=2, closed_book=0)
    result = interp.scan(
        model, "retrieval-heads", prompts=path, out=tmp_path / "run", config=config, progress=False, max_length=512
    )
    assert_found(result.findings, copying)
    induction = result.findings.table.set_index(["layer", "head"])["induction"]
    assert induction[copying.retrieval] > 0.8 and induction.drop(copying.retrieval).max() < 0.2


@pytest.mark.parametrize("part", ("ov", "qk"))
def test_nothing_is_claimed_of_a_model_that_cannot_do_the_task(part: str) -> None:
    model, copying = ready("llama", "content", 1)
    broken(model.hf, "llama", copying, "ov" if part == "ov" else "qk")
    findings = phases(retrieval_heads, model, [task(copying, n, 1).prompt for n in range(3)], CONFIG)
    assert findings.summary["kept"] == 0 and findings.summary["retrieval"] == [] and not findings.summary["masks"]
    assert verdict(findings) == "nothing to verify"
    assert np.isnan(findings.table["score"].astype(float)).all() and findings.table["class"].isna().all()
    assert "in any of 3 instances" in findings.verdict and findings.summary["claims"]["recall"]["mean"] < 0.5
