"""Whether one attention call goes through fused kernels, and the call itself when it does."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp.tracing.engines import CHOSEN
from interp.tracing.fused import flex
from interp.tracing.fused.call import Call, attended
from interp.tracing.fused.folded import can, fold
from interp.tracing.fused.kernels import on_this_device
from interp.tracing.masks import hidden_keys

if TYPE_CHECKING:
    from interp.tracing.streamed import Tap

LEAST = 1024
"""Queries of a call from which on fused kernels are chosen on a GPU; below, a block holds most of the rows anyway."""

LARGEST_MASK = 1 << 31  # entries; compiled kernels count in 32 bits
MASKS = 4  # remembered; the layers of a pass share one or two

_SEEN: list[tuple[weakref.ref[Tensor], int, tuple[bool, Tensor | None]]] = []
_BROKEN: dict[tuple[Any, ...], str] = {}  # what failed in this process, by kind of call, and why


def fused_attention(
    taps: Sequence[Tap], call: Call, mask: Tensor | None, causal: bool, position_bias: Tensor | None
) -> Tensor | None:
    """Output [batch, query, head, d_v] of a call whose statistics were taken by fused kernels; None = use blocks.

    Taken are all statistics of all taps or none: where one needs rows, the rest comes with them for less.
    """
    engine = next((tap.engine for tap in reversed(taps) if tap.engine), None) or CHOSEN.get()
    forced = engine == "fused"
    if engine == "blocked" or not (forced or worth_it(call.query)):
        return None
    made, why = prepared(taps, call, mask, causal, position_bias)
    broken = "" if made is None or forced else _BROKEN.get(kind_of(made), "")
    why = why or broken
    asked: list[Any] = []
    for tap in taps if made is not None else ():
        parts, missing = tap.asks(call.query.shape, call.key.shape[2])
        names = [*missing, *(name for name, part in parts if not can(part, call.softcap))]
        asked += [(tap, name, part) for name, part in parts if name not in names]
        why = f"{', '.join(names)} need the rows themselves" if names else why
    if why or made is None:
        for tap in taps if forced or broken else ():
            tap.fell_back(why)
        return None
    with torch.no_grad(), torch.autocast(call.query.device.type, enabled=False):
        try:
            out, lse = attended(made)
            folded = [(tap, name, fold(made, lse, part, tap.first_key(made.key.shape[2]))) for tap, name, part in asked]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a kernel that does not compile here: the blocks give the same numbers
            if forced:
                raise
            told = f"fused kernels failed ({type(error).__name__}: {str(error)[:200]})"
            _BROKEN[kind_of(made)] = told
            for tap in taps:
                tap.fell_back(told)
            return None
    for tap, name, found in folded:
        tap.take(name, found, call.query.shape, call.key.shape[2])
    for tap in taps:
        tap.ran("fused")
    return out.to(call.query.dtype).transpose(1, 2).contiguous()


def kind_of(call: Call) -> tuple[Any, ...]:
    """What one kernel compiled for a call serves."""
    query = call.query
    return query.device, query.dtype, query.shape[-1], call.groups, call.softcap is None, call.mask is None


def worth_it(query: Tensor) -> bool:
    """Whether fused kernels are the faster choice for these queries. On a CPU they are not: DESIGN decision 4."""
    return query.device.type == "cuda" and query.shape[2] >= LEAST


def prepared(
    taps: Sequence[Tap], call: Call, mask: Tensor | None, causal: bool, position_bias: Tensor | None
) -> tuple[Call | None, str]:
    """The call as fused kernels run it, or None and why they cannot."""
    if any(tap.edits_rows() for tap in taps):
        return None, "edits of rows need the rows themselves"
    if not on_this_device(call.query.device):
        return None, f"no fused kernels on {call.query.device.type}"
    if torch.is_grad_enabled():
        return None, "gradients flow through rows"
    if position_bias is not None or not (causal or mask is not None):
        return None, "attention with a position bias or without an order of tokens"
    compiled = call.query.device.type == "cuda" and flex.usable()
    if call.softcap is not None and not compiled:
        return None, "a soft cap needs FlexAttention, compiled for a GPU"
    simple, valid = understood(mask, call.query.shape[2], call.key.shape[2])
    if not simple and (not compiled or mask is None or mask.dtype != torch.bool or mask.shape[1] != 1):
        return None, "a mask such as a sliding window's needs FlexAttention, compiled for a GPU"
    if not simple and mask is not None and mask.numel() >= LARGEST_MASK:
        return None, f"a mask of {tuple(mask.shape)} has more entries than compiled kernels count"
    shape = {"valid": valid} if simple else {"mask": mask.expand(len(call.query), -1, -1, -1)}  # type: ignore[union-attr]
    return Call(call.query, call.key, call.value, call.scaling, call.sinks, softcap=call.softcap, **shape), ""


def understood(mask: Tensor | None, n_queries: int, n_keys: int) -> tuple[bool, Tensor | None]:
    """`hidden_keys`, remembered for the layers that are given the very same mask."""
    if mask is None:
        return True, None
    for known, version, told in _SEEN:
        if known() is mask and version == mask._version:
            return told
    told = hidden_keys(mask, n_queries, n_keys)
    _SEEN[:] = [*_SEEN[1 - MASKS :], (weakref.ref(mask), mask._version, told)]
    return told
