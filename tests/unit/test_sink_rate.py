"""Sink_1 against the model's own eager attention, written with loops; and what the inputs are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.errors import UsageError
from interp.finders.sink_rate import sink_rate
from interp.finders.sink_rate_measure import KINDS, SinkRateConfig, inputs, seed_of
from interp.models.model import Model
from probes.base import Prompt
from probes.text import probe as shipped
from tests import plain, plain_neighbourhood
from tests.tiny import tiny, tiny_tokenizer

CONFIG = SinkRateConfig(length=24, eps=0.1, beside=0.15)
TEXTS = ("the cat sat on the mat and the dog ran to it. " * 3, "a red dog was in the mat, a blue cat on it. " * 3)


def findings_of(model: Model, prompts: list[Prompt], config: SinkRateConfig = CONFIG) -> Any:
    units = [sink_rate.measure(model, one, config) for one in prompts]
    findings = sink_rate.find(prompts, units, config, model.facts())
    checks = [sink_rate.check(model, one, i, findings, config) for i, one in enumerate(prompts)]
    return sink_rate.conclude(findings, checks, config)


@pytest.mark.parametrize("arch", ["llama", "gpt2", "gpt_oss", "gemma3"])
def test_rates_are_those_of_eager_attention(arch: str) -> None:
    hf = tiny(arch)
    model = interp.load(hf, tokenizer=tiny_tokenizer(128), check=False)
    prompts = [model.encode(text, name=str(i)) for i, text in enumerate(TEXTS)]
    found = findings_of(model, prompts)
    fed: dict[str, list[list[int]]] = {kind: [] for kind in KINDS}
    for one in prompts:
        fed["natural"].append(list(one.ids[:24]))
        for kind, ids in inputs(model, 24, seed_of(one, CONFIG)).items():
            fed[kind].append(ids)
    rows = {row["kind"]: row for row in found.records()}
    for kind, label in KINDS.items():
        plainly: list[tuple[float, float, float]] = []
        for ids in fed[kind]:
            tensor = torch.tensor([ids])
            _, patterns = plain.eager(hf, tensor, torch.ones_like(tensor))
            rate, mass = plain_neighbourhood.first_key_rate(patterns, CONFIG.eps)
            plainly.append((rate, plain_neighbourhood.first_key_rate(patterns, CONFIG.beside)[0], mass))
        rate, beside, mass = np.mean(plainly, axis=0)
        assert rows[label]["sink_rate"] == pytest.approx(rate) and rows[label]["prompts"] == 2
        assert rows[label]["sink_rate_beside"] == pytest.approx(beside)
        assert rows[label]["mass"] == pytest.approx(mass, rel=1e-4)
        assert found.summary["claims"][f"sink_rate.{kind}"]["mean"] == rows[label]["sink_rate"]
        assert found.summary["claims"][f"sink_rate.{kind}"]["eps"] == CONFIG.eps
    assert rows["natural text"]["sink_rate"] > rows["natural text"]["sink_rate_beside"] > 0


def test_inputs_are_what_they_are_called() -> None:
    model = interp.load(tiny("llama"), tokenizer=tiny_tokenizer(128), check=False)
    made = inputs(model, 20, 4)
    assert {len(ids) for ids in made.values()} == {20}
    assert len(set(made["repeated"])) == 1 and made["random"][0] == made["repeated_prefixed"][0] == 1
    assert made["repeated_prefixed"][1:] == made["repeated"][1:] and made["repeated"][0] != 1
    assert len(set(made["random"])) > 10
    assert inputs(model, 20, 4) == made != inputs(model, 20, 5)


def test_without_bos_there_are_three_kinds() -> None:
    model = interp.load(tiny("llama"), tokenizer=tiny_tokenizer(128), bos="none", check=False)
    found = findings_of(model, [model.encode(TEXTS[0])])
    assert [row["kind"] for row in found.records()] == [KINDS[kind] for kind in ("natural", "random", "repeated")]
    claim = found.summary["claims"]["sink_rate.repeated_prefixed"]
    assert claim["mean"] is None and "nothing before a text" in claim["why"]
    assert not any("begin with BOS" in caveat for caveat in found.caveats)


def test_short_prompts_are_no_natural_input_and_said() -> None:
    model = interp.load(tiny("llama"), tokenizer=tiny_tokenizer(128), check=False)
    found = findings_of(model, [model.encode("the cat"), model.encode(TEXTS[0])])
    rows = {row["kind"]: row for row in found.records()}
    assert rows["natural text"]["prompts"] == 1 and rows["random tokens"]["prompts"] == 2
    assert any("1 prompt shorter than 24 tokens" in caveat for caveat in found.caveats)
    only = findings_of(model, [model.encode("the cat")])
    assert only.summary["claims"]["sink_rate.natural"]["why"] == "no prompt has T tokens"
    assert only.verification.verdict == "nothing to verify"


def test_the_cut_is_made_where_some_head_attends() -> None:
    model = interp.load(tiny("llama"), tokenizer=tiny_tokenizer(128), check=False)
    prompt = model.encode(TEXTS[0])
    unit = sink_rate.measure(model, prompt, CONFIG)
    found = sink_rate.find([prompt], [unit], CONFIG, model.facts())
    alpha = unit.arrays["alpha.natural"]
    expected = [layer for layer in range(len(alpha)) if any(one > CONFIG.eps for one in alpha[layer])]
    assert found.summary["prompts"][0]["layers"] == expected
    none = replace(CONFIG, eps=1.0)
    assert sink_rate.check(model, prompt, 0, sink_rate.find([prompt], [unit], none, model.facts()), none) is None


def test_a_chat_template_is_refused_by_name() -> None:
    tokenizer = tiny_tokenizer(128)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    model = interp.load(tiny("llama"), tokenizer=tokenizer, chat=True, check=False)
    with pytest.raises(UsageError, match="chat template"):
        sink_rate.measure(model, model.encode(TEXTS[0]), CONFIG)


@pytest.mark.parametrize(("field", "value"), [("length", 1), ("beside", 1.5), ("eps", -0.1)])
def test_settings_are_checked(field: str, value: float) -> None:
    wrong: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=field):
        SinkRateConfig(**wrong)


def test_smollm2_needs_a_first_token_unlike_the_others(smollm2: Model) -> None:
    """As published for models with relative positions: a sink on text and on random tokens, none on one token."""
    prompts = shipped.prompts(smollm2, limit=2, max_length=64)
    found = findings_of(smollm2, prompts, SinkRateConfig())
    claims = found.summary["claims"]
    assert claims["sink_rate.natural"]["mean"] > 40 and claims["sink_rate.random"]["mean"] > 20
    assert claims["sink_rate.repeated"]["mean"] == 0
    assert claims["sink_rate.natural"]["T"] == 64
