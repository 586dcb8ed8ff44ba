"""Runs of layers: from flags over [prompt, layer, position] to spans, the shape every sink comes in.

`spans` is the Numba kernel, `spans_plain` the same in NumPy and Python, kept for the test that they agree.
"""

from __future__ import annotations

import numba
import numpy as np

FIELDS = ("prompt", "position", "start", "stop", "bridged")
"""Columns of the result; ``stop`` is exclusive, ``bridged`` the number of unflagged layers inside the span."""


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
    return _spans(np.ascontiguousarray(flags.transpose(0, 2, 1)), gap, least)


@numba.njit(cache=True)
def _spans(flags, gap, least):  # flags: bool [prompt, position, layer]
    n_prompts, n_positions, n_layers = flags.shape
    out = np.empty((16, 5), dtype=np.int64)
    count = 0
    for prompt in range(n_prompts):
        for position in range(n_positions):
            layer = 0
            while layer < n_layers:
                if not flags[prompt, position, layer]:
                    layer += 1
                    continue
                start, stop, flagged, run, longest = layer, layer, 0, 0, 0
                while layer < n_layers and layer - stop <= gap:  # `stop` is one past the last flagged layer
                    if flags[prompt, position, layer]:
                        run += 1
                        flagged += 1
                        stop = layer + 1
                        longest = max(longest, run)
                    else:
                        run = 0
                    layer += 1
                layer = stop + 1
                if longest >= least:
                    if count == out.shape[0]:
                        grown = np.empty((2 * count, 5), dtype=np.int64)
                        grown[:count] = out
                        out = grown
                    out[count, 0], out[count, 1], out[count, 2] = prompt, position, start
                    out[count, 3], out[count, 4] = stop, stop - start - flagged
                    count += 1
    return out[:count].copy()


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
