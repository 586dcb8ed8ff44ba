"""What is said and drawn of sink rates. Pure: it only arranges what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from interp.finders.base import ModelFacts, Unit
from interp.finders.massive_words import nats
from interp.finders.neighbourhood_curves import curve, mean_over, stacked
from interp.finders.sink_rate_measure import KINDS, SinkRateConfig
from interp.finders.sink_words import LONGEST_NAME, count
from interp.findings import Chart, Findings, Heatmap, Verification
from interp.text import printable
from probes.base import Prompt


def verdict(findings: Findings, facts: ModelFacts, config: SinkRateConfig) -> str:
    """Sink_1 by kind of input, what stands at position 0, and the second eps."""
    said = findings.summary["claims"]
    known = [kind for kind in KINDS if said[f"sink_rate.{kind}"]["mean"] is not None]
    rates = ", ".join(f"{said[f'sink_rate.{kind}']['mean']:.2f} % on {KINDS[kind]}" for kind in known)
    beside = ", ".join(f"{said[f'sink_rate.{kind}.beside']['mean']:.2f}" for kind in known)
    name = printable(facts.name, LONGEST_NAME)
    prompts = count(max((said[f"sink_rate.{kind}"]["n"] for kind in known), default=0), "prompt")
    return (
        f"Sink_1 of {name} is {rates} (eps = {config.eps:g}, T = {findings.summary['T']}, {prompts}). "
        f"At eps = {config.beside:g}: {beside} %, in this order. On natural text position 0 is {facts.position0}."
    )


def caveats(findings: Findings, prompts: Sequence[Prompt], facts: ModelFacts) -> list[str]:
    """What a reader must know beside the verdict."""
    length = findings.summary["T"]
    said = [
        f"Sink_1 falls as T grows and depends on what stands at position 0; every figure is for T = {length}, the "
        f"first {length} tokens of each prompt.",
        "Random and repeated inputs are drawn anew for each prompt, from ordinary tokens of the vocabulary.",
    ]
    left_out = sum(told["loss"] is None for told in findings.summary["prompts"])
    if left_out:
        said.append(f"{count(left_out, 'prompt')} shorter than {length} tokens did not count as natural text.")
    if findings.summary["prefix"]:
        said.append(
            "This model's texts begin with BOS. The paper's repeated input has none: all its positions look alike to a "
            "model with relative positions. After BOS the first position differs again."
        )
    if facts.n_layers * facts.n_heads < 100:
        said.append(f"The model has {facts.n_layers * facts.n_heads} heads, so the share moves in steps.")
    short = sum(prompt.truncated for prompt in prompts)
    if short:
        said.append(f"{count(short, 'prompt')} {'was' if short == 1 else 'were'} truncated when read.")
    return said


def charts(units: Sequence[Unit], config: SinkRateConfig) -> list[Chart]:
    """Share of heads above eps and mean mass, by layer and kind of input."""
    drawn = []
    for name, title, label in (
        ("sink_rate", "Sink_1 by layer", f"heads with alpha above {config.eps:g}, %"),
        ("sink_mass", "Attention to position 0 by layer", "alpha, mean over heads"),
    ):
        series = []
        for kind, words in KINDS.items():
            alphas = [unit.arrays[f"alpha.{kind}"] for unit in units if f"alpha.{kind}" in unit.arrays]
            if alphas:
                values = stacked(alphas)
                by_layer = 100 * (values > config.eps).mean(axis=2) if name == "sink_rate" else values.mean(axis=2)
                series.append(curve(words, by_layer, config.seed))
        if series:
            caption = "Means over prompts with 95 % bootstrap intervals, one curve a kind of input."
            drawn.append(Chart(name, title, "layer", label, tuple(series), caption))
    return drawn


def heatmaps(units: Sequence[Unit]) -> list[Heatmap]:
    """Mean alpha at position 0 by layer and head, for each kind of input."""
    maps = []
    for kind, words in KINDS.items():
        alphas = [unit.arrays[f"alpha.{kind}"] for unit in units if f"alpha.{kind}" in unit.arrays]
        if alphas:
            title = f"Attention to position 0: {words}"
            values = mean_over(stacked(alphas))
            maps.append(Heatmap(f"alpha.{kind}", title, values, "layer", "head", "alpha at position 0", "layer-head"))
    return maps


def effect_sentence(check: Verification) -> str:
    """What cutting position 0 did, beside its control."""
    if check.effect is None or check.control is None:
        return "There was nothing to verify."
    return (
        f"Cutting attention to position 0 where some head gives it more than eps changes the next-token loss by "
        f"{nats(check.effect, check.effect_low, check.effect_high)}, cutting an ordinary position by "
        f"{nats(check.control, check.control_low, check.control_high)}: {check.verdict} "
        f"({count(check.prompts, 'prompt')}, 95 % bootstrap intervals)."
    )
