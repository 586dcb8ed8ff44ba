"""The own checks of a retrieval run pass, and fail when decoding is wrong: tiny models, hand-made needle prompts."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

import interp
from interp.findings import Findings
from interp.papers import wu2024_checks
from interp.papers.wu2024_rules import RUN
from interp.retrieval import arms
from interp.retrieval import decode as decoding
from interp.retrieval.cache import CHUNK
from interp.retrieval.task import Task
from probes.base import Prompt
from tests.tiny import tiny


def needle(name: str, length: int, at: int, seed: int = 0) -> Prompt:
    """A needle prompt of random ids; prompts of one seed begin alike up to their needles."""
    rng = np.random.default_rng(seed)
    context = rng.integers(4, 128, length).tolist()
    context[at : at + 4] = [11, 12, 13, 14]
    ids = (*context, 20, 21, 22, 23)
    prompt = Prompt(name, "", ids, tuple(map(str, ids)))
    task = Task(
        prompt, name, "", "", (at, at + 4), (at, at + 4), length, (length, length + 2), (20, 24, 22, 23),
        (length, length + 2), length, None, 0.0, "own", 6,
    )  # fmt: skip
    return dataclasses.replace(prompt, extra=task.as_extra())


@pytest.mark.parametrize("arch", ["llama", "gemma3", "gpt_oss", "gpt2"])
def test_decoding_equals_slow_generation(arch: str) -> None:
    model = interp.load(tiny(arch))
    check = wu2024_checks.eager(model, [needle("short", 24, 5), needle("long", 40, 9)])
    assert check.passed and "'short' (28 tokens)" in check.told, check.told


@pytest.mark.parametrize("wrong", ["weight", "key", "ids"])
def test_wrong_decoding_fails(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = interp.load(tiny("llama"))
    right = decoding.decode

    def broken(*given: Any) -> Any:
        out = right(*given)
        changed = {
            "weight": {"top_weight": out.top_weight * 1.01},
            "key": {"top_key": np.where(out.top_key > 0, out.top_key - 1, 1)},
            "ids": {"ids": (*out.ids[:-1], out.ids[-1] + 1)},
        }
        return dataclasses.replace(out, **changed[wrong])

    monkeypatch.setattr(decoding, "decode", broken)
    assert not wu2024_checks.eager(model, [needle("short", 24, 5)]).passed


def test_a_shared_beginning_is_checked_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = interp.load(tiny("llama", max_position_embeddings=512))
    alike = [needle("one", CHUNK + 40, CHUNK + 9), needle("two", CHUNK + 40, CHUNK + 20)]
    (check,) = wu2024_checks.sharing(model, alike)
    assert check.passed and f"{CHUNK + 9} tokens alike" in check.told
    assert wu2024_checks.sharing(model, [alike[0], needle("other", CHUNK + 40, CHUNK + 9, seed=1)]) == []
    assert wu2024_checks.sharing(model, [needle("one", 24, 5), needle("two", 24, 9)]) == []
    right = decoding.decode

    def broken(model: Any, task: Any, config: Any) -> Any:
        out = right(model, task, config)
        return dataclasses.replace(out, query_mass=out.query_mass + config.share_prefix * 1e-7)

    monkeypatch.setattr(decoding, "decode", broken)
    assert not wu2024_checks.sharing(model, alike)[0].passed


def masked(heads: list[list[int]]) -> Findings:
    sets = {"0": {"retrieval": [], "random": []}, "1": {"retrieval": heads, "random": [[[0, 1]], [[0, 1]]]}}
    return Findings(RUN, pd.DataFrame(), (), "", summary={"masks": sets, "settings": {"how": "zero", "ks": [0, 1]}})


def test_masks_are_looked_for_in_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = interp.load(tiny("llama"))
    (check,) = wu2024_checks.effect(model, [needle("short", 24, 5)], masked([[1, 0]]))
    assert check.passed and "2 heads in 2 layers, zero, decode" in check.told, check.told
    assert wu2024_checks.effect(model, [needle("short", 24, 5)], Findings(RUN, pd.DataFrame(), (), "")) == []
    monkeypatch.setattr(arms, "edits", lambda *given: [])  # as the released code on half of its models
    (check,) = wu2024_checks.effect(model, [needle("short", 24, 5)], masked([[1, 0]]))
    assert not check.passed and "not there in layers 0, 1" in check.told
