"""Visual attention redistribution on any key set (VAR: Kang et al. 2025, arXiv 2503.03321, text side).

The paper moves attention from sinks to image tokens that are no sinks, in heads that look at the image already. Nothing
in it needs an image: here the set is any keys you name (a document in the prompt, an example, an instruction).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from interp.errors import UsageError
from interp.interventions.rows import Pairs, checked_pairs, heads_in, key_set, layers_of, move_mass, with_heads
from interp.tracing.blocks import RowBlock


@dataclass(frozen=True)
class RedistributeKeys:
    """Move a share of each row's mass on sink keys to the non-sink keys of a set, in proportion to what they hold.

    A row is changed only where the head looks at the set: mass on the set at least `least`, and the part of it on keys
    that are no sinks at least `rho` of it. The criterion is the row's own, so prefill and decoding agree; name `heads`
    and set ``least=0, rho=0`` to change every row of given heads.

    Attributes:
        keys: the set; key positions, or a bool mask [key] or [batch, key].
        sinks: sink keys inside and outside the set, given the same way for all layers; or by layer, as a bool mask
            [layer, batch, key] (what `interp.tracing.phi.phi_sinks` returns) or a dict from layer to keys, in which
            layers that are not named have none.
        share: p of the paper, the share of the mass on sinks that is moved.
        rho: least non-sink share of the mass on the set.
        least: least mass on the set.
        heads: (layer, head) pairs; None = all heads of all layers.
        first_layer: layers before this one are left alone (the paper's sinks begin in layer 2).
    """

    keys: Any
    sinks: Any
    share: float = 0.6
    rho: float = 0.8
    least: float = 0.2
    heads: Pairs | None = None
    first_layer: int = 2
    full_rows: ClassVar[bool] = False  # it never puts mass on a key that had none

    def __init__(
        self,
        keys: Any,
        sinks: Any,
        share: float = 0.6,
        rho: float = 0.8,
        least: float = 0.2,
        heads: Iterable[tuple[int, int]] | None = None,
        first_layer: int = 2,
    ):
        if first_layer < 0:
            raise UsageError(f"RedistributeKeys(first_layer={first_layer}): expected a layer, 0 or more")
        for name, value in {"share": share, "rho": rho, "least": least}.items():
            if not 0 <= value <= 1:
                raise UsageError(f"RedistributeKeys({name}={value}): expected a number from 0 to 1")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "sinks", sinks)
        object.__setattr__(self, "heads", checked_pairs(heads))
        object.__setattr__(self, "first_layer", first_layer)

    @property
    def layers(self) -> frozenset[int] | None:
        """Layers it changes; None = all."""
        named = layers_of(self.heads)
        return named if named is None else frozenset(layer for layer in named if layer >= self.first_layer)

    def sinks_of(self, layer: int) -> Any:
        """The sink keys given for a layer.

        Raises:
            UsageError: a mask by layer that has not this layer.
        """
        if isinstance(self.sinks, Mapping):
            return self.sinks.get(layer, [])
        if getattr(self.sinks, "ndim", 0) != 3:
            return self.sinks
        if layer >= len(self.sinks):
            raise UsageError(
                f"RedistributeKeys(sinks=...): a mask [layer, batch, key] of shape {tuple(self.sinks.shape)} for layer "
                f"{layer}"
            )
        return self.sinks[layer]

    def rows(self, block: RowBlock) -> Tensor:
        """The rows after redistribution."""
        if block.layer < self.first_layer:
            return block.rows
        chosen = heads_in(block, self.heads)
        members = key_set(self.keys, block, "RedistributeKeys(keys=...)")[:, None, None]
        sinks = key_set(self.sinks_of(block.layer), block, "RedistributeKeys(sinks=...)")[:, None, None]
        target = members & ~sinks
        rows = block.rows[:, chosen]
        on_set = (rows * members).sum(-1, keepdim=True)
        on_target = (rows * target).sum(-1, keepdim=True)
        looks = (on_set >= self.least) & (on_target >= self.rho * on_set)
        changed = torch.where(looks, move_mass(rows, sinks, target, self.share), rows)
        return with_heads(block.rows, chosen, changed)
