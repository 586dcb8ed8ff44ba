"""Rules of the claims on indirect object identification (Wang et al. 2022): what each measures and when it holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from interp.circuits.classes import BACKUP
from interp.finders.sink_words import count
from interp.findings import Findings
from interp.papers.circuit_figures import (
    Kind,
    able,
    against_list,
    as_heads,
    heads_of,
    names_of,
    reference,
)
from interp.papers.claims import Evidence, Outcome, beyond, by_interval, missing
from interp.verify import MIN_PROMPTS

RUN = "ioi"
MOVER = Kind("name mover", ("mover",), ("logits",), written=True)
NEGATIVE = Kind("negative name mover", ("negative mover",), ("logits",), below=True, written=True)
INHIBITION = Kind("S-inhibition head", ("inhibition",), ("q",))
FEEDING = Kind("induction or duplicate-token head", ("induction", "duplicate token"), ("v",))
INDUCTION = Kind("induction head", ("induction",))
PREVIOUS = Kind("previous-token head", ("previous token",), ("k",))
CLASSES = {
    "name_mover": "mover",
    "backup_name_mover": "backup mover",
    "negative_name_mover": "negative mover",
    "s_inhibition": "inhibition",
    "induction": "induction",
    "duplicate_token": "duplicate token",
    "previous_token": "previous token",
}
"""The paper's classes, by the names in the reference, and the finder's."""


def published() -> dict[str, Any]:
    """The figures of the paper."""
    return reference("wang2022")


def heads() -> list[tuple[int, int]]:
    """Every published head."""
    return sorted(head for found in published()["heads"].values() for head in as_heads(found))


def gap() -> float:
    """The published faithfulness gap, as a share of F(M)."""
    return published()["faithfulness_gap"] / published()["logit_difference"]


def share() -> float:
    """Share of the model's heads in the published circuit."""
    layers, width = published()["model"]["shape"]
    return len(heads()) / (layers * width)


def does(evidence: Evidence, run: str = RUN) -> Outcome:
    """Logit difference above 0, and the answer above every wrong token more often than by chance."""
    told = evidence.claims(run)
    base = evidence.findings[run].summary["behaviour"]["chance"]
    difference = by_interval(told.get("difference"), above=0.0, what="logit difference", digits=2)
    right = by_interval(told.get("accuracy"), above=base, what="answer above the wrong tokens")
    parts = [difference.measured, right.measured]
    for name, what in (("top1", "above all tokens"), ("p_answer", "P(answer)")):
        if (told.get(name) or {}).get("mean") is not None:
            parts.append(f"{what} {told[name]['mean']:.1%}")
    worse = difference if difference.verdict != "holds" else right
    return replace(difference, verdict=worse.verdict, why=worse.why, measured="; ".join(parts))


def takes_over(evidence: Evidence) -> Outcome:
    """Heads whose DLA grows when the movers' outputs are taken away, on the prompts that choose."""
    if (why := able(evidence, RUN)) is not None:
        return why
    found = evidence.findings[RUN]
    gained, movers = found.arrays.get("backup"), heads_of(found, "mover")
    if not movers:
        return missing("no name mover was found that others could stand in for")
    n = len({one.get("sequence", at) for at, one in enumerate(found.summary["prompts"]) if not one["held_out"]})
    backups = as_heads(found.summary["backups"])
    lost = -sum(float(gained[head]) for head in movers) if gained is not None else float("nan")
    if not lost > 0:
        return missing(f"taking the name movers ({names_of(movers)}) away costs none of what they add")
    regained = sum(float(gained[head]) for head in backups) / lost if gained is not None else 0.0
    inside = set(backups) & set(as_heads(found.summary["circuit"]))
    told = (
        f"{count(len(backups), 'backup')} ({names_of(backups)}), {len(inside)} in the circuit, making up for "
        f"{regained:.0%} of the {lost:.2f} logits that {names_of(movers)} lose; {n} prompts that chose the movers"
    )
    numbers = {"value": regained, "prompts": n}
    if n < MIN_PROMPTS:
        return Outcome(
            "cannot be tested here", told, f"too few to say: {n} prompts, {MIN_PROMPTS} are needed", **numbers
        )
    return beyond(bool(backups), told, f"no head gains {BACKUP:.0%} of what they lose", numbers)


def evaluated(evidence: Evidence) -> tuple[Findings, dict[str, Any], float] | Outcome:
    """The run, its evaluation, and F(M); or why there is nothing to judge."""
    if (why := able(evidence, RUN)) is not None:
        return why
    found = evidence.findings[RUN]
    told = found.summary["evaluation"]
    faith = (told.get("faithfulness") or {}).get(told.get("how"))
    if not faith:
        return missing(told.get("why") or "the circuit was not evaluated")
    if not held(found):
        return missing("no prompt was held out, so the circuit was only tried on the prompts that chose it")
    whole = faith["whole"]
    if whole["mean"] is None or whole["low"] is None or whole["low"] <= 0:
        return missing(f"the model's own logit difference on the held-out prompts is not above 0: {whole['mean']}")
    return found, told, float(whole["mean"])


def held(found: Findings) -> bool:
    """Whether the circuit was evaluated on prompts that did not choose it."""
    return any(one["held_out"] for one in found.summary["prompts"])


