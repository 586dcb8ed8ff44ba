"""Masking curves summed up from made-up answers whose figures are known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.finders.base import Unit
from interp.findings import Findings
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.curves import Curves, curves
from interp.retrieval.effect import estimate
from interp.retrieval.sets import arms_of, mask_sets
from interp.verify import bootstrap_mean

RANKED = [(layer, head) for head in range(6) for layer in range(4)]
CONFIG = RetrievalConfig(ks=(0, 1, 2, 5), draws=2)
SETS = mask_sets(RANKED, RANKED[:3], (4, 6), CONFIG)
PROOF = {
    "prompt": "p", "phases": ["decode"], "layers": [0, 1], "heads": 4, "failed": [], "nothing": [], "worst": 0.0,
}  # fmt: skip


def findings() -> Findings:
    masks = {"masks": json.loads(json.dumps(SETS)), "retrieval": ["0.0", "1.0", "2.0"], "prompts": [{"text": "x"}]}
    return Findings("retrieval-heads", pd.DataFrame(), (), "", summary=masks)


def unit(
    needle: str,
    base: float,
    lost: dict[str, float],
    proof: dict[str, Any] = PROOF,
    text: str = "x",
    dtype: str = "torch.float32",
) -> Unit:
    """A prompt whose recall falls by `lost` of a kind times K."""
    arms = []
    for arm in arms_of(SETS):
        recall = base - lost.get(arm.kind, 0.0) * arm.k - (0.01 * arm.draw)
        arms.append({**arm.told, "recall": recall, "exact": recall > 0.85, "tokens": 3, "text": text})
    told = {"prompt": needle, "index": 0, "needle": needle, "dtype": dtype, "arms": arms, "proof": proof}
    return Unit(facts={"masked": told})


def examined(extraction: list[list[bool]], closed: list[list[bool]]) -> Unit:
    arms = [arm.told for arm in arms_of(SETS)]
    asked = [arm.told for arm in arms_of(SETS, 1) if arm.k in (0, 2)]  # untouched, retrieval, random
    questions = [
        {"name": f"{kind}{i}", "kind": kind, "question": "q", "answer": "a", "text": "t", "correct": correct}
        for kind, rows in (("extraction", extraction), ("closed-book", closed))
        for i, correct in enumerate(rows)
    ]
    losses = [{"name": f"text{i}", "tokens": 9, "loss": [2.0 + 0.1 * arm["k"] for arm in arms]} for i in range(3)]
    facts = {"arms": arms, "losses": losses, "losses_why": None, "question_arms": asked, "questions_why": None}
    return Unit(facts={"examined": {**facts, "questions": questions}})


def summed(lost: dict[str, float], needles: int = 9, base: float = 1.0, **more: Any) -> Curves:
    checks: list[Unit | None] = [None, *(unit(f"n{i % needles}", base, lost, **more) for i in range(2 * needles))]
    return curves(findings(), checks, examined([[True, False, True]] * 8, [[True, True, True]] * 8), CONFIG)


def test_recall_that_falls_under_retrieval_heads_alone_is_verified() -> None:
    found = summed({"retrieval": 0.4, "random": 0.01})
    checked = found.verification
    assert checked.verdict == "verified" and checked.prompts == 9
    # K = 2 is the largest not above the three retrieval heads; random is the mean of two draws
    assert checked.effect == pytest.approx(-0.8) and checked.control == pytest.approx(-0.025)
    assert found.claims["mask.difference.2"]["mean"] == pytest.approx(-0.775)
    assert found.claims["mask.untouched"]["mean"] == pytest.approx(1.0) and found.claims["mask.retrieval.5"]["n"] == 9
    assert found.claims["loss.retrieval.5"]["mean"] == pytest.approx(0.5) and found.claims["loss.random.2"]["n"] == 3
    assert found.claims["mask_exact.retrieval.1"]["mean"] == -1.0
    assert "-0.80 (-0.80 to -0.80)" in found.said and "verified" in found.said


def test_recall_that_falls_under_random_heads_as_well_fails() -> None:
    assert summed({"retrieval": 0.4, "random": 0.4}).verification.verdict == "failed"
    assert summed({"retrieval": -0.1, "random": -0.2}).verification.verdict == "failed"
    better = summed({"retrieval": -0.1, "random": -0.5}).verification  # lower than the controls, and yet no loss
    assert better.difference_high is not None and better.difference_high < 0 and better.verdict == "failed"


def test_instances_of_one_needle_are_one_unit() -> None:
    few = summed({"retrieval": 0.4}, needles=4)
    assert few.verification.verdict == "too few to say" and few.verification.prompts == 4
    checks: list[Unit | None] = [unit("a", 1.0, {"retrieval": 0.5}), *(unit("b", 1.0, {}) for _ in range(9))]
    found = curves(findings(), checks, None, CONFIG).claims["mask.retrieval.1"]
    assert found["mean"] == pytest.approx(-0.25) and found["n"] == 2  # the mean over two needles, not over ten prompts
    plain = bootstrap_mean(np.array([-0.5, 0.0]), seed=CONFIG.seed)
    assert (found["low"], found["high"]) == pytest.approx((plain.low, plain.high))


def test_a_mask_that_was_not_seen_fails_the_run() -> None:
    found = summed({"retrieval": 0.4}, proof={**PROOF, "failed": [1], "worst": 0.7})
    assert found.verification.verdict == "failed" and "in layer 1," in found.verification.how
    sheet = next(one for one in found.sheets if one.name == "mask-proof")
    assert len(sheet.rows) == 18 and sheet.rows[0][3:6] == ("decode", "1", "")


def test_where_there_is_nothing_to_block_nothing_is_proved() -> None:
    some = summed({"retrieval": 0.4}, proof={**PROOF, "nothing": [1]})
    assert some.verification.verdict == "verified" and any("nothing to block in layer 1" in one for one in some.caveats)
    none = summed({"retrieval": 0.4}, proof={**PROOF, "nothing": [0, 1]})
    assert none.verification.verdict == "failed" and "nothing to block in layers 0, 1" in none.verification.how


@pytest.mark.parametrize("base", [0.0, 0.5])
def test_a_model_that_does_not_answer_can_lose_nothing(base: float) -> None:
    found = summed({}, base=base)
    assert found.verification.verdict == "nothing to verify" and f"mean recall {base:.2f}" in found.verification.how
    assert "failed" not in found.said and "does not answer the held-out needles" in found.said
    assert summed({"retrieval": 0.2}, base=0.6).verification.verdict == "verified"


def test_untouched_answers_are_those_that_were_scored() -> None:
    assert summed({"retrieval": 0.4}, text="other").verification.verdict == "failed"
    coarse = summed({"retrieval": 0.4}, text="other", dtype="torch.bfloat16")
    assert coarse.verification.verdict == "verified"
    assert any("18 of 18 held-out prompts got another answer" in one for one in coarse.caveats)
    assert not any("another answer" in one for one in summed({"retrieval": 0.4}).caveats)


def test_intervals_of_random_heads_are_over_their_draws_too() -> None:
    """Two draws 0.2 apart, the same for every needle: over needles alone the interval would have no width."""
    values = np.tile([[-0.1, 0.1]], (9, 1))
    found = estimate(values, 0)
    assert (found.mean, found.low, found.high) == pytest.approx((0.0, -0.1, 0.1))
    one = np.random.default_rng(0).normal(size=9)
    plain = bootstrap_mean(one, seed=3)
    for columns in (1, 4):
        same = estimate(np.repeat(one[:, None], columns, axis=1), 3)
        assert (same.mean, same.low, same.high) == pytest.approx((plain.mean, plain.low, plain.high))


def test_extraction_against_closed_book() -> None:
    right, wrong = [True, True, True], [True, False, True]
    unit_ = examined([wrong] * 6 + [right] * 2 + [[False, True, True]], [right] * 7 + [wrong])
    claims = curves(findings(), [unit("a", 1.0, {})], unit_, CONFIG).claims
    assert claims["extraction"]["mean"] == -0.75 and claims["extraction"]["n"] == 8  # one was wrong untouched
    assert claims["closed_book"]["mean"] == -0.125 and claims["extraction.random"]["mean"] == 0
    assert claims["extraction.difference"]["mean"] == -0.75 and claims["closed_book.difference"]["mean"] == -0.125
    apart = claims["extraction_minus_closed_book"]
    assert apart["mean"] == -0.625 and apart["low"] < -0.625 < apart["high"] < 0 and apart["k"] == 2
    assert claims["open_book"]["mean"] is None and "known with passage" in claims["open_book"]["why"]


def test_random_heads_that_cost_extraction_as_much_take_the_claim_away() -> None:
    """Harder questions lose more under any mask: that is no sign of what retrieval heads do."""
    both, none = [True, False, False], [True, True, True]
    found = curves(findings(), [unit("a", 1.0, {})], examined([both] * 8, [none] * 8), CONFIG)
    apart = found.claims["extraction_minus_closed_book"]
    assert found.claims["extraction"]["mean"] == -1 == found.claims["extraction.random"]["mean"]
    assert (apart["mean"], apart["low"], apart["high"]) == (0, 0, 0)
    assert "not clearly more and not clearly less" in found.said


def test_the_other_way_round_is_said_as_well() -> None:
    right, wrong = [True, True, True], [True, False, True]
    found = curves(findings(), [unit("a", 1.0, {})], examined([right] * 8, [wrong] * 8), CONFIG)
    assert "extraction loses less" in found.said
    assert "extraction loses more" in summed({}).said


def test_nothing_masked_is_nothing_to_verify() -> None:
    empty = Findings("retrieval-heads", pd.DataFrame(), (), "", summary={"masks": {}, "retrieval": []})
    found = curves(empty, [None, None], None, CONFIG)
    assert found.verification.verdict == "nothing to verify" and not found.charts
    assert found.claims["mask.untouched"]["mean"] is None and found.claims["extraction"]["why"]


def test_charts_begin_at_the_untouched_model() -> None:
    found = summed({"retrieval": 0.1})
    chart = next(one for one in found.charts if one.name == "masking-recall")
    assert chart.x_names == ("0", "1", "2", "5")
    assert [line.y[0] for line in chart.series] == pytest.approx([1.0, 1.0])
    assert [round(y or 0, 6) for y in chart.series[0].y] == [1.0, 0.9, 0.8, 0.5]
