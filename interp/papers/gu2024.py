"""When attention sinks emerge (Gu et al. 2024, arXiv 2410.10781): Sink_1 on natural, random and repeated tokens.

Published figures are in ``data/references/gu2024.json``. Sink_1 is the share of (prompt, layer, head) in which the
first key's mean attention exceeds eps, in percent (section 3).
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from interp.papers import checks
from interp.papers.claims import Claim, Evidence, Outcome, Paper, Run, beyond, by_interval, missing
from interp.resources import data_path

KINDS = ("natural", "random", "repeated")
NEAR = 5.0
"""Percentage points within which a published figure counts as met: the texts are others."""
LEARNED = "standard"
"""How the site map calls learned absolute positions."""
VANISHED = 0.1
"""Share of the natural figure under which a sink counts as gone."""


@cache
def published() -> dict[str, Any]:
    """The figures of the paper."""
    return json.loads(data_path("references", "gu2024.json").read_text(encoding="utf-8"))


def told_of(kind: str) -> str:
    """The published Sink_1 of one kind of input."""
    return ", ".join(f"{figures[kind]:.2f} in {model}" for model, figures in published()["sink_1"].items())


def half_the_least() -> float:
    """Half the smallest published Sink_1 on natural text."""
    return min(figures["natural"] for figures in published()["sink_1"].values()) / 2


def rate(evidence: Evidence, kind: str) -> dict[str, Any]:
    """Sink_1 of one kind of input, in percent: ``mean``, ``low``, ``high``, ``n``."""
    return dict(evidence.claims("sink-rate").get(f"sink_rate.{kind}") or {})


def natural(evidence: Evidence) -> Outcome:
    return by_interval(rate(evidence, "natural"), above=half_the_least(), what="Sink_1 in percent", digits=2)


def stays_on_random(evidence: Evidence) -> Outcome:
    text = rate(evidence, "natural").get("mean")
    if not text:
        return missing("there is no sink on natural text that could stay")
    return by_interval(rate(evidence, "random"), above=text / 2, what="Sink_1 in percent", digits=2)


def repeated(evidence: Evidence) -> Outcome:
    text = rate(evidence, "natural").get("mean")
    if not text:
        return missing("there is no sink on natural text that could go")
    if evidence.positions in ("rotary", "alibi"):
        return by_interval(rate(evidence, "repeated"), below=VANISHED * text, what="Sink_1 in percent", digits=2)
    if evidence.positions != LEARNED:
        return missing(f"the claim is about relative and learned positions; this model's are {evidence.positions}")
    return by_interval(rate(evidence, "repeated"), above=text / 2, what="Sink_1 in percent", digits=2)


def figures(evidence: Evidence) -> Outcome:
    """Published beside measured, on a published model."""
    measured = {kind: rate(evidence, kind).get("mean") for kind in KINDS}
    told = ", ".join(f"{kind} {value:.2f}" for kind, value in measured.items() if value is not None)
    expected = published()["sink_1"].get(evidence.hub_id)
    if expected is None:
        return missing(f"Sink_1 was published for {', '.join(published()['sink_1'])}", told)
    if any(value is None for value in measured.values()):
        return missing("one kind of input was not measured", told)
    gaps = {kind: abs(measured[kind] - expected[kind]) for kind in KINDS}
    worst = max(gaps, key=gaps.__getitem__)
    why = f"{worst}: {gaps[worst]:.2f} points from the published {expected[worst]:.2f}"
    return beyond(gaps[worst] <= NEAR, told, why, {"value": gaps[worst]})


def claims() -> tuple[Claim, ...]:
    """What the paper says of Sink_1 (sections 3 and 4)."""
    text = published()
    return (
        Claim(
            "a sink on natural text",
            "The first token is an attention sink.",
            told_of("natural"),
            f"Sink_1 has a 95 % interval above {half_the_least():g} percent, half the smallest published figure.",
            natural,
        ),
        Claim(
            "a sink on random tokens",
            "It is one on random tokens too: it does not need meaning.",
            told_of("random"),
            "Sink_1 on random tokens has a 95 % interval above half the figure on natural text.",
            stays_on_random,
        ),
        Claim(
            "repeated tokens",
            "Of one token repeated, the sink goes where positions are relative, and stays where they are learned.",
            told_of("repeated"),
            f"Sink_1's 95 % interval lies below {VANISHED:.0%} of the natural figure (relative positions), or above "
            "half of it (learned).",
            repeated,
        ),
        Claim(
            "published figures",
            f"Sink_1 at eps {text['eps']:g} and T = {text['T']}.",
            "; ".join(f"{kind}: {told_of(kind)}" for kind in KINDS),
            f"On a published model, each figure lies within {NEAR:g} points.",
            figures,
        ),
    )


paper = Paper(
    "gu2024",
    published()["citation"],
    (Run("sink-rate", "sink-rate", {}),),
    claims(),
    checks.gu2024,
    ("text",),
    ("The published figures are of other texts; Sink_1 depends on T, on eps and on what stands at position 0.",),
)
