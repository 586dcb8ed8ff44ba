"""The sentences about sinks: verdict, caveats, what the check says. Numbers come from the findings, nothing is
measured here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.finders import sink_rules
from interp.finders.base import ModelFacts
from interp.finders.sink_config import Measured, SinksConfig
from interp.findings import Findings, Verification
from interp.text import printable
from probes.base import Prompt

# What other tokens of a kind do, as said of one and of several: (relative rule, released rule).
KINDS = {
    "primary": (("lives and dies with it", "live and die with it"), ("lives long", "live long")),
    "secondary": (("starts later", "start later"), ("lives shorter", "live shorter")),
    "transient": (("has another span", "have another span"), ("is noise", "are noise")),
}
LONGEST_NAME = 36  # of a model, in the verdict: its first sentence is a heading


def verdict(findings: Findings, facts: ModelFacts) -> str:
    """Where the anchor is, from which block to which, how much it draws, in how many prompts of what length; then what
    stands at position 0, Sink_k, and what others there are."""
    prompts = findings.summary["prompts"]
    having = [told for told in prompts if told["anchor"] is not None]
    name = printable(facts.name, LONGEST_NAME)
    if not having:
        return (
            f"No attention sink was found in {name}, {count(len(prompts), 'prompt')} of "
            f"{lengths(findings.summary['T'])}. Position 0 is {facts.position0}."
        )
    anchors = Counter(told["anchor"] for told in having)
    position, times = anchors.most_common(1)[0]
    spans = Counter((start, life) for told in having for start, life in told["anchor_spans"])
    usual = sorted(span for span, n in spans.items() if 2 * n > len(having))
    lives = " and ".join(f"{start}-{start + life - 1}" for start, life in usual)
    rate = findings.summary["sink_rate"]["anchor"]
    said = [
        f"{name} keeps a primary sink at position {position} in {times} of {count(len(prompts), 'prompt')} "
        f"(T = {_range(findings.summary['T'])}), {f'blocks {lives}, ' if usual else ''}"
        f"with {_percent(rate['mean_mass'])} of the attention."
    ]
    if times < len(having):
        said.append(f"In {count(len(having) - times, 'prompt')} it stands at another position.")
    said += [
        f"Position 0 is {facts.position0}.",
        f"Attention is the mean over all layers and heads, of which {rate['percent']:.1f} % give the sink more than "
        f"{findings.summary['eps']:g} (Sink_k).",
    ]
    if usual:
        said.append("Blocks are those whose output is its state in most of these prompts.")
    return " ".join([*said, others(findings)])


def others(findings: Findings) -> str:
    """One sentence on the sinks beside the anchor: how many tokens of each kind, where they start, what they draw."""
    prompts = findings.summary["prompts"]
    anchors = {told["name"]: told["anchor"] for told in prompts}
    table = findings.table
    apart = [anchors[name] != position for name, position in zip(table["prompt"], table["position"], strict=True)]
    rest = table[np.array(apart, bool)]
    if len(rest) == 0:
        return "No other token is a sink."
    parts, none = [], []
    for kind, ways in KINDS.items():
        rows = rest[rest["kind"] == kind]
        if len(rows) == 0:
            none.append(kind)
            continue
        tokens = len(set(zip(rows["prompt"], rows["position"], strict=True)))  # one may have several spans
        does = ways[findings.summary["rule"] != "relative"][tokens > 1]
        first, last = int(rows["start_layer"].min()), int(rows["start_layer"].max())
        at = f"block {first}" if first == last else f"blocks {first} to {last}"
        number = str(tokens) if parts else count(tokens, "other token")
        share = rows["received"].mean()  # missing where no block reads them
        drawing = f", drawing {_percent(share)}" if np.isfinite(share) else ""
        parts.append(
            f"{number} {does} ({kind}; in {count(len(set(rows['prompt'])), 'prompt')}, starting at {at}{drawing})"
        )
    parts += [f"none is {' or '.join(none)}"] if none else []
    return f"{', '.join(parts)}."


def caveats(
    findings: Findings, prompts: Sequence[Prompt], taken: Sequence[Measured], config: SinksConfig, facts: ModelFacts
) -> list[str]:
    """What a reader must know beside the verdict."""
    said = [f"Attention received falls as T grows; every figure here is for {lengths(findings.summary['T'])}."]
    if len(set(findings.summary["T"])) > 1:
        said.append("T differs between prompts, so their figures of attention received do not compare one to one.")
    if facts.n_layers < 2:
        said.append("The model has a single block: none reads the state another one left, so no sink can be told.")
    if config.rule == "relative":
        said.extend(_relative(findings, taken, config))
    else:
        said.append(
            "Rule wong2025 looks at hidden states only: what it calls a sink need not draw attention (column received)."
        )
        if facts.n_layers <= 20:
            said.append(
                f"By rule wong2025 a model of {facts.n_layers} layers (20 or fewer) can have no secondary sink."
            )
    crowded = sum(bool((one.cosine > config.cosine).mean(axis=1).max() > config.anisotropic) for one in taken)
    if crowded:
        extra = "; there the cosine of centred states had to pass as well" if config.rule == "relative" else ""
        said.append(
            f"The residual stream is anisotropic in {count(crowded, 'prompt')}: in some block more than "
            f"{config.anisotropic:.0%} of the tokens are within cosine {config.cosine:g} of the anchor's state{extra}."
        )
    cut = sum(prompt.truncated for prompt in prompts)
    if cut:
        said.append(
            f"{count(cut, 'prompt')} {'was' if cut == 1 else 'were'} truncated; sinks further on were not looked for."
        )
    if facts.chat:
        said.append("Prompts went through the chat template, so the first tokens are the template's.")
    said.append("Sinks depend on what stands at position 0, which --bos and --chat decide.")
    if len(prompts) > config.draw:
        said.append(f"Heatmaps and token strips are drawn for the first {config.draw} of {len(prompts)} prompts.")
    if len(prompts) > config.keep_arrays:
        said.append(f"Arrays are kept for the first {config.keep_arrays} of {len(prompts)} prompts.")
    return said


def _relative(findings: Findings, taken: Sequence[Measured], config: SinksConfig) -> list[str]:
    said = []
    left_out = sorted({one.received.shape[2] - sink_rules.ranked(one.received.shape[2], config) for one in taken})
    tail = f"{left_out[0]}" if len(left_out) == 1 else f"{left_out[0]} to {left_out[-1]}"
    said.append(f"The last {tail} tokens of a prompt are not ranked: too few queries follow them.")
    if findings.summary["bridged"]:
        spans = count(findings.summary["bridged"], "span")
        said.append(f"Gaps of at most {count(config.gap, 'layer')} were bridged in {spans}.")
    without = [told["name"] for told in findings.summary["prompts"] if told["anchor"] is None]
    if without and len(without) < len(taken):
        listed = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
        said.append(f"{count(len(without), 'prompt')} without any sink: {listed}.")
    return said


def effect_sentences(check: Verification, secondary: Verification) -> str:
    """The causal check in a sentence, and another on the secondary sinks alone where there are any."""
    if check.effect is None or secondary.effect is None:
        return effect_sentence(check, "them")
    return f"{effect_sentence(check, 'all of them')} {effect_sentence(secondary, 'the secondary sinks alone')}"


def unchecked(check: Verification) -> str:
    """Why there is no effect to tell of."""
    return (
        f"The causal check did not run: {check.how}" if check.verdict == "not run" else "There was nothing to verify."
    )


def effect_sentence(check: Verification, what: str) -> str:
    """What cutting did, beside its controls."""
    if check.effect is None or check.control is None:
        return unchecked(check)
    found = _nats(check.effect, check.effect_low, check.effect_high)
    control = _nats(check.control, check.control_low, check.control_high)
    return (
        f"Cutting attention to {what} changes the next-token loss by {found}, cutting as many ordinary positions by "
        f"{control}: {check.verdict} ({count(check.prompts, 'prompt')}, 95 % bootstrap intervals)."
    )


def effect_facts(check: Verification) -> dict[str, Any]:
    """A verification as plain facts for the summary, without its prompts."""
    names = ("effect", "effect_low", "effect_high", "control", "control_low", "control_high")
    difference = ("difference", "difference_low", "difference_high")
    return {
        "verdict": check.verdict,
        "prompts": check.prompts,
        **{name: getattr(check, name) for name in (*names, *difference)},
    }


def lengths(sizes: Sequence[int]) -> str:
    """``T = 512 tokens`` or ``T = 105 to 512 tokens``."""
    return f"T = {_range(sizes)} tokens"


def _range(sizes: Sequence[int]) -> str:
    low, high = (min(sizes), max(sizes)) if sizes else (0, 0)
    return f"{low}" if low == high else f"{low} to {high}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def count(number: int, noun: str) -> str:
    """``1 prompt``, ``3 prompts``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _nats(mean: float, low: float | None, high: float | None) -> str:
    return f"{mean:+.3f} nats ({low:+.3f} to {high:+.3f})"
