"""What edits of attention rows share: named heads, key sets, and moving mass within a row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import UsageError
from interp.interventions.ablate import as_pairs, heads_of
from interp.tracing.blocks import RowBlock

Pairs = Sequence[tuple[int, int]]
NO_MASS = torch.finfo(torch.float32).tiny
"""A row with less than this outside what is taken away has nowhere to put it."""


def checked_pairs(heads: Iterable[tuple[int, int]] | None) -> Pairs | None:
    """(layer, head) pairs, None = every head.

    Raises:
        UsageError: a pair that is not two non-negative ints.
    """
    return None if heads is None else as_pairs(heads)


def layers_of(heads: Pairs | None) -> frozenset[int] | None:
    """The layers named; None = all."""
    return None if heads is None else frozenset(layer for layer, _ in heads)


def heads_in(block: RowBlock, heads: Pairs | None) -> Int[Tensor, " chosen"]:
    """Indices of the heads named in the block's layer.

    Raises:
        UsageError: a head the layer does not have.
    """
    n_heads, device = block.rows.shape[1], block.rows.device
    if heads is None:
        return torch.arange(n_heads, device=device)
    named = sorted(set(heads_of(heads, block.layer)))
    if named and named[-1] >= n_heads:
        raise UsageError(f"layer {block.layer} has heads 0..{n_heads - 1}, asked for {named[-1]}")
    return torch.tensor(named, dtype=torch.long, device=device)


def as_keys(members: Any, what: str) -> Tensor:
    """Key positions [number] or a bool mask of any shape, as a tensor.

    Raises:
        UsageError: it is neither, or positions count below 0.
    """
    try:
        given = torch.as_tensor(sorted(members) if isinstance(members, Set) else members)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{what}: expected key positions or a bool mask, got {members!r}") from error
    if given.dtype == torch.bool:
        return given
    if not given.numel():
        return given.long().flatten()
    if given.is_floating_point() or given.is_complex() or given.dim() > 1:
        raise UsageError(
            f"{what}: expected key positions or a bool mask [key] or [batch, key], got {given.dtype} of shape "
            f"{tuple(given.shape)}"
        )
    if int(given.min()) < 0:
        raise UsageError(f"{what}: key positions count from 0, got {int(given.min())}")
    return given.long().flatten()


def key_set(members: Any, block: RowBlock, what: str) -> Bool[Tensor, "batch_or_1 key"]:
    """Which columns of the block belong to a key set.

    Args:
        members: absolute key positions (ints, in any collection), or a bool mask [key] or [batch, key]; a key beyond
            the mask is out.
        what: what to call it in an error.

    Raises:
        UsageError: neither positions nor a mask, positions below 0, or a mask for another number of sequences.
    """
    given = as_keys(members, what)
    keys = block.key_positions
    if given.dtype != torch.bool:
        return torch.isin(keys, given.to(keys.device))[None]
    if given.dim() not in (1, 2) or (given.dim() == 2 and given.shape[0] not in (1, block.rows.shape[0])):
        raise UsageError(
            f"{what}: a mask of shape {tuple(given.shape)} for {block.rows.shape[0]} sequences; expected [key] or "
            "[batch, key]"
        )
    given = given.to(keys.device)
    short = block.key_start + block.rows.shape[3] - given.shape[-1]
    if short > 0:
        given = torch.nn.functional.pad(given, (0, short))
    inside = given[..., keys]
    return inside[None] if inside.dim() == 1 else inside


def move_mass(
    rows: Float[Tensor, "batch head row key"],
    source: Tensor,
    target: Tensor,
    share: float,
    evenly: bool = False,
) -> Float[Tensor, "batch head row key"]:
    """Move `share` of the mass on `source` keys to `target` keys; every row keeps its sum.

    Args:
        source, target: bool, broadcast to `rows`; disjoint.
        evenly: the same amount to every target that holds any mass; else in proportion to what it holds.

    A row whose targets hold no mass is left as it was. A key a query cannot see holds none and gets none.
    """
    taken = rows * source
    goal = rows * target
    held = goal.sum(-1, keepdim=True)
    freed = share * taken.sum(-1, keepdim=True)
    if evenly:
        spread = (goal > 0).to(rows.dtype)
        spread = spread / spread.sum(-1, keepdim=True).clamp_min(1.0)
    else:
        spread = goal / held.clamp_min(NO_MASS)
    moved = rows - share * taken + freed * spread
    return torch.where(held >= NO_MASS, moved, rows)


def with_heads(rows: Tensor, chosen: Tensor, changed: Tensor) -> Tensor:
    """`rows` [batch, head, row, key] with the chosen heads' rows replaced."""
    return changed if len(chosen) == rows.shape[1] else rows.index_copy(1, chosen, changed)
