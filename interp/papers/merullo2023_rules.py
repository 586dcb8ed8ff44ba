"""Rules of the claims on circuits that two tasks share (Merullo et al. 2023): what each measures and when it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from interp.circuits.config import Head
from interp.findings import Findings
from interp.papers.circuit_figures import (
    Judge,
    Kind,
    able,
    against_list,
    as_heads,
    chance,
    counted,
    effect,
    judged,
    names_of,
    over_held_out,
    reference,
    shared,
    size,
)
from interp.papers.claims import Evidence, Outcome, beyond, by_interval, missing
from interp.repairs.config import ORACLE
from interp.verify import MIN_PROMPTS

IOI, OBJECTS, REPAIR = "ioi", "colored-objects", "repair"
HALF = (0.25, 0.75)
"""What counts as doing a task about half of the time."""
SOLVED = 0.95
"""Accuracy from which on there is nothing to repair."""
MOVER = Kind("mover head", ("mover",), ("logits",), written=True)
INDUCTION = Kind("induction head", ("induction",))
DUPLICATE = Kind("duplicate-token head", ("duplicate token",))
GATHERER = Kind("content gatherer", ("content gatherer",), ("q",))
INHIBITION = Kind("inhibition head", ("inhibition",), ("q",))
NEGATIVE = Kind("negative mover", ("negative mover",))
CLASSES = {
    "mover": "mover",
    "induction": "induction",
    "duplicate_token": "duplicate token",
    "inhibition": "inhibition",
    "negative_mover": "negative mover",
    "content_gatherer": "content gatherer",
}
"""The paper's classes, by the names in the reference, and the finder's."""


def published() -> dict[str, Any]:
    """The figures of the paper."""
    return reference("merullo2023")


def half(evidence: Evidence) -> Outcome:
    """Share of prompts in which the answer is the likeliest token of all, with the choice among the named colours."""
    told = evidence.claims(OBJECTS)
    low, high = HALF
    outcome = by_interval(told.get("top1"), above=low, what="answer above all tokens")
    top = (told.get("top1") or {}).get("high")
    if outcome.verdict == "holds" and top is not None and top >= high:
        outcome = replace(outcome, verdict="does not hold", why=f"its interval does not lie below {high:g}")
    choice = told.get("accuracy") or {}
    if choice.get("mean") is None:
        return outcome
    base = evidence.findings[OBJECTS].summary["behaviour"]["chance"]
    return replace(
        outcome,
        measured=f"{outcome.measured}; above the other colours named {choice['mean']:.1%} [{choice['low']:.1%}, "
        f"{choice['high']:.1%}], chance {base:.0%}",
    )


def reuse(evidence: Evidence) -> Outcome:
    """Heads that both circuits have, against random circuits of their sizes and layers."""
    for run in (IOI, OBJECTS):
        if (why := able(evidence, run)) is not None:
            return why
    circuits = [as_heads(evidence.findings[run].summary["circuit"]) for run in (IOI, OBJECTS)]
    if not all(circuits):
        return missing("no head was found for one of the tasks")
    common = shared(evidence.findings[IOI], *circuits)
    told = (
        f"{len(common.both)} heads shared by {len(circuits[0])} of {IOI} and {len(circuits[1])} of {OBJECTS}: "
        f"{common.of_larger:.0%} of the larger, {common.jaccard:.0%} of those in either; {chance(common)}; shared: "
        f"{names_of(common.both)}"
    )
    more = len(common.both) > common.chance.high
    return beyond(more, told, "no more than random circuits share", {"value": common.of_larger})


def in_both(kind: Kind) -> Judge:
    """The judge of a claim that the same heads of a kind do their work in both tasks."""

    def judge(evidence: Evidence) -> Outcome:
        for run in (IOI, OBJECTS):
            if (why := able(evidence, run)) is not None:
                return why
        found = {run: kind.heads(evidence.findings[run]) for run in (IOI, OBJECTS)}
        told = "; ".join(f"{run}: {counted(evidence.findings[run], heads)}" for run, heads in found.items())
        both = sorted(set(found[IOI]) & set(found[OBJECTS]))
        if not all(found.values()):
            empty = next(run for run, heads in found.items() if not heads)
            outcome = judged(evidence, empty, kind)  # says why there is none
            return replace(outcome, measured=told, why=f"{empty}: {outcome.why}")
        if not both:
            return Outcome("does not hold", told, "no head is one in both tasks")
        outcomes = {run: judged(evidence, run, kind, both) for run in (IOI, OBJECTS)}
        worst = next((one for one in outcomes.values() if one.verdict != "holds"), outcomes[OBJECTS])
        said = "; ".join(f"{run}: {one.measured}" for run, one in outcomes.items())
        return replace(worst, measured=f"{told}; in both {names_of(both)}; {said}")

    return judge


def query_effect(found: Findings, heads: list[Head]) -> dict[str, Any]:
    """Effect of heads on the queries at the last token, summed, on held-out prompts, whether or not they were found
    there: a share of the gap. Heads that reach no receiver have none."""
    number = next((at for at, one in enumerate(found.summary["stages"]) if one["side"] == "q"), None)
    values = None if number is None else found.arrays.get(f"stage.{number}")
    if values is None:
        why = "" if number is None else found.summary["stages"][number].get("why") or ""
        return over_held_out(found, None, f"no effect on queries was measured{f': {why}' if why else ''}")
    return over_held_out(found, np.nansum([values[head] for head in heads], 0), "no such head")


def uninhibited(evidence: Evidence) -> Outcome:
    """What IOI's inhibition heads do to the movers' queries in Colored Objects, against what they do in IOI."""
    for run in (IOI, OBJECTS):
        if (why := able(evidence, run)) is not None:
            return why
    heads = INHIBITION.heads(evidence.findings[IOI])
    if not heads:
        return missing(f"{INHIBITION.none(evidence.findings[IOI])} in IOI, that could be missing here")
    own = by_interval(effect(evidence.findings[IOI], heads), above=0.0, what=f"effect in {IOI}, share of the gap,")
    if own.verdict != "holds" or own.low is None:
        return missing(f"they are not confirmed in {IOI} itself: {own.why}", own.measured)
    found = evidence.findings[OBJECTS]
    outcome = by_interval(query_effect(found, heads), below=own.low, what=f"effect in {OBJECTS}")
    kinds = {head: name for name, members in found.summary["classes"].items() for head in as_heads(members)}
    there = ", ".join(f"{names_of([head])} {kinds.get(head, 'outside')}" for head in heads)
    more = names_of(INHIBITION.heads(found))
    measured = f"{own.measured}; {outcome.measured}; there they are: {there}; inhibition heads of its own: {more}"
    return replace(outcome, measured=measured)


def edited(evidence: Evidence, edit: str | None) -> Mapping[str, Any] | Outcome:
    """An edit's held-out figures (``summary["claims"]`` of the repair run); or why there are none."""
    told = evidence.findings[REPAIR].summary
    if edit is None:
        return Outcome("does not hold", "no edit without the label was kept", "none brings more training prompts right")
    if edit in told["undefined"]:
        return missing(told["undefined"][edit])
    if edit not in told["edits"]:
        return missing(f"the edit {edit} was not tried")
    if not told["edits"][edit]["heads"]:
        why = "no head, edited so, brings more training prompts right"
        return Outcome("does not hold", "no head was kept", why)
    figures = evidence.claims(REPAIR).get(edit)
    if figures is None:
        return missing("no prompt was held out")
    before = figures[f"{told['settings']['metric']}_before"]["mean"]
    if before >= SOLVED:
        return missing("the model does the task untouched: nothing is to be repaired", f"before {before:.1%}")
    return figures


