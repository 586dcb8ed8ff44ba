"""Bootstrap intervals, rank correlations and copies over whole tables: each kernel against its plain twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.scoring import bootstrap
from interp.scoring.bootstrap import ends, intervals, intervals_plain
from interp.scoring.copies import copies_of_many, copies_plain
from interp.scoring.ranks import rank_correlations, rank_correlations_plain
from interp.verify import bootstrap_mean


@given(
    units=st.integers(1, 9),
    columns=st.integers(0, 5),
    resamples=st.integers(1, 60),
    levels=st.sampled_from([0.5, 0.95]),
    ties=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_intervals_agree_with_their_plain_twin(
    units: int, columns: int, resamples: int, levels: float, ties: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    totals = rng.integers(0, 3, (units, columns)) if ties else rng.normal(0, 1, (units, columns))
    counts = rng.integers(1, 4, units)
    found = intervals(totals, counts, seed, resamples=resamples, level=levels)
    plain = intervals_plain(totals, counts, seed, resamples=resamples, level=levels)
    np.testing.assert_allclose(found, np.array(plain).reshape(2, columns), rtol=1e-9, atol=1e-12)


def test_with_one_instance_a_unit_it_is_the_bootstrap_of_the_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).normal(0, 1, (12, 3))
    for cells in (bootstrap.CELLS, 20_000):
        monkeypatch.setattr(bootstrap, "CELLS", cells)  # draws come in portions, columns in turns
        low, high = intervals(values, np.ones(12), seed=4)
        for column in range(3):
            known = bootstrap_mean(values[:, column], seed=4)
            assert (low[column], high[column]) == pytest.approx((known.low, known.high), abs=1e-9)


def test_a_column_that_is_no_number_spoils_no_other() -> None:
    values = np.random.default_rng(0).normal(0, 1, (6, 3))
    clean = intervals(values, np.ones(6), 0)
    values[2, 1] = np.nan
    found = intervals(values, np.ones(6), 0)
    assert np.isnan(found).T.tolist() == [[False, False], [True, True], [False, False]]
    np.testing.assert_allclose(np.delete(found, 1, axis=1), np.delete(clean, 1, axis=1))


def test_ends_are_those_of_quantile() -> None:
    drawn = np.random.default_rng(0).normal(0, 1, (5, 501))
    np.testing.assert_allclose(ends(drawn, 0.9), np.quantile(drawn, (0.05, 0.95), axis=1), rtol=1e-12)
    assert np.array_equal(ends(np.full((1, 3), np.inf), 0.9), np.full((2, 1), np.inf))


@pytest.mark.parametrize(
    ("totals", "counts", "more", "told"),
    [
        (np.zeros((0, 2)), np.zeros(0), {}, r"\[0, 2\]"),
        (np.zeros(3), np.ones(3), {}, r"\[3\]"),
        (np.zeros((3, 2)), np.ones(2), {}, r"\[3, 2\] and \[2\]"),
        (np.zeros((2, 2)), np.array([1, 0]), {}, "unit 1 has 0"),
        (np.zeros((2, 2)), np.ones(2), {"resamples": 0}, "resamples=0"),
        (np.zeros((2, 2)), np.ones(2), {"level": 1.0}, "level=1.0"),
    ],
)
def test_intervals_refuse_what_does_not_fit(totals: np.ndarray, counts: np.ndarray, more: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        intervals(totals, counts, 0, **more)


@given(
    rows=st.integers(0, 4),
    n=st.integers(0, 9),
    kind=st.sampled_from(["floats", "ties", "constant", "nan", "inf"]),
    shared=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_rank_correlations_agree_with_their_plain_twin(rows: int, n: int, kind: str, shared: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, (rows, n)).astype(float) if kind == "ties" else rng.normal(0, 1, (rows, n))
    if kind == "constant":
        x[:] = 1e6 + 1e-3 * x  # less than float32 can tell
    elif kind in ("nan", "inf") and x.size:
        x.flat[0] = float(kind)
    y = rng.normal(0, 1, n if shared else (rows, n)).round(1)
    found, plain = rank_correlations(x, y), rank_correlations_plain(x, y)
    np.testing.assert_allclose(found, plain, rtol=1e-9, atol=1e-12)
    assert found.shape == (rows,)


def test_rank_correlations_worked_by_hand() -> None:
    x = np.array([[1.0, 2, 3, 4], [4, 3, 2, 1], [1, 1, 2, 2]])
    y = np.array([10.0, 20, 30, 30])
    found = rank_correlations(x, y)
    assert found[0] == pytest.approx(np.sqrt(0.9)) and found[1] == pytest.approx(-np.sqrt(0.9))
    assert found[2] == pytest.approx(np.corrcoef([1.5, 1.5, 3.5, 3.5], [1, 2, 3.5, 3.5])[0, 1])
    with pytest.raises(ValueError, match=r"\[3, 4\] and \[1, 3\]"):
        rank_correlations(x, y[:3])


@given(
    instances=st.integers(0, 4),
    heads=st.integers(0, 3),
    steps=st.integers(0, 6),
    vocabulary=st.integers(1, 4),
    seed=st.integers(0, 10**6),
)
def test_copies_of_many_are_those_of_each(instances: int, heads: int, steps: int, vocabulary: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    contexts, generated = rng.integers(0, vocabulary, (instances, 8)), rng.integers(0, vocabulary, (instances, steps))
    keys = rng.integers(-1, 10, (instances, heads, steps))
    drawn = [np.sort(rng.choice(9, 2, replace=False)) for _ in range(instances)]
    spans = np.array(drawn, dtype=np.int64).reshape(instances, 2)
    found = copies_of_many(keys, contexts, generated, spans)
    assert found.shape == (instances, heads, 2)
    for one in range(instances):
        plain = copies_plain(keys[one], contexts[one], generated[one], tuple(spans[one].tolist()))
        assert np.array_equal(found[one], plain)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"spans": np.array([[0, 9]])}, r"span \[0, 9\] of instance 0"),
        ({"spans": np.array([[2, 2]])}, r"span \[2, 2\]"),
        ({"generated": np.zeros((1, 3), int)}, "2 steps of top keys, 3 generated"),
        ({"contexts": np.zeros((2, 4), int)}, r"\[2, 4\]"),
        ({"top_key": np.zeros((1, 1, 2))}, "integers"),
    ],
)
def test_copies_of_many_refuse_what_does_not_fit(change: dict, told: str) -> None:
    given_ = {
        "top_key": np.zeros((1, 1, 2), int),
        "contexts": np.zeros((1, 4), int),
        "generated": np.zeros((1, 2), int),
        "spans": np.array([[0, 2]]),
    }
    with pytest.raises(ValueError, match=told):
        copies_of_many(**{**given_, **change})
