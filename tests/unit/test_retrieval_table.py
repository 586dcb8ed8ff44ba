"""Head scores with their intervals over needles, against plain computation, and how the needles are parted."""

from __future__ import annotations

import numpy as np
import pytest

from interp.retrieval.config import RetrievalConfig
from interp.retrieval.instances import Instances
from interp.retrieval.resample import intervals, resampled
from interp.retrieval.split import split
from interp.retrieval.table import COLUMNS, ranked, scores, sparsity, table
from interp.scoring.bootstrap import draws
from interp.verify import MIN_PROMPTS, bootstrap_mean
from tests.retrieval_units import chance, made

CONFIG = RetrievalConfig()


def instances(needles: list[str], copies: np.ndarray, recalls: list[float] | None = None) -> Instances:
    return Instances.of(*made(needles, copies, recalls), CONFIG)


def test_equal_needles_give_the_bootstrap_of_their_means() -> None:
    values = np.random.default_rng(1).random((12, 5))
    which = np.repeat(np.arange(6), 2)
    low, high = intervals(values, which, seed=3)
    for column in range(5):
        one = bootstrap_mean(values[:, column].reshape(6, 2).mean(1), seed=3)
        np.testing.assert_allclose((low[column], high[column]), (one.low, one.high), rtol=1e-12)


def test_unequal_needles_keep_the_mean_over_instances() -> None:
    """Slowly: needles are drawn, their instances laid end to end, and averaged."""
    rng = np.random.default_rng(2)
    which = np.array([0, 0, 0, 1, 3, 3])
    values = rng.random((6, 3))
    (columns, means), *more = resampled(values, which, seed=5, resamples=50)
    assert (columns, more) == (slice(0, 3), [])
    for times, mean in zip(draws(3, 5, 50), means, strict=True):
        drawn = [values[which == needle] for needle, n in zip((0, 1, 3), times, strict=True) for _ in range(int(n))]
        np.testing.assert_allclose(mean, np.concatenate(drawn).mean(0))
    assert (draws(3, 5, 50).sum(1) == 3).all()


def test_columns_are_taken_in_turns_that_bound_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    values, which = np.random.default_rng(0).random((4, 7)), np.array([0, 1, 2, 2])
    whole = intervals(values, which, 0)
    monkeypatch.setattr("interp.scoring.bootstrap.CELLS", 20_000)
    assert [columns for columns, _ in resampled(values, which, 0)][1] == slice(2, 4)
    np.testing.assert_array_equal(intervals(values, which, 0)[0].shape, whole[0].shape)
    np.testing.assert_allclose(intervals(values, which, 0), whole, atol=0.02)  # the draws come in other portions


def test_the_table_holds_every_head_best_first() -> None:
    needles = ["a", "a", "b", "c", "d"]
    copies = chance(5)
    found = instances(needles, copies, [1.0, 0.9, 0.8, 0.5, 1.0])  # 0.5 is not above one half
    scored = scores(found, CONFIG)
    rows = table(scored, CONFIG)
    kept = copies[[0, 1, 2, 4]].astype(np.float32).astype(np.float64)
    assert list(rows.columns) == [column.name for column in COLUMNS]
    assert len(rows) == 12 and len(set(zip(rows["layer"], rows["head"], strict=True))) == 12
    assert rows["score"].is_monotonic_decreasing
    for row in rows.itertuples():
        mean = kept[:, row.layer, row.head].mean()
        assert row.score == pytest.approx(mean)
        assert row.score_released == pytest.approx(1.5 * mean)
        assert row.score_low <= row.score + 1e-12 and row.score - 1e-12 <= row.score_high
        assert row.copies == round(10 * kept[:, row.layer, row.head].sum())
        assert row.active == (kept[:, row.layer, row.head] > 0).mean()
        assert row.mass_in_needle == pytest.approx(mean / 2)
        assert row.qr_score == pytest.approx(mean - 0.1)
    assert (rows["instances"] == 4).all()
    kinds = {(row.layer, row.head): row[13] for row in rows.itertuples()}
    assert (kinds[0, 1], kinds[2, 3], kinds[1, 0], kinds[2, 2]) == ("retrieval", "retrieval", "weak", "none")
    assert sparsity(scored, CONFIG) == {"heads": 12, "threshold": 0.1, "retrieval": 2, "weak": 1, "zero": 9}
    assert scored.heads(0.1) == [(0, 1), (2, 3)]
    induction = copies[:, 0, 1].mean() / 4  # of all instances, answered or not
    assert rows["induction"][0] == pytest.approx(induction)


def test_a_score_of_exactly_the_threshold_is_a_retrieval_head() -> None:
    copies = np.zeros((3, 1, 2))
    copies[:, 0, 0] = 0.1
    scored = scores(instances(["a", "b", "c"], copies), CONFIG)
    assert table(scored, CONFIG)["class"].tolist() == ["retrieval", "none"]


def test_nothing_kept_leaves_scores_missing() -> None:
    found = instances(["a", "b"], chance(2), [0.5, 0.0])
    scored = scores(found, CONFIG)
    rows = table(scored, CONFIG)
    assert rows[["score", "score_low", "score_high", "active", "class"]].isna().all(axis=None)
    assert (rows["instances"] == 0).all() and (rows["copies"] == 0).all()
    assert rows["induction"].notna().all()
    assert sparsity(scored, CONFIG)["retrieval"] is None
    assert not scored.retrieval(0.0).any() and ranked(found, frozenset("ab")) == []


def test_heads_are_ranked_on_the_choosing_needles_alone() -> None:
    copies = np.zeros((3, 1, 3))
    copies[0, 0] = 0.1, 0.9, 0.0  # choosing
    copies[1, 0] = 1.0, 0.0, 0.0
    copies[2, 0] = 0.0, 0.0, 1.0  # choosing, but not answered
    found = instances(["a", "b", "c"], copies, [1.0, 1.0, 0.0])
    assert ranked(found, frozenset("ac")) == [(0, 1), (0, 0), (0, 2)]
    assert ranked(found, frozenset("b"))[0] == (0, 0)
    assert ranked(found, frozenset("c")) == []


def test_heads_that_never_copied_are_ranked_by_their_mass() -> None:
    prompts, units = made(["a"], np.zeros((1, 1, 3)))
    units[0].arrays["mass_in_needle"] = np.array([[0.1, 0.3, 0.2]], dtype=np.float32)
    assert ranked(Instances.of(prompts, units, CONFIG), frozenset("a")) == [(0, 1), (0, 2), (0, 0)]


@pytest.mark.parametrize(("n", "judging"), [(1, 1), (2, 1), (3, 2), (10, 5), (11, 8), (12, 8), (24, 12)])
def test_needles_are_parted_once_and_for_all(n: int, judging: int) -> None:
    names = [f"needle {i}" for i in range(n)]
    choosing, judges = split(names * 3, CONFIG)
    assert choosing | judges == set(names) and not choosing & judges
    assert len(judges) == judging
    assert split(names[::-1], CONFIG) == (choosing, judges)


def test_the_parting_is_seeded_and_leaves_enough_to_judge() -> None:
    names = [f"needle {i}" for i in range(24)]
    parted = {split(names, RetrievalConfig(seed=seed))[1] for seed in range(5)}
    assert len(parted) > 1
    assert len(split(names, RetrievalConfig(held_out=0.01))[1]) == MIN_PROMPTS
    assert len(split(names[:4], RetrievalConfig(held_out=0.99))[0]) == 1
