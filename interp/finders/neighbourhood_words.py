"""What is said and drawn of a sink's neighbourhood. Pure: it only arranges what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.finders.base import ModelFacts, Unit
from interp.finders.neighbourhood_check import CASES
from interp.finders.neighbourhood_curves import curve, mean_over, stacked
from interp.finders.sink_config import SinksConfig
from interp.finders.sink_words import LONGEST_NAME, count, lengths, unchecked
from interp.findings import Chart, Findings, Heatmap, Verification
from interp.text import printable
from probes.base import Prompt

ABSORBED = 1e-4
"""A smaller mean share absorbed is rounding."""


def verdict(findings: Findings, facts: ModelFacts) -> str:
    """Lengths around the sink, then compression inside and outside the anchor's spans, then absorbed mass."""
    claims = findings.summary["claims"]
    name = printable(facts.name, LONGEST_NAME)
    told = findings.summary["prompts"]
    having = sum(one["anchor"] is not None for one in told)
    absorbed = claims["neighbourhood.absorbed"]["mean"]
    learned = f" Learned sink logits take {100 * absorbed:.1f} % of the attention." if absorbed > ABSORBED else ""
    if not having:
        low, high = claims["neighbourhood.anisotropy_least"]["mean"], claims["neighbourhood.anisotropy_most"]["mean"]
        return (
            f"No attention sink was found in {name}, {count(len(told), 'prompt')} of {lengths(findings.summary['T'])}, "
            f"so there is no neighbourhood to describe. The anisotropy of its states is {low:.2f} to {high:.2f}, "
            f"by block.{learned}"
        )
    peak, value = claims["neighbourhood.norm_peak"]["mean"], claims["neighbourhood.value"]["mean"]
    grows = (
        "cannot be compared: no token is ordinary" if peak is None else f"grows to {peak:.0f} times the ordinary length"
    )
    values = (
        ", and its value vectors have nothing to be compared with"
        if value is None
        else f", and its value vectors are {value:.2f} times as long"
    )
    said = [
        f"In {name} the anchor's state {grows}{values} "
        f"({having} of {count(len(told), 'prompt')}, {lengths(findings.summary['T'])}).",
        f"Value vectors are compared in the blocks that read it as a sink.{keys(claims)}",
        f"The strongest direction holds {share(claims['neighbourhood.anisotropy_inside'])} of the power of all states "
        f"inside the anchor's spans and {share(claims['neighbourhood.anisotropy_outside'])} in the other blocks; "
        f"without the sinks' rows {share(claims['neighbourhood.anisotropy_rest'])} inside.",
        f"Matrix entropy is {part(claims['neighbourhood.entropy_inside'])} of its largest possible value inside and "
        f"{part(claims['neighbourhood.entropy_outside'])} outside.",
    ]
    return " ".join(said) + learned


def keys(claims: dict[str, Any]) -> str:
    """One sentence on key lengths; empty where the family hands no keys out."""
    key, rotated = claims["neighbourhood.key"]["mean"], claims["neighbourhood.rotated_key"]["mean"]
    if key is None and rotated is None:
        return ""
    if key is None or rotated is None:
        known = key if rotated is None else rotated
        return f" Its keys are {known:.2f} times as long as ordinary ones."
    return f" Its keys are {key:.2f} times as long as ordinary ones as projected, {rotated:.2f} times as attended to."


def share(claim: dict[str, Any]) -> str:
    """``98 %``, or ``an unknown share``."""
    return "an unknown share" if claim["mean"] is None else f"{100 * claim['mean']:.0f} %"


def part(claim: dict[str, Any]) -> str:
    """``0.12``, or ``unknown``."""
    return "unknown" if claim["mean"] is None else f"{claim['mean']:.2f}"


def caveats(findings: Findings, prompts: Sequence[Prompt], facts: ModelFacts) -> list[str]:
    """What a reader must know beside the verdict."""
    told = findings.summary["prompts"]
    said = [
        "The spectrum is that of all states of a prompt, the sinks' rows included and not centred; a single very long "
        "row is enough to make it look compressed, which is why it is given without those rows too.",
    ]
    without = sum(one["anchor"] is None for one in told)
    if without:
        said.append(f"{count(without, 'prompt')} without any sink count in the compression figures only.")
    for name in findings.summary["missing"]:
        said.append(f"The {name.replace('_', ' ')} vectors of this family ({facts.family}) cannot be read.")
    if len(set(findings.summary["T"])) > 1:
        said.append("Entropy and anisotropy depend on the number of tokens, which differs between the prompts.")
    short = sum(prompt.truncated for prompt in prompts)
    if short:
        said.append(f"{count(short, 'prompt')} {'was' if short == 1 else 'were'} truncated; what follows was not seen.")
    return said


