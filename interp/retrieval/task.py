"""A needle task as a prompt carries it: what must be copied, from where, after which question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interp.errors import UsageError
from probes.base import Prompt

KEY = "needle"
"""Where `Prompt.extra` keeps the task."""


@dataclass(frozen=True)
class Task:
    """One needle task; positions are token positions in `prompt.ids`, spans half open.

    Attributes:
        prompt: the prompt; the model's answer goes behind it.
        needle: name of the needle: instances of one needle are one unit when intervals are taken.
        answer: text that must come back (untrusted).
        question: the question (untrusted).
        span: tokens of the answer in the context: what copying is scored on.
        sentence: tokens of the whole inserted sentence; `span` where it is not known.
        tail: first token behind the context; ids from there on ask the question.
        query: tokens of the question itself.
        null_tail: ids that ask "N/A" in place of the question: they replace ``ids[tail:]``.
        null_query: tokens of that null question, counted as if the null tail stood in the prompt.
        length, depth: what was asked for, in tokens and as a share of the haystack; None for own material.
        depth_achieved: tokens of the context before the needle, as a share of those it has without the needle.
        form: how it is asked (``bare``, ``prefix``, ``chat``, ``own``).
        max_new_tokens: most tokens of the answer.
    """

    prompt: Prompt
    needle: str
    answer: str
    question: str
    span: tuple[int, int]
    sentence: tuple[int, int]
    tail: int
    query: tuple[int, int]
    null_tail: tuple[int, ...]
    null_query: tuple[int, int]
    length: int | None
    depth: float | None
    depth_achieved: float
    form: str
    max_new_tokens: int

    def as_extra(self) -> dict[str, Any]:
        """What `task_of` reads back: JSON-able, for `Prompt.extra`."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "prompt"}
        return {KEY: {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}}


def has_task(prompt: Prompt) -> bool:
    """Whether the prompt carries a needle task."""
    return KEY in prompt.extra


def one_line(prompt: Prompt, config: Any) -> None:
    """Refuse an answer of several lines where answers end with the first.

    Args:
        config: `stop_at_newline` is used.

    Raises:
        UsageError: so it is, or the prompt carries no task.
    """
    if config.stop_at_newline and "\n" in task_of(prompt).answer.strip():
        raise UsageError(
            f"prompt {prompt.name!r}: its answer goes over several lines, and the model's answer ends with its first; "
            "use --set stop_at_newline=False, or an answer of one line"
        )


def task_of(prompt: Prompt) -> Task:
    """The task of a prompt.

    Raises:
        UsageError: the prompt carries none.
    """
    if not has_task(prompt):
        raise UsageError(
            f"prompt {prompt.name!r} holds no needle; use --probe needle, or --prompts FILE.jsonl with context, answer "
            "and question in every line"
        )
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in prompt.extra[KEY].items()
    }
    return Task(prompt=prompt, **given)
