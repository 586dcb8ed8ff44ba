"""Where a site lives in a Hugging Face module tree, and how its value is read and written there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from interp.errors import TraceError

Where = Literal["input", "output", "query", "key", "value"]


@dataclass(frozen=True)
class Binding:
    """One site, bound to a module.

    Attributes:
        site: the TransformerLens-style name, e.g. ``blocks.7.attn.hook_z``.
        layer: block index, or None outside the blocks.
        module: the module to hook. For ``query``/``key``/``value`` it is the attention module that calls the
            attention function; the value is then what that function receives (after rotary embedding).
        where: ``input`` = the module's argument, ``output`` = what it returns; else the attention function's argument.
        index: position in the argument list (``input``) or the returned tuple (``output``; ignored for a bare tensor).
        keyword: the argument's name, for modules that are called by keyword.
        heads: split the last axis into [heads, size // heads]; None leaves it as it is.
        scale: site value = ``scale`` x tensor found there (Granite's residual multiplier).
        groups, start, stop: the site is part of a fused tensor (QKV, gate/up): the last axis is cut into ``groups``
            equal runs; entries ``start:stop`` of every run, joined in order, are the site. No ``stop``: all of it.
        shared: the block keeps adding this very tensor object to its residual stream after the hook (``hook_resid_mid``
            is seen as the input of the norm before the MLP), so an edit has to be written into it: `put` does.
        overwritten: the model adds into this tensor in place later on (Falcon's MLP output): `take` copies it.
    """

    site: str
    layer: int | None
    module: nn.Module
    where: Where
    index: int = 0
    keyword: str | None = None
    heads: int | None = None
    scale: float = 1.0
    groups: int = 1
    start: int = 0
    stop: int | None = None
    shared: bool = False
    overwritten: bool = False


def take(binding: Binding, tensor: torch.Tensor, batch: int | None = None) -> torch.Tensor:
    """The site's value in the tensor found at the binding.

    Args:
        tensor: the argument or result at ``binding.where``: [batch, position, size], or [batch, head, position, d_head]
            for an argument of the attention function, or [batch * position, size] (OPT's MLP).
        batch: the batch size of this forward pass; needed for the flattened form only.

    Returns:
        [batch, position, size], or [batch, position, head, d_head] for a site with heads. A view wherever that is safe.

    Raises:
        TraceError: a flattened tensor without ``batch``, or a tensor that does not divide as the binding says.
    """
    value = tensor
    if binding.where in ("query", "key", "value"):
        return _scaled(value.transpose(1, 2), binding.scale)
    if value.ndim == 2:
        if not batch or value.shape[0] % batch:
            raise TraceError(
                f"{binding.site}: {type(binding.module).__name__} has batch and position flattened into "
                f"{value.shape[0]} rows; reading it needs the batch size, got {batch}."
            )
        value = value.unflatten(0, (batch, -1))
    if binding.stop is not None:
        _divides(binding, value.shape[-1], binding.groups)
        value = value.unflatten(-1, (binding.groups, -1))[..., binding.start : binding.stop].flatten(-2)
    if binding.heads is not None:
        _divides(binding, value.shape[-1], binding.heads)
        value = value.unflatten(-1, (binding.heads, -1))
    if binding.shared or binding.overwritten:
        value = value.clone()
    return _scaled(value, binding.scale)


def put(binding: Binding, tensor: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The tensor the model goes on with when the site's value is to be ``value`` (shaped as `take` returns it).

    Never an alias of ``value``, and never a change to ``tensor`` itself, except for a ``shared`` binding, which is
    rewritten in place and returned (see `Binding`). The result has the dtype, device and shape of ``tensor``.

    Raises:
        TraceError: ``value`` has another number of elements than the site.
    """
    if binding.scale != 1.0:
        value = value / binding.scale
    value = value.to(device=tensor.device, dtype=tensor.dtype)
    if binding.where in ("query", "key", "value"):
        return _fitted(binding, value.transpose(1, 2), tensor.shape).clone()
    if binding.stop is not None:
        whole = tensor.clone()
        part = whole.unflatten(-1, (binding.groups, -1))[..., binding.start : binding.stop]
        part.copy_(_fitted(binding, value, part.shape))
        return whole
    fitted = _fitted(binding, value, tensor.shape)
    if binding.shared:
        return tensor.copy_(fitted)
    return fitted.clone()


def _scaled(value: torch.Tensor, scale: float) -> torch.Tensor:
    return value if scale == 1.0 else value * scale


def _divides(binding: Binding, size: int, parts: int) -> None:
    if size % parts:
        raise TraceError(f"{binding.site}: an axis of {size} does not divide into {parts} equal parts.")


def _fitted(binding: Binding, value: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    if value.numel() != shape.numel():
        raise TraceError(
            f"{binding.site}: an edit returned a value of shape {tuple(value.shape)}; it has to fill {tuple(shape)}."
        )
    return value.reshape(shape)
