"""The edit of the causal check: take a probe's directions out of states, or move them as far in random directions.

Elazar et al. 2021 (*Amnesic Probing*, arXiv 2006.00995) remove what a probe reads and compare with removing random
directions; here the random ones move every state by exactly as much, so that size alone explains no difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interp.interventions.positions import here


@dataclass(frozen=True)
class MoveAlong:
    """x - ((x - centre) read^T) write at chosen positions (`interp.probing.fit.Removal`).

    Attributes:
        sites: site names.
        positions: absolute positions.
        read, write: float64 [k, size].
        centre: float64 [size].
    """

    sites: tuple[str, ...]
    positions: tuple[int, ...]
    read: np.ndarray
    write: np.ndarray
    centre: np.ndarray

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """For a call that begins at position 0."""
        return self.apply_from(value, site, layer, 0)

    def apply_from(self, value: Tensor, site: str, layer: int | None, first: int) -> Tensor:
        """The value [batch, position, ...] of a call whose first token stands at `first`."""
        columns = [column for _, column in here(self.positions, first, value.shape[1])]
        if not columns:
            return value
        kind = torch.float32 if value.dtype in (torch.float16, torch.bfloat16) else value.dtype
        read, write, centre = (
            torch.as_tensor(one).to(kind).to(value.device) for one in (self.read, self.write, self.centre)
        )
        chosen = value[:, columns].to(kind).flatten(2)
        moved = chosen - ((chosen - centre) @ read.T) @ write
        out = value.clone()
        out[:, columns] = moved.to(value.dtype).view(len(value), len(columns), *value.shape[2:])
        return out


def at_random(write: np.ndarray, spread: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random directions [k, size] in the place of `write`, orthogonal to it where there is room, along which every
    state moves exactly as far. They are drawn as the states vary: more of a dimension with more `spread` [size]."""
    count, size = write.shape
    own, lengths = np.linalg.qr(write.T)  # write = lengths^T own^T
    drawn = rng.standard_normal((count, size)) * spread
    if 2 * count <= size:
        drawn -= (drawn @ own) @ own.T
    return lengths.T @ np.linalg.qr(drawn.T)[0].T
