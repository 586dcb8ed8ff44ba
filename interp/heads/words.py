"""What the heads finder says: verdict, caveats, how it was checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interp.finders.base import ModelFacts
from interp.finders.sink_words import count
from interp.findings import Findings
from interp.heads.config import BY_IMPORTANCE, KINDS, NAMES, TESTED, HeadsConfig
from interp.verify import MIN_PROMPTS
from probes.base import Prompt

METRIC = "next-token loss on the second copy, nats"
WHY = "no head of this class, nothing checked, or too few other heads for a random set"
NO_CONTROL = "The model has too few other heads for a random set to compare with."
LISTED = 6


def found(findings: Findings, facts: ModelFacts) -> str:
    """How many heads of which class, and how retrieval and induction overlap."""
    summary = findings.summary
    total = summary["shape"][0] * summary["shape"][1]
    there = [kind for kind in BY_IMPORTANCE if summary["sets"][kind]]
    parts = [f"{len(summary['sets'][kind])} {NAMES[kind].removesuffix(' head')}" for kind in there]
    which = "; ".join(f"{NAMES[kind].removesuffix(' head')} {listed(summary['sets'][kind])}" for kind in there)
    last = "head" if there and len(summary["sets"][there[-1]]) == 1 else "heads"
    said = (
        f"Of {total} heads of {facts.name}: {joined(parts)} {last}. These are: {which}."
        if parts
        else (f"None of the {total} heads of {facts.name} reaches a threshold of any class.")
    )
    retrieval, induction = (set(map(tuple, summary["sets"][kind])) for kind in ("retrieval", TESTED))
    if not summary["behind"]["retrieval"]:
        return f"{said} Retrieval was not measured."
    if retrieval:
        both = sorted(retrieval & induction)
        sinks = len(retrieval & set(map(tuple, summary["sets"]["sink"])))
        said += overlaps(len(retrieval), both, sinks)
    return said


def overlaps(retrieval: int, both: Sequence[Sequence[int]], sinks: int) -> str:
    """The sentences on what retrieval heads are besides: induction heads, sinking heads."""
    which = f" ({listed(both)})" if both else ""
    if retrieval == 1:
        said = f" The retrieval head is {'an induction head too' if both else 'no induction head'}{which}."
        return said + (" It also reaches the threshold of sinking heads." if sinks else "")
    if len(both) == 1:
        said = f" 1 of the {retrieval} retrieval heads is an induction head too{which}."
    else:
        said = f" {len(both) or 'None'} of the {retrieval} retrieval heads are induction heads too{which}."
    if sinks:
        said += f" {sinks} of them also {be(range(sinks), 'reaches', 'reach')} the threshold of sinking heads."
    return said


def unproved(claims: Mapping[str, Any]) -> list[str]:
    """What the check does not show of the classes that the verdict does not rest on."""
    ran = [kind for kind in KINDS if kind != TESTED and claims[f"change.{kind}"]["mean"] is not None]
    apart = [kind for kind in ran if above(claims[f"difference.{kind}"])]
    rest = [kind for kind in ran if kind not in apart]
    said = []
    if rest:
        said.append(
            f"The verdict is on induction heads alone. The check does not tell {named(rest)} from random heads (the "
            "loss without them is not surely higher), so of these classes the scores are all there is: nothing is "
            "verified."
        )
    if apart:
        said.append(
            f"Without {named(apart)} the loss on the second copy rises more than without random heads: they matter "
            "there, which does not prove that they do what they are called by."
        )
    return said


def above(claim: Mapping[str, Any]) -> bool:
    """Whether its whole interval lies above 0, over enough sequences."""
    return claim["n"] >= MIN_PROMPTS and claim["low"] is not None and claim["low"] > 0


def named(kinds: Sequence[str]) -> str:
    """Classes in the plural."""
    return joined([f"{NAMES[kind]}s" for kind in kinds])


def be(things: Sequence[object], one: str = "is", more: str = "are") -> str:
    """The verb for one thing, or for others."""
    return one if len(things) == 1 else more


def verdict(findings: Findings) -> str:
    """The whole verdict, the check's figures included."""
    checked, claims = findings.verification, findings.summary["claims"]
    assert checked is not None
    if checked.effect is None or checked.control is None:
        return f"{findings.verdict} No check: {checked.how}" if checked.verdict == "not run" else findings.verdict
    first, second = claims["loss.first"], claims["loss.second"]
    return (
        f"{findings.verdict} On fresh random sequences the loss falls from {first['mean']:.2f} nats on the first copy "
        f"to {second['mean']:.2f} on the second; zeroing the induction heads raises it there by "
        f"{nats(checked.effect, checked.effect_low, checked.effect_high)}, as many {others(findings)} by "
        f"{nats(checked.control, checked.control_low, checked.control_high)}: {checked.verdict} (95 % bootstrap "
        "intervals)."
    )


