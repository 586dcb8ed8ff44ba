"""Random plantings: twenty an architecture, each found without a miss and without a finding too many."""

from __future__ import annotations

import numpy as np
import pytest

from interp.finders.sink_config import SinksConfig
from interp.finders.sink_found import found_sinks
from interp.models.load import load
from tests.planted.builder import plant, replant, shuffled
from tests.planted.families import FAMILIES
from tests.planted.plan import random_planting
from tests.planted.scan import as_prompt

CONFIG = SinksConfig()
PLANTINGS = [random_planting(seed) for seed in range(20)]


@pytest.mark.parametrize("arch", FAMILIES)
def test_random_plantings_are_found_exactly(arch: str) -> None:
    model = plant(arch)
    loaded = load(model, check=False)
    for number, planting in enumerate(PLANTINGS):
        replant(model, arch, number, planting)
        ids = planting.prompt(100 + number)
        found = found_sinks(loaded, as_prompt(ids), CONFIG)
        rows = [(ids[sink.position], sink.position, sink.kind, sink.start, sink.lifetime) for sink in found.sinks]
        assert rows == planting.truth, (number, planting)
        lengths = {one.position: one.length for one in planting.sinks}
        for sink in found.sinks:
            norms = found.measured.norm[list(sink.layers), sink.position]
            assert norms == pytest.approx(lengths[sink.position], rel=0.02), (number, planting)


def test_plantings_differ_in_everything_that_is_drawn() -> None:
    kinds = [sorted(one.kind for one in planting.sinks) for planting in PLANTINGS]
    assert {row.count("secondary") for row in kinds} == {1, 2, 3, 4}
    assert {row.count("transient") for row in kinds} == {0, 1} and {row.count("primary") for row in kinds} == {1, 2}
    anchors = [planting.sinks[0] for planting in PLANTINGS]
    assert {anchor.start for anchor in anchors} == {0, 1, 2, 3}
    assert any(anchor.position == 0 for anchor in anchors) and len({anchor.position for anchor in anchors}) > 5
    secondaries = [one for planting in PLANTINGS for one in planting.sinks if one.kind == "secondary"]
    assert len({one.start for one in secondaries}) > 5 and len({one.lifetime for one in secondaries}) > 5


@pytest.mark.parametrize("arch", FAMILIES)
def test_each_decoy_lacks_one_thing(arch: str) -> None:
    """Long, attended, aligned with the anchor: each has two of them, far beyond or far short of what the rule asks."""
    planting = PLANTINGS[0]
    model = plant(arch, 0, planting)
    measured = found_sinks(load(model, check=False), as_prompt(planting.prompt(100)), CONFIG).measured
    times = measured.norm / np.median(measured.norm, axis=1, keepdims=True)
    mass = measured.received.mean(axis=1)
    anchor, aside = planting.sinks[0], planting.decoys[1]
    life = list(range(aside.start, aside.start + aside.lifetime))
    assert anchor.start <= life[0] and life[-1] < anchor.start + anchor.lifetime
    for decoy in planting.decoys:
        at, lacks = decoy.position, decoy.kind
        assert (times[life, at] > 5 * CONFIG.norm).all() == (lacks != "short")
        assert (mass[[layer + 1 for layer in life], at] > 2 * CONFIG.floor).all() == (lacks != "ignored")
        assert (measured.cosine[life, at] > 0.99).all() == (lacks == "ignored")
    short, ignored = planting.decoys[0].position, planting.decoys[2].position
    assert times[:, short].max() < CONFIG.norm and mass[1:, ignored].max() < CONFIG.floor
    assert measured.cosine[life, aside.position].max() < CONFIG.cosine / 2


@pytest.mark.parametrize("arch", FAMILIES)
def test_none_in_the_same_weights_shuffled(arch: str) -> None:
    model = plant(arch)
    loaded = load(model, check=False)
    for number, planting in enumerate(PLANTINGS[:6]):
        replant(model, arch, number, planting)
        shuffled(model, seed=number)
        found = found_sinks(loaded, as_prompt(planting.prompt(100 + number)), CONFIG)
        assert found.sinks == () and found.anchor is None, (number, planting)
