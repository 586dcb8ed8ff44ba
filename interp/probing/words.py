"""What is said of probes. Pure: it only arranges what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from interp.finders.base import ModelFacts
from interp.finders.sink_words import LONGEST_NAME, count
from interp.findings import Findings, Verification
from interp.probing.config import ProbeConfig
from interp.text import printable
from interp.verify import MIN_PROMPTS
from probes.base import Prompt


def verdict(findings: Findings, facts: ModelFacts, config: ProbeConfig) -> str:
    """What the best probe reads, beside the baseline and the control."""
    summary = findings.summary
    name, asked = printable(facts.name, LONGEST_NAME), summary["question"]["told"]
    if summary["best"] is None:
        return f"No probe of {name} could be fitted or judged for the question {asked}: {summary['why']}."
    best = findings.table.iloc[0].to_dict()
    by_type = summary["control"] == "token type"
    return sentence(best, f"{name}: {asked}", summary["numbers"], held_out_of(findings), config.margin, by_type)


def held_out_of(findings: Findings) -> int:
    """How many prompts judge."""
    return sum(one["held_out"] for one in findings.summary["prompts"])


def sentence(best: dict[str, Any], subject: str, numbers: bool, held_out: int, margin: float, by_type: bool) -> str:
    """The best row as a sentence; `by_type`: its control task gives labels to token types, which can be remembered."""
    kind = "R squared" if numbers else "accuracy"
    figures = (
        f"held-out {kind} {figure(best['score'], best['score_low'], best['score_high'])}, baseline "
        f"{best['baseline']:.3f}, control task {best['control']:.3f} ({count(held_out, 'held-out prompt')})"
    )
    where = f"{best['site']} (position {best['position']})"
    if not best["gain_low"] > margin:
        return f"{subject}, is not read by a linear probe better than the baseline, best at {where}: {figures}."
    if not by_type:
        return f"{subject}, is read best at {where}: {figures}."
    memory = (
        "more than the probe could remember"
        if best["selectivity_low"] > 0
        else "but not more than the same probe reaches on random labels"
    )
    return f"{subject}, is read best at {where}: {figures}; {memory}."


def figure(mean: float, low: float, high: float) -> str:
    """``0.912 (0.880 to 0.940)``."""
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def caveats(findings: Findings, prompts: Sequence[Prompt], config: ProbeConfig) -> list[str]:
    """What a reader must know beside the verdict."""
    summary, said = findings.summary, []
    held_out = held_out_of(findings)
    if summary["best"] is not None and held_out < MIN_PROMPTS:
        said.append(f"{count(held_out, 'prompt')} held out: intervals over so few say little.")
    if summary["best"] is not None and summary["control"] == "prompt":
        said.append(
            "At the position read nearly all prompts have the same token, so the control task gives random labels to "
            "prompts; nobody can learn these, and selectivity is then the distance from chance."
        )
    if findings.table["validation"].isna().any():
        said.append("Too few training prompts to cross-validate: neither regularisation nor the best row was chosen.")
    lost = int((~findings.table["converged"].astype(bool)).sum())
    if lost:
        said.append(
            f"{count(lost, 'row')} did not converge in {config.iterations} iterations (the column tells which); raise "
            "iterations, or leave the weakest regularisation out of strengths."
        )
    if summary["left_out"] and summary["classes"]:
        said.append(
            f"{count(summary['left_out'], 'example')} of labels too rare among the training prompts were left out."
        )
    if summary["seen"]:
        said.append(
            f"{count(summary['seen'], 'held-out example')} did not judge: a training prompt begins with the same "
            "tokens, so that the states are the same."
        )
    short = sum(prompt.truncated for prompt in prompts)
    if short:
        said.append(f"{count(short, 'prompt')} {'was' if short == 1 else 'were'} truncated; what follows was not seen.")
    return said


def claims(best: dict[str, Any], held_out: int) -> dict[str, Any]:
    """``summary["claims"]``: the best row's figures over held-out prompts."""

    def of(name: str) -> dict[str, Any]:
        figures = {end: best.get(f"{name}_{end}") for end in ("low", "high")}
        return {key: finite(value) for key, value in {"mean": best[name], **figures}.items()} | {"n": held_out}

    return {f"probe.{name}": of(name) for name in ("score", "baseline", "control", "selectivity")}


def finite(value: Any) -> float | None:
    """A number as JSON has it."""
    return None if value is None or not math.isfinite(value) else float(value)


def effect_sentence(findings: Findings, check: Verification) -> str:
    """What the check did, and what it shows."""
    best = findings.summary["best"]
    if check.effect is None or check.control is None:
        if best is not None and not best["found"]:
            return "It reads nothing, so there was nothing to verify."
        return "There was nothing to verify."
    shows = {
        "verified": "the model uses what lies along the probe's directions there",
        "failed": "what the probe reads is there, but nothing shows that the model uses it along these directions",
    }.get(check.verdict, "too few prompts to say whether the model uses it")
    does = {"pairs": "lowers the logit difference", "loss": "raises the next-token loss"}.get(
        best["metric"], "moves the next-token distribution"
    )
    unit = "logits" if best["metric"] == "pairs" else "nats"
    return (
        f"Taking the probe's directions out {does} by {signed(check.effect, check.effect_low, check.effect_high)} "
        f"{unit}, moving the states as far in random directions by "
        f"{signed(check.control, check.control_low, check.control_high)}: {check.verdict}; {shows}."
    )


def signed(mean: float, low: float | None, high: float | None) -> str:
    """``+0.123 (+0.100 to +0.150)``."""
    return f"{mean:+.3g} ({low:+.3g} to {high:+.3g})"
