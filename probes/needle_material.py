"""What needles and haystacks are made of: the shipped needles, the shipped texts, and filler to any length."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from interp.resources import data_path
from probes.needle_text import sentence_ends
from probes.problem_base import Draw
from probes.text import shipped_texts

KINDS = ("prose", "encyclopaedia", "dialogue", "how-to", "legal")
"""Kinds of shipped texts that make a haystack: those of sentences. Prose comes first, the others in any order."""
PARAGRAPH = 6
"""Filler sentences of a paragraph."""
POOL = 48
"""Filler sentences among which those that fill up a prompt are chosen."""
CLOSE = 2
"""Tokens short of what was asked for with which a haystack is filled up well enough."""
MOST_FILL = 256
"""Tokens that they fill up at the most."""


@dataclass(frozen=True)
class Needle:
    """A made-up fact.

    Attributes:
        name: short label.
        sentence: what is put into the haystack.
        question, answer: what is asked, and the part of the sentence that must come back.
        prefix: the sentence up to the answer.
        twin, twin_answer: a sentence of the same shape about something else, which the question does not fit.
    """

    name: str
    sentence: str
    question: str
    answer: str
    prefix: str
    twin: str
    twin_answer: str


@cache
def needles() -> tuple[Needle, ...]:
    """The shipped needles, ``data/needles/needles.jsonl``."""
    lines = data_path("needles", "needles.jsonl").read_text("utf-8").splitlines()
    return tuple(Needle(**json.loads(line)) for line in lines)


@cache
def _filler() -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    made = json.loads(data_path("needles", "filler.json").read_text("utf-8"))
    return tuple(made["templates"]), {name: tuple(words) for name, words in made["words"].items()}


def filler_sentences(*key: int | str) -> Iterator[str]:
    """Bland sentences without an end, the same for the same key on every platform."""
    templates, words = _filler()
    draw = Draw("filler", *key)
    while True:
        used: set[str] = set()

        def word(match: re.Match[str], used: set[str] = used) -> str:
            """One that the sentence has not yet; a thing and its plural count as one, and so do people."""
            left = [one for one in words[match.group(1)] if one.rstrip("s") not in used]
            chosen = draw.pick(left)
            used.add(chosen.rstrip("s"))
            return chosen

        sentence = re.sub(r"\{(\w+)\}", word, draw.pick(templates))
        sentence = re.sub(r"\ba (?=[aeiou])", "an ", sentence)
        yield sentence[0].upper() + sentence[1:]


@cache
def texts_of_sentences() -> tuple[tuple[str, bool], ...]:
    """(text, whether it is prose) of the shipped texts that make a haystack."""
    found = []
    for name, text in shipped_texts():
        kind = json.loads(data_path("texts", f"{name}.card.json").read_text("utf-8"))["kind"]
        if kind in KINDS:
            found.append((text.strip(), kind == "prose"))
    return tuple(found)


def haystack_parts(*key: int | str) -> Iterator[str]:
    """Paragraphs without an end: the shipped texts, prose first, in an order drawn by the key, then filler."""
    draw = Draw("haystack", *key)
    texts = texts_of_sentences()
    for wanted in (True, False):
        for text in draw.some([text for text, prose in texts if prose is wanted], sum(p is wanted for _, p in texts)):
            yield from text.split("\n\n")
    sentences = filler_sentences(*key)
    while True:
        yield " ".join(next(sentences) for _ in range(PARAGRAPH))


@dataclass(frozen=True)
class Haystack:
    """One long text, and short sentences to fill it up to a token.

    Attributes:
        text: the text.
        ends: character offsets behind its sentences, ascending.
        tokens: int64 [ends]: tokens of the text that begin before each of them.
        fills: sentences by the number of tokens that they add.
    """

    text: str
    ends: tuple[int, ...]
    tokens: np.ndarray
    fills: dict[int, tuple[tuple[str, int], ...]]

    def filled(self, room: int) -> Straw:
        """As much of it as fits in `room` tokens: whole sentences, then filler up to `room` or just below it."""
        best, number, chosen = -1, 0, ()
        for sentences in range(int(np.searchsorted(self.tokens, room, side="right")), -1, -1):
            used = int(self.tokens[sentences - 1]) if sentences else 0
            fill = max(size for size in self.fills if size <= max(room - used, 0))
            if used + fill > best:
                best, number, chosen = used + fill, sentences, self.fills[fill]
            if room - best <= CLOSE or room - used > MOST_FILL:  # no better with fewer sentences, or not much
                break
        end = self.ends[number - 1] if number else 0
        text, places, counts = self.text[:end], [0, *self.ends[:number]], [0, *map(int, self.tokens[:number])]
        for sentence, size in chosen:
            text += f" {sentence}" if text else sentence
            places.append(len(text))
            counts.append(counts[-1] + size)
        return Straw(text, tuple(places), tuple(counts))


@dataclass(frozen=True)
class Straw:
    """The part of a haystack that one prompt holds: its text, where a sentence can be put in, tokens before each."""

    text: str
    places: tuple[int, ...]
    tokens: tuple[int, ...]

    def place(self, depth: float, target: float) -> int:
        """Where a needle goes: before everything at depth 0, behind everything at 1, else at the sentence end nearest
        to `target` tokens."""
        if depth in (0, 1):
            return self.places[0 if depth == 0 else -1]
        return min(zip(self.places, self.tokens, strict=True), key=lambda one: abs(one[1] - target))[0]


def grow(tokenizer: Any, tokens: int, *key: int | str) -> Haystack:
    """A haystack of at least so many tokens; one key, one beginning."""
    parts, taken, size = haystack_parts(*key), [], 0
    while size < tokens:
        more = [next(parts) for _ in range(1 if size else 4)]
        while size + sum(map(len, more)) / 8 < tokens and len(more) < 4096:  # no more than 8 characters a token
            more.append(next(parts))
        taken += more
        size += sum(len(ids) - 1 for ids in tokenizer(more, add_special_tokens=False, verbose=False)["input_ids"])
    text = "\n\n".join(taken)
    starts = [a for a, _ in tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]]
    ends = sentence_ends(text)
    return Haystack(text, tuple(ends), np.searchsorted(starts, ends, side="left"), _fills(tokenizer, *key))


def _fills(tokenizer: Any, *key: int | str) -> dict[int, tuple[tuple[str, int], ...]]:
    """For numbers of tokens, filler sentences that add so many: as few as can be, none twice."""
    drawn = filler_sentences("fill", *key)
    pool: dict[str, int] = {}
    while len(pool) < POOL:
        pool.setdefault(next(drawn), 0)
    _count(tokenizer, pool)
    sums: dict[int, tuple[tuple[str, int], ...]] = {0: ()}
    for one in pool.items():
        for size, chosen in sorted(sums.items()):
            total = size + one[1]
            if total <= MOST_FILL and (total not in sums or len(sums[total]) > len(chosen) + 1):
                sums[total] = (*chosen, one)
    return sums


def _count(tokenizer: Any, pool: dict[str, int]) -> None:
    """Fill in how many tokens each sentence takes behind another."""
    before = "It was so."
    alone = len(tokenizer(before, add_special_tokens=False)["input_ids"])
    texts: Sequence[str] = [f"{before} {sentence}" for sentence in pool]
    for sentence, ids in zip(pool, tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True):
        pool[sentence] = len(ids) - alone
