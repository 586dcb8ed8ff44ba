"""The attention function transformers calls while a trace is open, and the switch that puts it there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import TraceError
from interp.scoring.asked import Asked, Folded
from interp.tracing import attention
from interp.tracing.attention import RowRules
from interp.tracing.fused.call import Call
from interp.tracing.fused.choose import fused_attention
from interp.tracing.masks import streamed_mask


class Tap:
    """One open trace's interest in one attention module; this base only counts calls."""

    block_rows: int | None = None
    engine: str | None = None

    def __init__(self) -> None:
        self.calls = 0

    def called(self, n_queries: int, n_keys: int) -> None:
        """Count a call of the attention, with its shape."""
        self.calls += 1

    def wants_rows(self) -> bool:
        """Whether any statistic or row edit looks at this layer."""
        return False

    def edits_rows(self) -> bool:
        """Whether any row edit changes this layer."""
        return False

    def needs_full_rows(self) -> bool:
        """Whether a row edit may put mass on keys outside the block's visible range."""
        return False

    def surveys(self) -> int:
        """How many row edits must have seen every row of a call before they change any."""
        return 0

    def pass_value(self, where: str, value: Tensor) -> Tensor:
        """Record and edit a query, key or value tensor [batch, head, position, d]."""
        return value

    def edit(self, rows: Tensor, first_query: int, first_key: int, n_keys: int, survey: int | None = None) -> Tensor:
        """Rows [batch, head, row, key] after this trace's edits; the offsets are columns of this attention call.

        With `survey`, the edits before that one of `surveys` are applied, and it is shown the rows they leave.
        """
        return rows

    def fold(self, rows: Tensor, first_query: int, first_key: int, n_keys: int) -> None:
        """Hand rows to this trace's statistics."""

    def asks(self, shape: Sequence[int], n_keys: int) -> tuple[list[tuple[str, Asked]], list[str]]:
        """(statistic, what it asks) of a whole call with queries of `shape`; and the statistics that need rows."""
        return [], []

    def take(self, name: str, folded: Folded, shape: Sequence[int], n_keys: int) -> None:
        """Hand what was found to the statistic `name`."""

    def first_key(self, n_keys: int) -> int:
        """Absolute position of the call's first key column."""
        return 0

    def ran(self, engine: str) -> None:
        """Told which engine served a call."""

    def fell_back(self, why: str) -> None:
        """Told why fused kernels did not."""


TAPS: dict[int, list[Tap]] = {}  # id(attention module) -> open traces, outermost first
FALLBACK: dict[int, str] = {}  # id(attention module) -> the implementation it had before the outermost trace


@contextmanager
def tapped(taps: Mapping[int, Tap]) -> Iterator[None]:
    """Have the attention modules with these ids report to `taps`, inside any taps already there."""
    for key, tap in taps.items():
        TAPS.setdefault(key, []).append(tap)
    try:
        yield
    finally:
        for key, tap in taps.items():
            TAPS[key].remove(tap)
            if not TAPS[key]:
                del TAPS[key]


def streamed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **keywords: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention interface: q, k, v [batch, head, position, d] -> [batch, query, head, d_v].

    `sliding_window` needs no work here: the mask made through the mask interface already carries it.
    """
    attention.check_keywords(module, keywords)
    if dropout:
        raise TraceError(
            f"{type(module).__name__} runs with attention dropout {dropout}; call model.eval() before tracing"
        )
    taps = TAPS.get(id(module), [])
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    n_queries, n_keys = query.shape[2], key.shape[2]
    for tap in taps:
        tap.called(n_queries, n_keys)
        query = tap.pass_value("query", query)
        key = tap.pass_value("key", key)
        value = tap.pass_value("value", value)
    factor = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    plain = softcap is None and s_aux is None and position_bias is None
    if plain and FALLBACK.get(id(module)) == "sdpa" and not any(tap.wants_rows() for tap in taps):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        if attention_mask is None and causal and 1 < n_queries < n_keys:
            # sdpa would take the queries for the first ones
            attention_mask = order(n_queries, n_keys, query.device)
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, is_causal=is_causal, **keywords
        )
        return out, None
    call = Call(query, key, value, factor, s_aux, softcap=softcap)
    fused = fused_attention(taps, call, attention_mask, bool(causal), position_bias)
    if fused is not None:
        return fused, None
    for tap in taps:
        tap.ran("blocked")
    if position_bias is not None:
        attention_mask = with_bias(attention_mask, position_bias)

    def fold(rows: Tensor, first_query: int, first_key: int) -> Tensor | None:
        edited = edit_and_fold(taps, rows, first_query, first_key, n_keys)
        return None if edited is rows else edited

    rules = RowRules(
        scaling=factor,
        softcap=softcap,
        sinks=s_aux,
        causal=bool(causal) and attention_mask is None,
    )
    block_rows = block_size(taps)
    full_rows = any(tap.needs_full_rows() for tap in taps)
    settings = {"full_rows": full_rows, "block_rows": block_rows}
    with torch.autocast(query.device.type, enabled=False):  # float32 sums also where the user runs under autocast
        for show in surveys(taps, n_keys):
            with torch.no_grad():
                attention.attend(query, key, value, attention_mask, rules, show, **settings)
        out = attention.attend(query, key, value, attention_mask, rules, fold, **settings)
    return out, None


def block_size(taps: Sequence[Tap]) -> int | None:
    """Query rows held at once: what the innermost trace asks for; None = free."""
    return next((tap.block_rows for tap in reversed(taps) if tap.block_rows), None)


def edit_and_fold(taps: Sequence[Tap], rows: Tensor, first_query: int, first_key: int, n_keys: int) -> Tensor:
    """Rows after the edits of every trace, outermost first; then every trace's statistics see them."""
    for tap in taps:
        if tap.edits_rows():
            rows = tap.edit(rows, first_query, first_key, n_keys)
    for tap in taps:
        tap.fold(rows, first_query, first_key, n_keys)
    return rows


