"""Sign-flip p values: the kernel against the matrix product, and both against flips tried by hand."""

from __future__ import annotations

from itertools import product

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.ablation.choose import per_sequence
from interp.circuits.tests_of_heads import p_values
from interp.scoring import permutation
from interp.scoring.permutation import sign_flips, sign_flips_plain

KINDS = ("floats", "ties", "zeros", "nan", "huge", "tiny")


def table(kind: str, rows: int, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.integers(-2, 3, (rows, n)).astype(float) if kind == "ties" else rng.normal(0.3, 1, (rows, n))
    if kind == "nan" and values.size:
        values[0, rng.integers(n)] = rng.choice([np.nan, np.inf, -np.inf])
    return values * {"zeros": 0.0, "huge": 1e307, "tiny": 1e-9}.get(kind, 1.0)


@given(
    rows=st.integers(0, 5),
    n=st.sampled_from([0, 1, 2, 7, 8, 9, 12, 13, 31, 32, 33, 70]),
    kind=st.sampled_from(KINDS),
    draws=st.integers(1, 300),
    exact=st.sampled_from([0, 5, 12]),
    seed=st.integers(0, 10**6),
)
def test_sign_flips_agree_with_their_plain_twin(
    rows: int, n: int, kind: str, draws: int, exact: int, seed: int
) -> None:
    values = table(kind, rows, n, seed)
    with np.errstate(invalid="raise"):
        found = sign_flips(values, seed, exact=exact, draws=draws)
    plain = sign_flips_plain(values, seed, exact=exact, draws=draws)
    np.testing.assert_allclose(found, plain, atol=1e-12)
    assert found.shape == (rows,)
    assert np.array_equal(np.isnan(found), ~np.isfinite(values).all(1))
    told = found[~np.isnan(found)]
    assert ((told > 0) & (told <= 1)).all()
    if kind == "zeros" or n == 0:
        assert (told == 1).all()


def by_hand(values: np.ndarray) -> float:
    """Every flip, one after the other."""
    sums = [
        sum(sign * value for sign, value in zip(signs, values, strict=True))
        for signs in product((1, -1), repeat=len(values))
    ]
    seen, slack = sum(values), 1e-9 * sum(map(abs, values))
    above = np.mean([one >= seen - slack for one in sums])
    return min(1.0, 2 * float(min(above, np.mean([one <= seen + slack for one in sums]))))


@pytest.mark.parametrize("values", [[3.0], [1, 2, 3], [1, 1, -1, 1], [0.5, -2, 0.25, 4, 1, -1], [2.0] * 9])
def test_all_flips_are_tried_where_they_are_few(values: list[float]) -> None:
    row = np.array(values)
    assert sign_flips(row[None])[0] == pytest.approx(by_hand(row), abs=1e-12)
    assert sign_flips(-1e300 * row[None])[0] == pytest.approx(by_hand(row), abs=1e-12)  # whichever side, whatever unit


def test_random_flips_come_near_all_of_them() -> None:
    values = np.random.default_rng(2).normal(0.4, 1, (20, 12))
    np.testing.assert_allclose(sign_flips(values, 5, exact=0), sign_flips(values), atol=0.03)


def test_the_flips_do_not_depend_on_threads_or_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(0.1, 1, (50, 40))
    known = sign_flips(values, 3)
    assert np.array_equal(sign_flips(values, 3), known) and not np.array_equal(sign_flips(values, 4), known)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        assert np.array_equal(sign_flips(values, 3), known)
    finally:
        numba.set_num_threads(threads)
    monkeypatch.setattr(permutation, "CELLS", 1001)
    assert np.array_equal(sign_flips(values, 3), known)
    assert np.array_equal(sign_flips(values[17:18], 3), known[17:18])  # nor on the other rows


@pytest.mark.parametrize(
    ("values", "more", "told"),
    [
        (np.zeros(3), {}, r"\[3\]"),
        (np.zeros((1, 2)), {"exact": 21}, "exact=21"),
        (np.zeros((1, 2)), {"draws": 0}, "draws=0"),
    ],
)
def test_sign_flips_refuse_what_does_not_fit(values: np.ndarray, more: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        sign_flips(values, **more)


def test_heads_are_tested_on_means_by_sequence() -> None:
    sequences = [5, 2, 5, 2, 9, 5]
    effects = np.random.default_rng(1).normal(0.5, 1, (2, 3, 6))
    effects[1, 2, 0] = np.nan
    by_row = np.array([[per_sequence(sequences, head) for head in layer] for layer in effects])
    np.testing.assert_array_equal(p_values(effects, sequences=sequences).p, p_values(by_row).p)
    assert np.isnan(p_values(effects, sequences=sequences).p).sum() == 1
