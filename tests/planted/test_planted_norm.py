"""The norm law, planted: a fading sink lives as long as the length its MLP wrote allows, block by block.

Every block after the start takes `FADE` away, whatever the length, so a written length gives a known lifetime. In most
families that length can be set in two places: where the MLP's output joins the residual stream, and in the neuron's
weights. Post-norm families give whatever their MLP writes the norm's own length, so there only the first place counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from interp.finders.norm_law_config import NormLawConfig
from interp.finders.sink_config import SinksConfig
from interp.finders.sink_found import found_sinks
from interp.finders.sink_norm_law import norm_law
from interp.interventions.positions import SetNorm
from interp.models.load import load
from interp.tracing.tracer import trace
from tests.planted.builder import plant
from tests.planted.families import FAMILIES
from tests.planted.plan import Planted, Planting, lifetime_of
from tests.planted.scan import as_prompt, scan

CONFIG = SinksConfig()
FADE = 60.0
FADING = Planted(31, 20, "secondary", 3, lifetime_of(6.5 * FADE, FADE), 6.5 * FADE, FADE)
STEADY = (Planted(17, 0, "primary", 1, 10, 400.0), Planted(90, 33, "secondary", 4, 5, 150.0))
PLANTING = Planting((STEADY[0], FADING, STEADY[1]))
LENGTHS = (0.0, *(FADE * (blocks + 0.5) for blocks in range(7)))
EXPECTED = [0, 0, 2, 3, 4, 5, 6, 7]
IDS = PLANTING.prompt(5)
POST_NORM = {"gemma2", "gemma3", "olmo2"}


def test_planted_lifetimes_are_what_the_sweep_expects() -> None:
    assert [lifetime_of(length, FADE) for length in LENGTHS] == EXPECTED


def lifetime_seen(loaded: Any) -> int:
    """Of the fading sink; the others must be there as planted."""
    found = found_sinks(loaded, as_prompt(IDS), CONFIG)
    spans = {(sink.position, sink.start, sink.lifetime, sink.kind) for sink in found.sinks}
    steady = {(one.position, one.start, one.lifetime, one.kind) for one in STEADY}
    assert steady <= spans
    own = spans - steady
    assert {(position, start, kind) for position, start, _, kind in own} <= {(20, 3, "secondary")}
    return max((lifetime for _, _, lifetime, _ in own), default=0)


@pytest.mark.parametrize("arch", FAMILIES)
def test_lifetime_follows_the_length_written(arch: str) -> None:
    loaded = load(plant(arch, 3, PLANTING), check=False)
    assert lifetime_seen(loaded) == FADING.lifetime
    seen = []
    for length in LENGTHS:
        with trace(loaded, edit=[SetNorm([f"blocks.{FADING.start}.hook_mlp_out"], [FADING.position], length)]):
            seen.append(lifetime_seen(loaded))
    assert seen == EXPECTED


@pytest.mark.parametrize("arch", [name for name in FAMILIES if name not in POST_NORM])
def test_lifetime_follows_the_weights(arch: str) -> None:
    model = plant(arch, 3, PLANTING)
    loaded = load(model, check=False)
    seen = []
    for length in LENGTHS:
        with down_scaled(model, arch, length / FADING.length):
            seen.append(lifetime_seen(loaded))
    assert seen == EXPECTED
    assert lifetime_seen(loaded) == FADING.lifetime


@pytest.mark.parametrize("arch", sorted(POST_NORM))
def test_a_post_norm_sets_the_length_by_itself(arch: str) -> None:
    model = plant(arch, 3, PLANTING)
    loaded = load(model, check=False)
    for factor in (0.25, 4.0):
        with down_scaled(model, arch, factor):
            assert lifetime_seen(loaded) == FADING.lifetime


class down_scaled:
    """The forming MLP's output weights times a factor, while the `with` block lasts."""

    def __init__(self, model: Any, arch: str, factor: float) -> None:
        family = FAMILIES[arch]
        block = family.read(family.blocks(model)[FADING.start])
        self.downs, self.factor = [expert.down for expert in block.experts], factor
        self.before = [down.detach().clone() for down in self.downs]

    @torch.no_grad()
    def __enter__(self) -> None:
        for down in self.downs:
            down.mul_(self.factor)

    @torch.no_grad()
    def __exit__(self, *_: object) -> None:
        for down, before in zip(self.downs, self.before, strict=True):
            down.copy_(before)


@pytest.mark.parametrize("arch", FAMILIES)
def test_every_block_takes_the_same_away(arch: str) -> None:
    """The premise: a fixed length, whatever is there."""
    loaded = load(plant(arch, 3, PLANTING), check=False)
    found = found_sinks(loaded, as_prompt(IDS), CONFIG)
    norms = found.measured.norm[3:9, FADING.position]
    assert np.diff(norms) == pytest.approx([-FADE] * 5, rel=0.03)


@pytest.mark.parametrize("arch", FAMILIES)
def test_the_norm_law_finder_gets_the_planted_response(arch: str) -> None:
    """Lifetime at each target norm; ordinary tokens that get the sink direction written become sinks."""
    planting = Planting((STEADY[0], FADING))
    config = NormLawConfig(sweep=tuple(length / FADING.length for length in LENGTHS))
    findings = scan(norm_law, plant(arch, 4, planting), [planting.prompt(6)], config)
    curve = findings.summary["doses"]["secondary"]
    assert [one["lifetime"]["mean"] for one in curve] == EXPECTED
    assert [one["norm"]["mean"] for one in curve] == pytest.approx(LENGTHS, rel=0.02)
    claims = findings.summary["claims"]
    assert claims["correlation.lifetime.causal"]["mean"] > 0.95
    assert claims["correlation.lifetime.graded"]["mean"] > 0.95  # also without the lengths at which nothing is left
    assert claims["reverse.became_sinks"]["mean"] == 1.0 and claims["reverse.random_became_sinks"]["mean"] == 0.0
    row = next(row for row in findings.records() if row["position"] == FADING.position)
    assert row["forming_layer"] == FADING.start and row["lifetime"] == FADING.lifetime
    assert row["mlp_norm"] == pytest.approx(FADING.length, rel=0.02)