def charts(units: Sequence[Unit], told: Sequence[dict[str, Any]], config: SinksConfig) -> list[Chart]:
    """Lengths, attention and compression by block; charts without a number are left out."""
    if not units:
        return []

    def series(**names: str) -> tuple[Any, ...]:
        made = []
        for key, label in names.items():
            values = stacked([unit.arrays[key] for unit in units])
            if np.isfinite(values).any():
                made.append(curve(label, values, config.seed))
        return tuple(made)

    marks = starts(told)
    drawn = [
        Chart(
            "sink_states",
            "Length of sinks' states",
            "block (its output)",
            "times the ordinary length",
            series(norm_anchor="anchor", norm_others="other sinks, where they are"),
            "Length of a sink's state over the median of the prompt's ordinary ones: the residual peak. Means over "
            "prompts with 95 % bootstrap intervals. Vertical lines: where most anchors' spans begin.",
            marks,
            log_y=True,
            equal=1.0,
        ),
        Chart(
            "sink_vectors",
            "Length of sinks' values and keys",
            "block",
            "times the ordinary length",
            series(
                value_anchor="value, anchor",
                value_others="value, other sinks",
                key_anchor="key as projected, anchor",
                rotated_key_anchor="key as attended to, anchor",
            ),
            "Mean over heads of the length over the median ordinary one. A value curve far below the dashed line is "
            "the value-state drain: the attention a sink draws brings almost nothing along.",
            marks,
            equal=1.0,
        ),
        Chart(
            "sink_attention",
            "Attention to the anchor",
            "block",
            "share",
            series(mass="attention received, mean over heads", rate=f"share of heads above {config.eps:g}"),
            "A block's attention reads what the block before left.",
            marks,
        ),
        Chart(
            "sink_compression",
            "Compression of the states",
            "block (its output)",
            "share",
            series(
                anisotropy="anisotropy",
                anisotropy_rest="anisotropy without the sinks",
                entropy_share="matrix entropy / largest possible",
                cosine="mean cosine between tokens",
            ),
            "High anisotropy and low entropy = compressed. Where the curve without the sinks stays low, the "
            "compression is the sinks' own length.",
            marks,
        ),
    ]
    return [chart for chart in drawn if chart.series]


def starts(told: Sequence[dict[str, Any]]) -> tuple[tuple[float, str], ...]:
    """Blocks at which a span begins in more than half of the prompts that have an anchor."""
    having = [one for one in told if one["spans"]]
    begun = Counter(start for one in having for start, _ in one["spans"])
    return tuple((float(at), "the anchor forms") for at, n in sorted(begun.items()) if 2 * n > len(having))


def heatmaps(units: Sequence[Unit]) -> list[Heatmap]:
    """Absorbed mass by layer and head, for models with learned sinks."""
    if not units:
        return []
    absorbed = mean_over(stacked([unit.arrays["absorbed"] for unit in units]))
    if absorbed.mean() <= ABSORBED:
        return []
    title = "Attention that learned sink logits absorb, mean over queries and prompts"
    return [Heatmap("absorbed", title, absorbed, "layer", "head", "1 - row sum", "layer-head")]


def edits_chart(checks: Sequence[Unit | None], config: SinksConfig) -> Chart | None:
    """Anisotropy by block, untouched and under both edits; None when none was made."""
    made = [unit for unit in checks if unit is not None]
    if not made:
        return None
    labels = ("untouched", "anchor shortened", "ordinary token shortened")
    return Chart(
        "compression_edits",
        "Anisotropy when the anchor's extra length is taken away",
        "block (its output)",
        "anisotropy",
        tuple(
            curve(label, stacked([unit.arrays[f"anisotropy.{case}"] for unit in made]), config.seed)
            for case, label in zip(CASES, labels, strict=True)
        ),
        "The edit is made in the blocks that form the anchor. Where its curve falls away from the untouched one, the "
        "compression came from the anchor.",
    )


def effect_sentence(check: Verification, claims: dict[str, Any]) -> str:
    """What the edits did to anisotropy, entropy and loss."""
    if check.effect is None or check.control is None:
        return unchecked(check)
    entropy, loss = claims["neighbourhood.entropy_change"]["mean"], claims["neighbourhood.loss_change"]["mean"]
    return (
        f"Giving the anchor the ordinary length where it forms changes the anisotropy of the later blocks by "
        f"{check.effect:+.3f} ({check.effect_low:+.3f} to {check.effect_high:+.3f}), shortening an ordinary token by "
        f"{check.control:+.3f} ({check.control_low:+.3f} to {check.control_high:+.3f}): {check.verdict} "
        f"({count(check.prompts, 'prompt')}, 95 % bootstrap intervals). The first edit changes the entropy share by "
        f"{entropy:+.3f} and the next-token loss by {loss:+.3f} nats."
    )
