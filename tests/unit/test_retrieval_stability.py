"""Agreement between halves of the needles, how often heads are active, and the figures made of them."""

from __future__ import annotations

import numpy as np
import pytest

from interp.retrieval import stability
from interp.retrieval.claims import NOTHING_COPIED, NOTHING_KEPT, ONE_NEEDLE, claims, zero_share
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.instances import Instances
from interp.retrieval.table import scores
from tests.retrieval_units import chance, made

CONFIG = RetrievalConfig()


def told(needles: list[str], copies: np.ndarray, recalls: list[float] | None = None) -> dict[str, dict[str, float]]:
    instances = Instances.of(*made(needles, copies, recalls), CONFIG)
    found = scores(instances, CONFIG)
    return claims(instances, found, stability.halves(found.per_instance, found.which, 0), CONFIG)


def test_the_same_scores_everywhere_agree_fully() -> None:
    per_instance = np.tile(np.array([0.9, 0.4, 0.0, 0.2, 0.0]), (6, 1))
    halves = stability.halves(per_instance, np.arange(6), 0)
    assert halves is not None and halves.needles == 6
    assert len(halves.correlation) == len(halves.overlap) == stability.HALVES
    assert halves.correlation.min() == pytest.approx(1) and halves.overlap.min() == 1


def test_other_heads_on_every_needle_do_not() -> None:
    halves = stability.halves(np.eye(8), np.arange(8), 0)
    assert halves is not None
    assert (halves.overlap == 0).all() and halves.correlation.max() < 0


def test_halves_are_of_needles_not_of_instances() -> None:
    """Four instances of each of two needles: there is one parting, and its sides share nothing."""
    per_instance = np.repeat(np.eye(2, 4), 4, axis=0)
    halves = stability.halves(per_instance, np.repeat([0, 1], 4), 0)
    assert halves is not None
    assert {tuple(side) for side in halves.example} == {(1, 0, 0, 0), (0, 1, 0, 0)}
    assert (halves.overlap == 0).all()


def test_a_half_that_copies_nothing_agrees_with_nothing() -> None:
    """One needle of four is copied from: whichever half it is in, the other is silent."""
    per_instance = np.zeros((4, 5))
    per_instance[2] = 0.9, 0.4, 0.0, 0.0, 0.1
    halves = stability.halves(per_instance, np.arange(4), 0)
    assert halves is not None and halves.silent == len(halves.correlation) == stability.HALVES
    assert not halves.correlation.any() and not halves.overlap.any()
    per_instance[0] = per_instance[2]
    some = stability.halves(per_instance, np.arange(4), 0)
    assert some is not None and 0 < some.silent < stability.HALVES
    assert some.correlation.mean() == pytest.approx(1 - some.silent / stability.HALVES)
    claim = stability.over_halves(some.correlation, 4, "", some.silent)
    assert f"{some.silent} of them with a side on which no head copied (counted as 0)" in claim["interval"]
    none = told(["a", "b"], np.zeros((2, 1, 3)))["split_half"]
    assert none["mean"] is None and none["why"] == NOTHING_COPIED


def test_one_needle_has_no_halves() -> None:
    assert stability.halves(chance(4).reshape(4, -1), np.zeros(4, dtype=int), 0) is None


def test_overlap_leaves_out_heads_that_never_copied() -> None:
    left, right = np.array([0.5, 0.4, 0.3, 0.0]), np.array([0.0, 0.9, 0.1, 0.0])
    assert stability.top_overlap(left, right) == 0.5  # best two: {0, 1} and {1, 2}
    assert stability.top_overlap(left, right, top=1) == 0
    assert stability.top_overlap(left, np.zeros(4)) is None


def test_activity_counts_retrieval_heads_alone() -> None:
    per_instance = np.zeros((20, 4))
    per_instance[:, 0] = 0.5  # always
    per_instance[:10, 1] = 0.9  # in half of them
    per_instance[:18, 2] = 0.9  # in 90 %, which is not more
    per_instance[:, 3] = 0.05  # always, but no retrieval head
    found = stability.activity(per_instance, np.arange(20), np.array([True, True, True, False]), 0)
    assert found["always_active"]["mean"] == pytest.approx(1 / 3)
    assert found["sometimes_active"]["mean"] == pytest.approx(1 / 3)
    assert found["always_active"]["n"] == 20
    # in half of the draws the head of 90 % passes it: that widens the interval, and does not move it off the mean
    assert 0.1 < found["always_active"]["low"] < 1 / 3 < found["always_active"]["high"] < 0.6
    none = stability.activity(per_instance, np.arange(20), np.zeros(4, dtype=bool), 0)
    assert none["always_active"]["mean"] is None and "threshold" in none["always_active"]["why"]


def test_claims_count_needles_and_hold_together() -> None:
    needles = [name for name in "abcdefgh" for _ in range(2)]
    found = told(needles, chance(16), [1.0] * 14 + [0.4, 0.6])
    for name in ("recall", "kept_share", "retrieval_share", "zero_share", "split_half", "always_active"):
        assert found[name]["n"] == 8, name
        assert found[name]["low"] <= found[name]["mean"] <= found[name]["high"], name
    assert found["recall"]["mean"] == pytest.approx(15 / 16)
    assert found["kept_share"]["mean"] == pytest.approx(15 / 16)
    assert found["retrieval_share"]["mean"] == pytest.approx(2 / 12)
    assert found["retrieval_heads"]["mean"] == 2
    assert found["zero_share"]["mean"] == pytest.approx(9 / 12)
    assert found["split_half"]["mean"] > 0.8 and found["top_overlap"]["mean"] == pytest.approx(1, abs=0.3)


def test_the_share_that_never_copies_lies_within_its_interval() -> None:
    """One needle in four makes a head copy that else never does: the jackknife by hand."""
    instances = Instances.of(*made(list("abcd"), chance(4)), CONFIG)
    found = zero_share(scores(instances, CONFIG))
    without = np.array([10, 9, 9, 9]) / 12
    half = 1.96 * np.sqrt(3 / 4 * ((without - without.mean()) ** 2).sum())
    assert found["mean"] == pytest.approx(9 / 12)
    assert (found["low"], found["high"]) == pytest.approx((9 / 12 - half, 9 / 12 + half))


def test_without_answers_there_are_reasons_in_place_of_figures() -> None:
    found = told(["a", "b"], chance(2), [0.0, 0.3])
    assert found["recall"]["mean"] == pytest.approx(0.15) and found["kept_share"]["mean"] == 0
    for name in ("retrieval_share", "zero_share", "retrieval_heads", "split_half", "top_overlap", "always_active"):
        assert found[name]["mean"] is None and found[name]["n"] == 0, name
    assert found["split_half"]["why"] == found["zero_share"]["why"] == NOTHING_KEPT
    assert told(["a", "a"], chance(2))["split_half"]["why"] == ONE_NEEDLE


def test_every_share_lies_within_its_interval() -> None:
    rng = np.random.default_rng(5)
    for _ in range(30):
        n = int(rng.integers(1, 14))
        copies = (rng.random((n, 12)) < rng.random(12)) * rng.random((n, 12))
        got = told([f"n{i // 2}" for i in range(n)], copies[:, None])
        for name in ("retrieval_share", "zero_share", "always_active", "sometimes_active"):
            claim = got[name]
            assert claim["mean"] is None or 0 <= claim["low"] <= claim["mean"] <= claim["high"] <= 1, (name, claim)
