"""Search of a circuit backwards from the logits, stage by stage (Wang et al. 2022, arXiv 2211.00593, section 3; Merullo
et al. 2023, arXiv 2310.08744, section 2.2).

1. Stage 0 takes the heads with the largest direct effect on the logit difference.
2. Each next stage asks which earlier heads reach those of the stage before through their queries, keys or values at one
   position, and takes the strongest again: a share of the heads that can reach them, by absolute mean effect over the
   prompts that choose.

The position of a stage is ``end``, a role, a name that every prompt has, or ``auto``: where the heads of the stage
before look most from where they were read, among the positions where the twins already differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np

from interp.circuits.config import CircuitConfig, Head
from interp.circuits.pairs import batches, pair_of
from interp.circuits.pieces import cut, joined
from interp.circuits.rediscovery import how_many, strongest
from interp.circuits.roles import ROLES, roles_of
from interp.circuits.split import halves
from interp.errors import UsageError
from interp.finders.base import Kept, Unit
from interp.tracing.budget import BUDGET
from probes.base import Prompt

Side = Literal["logits", "q", "k", "v"]
Attention = tuple[Sequence[str], np.ndarray]
"""Names of positions, and attention [prompt, layer, head, query named, key named]."""
Measured = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Changes of the logit difference by heads [layer, head, prompt] and by MLPs [layer, prompt], and by corrupting the
whole prompt [prompt]."""
END, AUTO = "end", "auto"
MOST = 32
"""Pairs measured together, then stored, at the most."""
HELD = 4
"""So many batches' bytes (`interp.tracing.budget.Budget.states`) may be kept between stages."""


@dataclass(frozen=True)
class Stage:
    """One step of the search.

    Attributes:
        name: as asked for, ``v@auto``.
        side: what the receivers read.
        position: name of where they read it; empty where none could be used.
        at: that position in each prompt.
        receivers: heads (layer, head) of the stage before; none at stage 0.
        heads: heads taken, the strongest first. Those that an earlier stage took are among them.
        effects: [layer, head, prompt] changes of the logit difference as a share of the mean gap of the prompts that
            choose; NaN for heads that cannot reach the receivers; nothing in a stage that could not be measured.
        mlps: the same of MLPs [layer, prompt].
        looked: for ``auto``: name -> attention that decided, of the names that came into question.
        why: why there are no heads; empty where there are.
    """

    name: str
    side: Side
    position: str
    at: tuple[int, ...]
    receivers: tuple[Head, ...]
    heads: tuple[Head, ...]
    effects: np.ndarray
    mlps: np.ndarray
    looked: dict[str, float] = field(default_factory=dict)
    why: str = ""


def search(
    model: Any,
    prompts: Sequence[Prompt],
    attention: Attention,
    config: CircuitConfig,
    kept: Kept,
    direct: Measured | None = None,
) -> list[Stage]:
    """One `Stage` for each of ``config.stages``.

    The first half of `interp.circuits.split.halves` chooses the heads; the same effects are measured on all prompts. A
    stage that cannot be measured says why and ends the search: the stages after it have no receivers.

    Args:
        direct: what stage 0 would measure, where that is known already.

    Raises:
        UsageError: a prompt without a pair, or twins that make no difference.
    """
    select, _ = halves(prompts, config)
    runs = Runs(model, prompts, config, kept, direct)
    found: list[Stage] = []
    for number, name in enumerate(config.stages):
        found.append(_stage(number, name, found[-1] if found else None, runs, attention, select))
    return found


def _stage(
    number: int, name: str, before: Stage | None, runs: Runs, attention: Attention, select: Sequence[int]
) -> Stage:
    side, _, position = name.partition("@")
    prompts, looked, receivers = runs.prompts, {}, before.heads if before else ()
    if before is not None:
        if not receivers:
            return _nothing(name, "", (), "no heads were found in the stage before")
        if max(layer for layer, _ in receivers) == 0:
            return _nothing(name, "", receivers, "those found before are all in layer 0: no head comes before them")
        if position == AUTO:
            looked = looked_at(prompts, before, attention, select)
            if not looked:
                return _nothing(name, "", receivers, _NOWHERE.format(read=before.position))
            position = max(looked, key=lambda one: looked[one])
    at = spots(prompts, position)
    if at is None:
        return _nothing(name, "", receivers, f"not every prompt has exactly one position {position!r}")
    if not any(pair.differs <= at[index] for index, pair in enumerate(runs.pairs) if index in set(select)):
        why = f"the twins are the same tokens up to {position!r}, so nothing of what differs is there"
        return _nothing(name, position, receivers, why)
    effects, mlps, gap = runs.effects(number, name, side, receivers, at)
    whole = float(gap[list(select)].mean())
    if whole == 0:
        raise UsageError("corrupting the prompts leaves the mean logit difference as it is: no share can be taken")
    means = effects[..., list(select)].mean(-1)
    heads = tuple(strongest(means, how_many(means, runs.config.share, runs.config.least)))
    why = "" if heads else "no head has an effect on them"
    return Stage(name, cast(Side, side), position, at, receivers, heads, effects / whole, mlps / whole, looked, why)


_NOWHERE = (
    "read at {read!r}, the heads found before look at no single named position at which the twins already differ; "
    "name one, or take twins that differ earlier"
)


