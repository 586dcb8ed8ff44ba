"""Families whose attention never calls transformers' attention interface (GPT-Neo, BLOOM, Falcon, MPT).

They run their own eager attention. While such a module runs, its softmax over the keys is caught: that tensor *is* the
pattern, so statistics fold it in blocks and row edits change it, and nothing of the family is re-implemented. One
layer's pattern exists at a time, as the family's own code makes it; none is kept.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from interp.errors import TraceError
from interp.models.device import input_device
from interp.tracing import attention, streamed
from interp.tracing.passes import PROBING

SOFTMAXES = frozenset({torch.softmax, torch.nn.functional.softmax, Tensor.softmax})
BLOCK_ROWS = 128

PATHS: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


class CatchSoftmax(TorchFunctionMode):
    """Passes the first softmax over four axes through `visit`; everything else runs untouched."""

    def __init__(self, visit: Callable[[Tensor], Tensor]):
        super().__init__()
        self.visit = visit
        self.caught = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in SOFTMAXES and isinstance(result, Tensor) and result.dim() == 4:
            self.caught += 1
            with torch._C.DisableTorchFunction(), torch.autocast(result.device.type, enabled=False):
                return self.visit(result)
        return result


class ModuleWatch:
    """Catches the pattern of one attention module for every open trace that taps it."""

    def __init__(self, module: nn.Module):
        self.module = module
        self.mode: CatchSoftmax | None = None

    def attach(self) -> list[RemovableHandle]:
        """Hooks that switch the catching on and off around the module's forward."""
        return [
            self.module.register_forward_pre_hook(self.enter),
            self.module.register_forward_hook(self.leave, always_call=True),
        ]

    def enter(self, module: nn.Module, args: tuple) -> None:
        """Start catching."""
        self.mode = CatchSoftmax(self.visit)
        self.mode.__enter__()

    def leave(self, module: nn.Module, args: tuple, output: Any) -> None:
        """Stop catching; a forward that finished without a pattern is an error, never a silent gap."""
        mode, self.mode = self.mode, None
        if mode is None:
            return
        mode.__exit__(None, None, None)
        if output is not None and mode.caught != 1:
            raise TraceError(
                f"{type(module).__name__} formed {mode.caught} attention patterns where the tracer expects one; "
                "this family is not supported"
            )

    def visit(self, pattern: Tensor) -> Tensor:
        """Fold a whole pattern [batch, head, query, key] block by block; the edited pattern if any trace edits it."""
        taps = streamed.TAPS.get(id(self.module), [])
        n_queries, n_keys = pattern.shape[2:]
        for tap in taps:
            tap.called(n_queries, n_keys)
        editing = any(tap.edits_rows() for tap in taps)
        if not editing and not any(tap.wants_rows() for tap in taps):
            return pattern
        edited: list[Tensor] = []
        step = streamed.block_size(taps) or BLOCK_ROWS
        starts = range(0, n_queries, step)
        for show in streamed.surveys(taps, n_keys):
            for start in starts:
                show(pattern[:, :, start : start + step].detach().float(), start, 0)
        for start in starts:
            rows = pattern[:, :, start : start + step].float()
            edited.append(streamed.edit_and_fold(taps, rows, start, 0, n_keys))
        return torch.cat(edited, dim=2).to(pattern.dtype) if editing else pattern


def attention_path(hf: nn.Module, modules: list[nn.Module]) -> str:
    """``streamed`` when every block's attention calls the interface, ``eager`` otherwise.

    Found by running two tokens and counting calls, once per model object (DESIGN decision 3).
    """
    known = PATHS.get(hf)
    if known is not None:
        return known
    taps = {id(module): streamed.Tap() for module in modules}
    modes = {module: module.training for module in hf.modules()}
    device = input_device(hf)
    token = PROBING.set(True)
    try:
        hf.eval()
        with streamed.tapped(taps), streamed.implementation(hf, modules, attention.NAME), torch.no_grad():
            # the padded first token keeps the mask builder from leaving the mask out, which MPT cannot take
            two = torch.tensor([[0, 1]], device=device)
            hf(input_ids=two, attention_mask=two, use_cache=False)
    finally:
        PROBING.reset(token)
        for module, training in modes.items():
            module.training = training
    PATHS[hf] = "streamed" if all(tap.calls == 1 for tap in taps.values()) else "eager"
    return PATHS[hf]
