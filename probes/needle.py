"""A needle in a haystack: a made-up fact stands somewhere in a long text and is asked for at its end.

The task of Wu et al. 2024 (arXiv 2404.15574, section 2) over a grid of lengths x depths x needles. Needles were written
for interp; haystacks grow from the shipped texts and from filler sentences to any length in tokens. A needle goes in at
a sentence end found in the text; all prompts of a length share one haystack, so they begin with the same tokens up to
the needle. Every prompt carries its task (`interp.retrieval.task.Task`) in ``extra["needle"]``, and in
``extra["needle_forms"]`` the form it is asked in and how that was found.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from interp.errors import UsageError
from probes import needle_file, needle_forms, needle_grid
from probes.base import NOTES, Prompt
from probes.needle_grid import Place
from probes.needle_material import Haystack, Needle, Straw, grow, needles
from probes.needle_prompt import Asked, build, check_answer, check_length, located, requires_offsets

if TYPE_CHECKING:
    from interp.models.model import Model

DEFAULT_LENGTH = 2048
"""Longest prompts where neither `max_length` nor the model's window is shorter."""
TOLERANCE = 4
"""A prompt has as many tokens as asked for, or at most so many fewer."""
LEAST_HAYSTACK = 64
"""Tokens of haystack that a prompt has at least."""
_FITS = 6
"""Times that a prompt is put together anew until its length fits."""


