"""Planted truth: the finder finds exactly the sinks that were put there, in each family's form, and none in shuffled
weights."""

from __future__ import annotations

from typing import Any

import pytest

from interp.finders.sink_config import SinksConfig
from interp.finders.sinks import sinks
from interp.findings import Findings
from tests.planted.builder import plant, shuffled
from tests.planted.families import FAMILIES
from tests.planted.plan import LENGTH, PLANTED, TOKENS, prompt
from tests.planted.scan import scan
from tests.tiny import tiny

CONFIG = SinksConfig()
EACH_FAMILY = pytest.mark.parametrize("arch", FAMILIES, ids=[f"{name}-form" for name in FAMILIES])


def scanned(model: Any, texts: list[tuple[int, ...]], config: SinksConfig = CONFIG) -> Findings:
    return scan(sinks, model, texts, config)


def spans(findings: Findings) -> list[tuple[Any, ...]]:
    names = ["prompt", "position", "token_id", "kind", "start_layer", "lifetime"]
    return [tuple(row[name] for name in names) for row in findings.records()]


@EACH_FAMILY
def test_found_exactly(arch: str) -> None:
    texts = [prompt(seed) for seed in (3, 4, 5)]
    findings = scanned(plant(arch), texts)
    assert spans(findings) == [
        (f"text {i}", planted.position, planted.token, planted.kind, planted.start, planted.lifetime)
        for i in range(len(texts))
        for planted in PLANTED
    ]
    for row in findings.records():
        assert row["cosine"] > 0.99
        assert row["norm"] == pytest.approx(LENGTH, rel=0.02)
        assert row["received"] > 0.2
    levels = [(level["start_layer"], level["lifetime"], level["prompts"]) for level in findings.summary["levels"]]
    assert levels == [(planted.start, planted.lifetime, len(texts)) for planted in PLANTED]
    assert {row["level"] for row in findings.records()} == {0, 1, 2}


@EACH_FAMILY
def test_anchor_need_not_be_first(arch: str) -> None:
    moved = {1: 6, 7: 25, 9: 44}
    findings = scanned(plant(arch, seed=1), [prompt(8, positions=moved)])
    assert spans(findings) == [
        ("text 0", moved[planted.token], planted.token, planted.kind, planted.start, planted.lifetime)
        for planted in PLANTED
    ]
    assert findings.summary["prompts"][0]["anchor"] == 6
    assert "position 6" in findings.verdict


@EACH_FAMILY
def test_none_in_shuffled_weights(arch: str) -> None:
    for seed in range(3):
        findings = scanned(shuffled(plant(arch), seed), [prompt(3), prompt(4)])
        assert spans(findings) == []
        assert "No attention sink" in findings.verdict
        assert findings.verification is not None and findings.verification.verdict == "nothing to verify"
        assert findings.summary["anchor_mass"] is None
        assert {"received.0", "resid_norm.1", "anchor_cosine.1"} <= set(findings.arrays)


@EACH_FAMILY
def test_none_in_random_models(arch: str) -> None:
    findings = scanned(tiny(arch, seed=2), [prompt(3), prompt(4)[:9], prompt(5)[:2], prompt(6)[:1]])
    assert spans(findings) == []


def test_nothing_without_the_planted_tokens() -> None:
    findings = scanned(plant("llama"), [prompt(3, positions={})])
    assert spans(findings) == []


def test_released_rule_sees_the_primary_only_in_twelve_layers() -> None:
    findings = scanned(plant("llama"), [prompt(3)], SinksConfig(rule="wong2025"))
    # 12 - 15 < 0, so whatever is recorded is primary-like
    assert {(row["position"], row["kind"], row["start_layer"], row["lifetime"]) for row in findings.records()} == {
        (planted.position, "primary", planted.start, planted.lifetime) for planted in PLANTED
    }
    assert any("no secondary sink" in caveat for caveat in findings.caveats)


def test_shapes_and_check_of_a_planted_run() -> None:
    findings = scanned(plant("qwen3"), [prompt(seed) for seed in range(8)])
    arrays = findings.arrays
    assert arrays["received.0"].shape == (12, 4, TOKENS) and arrays["received.0"].dtype.name == "float32"
    assert arrays["resid_norm.7"].shape == arrays["anchor_cosine.7"].shape == (12, TOKENS)
    check = findings.verification
    assert check is not None and check.prompts == 8 and check.verdict in ("verified", "failed")
    assert check.effect is not None and check.control is not None and check.difference is not None
    assert check.difference == pytest.approx(check.effect - check.control)
    assert abs(check.effect) > 0 and check.effect != check.control
    assert findings.summary["effects"]["secondary"]["prompts"] == 8
    assert len(findings.strips) == CONFIG.draw and len(findings.strips[0].patterns) == CONFIG.heads_drawn
    assert findings.strips[0].marks == {planted.position: planted.kind for planted in PLANTED}
    for pattern in findings.strips[0].patterns.values():
        assert pattern.shape == (TOKENS, TOKENS)
        assert pattern.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_few_prompts_are_too_few_to_say() -> None:
    findings = scanned(plant("llama"), [prompt(seed) for seed in range(3)])
    check = findings.verification
    assert check is not None and check.verdict == "too few to say"
    assert check.effect is not None and len(check.per_prompt) == 3
    assert "too few to say" in findings.verdict


def test_released_rule_without_ordinary_positions_cannot_be_checked() -> None:
    findings = scanned(plant("llama"), [(1, 1, 7, 1)], SinksConfig(rule="wong2025"))
    check = findings.verification
    assert check is not None and check.verdict == "not run" and check.effect is None
    assert "did not run" in findings.verdict
