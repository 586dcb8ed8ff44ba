"""Effects of every head and MLP, equal to a slow loop over TransformerLens's hooks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.circuits.attribution import attributions
from interp.circuits.effects import Effects, direct_effects, total_effects
from interp.circuits.pairs import Pair, batch_of
from interp.circuits.paths import Receivers, path_effects
from interp.circuits.states import Sides, sides_of
from probes.base import Prompt
from tests.contracts.conftest import fingerprint
from tests.plain_circuits import Slow
from tests.tiny import tiny

FAMILIES = ("llama", "qwen3", "gpt2", "gemma2", "gemma3", "gpt_neox")
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


def _sides(model: Any, length: int = 12, pairs: int = 3, first: int = 4, vocab: int = 100) -> Sides:
    generator = torch.Generator().manual_seed(5)
    made = []
    for index in range(pairs):
        clean = torch.randint(3, vocab, (length,), generator=generator)
        corrupt = clean.clone()
        corrupt[first + index] = (clean[first + index] + 7) % vocab
        prompt = Prompt(f"p{index}", "", tuple(clean.tolist()), tuple("x" * length))
        wrong = (20 + index,) if index else (30, 31)
        made.append(Pair(prompt, tuple(corrupt.tolist()), 10 + index, wrong))
    return sides_of(model, batch_of(made))


def _slow(model: Any, sides: Sides) -> Slow:
    batch = sides.batch
    return Slow(model.bridge(), batch.clean, batch.corrupt, batch.answer, batch.wrong)


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest) -> tuple[Any, Sides, Slow]:
    model = interp.load(tiny(request.param))
    sides = _sides(model)
    return model, sides, _slow(model, sides)


def _same(found: Effects, slow: Any, n_layers: int, n_heads: int) -> None:
    for layer in range(n_layers):
        for head in range(n_heads):
            np.testing.assert_allclose(found.heads[layer, head], slow(layer, head), **TOLERANCE)
        np.testing.assert_allclose(found.mlps[layer], slow(layer, None), **TOLERANCE)


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
    _same(found, slow.total, model.n_layers, model.n_heads)


def test_total_at_chosen_positions_and_in_small_batches(case: tuple[Any, Sides, Slow]) -> None:
    model, sides, slow = case
    found = total_effects(model, sides, positions=[2, 6], rows=40)
    _same(found, lambda layer, head: slow.total(layer, head, [2, 6]), model.n_layers, model.n_heads)


@pytest.mark.parametrize("freeze_mlps", [False, True])
def test_direct(case: tuple[Any, Sides, Slow], freeze_mlps: bool) -> None:
    model, sides, slow = case
    found = direct_effects(model, sides, freeze_mlps=freeze_mlps)
    assert np.abs(found.heads).max() > 1e-4
    _same(found, lambda layer, head: slow.direct(layer, head, freeze_mlps), model.n_layers, model.n_heads)
    small = direct_effects(model, sides, freeze_mlps=freeze_mlps, rows=4)
    np.testing.assert_allclose(small.heads, found.heads, atol=1e-5)


@pytest.mark.parametrize("freeze_mlps", [False, True])
def test_paths_to_queries(case: tuple[Any, Sides, Slow], freeze_mlps: bool) -> None:
    model, sides, slow = case
    heads, last = ((1, 0), (1, 2), (2, 3)), sides.batch.clean.shape[1] - 1
    found = path_effects(model, sides, Receivers(heads, "q", last), freeze_mlps=freeze_mlps, rows=64)
    assert np.isnan(found.heads[2]).all() and np.nanmax(np.abs(found.heads)) > 1e-5
    for layer in (0, 1):
        for head in (0, 3):
            expected = slow.through(layer, head, heads, "q", last, freeze_mlps)
            np.testing.assert_allclose(found.heads[layer, head], expected, **TOLERANCE)
        np.testing.assert_allclose(
            found.mlps[layer], slow.through(layer, None, heads, "q", last, freeze_mlps), **TOLERANCE
        )


@pytest.mark.parametrize("side", ["k", "v"])
def test_paths_to_keys_and_values(case: tuple[Any, Sides, Slow], side: Any) -> None:
    model, sides, slow = case
    at, heads = 6, ((2, 1), (2, 3))
    found = path_effects(model, sides, Receivers(heads, side, at))
    for layer, head in ((0, 1), (1, 2), (1, None)):
        value = found.mlps[layer] if head is None else found.heads[layer, head]
        np.testing.assert_allclose(value, slow.through(layer, head, heads, side, at, False), **TOLERANCE)


def test_receivers_that_cannot_be_told_apart_are_refused() -> None:
    model = interp.load(tiny("llama"))
    sides = _sides(model)
    with pytest.raises(interp.errors.UsageError, match="one layer at a time"):
        path_effects(model, sides, Receivers(((1, 0), (2, 0)), "k", 6))
    with pytest.raises(interp.errors.UsageError, match=r"heads 0\.\.3"):
        path_effects(model, sides, Receivers(((1, 7),), "q", 6))
    with pytest.raises(interp.errors.UsageError, match="position 12"):
        path_effects(model, sides, Receivers(((1, 0),), "q", 12))


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
