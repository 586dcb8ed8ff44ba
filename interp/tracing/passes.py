"""What one trace gathers: passes, each with its frame, accumulators and recorded sites."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import TraceError
from interp.tracing.blocks import PassFrame
from interp.tracing.statistics import Accumulator, Statistic

PROBING: ContextVar[bool] = ContextVar("probing", default=False)  # the run that counts calls is nobody's pass
CACHE_NAMES = ("cache", "past_key_values")  # transformers renamed the argument and the output field after 5.17


def cache_name(hf: nn.Module) -> str:
    """What this model's forward calls its KV cache."""
    parameters = inspect.signature(hf.forward).parameters
    return next((name for name in CACHE_NAMES if name in parameters), CACHE_NAMES[-1])


def cache_of(output: Any) -> Any:
    """The KV cache in a model output; None when there is none."""
    return next((output[name] for name in CACHE_NAMES if isinstance(output, Mapping) and name in output), None)


class Pass:
    """One prefill and the decode steps that continue its KV cache."""

    def __init__(self, frame: PassFrame, stats: Sequence[Statistic]):
        self.frame = frame
        self.accumulators: dict[str, Accumulator] = {stat.name: stat.accumulator(frame) for stat in stats}
        self.reads: dict[str, list[Tensor]] = {}
        self.cache: Any = None  # the KV cache this pass fills; known from its first call or that call's output


class Forward:
    """The forward call now under way: where its queries and keys stand."""

    def __init__(self, current: Pass, base: int, n_queries: int):
        self.current, self.base, self.n_queries = current, base, n_queries
        self.calls: dict[int, int] = {}  # layer -> attention calls

    @property
    def total(self) -> int:
        """Positions in the sequence once this call is done."""
        return self.base + self.n_queries

    def key_start(self, n_keys: int, n_queries: int, layer: int) -> int:
        """Absolute position of the first key column of an attention call.

        Raises:
            TraceError: keys that are no tail of the sequence (static caches), or queries other than the call's tokens.
        """
        if n_queries != self.n_queries:
            raise TraceError(
                f"layer {layer}: attention over {n_queries} queries in a forward of {self.n_queries} tokens"
            )
        if n_keys > self.total:
            raise TraceError(
                f"layer {layer}: {n_keys} keys for a sequence of {self.total} tokens; static caches are not traced, "
                "use the default DynamicCache"
            )
        return self.total - n_keys


def describe_call(module: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a base-model call by name."""
    bound = inspect.signature(module.forward).bind_partial(*args, **kwargs)
    given = dict(bound.arguments)
    for name, parameter in inspect.signature(module.forward).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            given.update(given.pop(name, {}))
    return given


def cached_length(cache: Any) -> int:
    """Tokens already in a KV cache.

    Raises:
        TraceError: a cache of a kind whose length cannot be asked for.
    """
    if cache is None:
        return 0
    if hasattr(cache, "get_seq_length"):
        return int(cache.get_seq_length())
    raise TraceError(f"past_key_values of type {type(cache).__name__}: the tracer takes transformers' Cache objects")


def open_forward(call: Mapping[str, Any], last: Pass | None, n_layers: int, stats: Sequence[Statistic]) -> Forward:
    """The frame of a forward call: a new pass, or the last one continued by its KV cache."""
    ids, embeds = call.get("input_ids"), call.get("inputs_embeds")
    fed = ids if ids is not None else embeds
    if fed is None:
        raise TraceError("the model was called without input_ids or inputs_embeds; pass one of them by name")
    batch, n_queries = fed.shape[:2]
    cache = next((call[name] for name in CACHE_NAMES if call.get(name) is not None), None)
    base = cached_length(cache)
    current = last if last is not None and base > 0 and cache is last.cache else None
    if current is None:
        current = Pass(PassFrame(n_layers, batch, base, base), stats)
        current.cache = cache
    elif (base, batch) != (current.frame.seen, current.frame.batch):
        raise TraceError(
            f"the KV cache was changed between calls: it holds {base} tokens of {batch} sequences where the trace saw "
            f"{current.frame.seen} of {current.frame.batch}; beam search and assisted decoding are not traced"
        )
    frame = current.frame
    frame.seen = base + n_queries
    if ids is None:
        frame.token_ids = None
    elif frame.seen - n_queries == frame.start:
        frame.token_ids = ids.detach()
    elif frame.token_ids is not None:
        frame.token_ids = torch.cat([frame.token_ids, ids.detach().to(frame.token_ids.device)], dim=1)
    frame.valid = valid_tokens(call.get("attention_mask"), frame)
    return Forward(current, base, n_queries)


def valid_tokens(mask: Any, frame: PassFrame) -> Tensor | None:
    """[batch, seen] real tokens: from a 2-D mask, or the earlier steps' with the new tokens counted as real."""
    if isinstance(mask, Tensor) and mask.dim() == 2:
        valid = mask.bool()
        if valid.shape[1] < frame.seen:
            raise TraceError(f"attention_mask of shape {tuple(mask.shape)} for a sequence of {frame.seen} tokens")
        valid = valid[:, : frame.seen]
        return None if bool(valid.all()) else valid
    if frame.valid is None:
        return None
    return torch.nn.functional.pad(frame.valid, (0, frame.seen - frame.valid.shape[1]), value=True)
