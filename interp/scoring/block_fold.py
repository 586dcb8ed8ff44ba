"""All statistics of one block of attention rows in a single pass over it.

Statistic by statistic, a block is read once or twice for each, with temporaries of its own size between. Here every
piece of a row is read once, while it is in the first-level cache, and everything asked for is taken from it. The
statistics of `interp.tracing.statistics` are the plain twins: the tests compare the two, and either with float64.
"""

from __future__ import annotations

import numba
import numpy as np

from interp.scoring.asked import OFFSETS, Asked, Folded
from interp.scoring.compiled import announced

CHUNK = 1024
"""Keys worked on at once: 4 KiB of a row."""


def block_fold(rows: np.ndarray, query_start: int, key_start: int, asked: Asked) -> Folded:
    """Take everything asked for from one block.

    Args:
        rows: float32 [batch, head, row, key], post-softmax attention, C-contiguous.
        query_start, key_start: absolute positions of row 0 and column 0.
        asked: see `Asked`.

    Raises:
        ValueError: rows of another type or shape, or what is asked does not fit them.
    """
    _check(rows, query_start, key_start, asked)
    batch, heads, n_rows, n_keys = rows.shape
    per_row = (batch, heads, n_rows)
    none, kinds = np.empty((0, 0, 0), dtype=np.float32), tuple(asked.offsets)

    def room(wanted: bool, *shape: int) -> np.ndarray:
        return np.zeros(shape, dtype=np.float32) if wanted else none

    sets = np.empty((0, 1, n_keys), np.float32) if asked.sets is None else np.ascontiguousarray(asked.sets, np.float32)
    matching = bool({"duplicate", "induction"} & set(kinds))
    ids = np.empty((1, 0), np.int64) if not matching or asked.ids is None else np.ascontiguousarray(asked.ids)
    received = room(asked.received is not None, batch, heads, n_keys)
    sums = np.zeros(per_row, dtype=np.float32)
    out = Folded(
        received,
        room(asked.entropy, *per_row),
        sums,
        np.zeros(per_row if asked.top else (0, 0, 0), dtype=np.int64),
        room(asked.top, *per_row),
        np.zeros((len(sets), *per_row), dtype=np.float32),
        {kind: np.zeros(per_row, dtype=np.float32) for kind in kinds},
    )
    weights = np.empty((0, 0), np.float32) if asked.received is None else np.asarray(asked.received, np.float32)
    _fold(
        rows,
        rows.view(np.int32),
        query_start,
        key_start,
        weights,
        sets,
        ids,
        *(kind in kinds for kind in OFFSETS),
        out.received,
        out.entropy,
        asked.row_sum or asked.top,
        out.row_sum,
        out.top_position,
        out.top_weight,
        out.sets,
        *(out.offsets.get(kind, none) for kind in OFFSETS),
    )
    return out


# log of the mantissa in [sqrt(1/2), sqrt(2)): a minimax polynomial of ln(1 + x) (coefficients of the Cephes library,
# S. Moshier), good to a unit in the last place of float32
_C = tuple(
    np.float32(c)
    for c in (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    )
)
_LN2 = np.float32(0.693147180559945)
_MASK, _ONE, _SHIFT = np.int32(0x007FFFFF), np.int32(0x3F800000), np.int32(23)
_HALF, _UNIT, _ROOT2, _ZERO = np.float32(0.5), np.float32(1.0), np.float32(1.4142135), np.float32(0.0)
_FAST = {"reassoc", "contract", "nsz"}


@numba.njit(cache=True, fastmath=_FAST, inline="never")
def _entropy(p, bits, mantissa_bits, mantissa, exponent):
    """-sum p ln p of one piece; a weight of 0 adds 0. Loops apart, so that each becomes vector instructions."""
    n = len(p)
    for i in range(n):
        mantissa_bits[i] = (bits[i] & _MASK) | _ONE
        exponent[i] = np.float32((bits[i] >> _SHIFT) - np.int32(127))
    total = _ZERO
    for i in range(n):
        m, e = mantissa[i], exponent[i]
        big = m > _ROOT2
        x = (m * _HALF if big else m) - _UNIT
        e = e + _UNIT if big else e
        z = x * x
        y = _C[0]
        y = y * x + _C[1]
        y = y * x + _C[2]
        y = y * x + _C[3]
        y = y * x + _C[4]
        y = y * x + _C[5]
        y = y * x + _C[6]
        y = y * x + _C[7]
        y = y * x + _C[8]
        log = x + (y * x * z - _HALF * z) + e * _LN2
        total += p[i] * log
    return -total


@numba.njit(cache=True, fastmath=_FAST, inline="never")
def _sum(p):
    total = _ZERO
    for i in range(len(p)):
        total += p[i]
    return total


@numba.njit(cache=True, fastmath=_FAST | {"nnan"}, inline="never")
def _largest(p):
    best = p[0]
    for i in range(len(p)):
        best = max(best, p[i])
    return best


@numba.njit(cache=True, fastmath=_FAST, inline="never")
def _dot(p, q):
    total = _ZERO
    for i in range(len(p)):
        total += p[i] * q[i]
    return total


