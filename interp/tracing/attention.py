"""Attention in blocks of query rows: exact softmax rows, folded into statistics and dropped (DESIGN decision 3).

Registered with transformers' `AttentionInterface` *and* `AttentionMaskInterface`; without the second, causal masking
would silently disappear. Memory beyond the layer's own tensors is one block of rows, never [query, key].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from interp.errors import TraceError
from interp.tracing.budget import BUDGET

NAME = "interp_streamed"
LOOP_ROWS = 128  # on a CPU, one matmul a KV head beats a batched one from so many rows on (measured, 2 cores)

# Keywords transformers passes along that cannot change the result of one attention call.
HARMLESS = frozenset(
    {"position_ids", "cache_position", "position_embeddings", "past_key_value", "past_key_values", "cache", "use_cache"}
    | {"output_attentions", "output_hidden_states", "output_router_logits", "return_dict", "logits_to_keep"}
    | {"num_items_in_batch", "labels", "deterministic"}
)

Fold = Callable[[Float[Tensor, "batch head row key"], int, int], Tensor | None]


@dataclass(frozen=True)
class RowRules:
    """How scores become rows, beyond the plain softmax.

    Attributes:
        scaling: factor on q.k.
        softcap: scores -> softcap * tanh(scores / softcap) (Gemma 2).
        sinks: [head] learned logits that join the softmax and whose column is dropped (gpt-oss).
        causal: with no mask, query i sees keys up to its own position.
    """

    scaling: float
    softcap: float | None = None
    sinks: Float[Tensor, " head"] | None = None
    causal: bool = True


def rows_per_block(batch: int, heads: int, keys: int, block_rows: int | None = None) -> int:
    """Query rows in one block: as many as keep the scores within the budget of the run."""
    return BUDGET.get().rows(batch * heads * keys) if block_rows is None else block_rows


def check_keywords(module: nn.Module, keywords: dict[str, object]) -> None:
    """Refuse what this function does not know (STYLE 3): a keyword with a value that is not listed as harmless.

    Raises:
        TraceError: names the keyword and the module.
    """
    for name, value in keywords.items():
        if value is not None and name not in HARMLESS:
            raise TraceError(
                f"{type(module).__name__} passes `{name}` to its attention, which the tracer does not know and will "
                "not ignore; trace this model with its attention set to 'eager', or report the family"
            )


def as_bias_and_mask(
    mask: Tensor | None,
) -> tuple[Bool[Tensor, "b h q k"] | None, Float[Tensor, "b h q k"] | None]:
    """Split an HF mask into what may be seen (bool) and what is added to the scores (float), either None."""
    if mask is None:
        return None, None
    if mask.dim() != 4:
        raise TraceError(
            f"attention mask of shape {tuple(mask.shape)}: the tracer takes [batch, 1 or head, query, key]"
        )
    if mask.dtype == torch.bool:
        return mask, None
    seen = mask > torch.finfo(mask.dtype).min / 2
    return seen, torch.where(seen, mask, 0).float()


def visible_range(seen: Bool[Tensor, "b h r k"] | None, causal: bool, last_query: int, n_keys: int) -> tuple[int, int]:
    """The smallest [low, high) of key columns that these rows can see (at least one column)."""
    if seen is None:
        return 0, min(n_keys, last_query + 1) if causal else n_keys
    columns = seen.flatten(0, 2).any(0).nonzero()
    if not len(columns):
        return 0, 1
    return int(columns[0]), int(columns[-1]) + 1


def attend(
    query: Float[Tensor, "batch head query d"],
    key: Float[Tensor, "batch kv_head key d"],
    value: Float[Tensor, "batch kv_head key d_v"],
    mask: Tensor | None,
    rules: RowRules,
    fold: Fold,
    *,
    full_rows: bool = False,
    block_rows: int | None = None,
) -> Float[Tensor, "batch query head d_v"]:
    """Exact attention, block by block; `fold(rows, first query, first key column)` sees each block in float32.

    `fold` may return edited rows, used for the output from then on. Query heads of one KV head share a matmul, so keys
    are never repeated. Query r of the call stands at key column n_keys - n_queries + r (KV cache).

    Args:
        mask: bool (True = visible) or additive float [batch, 1 or head, query, key], or None.
        full_rows: give `fold` all key columns (row edits may put mass on any of them).
        block_rows: rows a block; None chooses.
    """
    batch, heads, n_queries, _ = query.shape
    kv_heads, n_keys = key.shape[1], key.shape[2]
    groups = heads // kv_heads
    if groups * kv_heads != heads:
        raise TraceError(f"{heads} query heads do not divide over {kv_heads} key heads")
    seen, bias = as_bias_and_mask(mask)
    offset = n_keys - n_queries
    in_place = not torch.is_grad_enabled()
    scaled = (query.float() * rules.scaling).reshape(batch * kv_heads, groups, n_queries, -1)
    keys_t = key.float().reshape(batch * kv_heads, n_keys, -1).transpose(1, 2)
    values = value.float().reshape(batch * kv_heads, n_keys, -1)
    step = rows_per_block(batch, heads, n_keys, block_rows)
    buffer = scaled.new_empty(batch * heads * min(step, n_queries) * n_keys) if in_place else None
    result = query.new_empty(batch, n_queries, heads, value.shape[-1]) if in_place else None
    pieces: list[Tensor] = []
    for start in range(0, n_queries, step):
        stop = min(start + step, n_queries)
        n_rows = stop - start
        seen_here = None if seen is None else seen[:, :, start:stop]
        low, high = visible_range(seen_here, rules.causal, offset + stop - 1, n_keys)
        if full_rows:
            low, high = 0, n_keys
        width = high - low
        q_block = scaled[:, :, start:stop].reshape(batch * kv_heads, groups * n_rows, -1)
        k_block, v_block = keys_t[:, :, low:high], values[:, low:high]
        if buffer is not None:
            scores = buffer[: batch * heads * n_rows * width].view(batch * kv_heads, groups * n_rows, width)
            products(q_block, k_block, scores)
        else:
            scores = torch.bmm(q_block, k_block)
        shape = (batch, heads, n_rows, width)
        bias_here = None if bias is None else bias[:, :, start:stop, low:high]
        visible = None if seen_here is None else seen_here[..., low:high]
        diagonal = offset + start - low if visible is None and rules.causal else None
        rows = softmax_rows(scores.view(shape), rules, bias_here, visible, diagonal, in_place)
        edited = fold(rows, start, low)
        rows = rows if edited is None else edited
        out = products(rows.reshape(batch * kv_heads, groups * n_rows, width), v_block)
        out = out.view(batch, heads, n_rows, -1).transpose(1, 2)
        if result is None:
            pieces.append(out)
        else:
            result[:, start:stop] = out
    return torch.cat(pieces, dim=1).to(query.dtype) if result is None else result


def products(
    left: Float[Tensor, "n row inner"], right: Float[Tensor, "n inner column"], out: Tensor | None = None
) -> Float[Tensor, "n row column"]:
    """Batched matrix product, into `out` when given."""
    if torch.is_grad_enabled() or left.device.type != "cpu" or left.shape[1] < LOOP_ROWS:
        return torch.bmm(left, right) if out is None else torch.bmm(left, right, out=out)
    if out is None:
        out = left.new_empty(left.shape[0], left.shape[1], right.shape[2])
    for index in range(left.shape[0]):
        torch.mm(left[index], right[index], out=out[index])
    return out


def softmax_rows(
    scores: Float[Tensor, "batch head row key"],
    rules: RowRules,
    bias: Tensor | None,
    visible: Bool[Tensor, "b h row key"] | None,
    diagonal: int | None,
    in_place: bool,
) -> Float[Tensor, "batch head row key"]:
    """Scores to rows: softcap, bias, mask, softmax, learned sinks, in that order (as HF's eager functions do).

    `diagonal`: with no mask, row r sees columns up to diagonal + r. A row that sees nothing becomes all zero.
    """
    if rules.softcap is not None:
        scores = (
            scores.div_(rules.softcap).tanh_().mul_(rules.softcap)
            if in_place
            else torch.tanh(scores / rules.softcap) * rules.softcap
        )
    if bias is not None:
        scores = scores.add_(bias) if in_place else scores + bias
    empty = None
    if diagonal is not None:
        # only columns right of the first row's own can be hidden
        first = max(0, min(diagonal + 1, scores.shape[-1]))
        corner = scores[..., first:]
        if corner.shape[-1]:
            shape = (scores.shape[2], corner.shape[-1])
            hidden = torch.ones(shape, dtype=torch.bool, device=scores.device).triu(diagonal + 1 - first)
            if in_place:
                corner.masked_fill_(hidden, float("-inf"))
            else:
                scores = torch.cat([scores[..., :first], corner.masked_fill(hidden, float("-inf"))], dim=-1)
    elif visible is not None and not bool(visible.all()):
        hidden = ~visible
        scores = scores.masked_fill_(hidden, float("-inf")) if in_place else scores.masked_fill(hidden, float("-inf"))
        empty = hidden.all(-1, keepdim=True)
        empty = empty if bool(empty.any()) else None
    factor = None
    if rules.sinks is not None:
        factor = torch.sigmoid(scores.logsumexp(-1, keepdim=True) - rules.sinks.float().view(1, -1, 1, 1))
    rows = torch.softmax(scores, -1, out=scores) if in_place else torch.softmax(scores, -1)
    if factor is not None:
        rows = rows.mul_(factor) if in_place else rows * factor
    if empty is not None:
        rows = rows.masked_fill_(empty, 0.0) if in_place else rows.masked_fill(empty, 0.0)
    return rows
