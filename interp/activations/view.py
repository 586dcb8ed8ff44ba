"""One site of a store as an array: rows are tokens, read from memory maps shard by shard."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.activations.index import Entry, SiteSpec
from interp.errors import UsageError

if TYPE_CHECKING:
    import torch


class SiteView:
    """Values at one site, [token, ...]; ``view[3]``, ``view[10:20]``, ``view[[5, 2, 9]]`` and ``view.prompt(0)`` read.

    What lies in one shard comes as a read-only view of the memory map and costs nothing until it is looked at; rows of
    several shards, and lists of rows, are copied, and so is bfloat16, which NumPy does not have: it comes as torch
    tensors.

    Attributes:
        spec: the site's name, shape and dtype.
        starts: first row of each shard, and the number of rows in all.
    """

    def __init__(
        self, spec: SiteSpec, starts: Sequence[int], shard: Callable[[int], np.ndarray], entry: Callable[[Any], Entry]
    ) -> None:
        self.spec, self.starts, self._shard, self._entry = spec, tuple(starts), shard, entry

    @property
    def site(self) -> str:
        """Its name."""
        return self.spec.site

    @property
    def shape(self) -> tuple[int, ...]:
        """[token, ...]."""
        return (self.starts[-1], *self.spec.shape)

    @property
    def dtype(self) -> str:
        """As stored: ``float16``, ``bfloat16``, ``float32`` or ``float64``."""
        return self.spec.dtype

    def __len__(self) -> int:
        return self.starts[-1]

    def __repr__(self) -> str:
        return f"<SiteView {self.site}: {self.dtype} {list(self.shape)}>"

    def prompt(self, which: int | str) -> np.ndarray | torch.Tensor:
        """The rows of one prompt [position, ...], by number or name.

        Raises:
            UsageError: there is no such prompt.
        """
        entry = self._entry(which)
        return self._out(self._shard(entry.shard)[entry.start : entry.stop])

    def __getitem__(self, rows: Any) -> np.ndarray | torch.Tensor:
        """Rows by number, slice, or list of numbers; negative ones count from the end.

        Raises:
            IndexError: a row there is not.
        """
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            shard = self._at(start) if start < stop else 0
            if step == 1 and start < stop <= self.starts[shard + 1]:
                base = self.starts[shard]
                return self._out(self._shard(shard)[start - base : stop - base])
            return self._gather(np.arange(start, stop, step))
        if isinstance(rows, tuple):
            raise UsageError(f"{self!r} is indexed by rows alone; take the rest from what that gives: view[rows][...]")
        chosen = np.asarray(rows)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise IndexError(f"a mask of shape {list(chosen.shape)} for {len(self)} rows")
            chosen = np.flatnonzero(chosen)
        if chosen.size == 0:
            chosen = chosen.astype(np.int64)
        if chosen.ndim > 1 or not np.issubdtype(chosen.dtype, np.integer):
            raise IndexError(f"rows are numbers [n], got {chosen.dtype} of shape {list(chosen.shape)}")
        places = np.where(chosen < 0, chosen + len(self), chosen)
        if places.size and (places.min() < 0 or places.max() >= len(self)):
            raise IndexError(f"row {rows!r} of {len(self)}" if chosen.ndim == 0 else f"rows beyond the {len(self)}")
        if chosen.ndim == 0:
            shard = self._at(int(places))
            return self._out(self._shard(shard)[int(places) - self.starts[shard]])
        return self._gather(places)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of it, read into memory; a bfloat16 site as float32."""
        if copy is False:
            raise ValueError(f"{self!r} lies in files; an array of all of it is a copy")
        whole = self._gather(np.arange(len(self)))
        array = whole if isinstance(whole, np.ndarray) else whole.float().numpy()
        return array if dtype is None else array.astype(dtype)

    def _at(self, row: int) -> int:
        """The shard a row is in."""
        return bisect_right(self.starts, row) - 1

    def _gather(self, places: np.ndarray) -> np.ndarray | torch.Tensor:
        """A copy of the rows `places` [n], each shard looked into once."""
        stored = self._shard(0).dtype if len(self.starts) > 1 else np.dtype(np.float32)
        out = np.empty((len(places), *self.spec.shape), dtype=stored)
        shards = np.searchsorted(self.starts, places, side="right") - 1
        for shard in np.unique(shards):
            here = shards == shard
            out[here] = self._shard(int(shard))[places[here] - self.starts[shard]]
        return self._out(out)

    def _out(self, stored: np.ndarray) -> np.ndarray | torch.Tensor:
        """What is handed out."""
        if self.dtype != "bfloat16":
            stored = stored.view()
            stored.flags.writeable = False
            return stored
        import torch

        # a copy: torch has no read-only tensors, and what is written into the map would be read again later
        return torch.from_numpy(stored.view(np.int16).copy()).view(torch.bfloat16)
