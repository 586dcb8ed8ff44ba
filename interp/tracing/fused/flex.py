"""FlexAttention's part: column sums on a GPU, and attention under masks and soft caps that plain kernels do not take.

Compiled on a GPU. Uncompiled (in tests on a CPU) it forms all scores, so nothing else may call it there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from interp.tracing.fused.call import Call

BLOCK = 128
NARROW = 16  # the least width of a value that Triton multiplies


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

    out, aux = kernel(query.device.type)(
        query, key, value, score_mod=score, block_mask=block_mask, scale=scaling, return_aux=AuxRequest(lse=True)
    )
    return out, aux.lse


def attended(call: Call, value: Tensor) -> tuple[Tensor, Tensor]:
    """Output and logsumexp of a call under its mask and soft cap, before learned sinks. Query heads of one KV head go
    one after the other, so that keys are never repeated."""
    n_queries, n_keys, groups = call.query.shape[2], call.key.shape[2], call.groups
    seen = forward_mask(call)
    narrow = value if value.shape[-1] >= NARROW else torch.nn.functional.pad(value, (0, NARROW - value.shape[-1]))
    parts = [
        run(group, call.key, narrow.to(group.dtype), capped(call.softcap), seen, call.scaling)
        for group in call.query.unflatten(1, (-1, groups)).unbind(2)
    ]
    out = torch.stack([part[0] for part in parts], 2).flatten(1, 2)[..., : value.shape[-1]]
    lse = torch.stack([part[1] for part in parts], 2).flatten(1, 2)
    assert out.shape[2] == n_queries <= n_keys
    return out, lse.float()


def received(call: Call, lse: Tensor, weights: Tensor) -> Tensor:
    """See `interp.tracing.fused.call.received`: attention from keys over queries, whose logsumexp is the column sum.

    Here the two terms are added to the score, which no precision of the model's can blur.
    """
    from interp.tracing.fused.call import HIDDEN, signed

    seen = backward_mask(call)

    def one_sided(weight: Tensor) -> Tensor:
        offsets = (weight.log()[:, None] - lse).nan_to_num(HIDDEN, HIDDEN, HIDDEN).clamp_min(HIDDEN)
        nothing = call.query.new_zeros(len(lse), call.key.shape[1], call.query.shape[2], NARROW)
        sums = []
        pairs = zip(
            call.query.unflatten(1, (-1, call.groups)).unbind(2),
            offsets.unflatten(1, (-1, call.groups)).unbind(2),
            strict=True,
        )
        for group, offset in pairs:
            sums.append(run(call.key, group, nothing, capped(call.softcap, offset), seen, call.scaling)[1])
        return torch.stack(sums, 2).flatten(1, 2).exp().nan_to_num(0.0)

    return signed(one_sided, weights)


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
    """A block mask of a mask [batch, 1, row, column] that exists already."""
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return mask[batch, 0, row, column]

    return create_block_mask(seen, len(mask), None, mask.shape[-2], mask.shape[-1], mask.device, BLOCK)


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
    from torch.nn.attention.flex_attention import BlockMask

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
    return BlockMask.from_kv_blocks(
        *listed(any_seen & ~full), *listed(full), BLOCK, seen, seq_lengths=(n_rows, n_columns), compute_q_blocks=False
    )


def listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """(how many, which) columns of blocks [row, column] are set, as FlexAttention takes them."""
    order = blocks.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1).to(torch.int32)[None, None], order.to(torch.int32)[None, None].contiguous()
