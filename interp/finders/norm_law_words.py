"""The sentences of the norm law. Numbers come from the findings, nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interp.finders.base import ModelFacts
from interp.finders.norm_law_config import FIRST, NormLawConfig
from interp.finders.sink_words import LONGEST_NAME, count, effect_facts, lengths
from interp.findings import Findings, Verification
from interp.text import printable
from probes.base import Prompt

NAMES = {
    "secondary": "secondary sinks",
    "other": "other sinks",
    "anchor": "the anchor",
    "all tokens": "sinks of all kinds but the anchor",
}
EXACT = 1e-3
"""A pass at the natural norm that is further than this from the unedited one makes the sweep worthless."""


def observed(findings: Findings) -> str:
    """What is there before anything was edited."""
    table, prompts = findings.table, findings.summary["prompts"]
    name = printable(findings.summary["model"], LONGEST_NAME)
    swept = int(table["swept"].sum())
    having = len({row for row, taken in zip(table["prompt"], table["swept"], strict=True) if taken})
    if not len(table):
        return f"No attention sink was found in {name}, {count(len(prompts), 'prompt')}."
    return (
        f"{name}: {count(len(table), 'sink span')} in {count(len(prompts), 'prompt')} "
        f"({lengths(findings.summary['T'])}); {count(swept, 'span')} in {count(having, 'prompt')} can be rescaled."
    )


def verdict(findings: Findings, removal: Verification, written: Verification) -> str:
    """The dose-response in a sentence, then correlations, removal, and the written direction."""
    claims = findings.summary["claims"]
    said = []
    if claims["dose"]:
        said.append(dose_sentence(findings, claims["dose"]))
        said.append(f"(Sinks swept: {NAMES[claims['dose'][0]['of']]}.)")
    said.append(observed(findings))
    said += [correlation_sentence(claims, measure) for measure in ("score", "lifetime")]
    if removal.effect is not None and removal.control is not None:
        said.append(
            f"Without their forming MLP's output the swept sinks lose {_share(removal.effect)} of the attention they "
            f"receive, ordinary tokens under the same edit {_share(removal.control)}: {removal.verdict} "
            f"({count(removal.prompts, 'prompt')}, 95 % bootstrap interval of the difference "
            f"{_range(removal.difference_low, removal.difference_high)})."
        )
    if written.effect is not None and written.control is not None:
        became = claims["reverse.became_sinks"]["mean"]
        said.append(
            f"Of ordinary tokens onto which the sink direction was written, {_share(became)} became sinks; attention "
            f"received changed by {written.effect:+.3f}, by {written.control:+.3f} with random directions of the same "
            f"length: {written.verdict} ({count(written.prompts, 'prompt')}, {taken_from(claims)})."
        )
    if removal.effect is None and written.effect is None:
        said.append("There was nothing to intervene on.")
    return " ".join(said)


def dose_sentence(findings: Findings, dose: Sequence[Mapping[str, Any]]) -> str:
    """Removal, natural norm and the largest multiple, side by side."""
    name = printable(findings.summary["model"], LONGEST_NAME)
    at = {one["multiple"]: one for one in dose}
    parts = []
    for multiple in sorted({0.0, 1.0, max(at)}):
        one = at[multiple]
        what = {0.0: "0", 1.0: "its natural norm"}.get(multiple, f"{multiple:g} times it")
        parts.append(f"at {what} a score of {one['score']['mean']:.3f} and {one['lifetime']['mean']:.1f} layers")
    n = at[1.0]["score"]["n"]
    return (
        f"{name}, forming MLP rescaled: {', '.join(parts)} ({count(at[1.0]['sinks'], 'sink')}, {count(n, 'prompt')})."
    )


def taken_from(claims: Mapping[str, Any]) -> str:
    """From whose forming block the written direction was taken."""
    became = claims["reverse.secondary.became_sinks"]
    n = claims["reverse.became_sinks"]["n"]
    if became["n"] == n:
        return "taken from secondary sinks"
    if not became["n"]:
        return "none of them with a direction taken from secondary sinks"
    return f"in {became['n']} taken from secondary sinks, where {_share(became['mean'])} became sinks"


def correlation_sentence(claims: Mapping[str, Any], measure: str) -> str:
    """Norm against one measure, as it is, within the sweep, and within the part of it where the sink lives."""
    seen, made, alive = (claims[f"correlation.{measure}.{way}"] for way in ("natural", "causal", "graded"))
    parts = [
        f"{_rho(seen)} over {count(seen['n'], 'sink')} as they are ({NAMES[seen['of']]})"
        if seen["mean"] is not None
        else f"not defined over the sinks as they are ({seen['why']})"
    ]
    if made["mean"] is None:
        parts.append("without a sweep")
    else:
        parts.append(f"{_rho(made)} within each sink's sweep, removal included ({NAMES[made['of']]})")
        parts.append(
            f"{_rho(alive)} over the multiples above 0 at which the sink lives ({NAMES[alive['of']]}: "
            f"{alive['sinks']}, of which {alive['flat']} do not move and count as 0)"
            if alive["mean"] is not None
            else f"not defined over the multiples above 0 alone ({alive['why']})"
        )
    return f"Spearman's rho of the MLP's norm and the sink's {measure}: {'; '.join(parts)}."


def caveats(findings: Findings, prompts: Sequence[Prompt], config: NormLawConfig, facts: ModelFacts) -> list[str]:
    """What a reader must know beside the verdict."""
    said = [
        "Attention received falls as T grows, and T differs between prompts: correlations over sinks as they are mix "
        f"them ({lengths(findings.summary['T'])})."
        if len(set(findings.summary["T"])) > 1
        else f"Attention received falls as T grows; every figure here is for {lengths(findings.summary['T'])}.",
        f"Tokens before position {FIRST} are not rescaled"
        + ("; the anchor is, in a sweep of its own." if "anchor" in config.kinds else ", nor is the anchor."),
        f"The forming MLP is looked for in a span's first block and the {config.reach} before it; a sink that "
        "attention or several blocks together formed answers to it only in part.",
    ]
    if config.joint:
        said.append(f"The MLPs of {count(config.joint, 'block')} after the forming one were rescaled with it.")
    else:
        said.append("Where later blocks write a sink again, rescaling one MLP shows little; --set joint=N takes more.")
    counts = findings.table.loc[findings.table["swept"], "group"].value_counts()
    if counts.get("other", 0):
        said.append(
            f"{counts.get('secondary', 0)} of the swept spans are secondary; the other {counts['other']} start with "
            f"the anchor or live apart from it, and were swept in prompts with fewer than {config.few} secondary sinks."
        )
    cut = sum(prompt.truncated for prompt in prompts)
    if cut:
        said.append(
            f"{count(cut, 'prompt')} {'was' if cut == 1 else 'were'} truncated; later sinks were not looked for."
        )
    said.append(f"Position 0 is {facts.position0}; sinks depend on it.")
    return said


def self_test(gap: float | None) -> list[str]:
    """Whether the pass at the natural norm was the unedited one."""
    if gap is None:
        return []
    if gap == 0:
        return ["Self-test: rescaling to the natural norm left every number of every pass as it was, bit for bit."]
    worthless = "; the sweep cannot be trusted" if gap > EXACT else ""
    return [f"Self-test: rescaling to the natural norm changed the pass by up to {gap:.1e}{worthless}."]


def facts_of(check: Verification) -> dict[str, Any]:
    """A verification as plain facts, with what was done."""
    return {**effect_facts(check), "metric": check.metric, "how": check.how}


def _rho(claim: Mapping[str, Any]) -> str:
    if claim["low"] is None:
        return f"{claim['mean']:.2f}"
    return f"{claim['mean']:.2f} ({claim['low']:.2f} to {claim['high']:.2f})"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _range(low: float | None, high: float | None) -> str:
    return f"{low:.2f} to {high:.2f}"
