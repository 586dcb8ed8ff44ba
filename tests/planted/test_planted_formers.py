"""The formation finder names the MLP that was planted, with nearly all of the gain, and its check bears it out."""

from __future__ import annotations

import pytest

from interp.finders.formation_config import FormationConfig
from interp.finders.sink_formation import sink_formation
from interp.models.load import load
from tests.planted.builder import plant, replant, shuffled
from tests.planted.families import FAMILIES
from tests.planted.plan import FIXED, random_planting
from tests.planted.scan import as_prompt, scan

CONFIG = FormationConfig()
PLANTINGS = [random_planting(seed) for seed in range(5)]


@pytest.mark.parametrize("arch", FAMILIES)
def test_the_planted_mlp_is_named(arch: str) -> None:
    model = plant(arch)
    loaded = load(model, check=False)
    for number, planting in enumerate(PLANTINGS):
        replant(model, arch, number, planting)
        prompt = as_prompt(planting.prompt(300 + number))
        found = sink_formation.find(
            [prompt], [sink_formation.measure(loaded, prompt, CONFIG)], CONFIG, loaded.facts()
        ).records()
        named = sorted((row["position"], row["start_layer"], row["formed_by"]) for row in found)
        assert named == [(position, start, f"MLP {start}") for _, position, _, start, _ in planting.truth]
        for row in found:
            assert row["mlp_share"] > 0.95 and abs(row["attention_share"]) < 0.05, row


@pytest.mark.parametrize("arch", ["llama", "gpt_oss", "gemma3", "gpt_neox"])
def test_silencing_the_planted_mlp_unmakes_the_sinks(arch: str) -> None:
    model = plant(arch)
    check = scan(sink_formation, model, [FIXED.prompt(seed) for seed in range(8)], CONFIG).verification
    assert check is not None and check.verdict == "verified"
    shuffled(model)
    nothing = scan(sink_formation, model, [FIXED.prompt(seed) for seed in range(2)], CONFIG)
    assert nothing.records() == []
    assert nothing.verification is not None and nothing.verification.verdict == "nothing to verify"
