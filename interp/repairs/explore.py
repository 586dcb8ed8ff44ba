"""On the training prompts: which heads point, what the donors do, which heads each edit takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from interp.ablation.config import heads_named
from interp.circuits.config import Head
from interp.circuits.pairs import batches, pair_of
from interp.circuits.roles import roles_of
from interp.errors import UsageError
from interp.finders.base import Kept, Unit
from interp.repairs.choose import Score, best, greedy, ranked
from interp.repairs.config import ORACLE, POINTED, RepairConfig
from interp.repairs.ends import Ends
from interp.repairs.layout import GROUPS, answer_slot, donor_masses, layout_of
from interp.repairs.plan import Look, Plan
from probes.base import Prompt

MOST_PAIRS = 32
"""Prompts that are read side by side."""


def named(labels: Sequence[str], model: Any) -> tuple[Head, ...]:
    """The heads of ``layer.head`` labels, each once.

    Raises:
        UsageError: a head the model does not have.
    """
    shape = model.n_layers, model.n_heads
    return tuple(dict.fromkeys(head for label in labels for head in heads_named(label, *shape)))


def ends_of(model: Any, prompts: Sequence[Prompt]) -> list[tuple[list[int], Ends]]:
    """Prompts read side by side where they are of one length, with their indices."""
    repeats = [layout_of(prompt).repeat for prompt in prompts]
    parts = batches([pair_of(prompt) for prompt in prompts], MOST_PAIRS)
    return [(index, Ends(model, batch, [repeats[i] for i in index])) for index, batch in parts]


@dataclass
class Training:
    """The training prompts, read when something has to be asked of them."""

    model: Any
    prompts: Sequence[Prompt]
    config: RepairConfig
    _read: list[tuple[list[int], Ends]] = field(default_factory=list)
    _looks: dict[int, Look] = field(default_factory=dict)

    @property
    def ends(self) -> list[tuple[list[int], Ends]]:
        """All prompts, read once."""
        if not self._read:
            self._read = ends_of(self.model, self.prompts)
        return self._read

    def look(self, index: int, ends: Ends, pair: int) -> Look:
        """Of prompt `index`, which is pair `pair` of `ends`."""
        if index not in self._looks:
            self._looks[index] = Look.of(ends, pair, self.model.n_layers)
        return self._looks[index]

    def looks(self) -> list[Look]:
        """Of every prompt, in order."""
        for members, ends in self.ends:
            for pair, index in enumerate(members):
                self.look(index, ends, pair)
        return [self._looks[index] for index in range(len(self.prompts))]

    def outcomes(
        self, plan: Plan, edit: str | None, sets: Sequence[tuple[Head, ...]], factor: float, top1: bool
    ) -> dict[str, np.ndarray]:
        """difference, choice and, if asked for, top1 [set, prompt]; `edit` None = untouched."""
        shape = len(sets), len(self.prompts)
        out: dict[str, np.ndarray] = {"difference": np.zeros(shape), "choice": np.zeros(shape, dtype=bool)}
        if top1:
            out["top1"] = np.zeros(shape, dtype=bool)
        for members, ends in self.ends:
            cells, where = [], []
            for pair, index in enumerate(members):
                look = self.look(index, ends, pair)
                label = self.prompts[index] if edit == ORACLE else None
                for number, heads in enumerate(sets):
                    cells.append((pair, plan.rows(edit, heads, look, factor, label) if edit else {}))
                    where.append((number, index))
            got = ends.run(cells, rows=self.config.rows, top1=top1)
            for name, values in out.items():
                values[tuple(np.array(where).T)] = getattr(got, name)
        return out

    def scores(self, plan: Plan, edit: str | None, sets: Sequence[tuple[Head, ...]], factor: float) -> list[Score]:
        """Of each set, by the metric."""
        got = self.outcomes(plan, edit, sets, factor, self.config.metric == "top1")
        right = got[self.config.metric]
        return [Score(float(right[i].mean()), float(got["difference"][i].mean())) for i in range(len(sets))]


def looked(training: Training) -> Unit:
    """Arrays [layer, head], means over the training prompts: ``found`` = attention from `repeat` to where the object
    asked for stood first, and the token behind; ``moved`` = from the last token to the answer's earlier places;
    ``right`` = share of prompts in which the head alone points at the slot of the answer."""
    found, moved, right = [], [], []
    for prompt, look in zip(training.prompts, training.looks(), strict=True):
        roles = roles_of(prompt)
        keys = [at for at in {*roles["first"], *roles["after_first"]} if look.layout.repeat and at < look.layout.repeat]
        found.append(look.repeat[..., keys].sum(-1))
        moved.append(look.end[..., list(roles["answer"])].sum(-1))
        spans = np.stack([look.repeat[..., start:stop].sum(-1) for start, stop in look.layout.spans or ((0, 0),)])
        slot = answer_slot(prompt)
        right.append(np.zeros(found[0].shape) if slot is None else spans.argmax(0) == slot)
    return Unit(arrays={"found": np.mean(found, 0), "moved": np.mean(moved, 0), "right": np.mean(right, 0)})


def donors(model: Any, config: RepairConfig) -> Unit:
    """Mean masses [layer, head, group] of the last token's rows in IOI prompts; or why there are none."""
    from probes.ioi import probe

    try:
        prompts = probe.prompts(model, limit=config.donors, seed=config.seed)
    except UsageError as error:
        return Unit(facts={"why": f"no IOI prompts for it: {error}"})
    masses = []
    for members, ends in ends_of(model, prompts):
        for pair, index in enumerate(members):
            masses.append(donor_masses(Look.of(ends, pair, model.n_layers).end, prompts[index]))
    return Unit(arrays={"masses": np.mean(masses, 0).astype(np.float32)}, facts={"groups": list(GROUPS)})