def repaired(evidence: Evidence, edit: str | None) -> Outcome:
    """Accuracy on held-out prompts with an edit, less that without, and against the edit in random heads."""
    figures = edited(evidence, edit)
    if isinstance(figures, Outcome):
        return figures
    metric = evidence.findings[REPAIR].summary["settings"]["metric"]
    outcome = by_interval(figures["change"], above=0.0, what="change of accuracy on held-out prompts")
    if outcome.verdict == "holds" and figures["verdict"] == "failed":
        outcome = replace(outcome, verdict="does not hold", why="random heads, edited so, do as much")
    elif outcome.verdict == "holds" and figures["verdict"] != "verified":
        why = f"against random heads: {figures['verdict']}"
        outcome = replace(outcome, verdict="cannot be tested here", why=why)
    random = (figures["random"] or {}).get("mean")
    by = {
        name: f"{figures[f'{name}_before']['mean']:.1%} -> {figures[name]['mean']:.1%}" for name in ("top1", "choice")
    }
    said = (
        f"{edit} in {names_of(figures['heads'])}: above all tokens {by['top1']}, above the other colours "
        f"{by['choice']}; {figures['repaired']} repaired, {figures['broken']} new mistakes"
    )
    said += "" if random is None else f"; in random heads {random:.1%} ({metric})"
    return replace(outcome, measured=f"{said}; {outcome.measured}")