def others(findings: Findings) -> str:
    """What the random heads are."""
    same, elsewhere = control_layers(findings)
    if not elsewhere:
        return "random heads of the same layers"
    return f"random heads ({same} of the same layers, {elsewhere} of the nearest others)"


def control_layers(findings: Findings) -> tuple[int, int]:
    """Of the tested class's random heads: how many stand in its layers, and how many elsewhere."""
    from interp.ablation import choose

    heads = [(int(layer), int(head)) for layer, head in findings.summary["sets"][TESTED]]
    return choose.control_layers(heads, tuple(findings.summary["shape"]))


def how(findings: Findings, config: HeadsConfig) -> str:
    """What was intervened on, and what against."""
    if not findings.summary["sets"][TESTED]:
        return "There is no induction head to take out; the check rests on these."
    draws = "1 draw" if config.controls == 1 else f"mean of {config.controls} draws"
    return (
        "On a fresh random sequence for each prompt, given twice, the output of all induction heads is zeroed; and "
        f"apart, that of as many {others(findings)} ({draws}). Verified means that the change of the loss on the "
        "second copy is above 0, and above that with the random heads, both by their whole intervals."
    )


def caveats(findings: Findings, prompts: Sequence[Prompt], config: HeadsConfig) -> list[str]:
    """What a reader must know beside the verdict."""
    told, said = findings.summary["prompts"], []
    needles = [one for one in told if one["recall"] is not None]
    kept = [one for one in needles if one["recall"] > config.min_recall]
    if not needles:
        said.append("No prompt holds a needle, so there is no retrieval score; --probe needle gives some.")
    elif not kept:
        said.append(
            f"None of {count(len(needles), 'needle prompt')} was answered (recall above {config.min_recall:g}), so "
            "there is no retrieval score."
        )
    else:
        said.append(
            f"Retrieval scores rest on the {len(kept)} of {count(len(needles), 'needle prompt')} that were answered "
            f"({count(findings.summary['behind']['retrieval'], 'needle')})."
        )
    said.append(
        "The scores of previous, duplicate, induction and copy are those on random tokens: a head that does the same "
        "only where the text has meaning is not seen. Classes are cuts through a continuum; the scores are in the "
        "table."
    )
    elsewhere = sum(one["anchor"] != 0 for one in told)
    if elsewhere:
        said.append(f"In {count(elsewhere, 'prompt')} the anchor is not the first position.")
    if findings.table["copy"].isna().all():
        said.append("What a head adds to the logits cannot be told in this model, so there is no copy score.")
    judged = sum(one["checked"] for one in told)
    if judged < len(told):
        said.append(f"{judged} of {count(len(told), 'prompt')} were checked (setting checked; equal prompts once).")
    cut = sum(prompt.truncated for prompt in prompts)
    if cut:
        said.append(f"{count(cut, 'prompt')} {'was' if cut == 1 else 'were'} truncated.")
    return said


def listed(heads: Sequence[Sequence[int]]) -> str:
    """``9.1, 9.6``, cut where there are many."""
    more = len(heads) - LISTED
    return ", ".join(f"{layer}.{head}" for layer, head in heads[:LISTED]) + (f" and {more} more" if more > 0 else "")


def joined(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def nats(mean: float, low: float | None, high: float | None) -> str:
    """``+0.012 nats (+0.004 to +0.021)``."""
    return f"{mean:+.3f} nats ({low:+.3f} to {high:+.3f})"
