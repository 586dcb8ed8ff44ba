"""The effects of every head and MLP on every pair, batch by batch, stored as they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from interp.circuits.attribution import attributions
from interp.circuits.config import CircuitConfig
from interp.circuits.dla import attribution_or_nan
from interp.circuits.effects import Effects, direct_effects, total_effects
from interp.circuits.knockout import places
from interp.circuits.pairs import batch_of, pair_of
from interp.circuits.pieces import cut, joined
from interp.circuits.states import Sides, side_by_side, sides_of
from interp.finders.base import Kept, Unit
from interp.tracing.budget import BUDGET
from probes.base import Prompt

PIECE = 32
"""Pairs measured together, then stored, at the most."""
KINDS = ("total", "direct", "direct_frozen_mlps", "attribution", "attribution_ig", "dla")


def pieces(model: Any, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
    """Indices of prompts measured together: of one length, at most `PIECE`, fewer where they are long."""
    by_length: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(index)
    found = []
    for length, same in by_length.items():
        step = side_by_side(model, length, PIECE)
        found += [tuple(same[at : at + step]) for at in range(0, len(same), step)]
    return found


def effects_of(model: Any, prompts: Sequence[Prompt], config: CircuitConfig, kept: Kept) -> dict[str, np.ndarray]:
    """Every kind's changes, ``<kind>`` [layer, head, pair] and ``<kind>_mlps`` [layer, pair], and ``gap`` [pair]: what
    corrupting the whole prompt does. float32, in logits.

    Raises:
        UsageError: a position that a prompt does not have, or pairs that do not line up.
    """
    groups = pieces(model, prompts)
    kept.phase("patching", len(groups))
    found: dict[str, np.ndarray] = {}
    for group in groups:
        some = [prompts[index] for index in group]
        name = f"{some[0].name} and {len(some) - 1} more" if len(some) > 1 else some[0].name
        unit = kept.unit(name, lambda some=some: _piece(model, some, config), of=[prompt.hash for prompt in some])
        for key, values in unit.arrays.items():
            whole = found.setdefault(key, np.full((*values.shape[:-1], len(prompts)), np.nan, np.float32))
            whole[..., list(group)] = values
    return found


def _piece(model: Any, prompts: Sequence[Prompt], config: CircuitConfig) -> Unit:
    step = side_by_side(model, len(prompts[0]), PIECE)
    return joined(_part(model, prompts[here], config) for here in cut(len(prompts), step))


def _part(model: Any, prompts: Sequence[Prompt], config: CircuitConfig) -> Unit:
    batch = batch_of([pair_of(prompt) for prompt in prompts])
    sides = sides_of(model, batch)
    where, rows = positions_of(prompts, config.position), BUDGET.get().side_by_side(config.tokens)
    measured: dict[str, Effects] = {
        "total": total_effects(model, sides, positions=where, rows=rows),
        "direct": direct_effects(model, sides, rows=rows),
        "direct_frozen_mlps": direct_effects(model, sides, freeze_mlps=True, rows=rows),
        "attribution": _attributed(model, sides, where, 1),
        "attribution_ig": _attributed(model, sides, where, config.points),
        "dla": attribution_or_nan(model, sides),
    }
    arrays = {"gap": sides.gap.numpy().astype(np.float32)}
    for kind, effects in measured.items():
        arrays |= {kind: effects.heads, f"{kind}_mlps": effects.mlps}
    return Unit(arrays)


def _attributed(model: Any, sides: Sides, where: Any, points: int) -> Effects:
    return attributions(model, sides, points=points, positions=where)


def positions_of(prompts: Sequence[Prompt], name: str) -> torch.Tensor | None:
    """int64 [pair, n]: where the role or named position `name` stands; None = everywhere (``all``).

    Raises:
        UsageError: a prompt does not have it; says which names it has.
    """
    if name == "all":
        return None
    rows = [places(prompt, name) for prompt in prompts]
    width = max(map(len, rows))
    return torch.tensor([[*row, *[row[-1]] * (width - len(row))] for row in rows])


def looks_of(units: Sequence[Unit]) -> tuple[tuple[str, ...], np.ndarray]:
    """The names that every unit of `interp.circuits.evidence` has, and attention between them [prompt, layer, head,
    query, key]."""
    names = tuple(name for name in units[0].facts["names"] if all(name in unit.facts["names"] for unit in units))
    parts = []
    for unit in units:
        at = [unit.facts["names"].index(name) for name in names]
        parts.append(unit.arrays["attention"][..., at, :][..., at])
    return names, np.stack(parts)


def task_of(prompts: Sequence[Prompt]) -> str:
    """Which task the prompts are of: the names' common beginning (``ioi-0`` -> ``ioi``), or ``own pairs``."""
    beginnings = {prompt.name.rpartition("-")[0] for prompt in prompts}
    return beginnings.pop() if len(beginnings) == 1 and "" not in beginnings else "own pairs"
