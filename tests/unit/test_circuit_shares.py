"""Shares of the gap and their intervals, the table of made-up effects, and which prompts are measured together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from interp.circuits.config import COLUMNS, CircuitConfig
from interp.circuits.explore import mean_there
from interp.circuits.measured import PIECE, looks_of, pieces, positions_of, task_of
from interp.circuits.pairs import Pair
from interp.circuits.shares import interval, share
from interp.circuits.states import BATCH
from interp.circuits.table import first_stages, mlps, once, table
from interp.errors import UsageError
from interp.finders.base import Unit
from probes.base import Prompt

KINDS = ("total", "direct", "direct_frozen_mlps", "attribution", "attribution_ig", "dla")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_share_is_a_ratio_of_means() -> None:
    changes, gap = np.array([[1.0, 3.0], [-2.0, 0.0]]), np.array([2.0, 6.0])
    assert share(changes, gap).tolist() == [0.5, -0.25]
    assert share(-changes, -gap).tolist() == [0.5, -0.25]  # a gap below 0: what is lost with it supports the answer


@pytest.mark.parametrize("gap", [np.zeros(2), np.array([1.0, -1.0]), np.array([np.nan, 1.0])])
def test_no_share_of_no_gap(gap: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"changes the mean logit difference by (0\.0|nan): no share"):
        share(np.ones((3, 2)), gap)


def test_the_interval_is_that_of_a_plain_bootstrap_of_the_ratio() -> None:
    gap = rng(1).normal(4, 1, 20)
    changes = rng(2).normal(0.5, 0.6, (2, 3, 20)) * gap
    low, high = interval(changes, gap, seed=0)
    assert low.shape == high.shape == (2, 3)
    for at in np.ndindex(2, 3):
        drawn = rng(7).integers(0, 20, (20_000, 20))
        ratios = changes[at][drawn].mean(1) / gap[drawn].mean(1)
        assert (low[at], high[at]) == pytest.approx(np.quantile(ratios, (0.025, 0.975)), abs=0.03)
    point = share(changes, gap)
    assert ((low < point) & (point < high)).all()
    assert all(np.array_equal(*both) for both in zip((low, high), interval(changes, gap, seed=0), strict=True))


def test_a_head_that_always_does_the_same_share_has_no_spread() -> None:
    gap = rng(3).normal(2, 2, 12)  # some of one sign, some of the other
    low, high = interval(0.3 * gap[None], gap, seed=0)
    assert (low[0], high[0]) == pytest.approx((0.3, 0.3))  # changes and gap are drawn together


def test_resamples_whose_gap_turns_over_are_left_out() -> None:
    gap = np.array([4.0, -1.0, -1.0, -1.0])  # mean 0.25: many resamples lie below 0
    low, high = interval(np.ones((1, 4)), gap, seed=0)
    assert 0 < low[0] < high[0]


def test_a_single_pair_has_its_value_as_interval_and_a_missing_head_none() -> None:
    low, high = interval(np.array([[1.0], [np.nan]]), np.array([2.0]), seed=0)
    assert (low[0], high[0]) == (0.5, 0.5) and np.isnan([low[1], high[1]]).all()


def test_prompts_of_one_sequence_count_once() -> None:
    values = np.array([[1.0, 3.0, 10.0], [0.0, 2.0, 4.0]], dtype=np.float32)
    assert once(values, [5, 5, 1]).tolist() == [[2.0, 10.0], [1.0, 4.0]]
    assert once(values[0], [0, 1, 0]).tolist() == [5.5, 3.0]
    np.testing.assert_array_equal(once(values, [2, 0, 1]), values)


def explored(n: int = 6, **facts: Any) -> Unit:
    """Made-up effects of 2 x 3 heads; head 1.2 is missing."""
    arrays = {kind: rng(number).normal(0, 1, (2, 3, n)).astype(np.float32) for number, kind in enumerate(KINDS)}
    for values in arrays.values():
        values[1, 2] = np.nan
    arrays |= {
        "gap": np.linspace(-3, -2, n, dtype=np.float32),
        "backup": np.full((2, 3), 0.5),
        "stage.0": rng(9).normal(0, 1, (2, 3, n)),
        "stability.0": np.full((2, 3), 0.75),
        "again.0": np.arange(6).reshape(2, 3) % 2 == 0,
    }
    one = {"class": "mover", "looks_from": "end", "looks_at": "answer", "attention": 0.6, "copying": 1.0}
    stages = [{"heads": [[1, 1, 0.4], [0, 2, 0.2]]}, {"heads": []}]
    told = {"select": [0, 2, 3], "held_out": [1, 4, 5], "stages": stages, "told": {"1.1": one}, "backups": [[0, 0]]}
    return Unit(arrays, told | facts)


def test_the_table_has_the_declared_columns_and_leaves_out_heads_that_are_not_there() -> None:
    unit = explored()
    made = table(unit, list(range(6)), CircuitConfig())
    assert list(made.columns) == [column.name for column in COLUMNS]
    assert list(zip(made["layer"], made["head"], strict=True)) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    rows = made.set_index(["layer", "head"])
    gap = unit.arrays["gap"]
    for kind in ("total", "direct"):
        for head in rows.index:
            values = unit.arrays[kind][head]
            assert rows.loc[head, kind] == pytest.approx(values[[0, 2, 3]].mean() / gap[[0, 2, 3]].mean(), rel=1e-5)
            held_out = values[[1, 4, 5]].mean() / gap[[1, 4, 5]].mean()
            assert rows.loc[head, f"{kind}_held_out"] == pytest.approx(held_out, rel=1e-5)
            assert rows.loc[head, f"{kind}_low"] < rows.loc[head, kind] < rows.loc[head, f"{kind}_high"]
    assert rows["class"].tolist() == ["backup mover", "none", "none", "none", "mover"]
    assert rows["stage"].fillna(-1).tolist() == [-1, -1, 0, -1, 0]
    assert rows.loc[(1, 1), "stage_effect"] == pytest.approx(unit.arrays["stage.0"][1, 1, [0, 2, 3]].mean())
    assert rows.loc[(1, 1), "stability"] == 0.75 and rows["stability"].notna().sum() == 2
    assert (rows.loc[(0, 2), "held_out_found"], rows.loc[(1, 1), "held_out_found"]) == (True, True)
    assert (rows.loc[(1, 1), "looks_at"], rows.loc[(1, 1), "copying"]) == ("answer", 1.0)
    assert rows.loc[(0, 0), "dla"] == pytest.approx(unit.arrays["dla"][0, 0, [0, 2, 3]].mean(), rel=1e-5)
    assert (made["total_p"] == 0.25).any() and (made["total_p"] >= 0.25).all()  # three signs: no less than 2 / 8


def test_without_held_out_prompts_their_columns_are_empty() -> None:
    made = table(explored(select=list(range(6)), held_out=[]), list(range(6)), CircuitConfig())
    assert made["total_held_out"].isna().all() and made["direct_held_out"].isna().all()


def test_equal_prompts_count_once_in_effects_intervals_and_tests() -> None:
    """Prompts 2 and 3 are the same tokens, so the table is that of their mean and prompt 0."""
    unit = explored()
    made = table(unit, [0, 1, 2, 2, 4, 5], CircuitConfig())
    merged = explored()
    for name in (*KINDS, "gap"):
        merged.arrays[name][..., 2] = unit.arrays[name][..., [2, 3]].mean(-1)
    merged.facts["select"] = [0, 2]
    expected = table(merged, list(range(6)), CircuitConfig())
    for name in ("total", "total_low", "total_high", "direct", "dla", "attribution", "total_p"):
        np.testing.assert_allclose(made[name], expected[name], rtol=1e-5)
    assert made["total_p"].min() == 0.5


def test_a_head_has_the_first_stage_that_took_it() -> None:
    stages = [{"heads": [[2, 1, 0.5]]}, {"heads": [[1, 0, 0.2], [2, 1, 0.1]]}, {"heads": [[1, 0, 0.4]]}]
    assert first_stages(stages) == {(2, 1): (0, 0.5), (1, 0): (1, 0.2)}


def prompt(name: str, length: int, **positions: int) -> Prompt:
    bare = Prompt(name, "", tuple(range(10, 10 + length)), tuple("x" * length))
    twin = (*bare.ids[:-1], 99)
    return Prompt(name, "", bare.ids, bare.tokens, extra=Pair(bare, twin, 1, (2,), positions).as_extra())


SMALL = SimpleNamespace(n_layers=2, n_heads=2, d_head=4, d_model=8)


def test_long_prompts_are_measured_in_smaller_pieces() -> None:
    large = SimpleNamespace(n_layers=30, n_heads=9, d_head=64, d_model=576)
    found = pieces(large, [prompt(f"p{i}", 200) for i in range(8)])
    bytes_of_a_pair = 4 * 30 * (3 * 576 + 2 * 576) * 200
    assert [len(group) for group in found] == [3, 3, 2] and 3 * bytes_of_a_pair <= BATCH < 4 * bytes_of_a_pair
    assert [len(group) for group in pieces(large, [prompt("p", 100_000)])] == [1]


def test_prompts_of_one_length_are_measured_together_up_to_a_number() -> None:
    lengths = [5, 7] * (PIECE + 2) + [9]
    found = pieces(SMALL, [prompt(f"p{i}", length) for i, length in enumerate(lengths)])
    assert sorted(map(len, found)) == [1, 2, 2, PIECE, PIECE]
    assert sorted(index for group in found for index in group) == list(range(len(lengths)))
    assert all(len({lengths[index] for index in group}) == 1 for group in found)


def test_named_positions_and_roles_of_each_pair() -> None:
    some = [prompt("a", 6, near=2), prompt("b", 6, near=4)]
    assert positions_of(some, "all") is None
    for name, expected in (("near", [[2], [4]]), ("end", [[5], [5]])):
        found = positions_of(some, name)
        assert found is not None and found.tolist() == expected
    with pytest.raises(UsageError, match=r"prompt 'b' has no position 'far'; it has end"):
        positions_of([prompt("a", 6, far=2), prompt("b", 6)], "far")


def test_looks_are_told_between_the_names_that_all_prompts_have() -> None:
    first, second = rng(0).random((1, 2, 3, 3)), rng(1).random((1, 2, 3, 3))
    units = [
        Unit({"attention": first}, {"names": ["answer", "S2", "end"]}),
        Unit({"attention": second}, {"names": ["end", "answer", "x"]}),
    ]
    names, attention = looks_of(units)
    assert names == ("answer", "end") and attention.shape == (2, 1, 2, 2, 2)
    np.testing.assert_array_equal(attention[0], first[..., [0, 2], :][..., [0, 2]])
    np.testing.assert_array_equal(attention[1, ..., 0, 1], second[..., 1, 0])  # from the answer to the end


def test_a_role_that_all_prompts_lack_has_no_mean_and_no_warning() -> None:
    values = np.array([[1.0, np.nan, np.nan], [3.0, 4.0, np.nan]], dtype=np.float32)
    np.testing.assert_array_equal(mean_there(values), [2.0, 4.0, np.nan])


@pytest.mark.parametrize(
    ("names", "task"),
    [
        (("ioi-0", "ioi-12"), "ioi"),
        (("colored-objects-1",), "colored-objects"),
        (("ioi-0", "pairs-0"), "own pairs"),
        (("mine.jsonl:1", "mine.jsonl:2"), "own pairs"),
    ],
)
def test_the_task_is_what_the_names_begin_with(names: tuple[str, ...], task: str) -> None:
    assert task_of([prompt(name, 5) for name in names]) == task


def test_mlps_have_a_row_a_layer_with_shares_of_the_gap() -> None:
    unit = explored()
    for number, kind in enumerate(KINDS):
        unit.arrays[f"{kind}_mlps"] = rng(20 + number).normal(0, 1, (2, 6))
    unit.arrays["total_mlps"][1] = np.nan  # a layer without an MLP
    gap = unit.arrays["gap"]
    rows = mlps(unit, [0, 1, 0, 2, 3, 4])  # prompts 0 and 2 are the same tokens
    assert [row["layer"] for row in rows] == [0, 1] and rows[1]["total"] is None

    def mean(values: np.ndarray) -> float:
        return float((values[[0, 2]].mean() + values[3]) / 2)

    for kind in KINDS:
        expected = mean(unit.arrays[f"{kind}_mlps"][0]) / (1 if kind == "dla" else mean(gap))
        assert rows[0][kind] == pytest.approx(expected, rel=1e-5)
