"""One attention call whose queries are the last of its keys' positions, and what fused kernels can say of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.tracing.fused import flex
from interp.tracing.fused.kernels import flash, merged

HIDDEN = -1e30  # a score beside which every other one counts; finite, since infinity less infinity is no number


@dataclass(frozen=True)
class Call:
    """A causal attention call: query r stands at key column n_keys - n_queries + r.

    Attributes:
        query: [batch, head, query, d]; key, value: [batch, kv_head, key, d].
        scaling: factor on q.k.
        sinks: [head] learned logits that join the softmax and whose column is dropped (gpt-oss).
        valid: [batch, key] True at keys that may be seen; None = all.
        softcap: scores -> softcap * tanh(scores / softcap) (Gemma 2).
        mask: what each query sees, where that is more than order and `valid` say (sliding windows); `valid` is None.
    """

    query: Float[Tensor, "batch head query d"]
    key: Float[Tensor, "batch kv_head key d"]
    value: Float[Tensor, "batch kv_head key d_v"]
    scaling: float
    sinks: Float[Tensor, " head"] | None = None
    valid: Bool[Tensor, "batch key"] | None = None
    softcap: float | None = None
    mask: Bool[Tensor, "batch 1 query key"] | None = None

    @property
    def groups(self) -> int:
        """Query heads of one KV head."""
        return self.query.shape[1] // self.key.shape[1]

    @property
    def flexible(self) -> bool:
        """Whether only FlexAttention can run it."""
        return self.softcap is not None or self.mask is not None

    @property
    def past(self) -> int:
        """Keys before the first query's own."""
        return self.key.shape[2] - self.query.shape[2]

    @property
    def seeing(self) -> Bool[Tensor, "batch 1 query"] | None:
        """Whether a query sees any key; None = all do."""
        if self.mask is not None:
            return self.mask.any(-1)
        if self.valid is None:
            return None
        return (self.valid.cumsum(-1) > 0)[:, None, self.past :]

    def sees(self, query: Int[Tensor, "*#n"], key: Int[Tensor, "*#n"], row: int) -> Bool[Tensor, "*#n"]:
        """Whether queries see keys (columns of this call, broadcast) in sequence `row`; a key of -1 is none."""
        order = (key >= 0) & (key <= query + self.past)
        if self.mask is not None:
            return order & self.mask[row, 0, query, key.clamp_min(0)]
        return order if self.valid is None else order & self.valid[row, key.clamp_min(0)]

    def scores(self, products: Tensor) -> Tensor:
        """Products of queries and keys as the softmax gets them."""
        scaled = products * self.scaling
        return scaled if self.softcap is None else torch.tanh(scaled / self.softcap) * self.softcap


def attended(call: Call, value: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(attention's output [batch, head, query, d_v], logsumexp [batch, head, query] with the learned sinks in it); the
    output in the precision in which the kernels give it: what is summed in float32 stays so.

    `value`: other values in place of the call's own, per KV head. Queries that see nothing have output 0 and a
    logsumexp of infinity, so that exp(score - logsumexp) is their weight: 0.
    """
    value = call.value if value is None else value
    out, lse = flex.attended(call, value) if wants_flex(call, call.valid is not None) else under_valid(call, value)
    if call.sinks is not None:
        total = torch.logaddexp(lse, call.sinks.float()[None, :, None])
        out, lse = out * (lse - total).exp()[..., None], total
    if (seeing := call.seeing) is not None:
        out, lse = (out * seeing[..., None]).nan_to_num(0.0), lse.masked_fill(~seeing, float("inf"))
    return out, lse


def wants_flex(call: Call, more: bool) -> bool:
    """Whether FlexAttention runs it: where nothing else can, and with `more` to do where it is compiled."""
    return call.flexible or (more and call.query.device.type == "cuda" and flex.usable())


def under_valid(call: Call, value: Tensor) -> tuple[Tensor, Tensor]:
    """Output and logsumexp by plain kernels: order, and keys that are hidden from all."""
    query, key, past = call.query, call.key, call.past
    if call.valid is not None:  # one more axis: 1 at each query, a large negative number at each hidden key
        query = torch.cat([query.float() * call.scaling, query.new_ones(*query.shape[:3], 1).float()], -1)
        hidden = torch.where(call.valid, 0.0, HIDDEN)[:, None, :, None].expand(-1, key.shape[1], -1, -1)
        key, value, call = torch.cat([key.float(), hidden], -1), value.float(), replace(call, scaling=1.0)
    out, lse = flash(query, key[:, :, past:], value[:, :, past:], call.scaling, causal=True)
    if past:
        out, lse = merged((out, lse), flash(query, key[:, :, :past], value[:, :, :past], call.scaling, causal=False))
    return out, lse


def received(
    call: Call, lse: Float[Tensor, "batch head query"], weights: Float[Tensor, "batch query"]
) -> Float[Tensor, "batch head key"]:
    """Weighted attention each key gets: sum over queries of w_i exp(score_ij - lse_i); weights may have any sign.

    With keys and queries exchanged, that sum is the exponential of a logsumexp: attention from key j over the queries
    with scores q_i.k_j * scaling - lse_i + log w_i. Run backwards
    in time, "queries at or after me" is causal attention again, so a fused kernel computes it, for about the cost of
    one more attention forward.
    """
    sums = flex.column_sums if wants_flex(call, True) else column_sums

    def one_sided(weight: Tensor) -> Tensor:
        offsets = (weight.log()[:, None] - lse).nan_to_num(HIDDEN, HIDDEN, HIDDEN).clamp_min(HIDDEN)
        return sums(call, offsets)

    total = one_sided(weights.clamp_min(0))
    if bool((weights < 0).any()):
        total = total - one_sided((-weights).clamp_min(0))
    return total if call.valid is None else total * call.valid[:, None]


def column_sums(call: Call, offsets: Float[Tensor, "batch head query"]) -> Float[Tensor, "batch head key"]:
    """Sum over the queries that see a key of exp(score + offset), by plain kernels: the offset is a further axis."""
    past = call.past
    key = torch.nn.functional.pad(call.key.float(), (0, 1), value=1.0)
    queries = torch.cat([call.query.float() * call.scaling, offsets[..., None]], -1)
    sums = []
    for query in queries.unflatten(1, (-1, call.groups)).unbind(2):
        # only the logsumexp is wanted: any values will do
        backwards = query.flip(2)
        lses = [flash(key[:, :, past:].flip(2), backwards, backwards, 1.0, causal=True)[1].flip(-1)]
        if past:
            lses.insert(0, flash(key[:, :, :past], query, query, 1.0, causal=False)[1])
        sums.append(torch.cat(lses, -1))
    return torch.stack(sums, 2).flatten(1, 2).exp()
