"""Edits of single numbers of a site."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from interp.errors import UsageError

Entry = tuple[str, int, int, float]
"""(site, position, dimension, value)."""


def entry_of(given: Any) -> Entry:
    """One entry of `SetDims`, as its four parts.

    Raises:
        UsageError: it is none.
    """
    try:
        site, position, dim, value = given
        entry = str(site), int(position), int(dim), float(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"SetDims takes (site, position, dimension, value), got {given!r}") from error
    if any(sign in entry[0] for sign in "*?["):
        raise UsageError(f"SetDims takes sites by full name, not patterns; name each layer's site, got {given!r}")
    if entry[1] < 0 or entry[2] < 0 or not math.isfinite(entry[3]):
        raise UsageError(f"SetDims: positions and dimensions count from 0 and values are finite, got {given!r}")
    return entry


@dataclass(frozen=True)
class SetDims:
    """Set chosen dimensions at chosen positions of chosen sites to given values, 0 or a mean for instance.

    The intervention on massive activations of Sun et al. 2024 (arXiv 2402.17762, section 3.2). Positions are
    absolute and count padding, the same in every sequence of a batch; a call that goes on from a KV cache sets those of
    its own positions that were asked for. A position that no call reaches is left out without a word: while a
    continuation is decoded, nobody can know whether it will come.

    Attributes:
        entries: (site, position, dimension, value); sites by full name, ``blocks.3.hook_resid_post``.
    """

    entries: tuple[Entry, ...]

    def __init__(self, entries: Iterable[Any]):
        object.__setattr__(self, "entries", tuple(entry_of(one) for one in entries))

    @property
    def sites(self) -> tuple[str, ...]:
        """Every site concerned."""
        return tuple(dict.fromkeys(site for site, *_ in self.entries))

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """For a call that begins at position 0."""
        return self.apply_from(value, site, layer, 0)

    def apply_from(self, value: Tensor, site: str, layer: int | None, first: int) -> Tensor:
        """`value` [batch, position, dimension] of a call whose first token stands at `first`, its entries set.

        Raises:
            UsageError: a dimension the site does not have.
        """
        out = value.clone()
        for at, position, dim, wanted in self.entries:
            if at != site or not first <= position < first + value.shape[1]:
                continue
            if value.dim() != 3 or dim >= value.shape[2]:
                raise UsageError(
                    f"{site} is {list(value.shape)} here; SetDims needs [batch, position, dimension] and a dimension "
                    f"below the last figure, got {dim}"
                )
            out[:, position - first, dim] = wanted
        return out
