"""What claims on circuits are judged by: figures of a run of the circuit finder, class of heads by class. Pure.

Effects are those along the path by which a stage of the search found a head, as shares of the gap, summed over the
heads of a class, on the held-out prompts: the others chose the heads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from interp.circuits.config import Head
from interp.comparison.overlap import Overlap, overlap
from interp.findings import Findings
from interp.papers.claims import Evidence, Outcome, beyond, by_interval, missing
from interp.resources import data_path
from interp.verify import over_prompts

Judge = Callable[[Evidence], Outcome]
NO_FIGURE = "no figure among those carried over"


@cache
def reference(name: str) -> dict[str, Any]:
    """The published figures of a paper."""
    return json.loads(data_path("references", f"{name}.json").read_text(encoding="utf-8"))


def is_published(evidence: Evidence, told: Mapping[str, Any], shape: Sequence[int]) -> bool:
    """Whether this is the model the paper names its heads of. Weights from a folder have no hub id: then the name and
    the number of layers and heads have to be right."""
    known = told["model"]
    names = known["hub_ids"]
    given = evidence.model if evidence.hub_id is None else evidence.hub_id
    return given in names and list(shape) == known["shape"]


def names_of(heads: Collection[Sequence[int]]) -> str:
    """``9.1, 9.6``; ``none``."""
    return ", ".join(f"{layer}.{head}" for layer, head in sorted(map(tuple, heads))) or "none"


def as_heads(found: Collection[Sequence[int]] | None) -> list[Head]:
    """Heads as JSON keeps them."""
    return [(int(layer), int(head)) for layer, head in found or ()]


def heads_of(found: Findings, *classes: str) -> list[Head]:
    """Heads of the circuit of any of these classes, in order."""
    told = found.summary.get("classes") or {}
    return sorted(head for name in classes for head in as_heads(told.get(name)))


def held_out(found: Findings) -> list[int]:
    """Indices of the prompts that did not choose; of equal prompts the first."""
    once: dict[Any, int] = {}
    for index, prompt in enumerate(found.summary.get("prompts") or []):
        if prompt["held_out"]:
            once.setdefault(prompt.get("sequence", index), index)
    return sorted(once.values())


def over_held_out(found: Findings, values: np.ndarray | None, why: str) -> dict[str, Any]:
    """Mean over the held-out prompts of values [pair], with interval; `why`: what to say where there are none."""
    at = held_out(found)
    if values is None or not at:
        return over_prompts([], 0, why if at else "no prompt was held out")
    return over_prompts(np.asarray(values, np.float64)[at], found.summary["settings"].get("seed", 0), why)


def stage_of(found: Findings, head: Head) -> int | None:
    """Number of the stage that made a head what it is: of those that took it, the first with the side of the evidence
    for its class."""
    layer, at = head
    side = (found.summary["evidence"].get(f"{layer}.{at}") or {}).get("side")
    took = [
        number
        for number, stage in enumerate(found.summary["stages"])
        if any((int(one[0]), int(one[1])) == head for one in stage["heads"])
    ]
    return next((one for one in took if found.summary["stages"][one]["side"] == side), took[0] if took else None)


def effect(found: Findings, heads: Collection[Head]) -> dict[str, Any]:
    """Effect of `heads` along the paths by which they were found, summed, on held-out prompts: a share of the gap."""
    parts = []
    for head in heads:
        number = stage_of(found, head)
        values = None if number is None else found.arrays.get(f"stage.{number}")
        if values is None:
            return over_held_out(found, None, f"the effects of {names_of([head])} were not kept")
        parts.append(np.nan_to_num(values[head]))
    return over_held_out(found, np.sum(parts, 0) if parts else None, "no such head")


def attribution(found: Findings, heads: Collection[Head]) -> dict[str, Any]:
    """Direct logit attribution of `heads`, summed, on held-out prompts: in logits."""
    why = "direct logit attribution could not be measured in this model"
    values = found.arrays.get("dla")
    if values is None or not heads:
        return over_held_out(found, None, why)
    summed = np.sum([values[head] for head in heads], 0)
    return over_held_out(found, summed if np.isfinite(summed).all() else None, why)


def again(found: Findings, heads: Collection[Head]) -> str:
    """``2 of 3 found again on held-out prompts, in 97 % of resamples``."""
    columns = (found.table[name].tolist() for name in ("layer", "head", "held_out_found", "stability"))
    mine = {(layer, head): more for layer, head, *more in zip(*columns, strict=True) if (layer, head) in set(heads)}
    held = [bool(one) for one, _ in mine.values() if not pd.isna(one)]
    stable = [one for _, one in mine.values() if not pd.isna(one)]
    told = [f"{sum(held)} of {len(mine)} found again on held-out prompts"] if held else []
    told += [f"in {np.mean(stable):.0%} of resamples"] if stable else []
    return ", ".join(told)


def counted(found: Findings, heads: Collection[Head]) -> str:
    """How many heads, which, and how often they are found again."""
    said = f"{len(heads)} head{'s' * (len(heads) != 1)} ({names_of(heads)})"
    return f"{said}, {repeats}" if (repeats := again(found, heads)) else said


def looks(found: Findings, heads: Collection[Head]) -> str:
    """Where they look, by place: ``from end to repeat 0.42``."""
    seen: dict[tuple[str, str], list[float]] = {}
    for layer, head in heads:
        told = found.summary["evidence"].get(f"{layer}.{head}") or {}
        if told.get("attention") is not None:
            seen.setdefault((told["looks_from"], told["looks_at"]), []).append(told["attention"])
    return ", ".join(f"from {one} to {other} {np.mean(values):.2f}" for (one, other), values in seen.items())


def able(evidence: Evidence, run: str) -> Outcome | None:
    """Why nothing can be said of a run's circuit; None = it can.

    A model that does the task has one. Where it prefers the answer no more than chance has it, the twins must still
    change what it prefers, and the run's causal check must not have failed.
    """
    found = evidence.findings[run]
    did = found.summary["behaviour"]
    if did["can"]:
        return None
    gap = found.arrays.get("gap")
    opened = over_prompts([] if gap is None else -np.asarray(gap, np.float64), 0, "no twins")
    if opened["low"] is None or opened["low"] <= 0:
        return missing(
            f"the model does not do the task of {run}, nor do the twins change what it prefers: {did['why']}"
        )
    if found.verification is not None and found.verification.verdict == "failed":
        return missing(
            f"the model does not do the task of {run}, and its circuit failed the causal check: {did['why']}"
        )
    return None


@dataclass(frozen=True)
class Kind:
    """Heads that a claim is about.

    Attributes:
        word: what the paper calls one, singular.
        classes: the finder's names for them.
        sides: what their stage's receivers have to read; none = anything.
        below: their effect has to lie below 0, not above.
        written: their direct logit attribution has to lie on that side, too.
    """

    word: str
    classes: tuple[str, ...]
    sides: tuple[str, ...] = ()
    below: bool = False
    written: bool = False

    def heads(self, found: Findings) -> list[Head]:
        """Those of a run's circuit."""
        every = heads_of(found, *self.classes)
        if not self.sides:
            return every
        evidence = found.summary["evidence"]
        return [one for one in every if (evidence.get(f"{one[0]}.{one[1]}") or {}).get("side") in self.sides]

    def none(self, found: Findings) -> str:
        """That there are none, and which heads have the class but were found on another path."""
        others = [one for one in heads_of(found, *self.classes) if one not in self.heads(found)]
        said = f"no {self.word} was found"
        if not others:
            return said
        verb = "is one" if len(others) == 1 else "are such"
        paths = " or ".join(_READ[side] for side in self.sides)
        return f"{said} through {paths} ({names_of(others)} {verb} by where it looks, found on another path)"


