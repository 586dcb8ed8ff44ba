"""One shard as a memory map: where its tensors lie in the file, and whether the file is what was written."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from interp.activations.index import ITEM_BYTES, REPAIR, Index, Shard, StoreError, records_file, shard_file

_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
_STORED = {"float16": "<f2", "bfloat16": "<u2", "float32": "<f4", "float64": "<f8"}
_LONGEST_HEADER = 100_000_000  # safetensors' own limit
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Damage:
    """What is wrong with a shard."""

    shard: str
    prompts: int
    why: str


def mapped(folder: Path, index: Index, shard: Shard) -> dict[str, np.ndarray]:
    """A shard's tensors [row, ...] by site, as views of one memory map: nothing is read before it is looked at.

    NumPy has no bfloat16; its 16 bits come as uint16 (`interp.activations.view` makes torch tensors of them). The map
    is copy-on-write, so that nothing can change the file.

    Raises:
        StoreError: the file is missing, cut off, or does not hold what the index says.
    """
    path = shard_file(folder, shard.name)
    try:
        whole = np.memmap(path, dtype=np.uint8, mode="c")
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise StoreError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}; {REPAIR}") from error
    if len(whole) != shard.bytes:
        raise StoreError(f"{path} is damaged: it has {len(whole)} bytes, written were {shard.bytes}; {REPAIR}")
    header, begin = _header(whole, path)
    views = {}
    for spec in index.sites:
        start, stop = _place(header.get(spec.site), spec.dtype, (shard.rows, *spec.shape), len(whole) - begin, path)
        flat = whole[begin + start : begin + stop].view(_STORED[spec.dtype])
        views[spec.site] = flat.reshape(shard.rows, *spec.shape)
    return views


def _header(whole: np.ndarray, path: Path) -> tuple[dict[str, Any], int]:
    """(safetensors header, offset of the data): 8 bytes of length, then JSON."""
    length = int.from_bytes(whole[:8].tobytes(), "little")
    try:
        if length > min(len(whole) - 8, _LONGEST_HEADER):
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(whole[8 : 8 + length].tobytes())
        if not isinstance(header, dict):
            raise ValueError("its header is no object")
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged ({error}); {REPAIR}") from error
    return header, 8 + length


def _place(told: Any, dtype: str, shape: tuple[int, ...], size: int, path: Path) -> tuple[int, int]:
    """First and last byte of one tensor in the data, checked against what the index says."""
    expected = int(np.prod(shape, dtype=np.int64)) * ITEM_BYTES[dtype]
    try:
        start, stop = told["data_offsets"]
        fits = start >= 0 and stop - start == expected and stop <= size
        fits = fits and _DTYPES[told["dtype"]] == dtype and tuple(told["shape"]) == shape
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise StoreError(f"{path} is damaged: it holds {told}, where {dtype} {list(shape)} was written; {REPAIR}")
    return start, stop


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    state = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_CHUNK):
            state.update(block)
    return state.hexdigest()


def damage(folder: Path, index: Index, shard: Shard, *, digests: bool) -> Damage | None:
    """What is wrong with a shard, None when nothing is.

    Args:
        digests: read it all and compare its SHA-256; else only size and header are looked at.
    """
    try:
        mapped(folder, index, shard)
        if digests:
            for path, told in (
                (shard_file(folder, shard.name), shard.sha256),
                (records_file(folder, shard.name), shard.records_sha256),
            ):
                if sha256_of(path) != told:
                    return Damage(shard.name, shard.prompts, f"{path.name} does not match its digest")
        elif not os.path.isfile(records_file(folder, shard.name)):
            return Damage(shard.name, shard.prompts, f"{shard.name}.json is missing")
    except (OSError, StoreError) as error:
        return Damage(shard.name, shard.prompts, str(error).partition(f"; {REPAIR}")[0])
    return None
