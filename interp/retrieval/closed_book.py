"""Questions whose answer stands in the context, and questions whose answer the model knows by itself.

Wu et al. 2024 (arXiv 2404.15574, section 4.2): masking retrieval heads hurts the first and leaves the second. Both are
asked in one form, few-shot, and answered by the code that answers needle tasks, under the same masks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from torch import Tensor

from interp.ablation.config import Head
from interp.resources import data_path
from interp.retrieval.arms import answers
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.decode import Ends
from interp.retrieval.masks import Mask
from interp.retrieval.rouge import exact
from interp.retrieval.task import Task

Kind = Literal["extraction", "closed-book", "known with passage"]
KINDS: tuple[Kind, ...] = ("extraction", "closed-book", "known with passage")
MOST = 8
"""Tokens of an answer."""


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        name: short label.
        question: what is asked.
        answers: what counts as right, the one the passage states first.
        passage: one or two sentences that state the answer.
        known: a fact of the world that a model may know; else an invented one, which stands in the passage alone.
    """

    name: str
    question: str
    answers: tuple[str, ...]
    passage: str
    known: bool


@cache
def shipped(name: str) -> tuple[Question, ...]:
    """``questions``, known facts and invented ones; or ``shots``, the solved examples every question stands behind."""
    lines = data_path("closed_book", f"{name}.jsonl").read_text("utf-8").splitlines()
    return tuple(
        Question(one["name"], one["question"], tuple(one["answers"]), one["passage"], one["known"])
        for one in map(json.loads, lines)
    )


def asked(question: Question, passage: bool, solved: bool = False) -> str:
    """One question as text; `solved` = with its answer."""
    text = f"Passage: {question.passage}\n" if passage else ""
    return f"{text}Question: {question.question}\nAnswer:" + (f" {question.answers[0]}\n\n" if solved else "")


def as_task(model: Any, question: Question, kind: Kind) -> Task:
    """A task for the code that answers needle tasks; without a passage its spans are empty."""
    passage = kind != "closed-book"
    before = "".join(asked(one, passage, solved=True) for one in shipped("shots"))
    text = before + asked(question, passage)
    prompt = model.encode(text, name=f"{question.name}, {kind}")
    # the tokens that do not hang on what comes behind the solved examples, and those that begin the question itself
    tail = min(common(prompt.ids, model.encode(before, name="shots").ids), len(prompt) - 1)
    end = common(prompt.ids, model.encode(before + f"Passage: {question.passage}\n", name="passage").ids)
    given = (tail, end) if passage and tail < end < len(prompt) else (0, 0)
    return Task(
        prompt=prompt,
        needle=question.name,
        answer=question.answers[0],
        question=question.question,
        span=given,
        sentence=given,
        tail=tail,
        query=(tail, len(prompt)),
        null_tail=prompt.ids[tail:],
        null_query=(tail, len(prompt)),
        length=None,
        depth=None,
        depth_achieved=0.0,
        form=kind,
        max_new_tokens=MOST,
    )


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two prompts begin alike for."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def of_kind(kind: Kind, limit: int) -> Sequence[Question]:
    """The first questions of a kind."""
    return [one for one in shipped("questions") if one.known == (kind != "extraction")][:limit]


def too_long(model: Any, config: RetrievalConfig) -> str | None:
    """Why the questions do not fit the model's positions; None when they do."""
    if model.max_positions is None:
        return None
    asked_of = [as_task(model, one, kind) for kind in KINDS for one in of_kind(kind, config.closed_book)]
    longest = max(len(task.prompt) for task in asked_of) + MOST
    if longest <= model.max_positions:
        return None
    return f"the longest takes {longest} tokens with its answer, and the model takes {model.max_positions}"


def examined(
    model: Any, mask: Mask, config: RetrievalConfig, means: Mapping[Head, Tensor] | None = None
) -> list[dict[str, Any]]:
    """Every question under every mask: ``name``, ``kind``, ``question``, ``answer``, ``text`` (untouched; untrusted),
    and ``correct`` by arm. The first arm must be the untouched one."""
    out = []
    for kind in KINDS:
        for question in of_kind(kind, config.closed_book):
            task = as_task(model, question, kind)
            text_of = Ends(model, config, task).text
            texts = [text_of(ids) for ids in answers(model, task, mask, config, means)]
            out.append(
                {
                    "name": question.name,
                    "kind": kind,
                    "question": question.question,
                    "answer": question.answers[0],
                    "text": texts[0],
                    "correct": [any(exact(text, answer) for answer in question.answers) for text in texts],
                }
            )
    return out
