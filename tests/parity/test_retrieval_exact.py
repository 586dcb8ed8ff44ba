"""Retrieval scores against the slow computation: every head, every count, on all families and on SmolLM2."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from interp.errors import NumbersError
from interp.retrieval import cache
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.decode import decode
from interp.retrieval.measure import measured
from interp.retrieval.task import Task
from tests import plain_retrieval as plain
from tests.contracts.conftest import fingerprint
from tests.retrieval_cases import random_task, real_task, tiny_model
from tests.tiny import ARCHS

CONFIG = RetrievalConfig(random_tokens=0)
SEEDS = (0, 1, 2)


def compare(model: Any, task: Task, config: RetrievalConfig = CONFIG, **over: Any) -> int:
    """Every array of the unit against the slow way; how often some head copied."""
    before = fingerprint(model.hf)
    unit = measured(model, task.prompt, config)
    assert fingerprint(model.hf) == before
    arrays, ids = unit.arrays, task.prompt.ids
    slow = plain.score(model.hf, ids, task.span, task.max_new_tokens, **over)
    assert unit.facts["generated"] == slow["generated"] and unit.facts["steps"] == len(slow["generated"])
    assert np.array_equal(arrays["top_key"], np.array(slow["top_key"], np.int32))
    assert np.array_equal(arrays["copies"], np.array(slow["copies"], np.float32))
    assert np.array_equal(arrays["copies_released"], np.array(slow["released"], np.float32))
    assert np.array_equal(arrays["events"], np.array(slow["events"], np.int32))
    np.testing.assert_allclose(arrays["mass_in_needle"], slow["mass"], atol=1e-5, rtol=0)
    asked = np.array(plain.mass_from(model.hf, ids, task.query, task.sentence))
    unasked = (*ids[: task.tail], *task.null_tail)
    null = np.array(plain.mass_from(model.hf, unasked, task.null_query, task.sentence))
    np.testing.assert_allclose(arrays["qr_score"], asked - null, atol=1e-5, rtol=0)
    floats = ("copies", "copies_released", "mass_in_needle", "qr_score")
    assert {name: str(arrays[name].dtype) for name in arrays} == {
        **dict.fromkeys(floats, "float32"),
        **{"events": "int32", "top_key": "int32", "top_weight": "float16"},
    }
    return int(arrays["events"].sum())


@pytest.mark.parametrize("arch", ARCHS)
def test_every_family_equals_the_slow_way(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grouped and single KV heads, windows shorter than the prompt, sinks, ALiBi, latent attention; prefixes shared."""
    monkeypatch.setattr(cache, "CHUNK", 16)
    model = tiny_model(arch)
    compare(model, random_task(40, 0, shared=20))
    tasks = (random_task(40, seed, shared=20) for seed in range(1, 60))
    copying = next(task for task in tasks if measured(model, task.prompt, CONFIG).arrays["events"].any())
    assert compare(model, copying) > 0


def test_one_key_head_for_all_queries() -> None:
    model = tiny_model("llama", num_key_value_heads=1)
    assert sum(compare(model, random_task(40, seed)) for seed in SEEDS) > 0


@pytest.mark.parametrize("arch", ["llama", "gemma3", "gpt_oss"])
def test_a_needle_at_the_beginning(arch: str) -> None:
    """Out of reach of sliding layers, whose keys then begin behind it."""
    model, task = tiny_model(arch), random_task(40)
    unit = measured(model, replace_task(task, span=(0, 6), sentence=(0, 7)).prompt, CONFIG)
    sliding = [layer == "sliding_attention" for layer in getattr(model.config, "layer_types", None) or ["full"] * 3]
    assert not unit.arrays["mass_in_needle"][sliding].any() and unit.arrays["mass_in_needle"].any()
    compare(model, replace_task(task, span=(0, 6), sentence=(0, 7)))


