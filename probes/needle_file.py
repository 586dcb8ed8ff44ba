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

_KEYS = ("context", "answer", "question")
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

    Where the answer stands in the context several times, the first place is taken where it is no part of a longer word
    (else the first of all), and `extra` says so.

    Raises:
        UsageError: names line and key.
    """
    left = dict(given)
    context, answer, question = (take_string(dict(given), key, where, _SHAPE) for key in _KEYS)
    for key in _KEYS:
        del left[key]
    prefix = take_string(left, "prefix", where, _SHAPE, default="")
    name = take_name(left, where, default_name)
    most = left.pop("max_new_tokens", None)
    most = max_new_tokens if most is None else most
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        told = most if isinstance(most, int | float) and not isinstance(most, bool) else f"a JSON {json_type(most)}"
        raise UsageError(f"{where}: 'max_new_tokens' is {told}; it must be a whole number of 1 or more, such as 50")
    for key in {KEY, NOTES} & set(left):
        raise UsageError(f"{where}: {key!r} is what interp keeps facts of its own under; call yours something else")
    places = [match.start() for match in re.finditer(f"(?={re.escape(answer)})", context)]
    if not places:
        near = re.search(re.escape(answer.strip()), context, re.IGNORECASE)
        hint = f"the context has {near.group()!r}" if near else "copy it from the context, letter by letter"
        raise UsageError(f"{where}: 'answer' ({answer[:60]!r}) is no part of 'context'; {hint}")
    if part := _begun(prefix, answer):
        raise UsageError(
            f"{where}: 'prefix' ({prefix[-60:]!r}) holds part of 'answer' already ({part!r}), so that less is left to "
            "copy than is scored; end it before that, or take that part out of the answer"
        )
    at = next((at for at in places if _whole(context, at, at + len(answer))), places[0])
    if len(places) > 1:
        which = "the first place" if at == places[0] else "the first that is no part of a longer word"
        said = f"its answer stands in the context {len(places)} times, and copying is scored on {which} alone"
        left[NOTES] = [said]
    place = (at, at + len(answer))
    return Record(where, Asked(name, name, context, place, place, question, prefix, most, "own"), left)


def _whole(text: str, start: int, end: int) -> bool:
    """Whether no word goes on beyond either end of this place."""
    return all(not (text[at - 1].isalnum() and text[at].isalnum()) for at in (start, end) if 0 < at < len(text))


def _begun(prefix: str, answer: str) -> str:
    """The part of the answer that the prefix ends with: all of it, or its first words; or all of an answer of several
    words further ahead (a single word may stand there for another reason); empty if none."""
    given, wanted = prefix.casefold().split(), answer.casefold().split()
    if len(wanted) > 1 and any(given[at : at + len(wanted)] == wanted for at in range(len(given))):
        return answer.strip()
    held = max((size for size in range(1, len(wanted) + 1) if given[-size:] == wanted[:size]), default=0)
    return " ".join(answer.split()[:held])


def _grouped(records: Iterable[Record]) -> list[Record]:
    """Records that ask the same and want the same answer are one needle, named after the first of them; where another
    needle has that name, a number is put behind it."""
    names: dict[tuple[str, str], str] = {}
    made = []
    for one in records:
        asked = one.asked
        key = (asked.question, asked.context[slice(*asked.answer)])
        if key not in names:
            taken = set(names.values())
            free = (f"{asked.needle} ({number})" for number in range(2, len(taken) + 3))
            names[key] = next(name for name in (asked.needle, *free) if name not in taken)
        made.append(replace(one, asked=replace(asked, needle=names[key])))
    return made
