"""What the repair finder says: verdict, caveats, and how its check was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interp.finders.base import ModelFacts
from interp.finders.sink_words import count
from interp.findings import Findings, Verification
from interp.repairs.config import ORACLE, TOLD, RepairConfig
from probes.base import Prompt

SOLVED = 0.95
"""A model that is right this often leaves next to nothing to repair."""
SHORT = {
    "oracle": "the oracle edit",
    "inhibit": "inhibiting the candidates that its own heads speak against",
    "point": "pointing at the candidate that its own heads speak for",
    "donor": "attention as in IOI prompts",
    "scale": "scaling",
}


def metric(config: RepairConfig) -> str:
    """Name of the metric."""
    return "top-1 accuracy" if config.metric == "top1" else "accuracy among the candidates"


def listed(heads: Sequence[Sequence[int]]) -> str:
    """``13.3, 11.3``."""
    return ", ".join(f"{layer}.{head}" for layer, head in heads)


def heads_told(heads: Sequence[Sequence[int]]) -> str:
    """``head 13.3``, ``heads 13.3, 11.3``."""
    return f"head{'' if len(heads) == 1 else 's'} {listed(heads)}"


def percent(share: float | None) -> str:
    """``42 %``."""
    return "?" if share is None else f"{100 * share:.0f} %"


def span(figure: Mapping[str, Any]) -> str:
    """``88 % (80 to 95)``."""
    return f"{percent(figure['mean'])} ({100 * figure['low']:.0f} to {100 * figure['high']:.0f})"


def controls(findings: Findings, edit: str) -> str:
    """Which random heads."""
    same, others = findings.summary["control_layers"][edit]
    if not others:
        return "random heads of the same layers"
    if not same:
        return "random heads of the nearest other layers"
    return f"random heads, {same} of the same layers and {others} of the nearest other ones"


def how(findings: Findings, edit: str, config: RepairConfig) -> str:
    """What was intervened on, and what against."""
    heads = findings.summary["edits"][edit]["heads"]
    draws = "1 draw" if config.controls == 1 else f"mean of {config.controls} draws"
    return (
        f"In every held-out prompt, at the last token, {heads_told(heads)} {'has' if len(heads) == 1 else 'have'} "
        f"{TOLD[edit]}; and apart, as many {controls(findings, edit)} ({draws}). Verified means that {metric(config)} "
        "rises, and more than with the random heads, both by their whole intervals."
    )


def nothing(findings: Findings, config: RepairConfig) -> Verification:
    """Where no edit can be judged."""
    return Verification("nothing to verify", metric(config), "No edit that could be judged has any heads.")


def found(findings: Findings, config: RepairConfig, facts: ModelFacts) -> str:
    """The verdict before the check."""
    summary = findings.summary
    if not summary["train"]:
        return f"There are too few prompts to choose an edit of {facts.name} on some and judge it on others."
    chosen = [
        f"{edit} in {heads_told(told['heads'])}" + ("" if told["factor"] is None else f" (times {told['factor']:g})")
        for edit, told in summary["edits"].items()
        if told["heads"]
    ]
    without = [
        edit for edit, told in summary["edits"].items() if not told["heads"] and edit not in summary["undefined"]
    ]
    if not chosen and not without:
        return f"None of the edits ({', '.join(config.edits)}) can be made in these prompts."
    verb = "Named" if config.heads else f"Chosen on {count(len(summary['train']), 'training prompt')} of {facts.name}"
    said = f"{verb}: {'; '.join(chosen)}." if chosen else f"{verb}: no edit of any head brings more prompts right."
    if chosen and without:
        said += f" With {' and '.join(without)} no head brings more training prompts right."
    return said


def verdict(findings: Findings, config: RepairConfig) -> str:
    """The whole verdict; the figures in it are those of the held-out prompts."""
    summary, claims = findings.summary, findings.summary["claims"]
    edit, checked = summary["judged"], findings.verification
    assert checked is not None
    said = ""
    if edit in claims:
        one = claims[edit]
        key, told = config.metric, summary["edits"][edit]
        which = "told the right answer" if edit == ORACLE else "not told the answer"
        times = "" if told["factor"] is None else f" times {told['factor']:g}"
        random = "" if one["random"]["mean"] is None else f", where random heads give {percent(one['random']['mean'])}"
        name = SHORT[edit][0].upper() + SHORT[edit][1:]
        said = (
            f"{name} in {heads_told(told['heads'])}{times}, {which}, takes {metric(config)} on "
            f"{count(one[key]['n'], 'held-out prompt')} from {percent(one[f'{key}_before']['mean'])} to "
            f"{span(one[key])}{random}: {checked.verdict}. It repairs {one['repaired']} and breaks {one['broken']}."
        )
    elif summary["train"]:
        free = [name for name in config.edits if name != ORACLE and name not in summary["undefined"]]
        said = (
            f"No edit that can do without the answer ({', '.join(free)}) brought more training prompts right: "
            "there is none to judge."
            if free
            else findings.verdict
        )
    if ORACLE in claims and edit != ORACLE:
        one, heads = claims[ORACLE], summary["edits"][ORACLE]["heads"]
        said += (
            f" The published oracle edit, which is told the answer and so is an upper bound and no fix, reaches "
            f"{span(one[config.metric])} in {heads_told(heads)}."
        )
    return said or findings.verdict


def caveats(findings: Findings, prompts: Sequence[Prompt], config: RepairConfig) -> list[str]:
    """What a reader must know beside the verdict."""
    summary, said = findings.summary, []
    before = summary["untouched"][config.metric]
    if before >= SOLVED:
        said.append(f"The untouched model is right in {percent(before)} of the prompts: there is little to repair.")
    if ORACLE in summary["edits"]:
        said.append(
            "The oracle edit (Merullo et al. 2023) is told which candidates are wrong: it shows what the heads can do, "
            "as an upper bound, and cannot be deployed."
        )
    for edit, why in summary["undefined"].items():
        said.append(f"{edit} was not tried: {why}.")
    if {"inhibit", "point", "donor"} & set(summary["edits"]):
        say = "spoken for" if summary["spare"] else "spoken against"
        said.append(
            "inhibit, point and donor read where the candidates and the question's object stand from the probe, and "
            f"which candidate is meant from the attention of {heads_told(summary['pointers'])}. That the one pointed "
            f"at is {say} was seen on the training prompts, where it is the answer's in {percent(summary['agree'])}."
        )
    said.append(
        "Edits act at the last token alone. On plain text, which has no candidates, only scale can be applied (there "
        "at every token); the others leave such text as it is."
    )
    if config.origin:
        said.append(f"The heads are those of the {config.origin}.")
    elif config.heads:
        said.append("The heads were named, not chosen; if they were chosen on these prompts, nothing is held out.")
    cut = sum(prompt.truncated for prompt in prompts)
    if cut:
        said.append(f"{count(cut, 'prompt')} {'was' if cut == 1 else 'were'} truncated.")
    return said


def held_out_caveats(findings: Findings) -> list[str]:
    """What the held-out prompts showed of the pointers, and what scaling does to text."""
    summary, said = findings.summary, []
    if summary["pointed"] is not None:
        tells = "is the answer's" if summary["spare"] else "is a wrong answer's"
        share = summary["pointed"] if summary["spare"] else 1 - summary["pointed"]
        said.append(f"On the held-out prompts the slot pointed at {tells} in {percent(share)}.")
    if summary.get("texts_why"):
        said.append(f"What scaling does to plain text was not measured: {summary['texts_why']}.")
    if summary["texts"]:
        change = sum(one["edited"] - one["loss"] for one in summary["texts"]) / len(summary["texts"])
        what = "random-token text" if summary["texts_random"] else "plain text"
        said.append(
            f"Scaling the heads of scale at every token changes the next-token loss on "
            f"{count(len(summary['texts']), what)} by {change:+.4f} nats."
        )
    return said
