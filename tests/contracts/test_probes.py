"""What every registered probe keeps, by being registered."""

from __future__ import annotations

import json
from typing import Any

import pytest

import interp
from interp.registry import PROBES


@pytest.fixture(params=PROBES.names())
def probe(request: pytest.FixtureRequest) -> Any:
    made = PROBES.get(request.param)
    assert made.name == request.param
    return made


def test_it_says_what_it_is_in_one_line(probe: Any) -> None:
    assert probe.help.strip() == probe.help != ""
    assert "\n" not in probe.help


def test_prompts_fit_the_model_and_what_was_asked(model: interp.Model, probe: Any) -> None:
    prompts = probe.prompts(model, limit=3, max_length=32, seed=0)
    assert 1 <= len(prompts) <= 3
    assert len({prompt.name for prompt in prompts}) == len(prompts)
    for prompt in prompts:
        assert 2 <= len(prompt.ids) <= 32
        assert all(isinstance(token, int) and 0 <= token < model.vocab_size for token in prompt.ids)
        assert prompt.tokens == model.decode_tokens(prompt.ids)
        assert json.loads(json.dumps(prompt.extra, allow_nan=False)) == prompt.extra


def test_without_a_limit_there_are_some(model: interp.Model, probe: Any) -> None:
    assert len(probe.prompts(model, limit=None, max_length=16, seed=0)) > 1


def test_a_seed_settles_everything(model: interp.Model, probe: Any) -> None:
    once, twice = (probe.prompts(model, limit=2, max_length=24, seed=5) for _ in range(2))
    assert once == twice
    assert [prompt.extra for prompt in once] == [prompt.extra for prompt in twice]


def test_a_smaller_limit_gives_the_first_of_them(model: interp.Model, probe: Any) -> None:
    few = probe.prompts(model, limit=1, max_length=24, seed=0)
    assert few == probe.prompts(model, limit=3, max_length=24, seed=0)[:1]


def test_a_scan_takes_it(model: interp.Model, probe: Any) -> None:
    from interp.runs.sources import choose

    prompts = choose(probe=probe.name).prompts(model, 2, 20, 0)
    assert all(2 <= len(prompt) <= 20 for prompt in prompts)