def test_a_head_at_rest_on_its_learned_sink_copies_nothing() -> None:
    """However little is left for the keys, one of them is the best; the sink stands above it."""
    model = tiny_model("gpt_oss")
    tasks = (random_task(40, seed) for seed in range(60))
    copying = next(task for task in tasks if measured(model, task.prompt, CONFIG).arrays["events"].any())
    with torch.no_grad():
        for layer in model.hf.model.layers[1:]:
            layer.self_attn.sinks.fill_(25.0)
    compare(model, copying)
    arrays = measured(model, copying.prompt, CONFIG).arrays
    assert (arrays["top_key"][1:] == -1).all() and (arrays["top_weight"][1:] > 0.99).all()
    assert not arrays["events"][1:].any() and (arrays["top_key"][0] >= 0).any()
    with torch.no_grad():
        model.hf.model.layers[0].self_attn.sinks.fill_(25.0)
    assert not measured(model, copying.prompt, CONFIG).arrays["copies"].any()


def replace_task(task: Task, **changes: Any) -> Task:
    changed = replace(task, **changes)
    return replace(changed, prompt=replace(changed.prompt, extra=changed.as_extra()))


def test_an_end_token_ends_the_answer() -> None:
    model, task = tiny_model("llama"), random_task(40)
    free = measured(model, task.prompt, CONFIG).facts["generated"]
    model.hf.generation_config.eos_token_id = free[3]
    stops = measured(model, task.prompt, CONFIG).facts["generated"]
    assert stops == free[: free.index(free[3]) + 1]
    compare(model, task, over=lambda ids: ids[-1] == free[3])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("arch", ["llama", "gemma3", "gpt_oss", "bloom"])
def test_half_precision_runs(arch: str, dtype: torch.dtype) -> None:
    model = tiny_model(arch)
    model.hf.to(dtype)
    arrays = measured(model, random_task(40).prompt, CONFIG).arrays
    assert all(np.isfinite(one).all() for one in arrays.values()) and arrays["copies"].dtype == np.float32


def test_logits_that_are_not_finite_are_an_error() -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.hf.lm_head.weight[3, 0] = float("nan")
    with pytest.raises(NumbersError, match=r"random 0.*not finite after 0 generated.*float32"):
        decode(model, random_task(40), CONFIG)


@pytest.mark.parametrize("arch", ["llama", "gemma3", "gpt_oss", "gpt2", "bloom", "falcon", "mistral", "deepseek_v3"])
def test_decodes_what_generate_does(arch: str) -> None:
    model, task = tiny_model(arch), random_task(60, steps=30)
    assert generated(model, task) == list(decode(model, task, CONFIG).ids)


def generated(model: Any, task: Task, **settings: Any) -> list[int]:
    """The ids of Hugging Face's own greedy generation."""
    ids = torch.tensor([task.prompt.ids])
    settings = {"max_new_tokens": task.max_new_tokens, "do_sample": False, "pad_token_id": 0, **settings}
    out = model.hf.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    return out[0, ids.shape[1] :].tolist()


def test_smollm2_equals_the_slow_way(smollm2: Any) -> None:
    task = real_task(smollm2)
    tokenizer = smollm2.tokenizer
    over = {"over": lambda ids: ids[-1] in (0, 2) or "\n" in tokenizer.decode(ids).lstrip()}
    unit = measured(smollm2, task.prompt, CONFIG)
    assert unit.facts["text"].startswith("inside a blue teapot on the third shelf")
    assert unit.facts["recall"] == 1 and unit.facts["exact"] is True
    assert compare(smollm2, task, **over) > 20
    assert (unit.arrays["copies"] >= 0.1).sum() > 5 and (unit.arrays["copies"] == 0).mean() > 0.5


def test_gemma_equals_the_slow_way_beyond_its_window(gemma3: Any) -> None:
    """The needle stands outside the window of the sliding layers, 15 of 18, which then see none of it."""
    task = real_task(gemma3, before=3, after=18, steps=2)
    assert len(task.prompt.ids) - task.sentence[1] > 512 > cache.CHUNK
    compare(gemma3, task)
    mass = measured(gemma3, task.prompt, CONFIG).arrays["mass_in_needle"]
    sliding = np.array([kind == "sliding_attention" for kind in gemma3.config.layer_types])
    assert not mass[sliding].any() and mass[~sliding].any()


def test_smollm2_decodes_what_generate_does(smollm2: Any) -> None:
    task, free = real_task(smollm2, before=3, steps=24), replace(CONFIG, stop_at_newline=False)
    assert generated(smollm2, task, pad_token_id=2) == list(decode(smollm2, task, free).ids)