@dataclass(frozen=True)
class NeedleProbe:
    """See the module.

    Attributes:
        lengths: tokens of a prompt, its question included; empty = an eighth, a quarter, a half and all of what fits.
        depths: where the needle stands, as shares of the haystack before it.
        needles: needles at each length and depth.
        distractors: a sentence of the same shape about something else stands elsewhere in the haystack.
        form: how it is asked: ``bare`` (``Answer:``), ``prefix`` (the answer is begun), ``chat`` (as the user's turn of
            the tokenizer's template); ``auto`` = the first of these in which the model can do the task.
        max_new_tokens: most tokens of an answer.
    """

    name: str = "needle"
    help: str = "a made-up fact in a long text, asked for at its end: lengths x depths x needles"
    lengths: tuple[int, ...] = ()
    depths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    needles: int = 3
    distractors: bool = False
    form: Literal["auto", "bare", "prefix", "chat"] = "auto"
    max_new_tokens: int = 50
    for_records: ClassVar[tuple[str, ...]] = ("form", "max_new_tokens")
    """The settings that own material is read and asked with."""

    def __post_init__(self) -> None:
        if not self.depths or any(not 0 <= depth <= 1 for depth in self.depths):
            raise ValueError(f"depths={self.depths}: expected shares from 0 to 1")
        for name in ("lengths", "depths"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)}: expected different values")
        for name in ("needles", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected 1 or more")
        if self.needles > len(needles()):
            raise ValueError(f"needles={self.needles}: there are {len(needles())}")

    def prompts(
        self, model: Model, *, limit: int | None = None, max_length: int | None = None, seed: int = 0
    ) -> list[Prompt]:
        """The grid, or as many places of it as `limit` says, lengths, depths and needles as even as can be.

        Ordered so that neighbours begin alike: by length, from the deepest needle up. A larger `limit` only adds some.

        Raises:
            UsageError: no haystack fits, a length does not, or the model's tokenizer does not serve.
        """
        forms = self._forms(model)
        most, why = _most(model, DEFAULT_LENGTH if max_length is None else max_length, self.max_new_tokens)
        frames = {form: max(self._frame(model, one, form) for one in needles()) for form in forms}
        least = max(frames.values()) + LEAST_HAYSTACK
        lengths, dropped = needle_grid.ladder(self.lengths, most, least, why)
        places = needle_grid.grid(lengths, self.depths, needles(), self.needles, seed)
        found = self._chosen(model, forms, frames, min(most, max(needle_forms.LENGTH, least)))
        form = found["chosen"]
        notes = [*([found["why"]] if found["why"] == needle_forms.UNTRIED else []), *dropped]
        extra = {"needle_forms": found, **({NOTES: notes} if notes else {})}
        haystacks: dict[int, Haystack] = {}
        made = []
        for place in needle_grid.balanced(places, limit):
            if place.length not in haystacks:
                haystacks[place.length] = grow(requires_offsets(model), place.length, seed, place.length)
            haystack = haystacks[place.length]
            made.append(self._fitted(model, place, haystack, form, frames[form], extra))
        return made

    def read(self, path: str | Path) -> list[needle_file.Record]:
        """Own material from a JSONL file, for `from_records`; read and checked without a model.

        Raises:
            UsageError: see `needle_file.read`.
        """
        return needle_file.read(path, self.max_new_tokens)

    def from_records(
        self,
        model: Model,
        records: Iterable[Mapping[str, Any] | needle_file.Record],
        *,
        limit: int | None = None,
        max_length: int | None = None,
    ) -> list[Prompt]:
        """Prompts of own material: what `read` gave, or mappings with the same keys (see `needle_file.record`).

        Asked as it is given, or as the user's turn where the model was loaded with its chat template or form=chat.

        Raises:
            UsageError: a record is malformed, or its prompt is longer than `max_length` or the model allows; nothing is
                cut, for that could cut the needle.
        """
        chat = model.chat or self.form == "chat"
        requires_offsets(model, chat)
        made = []
        for one in needle_file.from_mappings(records, self.max_new_tokens)[:limit]:
            asked = replace(one.asked, form="chat") if chat else one.asked
            longest = sys.maxsize if max_length is None else max_length
            most, why = _most(model, longest, asked.max_new_tokens, f"{one.where}: ")
            try:
                check_length(model, asked, most, why)
                prompt = build(model, asked, one.extra)
                check_answer(prompt)
            except UsageError as error:
                raise UsageError(f"{one.where}: {error}") from error
            made.append(prompt)
        return made

    def _forms(self, model: Model) -> tuple[str, ...]:
        """The forms that may be used."""
        if model.chat:
            requires_offsets(model, chat=True)
            return ("chat",)
        if self.form != "auto":
            requires_offsets(model, chat=self.form == "chat")
            return (self.form,)
        template = getattr(requires_offsets(model), "chat_template", None)
        return ("bare", "prefix", "chat") if template else ("bare", "prefix")

    def _chosen(self, model: Model, forms: Sequence[str], frames: Mapping[str, int], length: int) -> dict[str, Any]:
        """The form to ask in (see `needle_forms.chosen`), tried on short haystacks, each with a needle and depth of its
        own."""

        def make(form: str) -> list[Prompt]:
            tried = needle_grid.grid([length], needle_forms.DEPTHS, needles(), 1, seed=0)
            haystacks = [grow(requires_offsets(model), length, "tried", place.name) for place in tried]
            return [
                self._fitted(model, place, haystack, form, frames[form], {})
                for place, haystack in zip(tried, haystacks, strict=True)
            ]

        settings = (model.bos, model.chat, model.source.tokenizer_hash, length, self.distractors, self.max_new_tokens)
        return needle_forms.chosen(model, forms, make, (*settings, tuple(forms)))

    def _frame(self, model: Model, one: Needle, form: str) -> int:
        """Tokens of a prompt without haystack."""
        asked = self._asked(Place(0, 0.0, one), Straw("", (0,), (0,)), 0, form)
        return len(located(model, asked.text(), chat=form == "chat")[0])

    def _fitted(
        self, model: Model, place: Place, haystack: Haystack, form: str, frame: int, extra: dict[str, Any]
    ) -> Prompt:
        """The prompt with as much haystack as brings it to its length.

        Args:
            frame: tokens of the longest prompt of this form without haystack: depths are shares of what that leaves, so
                that all needles go in at the same place.
        """
        room, best = place.length - self._frame(model, place.needle, form), None
        for _ in range(_FITS):
            straw = haystack.filled(room)
            asked = self._asked(place, straw, place.length - frame, form)
            size = len(located(model, asked.text(), place.name, form == "chat")[0])
            if size <= place.length and (best is None or size > best[0]):
                best = (size, asked)
            if place.length - TOLERANCE <= size <= place.length:
                break
            room += place.length - size
        if best is None:
            raise UsageError(f"lengths={place.length}: needle {place.needle.name} and its question do not fit")
        return build(model, best[1], extra)

    def _asked(self, place: Place, straw: Straw, target: int, form: str) -> Asked:
        """The task with a needle, and its twin where there are distractors, at places of the straw."""
        one = place.needle
        inserted = [(straw.place(place.depth, place.depth * target), one.sentence)]
        if self.distractors:
            other = place.depth + (0.5 if place.depth < 0.5 else -0.5)
            inserted.append((straw.place(other, other * target), one.twin))
        context = " ".join(sentence for end, sentence in inserted if end == 0)
        context += "\n\n" if context and straw.text else ""
        at = 0
        for end, sentence in sorted(pair for pair in inserted if pair[0] > 0):
            context += f"{straw.text[at:end]} {sentence}"
            at = end
        context += straw.text[at:]
        start = context.index(one.sentence)
        answer = start + one.sentence.index(one.answer)
        return Asked(
            name=place.name,
            needle=one.name,
            context=context,
            answer=(answer, answer + len(one.answer)),
            sentence=(start, start + len(one.sentence)),
            question=one.question,
            prefix=f" {one.prefix}" if form == "prefix" else "",
            max_new_tokens=self.max_new_tokens,
            form=form,
            length=place.length,
            depth=place.depth,
        )


def _most(model: Model, asked: int, answer: int, where: str = "") -> tuple[int, str]:
    """Tokens that a prompt may have, and what sets that limit; `UsageError` when the answer leaves room for none."""
    window = model.max_positions
    if window is not None and answer >= window:
        raise UsageError(
            f"{where}max_new_tokens={answer}: {model.name} takes {window} tokens, prompt and answer together; give "
            f"fewer, such as {min(50, window // 2)}"
        )
    if window is not None and window - answer < asked:
        return window - answer, f"{model.name} takes {window}, {answer} of them for the answer"
    return asked, f"--max-length {asked}"


probe = NeedleProbe()
