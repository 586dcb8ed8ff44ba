"""The load-time self-check passes on every family and notices sabotage; unsupported kinds of models are refused."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    MambaConfig,
    MambaForCausalLM,
    RwkvConfig,
    RwkvForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
)

from interp.errors import LoadError
from interp.models.self_check import refuse_unsupported, self_check
from interp.models.sites import SiteMap
from tests.tiny import ARCHS, BYPASSING, tiny

if TYPE_CHECKING:
    from interp.models.model import Model


@pytest.mark.parametrize("arch", ARCHS)
def test_passes_on_every_architecture(arch: str) -> None:
    refuse_unsupported(tiny(arch))
    found = self_check(tiny(arch))
    assert found.ok, found
    assert found.max_logit_gap < 1e-5
    assert found.row_sum_error < 1e-5
    assert found.edit_effect > 1e-4
    assert found.attention_path == ("eager" if arch in BYPASSING else "streamed")
    assert any("sinks" in note for note in found.notes) == (arch == "gpt_oss")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_passes_in_other_precisions(dtype: torch.dtype) -> None:
    experts = (
        () if dtype == torch.float64 else ("gpt_oss", "mixtral")
    )  # torch multiplies experts in single precision at most
    for arch in ("llama", "gemma3", "gpt2", *experts):
        found = self_check(tiny(arch).to(dtype))
        assert found.ok, (arch, found)


def test_is_repeatable_and_leaves_the_random_state_alone() -> None:
    model = tiny("qwen3")
    before = torch.get_rng_state()
    assert self_check(model) == self_check(model)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("layer", [0, 2])
def test_notices_attention_whose_output_is_replaced(layer: int) -> None:
    model = tiny("llama")
    constant = torch.randn(model.config.hidden_size)
    attention = SiteMap(model).attention(layer)
    attention.register_forward_hook(lambda module, args, output: (constant.expand_as(output[0]), *output[1:]))
    found = self_check(model)
    assert not found.ok
    assert f"layer {layer}" in found.notes[0] and "does not change the logits" in found.notes[0]
    assert found.edit_effect < 1e-6


def test_notices_attention_that_depends_on_the_implementation() -> None:
    """A module that computes something else under the streamed attention than under its own."""
    model = tiny("llama")
    attention: Any = SiteMap(model).attention(1)
    plain = type(attention).forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.scaling = 0.35 if self.config._attn_implementation in ("sdpa", "eager") else 0.1
        return plain(self, *args, **kwargs)

    attention.forward = MethodType(forward, attention)
    found = self_check(model)
    assert not found.ok
    assert "streamed logits differ" in found.notes[0]
    assert found.max_logit_gap > 1e-3


def test_a_family_whose_eager_attention_computes_something_else_is_refused() -> None:
    """Falcon with ALiBi: transformers' eager attention adds the bias twice (in the mask, and to the scores)."""
    found = self_check(tiny("falcon", alibi=True, multi_query=False))
    assert not found.ok
    assert "streamed logits differ" in found.notes[0]
    assert "something else than the sdpa attention" in found.notes[1]
    assert self_check(tiny("falcon", alibi=True, multi_query=False, attn_implementation="eager")).ok


def test_notices_rows_that_do_not_sum_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from interp.tracing.statistics import RowSum

    class Wrong(RowSum):
        def accumulator(self, frame: Any) -> Any:
            inner = super().accumulator(frame)
            result = inner.result
            inner.result = lambda: result() * 0.9  # type: ignore[method-assign]
            return inner

    monkeypatch.setattr("interp.tracing.statistics.RowSum", Wrong)
    for arch, words in (("llama", "miss the sum of 1"), ("gpt_oss", "differ from the model's own eager sums")):
        found = self_check(tiny(arch))
        assert not found.ok
        assert words in found.notes[0]


def test_notices_broken_weights() -> None:
    model = tiny("llama")
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    found = self_check(model)
    assert not found.ok
    assert "not finite" in found.notes[0]


def test_what_the_tracer_refuses_is_a_failed_check() -> None:
    model = tiny("llama")
    model.__class__ = type("UnheardOfModel", (torch.nn.Module,), {"forward": type(model).forward})
    model.config.architectures = ["UnheardOfModel"]
    found = self_check(model)
    assert not found.ok
    assert "UnheardOfModel" in found.notes[0]


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 32}


def bert() -> BertConfig:
    return BertConfig(**SMALL, num_attention_heads=2, intermediate_size=16)


def t5() -> T5Config:
    return T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=32, decoder_start_token_id=0)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: BertModel(bert()), ("BertModel", "encoder")),
        (lambda: BertForMaskedLM(bert()), ("BertForMaskedLM", "encoder")),
        (lambda: MambaForCausalLM(MambaConfig(**SMALL)), ("MambaForCausalLM", "no attention")),
        (lambda: RwkvForCausalLM(RwkvConfig(**SMALL, attention_hidden_size=16)), ("RwkvForCausalLM", "no attention")),
        (lambda: T5ForConditionalGeneration(t5()), ("T5ForConditionalGeneration", "encoder-decoder")),
    ],
)
def test_unsupported_models_are_refused_by_name(build: Any, words: tuple[str, ...]) -> None:
    model = build()
    with pytest.raises(LoadError) as refusal:
        refuse_unsupported(model)
    assert all(word in str(refusal.value) for word in words)
    assert "LlamaForCausalLM" in str(refusal.value)
    model.config.architectures = [type(model).__name__]
    with pytest.raises(LoadError, match=words[1]) as from_config:
        refuse_unsupported(model.config)
    assert words[0] in str(from_config.value)


def test_a_config_that_is_no_language_model_is_refused() -> None:
    with pytest.raises(LoadError, match=r"ViTConfig \(vit\) is not a causal language model"):
        refuse_unsupported(ViTConfig())


@pytest.mark.smollm2
def test_smollm2_passes_cheaply(smollm2: Model) -> None:
    seen: list[int] = []
    handle = smollm2.hf.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    found = self_check(smollm2)
    handle.remove()
    assert found.ok, found
    assert found.attention_path == "streamed"
    assert found.max_logit_gap < 1e-4
    assert len(seen) == 3
    assert sum(seen) < 110  # token positions: less than 0.5 s at the 390 a second that two cores do
