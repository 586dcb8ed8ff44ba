"""Whether heads are found again, and p values of their effects, on planted arrays."""

from __future__ import annotations

import time

import numpy as np
import pytest

from interp.ablation.choose import corrected, sign_flip
from interp.circuits.rediscovery import how_many, rediscovery, resampled, strongest
from interp.circuits.tests_of_heads import p_values, sign_flips


def _planted(n: int = 40, seed: int = 0) -> np.ndarray:
    """[4, 5, n]: two strong heads, one of them negative; the last layer reaches nothing."""
    effects = np.random.default_rng(seed).normal(0, 0.05, (4, 5, n)).astype(np.float32)
    effects[2, 3] += 0.5
    effects[1, 0] -= 0.4
    effects[3] = np.nan
    return effects


def test_how_many_counts_heads_with_an_effect() -> None:
    effects = np.zeros((10, 15))
    assert how_many(effects, 0.02) == 3  # not 4: 0.02 * 150 is a hair above 3
    effects[5:] = np.nan
    assert how_many(effects, 0.02) == 2
    assert how_many(np.full((2, 2), np.nan), 0.5) == 0
    assert how_many(effects, 0.02, least=4) == 4 and how_many(np.ones((1, 3)), 0.02, least=4) == 3


def test_strongest_is_by_absolute_effect_and_leaves_out_what_has_none() -> None:
    effects = np.array([[0.1, -0.9, np.nan], [0.5, 0.0, 0.1]])
    assert strongest(effects, 2) == [(0, 1), (1, 0)]
    assert strongest(effects, 6) == [(0, 1), (1, 0), (0, 0), (1, 2)]
    assert strongest(effects, 0) == []


def test_planted_heads_are_found_again() -> None:
    effects = _planted()
    again = rediscovery(effects, range(20), range(20, 40), share=2 / 15, resamples=200)
    assert again.stability[2, 3] == again.stability[1, 0] == 1
    others = np.ones((4, 5), dtype=bool)
    others[2, 3] = others[1, 0] = False
    assert np.nanmax(again.stability[others]) == 0
    assert np.isnan(again.stability[3]).all()
    assert again.held_out is not None and again.held_out.sum() == 2
    assert again.held_out[2, 3] and again.held_out[1, 0]
    assert again.jaccard == 1 and again.chance == pytest.approx(2 / 15)


def test_heads_of_one_half_are_not_found_in_the_other() -> None:
    effects = _planted()
    effects[2, 3, 20:] = 0
    effects[0, 4, 20:] += 0.5
    again = rediscovery(effects, range(20), range(20, 40), share=2 / 15, resamples=50)
    assert again.held_out is not None
    assert again.held_out[0, 4] and again.held_out[1, 0] and not again.held_out[2, 3]
    assert again.jaccard == pytest.approx(1 / 3)
    assert again.stability[2, 3] == 1 and again.stability[0, 4] == 0


def test_noise_is_found_again_less_often() -> None:
    effects = np.random.default_rng(1).normal(size=(4, 5, 12))
    share = resampled(effects, 2, 500)
    assert share.sum() == pytest.approx(2)  # two heads a resample
    assert share.max() < 0.95


def test_resamples_are_the_bootstrap_of_the_prompts() -> None:
    effects = np.random.default_rng(2).normal(0.2, 1, (2, 3, 9))
    rng, seen = np.random.default_rng(7), np.zeros((2, 3))
    for _ in range(4000):
        means = effects[..., rng.integers(0, 9, 9)].mean(-1)
        for head in strongest(means, 2):
            seen[head] += 1
    np.testing.assert_allclose(resampled(effects, 2, 4000), seen / 4000, atol=0.04)


def test_without_held_out_prompts_or_resamples() -> None:
    again = rediscovery(_planted(), range(40), [], share=0.1, resamples=0)
    assert again.held_out is None and again.jaccard is None and np.isnan(again.stability).all()


@pytest.mark.parametrize("n", [1, 6, 12, 13, 40])
def test_sign_flips_are_twice_the_smaller_one_sided_value(n: int) -> None:
    values = np.random.default_rng(n).normal(0.3, 1, (6, n))
    values[0] = 0
    for row, p in zip(values, sign_flips(values, seed=3), strict=True):
        sides = [sign_flip(row, helps, 3) for helps in (True, False)]
        assert p == pytest.approx(min(1, 2 * min(sides)))


def test_sign_flips_are_uniform_without_an_effect() -> None:
    p = sign_flips(np.random.default_rng(0).normal(size=(2000, 20)))
    for level in (0.05, 0.2, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=0.03)


def test_each_head_is_tested_and_corrected() -> None:
    found = p_values(_planted())
    assert found.p[2, 3] == found.p[1, 0] < 0.001
    assert np.isnan(found.p[3]).all() and np.isnan(found.holm[3]).all() and np.isnan(found.bh[3]).all()
    told = found.p[:3].ravel()
    np.testing.assert_array_equal(found.holm[:3].ravel(), corrected(told.tolist(), "holm"))
    np.testing.assert_array_equal(found.bh[:3].ravel(), corrected(told.tolist(), "bh"))
    assert (found.holm < 0.05).sum() == 2


def test_prompts_of_the_same_tokens_count_once() -> None:
    effects = np.random.default_rng(0).normal(0.5, 1, (1, 2, 10))
    once = p_values(effects[..., :5])
    np.testing.assert_array_equal(p_values(np.tile(effects[..., :5], 2), sequences=[*range(5)] * 2).p, once.p)


def test_nothing_to_test() -> None:
    assert np.isnan(p_values(np.full((2, 2, 3), np.nan), sequences=[0, 1, 2]).p).all()


def test_four_hundred_heads_take_less_than_a_second() -> None:
    effects = np.random.default_rng(0).normal(size=(20, 20, 64))
    began = time.process_time()
    p_values(effects)
    rediscovery(effects, range(32), range(32, 64), share=0.02, resamples=200)
    assert time.process_time() - began < 1
