"""Which rows run side by side, from which token on, and what they share before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from interp.circuits.pairs import Batch
from interp.circuits.states import Sides
from interp.errors import UsageError
from interp.retrieval.cache import feed, fork, shares

MLP, ELSEWHERE = -1, -2
"""Stand for the layer's MLP, and for a sender of another layer, where a head's number stands for a head."""
ENOUGH = 256
"""Rows that make a run worth its while: senders of layers that follow each other share one up to here."""
ROWS = 1 << 14
"""Tokens (rows x positions) that run side by side, unless the caller says otherwise; those that only stand in a KV
cache count, for every row holds a copy."""

Positions = Sequence[int] | Tensor | None
"""The same tokens in every pair, or int64 [pair, n]: each pair's own; None = all."""


def positions_of(batch: Batch, positions: Positions) -> Tensor | None:
    """int64 [pair, n], or None for all.

    Raises:
        UsageError: a position the prompts do not have, or not as many rows as pairs.
    """
    if positions is None:
        return None
    n, length = batch.clean.shape
    if isinstance(positions, Tensor):
        if positions.dim() != 2 or len(positions) != n or positions.is_floating_point():
            raise UsageError(
                f"positions: a tensor of {positions.dtype}, shape {tuple(positions.shape)}, for {n} pairs; expected "
                f"int64 [{n}, positions]"
            )
        asked = positions.long().cpu()
    else:
        asked = torch.tensor(sorted(set(positions)), dtype=torch.long).expand(n, -1)
    if not asked.numel() or asked.min() < 0 or asked.max() >= length:
        raise UsageError(f"positions {asked.unique().tolist()} in prompts of {length} tokens; expected 0..{length - 1}")
    return asked


def starts(batch: Batch, positions: Tensor | None) -> Tensor:
    """[pair]: before this token a patch at `positions` changes nothing: they are not patched, or the prompts agree."""
    first = (batch.clean != batch.corrupt).int().argmax(1)
    return first if positions is None else torch.maximum(first, positions.amin(1))


def groups(starting: Tensor) -> list[tuple[int, Tensor]]:
    """(start, pairs) of each start in `starting` [pair]."""
    return [(int(at), (starting == at).nonzero()[:, 0]) for at in starting.unique()]


def chunks(sides: Sides, layer: int, most: int, pairs: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
    """(sender, pair) of each row of a layer, at most `most` rows at a time; `pairs`: of these alone."""
    senders = list(range(sides.clean.z[layer].shape[2])) if layer in sides.clean.z else []
    senders += [MLP] if layer in sides.clean.mlp else []
    pairs = torch.arange(len(sides.batch)) if pairs is None else pairs
    heads = torch.tensor(senders).repeat_interleave(len(pairs))
    return list(zip(heads.split(most), pairs.repeat(len(senders)).split(most), strict=True)) if senders else []


def joint(sides: Sides, layers: range, most: int, enough: int = ENOUGH) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(layer, sender, pair) of each row, run by run, ascending by layer: `chunks`, of which those of layers that follow
    each other are one run where they have no more than `enough` rows together. Such a run begins in its first layer:
    rows of later ones go through it unchanged."""
    runs: list[tuple[Tensor, Tensor, Tensor]] = []
    for layer in layers:
        for heads, pairs in chunks(sides, layer, most):
            row = torch.full_like(heads, layer), heads, pairs
            if runs and len(runs[-1][0]) + len(heads) <= min(enough, most):
                runs[-1] = tuple(torch.cat(both) for both in zip(runs[-1], row, strict=True))  # type: ignore[assignment]
            else:
                runs.append(row)
    return runs


class Context:
    """The clean run of some pairs up to a token, which their rows share.

    Attributes:
        start: that token; 0 where this model's KV cache cannot be shared.
    """

    def __init__(self, model: Any, batch: Batch, pairs: Tensor, start: int):
        self.device, self.start, self.cache = model.device, start, None
        self.number = torch.full((len(batch),), -1)
        self.number[pairs] = torch.arange(len(pairs))
        if start:
            cache, _ = feed(model, batch.clean[pairs, :start], None)
            self.start, self.cache = (start, cache) if shares(cache) else (0, None)

    @property
    def cut(self) -> slice:
        """What is left to run."""
        return slice(self.start, None)

    def of(self, pairs: Tensor) -> Any:
        """A KV cache for one row a pair, or None."""
        if self.cache is None:
            return None
        cache = fork(self.cache)
        cache.batch_select_indices(self.number[pairs].to(self.device))
        return cache
