"""Edits of the vectors that stand at chosen positions of a site: give them a length, or write a direction onto them.

Positions are absolute and count padding, the same in every sequence of a batch. While a KV cache is continued, each
call edits those of its own positions that were asked for, so prefill and decoding give what one whole call gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp.errors import UsageError


def as_positions(positions: Sequence[int]) -> tuple[int, ...]:
    """Distinct, non-negative ints in the order given.

    Raises:
        UsageError: anything else, a mask included.
    """
    given = torch.as_tensor(positions)
    if given.numel() == 0:
        return ()
    if given.dim() != 1 or given.dtype == torch.bool or given.is_floating_point() or given.min() < 0:
        raise UsageError(f"positions are ints from 0, the same in every sequence, got {positions!r}")
    made = tuple(int(position) for position in given)
    if len(set(made)) < len(made):
        raise UsageError(f"each position can be edited once, got {list(made)}")
    return made


def here(positions: tuple[int, ...], first: int, length: int) -> list[tuple[int, int]]:
    """(index among `positions`, index in the call) of those that stand in a call of `length` tokens from `first` on."""
    return [(i, position - first) for i, position in enumerate(positions) if first <= position < first + length]


def lengths(value: Tensor) -> Tensor:
    """l2 norm of each vector, all axes after [batch, position] taken together; float64 where the device has it, so that
    a vector set to the norm this gives stays as it is, bit for bit."""
    return value.detach().to(finest(value.device)).flatten(2).norm(dim=-1)


def finest(device: torch.device) -> torch.dtype:
    """The finest float type of a device: Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


@dataclass(frozen=True)
class SetNorm:
    """Scale the vector at each position to a given l2 norm, 0 included; its direction stays.

    Attributes:
        sites: site names or patterns.
        positions: absolute positions.
        norm: one number, or one a position.
    """

    sites: tuple[str, ...]
    positions: tuple[int, ...]
    norm: tuple[float, ...]

    def __init__(self, sites: Sequence[str], positions: Sequence[int], norm: float | Sequence[float]):
        places = as_positions(positions)
        norms = tuple(float(one) for one in norm) if isinstance(norm, Sequence) else (float(norm),) * len(places)
        if len(norms) != len(places):
            raise UsageError(f"SetNorm: {len(norms)} norms for {len(places)} positions; give one number, or one each")
        if not all(0 <= one < float("inf") for one in norms):
            raise UsageError(f"SetNorm: a norm is a finite number from 0 up, got {list(norms)}")
        object.__setattr__(self, "sites", (sites,) if isinstance(sites, str) else tuple(sites))
        object.__setattr__(self, "positions", places)
        object.__setattr__(self, "norm", norms)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """For a call that begins at position 0."""
        return self.apply_from(value, site, layer, 0)

    def apply_from(self, value: Tensor, site: str, layer: int | None, first: int) -> Tensor:
        """The value [batch, position, ...] of a call whose first token stands at `first`.

        Raises:
            UsageError: a vector of length 0, which has no direction, is to become longer.
        """
        found = here(self.positions, first, value.shape[1])
        if not found:
            return value
        given, columns = zip(*found, strict=True)
        chosen = value[:, list(columns)]
        now = lengths(chosen)
        wanted = torch.tensor([self.norm[i] for i in given], dtype=now.dtype, device=now.device).expand_as(now)
        lost = (now == 0) & (wanted > 0)
        if lost.any():
            at = self.positions[given[int(lost.nonzero()[0, 1])]]
            raise UsageError(f"SetNorm: the vector of {site} at position {at} is zero and has no direction to scale")
        factor = torch.where(now == 0, torch.ones_like(now), wanted / now).to(value.dtype)
        out = value.clone()
        out[:, list(columns)] = chosen * factor.reshape(*factor.shape, *[1] * (value.dim() - 2))
        return out


@dataclass(frozen=True)
class WriteDirection:
    """Add a vector to what stands at the positions, or put it in its place.

    Attributes:
        sites: site names or patterns.
        positions: absolute positions.
        vector: [...], the shape the site has after [batch, position]; its length counts.
        replace: put it in the place of what was there.
    """

    sites: tuple[str, ...]
    positions: tuple[int, ...]
    vector: Any
    replace: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "sites", (self.sites,) if isinstance(self.sites, str) else tuple(self.sites))
        object.__setattr__(self, "positions", as_positions(self.positions))

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """For a call that begins at position 0."""
        return self.apply_from(value, site, layer, 0)

    def apply_from(self, value: Tensor, site: str, layer: int | None, first: int) -> Tensor:
        """The value [batch, position, ...] of a call whose first token stands at `first`.

        Raises:
            UsageError: the vector has not the shape of the site.
        """
        # the type first: a float64 vector cannot be moved to a device that has none
        vector = torch.as_tensor(self.vector, dtype=value.dtype).to(value.device)
        if vector.shape != value.shape[2:]:
            raise UsageError(
                f"WriteDirection: {site} holds vectors of shape {tuple(value.shape[2:])}, got {tuple(vector.shape)}"
            )
        columns = [column for _, column in here(self.positions, first, value.shape[1])]
        out = value.clone()
        out[:, columns] = vector if self.replace else out[:, columns] + vector
        return out
