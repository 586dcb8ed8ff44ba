"""The released rule on a model deep enough for it (more than 20 blocks): its kinds, starts and lifetimes are those
planted."""

from __future__ import annotations

import pytest

from interp.finders.sink_config import SinksConfig
from interp.finders.sink_found import Found, found_sinks
from interp.models.load import load
from tests.planted.builder import plant
from tests.planted.plan import Planting, deep_planting
from tests.planted.scan import as_prompt

DEEP = 36


def found(planting: Planting, seed: int, rule: str) -> Found:
    loaded = load(plant("llama", seed, planting, num_hidden_layers=DEEP), check=False)
    ids = planting.prompt(50 + seed)
    return found_sinks(loaded, as_prompt(ids), SinksConfig(rule=rule))  # pyright: ignore


@pytest.mark.parametrize("seed", range(6))
def test_released_rule_finds_what_was_planted(seed: int) -> None:
    planting = deep_planting(seed, DEEP)
    assert {one.kind for one in planting.sinks} == {"primary", "secondary", "transient"}
    seen = found(planting, seed, "wong2025")
    assert seen.anchor == planting.sinks[0].position
    rows = [(planting.prompt()[one.position], one.position, one.kind, one.start, one.lifetime) for one in seen.sinks]
    assert sorted(rows, key=lambda row: row[1]) == planting.truth


def test_both_rules_see_the_same_spans_in_a_deep_model() -> None:
    planting = deep_planting(0, DEEP)
    spans = [
        sorted((one.position, one.start, one.lifetime) for one in found(planting, 0, rule).sinks)
        for rule in ("relative", "wong2025")
    ]
    assert spans[0] == spans[1] == [(position, start, lifetime) for _, position, _, start, lifetime in planting.truth]
