"""Retrieval scores on a GPU: the slow way on that device gives the same; ready to run wherever there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interp.retrieval import cache
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.measure import measured
from tests import plain_retrieval as plain
from tests.retrieval_cases import random_task, tiny_model

pytestmark = pytest.mark.cuda
SHARED, WHOLE = (RetrievalConfig(random_tokens=0, share_prefix=share) for share in (True, False))


@pytest.mark.parametrize("arch", ["llama", "gemma3", "gpt_oss", "gpt2", "bloom", "falcon", "deepseek_v3"])
def test_the_slow_way_agrees_on_cuda(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CHUNK", 16)
    model = tiny_model(arch)
    model.hf.cuda()
    for task in (random_task(40, 0, shared=20), random_task(40, 1, shared=20)):
        unit = measured(model, task.prompt, SHARED)
        slow = plain.score(model.hf, task.prompt.ids, task.span, task.max_new_tokens)
        assert unit.facts["generated"] == slow["generated"]
        assert np.array_equal(unit.arrays["events"], np.array(slow["events"]))
        np.testing.assert_allclose(unit.arrays["mass_in_needle"], slow["mass"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("arch", ["llama", "gemma3"])
def test_sharing_changes_no_bit_on_cuda(arch: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CHUNK", 16)
    model = tiny_model(arch)
    model.hf.to("cuda", dtype)
    first, second = (random_task(90, seed, shared=60).prompt for seed in (0, 1))
    alone = measured(model, second, WHOLE)
    measured(model, first, SHARED)
    shared = measured(model, second, SHARED)
    assert shared.facts == alone.facts
    assert all(np.array_equal(shared.arrays[name], alone.arrays[name]) for name in alone.arrays)
