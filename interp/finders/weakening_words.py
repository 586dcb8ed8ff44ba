"""The sentences of primary weakening. Numbers come from the findings, nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interp.finders.base import ModelFacts
from interp.finders.sink_words import LONGEST_NAME, count, lengths
from interp.finders.weakening_config import WeakeningConfig
from interp.findings import Findings, Verification
from interp.text import printable
from interp.verify import MIN_PROMPTS
from probes.base import Prompt

LEVEL = 0.05
SINKS = {"secondary": "secondary sinks", "any": "other sinks"}


def outcome(difference: Mapping[str, Any]) -> str:
    """``weaker``, ``not weaker``, ``too few to say`` or ``cannot be tested``: by interval and test of layers."""
    if difference["mean"] is None:
        return "cannot be tested"
    if difference["n"] < MIN_PROMPTS:
        return "too few to say"
    return "weaker" if difference["high"] < 0 and difference["p"] <= LEVEL else "not weaker"


def observed(findings: Findings, config: WeakeningConfig) -> str:
    """The statistic in a sentence, then how it is defined."""
    name = printable(findings.summary["model"], LONGEST_NAME)
    claims, n = findings.summary["claims"], len(findings.summary["prompts"])
    found = claims["weakening.difference"]
    what = SINKS[config.of]
    if found["mean"] is None:
        having = len(set(findings.table["prompt"]))
        if not having:
            return f"{name}: cannot be tested: no {what} in {count(n, 'prompt')}."
        return f"{name}: cannot be tested: {what} in {count(having, 'prompt')} of {n}, but {found['why']}."
    ratio = claims["weakening.ratio"]
    states = "where they begin" if config.where == "start" else "where they live"
    verdict = {
        "weaker": f"the primary is weaker {states}",
        "not weaker": f"the primary is not shown to be weaker {states}",
        "too few to say": f"too few prompts with {what} to say whether the primary is weaker {states}",
    }[outcome(found)]
    return (
        f"{name}: {verdict}: its attention received there minus that in the rest of its life is {found['mean']:+.3f} "
        f"({found['low']:+.3f} to {found['high']:+.3f}), {ratio['mean']:.2f} times it ({count(found['n'], 'prompt')} "
        f"with {what}). Lower there in {found['below']} and higher in {found['above']} prompts (sign test p = "
        f"{found['p_sign']:.2g}); p = {found['p']:.2g} for these layers against as many others, one relabelling for "
        f"all prompts, and {found['p_prompts']:.2g} if every prompt chooses its own."
    )


def checked(effect: Verification, share: Verification, left: float | None) -> str:
    """What removing the other sinks did to the anchor, and how far they were removed."""
    if effect.effect is None or effect.control is None or share.effect is None or share.control is None:
        return ""
    return (
        f"With the MLP outputs that form them removed, the anchor's attention in the layers that read them changes by "
        f"{effect.effect:+.4f} ({effect.effect_low:+.4f} to {effect.effect_high:+.4f}), with the same removed at "
        f"ordinary tokens by {effect.control:+.4f}: {effect.verdict} ({count(effect.prompts, 'prompt')}); its share of "
        f"what the keys other than those sinks get changes by {share.effect:+.4f} ({share.effect_low:+.4f} to "
        f"{share.effect_high:+.4f}) against {share.control:+.4f}. "
        f"The sinks themselves keep {100 * (left or 0):.0f} % of what they drew."
    )


def caveats(
    findings: Findings, prompts: Sequence[Prompt], lacks: Mapping[str, str], config: WeakeningConfig, facts: ModelFacts
) -> list[str]:
    """What a reader must know beside the verdict."""
    found = findings.summary["claims"]["weakening.difference"]
    said = [
        f"Attention received falls as T grows; every figure here is for {lengths(findings.summary['T'])}.",
        "A primary that rises and falls over its life is weaker near its ends whatever begins there: the figures say "
        "where the layers lie, not why; that is what the removal is for.",
    ]
    if found["mean"] is not None:
        layers = len(
            {layer for told in findings.summary["prompts"] for key in ("there", "elsewhere") for layer in told[key]}
        )
        said.append(
            f"The test of layers permutes {layers} layers, the same way in all prompts, so its p can hardly fall below "
            f"one over the number of ways to choose them."
        )
    if config.of == "any":
        said.append("of=any: every token's sink but the anchor's is counted, not the secondary ones alone.")
    said += [f"No {name.replace('_', ' ')} norms: {why}" for name, why in lacks.items()]
    cut = sum(prompt.truncated for prompt in prompts)
    if cut:
        said.append(
            f"{count(cut, 'prompt')} {'was' if cut == 1 else 'were'} truncated; later sinks were not looked for."
        )
    said.append(f"Position 0 is {facts.position0}; sinks depend on it.")
    return said
