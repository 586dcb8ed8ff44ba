"""Prefixes that prompts share: no bit of a result changes, nothing is left behind, and little memory is held."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

import interp
from interp.finders.base import Unit, prepare, release
from interp.interventions.ablate import ZeroHeads
from interp.registry import FINDERS
from interp.retrieval import cache
from interp.retrieval.cache import cut, feed, forget, fork, prefixes, remember, widened
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.measure import measured
from interp.tracing.tracer import trace
from tests.mass_finder import MassFinder, registered
from tests.retrieval_cases import random_task, tiny_model
from tests.tiny import tiny, tiny_tokenizer

FAMILIES = ["llama", "gemma3", "mistral", "gpt_oss", "gpt2", "bloom", "deepseek_v3"]
SHARED, WHOLE = (RetrievalConfig(random_tokens=0, share_prefix=share) for share in (True, False))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cache, "CHUNK", 16)
    yield


def remembered(model: Any) -> Any:
    return prefixes(model).memory


def same(left: Unit, right: Unit) -> bool:
    """Bit for bit."""
    return left.facts == right.facts and all(
        np.array_equal(left.arrays[name], right.arrays[name]) for name in left.arrays.keys() | right.arrays.keys()
    )


def tensors(one: Any) -> list[torch.Tensor]:
    return [tensor for layer in one.layers for tensor in (layer.keys, layer.values)]


@pytest.mark.parametrize("arch", FAMILIES)
def test_sharing_and_order_change_no_bit(arch: str, small_chunks: None) -> None:
    model = tiny_model(arch)
    tasks = [random_task(length, seed, steps=3, shared=length - 20) for length in (40, 90, 130) for seed in (0, 1)]
    alone = [measured(model, task.prompt, WHOLE) for task in tasks]
    for order in ([0, 1, 2, 3, 4, 5], [5, 0, 4, 2, 1, 3], [3, 2, 5, 5, 0, 1]):
        remember(model)
        assert not remembered(model).marks
        for index in order:
            assert same(measured(model, tasks[index].prompt, SHARED), alone[index])


@pytest.mark.parametrize("arch", ["llama", "gemma3"])
def test_chunks_of_their_real_size(arch: str) -> None:
    model = tiny_model(arch, max_position_embeddings=1024)
    first, second = (random_task(700, seed, shared=600) for seed in (0, 1))
    alone = measured(model, second.prompt, WHOLE)
    remember(model)
    measured(model, first.prompt, SHARED)
    assert sorted(remembered(model).marks) == [256, 512]
    fed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "feed", lambda model, ids, kept: fed.append(len(ids)) or feed(model, ids, kept))
        assert same(measured(model, second.prompt, SHARED), alone)
    assert fed == [700 - 512]


def test_a_chunked_read_is_the_prompt_read_at_once(small_chunks: None) -> None:
    model, ids = tiny_model("gemma3"), random_task(90).prompt.ids
    at_once, _ = feed(model, ids, None)
    in_chunks = prefixes(model).read(ids)
    for left, right in zip(tensors(at_once), tensors(in_chunks), strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=0)


def test_a_fork_goes_on_by_itself(small_chunks: None) -> None:
    for arch in FAMILIES:
        model, ids = tiny_model(arch), random_task(40).prompt.ids
        kept = prefixes(model).read(ids)
        before = [tensor.clone() for tensor in tensors(kept)]
        twin = fork(kept)
        assert all(a.data_ptr() == b.data_ptr() for a, b in zip(tensors(kept), tensors(twin), strict=True))
        feed(model, [3, 4, 5], twin)
        assert twin.get_seq_length() == len(ids) + 3 and kept.get_seq_length() == len(ids)
        assert all(torch.equal(a, b) for a, b in zip(tensors(kept), before, strict=True))


def test_a_widened_fork_gives_every_row_the_same(small_chunks: None) -> None:
    for arch in ("llama", "gemma3"):
        model, ids = tiny_model(arch), random_task(40).prompt.ids
        kept = prefixes(model).read(ids)
        _, one = feed(model, [5], fork(kept))
        _, many = feed(model, torch.tensor([[5]] * 3), widened(kept, 3))
        torch.testing.assert_close(many, one.expand(3, -1), atol=1e-5, rtol=0)
        assert kept.layers[0].keys.shape[0] == 1


def test_a_cut_of_full_layers_is_a_view(small_chunks: None) -> None:
    model, ids = tiny_model("llama"), random_task(90).prompt.ids
    remember(model)
    prefixes(model).read(ids)
    memory = remembered(model)
    assert sorted(memory.marks) == [16, 32, 48, 64, 80] and not any(memory.marks.values())
    for at, windows in memory.marks.items():
        short = cut(memory.cache, at, windows)
        assert short.get_seq_length() == at
        for part, whole in zip(tensors(short), tensors(memory.cache), strict=True):
            assert part.data_ptr() == whole.data_ptr() and part.shape[-2] == at


def test_windows_are_few_and_hold_no_more_than_themselves(small_chunks: None) -> None:
    model, ids = tiny_model("gemma3", max_position_embeddings=1024), random_task(400).prompt.ids
    remember(model)
    prefixes(model).read(ids)
    marks = remembered(model).marks
    assert len(marks) == cache.WINDOWS and max(marks) == 400 and max(np.diff([0, *sorted(marks)])) <= 128
    for windows in marks.values():
        assert sorted(windows) == [0, 2]  # the sliding layers
        for layer in windows.values():
            assert layer.keys.shape[-2] == 7 and layer.keys.untyped_storage().nbytes() == layer.keys.nbytes


@pytest.mark.parametrize("arch", ["llama", "gemma3"])
def test_an_interrupted_read_leaves_what_was_there(arch: str, small_chunks: None) -> None:
    model = tiny_model(arch)
    first, second = (random_task(90, seed, shared=40) for seed in (0, 1))
    alone = [measured(model, task.prompt, WHOLE) for task in (first, second)]
    remember(model)
    measured(model, first.prompt, SHARED)
    calls = []

    def stopped(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return feed(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "feed", stopped)
        with pytest.raises(KeyboardInterrupt):
            measured(model, second.prompt, SHARED)
    assert remembered(model).ids == first.prompt.ids[: first.tail]
    for task, expected in zip((first, second), alone, strict=True):
        assert same(measured(model, task.prompt, SHARED), expected)


def test_changed_weights_are_read_anew(small_chunks: None) -> None:
    model, task = tiny_model("llama"), random_task(60)
    remember(model)
    measured(model, task.prompt, SHARED)
    with torch.no_grad():
        model.hf.model.layers[1].mlp.down_proj.weight.mul_(3)
    assert same(measured(model, task.prompt, SHARED), measured(model, task.prompt, WHOLE))


def test_nothing_is_remembered_that_no_run_asked_for(small_chunks: None) -> None:
    """An edit of ``weight.data`` leaves no trace on the weights, so what was read before must not be there."""
    model, task = tiny_model("llama"), random_task(60)
    for begun in (lambda: None, lambda: remember(model)):  # without a run; and a run that begins after the edit
        measured(model, task.prompt, SHARED)
        model.hf.model.layers[1].mlp.down_proj.weight.data.mul_(3)
        begun()
        assert same(measured(model, task.prompt, SHARED), measured(model, task.prompt, WHOLE))


def test_what_an_edit_changes_is_neither_used_nor_kept(small_chunks: None) -> None:
    model, ids = tiny_model("llama"), random_task(60).prompt.ids
    remember(model)
    clean = prefixes(model).read(ids)
    edit = ZeroHeads([(0, 1)])
    with trace(model, edit=[edit]):
        edited = prefixes(model).read(ids)
    again = prefixes(model).read(ids)
    assert not torch.equal(edited.layers[2].keys, clean.layers[2].keys)
    assert all(torch.equal(a, b) for a, b in zip(tensors(again), tensors(clean), strict=True))


def test_an_unknown_kind_of_layer_is_copied_in_full() -> None:
    class InPlace(DynamicLayer):
        """Like a static cache: writes into its tensors."""

    kept = DynamicCache()
    kept.layers = [InPlace()]
    kept.update(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4), 0)
    assert not cache.shares(kept)
    twin = fork(kept)
    twin.layers[0].keys.zero_()
    assert kept.layers[0].keys.all() and twin.get_seq_length() == 3


def test_the_memory_goes_with_the_model() -> None:
    model = tiny_model("llama")
    remember(model)
    measured(model, random_task(40).prompt, SHARED)
    gone = weakref.ref(model.hf)
    del model
    gc.collect()
    assert gone() is None


def test_forgetting_frees_the_caches(small_chunks: None) -> None:
    model = tiny_model("llama")
    remember(model)
    prefixes(model).read(random_task(40).prompt.ids)
    kept = weakref.ref(remembered(model).cache)
    forget(model)
    gc.collect()
    assert kept() is None and remembered(model) is None


@pytest.mark.parametrize("stop_at", [None, 1])
def test_a_run_lets_its_finder_free_what_it_remembers(tmp_path: Path, stop_at: int | None) -> None:
    told = []
    model = interp.load(tiny("llama"), tokenizer=tiny_tokenizer())
    texts = {"one": "the cat sat.", "two": "a dog ran."}
    with registered() as finder:
        finder.stop_at = stop_at
        MassFinder.prepare = lambda self, model: told.append(("begun", model))  # type: ignore[attr-defined]
        MassFinder.release = lambda self, model: told.append(("over", model))  # type: ignore[attr-defined]
        try:
            interp.scan(model, find="mass", texts=texts, progress=False, out=tmp_path / "run")
        except KeyboardInterrupt:
            assert stop_at == 1
        finally:
            del MassFinder.prepare, MassFinder.release  # type: ignore[attr-defined]
    assert told == [("begun", model), ("over", model)]


@pytest.mark.parametrize("name", ["retrieval-heads", "heads"])
def test_the_finders_remember_during_a_run_alone(name: str) -> None:
    found, model = FINDERS.get(name), tiny_model("llama")
    prepare(found, model)
    assert remembered(model) is not None
    release(found, model)
    assert remembered(model) is None
