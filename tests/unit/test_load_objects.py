"""Loading what is in memory already: models, bridges, loaded models; the object given is never changed."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn
from transformers import LlamaModel

from interp.errors import LoadError, UsageError
from interp.models.bridged import bridged
from interp.models.load import load
from tests.tiny import ARCHS, tiny, tiny_tokenizer

IDS = torch.tensor([[1, 5, 9, 7]])


def test_model_object() -> None:
    hf = tiny("gpt2")
    before = {name: tensor.clone() for name, tensor in hf.state_dict().items()}
    model = load(hf, tokenizer=tiny_tokenizer(), bos="add", check=False)
    assert model.hf is hf
    assert (model.source.kind, model.source.requested, model.name) == ("object", "GPT2LMHeadModel", "GPT2LMHeadModel")
    assert (model.n_layers, model.n_heads, model.d_model, model.max_positions) == (3, 4, 32, 256)
    assert all(torch.equal(tensor, before[name]) for name, tensor in hf.state_dict().items())
    json.dumps(model.source.as_dict())


@pytest.mark.parametrize("arch", ARCHS)
def test_facts_of_every_family(arch: str) -> None:
    hf = tiny(arch)
    facts = load(hf, check=False).facts()
    assert facts.family == hf.config.model_type and facts.architecture == type(hf).__name__
    assert facts.n_layers >= 2 and facts.n_heads == 4 and facts.d_model == 32


def test_loaded_model_is_returned_as_it_is() -> None:
    model = load(tiny("llama"), tokenizer=tiny_tokenizer(), bos="add", check=False)
    assert load(model) is model
    assert load(model, bos="add") is model
    with pytest.raises(UsageError, match=r"is loaded already, with bos='add'"):
        load(model, bos="none")
    assert dataclasses.replace(model, bos="none").encode("the").ids[0] != 1
    for options in ({"device": "cuda:9"}, {"dtype": "bfloat16"}, {"device_map": "x"}, {"revision": "main"}):
        with pytest.raises(UsageError, match=r"the loaded model .* stays as and where it is; load it again"):
            load(model, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("arch", ["llama", "gpt2", "gemma3", "falcon", "bloom", "gpt_oss", "phi3"])
def test_bridge_gives_its_model_back(arch: str) -> None:
    """The model taken out of a bridge has the plain modules, the same parameters, and the same numbers; the bridge
    still works."""
    hf = tiny(arch)
    with torch.no_grad():
        expected = hf(IDS).logits
        bridge = bridged(hf, tiny_tokenizer())
        through = bridge(IDS)
        model = load(bridge, check=False)
        torch.testing.assert_close(model.hf(IDS).logits, expected, atol=2e-5, rtol=1e-4)
        assert torch.equal(bridge(IDS), through)
    assert type(model.hf) is type(hf)
    assert [name for name, _ in model.hf.named_modules()] == [name for name, _ in hf.named_modules()]
    assert not any(type(module).__module__.startswith("transformer_lens") for module in model.hf.modules())
    theirs = {id(parameter) for parameter in bridge.original_model.parameters()}
    assert all(id(parameter) in theirs for parameter in model.hf.parameters())
    assert model.source.kind == "bridge" and model.encode("the").ids[0] == 1
    assert model.source.weight_hash == load(hf, check=False).source.weight_hash


def test_bridge_with_rewritten_weights() -> None:
    bridge = bridged(tiny("llama"), None)
    bridge.enable_compatibility_mode()
    with pytest.raises(LoadError, match=r"compatibility mode"):
        load(bridge, check=False)


def test_bridge_of_a_model_is_over_a_copy() -> None:
    model = load(tiny("llama"), tokenizer=tiny_tokenizer(), check=False)
    modules = dict(model.hf.named_modules())
    bridge = model.bridge()
    with torch.no_grad():
        torch.testing.assert_close(bridge(IDS), model.hf(IDS).logits, atol=1e-4, rtol=1e-4)
        next(bridge.original_model.parameters()).zero_()
    assert dict(model.hf.named_modules()) == modules
    assert next(model.hf.parameters()).any()
    assert bridge.to_tokens("the cat").tolist() == [list(model.encode("the cat").ids)]


@pytest.mark.parametrize("x", [nn.Linear(2, 2), 7, None, {"model": 1}])
def test_things_that_are_no_model(x: object) -> None:
    with pytest.raises(UsageError, match=r"give a name, a folder"):
        load(x, check=False)


def test_model_without_a_head() -> None:
    with pytest.raises(LoadError, match=r"language-model head"):
        load(LlamaModel(tiny("llama").config), check=False)


def test_dropout_that_is_on() -> None:
    """GPT-2 has dropout, so training mode would make every number random; Llama has none, and is taken as it is."""
    with pytest.raises(LoadError, match=r"training mode .* call \.eval\(\)"):
        load(tiny("gpt2").train(), check=False)
    assert load(tiny("llama").train(), check=False).hf.training


@pytest.mark.parametrize(
    "options", [{"device": "cpu"}, {"dtype": "bfloat16"}, {"device_map": {"": "cpu"}}, {"revision": "main"}]
)
def test_an_object_stays_as_and_where_it_is(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"stays as and where it is"):
        load(tiny("llama"), check=False, **options)  # type: ignore[arg-type]