@numba.njit(cache=True, fastmath=_FAST, inline="never")
def _matching(p, ids, own):
    total = _ZERO
    for i in range(len(p)):
        total += p[i] if ids[i] == own else _ZERO
    return total


@numba.njit(cache=True, inline="never")
def _add(into, weight, p):
    for i in range(len(p)):
        into[i] += weight * p[i]


@announced
@numba.njit(cache=True, parallel=True)
def _fold(
    rows,
    bits,
    query_start,
    key_start,
    weights,
    sets,
    ids,
    want_previous,
    want_current,
    want_duplicate,
    want_induction,
    received,
    entropy,
    want_sum,
    row_sum,
    top_position,
    top_weight,
    mass,
    previous,
    current,
    duplicate,
    induction,
):
    n_batch, n_heads, n_rows, n_keys = rows.shape
    want_received, want_entropy, want_top = received.size > 0, entropy.size > 0, top_weight.size > 0
    for one in numba.prange(n_batch * n_heads):
        b, h = one // n_heads, one % n_heads
        mantissa_bits = np.empty(CHUNK, dtype=np.int32)
        mantissa = mantissa_bits.view(np.float32)
        exponent = np.empty(CHUNK, dtype=np.float32)
        sums = np.zeros(n_rows, dtype=np.float64)
        spread = np.zeros(n_rows, dtype=np.float64)
        for low in range(0, n_keys, CHUNK):
            high = min(low + CHUNK, n_keys)
            n = high - low
            for r in range(n_rows):
                p = rows[b, h, r, low:high]
                if want_received and weights[b, r] != 0:
                    _add(received[b, h, low:high], weights[b, r], p)
                if want_entropy:
                    spread[r] += _entropy(p, bits[b, h, r, low:high], mantissa_bits[:n], mantissa[:n], exponent[:n])
                if want_sum:
                    sums[r] += _sum(p)
                if want_top:
                    best = _largest(p)
                    if low == 0 or best > top_weight[b, h, r]:
                        top_weight[b, h, r] = best
                        at = 0
                        while at < n - 1 and p[at] != best:
                            at += 1
                        top_position[b, h, r] = key_start + low + at
                for s in range(len(sets)):
                    mass[s, b, h, r] += _dot(p, sets[s, b if sets.shape[1] > 1 else 0, low:high])
                if want_duplicate or want_induction:
                    query = query_start + r
                    own = ids[b, query]
                    first = key_start + low
                    if want_duplicate and first < query:
                        stop = min(n, query - first)
                        duplicate[b, h, r] += _matching(p[:stop], ids[b, first : first + stop], own)
                    if want_induction and first <= query:
                        skip = 1 if first == 0 else 0  # nothing stands before the first token
                        stop = min(n, query + 1 - first)
                        if stop > skip:
                            before = ids[b, first + skip - 1 : first + stop - 1]
                            induction[b, h, r] += _matching(p[skip:stop], before, own)
        for r in range(n_rows):
            if want_entropy:
                entropy[b, h, r] = spread[r]
            if want_sum:
                row_sum[b, h, r] = sums[r]
            if want_top and np.isnan(sums[r]):
                at = 0
                while at < n_keys - 1 and not np.isnan(rows[b, h, r, at]):
                    at += 1
                top_weight[b, h, r] = np.nan
                top_position[b, h, r] = key_start + at
            own_key = query_start + r - key_start
            if want_current and 0 <= own_key < n_keys:
                current[b, h, r] = rows[b, h, r, own_key]
            if want_previous and 0 <= own_key - 1 < n_keys:
                previous[b, h, r] = rows[b, h, r, own_key - 1]


def _check(rows: np.ndarray, query_start: int, key_start: int, asked: Asked) -> None:
    if rows.ndim != 4 or rows.dtype != np.float32 or not rows.flags.c_contiguous or 0 in rows.shape:
        raise ValueError(
            "block_fold: rows must be C-contiguous float32 [batch, head, row, key] with something in them, got "
            f"{rows.dtype} {list(rows.shape)}"
        )
    batch, _, n_rows, n_keys = rows.shape
    if asked.received is not None and np.shape(asked.received) != (batch, n_rows):
        raise ValueError(f"block_fold: weights {list(np.shape(asked.received))} for rows {list(rows.shape)}")
    if asked.sets is not None and (
        asked.sets.ndim != 3 or asked.sets.shape[1] not in (1, batch) or asked.sets.shape[2] != n_keys
    ):
        raise ValueError(f"block_fold: sets {list(asked.sets.shape)} for rows {list(rows.shape)}")
    unknown = sorted(set(asked.offsets) - set(OFFSETS))
    if unknown:
        raise ValueError(f"block_fold: offsets {unknown}; there are {list(OFFSETS)}")
    if {"duplicate", "induction"} & set(asked.offsets):
        needed = max(query_start + n_rows, key_start + n_keys)
        if asked.ids is None or asked.ids.ndim != 2 or asked.ids.shape[0] != batch or asked.ids.shape[1] < needed:
            shape = None if asked.ids is None else list(asked.ids.shape)
            raise ValueError(f"block_fold: duplicate and induction need ids [{batch}, {needed} or more], got {shape}")
