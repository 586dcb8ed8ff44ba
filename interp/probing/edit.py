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
    """x - ((x - centre) Q^T) R at chosen positions: with R = Q the components along Q become those of the centre.

    Attributes:
        sites: site names.
        positions: absolute positions.
        read: Q float64 [k, size], orthonormal rows.
        write: R float64 [k, size], orthonormal rows.
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


def random_directions(read: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many random orthonormal directions as `read` [k, size] has, orthogonal to it where there is room."""
    count, size = read.shape
    drawn = rng.standard_normal((count, size))
    if 2 * count <= size:
        drawn -= (drawn @ read.T) @ read
    return np.linalg.qr(drawn.T)[0].T