def spares(looks: Sequence[Look], prompts: Sequence[Prompt], pointers: Sequence[Head]) -> tuple[bool, float]:
    """(whether the slot pointed at is the one to be said, share of prompts in which pointing tells the answer)."""
    slots = [answer_slot(prompt) for prompt in prompts]
    agree = float(np.mean([look.slot(pointers) == slot for look, slot in zip(looks, slots, strict=True)]))
    chance = float(np.mean([1 / len(look.layout.slots) for look in looks]))
    return agree >= chance, agree


def undefined(edit: str, prompts: Sequence[Prompt]) -> str | None:
    """Why an edit cannot be made in these prompts; None = it can."""
    if edit == "scale":
        return None
    layouts = [layout_of(prompt) for prompt in prompts]
    if edit == ORACLE:
        lost = [prompt.name for prompt in prompts if not roles_of(prompt)["wrong"]]
        return f"no wrong answer stands in {lost[0]!r}" if lost else None
    for prompt, layout in zip(prompts, layouts, strict=True):
        if len(layout.slots) < 2:
            return f"{prompt.name!r} names {len(layout.slots)} candidates; at least 2 are needed"
        if layout.repeat is None:
            return f"nothing in {prompt.name!r} says what is asked about (role repeat)"
        if any(slot[0] >= layout.repeat for slot in layout.slots):
            return f"in {prompt.name!r} a candidate stands only behind what is asked about"
    if edit == "donor" and all("ioi" in prompt.extra for prompt in prompts):
        return "the prompts are IOI prompts themselves"
    return None


