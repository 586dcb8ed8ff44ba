"""What every head and MLP does to the logit difference, exactly.

total: its output comes from the corrupted run, everything after it follows (activation patching; Wang et al. 2022,
arXiv 2211.00593; Merullo et al. 2023, arXiv 2310.08744). direct: the same at the last position, with every other head
as in the clean run, so that the change reaches the logits through the residual stream, and through the MLPs unless
these are held, too (path patching to the logits).

Only what can change is computed: blocks from the patched one on; positions from the first that differs on; for the
direct effect the last position alone, since with attention held no other is read, and no attention; with the MLPs held
no later block either; and of the unembedding the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.circuits.edits import AddRows, PatchHeads, PatchMLP, SetStates
from interp.circuits.held import Held
from interp.circuits.rows import (
    ELSEWHERE,
    ENOUGH,
    MLP,
    ROWS,
    Context,
    Positions,
    chunks,
    groups,
    joint,
    positions_of,
    starts,
)
from interp.circuits.states import Sides
from interp.errors import UsageError
from interp.models.writes import not_a_sum
from interp.tracing.calls import skip_logits
from interp.tracing.partial import passed_over
from interp.tracing.tracer import trace


@dataclass(frozen=True)
class Effects:
    """Changes of the logit difference, float32; a layer without attention or without an MLP has NaN.

    Attributes:
        heads: [layer, head, pair].
        mlps: [layer, pair].
    """

    heads: np.ndarray
    mlps: np.ndarray

    def ratio(self, gap: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """([layer, head], [layer]): mean change over pairs, as a share of the mean of `gap` [pair]."""
        whole = float(gap.mean())
        if whole == 0:
            raise UsageError("corrupting the prompts leaves the mean logit difference as it is: no share can be taken")
        return self.heads.mean(-1) / whole, self.mlps.mean(-1) / whole


def total_effects(
    model: Any, sides: Sides, *, positions: Positions = None, layers: Sequence[int] | None = None, rows: int = ROWS
) -> Effects:
    """Activation patching of each head's `hook_z` and each MLP's output, corrupted into clean.

    Args:
        positions: patched at these: ints, or int64 [pair, n] where each pair has its own; None = all.
        rows: tokens side by side.

    Raises:
        UsageError: a position the prompts do not have.
    """
    asked = positions_of(sides.batch, positions)
    beyond = [layer for layer in layers or () if not 0 <= layer < model.n_layers]
    if beyond:
        raise UsageError(f"layers {beyond}; the model has layers 0..{model.n_layers - 1}")
    found = Found(model, len(sides.batch))
    for start, members in groups(starts(sides.batch, asked)):
        context = Context(model, sides.batch, members, start)
        ids, cut = sides.batch.clean[:, context.cut], context.cut
        for layer in range(model.n_layers) if layers is None else sorted(set(layers)):
            for heads, pairs in chunks(sides, layer, max(1, rows // sides.batch.clean.shape[1]), members):
                where = torch.arange(ids.shape[1]) if asked is None else asked[pairs] - context.start
                edits = [
                    SetStates(layer, sides.clean.resid[layer][pairs, cut]),
                    *patches(sides, layer, heads, pairs, where, cut),
                ]
                with sides.metric.on(model), passed_over(model, layer), trace(model, edit=edits) as t:
                    out = t.run(ids[pairs], cache=context.of(pairs), **skip_logits(model))
                found.put(layer, heads, pairs, sides.metric.of(out, pairs) - sides.clean.difference[pairs])
    return found.effects()


def direct_effects(model: Any, sides: Sides, *, freeze_mlps: bool = False, rows: int = ROWS) -> Effects:
    """Path patching of each head and MLP to the logits at the last position, attention held as in the clean run.

    Args:
        freeze_mlps: hold the MLPs, too; the change then reaches the logits through the residual stream alone.
        rows: tokens side by side.
    """
    found, last, end = Found(model, len(sides.batch)), slice(-1, None), model.n_layers - 1
    held, where = Held(model, sides, last), torch.zeros(1, dtype=torch.long)
    jump = freeze_mlps and not_a_sum(model.sites) is None  # later blocks then add what they added in the clean run
    for of, heads, pairs in joint(sides, range(model.n_layers), rows, 0 if jump else ENOUGH):
        first, layers = int(of[0]), of.unique().tolist()
        until = first if jump else end
        edits: list[Any] = [SetStates(first, sides.clean.resid[first][pairs, last])]
        if until < end:
            added = sides.clean.final[pairs, last] - sides.clean.resid[first + 1][pairs, last]
            edits.append(AddRows(f"blocks.{end}.hook_resid_post", added))
        sent = []
        for layer in layers:
            sent += patches(sides, layer, torch.where(of == layer, heads, ELSEWHERE), pairs, where, last)
        with (
            sides.metric.on(model),
            passed_over(model, first, until),
            held.on(range(first, until + 1), pairs, sent, mlps=freeze_mlps) as holding,
            trace(model, edit=[*edits, *holding]) as t,
        ):
            out = t.run(sides.batch.clean[pairs, last], **skip_logits(model))
        change = sides.metric.of(out, pairs) - sides.clean.difference[pairs]
        for layer in layers:
            here = of == layer
            found.put(layer, heads[here], pairs[here], change[here])
    return found.effects()


def patches(sides: Sides, layer: int, heads: Tensor, pairs: Tensor, where: Tensor, cut: slice) -> list[Any]:
    """The edits that bring in the corrupted run's outputs, row by row."""
    edits: list[Any] = []
    if (heads >= 0).any():
        edits.append(PatchHeads(layer, heads, sides.corrupt.z[layer][pairs, cut], where))
    if (heads == MLP).any():
        edits.append(PatchMLP(layer, heads == MLP, sides.corrupt.mlp[layer][pairs, cut], where))
    return edits


class Found:
    """Effects as they come in."""

    def __init__(self, model: Any, n_pairs: int):
        self.heads = np.full((model.n_layers, model.n_heads, n_pairs), np.nan, dtype=np.float32)
        self.mlps = np.full((model.n_layers, n_pairs), np.nan, dtype=np.float32)

    def put(self, layer: int, heads: Tensor, pairs: Tensor, change: Tensor) -> None:
        is_head = (heads >= 0).numpy()
        at, of, value = heads.numpy(), pairs.numpy(), change.numpy()
        self.heads[layer, at[is_head], of[is_head]] = value[is_head]
        self.mlps[layer, of[~is_head]] = value[~is_head]

    def effects(self) -> Effects:
        return Effects(self.heads, self.mlps)
