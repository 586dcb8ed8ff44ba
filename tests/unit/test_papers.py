"""Claims of papers: every rule can say yes, no and "cannot be tested", and the own checks fail when they should."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.errors import UsageError
from interp.finders.sink_config import COLUMNS
from interp.findings import Findings
from interp.papers import checks, gu2024, wong2025
from interp.papers.claims import Evidence, Outcome, by_interval
from interp.papers.run import verdict
from interp.papers.wong2025_rules import published
from interp.registry import PAPERS

LAYERS, HEADS, LENGTH, PROMPTS = 20, 2, 40, 10
Secondary = tuple[int, int, int]
"""(prompt, start layer, lifetime)."""


def sinks(secondary: list[Secondary], mass: float = 0.1, anchor: float = 0.5) -> Findings:
    """A sinks run with these secondary sinks at position 20; the anchor is position 0."""
    rows = [
        {"prompt": f"p{i}", "position": 20, "kind": "secondary", "start_layer": start, "lifetime": life}
        for i, start, life in secondary
    ]
    table = pd.DataFrame(rows, columns=[c.name for c in COLUMNS]).astype({c.name: c.dtype for c in COLUMNS})
    arrays = {}
    for i in range(PROMPTS):
        received = np.full((LAYERS, HEADS, LENGTH), 0.01, np.float32)
        received[:, :, 0], received[:, :, 20] = anchor + 0.001 * i, mass
        arrays[f"received.{i}"] = received
    told = [{"name": f"p{i}", "anchor": 0} for i in range(PROMPTS)]
    return Findings("sinks", table, COLUMNS, "", arrays, {"prompts": told})


def evidence(found: Findings, hub_id: str | None = None, **runs: dict[str, Any]) -> Evidence:
    others = {
        name.replace("_", "-"): dataclasses.replace(found, summary={"claims": claims}) for name, claims in runs.items()
    }
    return Evidence({"sinks": found, "released": found, **others}, "m", hub_id, LAYERS, "rotary", PROMPTS)


def judge(name: str, given: Evidence) -> Outcome:
    return next(claim for claim in wong2025.paper.claims if claim.name == name).judge(given)


MANY = [(i, 9 + i % 2, 4 if i < 5 else 7) for i in range(PROMPTS)]


@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [
        ("secondary sinks exist", sinks(MANY), "holds"),
        ("secondary sinks exist", sinks([]), "does not hold"),
        ("middle layers", sinks(MANY), "holds"),
        ("middle layers", sinks([(i, 2, 5) for i in range(PROMPTS)]), "does not hold"),
        ("middle layers", sinks([(i, 18, 1) for i in range(PROMPTS)]), "does not hold"),
        ("middle layers", sinks([(i, 1 if i % 2 else 18, 1) for i in range(PROMPTS)]), "does not hold"),
        ("middle layers", sinks(MANY[:3]), "cannot be tested here"),
        ("middle layers", sinks([]), "cannot be tested here"),
        ("variable lifetime", sinks(MANY), "holds"),
        ("variable lifetime", sinks([(i, 9, 4) for i in range(PROMPTS)]), "does not hold"),
        ("variable lifetime", sinks([(i, 9, 4 + (i == 0) * 9) for i in range(PROMPTS)]), "does not hold"),
        ("variable lifetime", sinks(MANY[:2]), "cannot be tested here"),
        ("variable lifetime", sinks([(0, 9, 4 + i % 2 * 3) for i in range(PROMPTS)]), "cannot be tested here"),
        ("weaker than the primary", sinks(MANY), "holds"),
        ("weaker than the primary", sinks(MANY, mass=0.7), "does not hold"),
        ("weaker than the primary", sinks([]), "cannot be tested here"),
        ("few levels", sinks(MANY), "holds"),
        ("few levels", sinks([(i, 1 + i, 19 - i - 2 * (i % 2)) for i in range(PROMPTS)]), "does not hold"),
        ("few levels", sinks([(i, 9, 2 + i // 4 * 3) for i in range(3)]), "cannot be tested here"),
        ("few levels", sinks([]), "cannot be tested here"),
        ("released start layer", sinks(MANY), "cannot be tested here"),
    ],
)
def test_claims_of_the_sinks_run(name: str, found: Findings, expected: str) -> None:
    outcome = judge(name, evidence(found))
    assert outcome.verdict == expected
    assert outcome.measured and (expected == "holds") == (outcome.why == "")


@pytest.mark.parametrize(
    ("start", "life", "expected"),
    [(16, 18, "holds"), (16, 3, "does not hold"), (9, 18, "does not hold")],
)
def test_released_counts_of_a_published_model(start: int, life: int, expected: str) -> None:
    found = sinks([(i, start, life) for i in range(5)])
    assert judge("released start layer", evidence(found, "Qwen/Qwen3-4B-Base")).verdict == expected


@pytest.mark.parametrize(
    ("name", "run", "figure", "high_is_yes"),
    [
        ("formed by an MLP", "sink_formation", "mlp_share.secondary", True),
        ("onto the primary's direction", "sink_formation", "cosine.direction.difference_secondary", True),
        ("norm sets the sink score", "sink_norm_law", "correlation.score.graded", True),
        ("norm sets the lifetime", "sink_norm_law", "correlation.lifetime.graded", True),
        ("the direction makes a sink", "sink_norm_law", "reverse.secondary.became_sinks", True),
    ],
)
def test_claims_that_hang_on_one_figure(name: str, run: str, figure: str, high_is_yes: bool) -> None:
    high = {"mean": 0.9, "low": 0.8, "high": 0.95, "n": 9}
    low = {"mean": -0.9, "low": -0.95, "high": -0.8, "n": 9}
    wide = {"mean": 0.9 if high_is_yes else -0.9, "low": -1.0, "high": 1.0, "n": 9}
    given = {
        kind: judge(name, evidence(sinks(MANY), **{run: {figure: value}})).verdict
        for kind, value in {
            "high": high,
            "low": low,
            "wide": wide,
            "few": {**high, "n": 3},
            "none": {"mean": None, "why": "no such site"},
        }.items()
    }
    yes, no = ("high", "low") if high_is_yes else ("low", "high")
    assert given[yes] == "holds"
    assert given[no] == given["wide"] == "does not hold"
    assert given["few"] == given["none"] == "cannot be tested here"
    assert judge(name, evidence(sinks(MANY), **{run: {}})).verdict == "cannot be tested here"
    without = judge(name, evidence(sinks([]), **{run: {figure: high}}))
    assert without.verdict == "cannot be tested here" and "no secondary sink" in without.why


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("verified", "holds"),
        ("failed", "does not hold"),
        ("too few to say", "cannot be tested here"),
        ("nothing to verify", "cannot be tested here"),
    ],
)
def test_a_claim_that_a_causal_check_decides(verdict: str, expected: str) -> None:
    names = ("effect", "control", "difference", "difference_low", "difference_high")
    numbers = (
        dict.fromkeys(names)
        if verdict == "nothing to verify"
        else dict(zip(names, (-0.2, 0, -0.2, -0.3, -0.1), strict=True))
    )
    check = {"verdict": verdict, "prompts": 8, **numbers}
    given = evidence(sinks(MANY), sink_formation={"check.secondary_mlp": check})
    assert judge("no MLP output, no sink", given).verdict == expected
    assert judge("no MLP output, no sink", evidence(sinks([]), sink_formation={})).verdict == "cannot be tested here"


def test_effective_components() -> None:
    def outcome(**told: Any) -> str:
        given = evidence(sinks([]), sink_formation={"effective_components": {"secondary": told}})
        return judge("many inputs, one direction", given).verdict

    assert outcome(blocks=1, directions=2, prompts=8) == "holds"
    assert outcome(blocks=2, directions=1, prompts=8) == "does not hold"
    assert outcome(blocks=1, directions=2, prompts=7) == "cannot be tested here"
    assert outcome(blocks=0, why="no block") == "cannot be tested here"


@pytest.mark.parametrize(
    ("high", "finder", "expected"),
    [
        (-0.1, "weaker", "holds"),
        (-0.1, "not weaker", "does not hold"),
        (-0.1, "cannot be told", "cannot be tested here"),
        (0.1, "weaker", "does not hold"),
    ],
)
def test_weakening_needs_the_layer_test_too(high: float, finder: str, expected: str) -> None:
    figure = {"mean": -0.2, "low": -0.3, "high": high, "n": 9}
    given = {"weakening.difference": figure, "weakening.outcome": {"verdict": finder, "why": "so"}}
    outcome = judge("the primary weakens", evidence(sinks(MANY), primary_weakening=given))
    assert outcome.verdict == expected and outcome.value == -0.2
    assert judge("the primary weakens", evidence(sinks(MANY), primary_weakening={})).verdict == "cannot be tested here"


def test_the_natural_correlation_stands_beside_the_causal_one() -> None:
    graded = {"mean": 0.9, "low": 0.8, "high": 0.95, "n": 9}
    claims = {"correlation.score.graded": graded, "correlation.score.natural": {"mean": 0.25}}
    told = judge("norm sets the sink score", evidence(sinks(MANY), sink_norm_law=claims)).measured
    assert "0.900" in told and told.endswith("over the sinks as they are 0.25")


def rates(natural: float, random: float, repeated: float, positions: str = "rotary", hub_id: str | None = None) -> Any:
    claims = {
        f"sink_rate.{kind}": {"mean": value, "low": value - 1, "high": value + 1, "n": 12}
        for kind, value in (("natural", natural), ("random", random), ("repeated", repeated))
    }
    found = dataclasses.replace(sinks([]), summary={"claims": claims})
    given = Evidence({"sink-rate": found}, "m", hub_id, LAYERS, positions, PROMPTS)
    return [claim.judge(given).verdict for claim in gu2024.paper.claims]


def test_gu2024() -> None:
    yes, no, untested = "holds", "does not hold", "cannot be tested here"
    assert rates(80, 70, 0) == [yes, yes, yes, untested]
    assert rates(20, 5, 19) == [no, no, no, untested]
    assert rates(80, 70, 0, "standard") == [yes, yes, no, untested]
    assert rates(80, 70, 60, "standard") == [yes, yes, yes, untested]
    assert rates(80, 70, 60, "none")[2] == untested
    assert rates(0, 70, 60)[1:3] == [untested, untested]
    assert rates(98, 76, 0, hub_id="mistralai/Mistral-7B-v0.1")[3] == yes
    assert rates(98, 60, 0, hub_id="mistralai/Mistral-7B-v0.1")[3] == no


def test_an_interval_needs_prompts() -> None:
    figure = {"mean": 1.0, "low": 0.5, "high": 2.0, "n": 8}
    assert by_interval(figure, above=0.4, what="x").verdict == "holds"
    assert by_interval({**figure, "n": 7}, above=0.4, what="x").verdict == "cannot be tested here"
    assert by_interval({**figure, "low": None}, above=0.4, what="x").verdict == "cannot be tested here"
    assert by_interval(None, above=0.4, what="x").verdict == "cannot be tested here"


@pytest.mark.parametrize("number", range(2))
def test_the_released_rule_gives_the_published_counts(number: int) -> None:
    run = published()["runs"][number]
    check = checks.golden_counts(run)
    assert check.passed, check.told
    assert sum(run["lifetimes"].values()) == run["others"]
    assert ("262 secondary, 8 noise" if run["layers"] == 48 else "21 secondary, 0 noise") in check.told


def test_the_golden_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    run = published()["runs"][0]
    short = {"first_layer": 4, "last_layer": 45, "lifetime": 43}
    assert not checks.golden_counts({**run, "primary": short}).passed
    assert not checks.golden_counts({**run, "others": 269}).passed
    rule = checks.sink_wong2025
    with monkeypatch.context() as patch:  # a window that ends early cuts the longest lives
        patch.setattr(rule, "window", lambda norm: (4, 45))
        assert not checks.golden_counts(run).passed
    with monkeypatch.context() as patch:
        patch.setattr(rule, "window", lambda norm: (23, 47))
        assert not checks.golden_counts(run).passed


@pytest.mark.parametrize(("gap", "passed"), [(0.0, True), (0.5, False), (None, None)])
def test_the_norm_laws_self_test_is_a_check(gap: float | None, passed: bool | None) -> None:
    found = dataclasses.replace(sinks([]), summary={"identity": gap})
    assert [check.passed for check in checks.identity({"sink-norm-law": found})] == ([] if passed is None else [passed])


def test_every_paper_is_complete() -> None:
    for name in PAPERS.names():
        paper = PAPERS.get(name)
        assert paper.name == name and "arXiv" in paper.citation
        assert len({claim.name for claim in paper.claims}) == len(paper.claims) >= 4
        for claim in paper.claims:
            assert claim.statement.endswith(".") and claim.rule.endswith(".") and claim.published
    with pytest.raises(UsageError, match="wong2025"):
        PAPERS.get("wong25")


def test_the_verdict_counts_and_names() -> None:
    paper = dataclasses.replace(gu2024.paper, claims=gu2024.paper.claims[:3])
    outcomes = [Outcome("holds", ""), Outcome("does not hold", "", "x"), Outcome("cannot be tested here", "", "y")]
    told = verdict(paper, "m", outcomes, [checks.Check("one", True, ""), checks.Check("two", False, "")])
    assert told.startswith("Of 3 claims of gu2024, 1 holds in m on these prompts, 1 does not, and 1 cannot be tested")
    assert "a sink on random tokens" in told and "not to be trusted: two" in told
