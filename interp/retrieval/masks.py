"""Heads masked differently in each sequence of a batch, so that many masks of one prompt run side by side.

Four ways: the head's output at zero; at its mean over a calibration text; its query at zero, so that it attends to all
it may see alike (what the released code of Wu et al. 2024 does); or its attention to the needle's sentence taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.ablation.config import Head
from interp.errors import UsageError
from interp.interventions.block_keys import without_keys
from interp.interventions.uniform_heads import query_site
from interp.retrieval.config import How
from interp.tracing.blocks import RowBlock

Mask = Bool[Tensor, "arm layer head"]


def mask_of(arms: Sequence[Iterable[Head]], shape: tuple[int, int]) -> Mask:
    """bool [arm, layer, head] of each arm's (layer, head) pairs.

    Raises:
        UsageError: a head the model does not have.
    """
    mask = torch.zeros(len(arms), *shape, dtype=torch.bool)
    for arm, pairs in enumerate(arms):
        for layer, head in pairs:
            if not (0 <= layer < shape[0] and 0 <= head < shape[1]):
                raise UsageError(
                    f"no head {layer}.{head}: the model has layers 0..{shape[0] - 1}, heads 0..{shape[1] - 1}"
                )
            mask[arm, layer, head] = True
    return mask


def layers_in(mask: Mask) -> list[int]:
    """Layers in which any arm masks a head."""
    return mask.any(2).any(0).nonzero()[:, 0].tolist()


@dataclass(frozen=True, eq=False)
class SetHeads:
    """Put a value where an arm's heads stand: their outputs (`hook_z`), or their queries.

    Attributes:
        mask: who is masked.
        sites: one a layer masked.
        values: [layer, head, d_head] to put there; None = zero.
    """

    mask: Mask
    sites: tuple[str, ...]
    values: Float[Tensor, "layer head d"] | None = None

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """The value [arm, position, head, d] with masked heads replaced."""
        at = int(site.split(".")[1])
        masked = self.mask[:, at].to(value.device)[:, None, :, None]
        target = value.new_zeros(()) if self.values is None else self.values[at].to(value)
        return torch.where(masked, target, value)


@dataclass(frozen=True, eq=False)
class HideKeys:
    """Take away an arm's heads' attention to the keys [start, stop), from every query behind them.

    Attributes:
        mask: who is masked.
        keys: first key, and the one behind the last.
    """

    mask: Mask
    keys: tuple[int, int]
    full_rows: ClassVar[bool] = False

    @property
    def layers(self) -> frozenset[int]:
        """Layers it changes."""
        return frozenset(layers_in(self.mask))

    def rows(self, block: RowBlock) -> Tensor:
        """The rows without the keys, in the heads each arm masks."""
        places, (start, stop) = block.key_positions, self.keys
        inside = ((places >= start) & (places < stop))[None]
        hidden = without_keys(block, block.rows, inside, torch.tensor([stop - 1], device=places.device))
        return torch.where(self.mask[:, block.layer].to(block.rows.device)[:, :, None, None], hidden, block.rows)


def edits(
    model: Any,
    how: How,
    mask: Mask,
    means: Mapping[Head, Tensor] | None = None,
    keys: tuple[int, int] | None = None,
) -> list[Any]:
    """What to put into a trace of as many sequences as the mask has arms; none when no head is masked.

    Args:
        means: (layer, head) -> [d_head], for ``mean``.
        keys: the needle's tokens, for ``block``; None = there is no needle, nothing is blocked.

    Raises:
        UsageError: ``mean`` without a mean of a masked head, or ``uniform`` in a family where it would not be uniform.
    """
    layers = layers_in(mask)
    if not layers or (how == "block" and keys is None):
        return []
    if how == "block":
        assert keys is not None
        return [HideKeys(mask, keys)]
    if how == "uniform":
        return [SetHeads(mask, tuple(query_site(model, layer) for layer in layers))]
    sites = tuple(f"blocks.{layer}.attn.hook_z" for layer in layers)
    return [SetHeads(mask, sites, table(mask, means or {}) if how == "mean" else None)]


def table(mask: Mask, means: Mapping[Head, Tensor]) -> Float[Tensor, "layer head d"]:
    """Means [layer, head, d_head], zero where no arm masks the head.

    Raises:
        UsageError: a masked head without a mean.
    """
    masked = [(int(layer), int(head)) for layer, head in mask.any(0).nonzero()]
    missing = [head for head in masked if head not in means]
    if missing:
        raise UsageError(f"no mean is known of head {missing[0][0]}.{missing[0][1]}")
    out = torch.zeros(*mask.shape[1:], len(means[masked[0]]))
    for head in masked:
        out[head] = means[head]
    return out