_READ = {"q": "queries", "k": "keys", "v": "values", "logits": "the logits"}


def judged(evidence: Evidence, run: str, kind: Kind, heads: Sequence[Head] | None = None) -> Outcome:
    """Whether a run's circuit has such heads, and whether on held-out prompts they do what makes them that.

    Args:
        heads: those to judge, where not all of the kind.
    """
    if (why := able(evidence, run)) is not None:
        return why
    found = evidence.findings[run]
    mine = kind.heads(found) if heads is None else list(heads)
    if not mine:
        stopped = [stage for stage in found.summary["stages"] if stage.get("why") and stage["side"] in kind.sides]
        if stopped:
            return missing(f"the search for {kind.word}s ended at {stopped[0]['name']}: {stopped[0]['why']}")
        return Outcome("does not hold", f"no {kind.word} among {size(found)}", kind.none(found))
    bound: dict[str, Any] = {"below" if kind.below else "above": 0.0}
    share = by_interval(effect(found, mine), what="effect on held-out prompts, share of the gap,", **bound)
    told = [counted(found, mine), looks(found, mine), share.measured]
    if kind.written:
        written = by_interval(attribution(found, mine), what="direct logit attribution, logits,", digits=2, **bound)
        told.append(written.measured)
        share = share if share.verdict != "holds" else replace(share, verdict=written.verdict, why=written.why)
    return replace(share, measured="; ".join(part for part in told if part))


