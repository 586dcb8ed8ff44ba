"""What every registered probe keeps, by being registered."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

import interp
from interp.errors import UsageError
from interp.registry import PROBES
from interp.runs.settings import describe_probe, set_probe
from tests.pair_words import model_of, tokenizer
from tests.tiny import tiny, tiny_tokenizer

LEAST = {"needle": 200, "ioi": 40, "colored-objects": 100, "greater-than": 20}
"""Tokens that a probe's shortest prompts take with the tiny tokenizer, where that is more than a few."""
SPREAD = {"needle"}
"""Probes of which a limit takes a balanced part: a smaller one gives some of a larger one's, not the first."""


WORDS = {"ioi", "colored-objects", "greater-than", "pairs"}
"""Probes of sentences in which words have to be single tokens: the tiny tokenizer knows too few."""


@cache
def speller(family: str) -> interp.Model:
    """A model with a tokenizer of whole words."""
    return model_of(tokenizer(), family)


@cache
def plain(family: str) -> interp.Model:
    return interp.load(tiny(family), tokenizer=tiny_tokenizer(128))


@pytest.fixture(params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest, probe: Any) -> interp.Model:
    """A small model that the probe can be tried on."""
    return (speller if probe.name in WORDS else plain)(request.param)


@pytest.fixture(params=PROBES.names())
def probe(request: pytest.FixtureRequest) -> Any:
    made = PROBES.get(request.param)
    assert made.name == request.param
    return made


def test_it_says_what_it_is_in_one_line(probe: Any) -> None:
    assert probe.help.strip() == probe.help != ""
    assert "\n" not in probe.help


def test_prompts_fit_the_model_and_what_was_asked(model: interp.Model, probe: Any) -> None:
    most = length(probe, 32)
    prompts = probe.prompts(model, limit=3, max_length=most, seed=0)
    assert 1 <= len(prompts) <= 3
    assert len({prompt.name for prompt in prompts}) == len(prompts)
    for prompt in prompts:
        assert 2 <= len(prompt.ids) <= most
        assert all(isinstance(token, int) and 0 <= token < model.vocab_size for token in prompt.ids)
        assert prompt.tokens == model.decode_tokens(prompt.ids)
        assert json.loads(json.dumps(prompt.extra, allow_nan=False)) == prompt.extra


def test_without_a_limit_there_are_some(model: interp.Model, probe: Any) -> None:
    assert len(probe.prompts(model, limit=None, max_length=length(probe, 16), seed=0)) > 1


def test_a_seed_settles_everything(model: interp.Model, probe: Any) -> None:
    once, twice = (probe.prompts(model, limit=2, max_length=length(probe, 24), seed=5) for _ in range(2))
    assert once == twice
    assert [prompt.extra for prompt in once] == [prompt.extra for prompt in twice]


def test_a_smaller_limit_gives_the_first_of_them(model: interp.Model, probe: Any) -> None:
    few, more = (probe.prompts(model, limit=limit, max_length=length(probe, 24), seed=0) for limit in (1, 3))
    assert len(few) == 1 and (few[0] in more if probe.name in SPREAD else few == more[:1])


def test_a_scan_takes_it(model: interp.Model, probe: Any) -> None:
    from interp.runs.sources import choose

    most = length(probe, 20)
    prompts = choose(probe=probe.name).prompts(model, 2, most, 0)
    assert all(2 <= len(prompt) <= most for prompt in prompts)


def test_its_settings_can_be_given_as_text(model: interp.Model, probe: Any) -> None:
    """``--probe-set``: every setting, as `interp ls probes` shows it, back in changes nothing."""
    values = {name: getattr(probe, name) for name in describe_probe(probe)}
    texts = {
        name: ",".join(map(str, value)) if isinstance(value, tuple) else str(value) for name, value in values.items()
    }
    assert set_probe(probe, texts, probe.name) == probe
    with pytest.raises(UsageError, match=f"unknown setting of probe {probe.name} 'nothing'"):
        set_probe(probe, {"nothing": "1"}, probe.name)


def test_a_pair_lines_up(model: interp.Model, probe: Any) -> None:
    """Probes that make pairs: `pair_of` reads them back, and a circuit can be measured on them."""
    from interp.circuits.pairs import KEY, batch_of, pair_of

    for prompt in probe.prompts(model, limit=3, max_length=length(probe, 32), seed=0):
        if KEY in prompt.extra:
            pair = pair_of(prompt)
            assert pair.as_extra()[KEY] == prompt.extra[KEY] and len(batch_of([pair])) == 1
            assert pair.positions["end"] == len(prompt) - 1
        else:
            assert not callable(getattr(probe, "read", None)) or probe.name == "needle"


def length(probe: Any, asked: int) -> int:
    """`max_length` for a probe: what is asked, or as much as it needs."""
    return max(asked, LEAST.get(probe.name, 0))
