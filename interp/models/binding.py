"""Where a site lives in a Hugging Face module tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

Where = Literal["input", "output", "query", "key", "value"]


@dataclass(frozen=True)
class Binding:
    """One site, bound to a module.

    Attributes:
        site: the TransformerLens-style name, e.g. ``blocks.7.attn.hook_z``.
        layer: block index, or None outside the blocks.
        module: the module to hook. For ``query``/``key``/``value`` it is the attention module that calls the
            attention function; the value is then what that function receives (after rotary embedding).
        where: ``input`` = the module's argument, ``output`` = what it returns, or an argument of the attention function.
        index: position in the argument list (``input``) or in the returned tuple (``output``; ignored for a bare tensor).
        keyword: the argument's name, for modules that are called by keyword.
        heads: split the last axis into [heads, size // heads]; None leaves it as it is.
        scale: site value = ``scale`` x tensor found there (Granite's residual multiplier).
    """

    site: str
    layer: int | None
    module: nn.Module
    where: Where
    index: int = 0
    keyword: str | None = None
    heads: int | None = None
    scale: float = 1.0