def of_kind(run: str, kind: Kind, *needs: Kind) -> Judge:
    """The judge of a claim on one kind of heads; without any of the heads they act on (`needs`) it cannot be tested."""

    def judge(evidence: Evidence) -> Outcome:
        for other in needs:
            if able(evidence, run) is None and not other.heads(evidence.findings[run]):
                return missing(f"no {other.word} was found that they could act on")
        return judged(evidence, run, kind)

    return judge


def size(found: Findings) -> str:
    """``the 11 heads of the circuit``."""
    return f"the {len(found.summary['circuit'])} heads of the circuit"


def layers_of(found: Findings) -> list[int]:
    """Number of heads in each layer."""
    layers, heads = found.summary["shape"]
    most: dict[int, int] = {}
    for layer, head in zip(found.table["layer"], found.table["head"], strict=True):
        most[int(layer)] = max(most.get(int(layer), 0), int(head) + 1)
    return [most.get(layer, int(heads)) for layer in range(layers)]


def shared(found: Findings, first: Collection[Head], second: Collection[Head]) -> Overlap:
    """What two sets of heads share, against random sets of the same layers."""
    return overlap(first, second, layers_of(found))


def chance(told: Overlap) -> str:
    """What random sets share."""
    p = f"p = {told.chance.p:.2g}" if told.chance.p >= 1e-4 else "p < 0.0001"
    middle = f"95 %: {told.chance.low} to {told.chance.high}"
    return f"random heads of the same layers share {told.chance.mean:.1f} ({middle}; {p})"


def against_list(
    evidence: Evidence,
    runs: Sequence[str],
    told: Mapping[str, Any],
    classes: Mapping[str, str],
    also: Mapping[str, Collection[Head]] | None = None,
) -> Outcome:
    """The heads that runs found, against those that a paper names, on the published model.

    Args:
        told: the paper's figures (`reference`).
        classes: the paper's classes, by the names in `told`, and the finder's.
        also: further heads of a paper's class that were found.
    """
    found, more = [evidence.findings[run] for run in runs], also or {}
    inside = {head for one in found for head in as_heads(one.summary["circuit"])}
    ours = sorted(inside.union(*more.values()))
    here = f"found here: {names_of(ours)}"
    if not is_published(evidence, told, found[0].summary["shape"]):
        shape = " layers x ".join(map(str, told["model"]["shape"]))
        name = told["model"]["hub_ids"][0]
        return missing(f"heads were published for {told['model']['name']} ({shape} heads): --model {name}", here)
    every = sorted({head for listed in told["heads"].values() for head in as_heads(listed)})
    same = []
    for name, listed in told["heads"].items():
        mine = {head for one in found for head in heads_of(one, classes[name])}.union(more.get(name, ()))
        there = mine & set(as_heads(listed))
        same.append(f"{name.replace('_', ' ')} {len(there)} of {len(listed)} ({names_of(there)})")
    common = shared(found[0], ours, every)
    measured = f"{len(common.both)} of the {len(every)} published heads; {chance(common)}; by class: {', '.join(same)}"
    share = len(common.both) / len(every)
    if share < 0.5:
        return beyond(False, measured, "half of the published heads are needed", {"value": share})
    more_than = len(common.both) > common.chance.high
    return beyond(more_than, measured, "no more than random heads would share", {"value": share})
