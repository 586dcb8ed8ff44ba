"""Copying: which tokens of a span a head fetched while a model wrote (Wu et al. 2024, arXiv 2404.15574, section 2).

`copies` is the Numba kernel, `copies_plain` the same in NumPy, kept for the test that they agree.
"""

from __future__ import annotations

import numba
import numpy as np

from interp.scoring.compiled import announced

FIELDS = ("distinct", "events")
"""Columns of the result: span positions copied at least once, and steps at which the head copied."""
TILE = 256
"""Heads of one instance worked on at once."""


def copies(top_key: np.ndarray, context: np.ndarray, generated: np.ndarray, span: tuple[int, int]) -> np.ndarray:
    """How often each head copied from the span: its top key lies there and holds the token just written.

    Args:
        top_key: int [head, step], position of the head's most attended key while it made token `step`; negative = none.
        context: int [position], ids of the prompt. A key behind it is a generated token, which never counts.
        generated: int [step], the ids written.
        span: (start, stop) in the prompt, half open.

    Returns:
        int64 [head, 2], columns as `FIELDS`.

    Raises:
        ValueError: shapes that do not belong together, or a span that is no part of the prompt.
    """
    _check(top_key, context, generated, span)
    return copies_of_many(top_key[None], np.asarray(context)[None], np.asarray(generated)[None], np.array([span]))[0]


def copies_of_many(top_key: np.ndarray, contexts: np.ndarray, generated: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """`copies` of many instances at once.

    Args:
        top_key: int [instance, head, step]; negative where there is none, so also behind an instance's last step.
        contexts: int [instance, position], short ones filled up with anything.
        generated: int [instance, step], short ones filled up with anything.
        spans: int [instance, 2], (start, stop) of each.

    Returns:
        int64 [instance, head, 2], columns as `FIELDS`.

    Raises:
        ValueError: shapes that do not belong together, numbers that are no integers, or a span that is no part of its
            context.
    """
    n = len(top_key)
    shapes = [list(np.shape(one)) for one in (top_key, contexts, generated, spans)]
    if [len(shape) for shape in shapes] != [3, 2, 2, 2] or shapes[3][1] != 2 or {shape[0] for shape in shapes} != {n}:
        raise ValueError(f"copies_of_many: expected [instance, head, step], two of rank 2 and spans, got {shapes}")
    if shapes[2][1] != shapes[0][2]:
        raise ValueError(f"copies_of_many: {shapes[0][2]} steps of top keys, {shapes[2][1]} generated ids")
    given = [np.ascontiguousarray(one) for one in (top_key, contexts, generated, spans)]
    if not all(np.issubdtype(one.dtype, np.integer) for one in given):
        raise ValueError("copies_of_many: top keys, ids and spans must be integers")
    wrong = np.flatnonzero((spans[:, 0] < 0) | (spans[:, 1] <= spans[:, 0]) | (spans[:, 1] > shapes[1][1]))
    if len(wrong):
        raise ValueError(
            f"copies_of_many: span {spans[wrong[0]].tolist()} of instance {wrong[0]} is no part of a context of "
            f"{shapes[1][1]} tokens"
        )
    return _copies(*given)


@announced
@numba.njit(cache=True, parallel=True)
def _copies(top_key, contexts, generated, spans):
    n_instances, n_heads, n_steps = top_key.shape
    out = np.zeros((n_instances, n_heads, 2), dtype=np.int64)
    tiles = (n_heads + TILE - 1) // TILE
    for one in numba.prange(n_instances * tiles):
        instance, first = one // tiles, (one % tiles) * TILE
        start = spans[instance, 0]
        span, answer = contexts[instance, start : spans[instance, 1]], generated[instance]
        last = np.full(len(span), -1, dtype=np.int64)  # the head that copied a position last
        for head in range(first, min(first + TILE, n_heads)):
            keys, events, distinct = top_key[instance, head], 0, 0
            for step in range(n_steps):  # without a branch: what a head looks at cannot be foreseen
                at = keys[step] - start
                inside = (at >= 0) & (at < len(span))
                events += inside & (span[at * inside] == answer[step])
            if events > 0:
                for step in range(n_steps):
                    at = keys[step] - start
                    if 0 <= at < len(span) and span[at] == answer[step] and last[at] != head:
                        last[at] = head
                        distinct += 1
            out[instance, head, 0], out[instance, head, 1] = distinct, events
    return out


def copies_plain(top_key: np.ndarray, context: np.ndarray, generated: np.ndarray, span: tuple[int, int]) -> np.ndarray:
    """`copies`, over whole arrays: mark (head, position) for every copying step, then count."""
    _check(top_key, context, generated, span)
    happened = copying(top_key, context, generated, span)
    heads, steps = np.nonzero(happened)
    marked = np.zeros((len(top_key), len(context)), dtype=bool)
    marked[heads, np.asarray(top_key)[heads, steps]] = True
    return np.stack([marked.sum(1), happened.sum(1)], axis=1).astype(np.int64)


def copying(top_key: np.ndarray, context: np.ndarray, generated: np.ndarray, span: tuple[int, int]) -> np.ndarray:
    """bool [..., step]: whether the head copied from the span at that step; arguments as for `copies`, with any axes
    before the last of `top_key`."""
    inside = (top_key >= span[0]) & (top_key < span[1])
    return inside & (np.asarray(context)[np.where(inside, top_key, span[0])] == np.asarray(generated))


def _check(top_key: np.ndarray, context: np.ndarray, generated: np.ndarray, span: tuple[int, int]) -> None:
    if top_key.ndim != 2 or np.shape(generated) != top_key.shape[1:] or np.ndim(context) != 1:
        raise ValueError(
            "copies: expected top keys [head, step], a context [position] and one generated id a step, got "
            f"{list(top_key.shape)}, {list(np.shape(context))} and {list(np.shape(generated))}"
        )
    if any(not np.issubdtype(np.asarray(one).dtype, np.integer) for one in (top_key, context, generated)):
        raise ValueError("copies: top keys and ids must be integers")
    if not 0 <= span[0] < span[1] <= len(context):
        raise ValueError(f"copies: span {tuple(span)} is no part of a context of {len(context)} tokens")
