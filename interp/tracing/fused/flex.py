"""FlexAttention's part: column sums on a GPU, and attention under masks and soft caps that plain kernels do not take.

Compiled on a GPU. Uncompiled (in tests on a CPU) it forms all scores, so nothing else may call it there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp.tracing.fused.kernels import padded

if TYPE_CHECKING:
    from interp.tracing.fused.call import Call

BLOCK = 128
NARROW = 16  # the least width of a head that Triton multiplies
VARIANTS = 128  # compilations of FlexAttention in a process: directions, masks, lengths, precisions, GPUs


@functools.lru_cache(maxsize=1)
def usable() -> bool:
    """Whether a GPU and Triton are there to compile for."""
    import importlib.util

    return torch.cuda.is_available() and importlib.util.find_spec("triton") is not None


@functools.lru_cache(maxsize=2)
def kernel(device: str) -> Callable[..., Any]:
    """FlexAttention for a kind of device. `fullgraph`: what cannot be compiled is an error; run as plain Python, it
    would form every score."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, fullgraph=True) if device == "cuda" else flex_attention


def run(
    query: Tensor, key: Tensor, value: Tensor, score: Any, block_mask: Any, scaling: float
) -> tuple[Tensor, Tensor]:
    """(output, logsumexp) of FlexAttention."""
    from torch.nn.attention.flex_attention import AuxRequest

    d_v = value.shape[-1]
    query, key, value = (padded(one, max(NARROW, one.shape[-1])) for one in (query, key, value))
    with torch._dynamo.config.patch(recompile_limit=VARIANTS):
        out, aux = kernel(query.device.type)(
            query, key, value, score_mod=score, block_mask=block_mask, scale=scaling, return_aux=AuxRequest(lse=True)
        )
    return out[..., :d_v], aux.lse


def attended(call: Call, value: Tensor) -> tuple[Tensor, Tensor]:
    """Output and logsumexp of a call under its mask and soft cap, before learned sinks. Query heads of one KV head go
    one after the other, so that keys are never repeated."""
    groups = call.groups
    seen = forward_mask(call)
    out = value.new_empty(*call.query.shape[:3], value.shape[-1], dtype=call.query.dtype).unflatten(1, (-1, groups))
    lses = []
    for index, group in enumerate(call.query.unflatten(1, (-1, groups)).unbind(2)):
        key, given = call.key.to(group.dtype), value.to(group.dtype)
        out[:, :, index], lse = run(group, key, given, capped(call.softcap), seen, call.scaling)
        lses.append(lse.float())
    return out.flatten(1, 2), torch.stack(lses, 2).flatten(1, 2)


def column_sums(call: Call, offsets: Tensor) -> Tensor:
    """See `interp.tracing.fused.call.column_sums`; here the offset is added to the score, which no precision of the
    model's can blur."""
    seen = backward_mask(call)
    nothing = call.query.new_zeros(len(offsets), call.key.shape[1], call.query.shape[2], NARROW)
    parts = (one.unflatten(1, (-1, call.groups)).unbind(2) for one in (call.query, offsets))
    sums = [
        run(call.key.to(query.dtype), query, nothing, capped(call.softcap, offset), seen, call.scaling)[1]
        for query, offset in zip(*parts, strict=True)
    ]
    return torch.stack(sums, 2).flatten(1, 2).exp().nan_to_num(0.0)


