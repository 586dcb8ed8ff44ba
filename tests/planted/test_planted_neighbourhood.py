"""Planted sinks are massive in the planted dimensions, stand out by the planted length, and compress the states."""

from __future__ import annotations

import numpy as np
import pytest

from interp.finders.massive_activations import massive_activations
from interp.finders.massive_measure import MassiveConfig
from interp.finders.sink_config import SinksConfig
from interp.finders.sink_neighbourhood import sink_neighbourhood
from tests.planted.builder import plant, shuffled
from tests.planted.plan import LENGTH, PLANTED, SINK, prompt
from tests.planted.scan import scan

EACH_FORM = pytest.mark.parametrize("arch", ["llama", "gemma3", "gpt2", "gpt_neox", "gpt_oss"])
CONFIG = MassiveConfig(ratio=100.0)
"""A planted sink holds 141 in each of two dimensions, some hundred times the median."""
DIMS = (2 * SINK, 2 * SINK + 1)


@EACH_FORM
def test_massive_in_the_sink_dimensions_where_and_while_planted(arch: str) -> None:
    found = scan(massive_activations, plant(arch), [prompt(seed) for seed in (3, 4)], CONFIG)
    got = {
        (row["prompt"], row["position"], row["dim"], row["first_layer"], row["last_layer"], row["layers"], row["sink"])
        for row in found.records()
    }
    assert got == {
        (f"text {i}", one.position, dim, one.start, one.start + one.lifetime - 1, one.lifetime, one.kind)
        for i in range(2)
        for one in PLANTED
        for dim in DIMS
    }
    for row in found.records():
        sign = 1 if row["dim"] == DIMS[0] else -1
        assert row["value"] == pytest.approx(sign * LENGTH / 2**0.5, rel=0.05)
    assert found.summary["claims"]["massive.at_sinks"]["mean"] == 1
    assert found.summary["claims"]["massive.deviation"]["mean"] < 0.05
    assert found.verification is not None and found.verification.effect is not None


def test_none_in_shuffled_weights() -> None:
    found = scan(massive_activations, shuffled(plant("llama")), [prompt(3), prompt(4)], CONFIG)
    assert len(found.table) == 0 and "No massive activation" in found.verdict
    assert found.verification is not None and found.verification.verdict == "nothing to verify"
    assert found.summary["claims"]["massive.largest_ratio"]["n"] == 2
    largest = {sheet.name: sheet for sheet in found.sheets}["massive_largest"]
    assert [row[0] for row in largest.rows] == ["text 0", "text 1"]


@EACH_FORM
def test_shortening_the_anchor_undoes_its_share_of_the_compression(arch: str) -> None:
    found = scan(sink_neighbourhood, plant(arch), [prompt(seed) for seed in range(8)], SinksConfig())
    anchor = PLANTED[0]
    life = slice(anchor.start, anchor.start + anchor.lifetime)
    table = found.table
    outside = np.delete(table["anisotropy"].to_numpy(), np.arange(12)[life])
    assert table["anisotropy"].to_numpy()[life].min() > 0.9 > 0.6 > outside.max()
    assert table["anisotropy_rest"].max() < 0.6
    assert table["norm_anchor"].to_numpy()[life].min() > 10
    others = {one.start + i for one in PLANTED[1:] for i in range(one.lifetime)}
    assert {int(layer) for layer in table["layer"][table["norm_others"].notna()]} == others
    check = found.verification
    assert check is not None and check.verdict == "verified"
    assert check.effect is not None and check.control is not None and check.effect < -0.1 and abs(check.control) < 0.01