def surveys(taps: Sequence[Tap], n_keys: int) -> Iterator[Callable[[Tensor, int, int], None]]:
    """One sweep over a layer's rows for each edit that must see them all first, in order: what to do with a block.

    Each is shown the rows that the edits before it leave, so no more than a block of rows is ever held.
    """
    for index, tap in enumerate(taps):
        for number in range(tap.surveys()):

            def show(
                rows: Tensor, first_query: int, first_key: int, index: int = index, tap: Tap = tap, number: int = number
            ) -> None:
                for before in taps[:index]:
                    if before.edits_rows():
                        rows = before.edit(rows, first_query, first_key, n_keys)
                tap.edit(rows, first_query, first_key, n_keys, survey=number)

            yield show


def order(n_queries: int, n_keys: int, device: torch.device) -> Tensor:
    """[1, 1, query, key] what the last queries of a sequence see."""
    return torch.ones(n_queries, n_keys, dtype=torch.bool, device=device).tril(n_keys - n_queries)[None, None]


def with_bias(mask: Tensor | None, bias: Tensor) -> Tensor:
    """A learned position bias and a mask as one additive mask."""
    lowest = torch.finfo(torch.float32).min
    if mask is None:
        return torch.where(order(bias.shape[-2], bias.shape[-1], bias.device), bias.float(), lowest)
    return torch.where(mask, bias.float(), lowest) if mask.dtype == torch.bool else mask.float() + bias.float()


def register() -> None:
    """Make the function known to transformers (idempotent; done when a trace opens, not at import)."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if attention.NAME not in ALL_ATTENTION_FUNCTIONS:
        ALL_ATTENTION_FUNCTIONS.register(attention.NAME, streamed_attention)
        ALL_MASK_ATTENTION_FUNCTIONS.register(attention.NAME, streamed_mask)


def configs_of(hf: nn.Module, modules: Iterable[nn.Module]) -> list[Any]:
    """Every config object the blocks' attention and the mask building of `hf` look at."""
    found: dict[int, Any] = {}
    wanted = {id(module) for module in modules}
    for module in hf.modules():
        config = getattr(module, "config", None)
        if config is None or not hasattr(config, "_attn_implementation_internal"):
            continue
        if id(module) in wanted or any(id(child) in wanted for child in module.modules()):
            found[id(config)] = config
    return list(found.values())


@contextmanager
def implementation(hf: nn.Module, modules: list[nn.Module], name: str) -> Iterator[None]:
    """Run `hf` with attention implementation `name`; every config is as it was afterwards, also after an exception."""
    register()
    saved = [(config, config._attn_implementation_internal) for config in configs_of(hf, modules)]
    fresh = [module for module in modules if id(module) not in FALLBACK]
    for module in fresh:
        config = getattr(module, "config", getattr(hf, "config", None))
        FALLBACK[id(module)] = str(getattr(config, "_attn_implementation_internal", None))
    try:
        for config, _ in saved:
            config._attn_implementation_internal = name
        yield
    finally:
        for config, before in saved:
            config._attn_implementation_internal = before
        for module in fresh:
            del FALLBACK[id(module)]
