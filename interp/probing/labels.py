"""What a probe is asked to read: one label for a token, or one for a whole prompt. None of the built-in ones needs
annotation.

For each token:

===================== ==================================================================================================
``repeated``          the token has occurred before in this prompt (what duplicate-token heads write, Wang et al. 2022)
``position-parity``   its position is odd
``next-starts-word``  the next token begins with a space or a line break
``ends-sentence``     the next token is a full stop, question mark or exclamation mark
===================== ==================================================================================================

For a prompt, the same at whichever position is read:

===================== ==================================================================================================
``answer``            the right next token, of probes of pairs (colored-objects: which colour)
``group:NAME``        what a probe tells its prompts apart by (ioi: ``group:order``, which name came first;
                      greater-than: ``group:decade``)
``label``             the key ``label`` of a prompts file: a text, whole number or truth value is a class, a number with
                      a decimal point a quantity
===================== ==================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from interp.errors import UsageError
from probes.base import Prompt
from probes.pair_base import GROUPS

GROUP = "group:"
Value = str | int | float | bool | None
"""A label; None = this example has none."""


@dataclass(frozen=True)
class Question:
    """A question to a probe.

    Attributes:
        name: as it is asked for.
        told: what is read, for sentences ("whether ...").
        each_token: labels differ within a prompt.
        of: (prompt, position) -> label.
    """

    name: str
    told: str
    each_token: bool
    of: Callable[[Prompt, int], Value]


def _repeated(prompt: Prompt, position: int) -> Value:
    return prompt.ids[position] in prompt.ids[:position]


def _parity(prompt: Prompt, position: int) -> Value:
    return position % 2 == 1


def _next(prompt: Prompt, position: int) -> str | None:
    return prompt.tokens[position + 1] if position + 1 < len(prompt) else None


def _starts_word(prompt: Prompt, position: int) -> Value:
    following = _next(prompt, position)
    return None if following is None else following[:1].isspace()


def _ends_sentence(prompt: Prompt, position: int) -> Value:
    following = _next(prompt, position)
    return None if following is None else following.strip()[:1] in {".", "?", "!"}


def _answer(prompt: Prompt, position: int) -> Value:
    return int(prompt.extra["pair"]["answer"])


def _own(prompt: Prompt, position: int) -> Value:
    return prompt.extra["label"]


QUESTIONS = {
    one.name: one
    for one in (
        Question("repeated", "whether the token has occurred before in the prompt", True, _repeated),
        Question("position-parity", "whether the token's position is odd", True, _parity),
        Question("next-starts-word", "whether the next token begins a word", True, _starts_word),
        Question("ends-sentence", "whether the next token ends a sentence", True, _ends_sentence),
        Question("answer", "which token is the right next one", False, _answer),
        Question("label", "the prompt's own label", False, _own),
    )
}


def question(name: str) -> Question:
    """The question of a name.

    Raises:
        UsageError: there is none of that name; lists those there are.
    """
    if name.startswith(GROUP) and name != GROUP:
        group = name.removeprefix(GROUP)
        return Question(name, f"the prompt's {group}", False, lambda prompt, position: prompt.extra[GROUPS][group])
    if name not in QUESTIONS:
        raise UsageError(f"label={name}: there is no such question; ask {', '.join(QUESTIONS)} or {GROUP}NAME")
    return QUESTIONS[name]


def requires(prompt: Prompt, asked: Question) -> None:
    """`UsageError` for a prompt that has no answer to a question: no pair, no group of that name, no label."""
    extra, groups = prompt.extra, prompt.extra.get(GROUPS)
    if asked.name == "answer" and "pair" not in extra:
        raise UsageError(f"prompt {prompt.name!r} has no answer; label=answer goes with probes of pairs (--probe ioi)")
    if asked.name == "label":
        if "label" not in extra:
            raise UsageError(
                f'prompt {prompt.name!r} has no label; give one in each line: {{"text": ..., "label": ...}}'
            )
        usable(extra["label"], prompt)
    if asked.name.startswith(GROUP):
        known = sorted(groups) if isinstance(groups, dict) else []
        if asked.name.removeprefix(GROUP) not in known:
            there = ", ".join(GROUP + name for name in known) or "no group"
            raise UsageError(f"prompt {prompt.name!r} has no {asked.name}; it has {there}")


def usable(value: Any, prompt: Prompt) -> Value:
    """A label of the user's, if it can be one.

    Raises:
        UsageError: it is neither text nor number nor truth value.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise UsageError(f"prompt {prompt.name!r}: label {value!r} is a {type(value).__name__}; give a text or a number")


def places(prompt: Prompt, position: str) -> list[int]:
    """Absolute positions that a name stands for in a prompt: ``all`` (but the first, which often is a sink), ``last``,
    a number (negative: from the end), or a name of the pair's positions.

    Raises:
        UsageError: the prompt has no such position.
    """
    length = len(prompt)
    if position == "all":
        return list(range(1, length))
    named = prompt.extra.get("pair", {}).get("positions", {})
    if position in named:
        return [int(named[position])]
    if position == "last":
        return [length - 1]
    try:
        number = int(position)
    except ValueError:
        known = ["all", "last", "a number", *named]
        raise UsageError(f"prompt {prompt.name!r} has no position {position!r}; it has {', '.join(known)}") from None
    if not -length <= number < length:
        raise UsageError(f"prompt {prompt.name!r} has {length} tokens and no position {number}")
    return [number % length]


def default_positions(asked: Question) -> tuple[str, ...]:
    """Where a question is read when nothing is said."""
    return ("all",) if asked.each_token else ("last",)
