"""A user's own needles: one object with context, answer and question each, from a JSONL file or from Python."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from interp.errors import UsageError
from interp.retrieval.task import KEY
from probes.base import NOTES
from probes.needle_prompt import Asked
from probes.prompts_file import check_object, json_type, read_records, take_name, take_string

_SHAPE = (
    'expected one JSON object a line, such as {"context": "... The key is in the blue box. ...", '
    '"answer": "in the blue box", "question": "Where is the key?"}'
)


@dataclass(frozen=True)
class Record:
    """One line.

    Attributes:
        where: file and line, for messages.
        asked: the task as text.
        extra: keys of the line that are none of ours, and what must be said of it.
    """

    where: str
    asked: Asked
    extra: dict[str, Any] = field(default_factory=dict)


def read(path: str | Path, max_new_tokens: int) -> list[Record]:
    """The tasks of a JSONL file (see `record`).

    Raises:
        UsageError: the file cannot be read, or a line is malformed; the message names file, line and key.
    """
    return _grouped(record(one, where, name, max_new_tokens) for where, name, one in read_records(path, _SHAPE))


def from_mappings(records: Iterable[Mapping[str, Any] | Record], max_new_tokens: int) -> list[Record]:
    """The same from mappings; a `Record` stays as it is."""
    made = []
    for number, one in enumerate(records, start=1):
        if isinstance(one, Record):
            made.append(one)
            continue
        where = f"record {number}"
        given = dict(one) if isinstance(one, Mapping) else one
        made.append(record(check_object(given, where, _SHAPE), where, f"own-{number}", max_new_tokens))
    return _grouped(made)


def record(given: dict[str, Any], where: str, default_name: str, max_new_tokens: int) -> Record:
    """One task: ``context`` (holding the needle), ``answer`` (a part of it), ``question``; optionally ``prefix``,
    ``max_new_tokens`` and ``name``. Other keys travel with the prompt.

    Where the answer stands in the context several times, its first place is taken, and `extra` says so.

    Raises:
        UsageError: names line and key.
    """
    left = dict(given)
    context, answer, question = (take_string(left, key, where, _SHAPE) for key in ("context", "answer", "question"))
    prefix = take_string(left, "prefix", where, _SHAPE, default="")
    name = take_name(left, where, default_name)
    most = left.pop("max_new_tokens", None)
    most = max_new_tokens if most is None else most
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        told = most if isinstance(most, int | float) and not isinstance(most, bool) else f"a JSON {json_type(most)}"
        raise UsageError(f"{where}: 'max_new_tokens' is {told}; it must be a whole number of 1 or more, such as 50")
    for key in {KEY, NOTES} & set(left):
        raise UsageError(f"{where}: {key!r} is what interp keeps facts of its own under; call yours something else")
    at = context.find(answer)
    if at < 0:
        near = re.search(re.escape(answer.strip()), context, re.IGNORECASE)
        hint = f"the context has {near.group()!r}" if near else "copy it from the context, letter by letter"
        raise UsageError(f"{where}: 'answer' ({answer[:60]!r}) is no part of 'context'; {hint}")
    times = context.count(answer)
    if times > 1:
        said = f"its answer stands in the context {times} times, and copying is scored on the first place alone"
        left[NOTES] = [said]
    place = (at, at + len(answer))
    return Record(where, Asked(name, name, context, place, place, question, prefix, most, "own"), left)


def _grouped(records: Iterable[Record]) -> list[Record]:
    """Records that ask the same and want the same answer are one needle, named after the first of them."""
    names: dict[tuple[str, str], str] = {}
    made = []
    for one in records:
        asked = one.asked
        context_answer = asked.context[slice(*asked.answer)]
        needle = names.setdefault((asked.question, context_answer), asked.needle)
        made.append(replace(one, asked=replace(asked, needle=needle)))
    return made