def capped(softcap: float | None, offset: Tensor | None = None) -> Any:
    """A score modification: the soft cap, then `offset` [batch, head, key] added; None where nothing changes."""
    if softcap is None and offset is None:
        return None
    added = None if offset is None else offset.contiguous()

    def change(score: Tensor, batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        score = score if softcap is None else torch.tanh(score / softcap) * softcap
        return score if added is None else score + added[batch, head, column]

    return change


def forward_mask(call: Call) -> Any:
    """Which keys a query sees."""
    if call.mask is not None:
        return from_dense(call.mask)
    past, valid = offset_of(call), call.valid

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return key <= query + past

    def seen_and_valid(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        assert valid is not None
        return (key <= query + past) & valid[batch, key]

    sizes = (call.query.shape[2], call.key.shape[2], call.past, call.query.device)
    return triangle(seen, *sizes) if valid is None else triangle(seen_and_valid, *sizes, all_partial=True)


def backward_mask(call: Call) -> Any:
    """Which queries see a key."""
    if call.mask is not None:
        return from_dense(call.mask.transpose(-1, -2))
    past = offset_of(call)

    def seen(batch: Tensor, head: Tensor, key: Tensor, query: Tensor) -> Tensor:
        return key <= query + past

    n_queries, n_keys = call.query.shape[2], call.key.shape[2]
    return triangle(seen, n_keys, n_queries, call.past, call.query.device, backward=True)


def offset_of(call: Call) -> Tensor:
    """`past` as a tensor: as a number it would be part of the compiled code, and every chunk would compile anew."""
    return torch.tensor(call.past, device=call.query.device)


def from_dense(mask: Tensor) -> Any:
    """A block mask of a mask [batch, 1, row, column] that exists already, looked through a row of blocks at a time."""

    def seen(batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return mask[batch, 0, row, column]

    n_rows, n_columns = mask.shape[-2:]
    extra = -n_columns % BLOCK
    partial, full = [], []
    for start in range(0, n_rows, BLOCK):
        strip = torch.nn.functional.pad(mask[:, 0, start : start + BLOCK], (0, extra)).unflatten(-1, (-1, BLOCK))
        whole = strip.all(-1).all(1) & (strip.shape[1] == BLOCK)
        full.append(whole)
        partial.append(strip.any(-1).any(1) & ~whole)
    return block_mask(torch.stack(partial, 1)[:, None], torch.stack(full, 1)[:, None], seen, (n_rows, n_columns))


def triangle(
    seen: Any,
    n_rows: int,
    n_columns: int,
    past: int,
    device: torch.device,
    backward: bool = False,
    all_partial: bool = False,
) -> Any:
    """The block mask of causal attention, written down: found by trying, it would cost a [query, key] mask.

    Forwards, row q sees columns up to past + q; backwards, row k is seen by columns from k - past on. `all_partial` =
    every block goes through `seen`.
    """
    rows, columns = -(-n_rows // BLOCK), -(-n_columns // BLOCK)
    first = torch.arange(rows, device=device)[:, None] * BLOCK  # of the block's rows
    last = (first + BLOCK - 1).clamp_max(n_rows - 1)
    low = torch.arange(columns, device=device)[None] * BLOCK
    high = (low + BLOCK - 1).clamp_max(n_columns - 1)
    any_seen = first <= high + past if backward else low <= last + past
    all_seen = last <= low + past if backward else high <= first + past
    # a block that the sequence does not fill goes through the mask, as those on the diagonal do
    full = (
        torch.zeros_like(all_seen) if all_partial else all_seen & (first + BLOCK <= n_rows) & (low + BLOCK <= n_columns)
    )
    return block_mask((any_seen & ~full)[None, None], full[None, None], seen, (n_rows, n_columns))


def block_mask(partial: Tensor, full: Tensor, seen: Any, lengths: tuple[int, int]) -> Any:
    """A block mask from which blocks [batch or 1, 1, row, column] are seen in part, and which as a whole."""
    from torch.nn.attention.flex_attention import BlockMask

    (counts, order), (full_counts, full_order) = listed(partial), listed(full)
    return BlockMask.from_kv_blocks(
        counts, order, full_counts, full_order, BLOCK, seen, seq_lengths=lengths, compute_q_blocks=False
    )


def listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """(how many, which) columns of blocks [..., row, column] are set."""
    order = blocks.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1).to(torch.int32), order.to(torch.int32).contiguous()
