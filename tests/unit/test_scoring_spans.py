"""Spans: the kernel against its plain twin, and against cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.scoring.spans import spans, spans_plain


def flags(*layers: str) -> np.ndarray:
    """One prompt; each string is a position, read along its layers."""
    return np.array([[mark == "#" for mark in position] for position in layers]).T[None]


def rows(found: np.ndarray) -> list[list[int]]:
    return found[:, 1:].tolist()


@pytest.mark.parametrize("count", [spans, spans_plain])
def test_worked_by_hand(count: object) -> None:
    assert callable(count)
    assert rows(count(flags("..###..", "#.#####", "......."))) == [[0, 2, 5, 0], [1, 0, 7, 1]]
    assert rows(count(flags("##..##"))) == [[0, 0, 2, 0], [0, 4, 6, 0]]
    assert rows(count(flags("##..##"), gap=2)) == [[0, 0, 6, 2]]
    assert rows(count(flags("##.##"), gap=0)) == [[0, 0, 2, 0], [0, 3, 5, 0]]
    assert rows(count(flags("#.#.#", "#.##."), least=2)) == [[1, 0, 4, 1]]
    assert count(flags("....")).shape == (0, 5)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(0, 9), st.integers(0, 5)),
    seed=st.integers(0, 10**6),
    share=st.floats(0, 1),
    gap=st.integers(0, 3),
    least=st.integers(1, 3),
)
def test_kernel_agrees_with_plain_twin(
    shape: tuple[int, int, int], seed: int, share: float, gap: int, least: int
) -> None:
    drawn = np.random.default_rng(seed).random(shape) < share
    assert np.array_equal(spans(drawn, gap, least), spans_plain(drawn, gap, least))


def test_many_spans_outgrow_the_first_buffer() -> None:
    drawn = np.tile(np.array([True, False, False])[None, :, None], (1, 20, 30))
    found = spans(drawn)
    assert len(found) == 600 and np.array_equal(found, spans_plain(drawn))


@pytest.mark.parametrize(
    ("given_flags", "gap", "least", "told"),
    [
        (np.zeros((2, 2), bool), 1, 1, r"\[2, 2\]"),
        (np.zeros((1, 2, 2)), 1, 1, "float64"),
        (np.zeros((1, 2, 2), bool), -1, 1, "gap=-1"),
        (np.zeros((1, 2, 2), bool), 1, 0, "least=0"),
    ],
)
def test_refuses_what_it_cannot_read(given_flags: np.ndarray, gap: int, least: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        spans(given_flags, gap, least)
