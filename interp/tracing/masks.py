"""The masks that transformers builds while a trace is open: none where the order of the tokens says it all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def streamed_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Any = 0,
    kv_offset: Any = 0,
    mask_function: Any = None,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    **more: Any,
) -> Tensor | None:
    """`sdpa_mask`, but None also where queries continue a KV cache and see all before them: a prompt read in chunks of
    C tokens would need a [C, T] mask each time, which no kernel here asks for. None means: query r of n stands at key
    column n_keys - n + r, and sees the columns up to its own.
    """
    from transformers.masking_utils import causal_mask_function, sdpa_mask

    function = causal_mask_function if mask_function is None else mask_function
    ends = (q_offset, kv_offset)
    if (
        allow_is_causal_skip
        and function is causal_mask_function
        and all(isinstance(end, int) for end in ends)
        and q_offset + q_length == kv_offset + kv_length
        and (local_size is None or kv_length < local_size)
        and (attention_mask is None or all_real(attention_mask, kv_offset, kv_length))
    ):
        return None
    return sdpa_mask(
        batch_size=batch_size,
        q_length=q_length,
        kv_length=kv_length,
        q_offset=q_offset,
        kv_offset=kv_offset,
        mask_function=function,
        attention_mask=attention_mask,
        local_size=local_size,
        allow_is_causal_skip=allow_is_causal_skip,
        **more,
    )


def all_real(attention_mask: Tensor, first: int, length: int) -> bool:
    """Whether a mask [batch, position] hides none of the `length` keys from position `first` on."""
    here = attention_mask[:, first : first + length]
    return here.shape[1] == length and bool(here.all())


def hidden_keys(mask: Tensor | None, n_queries: int, n_keys: int, rows: int = 1024) -> tuple[bool, Tensor | None]:
    """(whether a bool mask [batch, 1, query, key] says only order and hidden keys, [batch, key] the keys not hidden).

    Compared in blocks of `rows` queries.
    """
    if mask is None:
        return True, None
    if mask.dtype != torch.bool or mask.shape[1] != 1 or mask.shape[-2:] != (n_queries, n_keys):
        return False, None
    valid = mask[:, 0, -1]  # the last query sees every key that is not hidden
    past = n_keys - n_queries
    columns = torch.arange(n_keys, device=mask.device)
    for start in range(0, n_queries, rows):
        block = mask[:, 0, start : start + rows]
        last = torch.arange(start + past, start + past + block.shape[1], device=mask.device)
        if not torch.equal(block, (columns <= last[:, None]) & valid[:, None]):
            return False, None
    return True, None if bool(valid.all()) else valid
