"""Fused statistics of one attention call against all of its rows, formed plainly."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.scoring.asked import OFFSETS, Asked
from interp.tracing.fused import flex
from interp.tracing.fused.call import HIDDEN, Call, attended
from interp.tracing.fused.folded import can, fold

HEADS, KV_HEADS, D = 4, 2, 6
CASES: dict[str, dict[str, Any]] = {
    "whole": {},
    "chunk": {"past": 5},
    "one query": {"queries": 1, "past": 8},
    "long": {"queries": 300},
    "long chunk": {"queries": 130, "past": 200},
    "wide values": {"d_v": 10},
    "sinks": {"sinks": True},
    "left padding": {"left": 3},
    "right padding": {"right": 2, "past": 4},
    "sinks and padding": {"sinks": True, "left": 2, "past": 3},
}
FLEXIBLE: dict[str, dict[str, Any]] = {
    "softcap": {"softcap": 2.0},
    "softcap, chunk, padding": {"softcap": 2.0, "past": 5, "left": 2},
    "window": {"window": 4, "queries": 150},
    "window, chunk, sinks": {"window": 3, "past": 6, "sinks": True},
}


def make(
    queries: int = 9,
    past: int = 0,
    d_v: int = D,
    sinks: bool = False,
    left: int = 0,
    right: int = 0,
    softcap: float | None = None,
    window: int | None = None,
) -> Call:
    """A random call of two sequences; padding is in the second one."""
    draw = torch.Generator().manual_seed(queries + 7 * past)
    keys = queries + past
    valid = torch.ones(2, keys, dtype=torch.bool)
    valid[1, :left] = False
    valid[1, keys - right :] = False
    mask = None
    if window is not None:
        query, key = torch.arange(past, keys)[:, None], torch.arange(keys)[None]
        mask = ((key <= query) & (key > query - window))[None, None].repeat(2, 1, 1, 1)
    return Call(
        torch.randn(2, HEADS, queries, D, generator=draw) * 2,
        torch.randn(2, KV_HEADS, keys, D, generator=draw) + 1,  # a common part, as real keys have
        torch.randn(2, KV_HEADS, keys, d_v, generator=draw),
        0.4,
        torch.randn(HEADS, generator=draw) if sinks else None,
        valid if left or right else None,
        softcap,
        mask,
    )


def rows_of(call: Call) -> Tensor:
    """[batch, head, query, key] attention, plainly."""
    scores = call.query.double() @ call.key.double().repeat_interleave(HEADS // KV_HEADS, 1).transpose(-1, -2)
    scores = scores * call.scaling
    if call.softcap is not None:
        scores = torch.tanh(scores / call.softcap) * call.softcap
    n_queries, n_keys = scores.shape[-2:]
    seen = torch.ones(n_queries, n_keys, dtype=torch.bool).tril(n_keys - n_queries)[None, None]
    seen = seen if call.mask is None else seen & call.mask
    seen = seen if call.valid is None else seen & call.valid[:, None, None]
    scores = scores.masked_fill(~seen, -math.inf)
    if call.sinks is not None:
        column = call.sinks.double()[None, :, None, None].expand(*scores.shape[:3], 1)
        return torch.cat([scores, column], -1).softmax(-1)[..., :-1].nan_to_num(0.0)
    return scores.softmax(-1).nan_to_num(0.0)


def offset_mass(rows: Tensor, ids: Tensor, kind: str, past: int) -> Tensor:
    """Mass on keys in relation `kind`, one query after the other."""
    out = torch.zeros(rows.shape[:3], dtype=rows.dtype)
    for row in range(len(rows)):
        for query in range(rows.shape[2]):
            place = past + query
            for key in range(place + 1):
                own = {
                    "current": key == place,
                    "previous": key == place - 1,
                    "duplicate": key < place and bool(ids[row, key] == ids[row, place]),
                    "induction": key >= 1 and bool(ids[row, key - 1] == ids[row, place]),
                }
                if own[kind]:
                    out[row, :, query] += rows[row, :, query, key]
    return out


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """FlexAttention says that it is slow without a compiler; here it only has to be right."""
    flex.kernel.cache_clear()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield
    flex.kernel.cache_clear()


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", [*CASES, *FLEXIBLE])
def test_a_call_says_what_its_rows_say(name: str) -> None:
    call = make(**{**CASES, **FLEXIBLE}[name])
    rows, past = rows_of(call), call.past
    n_queries, n_keys = rows.shape[-2:]
    draw = torch.Generator().manual_seed(1)
    weights = torch.randn(2, n_queries, generator=draw)  # of both signs
    weights[:, ::3] = 0
    ids = torch.randint(0, 4, (2, n_keys), generator=draw)
    sets = (torch.rand(9, 2, n_keys, generator=draw) < 0.3).float()  # more than a value is wide
    kinds = OFFSETS if n_queries < 100 else ("current", "previous")
    asked = Asked(weights.numpy(), call.softcap is None, True, False, sets.numpy(), kinds, ids.numpy())

    out, lse = attended(call)
    values = call.value.double().repeat_interleave(HEADS // KV_HEADS, 1)
    assert torch.allclose(out.double(), rows @ values, atol=2e-6)
    got = fold(call, lse, asked, 0)

    wanted = torch.einsum("bhqk,bq->bhk", rows, weights.double())
    torch.testing.assert_close(torch.from_numpy(got.received).double(), wanted, atol=5e-6, rtol=1e-5)
    torch.testing.assert_close(torch.from_numpy(got.row_sum).double(), rows.sum(-1), atol=2e-6, rtol=0)
    on = torch.einsum("bhqk,sbk->sbhq", rows, sets.double())
    torch.testing.assert_close(torch.from_numpy(got.sets).double(), on, atol=2e-6, rtol=0)
    if call.softcap is None:
        entropy = torch.special.entr(rows).sum(-1)
        torch.testing.assert_close(torch.from_numpy(got.entropy).double(), entropy, atol=1e-5, rtol=0)
    real = torch.ones(2, 1, n_queries) if call.valid is None else call.valid[:, None, past:]  # padding has no copies
    for kind in kinds if n_queries < 100 else ():
        found = torch.from_numpy(got.offsets[kind]).double()
        wanted = offset_mass(rows, ids, kind, past)
        torch.testing.assert_close(found * real, wanted * real, atol=2e-6, rtol=0, msg=kind)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", ["long", "long chunk", "sinks and padding"])
def test_flexattention_sums_columns_as_the_plain_kernels_do(name: str) -> None:
    from interp.tracing.fused.call import column_sums

    call = make(**CASES[name])
    _, lse = attended(call)
    offsets = (torch.rand(2, lse.shape[-1]).log()[:, None] - lse).clamp_min(HIDDEN)  # a blind query's lse is infinite
    masked = torch.ones(2, 1, 1) if call.valid is None else call.valid[:, None]
    torch.testing.assert_close(
        flex.column_sums(call, offsets) * masked, column_sums(call, offsets) * masked, atol=1e-5, rtol=1e-5
    )


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", ["long chunk", "left padding"])
def test_flexattention_attends_as_the_plain_kernels_do(name: str) -> None:
    call = make(**CASES[name])
    out, lse = attended(call)
    flexed, flexed_lse = flex.attended(call, call.value)
    seeing = torch.ones_like(lse, dtype=torch.bool) if call.seeing is None else call.seeing.expand_as(lse)
    torch.testing.assert_close(flexed[seeing], out[seeing], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(flexed_lse[seeing], lse[seeing], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("rows", "columns", "past"), [(300, 300, 0), (128, 384, 256), (130, 330, 200), (5, 9, 4)])
@pytest.mark.parametrize("backward", [False, True])
def test_the_triangle_is_the_mask_that_trying_finds(rows: int, columns: int, past: int, backward: bool) -> None:
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return row <= column + past if backward else column <= row + past

    sizes = (columns, rows) if backward else (rows, columns)
    ours = flex.triangle(seen, *sizes, past, torch.device("cpu"), backward)
    theirs = create_block_mask(seen, None, None, *sizes, "cpu", flex.BLOCK)
    assert torch.equal(ours.to_dense(), theirs.to_dense())


def test_what_needs_rows_is_known() -> None:
    assert can(Asked(entropy=True, row_sum=True), None)
    assert not can(Asked(top=True), None)
    assert not can(Asked(entropy=True), 30.0)
    assert not can(None, None)


def test_half_precision_is_summed_in_single() -> None:
    call = make(queries=64)
    half = replace(call, query=call.query.half(), key=call.key.half(), value=call.value.half())
    out, lse = attended(half)
    assert (out.dtype, lse.dtype) == (torch.float32, torch.float32)
    exact = replace(half, query=half.query.float(), key=half.key.float(), value=half.value.float())
    assert torch.equal(lse, attended(exact)[1])
