"""A prompt read in chunks: each run goes on from the KV cache of the one before, so only the cache grows with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import TraceError, UsageError
from interp.tracing.passes import cache_name, cache_of

REFUSED = ("position_ids", "output_hidden_states", "labels", "inputs_embeds")


def run_in_chunks(hf: nn.Module, ids: Tensor, chunk: int, kwargs: dict[str, Any], forward: Callable[..., Any]) -> Any:
    """Call ``forward(input_ids=..., ...)`` of `hf` on `chunk` tokens of `ids` [batch, position] after another.

    Returns the last call's output, with the logits of all tokens, or of the last ``logits_to_keep``, and with the cache
    only where ``use_cache`` asks for it.

    Raises:
        UsageError: a chunk below 1, or a keyword that speaks of the whole prompt.
        TraceError: the model hands out no KV cache.
    """
    if chunk < 1:
        raise UsageError(f"chunk={chunk}; expected a positive number of tokens")
    told = sorted(name for name in REFUSED if kwargs.get(name) not in (None, False))
    if told:
        raise UsageError(f"{told[0]} cannot be given with chunk={chunk}; leave one of them out")
    kwargs = dict(kwargs)
    name, keep = cache_name(hf), kwargs.pop("logits_to_keep", None)
    mask, wants_cache = kwargs.pop("attention_mask", None), bool(kwargs.pop("use_cache", False))
    cache = kwargs.pop(name, None)
    before = 0 if mask is None else mask.shape[1] - ids.shape[1]
    length, output, logits = ids.shape[1], None, []
    for start in range(0, length, chunk):
        stop = min(start + chunk, length)
        more = {} if keep is None else {"logits_to_keep": wanted(int(keep), start, stop, length)}
        if mask is not None:
            more["attention_mask"] = mask[:, : before + stop]
        if cache is not None:
            more[name] = cache
        output = forward(input_ids=ids[:, start:stop], **{**kwargs, **more, "use_cache": True})
        cache = cache_of(output)
        if cache is None and stop < length:
            raise TraceError(f"{type(hf).__name__} hands out no KV cache, so its prompts cannot be read in chunks")
        if "logits" in output:
            logits.append(output["logits"] if keep is None else output["logits"][:, -(stop - start) :])
    assert output is not None, "a prompt has at least one token"
    if logits:
        output["logits"] = logits[0] if len(logits) == 1 else torch.cat(logits, dim=1)
        if keep:
            output["logits"] = output["logits"][:, -int(keep) :]
    if not wants_cache:
        for field in (name, "past_key_values", "cache"):
            if field in output:
                output[field] = None
    return output


def wanted(keep: int, start: int, stop: int, length: int) -> int:
    """How many of a chunk's last logits to compute: those that are kept in the end, and 1 where none is."""
    return 0 if keep == 0 else max(1, min(stop - start, stop - (length - keep)))
