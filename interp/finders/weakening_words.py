"""The sentences of primary weakening. Numbers come from the findings, nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from interp.finders.base import ModelFacts
from interp.finders.sink_words import LONGEST_NAME, count, lengths
from interp.finders.weakening_config import WeakeningConfig
from interp.finders.weakening_stats import LEVEL
from interp.findings import Findings, Verification
from interp.text import printable
from probes.base import Prompt

SINKS = {"secondary": "secondary sinks", "any": "other sinks"}


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
    ratio, told = claims["weakening.ratio"], claims["weakening.outcome"]
    states = "where they begin" if config.where == "start" else "where they live"
    heading = {
        "weaker": f"the primary is weaker {states}",
        "not weaker": f"the primary is not shown to be weaker {states} ({told['why']})",
        "cannot be told": f"whether the primary is weaker {states} cannot be told ({told['why']})",
    }[told["verdict"]]
    return (
        f"{name}: {heading}: its attention received there minus that in the rest of its life is {found['mean']:+.3f} "
        f"({found['low']:+.3f} to {found['high']:+.3f}), {ratio['mean']:.2f} times it ({count(found['n'], 'prompt')} "
        f"with {what}). Lower there in {found['below']} and higher in {found['above']} prompts (sign test p = "
        f"{found['p_sign']:.2g}); p = {found['p']:.2g} against the same layers shifted in a circle, and could not be "
        f"below {found['p_smallest']:.2g}."
    )


def checked(share: Verification, mass: Verification, left: float | None) -> str:
    """What removing the other sinks did to the anchor, and how far they were removed."""
    if share.effect is None or share.control is None or mass.effect is None or mass.control is None:
        return ""
    kept = "" if left is None else f" The sinks themselves keep {100 * left:.0f} % of what they drew."
    return (
        f"With the MLP outputs that form them removed, the anchor's share of what other keys get in the layers that "
        f"read them changes by {share.effect:+.4f} ({share.effect_low:+.4f} to {share.effect_high:+.4f}), with the "
        f"same removed at ordinary tokens by {share.control:+.4f}: {share.verdict} ({count(share.prompts, 'prompt')}); "
        f"its attention, which softmax competition alone would raise, changes by {mass.effect:+.4f} "
        f"({mass.effect_low:+.4f} to {mass.effect_high:+.4f}) against {mass.control:+.4f}.{kept}"
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
        weak = "; too few layers to tell from position alone" if found["p_smallest"] > LEVEL else ""
        said.append(
            f"The test of layers shifts them in a circle, the same way in all prompts: {found['shifts']} shifts, so "
            f"its p cannot fall below {found['p_smallest']:.2g}{weak}. At the ends of a profile that drifts it is too "
            "small."
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