def small(evidence: Evidence) -> Outcome:
    """Size of the circuit, and what it keeps beyond random circuits of its size and layers."""
    given = evaluated(evidence)
    if isinstance(given, Outcome):
        return given
    found, told, _ = given
    part = told["size"] / told["heads"]
    said = f"{told['size']} of {told['heads']} heads ({part:.0%})"
    random = told["faithfulness"][told["how"]].get("random")
    if not random:
        return missing("the model has too few other heads for a random circuit of that size", said)
    what = "F(C) beyond that of random circuits of its size and layers, logits,"
    outcome = by_interval(random["difference"], above=0.0, what=what, digits=2)
    settings = found.summary["settings"]
    if part > share() and settings["least"] > settings["share"] * told["heads"]:
        why = f"a stage takes {settings['least']} heads at least, more than its share of so small a model"
        return replace(missing(why, said), measured=f"{said}; {outcome.measured}")
    if outcome.verdict == "holds" and part > share():
        outcome = replace(outcome, verdict="does not hold", why=f"it is larger than {share():.0%} of the heads")
    return replace(outcome, measured=f"{said}; {outcome.measured}")


def faithful(evidence: Evidence) -> Outcome:
    """F(C) / F(M), which has to lie within the published gap of 1."""
    given = evaluated(evidence)
    if isinstance(given, Outcome):
        return given
    _, told, _ = given
    faith = told["faithfulness"][told["how"]]
    outcome = by_interval(faith["of_whole"], above=1 - gap(), what="F(C) / F(M)")
    high = faith["of_whole"].get("high")
    if outcome.verdict == "holds" and high is not None and high >= 1 + gap():
        outcome = replace(outcome, verdict="does not hold", why=f"its interval does not lie below {1 + gap():.3f}")
    said = f"F(M) {faith['whole']['mean']:.2f}, F(C) {faith['circuit']['mean']:.2f}, {told['how']} ablation"
    kept = (faith.get("share") or {}).get("mean")
    said += "" if kept is None else f"; of what all heads together add it keeps {kept:.0%}"
    return replace(outcome, measured=f"{outcome.measured}; {said}")


def complete(evidence: Evidence) -> Outcome:
    """Distance of circuit and model without parts K of the circuit, at the far end of each interval."""
    given = evaluated(evidence)
    if isinstance(given, Outcome):
        return given
    _, told, whole = given
    sets = told["completeness"]["sets"]
    known = [one for one in sets if one["kind"] != "greedy" and one["difference"].get("low") is not None]
    if not known:
        return missing("no part of the circuit was taken away")
    n = min(int(one["difference"]["n"]) for one in known)
    far = [max(abs(one["difference"]["low"]), abs(one["difference"]["high"])) / whole for one in known]
    mean, worst = sum(far) / len(far), max(sets, key=lambda one: one["distance"])
    near = sum(one["distance"] for one in known) / len(known) / whole
    said = (
        f"over {len(known)} parts the distance is on average {near:.0%} of F(M), at the far ends of the intervals "
        f"{mean:.0%}; largest {worst['distance'] / whole:.0%} ({worst['name']}); {n} prompts"
    )
    numbers = {"value": mean, "prompts": n}
    if n < MIN_PROMPTS:
        return Outcome(
            "cannot be tested here", said, f"too few to say: {n} prompts, {MIN_PROMPTS} are needed", **numbers
        )
    return beyond(mean <= gap(), said, f"that is more than {gap():.0%}", numbers)


def minimal(evidence: Evidence) -> Outcome:
    """Share of the circuit's heads whose removal shows."""
    given = evaluated(evidence)
    if isinstance(given, Outcome):
        return given
    _, told, _ = given
    rows = told["minimality"]["heads"]
    sure = [one for one in rows if one["needed"] and not one["change"]["low"] <= 0 <= one["change"]["high"]]
    left = [one["head"] for one in rows if one not in sure]
    n = min(int(one["change"]["n"]) for one in rows)
    needed = sum(one["needed"] for one in rows)
    said = (
        f"{needed} of {len(rows)} heads change it by {told['minimality']['threshold']:.0%} of F(M) or more, "
        f"{len(sure)} of them with an interval off 0; {n} prompts"
    )
    numbers = {"value": len(sure) / len(rows), "prompts": n}
    if n < MIN_PROMPTS:
        return Outcome(
            "cannot be tested here", said, f"too few to say: {n} prompts, {MIN_PROMPTS} are needed", **numbers
        )
    return beyond(not left, said, f"superfluous, or not surely needed: {names_of(left)}", numbers)


def knocked_out(evidence: Evidence) -> Outcome:
    """The run's causal check: the circuit's heads that support the answer from the twin, against random ones."""
    if (why := able(evidence, RUN)) is not None:
        return why
    told = evidence.claims(RUN)
    outcome = by_interval(
        told.get("knocked_out_difference"), below=0.0, what="change beyond random heads', logits,", digits=2
    )
    alone = by_interval(told.get("knocked_out"), below=0.0, what="change of the logit difference", digits=2)
    worse = outcome if outcome.verdict != "holds" else alone
    return replace(outcome, verdict=worse.verdict, why=worse.why, measured=f"{alone.measured}; {outcome.measured}")


def listed(evidence: Evidence) -> Outcome:
    """The published heads, class by class, on the published model."""
    backups = as_heads(evidence.findings[RUN].summary["backups"])
    return against_list(evidence, [RUN], published(), CLASSES, {"backup_name_mover": backups})
