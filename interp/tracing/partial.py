"""Run a part of a model: from one of its blocks on, and without the unembedding. Nothing is re-implemented: modules
that are not needed are passed over, the others are the model's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from interp.errors import TraceError
from interp.tracing.inputs import unwrap
from interp.tracing.passes import PROBING

_WIDTHS: WeakKeyDictionary[nn.Module, list[int | None]] = WeakKeyDictionary()
_MISSING = object()


def output_widths(model: Any) -> list[int | None]:
    """For each block, how many entries the tuple it returns has; None where it returns a bare tensor."""
    hf, sites = unwrap(model)
    if hf not in _WIDTHS:
        widths: list[int | None] = [None] * sites.n_layers
        handles = []
        for layer in range(sites.n_layers):

            def note(module: nn.Module, args: tuple, output: Any, layer: int = layer) -> None:
                widths[layer] = len(output) if isinstance(output, tuple) else None

            handles.append(sites.block(layer).register_forward_hook(note))
        token = PROBING.set(True)
        try:
            with torch.no_grad():
                hf(input_ids=torch.zeros(1, 1, dtype=torch.long, device=_device(hf)), use_cache=False)
        finally:
            PROBING.reset(token)
            for handle in handles:
                handle.remove()
        _WIDTHS[hf] = widths
    return _WIDTHS[hf]


def _device(hf: Any) -> torch.device:
    return hf.get_input_embeddings().weight.device


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
def passed_over(model: Any, first: int) -> Iterator[None]:
    """Blocks before `first` hand on what they are given. What enters block `first` must then be set by an edit of
    ``blocks.<first>.hook_resid_pre``: what reaches it are bare embeddings."""
    _, sites = unwrap(model)
    widths = output_widths(model)
    if not 0 <= first < sites.n_layers:
        raise TraceError(f"block {first}: the model has blocks 0..{sites.n_layers - 1}")

    def through(layer: int) -> Callable[..., Any]:
        width = widths[layer]

        def forward(*args: Any, **kwargs: Any) -> Any:
            states = args[0] if args else kwargs["hidden_states"]
            return states if width is None else (states, *[None] * (width - 1))

        return forward

    with ExitStack() as stack:
        for layer in range(first):
            stack.enter_context(replaced(sites.block(layer), through(layer)))
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
