"""Arrays in a page: one gzip-compressed binary block, and matrices made small enough to fit.

A reference (`Pack.add`) is ``{"at": byte offset, "shape": [...], "type": "f4" | "f2" | "u1", "scale": s}``;
assets/data.js reads it.
Anything that loses information returns a sentence saying so.
"""

from __future__ import annotations

import base64
import gzip
from typing import Any

import numpy as np


class Pack:
    """Collects arrays; `text()` is the block as base64 of gzip."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, array: np.ndarray, kind: str) -> dict[str, Any]:
        """Store `array` as ``f4`` (float32), ``f2`` (float16 times a scale: 3 significant digits) or ``u1`` (bytes).

        float16 values are scaled so that the largest is 2**15, which leaves nine orders of magnitude below it, and
        their high and low bytes are stored apart, which compresses better.
        """
        array = np.asarray(array)
        ref: dict[str, Any] = {"at": self._size, "shape": list(array.shape), "type": kind}
        if kind == "f2":
            finite = np.abs(array[np.isfinite(array)])
            largest = float(finite.max()) if finite.size else 0.0
            ref["scale"] = largest / 2**15 if largest > 0 else 1.0
            data = (array.astype(np.float64) / ref["scale"]).astype("<f2").reshape(-1, 1).view(np.uint8).T.tobytes()
        elif kind == "f4":
            data = array.astype("<f4").tobytes()
        elif kind == "u1":
            data = array.astype(np.uint8).tobytes()
        else:
            raise ValueError(f"unknown storage {kind!r}: f4, f2 or u1")
        data += b"\0" * (-len(data) % 4)
        self._parts.append(data)
        self._size += len(data)
        return ref

    def text(self) -> str:
        return squeeze(b"".join(self._parts))


def squeeze(data: bytes) -> str:
    """Base64 of gzip of `data`, the same every time."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode("ascii")


def pool_columns(values: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """[rows, columns] with at most `most` columns, and how many neighbours each stands for.

    The value of the largest magnitude wins, so a single outstanding position survives; NaN only where all are NaN.
    """
    values = np.asarray(values, dtype=np.float64)
    rows, columns = values.shape
    by = -(-columns // most)
    if by <= 1:
        return values, 1
    padded = np.full((rows, -(-columns // by) * by), np.nan)
    padded[:, :columns] = values
    blocks = padded.reshape(rows, -1, by)
    best = np.argmax(np.where(np.isnan(blocks), -1.0, np.abs(blocks)), axis=2)
    return np.take_along_axis(blocks, best[..., None], axis=2)[..., 0], by


def pool_pattern(pattern: np.ndarray, by: int) -> np.ndarray:
    """[queries, keys] -> [ceil(queries / by), ceil(keys / by)]: mean over the queries of a block, sum over its keys.

    So a row still sums to what it summed to before, on average over its queries.
    """
    queries, keys = pattern.shape
    starts_q, starts_k = np.arange(0, queries, by), np.arange(0, keys, by)
    summed = np.add.reduceat(np.add.reduceat(pattern.astype(np.float64), starts_q, axis=0), starts_k, axis=1)
    return summed / np.minimum(by, queries - starts_q)[:, None]