def _nothing(name: str, position: str, receivers: tuple[Head, ...], why: str) -> Stage:
    side = cast(Side, name.partition("@")[0])
    return Stage(name, side, position, (), receivers, (), np.empty((0, 0, 0)), np.empty((0, 0)), {}, why)


def spots(prompts: Sequence[Prompt], name: str) -> tuple[int, ...] | None:
    """Where `name` (a role, or a named position) stands in each prompt; None unless each has it exactly once."""
    found = []
    for prompt in prompts:
        here = roles_of(prompt)[name] if name in ROLES else None
        if here is None:
            at = pair_of(prompt).positions.get(name)
            here = () if at is None else (at,)
        if len(here) != 1:
            return None
        found.append(here[0])
    return tuple(found)


def looked_at(prompts: Sequence[Prompt], stage: Stage, attention: Attention, select: Sequence[int]) -> dict[str, float]:
    """Mean attention of a stage's heads, weighted by absolute effect, from where they were read to each named position
    that comes into question: in each of the prompts that choose one position, before the one they were read at, not the
    first token (which heads attend to when they do nothing), with twins that differ there already in some of them.
    """
    names, values = attention
    chosen = list(select)
    places = {name: spots(prompts, name) for name in names}
    read = next((name for name, at in places.items() if at == stage.at), None)
    if read is None:
        return {}
    weights = np.array([abs(float(stage.effects[head][chosen].mean())) for head in stage.heads])
    rows = np.array([values[chosen, layer, head, list(names).index(read)].mean(0) for layer, head in stage.heads])
    means = weights @ rows / weights.sum()
    found = {}
    for column, name in enumerate(names):
        at = places[name]
        if at is None or not all(0 < at[index] < stage.at[index] for index in chosen):
            continue
        if means[column] > 0 and any(pair_of(prompts[index]).differs <= at[index] for index in chosen):
            found[name] = float(means[column])
    return found


class Runs:
    """Effects on all prompts, batch by batch, each piece stored; both sides of a batch are held while memory allows."""

    def __init__(
        self, model: Any, prompts: Sequence[Prompt], config: CircuitConfig, kept: Kept, direct: Measured | None = None
    ):
        self.model, self.prompts, self.config, self.kept, self.direct = model, prompts, config, kept, direct
        self.pairs = [pair_of(prompt) for prompt in prompts]
        from interp.circuits.states import bytes_of_a_token, side_by_side

        self.batches = batches(self.pairs, side_by_side(model, max(map(len, prompts)), MOST))
        self.held: dict[int, Any] = {}
        self.states = BUDGET.get().states
        self.room = HELD * self.states // bytes_of_a_token(model)

    def sides(self, number: int) -> Iterator[tuple[slice, Any]]:
        """Both sides of a batch, and which of its pairs: all of them, or part after part where memory has run out."""
        from interp.circuits.pairs import batch_of
        from interp.circuits.states import side_by_side, sides_of

        batch, states = self.batches[number][1], BUDGET.get().states
        if states < self.states:
            self.held.clear()
            self.states, self.room = states, 0
        if number in self.held:
            yield slice(None), self.held[number]
            return
        for here in cut(len(batch), side_by_side(self.model, batch.clean.shape[1], MOST)):
            whole = here == slice(0, len(batch))
            sides = sides_of(self.model, batch if whole else batch_of(batch.pairs[here]))
            if whole and batch.clean.numel() <= self.room:
                self.held[number] = sides
                self.room -= batch.clean.numel()
            yield here, sides

    def effects(
        self, number: int, name: str, side: str, receivers: tuple[Head, ...], at: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """([layer, head, prompt], [layer, prompt], [prompt]): changes of the logit difference, of heads and of MLPs,
        and what corrupting the whole prompt does to it."""
        if side == "logits" and self.direct is not None:
            return self.direct
        n = len(self.prompts)
        heads = np.full((self.model.n_layers, self.model.n_heads, n), np.nan, dtype=np.float32)
        mlps, gap = np.full((self.model.n_layers, n), np.nan, dtype=np.float32), np.zeros(n)
        self.kept.phase(f"searching {name}", len(self.batches))
        for one, (indices, _) in enumerate(self.batches):
            here = tuple(at[index] for index in indices)
            of = {
                "side": side,
                "receivers": [list(head) for head in receivers],
                "prompts": indices,
                "positions": list(here),
                "freeze_mlps": self.config.freeze_mlps,
            }
            unit = self.kept.unit(f"stage {number}, batch {one}", self._piece(one, side, receivers, here), of)
            heads[..., indices], mlps[..., indices] = unit.arrays["heads"], unit.arrays["mlps"]
            gap[indices] = unit.arrays["gap"]
        return heads, mlps, gap

    def _piece(self, number: int, side: str, receivers: tuple[Head, ...], at: tuple[int, ...]) -> Callable[[], Unit]:
        from interp.circuits.effects import direct_effects
        from interp.circuits.paths import Receivers, path_effects

        def part(here: slice, sides: Any) -> Unit:
            rows = BUDGET.get().side_by_side(self.config.tokens)
            how: dict[str, Any] = {"freeze_mlps": self.config.freeze_mlps, "rows": rows}
            if side == "logits":
                found = direct_effects(self.model, sides, **how)
            else:
                found = path_effects(self.model, sides, Receivers(receivers, cast(Any, side), at[here]), **how)
            return Unit({"heads": found.heads, "mlps": found.mlps, "gap": sides.gap.numpy()})

        return lambda: joined(part(*one) for one in self.sides(number))
