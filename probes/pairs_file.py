"""A user's own pairs: one object with clean, corrupt, answer and wrong each, from a JSONL file or from Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import UsageError
from probes.base import NOTES, Prompt
from probes.needle_prompt import Span, located, tokens_over
from probes.pair_base import GROUPS, TWINS, fits, requires_text
from probes.prompts_file import check_object, json_type, read_records, take_name, take_string

if TYPE_CHECKING:
    from interp.models.model import Model

_SHAPE = (
    'expected one JSON object a line, such as {"clean": "The keys to the cabinet", "corrupt": "The key to the '
    'cabinet", "answer": " are", "wrong": " is"}'
)
_SHOWN = 40
"""Tokens of a text that a message shows."""


@dataclass(frozen=True)
class Record:
    """One line.

    Attributes:
        where: file and line, for messages.
        name, template: labels.
        clean, corrupt: both texts.
        answer, wrong: next tokens as text, a leading space kept.
        positions: name -> part of `clean`, whose last token is meant, or number of a token (BOS counts; -1 = last).
        extra: keys of the line that are none of ours.
    """

    where: str
    name: str
    template: str
    clean: str
    corrupt: str
    answer: str
    wrong: tuple[str, ...]
    positions: Mapping[str, str | int]
    extra: dict[str, Any] = field(default_factory=dict)


def read(path: str | Path) -> list[Record]:
    """The pairs of a JSONL file (see `record`).

    Raises:
        UsageError: the file cannot be read, or a line is malformed; the message names file, line and key.
    """
    return [record(one, where, name) for where, name, one in read_records(path, _SHAPE)]


def record(given: Mapping[str, Any], where: str, default_name: str) -> Record:
    """One pair: ``clean``, ``corrupt``, ``answer``, ``wrong`` (a string or several); optionally ``positions``, ``name``
    and ``template``. Other keys travel with the prompt.

    Raises:
        UsageError: names line and key.
    """
    from interp.circuits.pairs import KEY

    left = dict(given)
    clean, corrupt = (take_string(left, key, where, _SHAPE) for key in ("clean", "corrupt"))
    if clean == corrupt:
        raise UsageError(f"{where}: 'corrupt' is the same text as 'clean'; change the words that settle the answer")
    answer = take_string(left, "answer", where, _SHAPE)
    several = left.pop("wrong", None) if isinstance(left.get("wrong"), list) else None
    texts = [take_string(left, "wrong", where, _SHAPE)] if several is None else several
    if not texts or any(not isinstance(text, str) or not text for text in texts):
        raise UsageError(f"{where}: 'wrong' is {texts!r}; expected a string, or an array of at least one string")
    if answer in texts or len(set(texts)) < len(texts):
        raise UsageError(f"{where}: 'wrong' is {texts!r} and 'answer' {answer!r}; they must all be different")
    name, template = take_name(left, where, default_name), take_string(left, "template", where, _SHAPE, default="own")
    positions = _positions(left.pop("positions", None), where)
    for key in sorted({KEY, NOTES, GROUPS, TWINS} & set(left)):
        raise UsageError(f"{where}: {key!r} is what interp keeps facts of its own under; call yours something else")
    return Record(where, name, template, clean, corrupt, answer, tuple(texts), positions, left)


def _positions(given: Any, where: str) -> dict[str, str | int]:
    positions = {} if given is None else given
    if not isinstance(positions, dict):
        raise UsageError(
            f"{where}: 'positions' is a JSON {json_type(given)}; expected an object, such as "
            '{"subject": " keys", "before the end": -2}'
        )
    for name, at in positions.items():
        if isinstance(at, bool) or not isinstance(at, str | int) or at == "":
            raise UsageError(f"{where}: position {name!r} is {at!r}; expected a part of 'clean' or a token's number")
    return positions


def prompts(
    model: Model,
    records: Iterable[Mapping[str, Any] | Record],
    *,
    limit: int | None = None,
    max_length: int | None = None,
) -> list[Prompt]:
    """Prompts of records, tokenised and aligned.

    Raises:
        UsageError: a record is malformed or too long, its texts do not line up, or a next token is not one; names line,
            key, and the tokens found.
    """
    requires_text(model)
    made = []
    for number, one in enumerate(records, start=1):
        if limit is not None and number > limit:
            break
        if not isinstance(one, Record):
            where, given = f"record {number}", dict(one) if isinstance(one, Mapping) else one
            one = record(check_object(given, where, _SHAPE), where, f"own-{number}")
        made.append(_prompt(model, one, max_length))
    return made


def _prompt(model: Model, one: Record, max_length: int | None) -> Prompt:
    from interp.circuits.pairs import Pair

    prompt, offsets = _located(model, one, one.clean, max_length)
    corrupt, _ = _located(model, one, one.corrupt, None)
    if len(prompt) != len(corrupt):
        raise UsageError(
            f"{one.where}: 'clean' has {len(prompt)} tokens and 'corrupt' {len(corrupt)}, but they must line up token "
            f"by token; use words that this tokenizer cuts into as many tokens. clean: {_shown(prompt)}; "
            f"corrupt: {_shown(corrupt)}"
        )
    if prompt.ids == corrupt.ids:
        raise UsageError(f"{one.where}: 'clean' and 'corrupt' are the same tokens to this tokenizer: {_shown(prompt)}")
    answer = _next(model, one, prompt, "answer", one.answer)
    wrong = [_next(model, one, prompt, "wrong", text) for text in one.wrong]
    if len({answer, *wrong}) < 1 + len(wrong):
        raise UsageError(f"{one.where}: 'answer' and 'wrong' hold one token twice: {[answer, *wrong]}")
    positions = {name: _place(one, prompt, offsets, name, at) for name, at in one.positions.items()}
    positions.setdefault("end", len(prompt) - 1)
    pair = Pair(prompt, corrupt.ids, answer, tuple(wrong), positions, one.template)
    return replace(prompt, extra={**one.extra, **pair.as_extra(), GROUPS: {"template": one.template}})


def _located(model: Model, one: Record, text: str, max_length: int | None) -> tuple[Prompt, list[Span]]:
    try:
        prompt, offsets = located(model, text, one.name)
        fits(prompt, max_length)
    except UsageError as error:
        raise UsageError(f"{one.where}: {error}") from error
    return prompt, offsets


def _next(model: Model, one: Record, prompt: Prompt, key: str, text: str) -> int:
    """The one token that `text` is behind the clean prompt."""
    whole, _ = _located(model, one, one.clean + text, None)
    if whole.ids[: len(prompt)] == prompt.ids and len(whole) == len(prompt) + 1:
        return whole.ids[-1]
    if whole.ids[: len(prompt)] != prompt.ids:
        hint = f"it joins the prompt's end ({_shown(whole)})"
        if one.clean[-1].isspace():
            hint += "; end 'clean' without the space, and begin the answers with it"
        elif not text[0].isspace():
            hint += f"; a space before it ({' ' + text!r}) may be what is missing"
    else:
        ids, tokens = whole.ids[len(prompt) :], whole.tokens[len(prompt) :]
        hint = f"it is {len(ids)} tokens there, {list(tokens)} (ids {list(ids)})"
        if tokens:
            hint += f"; the first alone, {tokens[0]!r}, would do"
        if not text[0].isspace():
            hint += f", and so may {' ' + text!r} with a space before it"
    raise UsageError(f"{one.where}: {key!r} ({text!r}) must be one token behind 'clean', but {hint}")


def _place(one: Record, prompt: Prompt, offsets: list[Span], name: str, at: str | int) -> int:
    if isinstance(at, int):
        if not -len(prompt) <= at < len(prompt):
            raise UsageError(
                f"{one.where}: position {name!r} is {at}, but 'clean' has {len(prompt)} tokens: {_shown(prompt)}"
            )
        return at % len(prompt)
    times = one.clean.count(at)
    if times != 1:
        told = f"stands {times} times in" if times else "is no part of"
        raise UsageError(
            f"{one.where}: position {name!r} ({at!r}) {told} 'clean'; give more of the text around it, its last token "
            f"counts, or a token's number in {_shown(prompt)}"
        )
    end = one.clean.index(at) + len(at.rstrip() or at)
    first, stop = tokens_over(offsets, end - 1, end)
    if stop <= first:
        raise UsageError(f"{one.where}: position {name!r} ({at!r}) is under no token of {_shown(prompt)}")
    return stop - 1


def _shown(prompt: Prompt) -> str:
    more = f" and {len(prompt) - _SHOWN} more" if len(prompt) > _SHOWN else ""
    return f"{list(prompt.tokens[:_SHOWN])}{more}"
