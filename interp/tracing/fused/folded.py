"""What fused kernels say of a whole call, in the terms in which a pass over a block of rows is asked (`Asked`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from interp.scoring.asked import Asked, Folded
from interp.tracing.fused.call import Call, attended, received
from interp.tracing.fused.kernels import padded

STRIP = 8192  # queries at once, where each has one key
TOKENS = 1 << 24  # scores at once, where each has several


def can(asked: Asked | None, softcap: float | None) -> bool:
    """Whether everything that is asked comes without rows: not a query's top key, which no sum over keys finds, and not
    its entropy where a soft cap keeps the scores from being linear in the keys."""
    return asked is not None and not asked.top and not (asked.entropy and softcap is not None)


def fold(call: Call, lse: Tensor, asked: Asked, key_start: int) -> Folded:
    """`Folded` of all queries of a call; `lse` as `attended` gives it, `key_start` = position of the first key."""
    device, nothing = call.query.device, np.empty(0, np.float32)
    folded = Folded(nothing, nothing, nothing, nothing, nothing, nothing)
    if asked.received is not None:
        weights = torch.from_numpy(asked.received).to(device)
        folded.received = plain(received(call, lse, weights))
    if asked.row_sum or asked.entropy:
        mass = row_sum(call, lse)
        folded.row_sum = plain(mass)
        if asked.entropy:
            folded.entropy = plain(entropy(call, lse, mass))
    if asked.sets is not None:
        folded.sets = plain(on_sets(call, torch.from_numpy(asked.sets).to(device)))
    ids = None if asked.ids is None else torch.from_numpy(asked.ids).to(device)
    for kind in asked.offsets:
        folded.offsets[kind] = plain(on_offset(call, lse, kind, ids, key_start))
    return folded


def plain(tensor: Tensor) -> np.ndarray:
    """On the CPU, float32."""
    return tensor.detach().float().contiguous().cpu().numpy()


def in_single(call: Call) -> Call:
    """The call in float32: a kernel rounds its output to the precision it is given."""
    return replace(call, query=call.query.float(), key=call.key.float(), value=call.value.float())


def row_sum(call: Call, lse: Tensor) -> Tensor:
    """[batch, head, query] 1, or what a learned sink leaves, or 0 where a query sees nothing."""
    if call.sinks is None:
        return torch.isfinite(lse).float()
    # lse = log(exp(own) + exp(sink)), so that the keys have 1 - exp(sink - lse)
    return 1 - (call.sinks.float()[None, :, None] - lse).exp()


def entropy(call: Call, lse: Tensor, mass: Tensor) -> Tensor:
    """[batch, head, query] -sum p ln p = lse * sum p - scaling * q . (P K)  (DESIGN decision 4).

    Keys are taken relative to their mean first: it moves every score of a query alike, and what is left to cancel is
    small.
    """
    n_keys = call.key.shape[2]
    counted = torch.ones(len(call.key), n_keys, device=lse.device) if call.valid is None else call.valid.float()
    middle = (call.key.float() * (counted / counted.sum(-1, keepdim=True).clamp_min(1))[:, None, :, None]).sum(2)
    middle = middle[:, :, None]
    query = call.query.float() * call.scaling
    shift = (query * middle.repeat_interleave(call.groups, 1)).sum(-1)
    gathered, _ = attended(in_single(call), call.key.float() - middle)
    finite = lse.masked_fill(~torch.isfinite(lse), 0.0)
    return ((finite - shift) * mass - (query * gathered.float()).sum(-1)).clamp_min(0)


def on_sets(call: Call, sets: Tensor) -> Tensor:
    """[set, batch, head, query] mass on key sets given as indicators [set, batch or 1, key]: attention over those
    indicators in place of values, as many at once as a value is wide."""
    batch, kv_heads, n_keys, width = call.key.shape
    single = in_single(call)
    masses = []
    for some in sets.expand(-1, batch, -1).split(width):
        value = some.permute(1, 2, 0)[:, None].expand(batch, kv_heads, n_keys, len(some)).float()
        out, _ = attended(single, padded(value, width))
        masses.append(out[..., : len(some)].permute(3, 0, 1, 2))
    return torch.cat(masses)


def on_offset(call: Call, lse: Tensor, kind: str, ids: Tensor | None, key_start: int) -> Tensor:
    """[batch, head, query] mass on the keys that stand in relation `kind` to each query (see `Offsets`)."""
    if kind in ("current", "previous"):
        return on_one(call, lse, 1 if kind == "previous" else 0)
    assert ids is not None, "these kinds come with token ids"
    return torch.stack([on_copies(call, lse[row], kind, ids[row], row, key_start) for row in range(len(lse))])


def on_one(call: Call, lse: Tensor, back: int) -> Tensor:
    """[batch, head, query] weight of the key `back` places before each query, a strip of queries at a time."""
    mass = torch.zeros_like(lse)
    for start in range(0, lse.shape[-1], STRIP):
        query = torch.arange(start, min(start + STRIP, lse.shape[-1]), device=lse.device)
        key = query + call.past - back
        queries = call.query[:, :, query].float().unflatten(1, (-1, call.groups))
        products = (queries * call.key[:, :, key.clamp_min(0)].float()[:, :, None]).sum(-1).flatten(1, 2)
        there = torch.stack([call.sees(query, key, row) for row in range(len(lse))])
        mass[:, :, query] = (call.scores(products) - lse[:, :, query]).exp().masked_fill(~there[:, None], 0.0)
    return mass


def on_copies(call: Call, lse: Tensor, kind: str, ids: Tensor, row: int, key_start: int) -> Tensor:
    """[head, query] of one sequence: mass on earlier copies of the query's token (``duplicate``) or on the keys after
    them (``induction``), token by token: small products of the queries and the keys in question. Padding has none."""
    mass, step = torch.zeros_like(lse), 1 if kind == "induction" else 0
    first, n_keys = key_start + call.past, call.key.shape[2]  # position of the first query
    columns = torch.arange(n_keys, device=lse.device) + key_start - step  # whose token a key stands for, by position
    real = torch.ones_like(columns, dtype=torch.bool) if call.valid is None else call.valid[row]
    counted = torch.where(real & (columns >= 0), ids[columns.clamp_min(0)], -1)
    asking = torch.where(real[call.past :], ids[first : first + lse.shape[-1]], -2)
    for token in asking.unique().tolist():
        queries, key = (asking == token).nonzero()[:, 0], (counted == token).nonzero()[:, 0]
        if token < 0 or not len(key):
            continue
        keys = call.key[row][:, key].float().repeat_interleave(call.groups, 0)
        for query in queries.split(max(1, TOKENS // (len(lse) * len(key)))):
            allowed = call.sees(query[:, None], key[None], row)
            allowed = allowed if step else allowed & (key[None] < query[:, None] + call.past)
            scores = call.scores(call.query[row][:, query].float() @ keys.transpose(-1, -2))
            mass[:, query] = (scores - lse[:, query, None]).exp().masked_fill(~allowed, 0.0).sum(-1)
    return mass
