"""What the ablation finder says: verdict, caveats, and the claims of its summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.ablation.choose import MIN_TRAIN
from interp.ablation.config import AblationConfig
from interp.ablation.measure import CALIBRATION
from interp.ablation.ways import WAYS
from interp.finders.base import ModelFacts
from interp.finders.sink_words import count
from interp.findings import Findings, Verification
from interp.verify import over_prompts
from probes.base import Prompt

NO_CONTROL = "The model has too few other heads in these layers and near them for a random set to compare with."
LISTED = 8


def metric(config: AblationConfig) -> str:
    """Name of the metric, with its unit."""
    return "next-token loss, nats" if config.metric == "loss" else "next-token loss on the probe's target tokens, nats"


def controls(findings: Findings) -> str:
    """``random heads of the same layers``, or where else they had to be drawn."""
    same, others = findings.summary["control_layers"]
    if not others:
        return "random heads of the same layers"
    if not same:
        return "random heads of other layers, the nearest ones (these have none to spare)"
    return f"random heads, {same} of the same layers and {others} of the nearest other ones"


def how(findings: Findings, config: AblationConfig) -> str:
    """What was intervened on, and what against."""
    which = "the named heads" if config.heads else "the heads chosen on the training prompts"
    side = "below" if config.helps else "above"
    draws = "1 draw" if config.controls == 1 else f"mean of {config.controls} draws"
    return (
        f"In every held-out prompt, {WAYS[config.how].told(config)} in {which}, all together; and apart, in as many "
        f"{controls(findings)} ({draws}). Verified means that the change is {side} 0, and {side} "
        "that in the random heads, both by their whole intervals."
    )


def found(findings: Findings, config: AblationConfig, facts: ModelFacts) -> str:
    """The verdict before the check: what was tried on what."""
    told, summary = WAYS[config.how].told(config), findings.summary
    told = told[0].upper() + told[1:]
    what = "head" if config.by == "head" else "layer"
    if config.heads:
        return f"{told} in {listed(summary['selected'])} of {facts.name}."
    if summary["trained_on"] < MIN_TRAIN and len(findings.table):
        return (
            f"{told} was tried on {count(len(findings.table), what)} of {facts.name}; nothing was chosen, since "
            f"{count(summary['trained_on'], 'training prompt')} cannot choose (at least {MIN_TRAIN} are needed)."
        )
    if findings.table.empty:
        return f"{told} changes no {what} of {facts.name} on {CALIBRATION}, so there was none to try on the prompts."
    side = "lowers" if config.helps else "raises"
    chosen, trained = summary["selected"], count(summary["trained_on"], "training prompt")
    tried = f"{told} was tried on {count(len(findings.table), what)} of {facts.name}"
    if config.select is None:
        which = f"{len(chosen)} of them ({listed(chosen)})" if chosen else "none of them"
        chance = f"chance alone would choose about {summary['chance_picks']:.2g}"
        return f"{tried}; by an interval over {trained} it {side} the loss in {which}, where {chance}."
    if not chosen:
        return f"{tried}; on {trained} it {side} the loss in none of them."
    return f"{tried}; on {trained} it {side} the loss most in {listed(chosen)}, chosen by their means alone."


def verdict(findings: Findings, config: AblationConfig) -> str:
    """The whole verdict; the figure in it is that of the held-out prompts."""
    checked, summary = findings.verification, findings.summary
    if not summary["selected"]:
        return f"{findings.verdict} There was nothing to test on the held-out prompts."
    effect = summary["claims"]["held_out_effect"]
    if effect is None:
        return f"{findings.verdict} No prompt was held out to test it on."
    on = "prompt" if config.heads else "held-out prompt"
    what = "this" if len(summary["selected"]) == 1 else "this, in all of them together,"
    said = (
        f"On {count(effect['n'], on)} {what} changes the {metric(config).removesuffix(', nats')} by "
        f"{nats(effect['mean'], effect['low'], effect['high'])}"
    )
    assert checked is not None
    if checked.control is None:
        return f"{findings.verdict} {said}. {checked.how}"
    said += f"; in as many {controls(findings)} by {control(checked)}"
    note = ""
    if checked.verdict == "failed" and apart(checked, config):
        note = f" It differs from the random heads', but is not {'below' if config.helps else 'above'} 0 itself."
    alone = summary["train_effect_of_chosen"]
    shrunk = "" if alone is None else f" The chosen ones alone gave {alone:+.4f} nats each on the training prompts."
    return f"{findings.verdict} {said}: {checked.verdict} (95 % bootstrap intervals).{note}{shrunk}"


def apart(checked: Verification, config: AblationConfig) -> bool:
    """Whether the change differs from the controls' in the direction aimed at."""
    end = checked.difference_high if config.helps else checked.difference_low
    return end is not None and (end < 0 if config.helps else end > 0)


