"""The finder as a whole: its phases on made-up units, what it refuses, and a scan that is stopped while it checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import interp
from interp.errors import UsageError
from interp.report.sections import first_sentence
from interp.retrieval import cache, causal, measure
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.finder import retrieval_heads
from tests.needles import needle_prompts
from tests.retrieval_units import chance, concluded, facts, made
from tests.tiny import tiny, tiny_tokenizer

SETTINGS = {"threshold": 0.005, "ks": (0, 1), "draws": 2, "random_tokens": 8, "closed_book": 0}


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny("llama"), tokenizer=tiny_tokenizer(128))


def test_the_verdict_says_what_masking_did() -> None:
    findings, _, _ = concluded()
    claims, score = findings.summary["claims"], findings.table["score"].iloc[0]
    assert findings.verification.verdict == "verified"
    assert first_sentence(findings.verdict)[0] == (
        f"2 of 24 heads of made-up retrieve (score >= 0.1), led by 0.1 ({score:.2f}); masking the best 2 takes recall "
        "from 1.00 to 0.10, masking as many random heads to 0.95."
    )
    assert claims["mask.retrieval.2"]["mean"] == pytest.approx(-0.9)
    assert claims["mask.random.2"]["mean"] == pytest.approx(-0.05)
    assert claims["recall"]["n"] == 12 and claims["mask.retrieval.2"]["n"] == 8
    assert {"split_half", "retrieval_share", "mask.difference.1", "loss.retrieval.1"} <= set(claims)
    assert [strip.prompt for strip in findings.strips] == [findings.summary["shown"]["prompt"]]
    assert any("The token strip shows the beginning" in caveat for caveat in findings.caveats)
    names = [one.name for one in (*findings.charts, *findings.heatmaps)]
    assert names[0].startswith("mask") and len(set(names)) == len(names)


def test_heads_that_do_not_matter_fail() -> None:
    findings, _, _ = concluded(best=1.0, other=1.0)
    assert findings.verification.verdict == "failed"
    assert "takes recall from 1.00 to 1.00" in findings.verdict


def test_needles_that_choose_do_not_judge() -> None:
    prompts, units = made([name for name in "abcdefghijkl" for _ in range(2)], chance(24))
    config = RetrievalConfig(ks=(0, 1), draws=1)
    summary = retrieval_heads.find(prompts, units, config, facts()).summary
    assert not set(summary["choosing"]) & set(summary["judging"])
    assert {told["needle"] for told in summary["prompts"] if told["judging"]} == set(summary["judging"])
    assert summary["masks"]["1"]["retrieval"] == [[0, 1]] and summary["retrieval"][0] == "0.1"
    for prompt, unit in zip(prompts, units, strict=True):  # on the judging needles alone, another head is the best
        if prompt.extra["needle"]["needle"] in summary["judging"]:
            unit.arrays["copies"][0, 1], unit.arrays["copies"][2, 2] = 0.0, 1.0
    again = retrieval_heads.find(prompts, units, config, facts()).summary
    assert again["masks"]["1"]["retrieval"] == [[0, 1]] and again["retrieval"][0] == "2.2"


@pytest.mark.parametrize("seed", range(5))
def test_answered_needles_alone_are_parted(seed: int) -> None:
    """Eight of twelve were answered: four choose and four judge, whichever they are."""
    names = [f"needle {i}" for i in range(12)]
    prompts, units = made(names, chance(12), [0.0] * 4 + [1.0] * 8)
    config = RetrievalConfig(ks=(0, 1), draws=1, seed=seed)
    findings = retrieval_heads.find(prompts, units, config, facts())
    summary = findings.summary
    assert len(summary["choosing"]) == len(summary["judging"]) == 4
    assert set(summary["choosing"]) | set(summary["judging"]) == set(names[4:])
    assert summary["masks"]["1"]["retrieval"] == [[0, 1]]
    assert not any(told["judging"] for told in summary["prompts"][:4])
    (sheet,) = [one for one in findings.sheets if one.name == "instances"]
    assert [row[7] for row in sheet.rows[:4]] == ["neither"] * 4


@pytest.mark.parametrize("recalls", [[1.0], [0.0]])
def test_one_needle_has_nothing_to_verify(recalls: list[float]) -> None:
    config = RetrievalConfig()
    findings = retrieval_heads.find(*made(["a"], chance(1), recalls), config, facts())
    assert findings.summary["masks"] == {}
    done = retrieval_heads.conclude(findings, [None], config, None) if recalls == [0.0] else findings
    assert done.verdict
    if recalls == [0.0]:
        assert done.verification is not None and done.verification.verdict == "nothing to verify"


def test_a_prompt_without_a_needle_is_refused_before_anything_is_measured(
    model: interp.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "measured", lambda *_: pytest.fail("measured"))
    plain = model.encode("the cat sat on the mat", name="plain")
    with pytest.raises(UsageError, match=r"'plain' holds no needle; use --probe needle, or --prompts FILE.jsonl"):
        interp.scan(
            model, "retrieval-heads", prompts=[*needle_prompts(model), plain], out=tmp_path / "run", progress=False
        )
    with pytest.raises(UsageError, match="holds no needle"):
        retrieval_heads.find([plain], [], RetrievalConfig(), facts())


def test_stopped_while_checking_it_goes_on_where_it_was(
    model: interp.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    masked, measured = causal.masked, measure.measured

    def counted(name: str, function: Any) -> Any:
        def call(model: Any, prompt: Any, *more: Any) -> Any:
            calls.append(f"{name} {prompt.name}")
            if stop and calls.count(calls[-1]) == 1 and sum(one.startswith("masked") for one in calls) == 2:
                raise KeyboardInterrupt
            return function(model, prompt, *more)

        return call

    stop = True
    monkeypatch.setattr(causal, "masked", counted("masked", masked))
    monkeypatch.setattr(measure, "measured", counted("measured", measured))
    options: dict[str, Any] = {"prompts": needle_prompts(model), "config": SETTINGS, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        interp.scan(model, "retrieval-heads", out=tmp_path / "run", **options)
    assert model.hf not in cache._MEMORIES  # released, however it ended
    stop = False
    resumed = interp.scan(model, "retrieval-heads", out=tmp_path / "run", **options)
    assert resumed.provenance["units"]["on_disk"]["measure"] == 3
    assert sum(one.startswith("measured") for one in calls) == 3
    finished = [one for one in calls if one.startswith("masked")]
    assert len(finished) == 3 and len(set(finished)) == 2  # two judge; the one that was cut off ran again
    whole = interp.scan(model, "retrieval-heads", out=tmp_path / "whole", **options)
    assert whole.findings.summary == resumed.findings.summary
    assert whole.table.equals(resumed.table)
