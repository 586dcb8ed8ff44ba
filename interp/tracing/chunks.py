"""A prompt read in chunks: each run goes on from the KV cache of the one before, so only the cache grows with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    if why := obstacle(hf, ids.shape[1], kwargs):
        raise UsageError(f"chunk={chunk}: {why}; leave chunk out")
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


def obstacle(hf: nn.Module, length: int, kwargs: Mapping[str, Any]) -> str:
    """Why a prompt of so many tokens cannot be read in chunks; empty where it can."""
    told = sorted(name for name in REFUSED if kwargs.get(name) is not None and kwargs[name] is not False)
    if told:
        return f"{told[0]} speaks of the whole prompt"
    mask = kwargs.get("attention_mask")
    if mask is not None and mask.dim() != 2:
        return f"an attention mask of {mask.dim()} axes speaks of the whole prompt"
    scaled = rope_by_length(hf, length)
    return (
        f"rotary positions ({scaled}) hang on the length of the call, so the parts would not make the whole"
        if scaled
        else ""
    )


def rope_by_length(hf: nn.Module, length: int) -> str:
    """The kind of rotary embedding that changes with the longest position of a call, where `length` makes it change
    (longrope, dynamic NTK); empty for any other."""
    for config in {
        id(one): one for one in (getattr(module, "config", None) for module in hf.modules()) if one
    }.values():
        given = [getattr(config, name, None) for name in ("rope_parameters", "rope_scaling")]
        nested = [
            inner for one in given if isinstance(one, Mapping) for inner in one.values() if isinstance(inner, Mapping)
        ]
        for one in [*(one for one in given if isinstance(one, Mapping)), *nested]:
            kind = str(one.get("rope_type", one.get("type", "")))
            limit = (
                one.get("original_max_position_embeddings")
                or getattr(config, "original_max_position_embeddings", None)
                or getattr(config, "max_position_embeddings", None)
            )
            if (kind == "longrope" or "dynamic" in kind) and (limit is None or length > limit):
                return kind
    return ""


def wanted(keep: int, start: int, stop: int, length: int) -> int:
    """How many of a chunk's last logits to compute: those that are kept in the end, and 1 where none is."""
    return 0 if keep == 0 else max(1, min(stop - start, stop - (length - keep)))
