"""The circuit finder when memory runs out: what runs side by side gets less, the numbers stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.circuits import states
from interp.circuits.knockout import Knockout
from interp.tracing.budget import Budget, within
from tests.able_pairs import able_pairs
from tests.tiny import tiny, tiny_tokenizer

SMALL: dict[str, Any] = {"share": 0.2, "least": 1, "resamples": 5, "subsets": 1, "points": 1, "controls": 1}
N, LENGTH = 8, 12
SIDE_BY_SIDE = N * LENGTH
"""Tokens: of all pairs."""


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return interp.load(tiny("llama"), tokenizer=tiny_tokenizer(128), check=False)


class Allocator:
    """Nothing for more than `most` tokens side by side."""

    def __init__(self, most: int):
        self.most, self.failed, self.largest = most, 0, 0

    def __call__(self, module: Any, args: tuple) -> None:
        tokens = args[0].numel()
        if tokens > self.most:
            self.failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")
        self.largest = max(self.largest, tokens)


@pytest.mark.parametrize(
    "config", [{"knockout": "mean"}, {"knockout": "resample", "curves": True}], ids=["mean", "resample"]
)
def test_fewer_pairs_side_by_side_and_the_same_numbers(
    config: dict[str, Any], model: interp.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = able_pairs(model, N, lengths=(LENGTH,))
    # all pairs' states fit at full sizes, not at smaller ones
    monkeypatch.setattr(states, "bytes_of_a_token", lambda model: Budget.states // SIDE_BY_SIDE)

    def scan(name: str) -> interp.ScanResult:
        settings = {**SMALL, "tokens": SIDE_BY_SIDE, **config}
        return interp.scan(model, find="circuit", prompts=prompts, out=tmp_path / name, config=settings, progress=False)

    before = scan("before")
    fake = Allocator(SIDE_BY_SIDE // 4)
    handle = model.hf.get_input_embeddings().register_forward_pre_hook(fake)
    try:
        after = scan("after")
    finally:
        handle.remove()
    assert fake.failed == 2 and fake.largest == SIDE_BY_SIDE // 4  # a half, then a quarter
    assert "Memory ran out 2 times" in after.findings.caveats[-1]
    one, other = before.findings, after.findings
    assert one.summary["circuit"] == other.summary["circuit"]
    assert set(one.arrays) == set(other.arrays) and one.arrays
    for name, array in one.arrays.items():
        np.testing.assert_allclose(other.arrays[name], array, atol=2e-5, err_msg=name)
    ways = one.summary["evaluation"]["faithfulness"]
    assert {"mean", "zero", "resample"} <= set(ways)
    for how, told in ways.items():
        again = other.summary["evaluation"]["faithfulness"][how]
        for figure in ("whole", "empty", "circuit"):
            assert again[figure]["mean"] == pytest.approx(told[figure]["mean"], abs=2e-5), (how, figure)


def test_known_runs_are_forgotten_when_there_is_less_room(model: interp.Model) -> None:
    prompts = able_pairs(model, N, lengths=(LENGTH,))
    knockout = Knockout(model, prompts, "zero", tokens=SIDE_BY_SIDE)
    knockout.remember([(0, 0)])
    out = [(0, 0), (1, 1)]
    whole = knockout.difference(out)
    assert [len(group.indices) for group in knockout.groups] == [N] and len(knockout.groups[0].bases) == 2
    with within(Budget(states=Budget.states // 4)):
        assert [len(group.indices) for group in knockout.groups] == [N // 4] * 4
        assert not any(group.bases for group in knockout.groups)
        np.testing.assert_allclose(knockout.difference(out), whole, atol=1e-5)
