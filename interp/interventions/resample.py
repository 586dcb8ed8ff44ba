"""Outputs of heads (`hook_z`) from another run, and output edits held to chosen positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp.errors import UsageError
from interp.interventions.ablate import check_heads, heads_of, z_sites
from interp.interventions.positions import as_positions, here


@dataclass(frozen=True)
class ResampleHeads:
    """Heads put out what they put out in another run, position by position (resample or interchange ablation; Chan et
    al. 2022, causal scrubbing; Geiger et al. 2021, arXiv 2106.02997).

    Attributes:
        outputs: (layer, head) -> z [position, d_head] of the other run, or [batch, position, d_head]; a position for
            each of the sequence it is put into.
    """

    outputs: Mapping[tuple[int, int], Any]

    @property
    def sites(self) -> tuple[str, ...]:
        """`hook_z` of every layer concerned."""
        return z_sites(self.outputs)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """z [batch, position, head, d_head] with the heads' slices from the other run."""
        return self.apply_from(value, site, layer, 0)

    def apply_from(self, value: Tensor, site: str, layer: int | None, start: int) -> Tensor:
        """The same for a value whose first token stands at `start`.

        Raises:
            UsageError: the other run has not the shape of this one.
        """
        at, stop = int(site.split(".")[1]), start + value.shape[1]
        heads = heads_of(self.outputs, at)
        check_heads(value, heads, site)
        out = value.clone()
        for head in heads:
            other = torch.as_tensor(self.outputs[at, head]).to(value)
            if other.dim() not in (2, 3) or other.shape[-1] != value.shape[-1] or other.shape[-2] < stop:
                raise UsageError(
                    f"the other run's output of head {at}.{head} has shape {tuple(other.shape)}; expected "
                    f"[{stop}, {value.shape[-1]}], or one for each sequence"
                )
            out[:, :, head] = other[..., start:stop, :]
        return out


@dataclass(frozen=True)
class AtPositions:
    """An edit of heads' outputs (or of any other site [batch, position, ...]) that acts at chosen positions only.

    Attributes:
        edit: the edit of sites.
        positions: absolute positions.
    """

    edit: Any
    positions: tuple[int, ...]

    def __init__(self, edit: Any, positions: Sequence[int]):
        object.__setattr__(self, "edit", edit)
        object.__setattr__(self, "positions", as_positions(positions))

    @property
    def sites(self) -> tuple[str, ...]:
        """Those of the edit."""
        return tuple(self.edit.sites)

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """The value, edited at the positions."""
        return self.apply_from(value, site, layer, 0)

    def apply_from(self, value: Tensor, site: str, layer: int | None, start: int) -> Tensor:
        """The same for a value whose first token stands at `start`."""
        inside = [at for _, at in here(self.positions, start, value.shape[1])]
        if not inside:
            return value
        inner = getattr(self.edit, "apply_from", None)
        changed = self.edit.apply(value, site, layer) if inner is None else inner(value, site, layer, start)
        out = value.clone()
        out[:, inside] = changed[:, inside]
        return out
