"""Copying: which tokens of a span a head fetched while a model wrote (Wu et al. 2024, arXiv 2404.15574, section 2).

`copies` is the Numba kernel, `copies_plain` the same in NumPy, kept for the test that they agree.
"""

from __future__ import annotations

import numba
import numpy as np

FIELDS = ("distinct", "events")
"""Columns of the result: span positions copied at least once, and steps at which the head copied."""


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
    return _copies(np.ascontiguousarray(top_key), np.asarray(context), np.asarray(generated), *map(int, span))


@numba.njit(cache=True)
def _copies(top_key, context, generated, start, stop):
    n_heads, n_steps = top_key.shape
    out = np.zeros((n_heads, 2), dtype=np.int64)
    last = np.full(stop - start, -1, dtype=np.int64)  # the head that copied a position last
    for head in range(n_heads):
        for step in range(n_steps):
            key = top_key[head, step]
            if start <= key < stop and context[key] == generated[step]:
                out[head, 1] += 1
                if last[key - start] != head:
                    last[key - start] = head
                    out[head, 0] += 1
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
