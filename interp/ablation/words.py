"""What the ablation finder says: verdict, caveats, and the claims of its summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.ablation.choose import MIN_TRAIN
from interp.ablation.config import KNOCKOUT, AblationConfig
from interp.ablation.measure import CALIBRATION
from interp.ablation.outputs import TwinMeans
from interp.ablation.ways import WAYS
from interp.circuits.pairs import KEY
from interp.finders.base import ModelFacts
from interp.finders.sink_words import count
from interp.findings import Findings, Verification
from interp.verify import over_prompts
from probes.base import Prompt

NO_CONTROL = "The model has too few other heads in these layers and near them for a random set to compare with."
LISTED = 8
NOUNS = {"loss": "loss", "targets": "loss", "difference": "logit difference"}
METRICS = {
    "loss": "next-token loss, nats",
    "targets": "next-token loss on the probe's target tokens, nats",
    "difference": "logit difference (answer less the mean of the wrong tokens), logits",
}


def metric(config: AblationConfig) -> str:
    """Name of the metric, with its unit."""
    return METRICS[config.metric]


def unit(config: AblationConfig) -> str:
    """Its unit."""
    return METRICS[config.metric].rpartition(", ")[2]


def what(config: AblationConfig) -> str:
    """Its name without the unit."""
    return METRICS[config.metric].rpartition(", ")[0]


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
    side = "below" if config.lowers else "above"
    draws = "1 draw" if config.controls == 1 else f"mean of {config.controls} draws"
    return (
        f"In every held-out prompt, {WAYS[config.way].told(config)} in {which}, all together; and apart, in as many "
        f"{controls(findings)} ({draws}). Verified means that the change is {side} 0, and {side} "
        "that in the random heads, both by their whole intervals."
    )


def found(findings: Findings, config: AblationConfig, facts: ModelFacts) -> str:
    """The verdict before the check: what was tried on what."""
    told, summary = WAYS[config.way].told(config), findings.summary
    told = told[0].upper() + told[1:]
    kind = "head" if config.by == "head" else "layer"
    if config.heads:
        whose = f": the {config.origin}" if config.origin else ""
        return f"{told} in {listed(summary['selected'])} of {facts.name}{whose}."
    if summary["trained_on"] < MIN_TRAIN and len(findings.table):
        return (
            f"{told} was tried on {count(len(findings.table), kind)} of {facts.name}; nothing was chosen, since "
            f"{count(summary['trained_on'], 'training prompt')} cannot choose (at least {MIN_TRAIN} are needed)."
        )
    if findings.table.empty:
        return f"{told} changes no {kind} of {facts.name} on {CALIBRATION}, so there was none to try on the prompts."
    side, of_metric = "lowers" if config.lowers else "raises", NOUNS[config.metric]
    chosen, trained = summary["selected"], count(summary["trained_on"], "training prompt")
    tried = f"{told} was tried on {count(len(findings.table), kind)} of {facts.name}"
    if config.select is None:
        which = f"{len(chosen)} of them ({listed(chosen)})" if chosen else "none of them"
        chance = f"chance alone would choose about {summary['chance_picks']:.2g}"
        return f"{tried}; by an interval over {trained} it {side} the {of_metric} in {which}, where {chance}."
    if not chosen:
        return f"{tried}; on {trained} it {side} the {of_metric} in none of them."
    return f"{tried}; on {trained} it {side} the {of_metric} most in {listed(chosen)}, chosen by their means alone."


def verdict(findings: Findings, config: AblationConfig) -> str:
    """The whole verdict; the figure in it is that of the held-out prompts."""
    checked, summary = findings.verification, findings.summary
    if not summary["selected"]:
        return f"{findings.verdict} There was nothing to test on the held-out prompts."
    effect = summary["claims"]["held_out_effect"]
    if effect is None:
        return f"{findings.verdict} No prompt was held out to test it on."
    on = "prompt" if config.heads else "held-out prompt"
    this = "this" if len(summary["selected"]) == 1 else "this, in all of them together,"
    said = (
        f"On {count(effect['n'], on)} {this} changes the {what(config)} by "
        f"{amount(effect['mean'], effect['low'], effect['high'], config)}"
    )
    assert checked is not None
    if checked.control is None:
        return f"{findings.verdict} {said}. {checked.how}"
    said += f"; in as many {controls(findings)} by {control(checked, config)}"
    note = ""
    if checked.verdict == "failed" and apart(checked, config):
        note = f" It differs from the random heads', but is not {'below' if config.lowers else 'above'} 0 itself."
    alone = summary["train_effect_of_chosen"]
    shrunk = (
        ""
        if alone is None
        else f" The chosen ones alone gave {alone:+.4f} {unit(config)} each on the training prompts."
    )
    kept = right(summary["claims"].get("accuracy"))
    return f"{findings.verdict} {said}: {checked.verdict} (95 % bootstrap intervals).{note}{shrunk}{kept}"


def apart(checked: Verification, config: AblationConfig) -> bool:
    """Whether the change differs from the controls' in the direction aimed at."""
    end = checked.difference_high if config.lowers else checked.difference_low
    return end is not None and (end < 0 if config.lowers else end > 0)


