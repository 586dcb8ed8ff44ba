"""The head classes of planted pairs: which head looks back, which one continues what stood before, which one rests."""

from __future__ import annotations

import pytest

from interp.findings import Findings
from interp.heads.config import BOTH, HeadsConfig
from interp.heads.finder import heads
from interp.verify import MIN_PROMPTS
from tests.planted.retrieval_plan import Head
from tests.planted.retrieval_tasks import phases, ready, task, verdict


def members(findings: Findings, kind: str) -> list[Head]:
    """The heads of a class."""
    return [(int(layer), int(head)) for layer, head in findings.summary["sets"][kind]]


@pytest.mark.parametrize(("arch", "seed"), (("llama", 1), ("gpt2", 2), ("gemma3", 3), ("gpt_oss", 1)))
def test_each_head_of_a_pair_has_its_class(arch: str, seed: int) -> None:
    model, copying = ready(arch, "induction", seed)
    prompts = [task(copying, number, seed).prompt for number in range(2)]
    findings = phases(heads, model, prompts, HeadsConfig(length=64, retrieval=0.5, checked=0))
    assert members(findings, "induction") == members(findings, "retrieval") == [copying.retrieval]
    assert members(findings, "previous") == [copying.previous]
    assert members(findings, "sink") == [copying.sink]
    shown = findings.table.set_index(["layer", "head"])["class"]
    assert shown[copying.retrieval] == BOTH and shown[copying.previous] == "previous"


def test_the_induction_head_is_what_the_second_copy_needs() -> None:
    model, copying = ready("llama", "induction", 1)
    prompts = [task(copying, number, 1, 30).prompt for number in range(MIN_PROMPTS)]
    findings = phases(heads, model, prompts, HeadsConfig(length=64, controls=1))
    claims = findings.summary["claims"]
    assert verdict(findings) == "verified"
    assert claims["loss.first"]["mean"] > 2 * claims["loss.second"]["mean"]
    assert claims["change.induction"]["low"] > 1 > claims["change_random.induction"]["high"]
    assert claims["induction_change.previous"]["high"] < -0.5


def test_a_copy_head_by_content_is_no_induction_head() -> None:
    """It finds what it wants in the needle whatever stood before, so only needles show it."""
    model, copying = ready("qwen3", "content", 1)
    prompts = [task(copying, number, 1).prompt for number in range(2)]
    findings = phases(heads, model, prompts, HeadsConfig(length=64, retrieval=0.5, checked=0))
    assert members(findings, "retrieval") == [copying.retrieval] and members(findings, "induction") == []
