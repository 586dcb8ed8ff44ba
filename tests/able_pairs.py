"""Pairs of random tokens that a random model can answer: the answer is what it says, the wrong token what it says for
the twin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

import interp
from interp.circuits.pairs import Pair
from interp.circuits.roles import as_extra
from probes.base import Prompt

CHANGED, AGAIN = 3, 6
"""Where the twins differ, and where the token there comes again."""


def says(model: Any, ids: tuple[int, ...]) -> int:
    """The model's likeliest next token."""
    with interp.trace(model) as t:
        return int(t.run(torch.tensor([ids])).logits[0, -1].argmax())


def able_pair(model: Any, ids: tuple[int, ...], twin: tuple[int, ...], name: str, template: str = "") -> Prompt | None:
    """The prompt with its pair; None where the model says the same behind both."""
    answer, wrong = says(model, ids), says(model, twin)
    if answer == wrong:
        return None
    bare = Prompt(name, "", ids, model.decode_tokens(ids))
    end = len(ids) - 1
    positions = {"changed": min(CHANGED, end), "again": min(AGAIN, end), "end": end}
    return replace(bare, extra=Pair(bare, twin, answer, (wrong,), positions, template).as_extra())


def able_pairs(
    model: Any, n: int, *, lengths: tuple[int, ...] = (10,), seed: int = 0, templates: int = 2, again: bool = True
) -> list[Prompt]:
    """`n` prompts ``able-<i>`` of these lengths in turn, whose token `CHANGED` comes again at `AGAIN`; the twins have
    another in both places. Without `again`, only the token `CHANGED` differs, and no roles are stated."""
    rng = np.random.default_rng(seed)
    made: list[Prompt] = []
    while len(made) < n:
        ids = rng.integers(30, 120, lengths[len(made) % len(lengths)])
        ids[AGAIN] = ids[CHANGED] if again else ids[AGAIN]
        twin = ids.copy()
        twin[[CHANGED, AGAIN] if again else CHANGED] = (ids[CHANGED] - 30 + 7) % 90 + 30
        index = len(made)
        clean, other = tuple(map(int, ids)), tuple(map(int, twin))
        prompt = able_pair(model, clean, other, f"able-{index}", f"t{index % templates}")
        if prompt is not None and again:
            stated = as_extra(first=["changed"], repeat=["again"])
            prompt = replace(prompt, extra={**prompt.extra, **stated})
        made += [] if prompt is None else [prompt]
    return made
