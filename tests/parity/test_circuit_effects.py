"""Effects of every head and MLP, equal to a slow loop over TransformerLens's hooks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.circuits.attribution import attributions
from interp.circuits.effects import Effects, direct_effects, total_effects
from interp.circuits.paths import Receivers, path_effects
from interp.circuits.states import Sides
from interp.tracing.budget import Budget, within
from tests.circuit_pairs import random_sides
from tests.contracts.conftest import fingerprint
from tests.plain_circuits import Slow
from tests.tiny import tiny

FAMILIES = ("llama", "qwen3", "gpt2", "gemma2", "gemma3", "gpt_neox")
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


def _slow(model: Any, sides: Sides) -> Slow:
    batch = sides.batch
    return Slow(model.bridge(), batch.clean, batch.corrupt, batch.answer, batch.wrong)


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest) -> tuple[Any, Sides, Slow]:
    model = interp.load(tiny(request.param))
    sides = random_sides(model)
    return model, sides, _slow(model, sides)


def _same(found: Effects, slow: Any, senders: Any) -> None:
    for layer, head in senders:
        value = found.mlps[layer] if head is None else found.heads[layer, head]
        np.testing.assert_allclose(value, slow(layer, head), **TOLERANCE, err_msg=f"{layer}.{head}")


ALL = [(layer, head) for layer in range(3) for head in (0, 1, 2, 3, None)]
SOME = [(0, 0), (0, 3), (0, None), (1, 1), (1, None), (2, 2), (2, None)]
EARLY = [(0, 1), (1, 2), (1, None)]


def test_both_sides_are_those_of_transformer_lens(case: tuple[Any, Sides, Slow]) -> None:
    _, sides, slow = case
    torch.testing.assert_close(sides.clean.difference, slow.before, **TOLERANCE)
    torch.testing.assert_close(sides.corrupt.difference, slow.after, **TOLERANCE)
    assert sides.gap.abs().max() > 1e-3


def test_total(case: tuple[Any, Sides, Slow]) -> None:
    model, sides, slow = case
    before = fingerprint(model.hf)
    found = total_effects(model, sides)
    assert fingerprint(model.hf) == before
    assert np.abs(found.heads).max() > 1e-3
    _same(found, slow.total, ALL)


def test_total_at_chosen_positions_and_in_small_batches(case: tuple[Any, Sides, Slow]) -> None:
    model, sides, slow = case
    found = total_effects(model, sides, positions=[2, 6], rows=40)
    _same(found, lambda layer, head: slow.total(layer, head, [2, 6]), SOME)


def test_total_at_positions_of_each_pairs_own(case: tuple[Any, Sides, Slow]) -> None:
    """Pair 0 is patched before its prompts part, too; pair 2 only there, where nothing can change."""
    model, sides, slow = case
    positions = torch.tensor([[2, 6], [5, 11], [1, 3]])
    found = total_effects(model, sides, positions=positions)
    each = [slow.one(pair) for pair in range(3)]

    def expected(layer: int, head: int | None) -> Any:
        return torch.cat([one.total(layer, head, positions[pair].tolist()) for pair, one in enumerate(each)])

    _same(found, expected, [(0, 1), (1, 2), (2, None)])
    assert np.abs(found.heads[:, :, 2]).max() < 1e-5 and np.abs(found.heads[:, :, :2]).max() > 1e-3


@pytest.mark.parametrize("freeze_mlps", [False, True])
def test_direct(case: tuple[Any, Sides, Slow], freeze_mlps: bool) -> None:
    model, sides, slow = case
    found = direct_effects(model, sides, freeze_mlps=freeze_mlps)
    assert np.abs(found.heads).max() > 1e-4
    _same(found, lambda layer, head: slow.direct(layer, head, freeze_mlps), SOME)
    small = direct_effects(model, sides, freeze_mlps=freeze_mlps, rows=4)
    np.testing.assert_allclose(small.heads, found.heads, atol=1e-5)


@pytest.mark.parametrize("freeze_mlps", [False, True])
def test_paths_to_queries(case: tuple[Any, Sides, Slow], freeze_mlps: bool) -> None:
    model, sides, slow = case
    heads, last = ((1, 0), (1, 2), (2, 3)), sides.batch.clean.shape[1] - 1
    found = path_effects(model, sides, Receivers(heads, "q", last), freeze_mlps=freeze_mlps, rows=64)
    assert np.isnan(found.heads[2]).all() and np.nanmax(np.abs(found.heads)) > 1e-5
    _same(found, lambda layer, head: slow.through(layer, head, heads, "q", last, freeze_mlps), EARLY)


@pytest.mark.parametrize("side", ["k", "v"])
def test_paths_to_keys_and_values(case: tuple[Any, Sides, Slow], side: Any) -> None:
    """Of two layers, of whole groups and of parts of one, where query heads share keys and values."""
    model, sides, slow = case
    at, heads = 6, ((1, 0), (1, 1), (1, 3), (2, 1), (2, 3))
    found = path_effects(model, sides, Receivers(heads, side, at))
    assert np.nanmax(np.abs(found.heads)) > 1e-4
    _same(found, lambda layer, head: slow.through(layer, head, heads, side, at, False), EARLY)


def test_paths_at_a_position_of_each_pairs_own(case: tuple[Any, Sides, Slow]) -> None:
    model, sides, slow = case
    at, heads = (4, 8, 6), ((1, 1), (2, 0), (2, 2))
    found = path_effects(model, sides, Receivers(heads, "k", at))
    assert np.nanmax(np.abs(found.heads)) > 1e-4
    each = [slow.one(pair) for pair in range(3)]

    def expected(layer: int, head: int | None) -> Any:
        return torch.cat([one.through(layer, head, heads, "k", at[pair], False) for pair, one in enumerate(each)])

    _same(found, expected, [(0, 1), (1, None)])


def test_positions_that_prompts_do_not_have_are_refused() -> None:
    model = interp.load(tiny("llama"))
    sides = random_sides(model)
    for receivers, message in (
        (Receivers(((1, 7),), "q", 6), r"heads 0\.\.3"),
        (Receivers(((1, 0),), "q", 12), "position 12"),
        (Receivers(((1, 0),), "q", (3, 4)), "2 positions for 3 pairs"),
        (Receivers((), "q", 3), "no receivers"),
    ):
        with pytest.raises(interp.errors.UsageError, match=message):
            path_effects(model, sides, receivers)
    with pytest.raises(interp.errors.UsageError, match=r"layers \[3\]; the model has layers 0\.\.2"):
        total_effects(model, sides, layers=[0, 3])
    for positions, message in (
        ([12], r"\[12\] in prompts of 12 tokens"),
        ([], "in prompts of 12"),
        (torch.tensor([[1], [2]]), r"int64 \[3, positions\]"),
        (torch.tensor([[1], [2], [-1]]), "in prompts of 12"),
    ):
        for measured in (total_effects, attributions):
            with pytest.raises(interp.errors.UsageError, match=message):
                measured(model, sides, positions=positions)


def test_attributions_at_positions_of_each_pairs_own_add_up() -> None:
    model = interp.load(tiny("qwen3"))
    sides = random_sides(model)
    first, second = torch.tensor([[4, 5], [6, 7], [8, 9]]), torch.tensor([[4], [6], [8]])
    rest = torch.tensor([[at for at in range(12) if at not in own] for own in first.tolist()])
    whole, one, other = (attributions(model, sides, positions=at) for at in (None, first, rest))
    np.testing.assert_allclose(one.heads + other.heads, whole.heads, atol=1e-5)
    np.testing.assert_allclose(one.mlps + other.mlps, whole.mlps, atol=1e-5)
    same = [attributions(model, sides, positions=at) for at in (second[:1].expand(3, -1), [4])]
    np.testing.assert_array_equal(same[0].heads, same[1].heads)


def test_a_plan_of_chunks_leaves_attributions_as_they_are(case: tuple[Any, Sides, Slow]) -> None:
    """Half of their runs pass over blocks, whose KV caches stay empty."""
    model, sides, _ = case
    whole = attributions(model, sides, points=2)
    with within(Budget(chunk=4)):
        planned = attributions(model, sides, points=2)
    np.testing.assert_allclose(planned.heads, whole.heads, atol=1e-5)
    np.testing.assert_allclose(planned.mlps, whole.mlps, atol=1e-5)


def test_attributions_are_slopes(case: tuple[Any, Sides, Slow]) -> None:
    model, sides, slow = case
    found = attributions(model, sides)
    between = attributions(model, sides, points=2)
    start = slow.bridge.run_with_cache(sides.batch.clean)[1]["blocks.0.hook_resid_pre"]
    end = slow.bridge.run_with_cache(sides.batch.corrupt)[1]["blocks.0.hook_resid_pre"]
    for layer, head in ((0, 1), (1, 2), (2, None)):
        value, averaged = ((e.mlps[layer] if head is None else e.heads[layer, head]) for e in (found, between))
        np.testing.assert_allclose(value, slow.slope(layer, head), atol=2e-3, rtol=2e-2)
        halfway = slow.slope(layer, head, (start + end) / 2)
        np.testing.assert_allclose(averaged, (slow.slope(layer, head) + halfway) / 2, atol=2e-3, rtol=2e-2)
