"""Writes an activation store: prompts gather in memory until a shard is full, and each shard appears whole or not at
all (see `interp.activations.index`)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.activations.index import (
    ITEM_BYTES,
    KIND,
    PARTIAL,
    SHARDS,
    Entry,
    Index,
    Shard,
    SiteSpec,
    StoreError,
    is_own,
    records_bytes,
    records_file,
    shard_file,
    write_index,
)
from interp.activations.shards import sha256_of
from interp.errors import NumbersError, TraceError
from interp.runs.store import write_atomically
from probes.base import Prompt

COMMIT_SECONDS = 60.0
"""A shard is written after so long, however little it holds: what a kill costs is bounded in time as well."""


class Writer:
    """Adds prompts to a store. The caller holds the folder's lock.

    Attributes:
        folder: the store.
        index: what is committed; sites are known once it or the first prompt tells them.
        call: what this call's record says (`Index.calls`), written with its first shard.
    """

    def __init__(
        self,
        folder: Path,
        index: Index,
        call: Mapping[str, Any],
        shard_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.index, self.call = folder, index, dict(call)
        self._shard_bytes, self._clock = shard_bytes, clock
        self._buffer: dict[str, Tensor] = {}
        self._entries: list[Entry] = []
        self._rows, self._began, self._told = 0, 0.0, False

    def sweep(self) -> None:
        """Remove what a killed call left: files of shards that the index does not name."""
        try:
            (self.folder / SHARDS).mkdir(parents=True, exist_ok=True)
            named = {shard.name for shard in self.index.shards}
            for entry in (self.folder / SHARDS).iterdir():
                if is_own(entry.name) and entry.name.partition(".")[0] not in named:
                    entry.unlink()
            for entry in self.folder.glob(f".*{PARTIAL}"):
                entry.unlink()
        except OSError as error:
            raise StoreError(f"cannot use {self.folder} as an activation store: {error.strerror or error}") from error

    def add(self, prompt: Prompt, values: Mapping[str, Tensor]) -> None:
        """Add one prompt: `values` [row, ...] by site, as they are to be stored; writes a shard when one is full.

        Raises:
            TraceError: a site has another shape or dtype than before, or sites differ in rows.
            StoreError: the disk refuses.
        """
        specs = tuple(SiteSpec(site, tuple(v.shape[1:]), dtype_name(v.dtype)) for site, v in values.items())
        if not self.index.sites:
            self.index = replace(self.index, sites=specs)
        elif specs != self.index.sites:
            theirs = {spec.site: spec for spec in self.index.sites}
            for one in specs:
                if theirs.get(one.site) != one:
                    raise TraceError(f"prompt {prompt.name!r}: {one} where the store holds {theirs.get(one.site)}")
            raise TraceError(f"prompt {prompt.name!r}: {len(specs)} sites where the store holds {len(theirs)}")
        counts = {len(value) for value in values.values()}
        if len(counts) != 1 or 0 in counts:
            raise TraceError(f"prompt {prompt.name!r}: sites of {sorted(counts)} rows; each is to have the same number")
        rows = counts.pop()
        capacity = max(1, self._shard_bytes // self.index.row_bytes)
        if self._rows and self._rows + rows > capacity:
            self.commit()
        if not self._rows:
            self._began = self._clock()
        if rows > capacity:  # a shard of its own, straight from what was traced
            self._buffer, self._entries, self._rows = apart(values), [Entry(prompt, 0, 0, rows)], rows
            self.commit()
            self._buffer = {}
            return
        if not self._buffer:
            self._buffer = {
                spec.site: torch.empty(capacity, *spec.shape, dtype=getattr(torch, spec.dtype))
                for spec in self.index.sites
            }
        for site, value in values.items():
            self._buffer[site][self._rows : self._rows + rows] = value
        self._entries.append(Entry(prompt, 0, self._rows, self._rows + rows))
        self._rows += rows
        if self._rows == capacity or self._clock() - self._began >= COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Write what has gathered as one shard, then the index that names it.

        Raises:
            StoreError: the disk refuses; what was committed before stays as it was.
        """
        if not self._rows:
            return
        name = f"{1 + max((int(shard.name) for shard in self.index.shards), default=-1):05d}"
        records = records_bytes(self._entries)
        path = shard_file(self.folder, name)
        digest, size = _save(path, {site: tensor[: self._rows] for site, tensor in self._buffer.items()})
        write_atomically(records_file(self.folder, name), records)
        shard = Shard(name, self._rows, len(self._entries), size, digest, hashlib.sha256(records).hexdigest())
        calls = self.index.calls if self._told else (*self.index.calls, {**self.call, "first_shard": name})
        index = replace(self.index, shards=(*self.index.shards, shard), calls=calls)
        write_index(self.folder, index)
        self.index, self._told = index, True
        self._entries, self._rows = [], 0


def _save(path: Path, tensors: Mapping[str, Tensor]) -> tuple[str, int]:
    """Write one shard under a temporary name, sync it, rename it; returns its SHA-256 and size."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        save_file(dict(tensors), partial, {"kind": KIND})
        digest, size = sha256_of(partial), partial.stat().st_size
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
    return digest, size


def apart(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same values with no memory in common, as safetensors wants them: two sites may be one tensor (a block's
    output and the next one's input)."""
    seen: set[int] = set()
    out = {}
    for site, value in values.items():
        out[site] = value.clone() if value.untyped_storage().data_ptr() in seen else value
        seen.add(value.untyped_storage().data_ptr())
    return out


def dtype_name(dtype: torch.dtype) -> str:
    """``float16`` of ``torch.float16``.

    Raises:
        TraceError: it is no floating-point dtype that a store holds.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in ITEM_BYTES:
        raise TraceError(f"values of dtype {name} cannot be stored; a store holds {', '.join(ITEM_BYTES)}")
    return name


def stored(value: Tensor, dtype: torch.dtype | None, site: str, prompt: Prompt, rows: Sequence[int] | None) -> Tensor:
    """A site's value [1, position, ...] as the store keeps it: [row, ...], contiguous, on the CPU.

    Args:
        dtype: None = as it is.
        rows: positions that are kept; None = all.

    Raises:
        TraceError: the site has no row for each token.
        NumbersError: a number that is not finite, or that `dtype` cannot hold.
    """
    if value.dim() < 2 or value.shape[0] != 1 or value.shape[1] != len(prompt):
        raise TraceError(
            f"{site} has shape {list(value.shape)} for {len(prompt)} tokens; a store holds sites of [1, token, ...]"
        )
    kept = value[0] if rows is None else value[0, list(rows)]
    out = (kept if dtype is None else kept.to(dtype)).to("cpu").contiguous()
    if not torch.isfinite(out).all():
        if torch.isfinite(kept).all():
            raise NumbersError(
                f"prompt {prompt.name!r}: {site} holds {float(kept.abs().max()):.4g}, which {dtype_name(out.dtype)} "
                "cannot; use --dtype-store bfloat16 or float32"
            )
        raise NumbersError(
            f"prompt {prompt.name!r}: {site} is not finite; try --dtype float32, or check the model's weights"
        )
    return out
