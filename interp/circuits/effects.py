"""What every head and MLP does to the logit difference, exactly.

total: its output comes from the corrupted run, everything after it follows (activation patching; Wang et al. 2022,
arXiv 2211.00593; Merullo et al. 2023, arXiv 2310.08744). direct: the same at the last position, with every other head
as in the clean run, so that the change reaches the logits through the residual stream, and through the MLPs unless
these are held, too (path patching to the logits).

Only what can change is computed: blocks from the patched one on; positions from the first that differs on; for the
direct effect the last position alone, since with attention held no other is read; and of the unembedding the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.circuits.edits import PatchHeads, PatchMLP, SetRows, SetStates
from interp.circuits.states import Sides
from interp.errors import UsageError
from interp.retrieval.cache import feed, fork, shares
from interp.tracing.calls import skip_logits
from interp.tracing.partial import passed_over
from interp.tracing.tracer import trace

MLP = -1
"""Stands for the layer's MLP where a head's number stands for a head."""
ROWS = 1 << 14
"""Tokens (rows x positions) that run side by side, unless the caller says otherwise."""


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


def total_effects(model: Any, sides: Sides, *, positions: Sequence[int] | None = None, rows: int = ROWS) -> Effects:
    """Activation patching of each head's `hook_z` and each MLP's output, corrupted into clean.

    Args:
        positions: patched at these; None = all.
        rows: tokens side by side.

    Raises:
        UsageError: a position the prompts do not have.
    """
    batch, length = sides.batch, sides.batch.clean.shape[1]
    asked = list(range(length)) if positions is None else sorted(set(positions))
    if not asked or asked[0] < 0 or asked[-1] >= length:
        raise UsageError(f"positions {asked} in prompts of {length} tokens; expected 0..{length - 1}")
    start = min(batch.differs, length - 1)
    where = torch.tensor([at - start for at in asked if at >= start], dtype=torch.long)
    context = None
    if start:
        context, _ = feed(model, batch.clean[:, :start], None)
        if not shares(context):
            context, start = None, 0
            where = torch.tensor(asked)
    found = Found(model, len(batch))
    for layer in range(model.n_layers):
        for heads, pairs in chunks(sides, layer, max(1, rows // (length - start))):
            cut = slice(start, None)
            edits = [
                SetStates(layer, sides.clean.resid[layer][pairs, cut]),
                *patches(sides, layer, heads, pairs, where, cut),
            ]
            cache = None
            if context is not None:
                cache = fork(context)
                cache.batch_select_indices(pairs.to(model.device))
            with sides.metric.on(model), passed_over(model, layer), trace(model, edit=edits) as t:
                out = t.run(batch.clean[pairs, cut], cache=cache, **skip_logits(model))
            found.put(layer, heads, pairs, sides.metric.of(out, pairs) - sides.clean.difference[pairs])
    return found.effects()


def direct_effects(model: Any, sides: Sides, *, freeze_mlps: bool = False, rows: int = ROWS) -> Effects:
    """Path patching of each head and MLP to the logits at the last position, attention held as in the clean run.

    Args:
        freeze_mlps: hold the MLPs, too; the change then reaches the logits through the residual stream alone.
        rows: tokens side by side.
    """
    found, last = Found(model, len(sides.batch)), slice(-1, None)
    where = torch.zeros(1, dtype=torch.long)
    for layer in range(model.n_layers):
        for heads, pairs in chunks(sides, layer, rows):
            after = range(layer, model.n_layers)
            edits: list[Any] = [
                SetStates(layer, sides.clean.resid[layer][pairs, last]),
                SetRows("attn.hook_z", {at: sides.clean.z[at][pairs, last] for at in after if at in sides.clean.z}),
            ]
            if freeze_mlps:
                held = {at: sides.clean.mlp[at][pairs, last] for at in after if at in sides.clean.mlp}
                edits.append(SetRows("hook_mlp_out", held))
            edits += patches(sides, layer, heads, pairs, where, last)
            with sides.metric.on(model), passed_over(model, layer), trace(model, edit=edits) as t:
                out = t.run(sides.batch.clean[pairs, last], **skip_logits(model))
            found.put(layer, heads, pairs, sides.metric.of(out, pairs) - sides.clean.difference[pairs])
    return found.effects()


def patches(sides: Sides, layer: int, heads: Tensor, pairs: Tensor, where: Tensor, cut: slice) -> list[Any]:
    """The edits that bring in the corrupted run's outputs, row by row."""
    edits: list[Any] = []
    if (heads >= 0).any():
        edits.append(PatchHeads(layer, heads, sides.corrupt.z[layer][pairs, cut], where))
    mlps = (heads == MLP).nonzero()[:, 0]
    if len(mlps):
        edits.append(PatchMLP(layer, mlps, sides.corrupt.mlp[layer][pairs, cut], where))
    return edits


def chunks(sides: Sides, layer: int, most: int) -> list[tuple[Tensor, Tensor]]:
    """(sender, pair) of each row of a layer, at most `most` rows at a time."""
    senders = list(range(sides.clean.z[layer].shape[2])) if layer in sides.clean.z else []
    senders += [MLP] if layer in sides.clean.mlp else []
    n = len(sides.batch)
    heads = torch.tensor(senders).repeat_interleave(n)
    pairs = torch.arange(n).repeat(len(senders))
    return list(zip(heads.split(most), pairs.split(most), strict=True)) if senders else []


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
