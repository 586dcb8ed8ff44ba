"""What the circuit finder says: verdict, caveats, how it was checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interp.ablation.choose import control_layers
from interp.circuits.config import CircuitConfig
from interp.finders.sink_words import count
from interp.findings import Findings
from interp.heads.words import joined, listed
from interp.verify import MIN_PROMPTS
from probes.base import Prompt

METRIC = "logit difference, answer less the mean of the wrong tokens"
NO_CONTROL = "The model has too few other heads for a random set to compare with."


def figure(told: Mapping[str, Any], digits: int = 2, percent: bool = False) -> str:
    """``3.56 (3.40 to 3.71)``; without an interval the figure alone."""

    def spelled(value: float) -> str:
        return f"{value:.0%}" if percent else f"{value:.{digits}f}"

    if told.get("mean") is None:
        return "not measured"
    ends = "" if told.get("low") is None else f" ({spelled(told['low'])} to {spelled(told['high'])})"
    return spelled(told["mean"]) + ends


def found(findings: Findings) -> str:
    """What was found, before the check."""
    told = findings.summary
    did, name = told["behaviour"], told["model"]
    able = "does {}" if did["can"] else "does {} in part" if did["partly"] else "does not do {}"
    said = (
        f"{name} {able.format(told['task'])}: logit difference {figure(did['difference'])}, the answer above every "
        f"wrong token in {did['accuracy']['mean']:.0%} of {count(did['prompts'], 'prompt')} "
        f"(chance {did['chance']:.0%})."
    )
    if not told["circuit"]:
        return f"{said} No head was found: {told['stages'][0]['why'] or 'none has an effect'}."
    classes = "; ".join(f"{kind} {listed(heads)}" for kind, heads in told["classes"].items())
    return f"{said} Its circuit as found has {len(told['circuit'])} of {told['heads']} heads: {classes}.{alone(told)}"


def alone(told: Mapping[str, Any]) -> str:
    """How the circuit does without all other heads."""
    evaluation, config = told["evaluation"], told["settings"]
    faith = evaluation["faithfulness"].get(config["knockout"])
    if not faith:
        return ""
    random = faith["random"]
    against = f"; random circuits of as many heads {figure(random['share'], percent=True)}" if random else ""
    return (
        f" With every other head replaced ({config['knockout']}) it keeps "
        f"{figure(faith['share'], percent=True)} of what all heads together add to the logit difference{against}."
    )


def how(findings: Findings, config: CircuitConfig) -> str:
    """What was intervened on, and what against."""
    if not findings.summary["supporting"]:
        return "No head was found that supports the answer, so there is nothing to intervene on."
    draws = "1 draw" if config.controls == 1 else f"mean of {config.controls} draws"
    return (
        f"On every held-out prompt the outputs of the {which(findings)} that support the answer come from the "
        f"corrupted twin, at all positions; and apart, those of as many {others(findings)} ({draws}). Verified means "
        "that the change of the logit difference is below 0, and below that with the random heads, both by their whole "
        "intervals."
    )


def which(findings: Findings) -> str:
    """How many of its heads support the answer."""
    told = findings.summary
    return f"{len(told['supporting'])} of {count(len(told['circuit']), 'head')}"


def others(findings: Findings) -> str:
    """What the random heads are."""
    heads = [(int(layer), int(head)) for layer, head in findings.summary["supporting"]]
    layers, per_layer = findings.summary["shape"]
    same, elsewhere = control_layers(heads, (layers, per_layer))
    if not elsewhere:
        return "random heads outside it of the same layers"
    return f"random heads outside it ({same} of the same layers, {elsewhere} of the nearest others)"


def verdict(findings: Findings) -> str:
    """The whole verdict, the check's figures included."""
    checked = findings.verification
    assert checked is not None
    if checked.effect is None or checked.control is None:
        return f"{findings.verdict} No check: {checked.how}" if checked.verdict == "not run" else findings.verdict
    return (
        f"{findings.verdict} With the {which(findings)} that support the answer taken from the corrupted twin, the "
        "logit difference of "
        f"{count(checked.prompts, 'held-out prompt')} changes by "
        f"{change(checked.effect, checked.effect_low, checked.effect_high)}, with as many {others(findings)} by "
        f"{change(checked.control, checked.control_low, checked.control_high)}: {checked.verdict} (95 % bootstrap "
        "intervals)."
    )


def change(mean: float, low: float | None, high: float | None) -> str:
    """``-2.10 (-2.32 to -1.88)``."""
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})" if low is not None else f"{mean:+.2f}"


def caveats(findings: Findings, prompts: Sequence[Prompt], config: CircuitConfig) -> list[str]:
    """What a reader must know beside the verdict."""
    told, said = findings.summary, []
    did, held_out, circuit = told["behaviour"], told["held_out"], told["circuit"]
    if not did["can"]:
        said.append(
            f"The model is not shown to prefer the answer ({did['why'].rstrip('.')}): the circuit is that of what it "
            "does, right or wrong, and shares of it are noisy."
        )
    elif did["accuracy"]["low"] <= did["chance"]:
        said.append(
            "The model prefers the answer on average, but is right hardly more often than chance "
            f"({did['chance']:.0%})."
        )
    if len(held_out) < MIN_PROMPTS:
        said.append(f"Only {count(len(held_out), 'prompt')} could be held out, too few to judge the circuit by.")
    where = "at all positions" if config.position == "all" else f"at {config.position}"
    said.append(
        f"Effects are shares of what corrupting the whole prompt does, total effects {where}; they tell of what these "
        "twins differ in. A head that does the same for clean and corrupted prompts shows no effect."
    )
    taken = len([head for stage in told["stages"] for head in stage["heads"]])
    if taken:
        said.append(
            f"A stage takes {config.share:.0%} of the heads that can reach it, {config.least} at least, whatever their "
            "effects, so how many there are is a setting; see how often each is found again."
        )
    for stage in told["stages"]:
        if stage["why"]:
            said.append(f"Stage {stage['name']} found nothing: {stage['why']}.")
    again = sum(bool(one) for one in findings.table["held_out_found"].dropna())
    if circuit and held_out:
        said.append(f"{again} of {count(len(circuit), 'head')} are taken again on the held-out prompts.")
    outside = [head for head in told["backups"] if head not in circuit]
    if outside:
        said.append(
            f"{joined([listed(outside)])} {'takes' if len(outside) == 1 else 'take'} over when the movers are taken "
            "away, and no stage found them: they are backup movers outside the circuit."
        )
    if config.freeze_mlps:
        said.append("In the search MLPs were held as in the clean run.")
    cut = sum(prompt.truncated for prompt in prompts)
    if cut:
        said.append(f"{count(cut, 'prompt')} {'was' if cut == 1 else 'were'} truncated.")
    return said
