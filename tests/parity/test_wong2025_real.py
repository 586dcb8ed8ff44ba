"""The released rule against a plain transcription of it: the same anchor, layers and kinds, position by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from interp.finders.sink_config import SinksConfig
from interp.finders.sink_found import found_sinks
from interp.models.load import load
from interp.models.model import Model
from interp.resources import data_path
from probes.base import Prompt
from probes.problems import probe
from tests import plain_wong2025
from tests.plain_wong2025 import Released
from tests.tiny import tiny

CONFIG = SinksConfig(rule="wong2025")
KIND = {"primary": "primary", "secondary": "secondary", "transient": "noise"}


def both(model: Model, ids: Sequence[int]) -> Released:
    """The rule both ways on one prompt; everything must be equal."""
    hidden = plain_wong2025.states(model.hf, model.sites.block(model.n_layers - 1), ids)
    plain = plain_wong2025.released(hidden, model.chat)
    prompt = Prompt("shared", "", tuple(ids), model.decode_tokens(ids))
    found = found_sinks(model, prompt, CONFIG)
    if plain.end <= plain.start:
        assert found.sinks == ()
        return plain
    anchor, *others = found.sinks
    assert (anchor.position, anchor.kind, anchor.start) == (plain.anchor, "primary", plain.start)
    assert anchor.layers == tuple(range(plain.start, plain.end))
    assert {sink.position: list(sink.layers) for sink in others} == plain.layers
    assert {sink.position: KIND[sink.kind] for sink in others} == plain.kinds
    assert all(sink.start == sink.layers[0] and sink.lifetime == len(sink.layers) for sink in others)
    return plain


@pytest.mark.parametrize("arch", ["llama", "qwen3", "gemma3", "gpt2", "gpt_neox", "olmo2"])
@pytest.mark.parametrize("seed", range(3))
def test_tiny_models(arch: str, seed: int) -> None:
    model = load(tiny(arch, seed), check=False)
    both(model, [(7 * i + seed * i * i + 5) % 120 + 4 for i in range(40)])


@pytest.mark.parametrize("seed", [1, 16])
def test_deep_tiny_models_where_every_kind_occurs(seed: int) -> None:
    model = load(tiny("llama", seed, num_hidden_layers=24, hidden_size=8, intermediate_size=8), check=False)
    plain = both(model, [(7 * i + seed * i * i + 5) % 120 + 4 for i in range(120)])
    assert set(plain.kinds.values()) == {"primary", "secondary", "noise"}


def text_ids(model: Model, name: str, tokens: int) -> list[int]:
    assert model.tokenizer is not None
    text = data_path("texts", f"{name}.txt").read_text(encoding="utf-8")
    return [model.tokenizer.bos_token_id, *model.tokenizer(text, add_special_tokens=False)["input_ids"]][:tokens]


def test_smollm2(smollm2: Model) -> None:
    plain = both(smollm2, text_ids(smollm2, "essay_maps", 192))
    assert (plain.anchor, plain.start, plain.end, plain.layers) == (0, 11, 28, {})


def test_smollm2_without_bos_and_on_problems(smollm2: Model) -> None:
    (prompt,) = probe.prompts(smollm2, limit=1, max_length=160)
    assert both(smollm2, prompt.ids).anchor in (0, 1)


def test_smollm2_chat(smollm2: Model) -> None:
    chat: Any = load(smollm2.hf, tokenizer=smollm2.tokenizer, chat=True, check=False)
    assert both(chat, chat.encode("Why is the sea salty? Tell it in one sentence.").ids).anchor in (0, 1, 2)


def test_gemma3(gemma3: Model) -> None:
    plain = both(gemma3, text_ids(gemma3, "licence", 192))
    assert plain.anchor == 0 and len(plain.layers) > 96  # its states nearly all point one way
    assert "secondary" not in plain.kinds.values()  # 18 layers are too few for one
