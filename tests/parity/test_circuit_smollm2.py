"""Effects on SmolLM2: those of a loop over one head at a time with TransformerLens's hooks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from interp.circuits.dla import logit_parts
from interp.circuits.effects import Effects, direct_effects, total_effects
from interp.circuits.pairs import batch_of, pair_of
from interp.circuits.paths import Receivers, path_effects
from interp.circuits.states import Sides, sides_of
from probes.ioi import IOI
from tests.plain_circuits import Slow

SENDERS = ((0, 4), (11, 2), (22, 7), (29, 0), (16, None))
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def case(smollm2: Any) -> tuple[Sides, Slow]:
    """Two sentences of one length, whose prompts part at different tokens if the templates let them."""
    by_length: dict[int, list[Any]] = {}
    for prompt in IOI().prompts(smollm2, limit=16):
        by_length.setdefault(len(prompt), []).append(pair_of(prompt))
    alike = max(by_length.values(), key=len)
    batch = batch_of([alike[0], alike[-1]])
    return sides_of(smollm2, batch), Slow(smollm2.bridge(), batch.clean, batch.corrupt, batch.answer, batch.wrong)


def _same(found: Effects, slow: Any, senders: Any = SENDERS) -> None:
    for layer, head in senders:
        value = found.mlps[layer] if head is None else found.heads[layer, head]
        np.testing.assert_allclose(value, slow(layer, head), **TOLERANCE, err_msg=f"{layer}.{head}")
    assert np.nanmax(np.abs(found.heads)) > 0.1


def test_smollm2_prefers_the_indirect_object_and_the_twin_turns_it(case: tuple[Sides, Slow]) -> None:
    sides, slow = case
    np.testing.assert_allclose(sides.clean.difference, slow.before, **TOLERANCE)
    np.testing.assert_allclose(sides.corrupt.difference, slow.after, **TOLERANCE)
    assert (sides.clean.difference > 0).all() and (sides.gap < 0).all()


def test_smollm2_total(smollm2: Any, case: tuple[Sides, Slow]) -> None:
    sides, slow = case
    found = total_effects(smollm2, sides, layers=[layer for layer, _ in SENDERS])
    _same(found, slow.total)
    assert np.isnan(found.heads[1]).all() and np.isnan(found.mlps[1]).all()


@pytest.mark.parametrize("freeze_mlps", [False, True])
def test_smollm2_direct(smollm2: Any, case: tuple[Sides, Slow], freeze_mlps: bool) -> None:
    sides, slow = case
    found = direct_effects(smollm2, sides, freeze_mlps=freeze_mlps)
    _same(found, lambda layer, head: slow.direct(layer, head, freeze_mlps))


def test_smollm2_paths_to_the_values_of_two_layers(smollm2: Any, case: tuple[Sides, Slow]) -> None:
    """Query heads share keys and values three by three in this model."""
    sides, slow = case
    at, heads = sides.batch.differs, ((2, 4), (3, 1))
    found = path_effects(smollm2, sides, Receivers(heads, "v", at))
    for layer, head in ((0, 4), (1, None)):
        value = found.mlps[layer] if head is None else found.heads[layer, head]
        np.testing.assert_allclose(value, slow.through(layer, head, heads, "v", at, False), **TOLERANCE)


def test_smollm2_shares_add_up_to_the_logit_difference(smollm2: Any, case: tuple[Sides, Slow]) -> None:
    sides, slow = case
    parts = logit_parts(smollm2, sides)
    whole = parts.effects.heads.sum((0, 1)) + parts.effects.mlps.sum(0) + parts.start.numpy()
    np.testing.assert_allclose(whole, slow.before, atol=1e-3)