def explore(
    model: Any, prompts: Sequence[Prompt], training_of: Sequence[int], config: RepairConfig, kept: Kept
) -> Unit:
    """Facts: ``pointers``, ``movers`` [[layer, head], ...], ``spare``, ``agree``, ``undefined`` {edit: why}, ``edits``
    {edit: {heads, factor, tried, path: [[right, difference], ...], right, top1, choice, difference}}, ``untouched``
    {right, difference}. Arrays: ``masses`` where there are donors; ``right-<edit>``, ``difference-<edit>`` [layer,
    head] of each head alone."""
    training = Training(model, [prompts[i] for i in training_of], config)
    heads, pointers, movers = (named(labels, model) for labels in (config.heads, config.pointers, config.movers))
    why = {edit: told for edit in config.edits if (told := undefined(edit, prompts))}
    facts: dict[str, Any] = {"edits": {}, "undefined": why, "spare": True, "agree": None}
    arrays: dict[str, np.ndarray] = {}
    if not training.prompts:
        return Unit(facts={**facts, "pointers": [], "movers": [], "untouched": None})
    asks = any(edit in POINTED and edit not in why for edit in config.edits)
    donates = "donor" in config.edits and "donor" not in why
    kept.phase("looking", 2 + asks + donates)
    seen = kept.unit("looked", lambda: looked(training))
    movers = movers or tuple(best(seen.arrays["moved"], config.pointing))
    pointers = pointers or tuple(best(seen.arrays["found"], config.pointing))
    plan = Plan(pointers, True)
    if asks:
        asked = {"pointers": pointers}

        def agreement() -> Unit:
            spare, agree = spares(training.looks(), training.prompts, pointers)
            return Unit(facts={"spare": spare, "agree": agree})

        facts |= kept.unit("agreement", agreement, asked).facts
        plan = replace(plan, spare=facts["spare"])
    if donates:
        read = kept.unit("donors", lambda: donors(model, config))
        if "why" in read.facts:
            why["donor"] = read.facts["why"]
        else:
            arrays["masses"] = read.arrays["masses"]
            plan = replace(plan, masses=read.arrays["masses"])
    facts |= {"pointers": [list(one) for one in pointers], "movers": [list(one) for one in movers]}
    of = {"pointers": facts["pointers"], "spare": plan.spare}
    untouched = kept.unit("untouched", lambda: _scored(training.scores(plan, None, [()], 1.0)[0]))
    facts["untouched"] = untouched.facts
    edits = [edit for edit in config.edits if edit not in why]
    kept.phase("choosing heads", len(edits))
    for edit in edits:
        if heads:
            unit = kept.unit(f"{edit} of these", lambda edit=edit: _named(training, plan, edit, heads), [heads, of])
        else:
            unit = kept.unit(f"{edit} chosen", lambda edit=edit: _chosen(training, plan, edit, untouched), of)
        facts["edits"][edit] = unit.facts
        arrays |= {f"{name}-{edit}": values for name, values in unit.arrays.items()}
    return Unit(arrays, facts)


def _scored(score: Score) -> Unit:
    return Unit(facts={"right": score.right, "difference": score.difference})


def _factors(edit: str, config: RepairConfig) -> tuple[float, ...]:
    return config.factors if edit == "scale" else (1.0,)


def _named(training: Training, plan: Plan, edit: str, heads: tuple[Head, ...]) -> Unit:
    """Heads that were named: only the factor is chosen."""
    score, factor = max((training.scores(plan, edit, [heads], f)[0], f) for f in _factors(edit, training.config))
    return Unit(facts=_summed(training, plan, edit, heads, factor, [score]))


def _chosen(training: Training, plan: Plan, edit: str, untouched: Unit) -> Unit:
    """Every head alone, then the best of them together, greedily; with scale for each factor."""
    model, config = training.model, training.config
    shape = model.n_layers, model.n_heads
    every = [((layer, head),) for layer in range(shape[0]) for head in range(shape[1])]
    right, difference = np.full(shape, -1.0), np.full(shape, -np.inf)
    for factor in _factors(edit, config)[:2]:
        got = training.outcomes(plan, edit, every, factor, top1=False)
        now = got["choice"].mean(1).reshape(shape), got["difference"].mean(1).reshape(shape)
        better = (now[0] > right) | ((now[0] == right) & (now[1] > difference))
        right, difference = np.where(better, now[0], right), np.where(better, now[1], difference)
    candidates = ranked(right, difference, config.candidates)
    start = Score(untouched.facts["right"], untouched.facts["difference"])
    tried = []
    for factor in _factors(edit, config):

        def scores(sets: Sequence[tuple[Head, ...]], factor: float = factor) -> Sequence[Score]:
            return training.scores(plan, edit, sets, factor)

        tried.append((*greedy(candidates, start, scores, config.most), factor))
    heads, path, factor = max(tried, key=lambda one: one[1][-1] if one[1] else start)
    arrays = {"right": right, "difference": difference}
    return Unit(arrays, _summed(training, plan, edit, heads, factor, path, candidates))


def _summed(
    training: Training,
    plan: Plan,
    edit: str,
    heads: tuple[Head, ...],
    factor: float,
    path: Sequence[Score],
    candidates: Sequence[Head] = (),
) -> dict[str, Any]:
    got = training.outcomes(plan, edit, [heads], factor, True) if heads else {}
    return {
        "heads": [list(head) for head in heads],
        "factor": factor if edit == "scale" else None,
        "tried": [list(head) for head in candidates],
        "path": [[one.right, one.difference] for one in path],
        **{name: float(values.mean()) for name, values in got.items()},
    }
