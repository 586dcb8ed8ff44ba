"""Hooks that read and edit sites: one hook per module and side, however many sites and edits stand there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from interp.errors import TraceError
from interp.models.binding import Binding, put, take
from interp.tracing.blocks import PassFrame
from interp.tracing.passes import PROBING


class SiteEdit(Protocol):
    """A change at sites: `apply` gets the site's value and returns what stands there instead (same shape).

    An edit of chosen positions has `apply_from` as well, which is called in its place and gets, as a fourth argument,
    the absolute position of the value's first token: more than 0 while a KV cache is continued.
    """

    @property
    def sites(self) -> Sequence[str]:
        """Site names or patterns it changes."""
        ...

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """The new value; must not change `value` in place."""
        ...


class SiteTap:
    """What one trace does at one site: its edits in order, then its read."""

    def __init__(
        self,
        binding: Binding,
        edits: Sequence[SiteEdit],
        record: Callable[[str, Tensor], None] | None,
        frame: Callable[[], PassFrame],
        copy: bool,
    ):
        self.binding, self.edits, self.record, self.frame, self.copy = binding, edits, record, frame, copy
        self.visits = 0  # in the forward call under way

    def visit(self, tensor: Tensor) -> Tensor:
        """The tensor the model goes on with."""
        if PROBING.get():
            return tensor
        if not isinstance(tensor, Tensor):
            raise TraceError(f"{self.binding.site}: found {type(tensor).__name__} where a tensor was expected")
        value = take(self.binding, tensor, self.frame().batch)
        for edit in self.edits:
            changed = self.changed(edit, value)
            if changed.shape != value.shape:
                raise TraceError(
                    f"{type(edit).__name__} at {self.binding.site}: returned shape {tuple(changed.shape)}, "
                    f"the site has {tuple(value.shape)}"
                )
            value = changed
        if self.edits:
            tensor = put(self.binding, tensor, value)
        if self.record is not None:
            kept = value if torch.is_grad_enabled() else value.detach()
            # a view of something larger (one new row of a KV cache) would keep all of it alive
            part = kept.untyped_storage().nbytes() > kept.numel() * kept.element_size()
            self.record(self.binding.site, kept.clone() if self.copy or part else kept)
        self.visits += 1
        return tensor

    def changed(self, edit: SiteEdit, value: Tensor) -> Tensor:
        """What one edit makes of the value."""
        placed = getattr(edit, "apply_from", None)
        if placed is None:
            return edit.apply(value, self.binding.site, self.binding.layer)
        return placed(value, self.binding.site, self.binding.layer, self.frame().seen - value.shape[1])


def attach(taps: Iterable[SiteTap]) -> list[RemovableHandle]:
    """Hook every tap whose value is a module's input or output; the handles remove them."""
    groups: dict[tuple[int, str], list[SiteTap]] = defaultdict(list)
    for tap in taps:
        groups[id(tap.binding.module), tap.binding.where].append(tap)
    handles = []
    for (_, where), here in groups.items():
        module = here[0].binding.module
        if where == "input":
            handles.append(module.register_forward_pre_hook(input_hook(here), with_kwargs=True))
        else:
            handles.append(module.register_forward_hook(output_hook(here)))
    return handles


def input_hook(taps: list[SiteTap]) -> Callable[..., Any]:
    """A forward pre-hook that visits `taps`."""

    def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        for tap in taps:
            index, keyword = tap.binding.index, tap.binding.keyword
            if keyword is not None and keyword in kwargs:
                kwargs = {**kwargs, keyword: tap.visit(kwargs[keyword])}
            elif index < len(args):
                args = (*args[:index], tap.visit(args[index]), *args[index + 1 :])
            else:
                raise TraceError(
                    f"{tap.binding.site}: {type(module).__name__} was called with {len(args)} positional arguments and "
                    f"keywords {sorted(kwargs)}; expected argument {index} or keyword {keyword!r}"
                )
        return args, kwargs

    return hook


def output_hook(taps: list[SiteTap]) -> Callable[..., Any]:
    """A forward hook that visits `taps`."""

    def hook(module: nn.Module, args: tuple, output: Any) -> Any:
        for tap in taps:
            if isinstance(output, tuple):
                index = tap.binding.index
                output = (*output[:index], tap.visit(output[index]), *output[index + 1 :])
            else:
                output = tap.visit(output)
        return output

    return hook