def control(checked: Verification, config: AblationConfig) -> str:
    """The controls' change with its interval."""
    return amount(checked.control or 0.0, checked.control_low, checked.control_high, config)


def amount(mean: float, low: float | None, high: float | None, config: AblationConfig) -> str:
    """``+0.012 nats (+0.004 to +0.021)``."""
    return f"{mean:+.4f} {unit(config)} ({low:+.4f} to {high:+.4f})"


def accuracy(rights: Sequence[Any], config: AblationConfig) -> dict[str, Any]:
    """The claim ``accuracy`` of pairs, from the checks' ``right``; empty of other prompts."""
    told = [one for one in rights if one is not None]
    if not told:
        return {}
    names = ("untouched", "edited", "random")
    columns = ([one[at] for one in told if one[at] is not None] for at in range(3))
    return {
        "accuracy": {
            name: over_prompts(column, config.seed, "the model has too few other heads")
            for name, column in zip(names, columns, strict=True)
        }
    }


def right(told: dict[str, Any] | None) -> str:
    """`` The answer is above ...``, or nothing."""
    if not told:
        return ""
    shares = {name: f"{100 * one['mean']:.0f} %" for name, one in told.items() if one["mean"] is not None}
    beside = f" (under that of random heads {shares['random']})" if "random" in shares else ""
    return (
        f" The answer's logit is above all wrong ones in {shares['untouched']} of prompts untouched, in "
        f"{shares['edited']} under the edit{beside}."
    )


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
    named = metric(config)
    out: dict[str, Any] = {}
    for name, values in {"untouched": losses, "held_out_effect": effects}.items():
        if not len(values):
            out[name], out[f"{name}_why"] = None, "no heads were chosen, or no prompt was held out"
            continue
        out[name] = over_prompts(values, config.seed, "", unit=named)
    for name, prefix in {"random_effect": "control", "difference": "difference"}.items():
        mean = getattr(checked, prefix)
        if mean is None:
            out[name], out[f"{name}_why"] = None, "there was nothing to compare"
            continue
        low, high = getattr(checked, f"{prefix}_low"), getattr(checked, f"{prefix}_high")
        out[name] = {"mean": mean, "low": low, "high": high, "n": checked.prompts, "unit": named}
    out["train_effect_of_chosen"] = findings.summary["train_effect_of_chosen"]
    return out


def caveats(prompts: Sequence[Prompt], tried: int, config: AblationConfig, facts: ModelFacts) -> list[str]:
    """What a reader must know beside the verdict."""
    said = []
    pairs = all(KEY in prompt.extra for prompt in prompts)
    means = TwinMeans(prompts).told() if pairs else f"over the positions of {CALIBRATION}, the first left out"
    total = facts.n_layers * (facts.n_heads if config.by == "head" else 1)
    kind = "heads" if config.by == "head" else "layers"
    if not config.heads and tried < total:
        said.append(
            f"Only {tried} of {total} {kind} were tried: those the edit changes most on {CALIBRATION} (setting "
            "candidates)."
        )
    if not config.heads:
        said.append("Candidates were measured one by one; the figure of the verdict is of the chosen ones together.")
    if config.way == "mean":
        said.append(f"A head's mean is that {means}.")
    if config.way == KNOCKOUT:
        said.append(
            "What a knockout leaves of a row is scaled up to the row's former sum; a row with nothing left stays as it "
            "was."
            if config.renormalise
            else "What a knockout leaves of a row is not scaled up: the heads write less."
        )
    if config.way in ("act", "remove-sinks", "uniform"):
        said.append(
            f"A sink is a key that gets more than {config.threshold:g} of a head's attention on average; the rule, as "
            "published, also takes a prompt's last tokens, which few queries see."
        )
    if config.way == "streaming":
        said.append("The window only hides keys: positions are not counted anew, as StreamingLLM's cache does.")
    distinct = len({prompt.hash for prompt in prompts})
    if distinct < len(prompts):
        said.append(f"{len(prompts)} prompts are {distinct} different token sequences; each of these counts once.")
    cut = sum(prompt.truncated for prompt in prompts)
    if cut:
        said.append(f"{count(cut, 'prompt')} {'was' if cut == 1 else 'were'} truncated.")
    return said
