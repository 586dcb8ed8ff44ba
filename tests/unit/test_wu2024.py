"""Claims on retrieval heads, on made-up findings: every rule can say yes, no and "cannot be tested"."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd
import pytest

from interp.findings import Findings
from interp.papers import wu2024_checks, wu2024_rules
from interp.papers.claims import Evidence, Outcome
from interp.papers.wu2024_rules import RUN, published
from interp.registry import PAPERS

LLAMA = "yaofu/llama-2-7b-80k"
KS = (0, 5, 10, 20)


def figure(mean: float, width: float = 0.02, n: int = 9, **more: Any) -> dict[str, Any]:
    return {"mean": mean, "low": mean - width, "high": mean + width, "n": n, **more}


GOOD: dict[str, Any] = {
    "recall": figure(0.9),
    "kept_share": figure(0.95),
    "retrieval_share": figure(0.025),
    "retrieval_heads": {"mean": 12.0},
    "zero_share": figure(0.8),
    "split_half": figure(0.9),
    "top_overlap": figure(0.85),
    "always_active": figure(0.3),
    "sometimes_active": figure(0.4),
    "mask.untouched": figure(0.8),
    **{f"mask.retrieval.{k}": figure(-0.05 * k) for k in KS},
    **{f"mask.random.{k}": figure(-0.001 * k) for k in KS},
    **{f"mask.difference.{k}": figure(-0.049 * k) for k in KS},
    "extraction": figure(-0.6),
    "closed_book": figure(-0.1),
    "extraction.random": figure(-0.05),
    "closed_book.random": figure(-0.05),
    "extraction.difference": figure(-0.55),
    "closed_book.difference": figure(-0.05),
    "extraction_minus_closed_book": figure(-0.5, k=10),
}


COMPARED = {"rank_correlation": 0.8, "listed": 40, "top": 20, "overlap": 0.9}


def evidence(claims: dict[str, Any], published: dict[str, Any] | None = None) -> Evidence:
    rows = [[0, head, 0.9 - 0.01 * head] for head in range(30)]
    table = pd.DataFrame(rows, columns=["layer", "head", "score"])
    sets = {str(k): {"retrieval": [[0, i] for i in range(k)], "random": []} for k in KS}
    summary = {"claims": claims, "published": published, "masks": sets if claims else {}}
    summary |= {"settings": {"min_recall": 0.5}}
    found = Findings(RUN, table, (), "", summary=summary)
    return Evidence({RUN: found}, "m", None, 4, "rotary", 60)


def judge(name: str, given: Evidence) -> Outcome:
    return next(claim for claim in PAPERS.get("wu2024").claims if claim.name == name).judge(given)


NO: dict[str, dict[str, Any]] = {
    "universal": {"retrieval_share": figure(0.01)},
    "sparse": {"retrieval_share": figure(0.04)},  # the interval reaches beyond 5 %
    "most heads never copy": {"zero_share": figure(0.3)},
    "stable": {"split_half": figure(0.2)},
    "some always active": {"always_active": figure(0.0)},
    "most only in some contexts": {"always_active": figure(0.9)},
    "causal": {"mask.difference.10": figure(0.01)},
    "random heads do not matter": {"mask.random.10": figure(-0.4)},
    "extraction, not knowledge": {"extraction_minus_closed_book": figure(0.1)},
}
"""What makes each claim fail."""


@pytest.mark.parametrize("name", NO)
def test_yes_no_too_few_and_nothing(name: str) -> None:
    assert judge(name, evidence(GOOD)).verdict == "holds"
    no = judge(name, evidence({**GOOD, **NO[name]}))
    assert no.verdict == "does not hold" and no.why
    few = {key: {**value, "n": 5} for key, value in GOOD.items()}
    told = judge(name, evidence(few))
    assert told.verdict == "cannot be tested here" and "too few to say: 5" in told.why
    assert judge(name, evidence({})).verdict == "cannot be tested here"


@pytest.mark.parametrize("name", [*(name for name in NO if name != "extraction, not knowledge"), "published heads"])
def test_a_model_that_cannot_do_the_task_says_nothing_of_the_paper(name: str) -> None:
    told = judge(name, evidence({**GOOD, "kept_share": figure(0.0, 0.0)}))
    assert told.verdict == "cannot be tested here" and "answers none" in told.why


def test_what_could_not_be_measured_says_why() -> None:
    none = {"mean": None, "low": None, "high": None, "n": 0, "why": "one half of the needles has no answer"}
    told = judge("stable", evidence({**GOOD, "split_half": none}))
    assert told.verdict == "cannot be tested here" and told.why == none["why"]


def test_k_is_chosen_by_how_many_retrieval_heads_there_are() -> None:
    assert judge("causal", evidence(GOOD)).value == -0.49  # K = 10 of 12 heads, not 20
    assert "K = 10" in judge("causal", evidence(GOOD)).measured
    assert judge("causal", evidence({**GOOD, "retrieval_heads": {"mean": 7.0}})).value == pytest.approx(-0.245)
    none = judge("causal", evidence({**GOOD, "retrieval_heads": {"mean": 0.0}}))
    assert none.verdict == "cannot be tested here" and "no retrieval head" in none.why
    unmasked = {key: value for key, value in GOOD.items() if not key.startswith("mask.")}
    assert judge("causal", evidence(unmasked)).verdict == "cannot be tested here"


def test_heads_whose_masking_costs_nothing_are_not_causal() -> None:
    """Less harm than random heads do is no proof, nor is a gain by random heads."""
    gains = {"mask.retrieval.10": figure(0.0), "mask.random.10": figure(0.2), "mask.difference.10": figure(-0.2)}
    told = judge("causal", evidence({**GOOD, **gains}))
    assert told.verdict == "does not hold" and "costs no recall" in told.why


def test_what_random_heads_cost_is_told_in_parts_of_what_was_there() -> None:
    """0.06 of a recall of 0.55 is more than a tenth of it."""
    little = {"mask.random.10": figure(-0.06), "mask.untouched": figure(0.55)}
    told = judge("random heads do not matter", evidence({**GOOD, **little}))
    assert told.verdict == "does not hold" and told.value == pytest.approx(-0.06 / 0.55)


@pytest.mark.parametrize("name", ["causal", "random heads do not matter"])
def test_needles_that_are_not_answered_judge_nothing(name: str) -> None:
    told = judge(name, evidence({**GOOD, "mask.untouched": figure(0.0), "mask.random.10": figure(0.0, 0.0)}))
    assert told.verdict == "cannot be tested here" and "0.5 is needed" in told.why and "0.00" in told.measured


def test_extraction_that_random_heads_harm_as_much_does_not_hold() -> None:
    """Closed-book answers that gain by masking are no loss of extraction."""
    told = judge("extraction, not knowledge", evidence({**GOOD, "extraction.difference": figure(0.0)}))
    assert told.verdict == "does not hold" and "no more than random heads" in told.why


def test_every_number_of_masked_heads_is_told() -> None:
    told = judge("causal", evidence(GOOD)).measured
    assert "5: -0.25 / -0.01, 10: -0.50 / -0.01, 20: -1.00 / -0.02" in told


@pytest.mark.parametrize(("overlap", "verdict"), [(1.0, "holds"), (0.5, "holds"), (0.45, "does not hold")])
def test_published_heads_of_a_published_model(overlap: float, verdict: str) -> None:
    told = judge("published heads", evidence(GOOD, published={**COMPARED, "overlap": overlap}))
    assert told.verdict == verdict and told.value == overlap and "published heads 0.80" in told.measured
    assert "best here: 0.0 0.90, 0.1 0.89" in told.measured
    other = judge("published heads", evidence(GOOD))
    assert other.verdict == "cannot be tested here" and LLAMA in other.why
    flat = judge("published heads", evidence(GOOD, published={**COMPARED, "rank_correlation": None}))
    assert "rho" not in flat.measured


def test_intrinsic_says_what_it_needs() -> None:
    told = judge("intrinsic", evidence(GOOD))
    assert told.verdict == "cannot be tested here" and "interp compare" in told.why


def test_published_figures_come_from_the_data() -> None:
    claims = {claim.name: claim for claim in PAPERS.get("wu2024").claims}
    run = published()["models"][LLAMA]
    assert f"{run['at_least_0_1']} of {run['heads']} heads in {LLAMA}" in claims["universal"].published
    assert f"{run['zero'] / run['heads']:.1%} in {LLAMA}" in claims["most heads never copy"].published
    assert claims["some always active"].published == f"12 in Llama-2 7B, of 33 that score 0.1 or more in {LLAMA}"
    assert all(claim.published and claim.rule and claim.statement for claim in claims.values())
    assert "below 5%" in claims["sparse"].rule and "6.2% in" in claims["sparse"].published
    assert wu2024_rules.silent_bound() == pytest.approx(506 / 1024)


def test_relatives_share_heads_and_strangers_do_not() -> None:
    for one, other in published()["stated"]["relatives"]:
        assert wu2024_rules.overlap(one, other) >= 0.5
    assert wu2024_rules.overlap(LLAMA, "alpindale/Mistral-7B-v0.2-hf") < 0.2


def masks(random: list[Any]) -> list[Any]:
    """Four heads a layer; 0.1 and 1.1 are masked, 0.2 and 2.0 retrieve as well."""
    sets = {"0": {"retrieval": [], "random": [[]]}, "2": {"retrieval": [[0, 1], [1, 1]], "random": random}}
    summary = {"masks": sets, "retrieval": ["0.1", "1.1", "0.2", "2.0"], "shape": [3, 4]}
    return wu2024_checks.masks(dataclasses.replace(evidence(GOOD).findings[RUN], summary=summary))


@pytest.mark.parametrize(
    ("random", "wrong"),
    [
        ([[[0, 0], [1, 0]], [[0, 3], [1, 2]]], None),
        ([[[0, 0], [1, 0]], [[0, 1], [1, 2]]], "masked heads among"),
        ([[[0, 2], [1, 0]]], "retrieval heads among"),
        ([[[0, 0]]], "1 heads against 2"),
        ([[[0, 0], [2, 1]]], "fewer than could be in layers 1"),
    ],
)
def test_random_sets_are_as_large_and_apart(random: list[Any], wrong: str | None) -> None:
    (check,) = masks(random)
    assert check.passed == (wrong is None) and "K = 2" in check.told and (wrong or "apart") in check.told


def test_a_layer_without_others_may_be_short() -> None:
    sets = {"2": {"retrieval": [[0, 0], [0, 1]], "random": [[[0, 2], [1, 0]]]}}
    summary = {"masks": sets, "retrieval": ["0.0", "0.1"], "shape": [2, 3]}
    (check,) = wu2024_checks.masks(dataclasses.replace(evidence(GOOD).findings[RUN], summary=summary))
    assert check.passed
