"""Paired effects, their intervals and the verdicts drawn from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from interp.verify import MIN_PROMPTS, Paired, bootstrap_mean, paired

NAMES = [f"p{i}" for i in range(12)]


def make(found: list[float], control: list[float], **how: Any) -> Paired:
    return paired(NAMES[: len(found)], found, control, metric="loss, nats", how="by hand", **how)


def test_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(2.0, 0.5, 400)
    estimate = bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.005)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.005)


def test_interval_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(300):
        estimate = bootstrap_mean(rng.normal(1.0, 1.0, 40), resamples=600, seed=trial)
        inside += estimate.low <= 1.0 <= estimate.high
    assert 0.88 < inside / 300 < 0.99


def test_seed_repeats_and_matters() -> None:
    values = np.random.default_rng(1).normal(size=9)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_many_values_are_resampled_in_bounded_memory() -> None:
    values = np.arange(3_000_000, dtype=np.float64)
    estimate = bootstrap_mean(values, resamples=5)
    assert estimate.low < values.mean() < estimate.high or estimate.high - estimate.low < 2000


def test_verified_only_beyond_zero_on_the_stated_side() -> None:
    found, control = [0.5 + 0.01 * i for i in range(10)], [0.02 * (i % 3) for i in range(10)]
    assert make(found, control).verdict() == "verified"
    assert make(control, found).verdict() == "failed"
    assert make(control, found, expected="lower").verdict() == "verified"
    assert make(found, found).verdict() == "failed"


def test_pairs_matter_more_than_spreads() -> None:
    control = [float(10 * i) for i in range(10)]
    found = [value + 0.1 for value in control]
    check = make(found, control).verification()
    assert check.verdict == "verified"
    assert check.effect_low is not None and check.control_high is not None and check.effect_low < check.control_high


def test_few_prompts_give_no_verdict_but_the_effect() -> None:
    few = MIN_PROMPTS - 1
    check = make([1.0] * few, [0.0] * few).verification()
    assert check.verdict == "too few to say"
    assert (check.effect, check.control, check.difference, check.prompts) == (1.0, 0.0, 1.0, few)
    assert check.per_prompt[0] == {"name": "p0", "effect": 1.0, "control": 0.0}
    assert make([1.0] * MIN_PROMPTS, [0.0] * MIN_PROMPTS).verification().verdict == "verified"


def test_nothing_to_verify() -> None:
    check = make([], []).verification()
    assert check.verdict == "nothing to verify" and check.effect is None


def test_refuses_what_is_no_pair() -> None:
    with pytest.raises(ValueError, match="2 names, 1 found"):
        paired(["a", "b"], [1.0], [1.0, 2.0], metric="m", how="h")
    with pytest.raises(ValueError, match="not a finite number for 'p1'"):
        make([0.0, float("nan")], [0.0, 0.0])
    with pytest.raises(ValueError, match="at least 1"):
        bootstrap_mean([])
