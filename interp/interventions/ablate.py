"""Head ablation: replace what named heads hand to the output projection (`hook_z`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp.errors import UsageError


def as_pairs(heads: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """(layer, head) pairs as ints.

    Raises:
        UsageError: a pair that is not two non-negative ints.
    """
    pairs = []
    for pair in heads:
        try:
            layer, head = (int(part) for part in pair)
        except (TypeError, ValueError) as error:
            raise UsageError(f"heads are (layer, head) pairs, got {pair!r}") from error
        if layer < 0 or head < 0:
            raise UsageError(f"heads are counted from 0, got layer {layer}, head {head}")
        pairs.append((layer, head))
    return tuple(pairs)


def heads_of(pairs: Iterable[tuple[int, int]], layer: int) -> list[int]:
    """The heads named in one layer."""
    return [head for at, head in pairs if at == layer]


def z_sites(pairs: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    """`hook_z` of every layer named."""
    return tuple(f"blocks.{layer}.attn.hook_z" for layer in sorted({layer for layer, _ in pairs}))


def check_heads(value: Tensor, heads: list[int], site: str) -> None:
    """Refuse heads the layer does not have; `value` is [batch, position, head, d_head]."""
    if heads and max(heads) >= value.shape[2]:
        raise UsageError(f"{site} has heads 0..{value.shape[2] - 1}, asked for {max(heads)}")


@dataclass(frozen=True)
class ZeroHeads:
    """Zero the outputs of (layer, head) pairs; everything else runs on."""

    heads: tuple[tuple[int, int], ...]

    def __init__(self, heads: Iterable[tuple[int, int]]):
        object.__setattr__(self, "heads", as_pairs(heads))

    @property
    def sites(self) -> tuple[str, ...]:
        """`hook_z` of every layer concerned."""
        return z_sites(self.heads)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """z [batch, position, head, d_head] with the heads' slices at zero."""
        heads = heads_of(self.heads, int(site.split(".")[1]))
        check_heads(value, heads, site)
        out = value.clone()
        out[:, :, heads] = 0
        return out


@dataclass(frozen=True)
class MeanHeads:
    """Replace the outputs of heads by given means (mean ablation).

    Attributes:
        means: (layer, head) -> [d_head], or [position, d_head] for per-position means (Wang et al. 2022, section 2).
    """

    means: Mapping[tuple[int, int], Any]

    @property
    def sites(self) -> tuple[str, ...]:
        """`hook_z` of every layer concerned."""
        return z_sites(self.means)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """z [batch, position, head, d_head] with the heads' slices at their means."""
        here = int(site.split(".")[1])
        heads = heads_of(self.means, here)
        check_heads(value, heads, site)
        out = value.clone()
        for head in heads:
            mean = torch.as_tensor(self.means[here, head], dtype=value.dtype, device=value.device)
            if mean.shape[-1] != value.shape[-1] or (mean.dim() == 2 and mean.shape[0] != value.shape[1]):
                raise UsageError(
                    f"mean of head {here}.{head} has shape {tuple(mean.shape)}; expected [{value.shape[-1]}] or "
                    f"[{value.shape[1]}, {value.shape[-1]}]"
                )
            out[:, :, head] = mean
        return out
