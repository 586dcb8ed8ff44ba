"""Needle prompts that tiny random models answer, and that some of their heads copy from by chance.

What such a model writes is noise, so the task is fitted to it: the answer is what the model says behind the prompt.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from interp.retrieval.config import RetrievalConfig
from interp.retrieval.measure import measured
from interp.retrieval.task import Task
from probes.base import Prompt

CONTEXT, ASKS, STEPS = 60, 8, 4
PLAIN = RetrievalConfig(random_tokens=0)


def needle_prompt(model: Any, ids: list[int], name: str, needle: str, answer: str) -> Prompt:
    """A context all of which is the needle, and a question of `ASKS` tokens behind it."""
    prompt = Prompt(name, "", tuple(ids), model.decode_tokens(ids))
    tail = len(ids) - ASKS
    task = Task(
        prompt=prompt,
        needle=needle,
        answer=answer,
        question="is it red?",
        span=(1, tail),
        sentence=(1, tail),
        tail=tail,
        query=(tail + 1, tail + 4),
        null_tail=(9, 8, 9),
        null_query=(tail, tail + 2),
        length=None,
        depth=None,
        depth_achieved=0.5,
        form="own",
        max_new_tokens=STEPS,
    )
    return replace(prompt, extra=task.as_extra())


def answered(model: Any, name: str, needle: str, seed: int) -> Prompt:
    """The first prompt, of contexts drawn from what the model likes to say, that it answers and a head copies from.

    Raises:
        LookupError: none of a hundred will do.
    """
    rng = np.random.default_rng(seed)
    likes = list(range(30, 90))
    for _ in range(100):
        ids = [1, *(int(one) for one in rng.choice(likes, CONTEXT + ASKS))]
        unit = measured(model, needle_prompt(model, ids, name, needle, "?"), PLAIN)
        if unit.facts["text"] and unit.arrays["events"].any():
            prompt = needle_prompt(model, ids, name, needle, unit.facts["text"])
            if measured(model, prompt, PLAIN).facts["recall"] == 1:
                return prompt
        likes = [one for one in unit.facts["generated"] if one > 3] + likes[:8]
    raise LookupError(f"{model.name}: no head copies in any of a hundred prompts")


@cache
def needle_prompts(model: Any) -> tuple[Prompt, ...]:
    """Three prompts of three needles, the last said to be cut."""
    first, second, cut = (answered(model, name, name, seed) for seed, name in enumerate(("first", "second", "cut")))
    return first, second, replace(cut, truncated=True)


def shortest(model: Any) -> Prompt:
    """A needle of one token, a question of one, and one more that the answer begins behind."""
    prompt = Prompt("short", "", (1, 5, 6), model.decode_tokens((1, 5, 6)))
    task = Task(
        prompt=prompt,
        needle="short",
        answer="?",
        question="?",
        span=(0, 1),
        sentence=(0, 1),
        tail=1,
        query=(1, 2),
        null_tail=(6, 6),
        null_query=(1, 2),
        length=None,
        depth=None,
        depth_achieved=0.0,
        form="own",
        max_new_tokens=1,
    )
    return replace(prompt, extra=task.as_extra())
