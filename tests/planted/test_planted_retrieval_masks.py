"""Masks on planted heads, where the outcome follows from what was planted: every way x every time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest

from interp.models.model import Model
from interp.retrieval.arms import answers
from interp.retrieval.causal import means_for
from interp.retrieval.config import How, RetrievalConfig, When
from interp.retrieval.decode import Ends
from interp.retrieval.masks import mask_of
from interp.retrieval.rouge import recall
from tests.planted.retrieval_families import REQUIRED
from tests.planted.retrieval_plan import HEADS, LAYERS, Copying, Head, Kind
from tests.planted.retrieval_tasks import ready, task


def recalls(
    model: Model, copying: Copying, arms: Sequence[Sequence[Head]], how: How, when: When, numbers: range, seed: int
) -> list[float]:
    """Mean recall under each arm's mask."""
    config = RetrievalConfig(how=how, when=when)
    mask, means = mask_of(arms, (LAYERS, HEADS)), means_for(model, config)
    asked = [task(copying, number, seed) for number in numbers]
    text = [Ends(model, config, one).text for one in asked]
    got = [
        [recall(say(ids), one.answer) for ids in answers(model, one, mask, config, means)]
        for one, say in zip(asked, text, strict=True)
    ]
    return np.mean(got, axis=0).tolist()


def others(copying: Copying) -> list[Head]:
    """Every head that is not the retrieval head, nor the one that leads it."""
    led = (copying.retrieval, copying.previous)
    return [(layer, head) for layer in range(LAYERS) for head in range(HEADS) if (layer, head) not in led]


@pytest.mark.parametrize("how", get_args(How))
@pytest.mark.parametrize("arch", REQUIRED)
def test_each_of_the_pair_is_needed_at_its_own_time(arch: str, how: How) -> None:
    """The retrieval head works while the answer is written. The previous-token head marks the needle while it is read;
    blocking the needle takes nothing from that, for only queries behind it lose it."""
    model, copying = ready(arch, "induction", 1)
    assert copying.previous is not None
    arms = [(), (copying.retrieval,), (copying.previous,), others(copying)]
    marks = 1.0 if how == "block" else 0.0
    expected: dict[When, list[float]] = {"prefill": [1.0, 1.0, marks, 1.0], "decode": [1.0, 0.0, 1.0, 1.0]}
    if arch == "llama":
        expected["both"] = [1.0, 0.0, marks, 1.0]
    got = {when: recalls(model, copying, arms, how, when, range(1), 1) for when in expected}
    assert got == expected


@pytest.mark.parametrize("how", get_args(How))
@pytest.mark.parametrize("when", get_args(When))
def test_the_copy_head_is_needed_while_the_answer_is_written(how: How, when: When) -> None:
    model, copying = ready("llama", "content", 1)
    arms = [(), (copying.retrieval,), others(copying)]
    needed = 1.0 if when == "prefill" else 0.0
    assert recalls(model, copying, arms, how, when, range(1), 1) == [1.0, needed, 1.0]


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("arch", REQUIRED)
def test_one_head_breaks_recall_and_no_other_does(arch: str, kind: Kind) -> None:
    """Each head alone, zeroed while the answer is written."""
    model, copying = ready(arch, kind, 3)
    every = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
    got = recalls(model, copying, [(one,) for one in every], "zero", "decode", range(1), 3)
    assert got == [0.0 if one == copying.retrieval else 1.0 for one in every]
