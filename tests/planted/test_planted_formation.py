"""Formation, planted: the MLP of a sink's start block writes it, alone. Plain arithmetic on states comes first: any
finder of the forming module has to agree with it."""

from __future__ import annotations

import pytest
import torch

from interp.models.load import load
from interp.tracing.tracer import trace
from tests.planted.builder import plant, replant
from tests.planted.families import FAMILIES
from tests.planted.plan import random_planting

PLANTINGS = [random_planting(seed) for seed in range(5)]


@pytest.mark.parametrize("arch", FAMILIES)
def test_the_planted_block_and_its_mlp_write_the_sink(arch: str) -> None:
    """The states that enter and leave the blocks say which block writes `SINK`, its MLP's part how much is its own."""
    model = plant(arch)
    loaded = load(model, check=False)
    for number, planting in enumerate(PLANTINGS):
        replant(model, arch, number, planting)
        with trace(loaded, read=["blocks.*.hook_resid_pre", "blocks.*.hook_resid_post", "blocks.*.hook_mlp_out"]) as t:
            t.run(list(planting.prompt(200 + number)))
            for sink in planting.sinks:
                before, after, mlp = (
                    torch.stack(
                        [t[f"blocks.{layer}.{site}"][0, sink.position] @ sink.axis for layer in range(loaded.n_layers)]
                    )
                    for site in ("hook_resid_pre", "hook_resid_post", "hook_mlp_out")
                )
                written = after - before
                assert int(written.argmax()) == sink.start
                assert float(written[sink.start]) == pytest.approx(sink.length, rel=0.02)
                assert float(mlp[sink.start] / written[sink.start]) > 0.99
                others = [layer for layer in range(loaded.n_layers) if layer != sink.start]
                assert float(written[others].max()) < 0.02 * sink.length
