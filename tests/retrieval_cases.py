"""Needle tasks for tests: random ones for tiny models, and one written out for SmolLM2."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import interp
from interp.retrieval.task import Task, task_of
from probes.base import Prompt
from tests.tiny import tiny

NEEDLE = " The librarian of Aldermere keeps the spare key inside a blue teapot on the third shelf."
ANSWER = "inside a blue teapot on the third shelf"
QUESTION = "Where does the librarian of Aldermere keep the spare key?"
START = " The librarian of Aldermere keeps the spare key"
HAY = (
    "The river bends twice before it reaches the mill. Farmers bring their grain there in autumn. In winter the wheel "
    "stands still and children skate on the pond. ",
    "A narrow road leads from the mill to the market town. Carts pass on it from morning to night, and their drivers "
    "know each other by name.",
)


def tiny_model(arch: str, vocabulary: int = 8, **settings: Any) -> Any:
    """A tiny model with few words, so that heads copy by chance, and no end-of-text token."""
    ids = {"vocab_size": vocabulary, "eos_token_id": None, "pad_token_id": 0, "tie_word_embeddings": False}
    return interp.load(tiny(arch, **{**ids, **settings}), check=False)


def random_task(length: int = 40, seed: int = 0, steps: int = 7, vocabulary: int = 8, shared: int = 0) -> Task:
    """A random context of `length` tokens, whose first `shared` do not depend on the seed, and a tail of three."""
    rng, common = np.random.default_rng(seed), np.random.default_rng(99)
    ids = [*common.integers(3, vocabulary, shared), *rng.integers(3, vocabulary, length + 3 - shared)]
    ids = tuple(int(one) for one in ids)
    null = tuple(int(one) for one in rng.integers(3, vocabulary, 4))
    prompt = Prompt(f"random {seed}", "", ids, tuple(map(str, ids)))
    task = Task(
        *(prompt, "random", "answer", "question"),
        span=(length - 15, length),
        sentence=(length - 17, length),
        tail=length,
        query=(length, length + 2),
        null_tail=null,
        null_query=(length, length + 3),
        length=None,
        depth=None,
        depth_achieved=0.5,
        form="own",
        max_new_tokens=steps,
    )
    return with_extra(task)


def with_extra(task: Task) -> Task:
    """The task with a prompt that carries it."""
    return task_of(replace(task.prompt, extra=task.as_extra()))


def real_task(model: Any, before: int = 1, after: int = 1, steps: int = 16) -> Task:
    """The needle between so many repeats of two pieces of text, with the start of its answer behind the question."""
    context = HAY[0] * before + NEEDLE[1:] + (" " + HAY[1]) * after
    text = f"{context}\n\nQuestion: {QUESTION}\nAnswer:{START}"
    encoded = model.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    null = model.tokenizer(text.replace(QUESTION, "N/A"), return_offsets_mapping=True, add_special_tokens=False)

    def tokens(offsets: Any, start: int, length: int) -> tuple[int, int]:
        inside = [i for i, (a, b) in enumerate(offsets) if b > start and a < start + length]
        return inside[0], inside[-1] + 1

    offsets, asked = encoded["offset_mapping"], len(context) + len("\n\nQuestion: ")
    tail = tokens(offsets, len(context), 2)[0]
    ids = tuple(encoded["input_ids"])
    assert tuple(null["input_ids"][:tail]) == ids[:tail]
    return with_extra(
        Task(
            prompt=Prompt("library", text, ids, model.decode_tokens(ids)),
            needle="library",
            answer=ANSWER,
            question=QUESTION,
            span=tokens(offsets, text.index(ANSWER), len(ANSWER)),
            sentence=tokens(offsets, text.index(NEEDLE[1:]), len(NEEDLE) - 1),
            tail=tail,
            query=tokens(offsets, asked, len(QUESTION)),
            null_tail=tuple(null["input_ids"][tail:]),
            null_query=tokens(null["offset_mapping"], asked, 3),
            length=None,
            depth=None,
            depth_achieved=0.5,
            form="prefix",
            max_new_tokens=steps,
        )
    )
