"""Copying: worked by hand, and the kernel against its plain twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.retrieval.copying import copies, steps
from interp.scoring.copies import copies as kernel
from interp.scoring.copies import copies_plain

#         0  1  2  3  4  5  6  7
PROMPT = [9, 9, 4, 5, 4, 6, 9, 9]
SPAN = (2, 6)


@pytest.mark.parametrize(
    ("generated", "keys", "distinct", "events"),
    [
        ([4, 5, 4, 6], [2, 3, 4, 5], 4, 4),
        ([4, 5, 4, 6], [2, 3, 2, 5], 3, 4),  # one position twice
        ([4, 4, 4], [4, 4, 4], 1, 3),
        ([4, 5, 4, 6], [3, 2, 5, 4], 0, 0),  # in the span, at another token
        ([9, 9], [0, 6], 0, 0),  # the right token, outside the span
        ([9, 4], [2, 8], 0, 0),  # a generated key that holds the token
        ([4, 4], [-1, 2], 1, 1),  # a layer that was not looked at has no key
        ([6], [5], 1, 1),  # the span's last position
        ([9], [6], 0, 0),  # and the one behind it
    ],
)
def test_worked_by_hand(generated: list[int], keys: list[int], distinct: int, events: int) -> None:
    got = copies(np.array([[keys]]), PROMPT, generated, SPAN)
    assert got.distinct.tolist() == [[np.float32(distinct / 4)]] and got.events.tolist() == [[events]]
    assert got.released.tolist() == [[np.float32(events / 4)]]
    assert steps(np.array([[keys]]), PROMPT, generated, SPAN).sum() == events
    assert copies_plain(np.array([keys]), np.array(PROMPT), np.array(generated), SPAN).tolist() == [[distinct, events]]


def test_the_released_score_can_pass_one() -> None:
    got = copies(np.full((1, 1, 6), 2), PROMPT, [4] * 6, SPAN)
    assert got.released[0, 0] == 1.5 and got.distinct[0, 0] == 0.25


def test_layers_and_heads_keep_their_place() -> None:
    keys = np.zeros((2, 3, 1), dtype=np.int32)
    keys[1, 0] = 3
    got = copies(keys, PROMPT, [5], SPAN)
    assert got.events.tolist() == [[0, 0, 0], [1, 0, 0]] and got.events.dtype == np.int32
    assert got.distinct.dtype == got.released.dtype == np.float32


@given(
    heads=st.integers(0, 5),
    length=st.integers(1, 8),
    n_steps=st.integers(0, 9),
    vocabulary=st.integers(1, 4),
    kind=st.sampled_from([np.int32, np.int64]),
    seed=st.integers(0, 10**6),
)
def test_kernel_agrees_with_plain_twin(
    heads: int, length: int, n_steps: int, vocabulary: int, kind: type, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    start, stop = sorted(rng.choice(length + 1, 2, replace=False).tolist())
    keys = rng.integers(-1, length + n_steps, (heads, n_steps)).astype(kind)
    context, generated = rng.integers(0, vocabulary, length), rng.integers(0, vocabulary, n_steps)
    got = kernel(keys, context, generated, (start, stop))
    assert got.dtype == np.int64
    assert np.array_equal(got, copies_plain(keys, context, generated, (start, stop)))


def test_a_view_with_other_strides() -> None:
    keys = np.random.default_rng(0).integers(0, 8, (4, 6)).T
    got = kernel(keys, np.array(PROMPT), np.array([4, 5, 4, 6]), SPAN)
    assert np.array_equal(got, copies_plain(keys, np.array(PROMPT), np.array([4, 5, 4, 6]), SPAN))


@pytest.mark.parametrize(
    ("keys", "generated", "span", "told"),
    [
        (np.zeros((2, 3), int), [1, 2], SPAN, r"\[2, 3\], \[8\] and \[2\]"),
        (np.zeros(3, int), [1, 2, 3], SPAN, r"\[3\]"),
        (np.zeros((2, 2)), [1, 2], SPAN, "integers"),
        (np.zeros((1, 1), int), [1], (6, 9), r"\(6, 9\).* 8 tokens"),
        (np.zeros((1, 1), int), [1], (3, 3), r"\(3, 3\)"),
        (np.zeros((1, 1), int), [1], (-1, 3), r"\(-1, 3\)"),
    ],
)
def test_refuses_what_it_cannot_read(keys: np.ndarray, generated: list[int], span: tuple[int, int], told: str) -> None:
    for count in (kernel, copies_plain):
        with pytest.raises(ValueError, match=told):
            count(keys, np.array(PROMPT), np.array(generated), span)


def test_refuses_a_table_of_heads_without_layers() -> None:
    with pytest.raises(ValueError, match=r"\[layer, head, step\], got \[1, 2\]"):
        copies(np.zeros((1, 2), int), PROMPT, [1, 2], SPAN)
