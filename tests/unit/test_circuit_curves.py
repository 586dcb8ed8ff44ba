"""Curves of rankings and the areas under them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest

import interp
from interp.circuits.config import Head
from interp.circuits.curves import SHARES, area, head_curve, normalised, ordered, random_rankings, taken
from interp.circuits.knockout import Knockout
from interp.errors import UsageError
from tests.tiny import tiny
from tests.unit.test_circuit_knockout import PROMPTS

SHAPE = (10, 10)


class Additive:
    """Head (layer, head) is worth `worth[layer, head]`; two prompts, one apart from the other by 2."""

    def __init__(self, worth: np.ndarray):
        self.worth, self.ran = worth, 0
        self.heads: tuple[Head, ...] = tuple((i, j) for i in range(worth.shape[0]) for j in range(worth.shape[1]))

    def differences(self, sets: Sequence[Collection[Head]]) -> np.ndarray:
        self.ran += len(sets)
        values = [5 + self.worth.sum() - sum(self.worth[head] for head in one) for one in sets]
        return np.array(values)[:, None] + np.array([-1.0, 1.0])


def test_areas_are_trapezoids_on_a_linear_axis() -> None:
    assert area((0, 1), (0, 1)) == pytest.approx((0.5, 0.5))
    assert area((0.2, 0.5, 1), (1, 1, 1)) == pytest.approx((0.8, 0))
    # above 1 counts for CPR and against CMD: 0.25 * (0 + 2) / 2 + 0.75 * (2 + 1) / 2, and 0.25 * 1 + 0.75 * (1 + 0) / 2
    assert area((0, 0.25, 1), (0, 2, 1)) == pytest.approx((1.375, 0.625))
    assert area(SHARES, np.ones(10)) == pytest.approx((0.999, 0))
    assert area(SHARES, np.zeros(10)) == pytest.approx((0, 0.999))
    assert area(SHARES, [-1.0] * 10) == pytest.approx((-0.999, 1.998))


@pytest.mark.parametrize("shares, f", [((0.5,), (1,)), ((0.5, 0.2), (1, 1)), ((0.2, 0.5), (1, 1, 1))])
def test_areas_need_a_value_a_share(shares: Any, f: Any) -> None:
    with pytest.raises(UsageError, match="one a share, shares increasing"):
        area(shares, f)


def test_how_many_a_share_takes() -> None:
    assert [taken(share, 270) for share in SHARES] == [0, 0, 1, 2, 5, 13, 27, 54, 135, 270]
    assert taken(0.29, 100) == 29  # 0.29 * 100 is a little below 29


def test_order_by_score_or_size_with_ties_drawn_and_nan_last() -> None:
    scores = np.array([0.1, -3.0, np.nan, 2.0])
    assert ordered(scores) == [3, 0, 1, 2]
    assert ordered(scores, absolute=True) == [1, 3, 0, 2]
    draws = {tuple(ordered(np.zeros(4), seed=seed)) for seed in range(30)}
    assert len(draws) > 10 and ordered(np.zeros(4), seed=3) == ordered(np.zeros(4), seed=3)


def test_f_is_a_share_of_what_ablating_all_takes_away() -> None:
    assert normalised(np.array([1.0, 3.0, 5.0]), 1, 5).tolist() == [0, 0.5, 1]
    with pytest.raises(UsageError, match="no share"):
        normalised(np.array([1.0]), 2, 2)


def test_curve_of_a_planted_ranking() -> None:
    worth = np.zeros(SHAPE)
    worth[3, 4], worth[5, 6], worth[7, 8] = 6, 4, -2
    told = head_curve(Additive(worth), {"truth": worth, "backwards": -worth})
    assert json.loads(json.dumps(told)) == told
    assert (told["whole"], told["empty"]) == (13, 5) and told["kept"][:6] == [0, 0, 0, 1, 2, 5]
    truth = told["curves"]["truth"]
    assert truth["signed"]["f"] == pytest.approx([0, 0, 0, 6 / 8, 10 / 8, 10 / 8, 10 / 8, 10 / 8, 10 / 8, 1])
    assert truth["absolute"]["f"][5] == pytest.approx(1)  # the five largest hold the negative head, too
    assert truth["cpr"] == pytest.approx(area(SHARES, truth["signed"]["f"])[0])
    assert truth["cmd"] == pytest.approx(area(SHARES, truth["absolute"]["f"])[1])
    assert truth["cmd"] < truth["signed"]["cmd"] and truth["cpr"] > truth["absolute"]["cpr"]
    backwards = told["curves"]["backwards"]
    assert backwards["signed"]["f"][4] == pytest.approx(-2 / 8) and backwards["cpr"] < truth["cpr"]
    assert backwards["absolute"]["f"] == pytest.approx(truth["absolute"]["f"])


def test_random_rankings_are_worse_and_sets_run_once() -> None:
    worth = np.zeros(SHAPE)
    worth[2, :4] = 2
    model = Additive(worth)
    told = head_curve(model, {"truth": worth, "again": 3 * worth, **random_rankings(SHAPE, 3)})
    curves = told["curves"]
    assert list(curves) == ["truth", "again", "random 1", "random 2", "random 3"]
    assert curves["again"] == curves["truth"] and model.ran == told["sets"]
    assert told["sets"] <= 2 + 4 * 7  # empty, whole, and 7 other sizes for each ranking that differs
    assert all(curves[f"random {i}"]["cmd"] > curves["truth"]["cmd"] + 0.1 for i in (1, 2, 3))
    assert random_rankings(SHAPE, 2, 1)["random 2"].shape == SHAPE
    assert (random_rankings(SHAPE, 1, 1)["random 1"] != random_rankings(SHAPE, 1, 2)["random 1"]).all()


def test_a_ranking_needs_every_head() -> None:
    with pytest.raises(UsageError, match=r"'short' of shape \[10, 9\]"):
        head_curve(Additive(np.ones(SHAPE)), {"short": np.ones((10, 9))})


def test_through_the_model() -> None:
    model = interp.load(tiny("gpt2"))
    knockout = Knockout(model, PROMPTS, "resample")
    effects = np.zeros((3, 4))
    for layer, head in knockout.heads:
        effects[layer, head] = (knockout.difference([]) - knockout.difference([(layer, head)])).mean()
    told = head_curve(knockout, {"one at a time": effects}, (0.1, 0.25, 1.0))
    assert told["kept"] == [1, 3, 12]
    best = [knockout.heads[i] for i in np.argsort(-effects.ravel())[:3]]
    kept = knockout.difference(set(knockout.heads) - set(best)).mean()
    f = (kept - told["empty"]) / (told["whole"] - told["empty"])
    assert told["curves"]["one at a time"]["signed"]["f"][1:] == pytest.approx([f, 1], abs=1e-4)
