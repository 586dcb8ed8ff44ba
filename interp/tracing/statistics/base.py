"""What a statistic is: a frozen object that makes an accumulator for one pass; and the accumulator most of them use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from interp.errors import TraceError
from interp.tracing.blocks import PassFrame, RowBlock

if TYPE_CHECKING:
    from interp.scoring.asked import Asked, Folded


class Accumulator(Protocol):
    """State of one statistic over one pass."""

    def fold(self, block: RowBlock) -> None:
        """Take in one block; must not keep or change `block.rows`."""
        ...

    def result(self) -> Any:
        """What was gathered so far."""
        ...


class Statistic(Protocol):
    """What `trace(stats=[...])` takes."""

    @property
    def name(self) -> str:
        """Key of the result in `t.stats`."""
        ...

    @property
    def layers(self) -> frozenset[int] | None:
        """Layers it looks at; None = all. The others keep the model's own attention speed."""
        ...

    def accumulator(self, frame: PassFrame) -> Accumulator:
        """A fresh accumulator for a pass."""
        ...


def stack_layers(parts: Mapping[int, Tensor], n_layers: int, name: str) -> Tensor:
    """[layer, ...] on the CPU; layers that were not asked for are NaN.

    Raises:
        TraceError: nothing was folded, or layers differ in shape (other head counts).
    """
    if not parts:
        raise TraceError(f"statistic {name!r} saw no attention: run the model inside the trace first")
    shapes = {tuple(part.shape) for part in parts.values()}
    if len(shapes) > 1:
        raise TraceError(f"statistic {name!r}: layers differ in shape {sorted(shapes)}; ask for one kind with layers=")
    if len(parts) == n_layers:
        return torch.stack([parts[layer].cpu() for layer in range(n_layers)])
    out = torch.full((n_layers, *shapes.pop()), float("nan"), dtype=torch.float32)
    for layer, part in parts.items():
        out[layer] = part.cpu()
    return out


class PerQuery:
    """Accumulator of something [batch, head, row] per block, laid end to end along the queries.

    `reduce` takes it from a block alone; `asks` and `takes` say the same to a pass that statistics share.
    """

    def __init__(
        self,
        name: str,
        frame: PassFrame,
        reduce: Callable[[RowBlock], Mapping[str, Tensor]],
        asks: Callable[[RowBlock], Asked | None] = lambda block: None,
        takes: Callable[[Folded, slice], Mapping[str, np.ndarray]] = lambda folded, sets: {},
    ):
        self.name, self.frame, self.reduce, self.part, self.takes = name, frame, reduce, asks, takes
        self.pieces: dict[str, dict[int, list[Tensor]]] = {}

    def fold(self, block: RowBlock) -> None:
        self.add(block.layer, self.reduce(block))

    def take(self, block: RowBlock, folded: Folded, sets: slice) -> None:
        """See `interp.tracing.one_pass`."""
        self.add(block.layer, {key: torch.from_numpy(values) for key, values in self.takes(folded, sets).items()})

    def add(self, layer: int, found: Mapping[str, Tensor]) -> None:
        """Lay what one block gave behind what the blocks before gave."""
        for key, values in found.items():
            self.pieces.setdefault(key, {}).setdefault(layer, []).append(values)

    def result(self) -> Any:
        if not self.pieces:
            raise TraceError(f"statistic {self.name!r} saw no attention: run the model inside the trace first")
        out = {}
        for key, layers in self.pieces.items():
            # on one device: fused kernels give theirs on the CPU, blocks where the model is
            joined = {layer: torch.cat([p.to(parts[0].device) for p in parts], -1) for layer, parts in layers.items()}
            stacked = stack_layers({k: v.float() for k, v in joined.items()}, self.frame.n_layers, self.name)
            integral = not next(iter(joined.values())).is_floating_point()
            out[key] = stacked.nan_to_num(-1).long() if integral else stacked
        return out[""] if set(out) == {""} else out
