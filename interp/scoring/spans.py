"""Runs of layers: from flags over [prompt, layer, position] to spans, the shape every sink comes in.

`spans` is the Numba kernel, `spans_plain` the same in NumPy and Python, kept for the test that they agree.
"""

from __future__ import annotations

import numba
import numpy as np

from interp.scoring.compiled import announced

FIELDS = ("prompt", "position", "start", "stop", "bridged")
"""Columns of the result; ``stop`` is exclusive, ``bridged`` the number of unflagged layers inside the span."""
TILE = 4096
"""Positions of one prompt worked on at once."""


def spans(flags: np.ndarray, gap: int = 1, least: int = 1) -> np.ndarray:
    """Maximal runs of flagged layers, with short gaps bridged.

    Args:
        flags: bool [prompt, layer, position].
        gap: so many unflagged layers between two flagged ones are bridged.
        least: a span must hold so many flagged layers in direct succession.

    Returns:
        int64 [span, 5], columns as `FIELDS`, ordered by prompt, position, start.

    Raises:
        ValueError: `flags` is not bool [prompt, layer, position], `gap` is negative or `least` is under 1.
    """
    _check(flags, gap, least)
    flags = np.ascontiguousarray(flags).view(np.uint8)
    tiles = -(-flags.shape[2] // TILE)
    counts = np.zeros(flags.shape[0] * tiles, dtype=np.int64)
    out = np.empty((0, len(FIELDS)), dtype=np.int64)
    _spans(flags, gap, least, tiles, counts, out, counts)
    firsts = np.cumsum(counts) - counts
    out = np.empty((int(counts.sum()), len(FIELDS)), dtype=np.int64)
    _spans(flags, gap, least, tiles, counts, out, firsts)
    return out


@announced
@numba.njit(cache=True, parallel=True)
def _spans(flags, gap, least, tiles, counts, out, firsts):
    """Tile by tile: how many spans there are, or, with room in `out`, the spans themselves from `firsts` on."""
    n_prompts, n_layers, n_positions = flags.shape
    for tile in numba.prange(n_prompts * tiles):
        prompt, low = tile // tiles, (tile % tiles) * TILE
        high = min(low + TILE, n_positions)
        there = np.zeros(high - low, dtype=np.uint8)
        for layer in range(n_layers):  # flags are rare: whole rows are looked through at once
            row = flags[prompt, layer, low:high]
            for i in range(high - low):
                there[i] |= row[i]
        found = 0
        for i in range(high - low):
            if there[i]:
                column = flags[prompt, :, low + i]
                found += _scan(column, gap, least, prompt, low + i, out, firsts[tile] + found)
        if len(out) == 0:
            counts[tile] = found


@numba.njit(cache=True)
def _scan(flags, gap, least, prompt, position, out, at):
    """Spans of one position [layer]: their number; written from row `at` of `out` on where that has rows."""
    n_layers, found, layer = len(flags), 0, 0
    while layer < n_layers:
        if not flags[layer]:
            layer += 1
            continue
        start, stop, flagged, run, longest = layer, layer, 0, 0, 0
        while layer < n_layers and layer - stop <= gap:  # `stop` is one past the last flagged layer
            if flags[layer]:
                run += 1
                flagged += 1
                stop = layer + 1
                longest = max(longest, run)
            else:
                run = 0
            layer += 1
        layer = stop + 1
        if longest >= least:
            if len(out) > 0:
                row = out[at + found]
                row[0], row[1], row[2] = prompt, position, start
                row[3], row[4] = stop, stop - start - flagged
            found += 1
    return found


def spans_plain(flags: np.ndarray, gap: int = 1, least: int = 1) -> np.ndarray:
    """`spans`, written the other way round: cut the flagged layers wherever a gap is too wide."""
    _check(flags, gap, least)
    rows = []
    for prompt, position in np.ndindex(flags.shape[0], flags.shape[2]):
        layers = np.flatnonzero(flags[prompt, :, position])
        for piece in np.split(layers, np.flatnonzero(np.diff(layers) > gap + 1) + 1):
            if len(piece) == 0:
                continue
            runs = np.split(piece, np.flatnonzero(np.diff(piece) > 1) + 1)
            if max(map(len, runs)) >= least:
                start, stop = int(piece[0]), int(piece[-1]) + 1
                rows.append((prompt, position, start, stop, stop - start - len(piece)))
    return np.array(rows, dtype=np.int64).reshape(-1, 5)


def _check(flags: np.ndarray, gap: int, least: int) -> None:
    if flags.ndim != 3 or flags.dtype != np.bool_:
        raise ValueError(f"spans: flags must be bool [prompt, layer, position], got {flags.dtype} {list(flags.shape)}")
    if gap < 0 or least < 1:
        raise ValueError(f"spans: gap must be 0 or more and least 1 or more, got gap={gap}, least={least}")
