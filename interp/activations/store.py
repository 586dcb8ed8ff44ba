"""`open_store`: an activation store as its reader sees it; prompts as a table, sites as arrays that lie in files."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.activations.index import INDEX_FILE, Entry, Index, StoreError, read_index, read_records
from interp.activations.shards import Damage, damage, mapped
from interp.activations.view import SiteView
from interp.errors import UsageError
from interp.registry import unknown
from probes.base import Prompt

if TYPE_CHECKING:
    import pandas as pd

MAPS = 32
"""Shards mapped at once: each holds a file open."""


@dataclass(frozen=True)
class Batch:
    """Rows of a site and what they belong to.

    Attributes:
        values: [n, ...], as the site's view gives them.
        prompts: int64 [n], numbers of the prompts.
        positions: int64 [n], absolute positions in the prompt.
        token_ids: int64 [n].
    """

    values: Any
    prompts: np.ndarray
    positions: np.ndarray
    token_ids: np.ndarray


class Store:
    """Activations of many prompts at chosen sites; `open_store` and `interp.capture` give one.

    ``store.sites`` names the sites, ``store.prompts`` is a table of the prompts, ``store[site]`` is an array
    [token, ...] (`SiteView`), ``store.batches(site)`` goes through it.
    """

    def __init__(self, path: Path, index: Index) -> None:
        self.path, self.index = path, index
        self._starts = (0, *accumulate(shard.rows for shard in index.shards))
        self._maps: OrderedDict[int, dict[str, np.ndarray]] = OrderedDict()

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites, in the order of the forward pass."""
        return tuple(spec.site for spec in self.index.sites)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every prompt with its place, in the order of rows.

        Raises:
            StoreError: a shard's list of prompts is missing or damaged.
        """
        return tuple(
            entry for number, shard in enumerate(self.index.shards) for entry in read_records(self.path, number, shard)
        )

    @cached_property
    def prompts(self) -> pd.DataFrame:
        """One row a prompt: ``name``, ``hash`` (of its token ids), ``tokens`` (how many), ``truncated``, ``shard``,
        ``start`` and ``stop`` (its rows in ``store[site]``), ``label`` and ``answer`` (token id) where it has any."""
        import pandas as pd

        rows = []
        for entry in self.entries:
            base, prompt = self._starts[entry.shard], entry.prompt
            rows.append(
                {
                    "name": prompt.name,
                    "hash": prompt.hash,
                    "tokens": len(prompt),
                    "truncated": prompt.truncated,
                    "shard": self.index.shards[entry.shard].name,
                    "start": base + entry.start,
                    "stop": base + entry.stop,
                    **labels_of(prompt),
                }
            )
        columns = ["name", "hash", "tokens", "truncated", "shard", "start", "stop", "label", "answer"]
        return pd.DataFrame(rows, columns=columns)

    def __len__(self) -> int:
        """Number of prompts."""
        return sum(shard.prompts for shard in self.index.shards)

    def __repr__(self) -> str:
        name = self.index.model_name
        return (
            f"<Store {str(self.path)!r}: {len(self)} prompts, {self.index.rows} tokens at {len(self.sites)} sites of "
            f"{name}, {self.index.bytes / 1e6:.1f} MB>"
        )

    def as_dict(self) -> dict[str, Any]:
        """What it holds, JSON-able."""
        sites = [{"site": spec.site, "shape": list(spec.shape), "dtype": spec.dtype} for spec in self.index.sites]
        return {
            "store": str(self.path),
            "model": self.index.model_name,
            "prompts": len(self),
            "rows": self.index.rows,
            "positions": self.index.positions,
            "sites": sites,
            "shards": len(self.index.shards),
            "bytes": self.index.bytes,
        }

    def __getitem__(self, site: str) -> SiteView:
        """One site as an array [token, ...].

        Raises:
            UsageError: the store does not have that site.
        """
        for spec in self.index.sites:
            if spec.site == site:
                return SiteView(spec, self._starts, lambda number: self._map(number)[site], self.entry)
        raise UsageError(unknown("site of this store", str(site), self.sites))

    def entry(self, which: int | str) -> Entry:
        """A prompt's entry, by number (negative: from the end) or name.

        Raises:
            UsageError: there is no such prompt.
        """
        if isinstance(which, str):
            named = [entry for entry in self.entries if entry.prompt.name == which]
            if not named:
                raise UsageError(f"no prompt {which!r} in {self.path}; store.prompts lists its {len(self)} prompts")
            return named[0]
        if not -len(self) <= which < len(self):
            raise UsageError(f"prompt {which} of {len(self)} in {self.path}; they are numbered from 0")
        return self.entries[which]

    def prompt(self, which: int | str) -> Prompt:
        """A prompt, with its exact token ids and what else is known of it."""
        return self.entry(which).prompt

    def positions(self, which: int | str) -> np.ndarray:
        """Absolute positions [row] of a prompt's rows."""
        entry = self.entry(which)
        return np.arange(len(entry.prompt))[-(entry.stop - entry.start) :]

    def batches(self, site: str, size: int = 4096, *, seed: int | None = None) -> Iterator[Batch]:
        """Go through a site's rows in batches, the last of which may be smaller.

        Args:
            site: one of `sites`.
            size: rows a batch.
            seed: None = in the order of the store; else in an order drawn with it.

        Raises:
            UsageError: no such site, or a size below 1.
        """
        if size < 1:
            raise UsageError(f"batches of {size} rows; at least 1 is needed")
        view = self[site]  # at once, not when the first batch is asked for
        owner, position, token = self._tokens
        order = np.arange(len(view)) if seed is None else np.random.default_rng(seed).permutation(len(view))

        def made() -> Iterator[Batch]:
            for first in range(0, len(order), size):
                rows = order[first : first + size]
                values = view[int(rows[0]) : int(rows[-1]) + 1] if seed is None else view[rows]
                yield Batch(values, owner[rows], position[rows], token[rows])

        return made()

    @cached_property
    def _tokens(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(prompt, position, token id) of every row, int64."""
        owner, position, token = [], [], []
        for number, entry in enumerate(self.entries):
            places = self.positions(number)
            owner.append(np.full(len(places), number))
            position.append(places)
            token.append(np.array(entry.prompt.ids)[places])
        empty = np.empty(0, dtype=np.int64)
        owners, positions, tokens = (np.concatenate([empty, *parts]) for parts in (owner, position, token))
        return owners, positions, tokens

    def verify(self, *, digests: bool = True) -> list[Damage]:
        """What is damaged: every shard's size, header and, unless `digests` is off, SHA-256 (which reads it all)."""
        found = (damage(self.path, self.index, shard, digests=digests) for shard in self.index.shards)
        return [one for one in found if one is not None]

    def _map(self, number: int) -> dict[str, np.ndarray]:
        """A shard's tensors, mapped; the few used last stay so."""
        if number not in self._maps:
            self._maps[number] = mapped(self.path, self.index, self.index.shards[number])
            if len(self._maps) > MAPS:
                self._maps.popitem(last=False)
        self._maps.move_to_end(number)
        return self._maps[number]


def labels_of(prompt: Prompt) -> dict[str, Any]:
    """``label`` (the key of a prompts file) and ``answer`` (id of the right next token) of a prompt; None without."""
    pair = prompt.extra.get("pair")
    return {"label": prompt.extra.get("label"), "answer": pair.get("answer") if isinstance(pair, dict) else None}


def open_store(path: str | os.PathLike[str]) -> Store:
    """Open an activation store for reading; no model is needed, and nothing of the activations is read yet.

    Raises:
        StoreError: there is none, or it is damaged: a missing or cut-off shard is told at once, changed bytes inside
            one by ``store.verify()``.
    """
    folder = Path(path)
    index = read_index(folder)
    if index is None:
        raise StoreError(f"no activation store in {folder}: it has no {INDEX_FILE}; interp capture writes one")
    store = Store(folder, index)
    broken = store.verify(digests=False)
    if broken:
        lost = sum(one.prompts for one in broken)
        raise StoreError(
            f"{folder} is damaged: {broken[0].why}"
            + (f", and {len(broken) - 1} more shards" if len(broken) > 1 else "")
            + f"; the same interp capture with --repair captures the {lost} prompts of it again"
        )
    return store
