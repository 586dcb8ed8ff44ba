"""Run a part of a model: some of its blocks, without attention whose result is known, and without the unembedding.
Nothing is re-implemented: modules that are not needed are passed over, the others are the model's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from interp.errors import TraceError
from interp.models.device import input_device
from interp.models.sites import SiteMap
from interp.tracing.budget import BUDGET, whole_prompts
from interp.tracing.inputs import unwrap
from interp.tracing.passes import PROBING

_RETURNS: WeakKeyDictionary[nn.Module, Returns] = WeakKeyDictionary()
_MISSING = object()


@dataclass(frozen=True)
class Returns:
    """What modules return, by layer: how many entries the tuple has; None = a bare tensor.

    Attributes:
        blocks: of each block.
        attention: of each attention module whose (first) result is its output projection's, untouched.
    """

    blocks: dict[int, int | None]
    attention: dict[int, int | None]


def returns(model: Any) -> Returns:
    """See `Returns`; found in one run of one token, the first time a model is seen."""
    hf, sites = unwrap(model)
    if hf not in _RETURNS:
        found, projected = Returns({}, {}), {}
        handles = []

        def width(output: Any) -> int | None:
            return len(output) if isinstance(output, tuple) else None

        for layer in range(sites.n_layers):

            def block(module: nn.Module, args: tuple, output: Any, layer: int = layer) -> None:
                found.blocks[layer] = width(output)

            handles.append(sites.block(layer).register_forward_hook(block))
        for layer in sites.attention_layers():

            def projection(module: nn.Module, args: tuple, output: Any, layer: int = layer) -> None:
                projected[layer] = output

            def attention(module: nn.Module, args: tuple, output: Any, layer: int = layer) -> None:
                first = output[0] if isinstance(output, tuple) else output
                if first.shape == projected[layer].shape and torch.equal(first, projected[layer]):
                    found.attention[layer] = width(output)

            handles.append(_projection(sites, layer).register_forward_hook(projection))
            handles.append(sites.attention(layer).register_forward_hook(attention))
        token = PROBING.set(True)
        try:
            with torch.no_grad():
                hf(input_ids=torch.zeros(1, 1, dtype=torch.long, device=input_device(hf)), use_cache=False)
        finally:
            PROBING.reset(token)
            for handle in handles:
                handle.remove()
        _RETURNS[hf] = found
    return _RETURNS[hf]


def _projection(sites: SiteMap, layer: int) -> nn.Module:
    """The output projection: what reads z."""
    return sites.binding(f"blocks.{layer}.attn.hook_z").module


@contextmanager
def replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """`module` computes `forward` inside the block, and is as it was afterwards."""
    before = module.__dict__.get("forward", _MISSING)
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if before is _MISSING:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = before


@contextmanager
def passed_over(model: Any, first: int, last: int | None = None) -> Iterator[None]:
    """Blocks before `first`, and those behind `last`, hand on what they are given. What enters block `first` must then
    be set by an edit of ``blocks.<first>.hook_resid_pre``: what reaches it are bare embeddings."""
    _, sites = unwrap(model)
    end = sites.n_layers - 1 if last is None else last
    if not 0 <= first <= end < sites.n_layers:
        raise TraceError(f"blocks {first}..{end}: the model has blocks 0..{sites.n_layers - 1}")
    widths = returns(model).blocks

    def through(layer: int) -> Callable[..., Any]:
        width = widths[layer]

        def forward(*args: Any, **kwargs: Any) -> Any:
            states = args[0] if args else kwargs["hidden_states"]
            return states if width is None else (states, *[None] * (width - 1))

        return forward

    with ExitStack() as stack:
        stack.enter_context(whole_prompts())
        for layer in (*range(first), *range(end + 1, sites.n_layers)):
            stack.enter_context(replaced(sites.block(layer), through(layer)))
        yield


@contextmanager
def up_to(model: Any, last: int, length: int) -> Iterator[None]:
    """Blocks behind `last` are passed over where that is possible: not where the memory plan has prompts of `length`
    tokens read in chunks, for then every block fills its part of the KV cache."""
    chunk = BUDGET.get().chunk
    if chunk is not None and chunk < length:
        yield
        return
    with passed_over(model, 0, last):
        yield


def attended(model: Any, z: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """What attention returns where its heads put out `z` (layer -> [row, position, head, d_head]), by layer.

    Layers whose attention does more than project z (BLOOM adds the residual inside) are left out.
    """
    _, sites = unwrap(model)
    plain = returns(model).attention
    with torch.no_grad():
        return {layer: _projection(sites, layer)(value.flatten(-2)) for layer, value in z.items() if layer in plain}


@contextmanager
def attention_given(model: Any, results: Mapping[int, Tensor]) -> Iterator[None]:
    """Inside, attention of these layers returns `results` [row, position, d_model] (see `attended`), not computed."""
    _, sites = unwrap(model)
    widths = returns(model).attention

    def known(layer: int) -> Callable[..., Any]:
        value, width = results[layer], widths[layer]

        def forward(*args: Any, **kwargs: Any) -> Any:
            return value if width is None else (value, *[None] * (width - 1))

        return forward

    with ExitStack() as stack:
        stack.enter_context(whole_prompts())
        for layer in results:
            stack.enter_context(replaced(sites.attention(layer), known(layer)))
        yield


@contextmanager
def only_logits(model: Any, ids: Tensor) -> Iterator[None]:
    """Inside, logits are computed for the tokens `ids` [column] alone: [batch, position, column]. Caps and factors that
    the model applies to its logits apply to these."""
    _, sites = unwrap(model)
    module = sites.binding("unembed.hook_out").module
    own = module.forward
    if type(module) is nn.Linear and module.weight.is_floating_point() and module.weight.device.type != "meta":
        chosen = ids.to(module.weight.device)
        rows = module.weight.detach()[chosen]
        offset = None if module.bias is None else module.bias.detach()[chosen]

        def forward(states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return nn.functional.linear(states, rows, offset)
    else:

        def forward(states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            logits = own(states, *args, **kwargs)
            return logits[..., ids.to(logits.device)]

    with replaced(module, forward):
        yield
