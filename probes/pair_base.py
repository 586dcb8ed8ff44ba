"""What probes of pairs share: words that are one token here, templates filled in, both texts tokenised and aligned.

A prompt of such a probe carries its pair (`interp.circuits.pairs.Pair`) in ``extra["pair"]`` and, beside it, ``groups``
(name -> value: what results can be told apart by, such as the template) and facts of the probe's own. A word counts as
one token when it is one behind a space, in the model's own tokenizer; others are not used.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import UsageError
from interp.resources import data_path
from probes.base import Prompt
from probes.needle_prompt import Span, located, tokens_over

if TYPE_CHECKING:
    from interp.models.model import Model
    from probes.pairs_file import Record

DEFAULT_PROMPTS = 64
GROUPS = "groups"
"""Where `Prompt.extra` keeps what results can be told apart by."""
TWINS = "twins"
"""Where it keeps all corrupted twins by name, for probes that have several."""


@cache
def words(kind: str) -> tuple[str, ...]:
    """The shipped words of one kind, ``data/circuits/words.json``."""
    return tuple(json.loads(data_path("circuits", "words.json").read_text("utf-8"))[kind])


def requires_text(model: Model) -> Any:
    """The model's tokenizer, where pairs can be made with it.

    Raises:
        UsageError: there is none, it does not tell where in the text its tokens stand, or a chat template is on.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise UsageError(
            f"{model.name} has no tokenizer, and these pairs are sentences; give tokenizer=..., or "
            "use --probe induction"
        )
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(
            f"{model.name}: {type(tokenizer).__name__} is a slow tokenizer, which does not tell where in the text its "
            "tokens stand; pairs need a fast one (a tokenizer.json)"
        )
    if model.chat:
        raise UsageError("a pair ends where the answer comes next, which a chat template hides; leave out --chat")
    return tokenizer


def one_token(model: Model, candidates: Iterable[str], lead: str = "to") -> dict[str, int]:
    """Those words that are one token behind `lead` and a space, and no two of them the same: word -> id."""
    tokenizer, listed = requires_text(model), list(candidates)
    before = _plain(tokenizer, lead)
    found: dict[str, int] = {}
    for word in listed:
        ids = _plain(tokenizer, f"{lead} {word}")
        known = ids[-1] != tokenizer.unk_token_id and ids[-1] not in found.values()
        if known and ids[:-1] == before:
            found[word] = ids[-1]
    return found


def enough(model: Model, kind: str, candidates: Sequence[str], usable: Sequence[str], least: int) -> None:
    """`UsageError` when fewer than `least` of the words can be used."""
    if len(usable) >= least:
        return
    tokenizer = requires_text(model)
    lost = next(word for word in candidates if word not in usable)
    raise UsageError(
        f"{model.name}: {len(usable)} of {len(candidates)} {kind} are one token behind a space, at least {least} are "
        f"needed; {' ' + lost!r} is {tokenizer.convert_ids_to_tokens(_plain(tokenizer, ' ' + lost))}. Give pairs made "
        "for this tokenizer with --prompts FILE.jsonl, or use --probe induction"
    )


def _plain(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def fill(template: str, values: Mapping[str, str]) -> tuple[str, dict[str, Span]]:
    """The template with its ``{slots}`` filled in, and where each stands in the text."""
    text, spans = "", {}
    for literal, slot, _, _ in string.Formatter().parse(template):
        text += literal
        if slot is not None:
            spans[slot] = (len(text), len(text) + len(values[slot]))
            text += values[slot]
    return text, spans


@dataclass(frozen=True)
class Draft:
    """A pair as text.

    Attributes:
        name, template: labels.
        clean: the prompt.
        corrupt: its twin.
        answer, wrong: ids of the next token.
        spots: name -> characters of `clean` that are one token; ``end`` is added.
        groups: what results can be told apart by.
        facts: JSON-able, for `Prompt.extra`.
    """

    name: str
    template: str
    clean: str
    corrupt: str
    answer: int
    wrong: tuple[int, ...]
    spots: Mapping[str, Span]
    groups: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)


def build(model: Model, draft: Draft, max_length: int | None, *, behind: Mapping[str, str] | None = None) -> Prompt:
    """The prompt with its pair.

    Args:
        behind: name -> spot: the token behind it.

    Raises:
        UsageError: it is longer than `max_length` or the model takes; or the tokenizer joins or parts its words
            otherwise than alone.
    """
    from interp.circuits.pairs import Pair

    prompt, offsets = located(model, draft.clean, draft.name)
    fits(prompt, max_length)
    positions: dict[str, int] = {}
    for name, (start, end) in draft.spots.items():
        first, stop = tokens_over(offsets, start, end)
        shown = "".join(prompt.tokens[first:stop]).strip()
        if stop != first + 1 or shown != draft.clean[start:end]:
            raise UsageError(
                f"{model.name}: prompt {draft.name!r}: {draft.clean[start:end]!r} is {list(prompt.tokens[first:stop])} "
                "there, where one token was expected; this tokenizer does not serve, use --prompts FILE.jsonl"
            )
        positions[name] = first
    positions.update({name: positions[spot] + 1 for name, spot in (behind or {}).items()})
    positions["end"] = len(prompt) - 1
    pair = Pair(prompt, twin(model, draft.corrupt, draft.name), draft.answer, draft.wrong, positions, draft.template)
    return replace(prompt, extra={**pair.as_extra(), GROUPS: dict(draft.groups), **draft.facts})


def twin(model: Model, text: str, name: str) -> tuple[int, ...]:
    """Ids of a corrupted twin."""
    return located(model, text, name)[0].ids


def fits(prompt: Prompt, max_length: int | None) -> None:
    """`UsageError` for a prompt longer than `max_length`."""
    if max_length is not None and len(prompt) > max_length:
        raise UsageError(
            f"prompt {prompt.name!r} has {len(prompt)} tokens, more than --max-length {max_length}; pairs are not cut, "
            "for the answer comes at their end"
        )


class OwnPairs:
    """A probe of pairs also reads a user's own (`probes.pairs_file`)."""

    def read(self, path: str | Path) -> list[Record]:
        """The pairs of a JSONL file, for `from_records`; read and checked without a model.

        Raises:
            UsageError: names file, line and key.
        """
        from probes import pairs_file

        return pairs_file.read(path)

    def from_records(
        self,
        model: Model,
        records: Iterable[Mapping[str, Any] | Record],
        *,
        limit: int | None = None,
        max_length: int | None = None,
    ) -> list[Prompt]:
        """Prompts of own pairs: what `read` gave, or mappings with the same keys.

        Raises:
            UsageError: names line and key, and the tokens found.
        """
        from probes import pairs_file

        return pairs_file.prompts(model, records, limit=limit, max_length=max_length)