def control(checked: Verification) -> str:
    """The controls' change with its interval."""
    return nats(checked.control or 0.0, checked.control_low, checked.control_high)


def nats(mean: float, low: float | None, high: float | None) -> str:
    """``+0.012 nats (+0.004 to +0.021)``."""
    return f"{mean:+.4f} nats ({low:+.4f} to {high:+.4f})"


def listed(labels: Sequence[str]) -> str:
    """``heads 9.1, 9.6``, cut where there are many."""
    more = len(labels) - LISTED
    return ", ".join(labels[:LISTED]) + (f" and {more} more" if more > 0 else "")


def claims(
    findings: Findings,
    effects: np.ndarray,
    losses: np.ndarray,
    checked: Verification,
    config: AblationConfig,
) -> dict[str, Any]:
    """See the finder's docstring."""
    unit = metric(config)
    out: dict[str, Any] = {}
    for name, values in {"untouched": losses, "held_out_effect": effects}.items():
        if not len(values):
            out[name], out[f"{name}_why"] = None, "no heads were chosen, or no prompt was held out"
            continue
        out[name] = over_prompts(values, config.seed, "", unit=unit)
    for name, prefix in {"random_effect": "control", "difference": "difference"}.items():
        mean = getattr(checked, prefix)
        if mean is None:
            out[name], out[f"{name}_why"] = None, "there was nothing to compare"
            continue
        low, high = getattr(checked, f"{prefix}_low"), getattr(checked, f"{prefix}_high")
        out[name] = {"mean": mean, "low": low, "high": high, "n": checked.prompts, "unit": unit}
    out["train_effect_of_chosen"] = findings.summary["train_effect_of_chosen"]
    return out


def caveats(prompts: Sequence[Prompt], tried: int, config: AblationConfig, facts: ModelFacts) -> list[str]:
    """What a reader must know beside the verdict."""
    said = []
    total = facts.n_layers * (facts.n_heads if config.by == "head" else 1)
    what = "heads" if config.by == "head" else "layers"
    if not config.heads and tried < total:
        said.append(
            f"Only {tried} of {total} {what} were tried: those the edit changes most on {CALIBRATION} (setting "
            "candidates)."
        )
    if not config.heads:
        said.append("Candidates were measured one by one; the figure of the verdict is of the chosen ones together.")
    if config.how == "mean":
        said.append(f"A head's mean is that over the positions of {CALIBRATION}, the first left out.")
    if config.how in ("act", "remove-sinks", "uniform"):
        said.append(
            f"A sink is a key that gets more than {config.threshold:g} of a head's attention on average; the rule, as "
            "published, also takes a prompt's last tokens, which few queries see."
        )
    if config.how == "streaming":
        said.append("The window only hides keys: positions are not counted anew, as StreamingLLM's cache does.")
    distinct = len({prompt.hash for prompt in prompts})
    if distinct < len(prompts):
        said.append(f"{len(prompts)} prompts are {distinct} different token sequences; each of these counts once.")
    cut = sum(prompt.truncated for prompt in prompts)
    if cut:
        said.append(f"{count(cut, 'prompt')} {'was' if cut == 1 else 'were'} truncated.")
    return said