def oracle(evidence: Evidence) -> Outcome:
    """The published edit, in heads chosen on the training half."""
    return repaired(evidence, ORACLE)


def label_free(evidence: Evidence) -> Outcome:
    """The edit without the label that did best on the training half."""
    told = evidence.findings[REPAIR].summary
    chosen = told["judged"] if told["judged"] != ORACLE else None
    if chosen is None and not any(edit != ORACLE for edit in told["edits"]):
        return missing("no edit without the label could be tried: " + ("; ".join(told["undefined"].values()) or "none"))
    return repaired(evidence, chosen)


def only(kind: Kind) -> Judge:
    """The judge of the published edit in heads of one kind alone, as IOI's circuit names them."""

    def judge(evidence: Evidence) -> Outcome:
        if (why := able(evidence, IOI)) is not None:
            return why
        given = edited(evidence, ORACLE)
        if isinstance(given, Outcome):
            return given
        known = kind.heads(evidence.findings[IOI])
        if not known:
            told = evidence.findings[IOI]
            return missing(f"{kind.none(told)} among {size(told)} of {IOI}")
        found = evidence.findings[REPAIR]
        rows = found.table.astype(object).to_dict("records")
        tried = [
            (as_heads(one["heads"]), row)
            for one, row in zip(found.summary["variants"], rows, strict=True)
            if one["edit"] == ORACLE and set(as_heads(one["heads"])) <= set(known)
        ]
        if not tried:
            words = names_of(known).replace(" ", "")
            return missing(
                f"the edited heads ({names_of(given['heads'])}) are no {kind.word}s of {IOI} ({names_of(known)}); "
                f"interp repair --probe {OBJECTS} --edit {ORACLE} --heads {words} tries these"
            )
        heads, row = max(tried, key=lambda one: len(one[0]))
        metric = found.summary["settings"]["metric"]
        ends = {"mean": metric, "low": f"{metric}_low", "high": f"{metric}_high"}
        figure = {end: float(row[name]) for end, name in ends.items()} | {"n": given["change"]["n"]}
        before = float(row[f"{metric}_before"])
        outcome = by_interval(figure, above=before, what=f"accuracy with {names_of(heads)} alone edited")
        return replace(outcome, measured=f"{outcome.measured}; untouched {before:.3f}")

    return judge


def attention(evidence: Evidence) -> Outcome:
    """Attention of later movers from the last token to the answer, before and after the published edit."""
    figures = edited(evidence, ORACLE)
    if isinstance(figures, Outcome):
        return figures
    before, after = figures["mover_before"], figures["mover_after"]
    if before is None or after is None:
        return missing("no mover comes after the first of the edited heads")
    movers, n = names_of(evidence.findings[REPAIR].summary["movers"]), int(figures["change"]["n"])
    told = f"attention to the answer {before:.3f} -> {after:.3f}, of the later ones of {movers}; {n} held-out prompts"
    numbers = {"value": after - before, "prompts": n}
    if n < MIN_PROMPTS:
        return Outcome(
            "cannot be tested here", told, f"too few to say: {n} prompts, {MIN_PROMPTS} are needed", **numbers
        )
    return beyond(after > before, told, "it does not rise", numbers)


def listed(evidence: Evidence) -> Outcome:
    """The published heads, class by class, on the published model, with those of the published edit."""
    told = published()
    outcome = against_list(evidence, [IOI, OBJECTS], told, CLASSES)
    edits = as_heads((evidence.findings[REPAIR].summary["edits"].get(ORACLE) or {}).get("heads"))
    named = as_heads(told["repair"]["heads"])
    both = set(edits) & set(named)
    said = f"edited here: {names_of(edits)}, {len(both)} of the {len(named)} published ones"
    return replace(outcome, measured=f"{outcome.measured}; {said}")
