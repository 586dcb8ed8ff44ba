"""Needles and haystacks: every needle is whole, none gives another away, no haystack answers one; sentence ends."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import islice

import pytest

from interp.resources import data_path
from probes.needle_material import (
    MOST_FILL,
    Needle,
    filler_sentences,
    grow,
    haystack_parts,
    needles,
    texts_of_sentences,
)
from probes.needle_text import sentence_ends
from probes.text import shipped_texts
from tests.tiny import tiny_tokenizer

NAMES = [one.name for one in needles()]


def plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


@pytest.mark.parametrize("name", ["needles", "filler"])
def test_card(name: str) -> None:
    facts = json.loads(data_path("needles", f"{name}.card.json").read_text("utf-8"))
    raw = data_path("needles", facts["file"]).read_bytes()
    assert facts["name"] == name and facts["author"] == "written for interp" and facts["licence"] == "MIT"
    assert facts["sha256"] == hashlib.sha256(raw).hexdigest()
    assert facts["characters"] == len(raw.decode("utf-8")) and b"\r" not in raw and raw.endswith(b"\n")


def test_there_are_enough_under_different_names() -> None:
    assert len(NAMES) >= 24 and len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("needle", needles(), ids=NAMES)
def test_needle(needle: Needle) -> None:
    for sentence, answer in ((needle.sentence, needle.answer), (needle.twin, needle.twin_answer)):
        assert sentence.count(answer) == 1 and sentence.endswith(".") and sentence_ends(sentence) == [len(sentence)]
        assert 6 <= len(answer.split()) <= 14
    assert needle.sentence.startswith(f"{needle.prefix} {needle.answer}")
    assert needle.question.endswith("?") and plain(needle.answer) not in plain(needle.question)
    assert not set(plain(needle.answer).split()) - COMMON <= set(plain(needle.question).split())


COMMON = set(re.findall(r"\w+", "a an and at by for from her his in is it its of on that the their them to up with"))


def test_the_question_fits_the_needle_and_not_its_twin() -> None:
    """A name in the question stands in the needle's sentence and in no other sentence, no twin's either."""
    for one in needles():
        named = re.findall(r"\b[A-Z][a-z]+|(?<=\")\w+(?=\")", one.question.partition(" ")[2])
        others = [other.twin for other in needles()] + [x.sentence for x in needles() if x is not one]
        assert any(word in one.sentence and not any(word in other for other in others) for word in named), one.name


def test_no_answer_stands_anywhere_else() -> None:
    texts = [text for _, text in shipped_texts()]
    hay = plain(" ".join([*texts, *islice(filler_sentences("test"), 5000)]))
    for one in needles():
        for answer, own in ((one.answer, one.sentence), (one.twin_answer, one.twin)):
            assert plain(answer) not in hay
            others = [text for x in needles() for text in (x.sentence, x.twin, x.question) if text != own]
            assert not any(plain(answer) in plain(other) for other in others), one.name


def test_filler_is_made_of_sentences_and_settled_by_its_key() -> None:
    made = list(islice(filler_sentences(3, "a"), 500))
    assert made == list(islice(filler_sentences(3, "a"), 500)) != list(islice(filler_sentences(3, "b"), 500))
    assert all(re.fullmatch(r"[A-Z][a-z ,]+\.", sentence) for sentence in made)
    assert len(set(made)) > 450
    assert all(sentence_ends(sentence) == [len(sentence)] for sentence in made)


def test_filler_is_plain_english() -> None:
    made = list(islice(filler_sentences("english"), 2000))
    future = ("by noon", "before sunrise", "the next day", "by the end of the month", "within a week", "in the morning")
    future += ("after the rain", "in the afternoon", "soon", "before long")
    for sentence in made:
        small = sentence.lower()
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", small), sentence
        for kept in ("the", "a", "an", "was", "and", "in", "of", "that", "who", "road", "to", "had", "been", "were"):
            small = re.sub(rf"\b{kept}\b", " ", small)
        words = [word for word in re.findall(r"[a-z]+", small) if len(word) > 3]
        doubled = {word for word in words if words.count(word) > 1} - {"later", "year", "after", "before", "late"}
        assert not doubled, sentence
        if " would be " in sentence:
            assert sentence.partition(", but")[0].endswith(future), sentence
        assert "two " not in small.replace("two cousins", "") and "{" not in small, sentence
    assert sum(" an " in f" {sentence.lower()}" for sentence in made) > 50


def test_a_haystack_begins_with_prose_and_never_ends() -> None:
    prose = [text for text, is_prose in texts_of_sentences() if is_prose]
    others = [text for text, is_prose in texts_of_sentences() if not is_prose]
    assert len(prose) >= 2 and len(others) >= 3
    text = "\n\n".join(islice(haystack_parts(0, 512), 400))
    places = [text.index(one) for one in (*prose, *others)]
    assert max(places[: len(prose)]) < min(places[len(prose) :])
    assert len(text) > 2 * sum(map(len, (*prose, *others)))
    orders = {next(haystack_parts(seed)) for seed in range(20)}
    assert len(orders) == len(prose)


@pytest.mark.parametrize("tokens", [50, 2000, 32_768])
def test_grown_to_any_length(tokens: int) -> None:
    tokenizer = tiny_tokenizer(128)
    haystack = grow(tokenizer, tokens, 1)
    assert grow(tokenizer, tokens + 500, 1).text.startswith(haystack.text)
    assert len(tokenizer(haystack.text, add_special_tokens=False)["input_ids"]) >= tokens
    for end, count in list(zip(haystack.ends, haystack.tokens, strict=True))[::97]:
        assert count == len(tokenizer(haystack.text[:end], add_special_tokens=False)["input_ids"])
    for room in (0, 7, 49, tokens // 2):
        straw = haystack.filled(room)
        size = len(tokenizer(straw.text, add_special_tokens=False)["input_ids"])
        assert size <= room and straw.tokens[-1] - 1 <= size <= straw.tokens[-1]  # without text before it, no space
        assert room - straw.tokens[-1] <= (4 if room > 40 else 8)
        assert all(place == 0 or straw.text[place - 1] in ".!?\"'" for place in straw.places)


def test_fills_differ_and_add_up() -> None:
    fills = grow(tiny_tokenizer(128), 50, 1).fills
    for size, chosen in fills.items():
        assert sum(count for _, count in chosen) == size <= MOST_FILL
        assert len({sentence for sentence, _ in chosen}) == len(chosen)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", " Two!", " Three?"]),
        ("Dr. Reed met Mrs. J. Poe at 3.5 km. He left.", ["Dr. Reed met Mrs. J. Poe at 3.5 km.", " He left."]),
        ("We use tools, e.g. Saws, etc. The end.", ["We use tools, e.g. Saws, etc. The end."]),
        ("It began in the U.S. Army. Then it grew.", ["It began in the U.S. Army.", " Then it grew."]),
        ('"Go." he said. "Now."', ['"Go." he said.', ' "Now."']),
        ('"I go. You stay," she said. He did.', ['"I go. You stay," she said.', " He did."]),
        ("He waited ... and left. So.", ["He waited ... and left.", " So."]),
        ("He waited... Then left.", ["He waited...", " Then left."]),
        ("1. Mix it.\n2. Bake it.", ["1. Mix it.", "\n2. Bake it."]),
        ("2.1. The user pays 12. The rest is free.", ["2.1. The user pays 12.", " The rest is free."]),
        ("(He left.) She stayed.", ["(He left.)", " She stayed."]),
        ("Heading\n\nText here.\n\nmore text.", ["Heading\n\nText here.", "\n\nmore text."]),
        ("Line one.\nLine two.", ["Line one.", "\nLine two."]),
        ("\u4ed6\u8d70\u4e86\u3002\u5979\u7559\u4e0b\u3002", ["\u4ed6\u8d70\u4e86\u3002", "\u5979\u7559\u4e0b\u3002"]),
        ("He \u201cwent. Then\u201d stopped. So.", ["He \u201cwent. Then\u201d stopped.", " So."]),
        ("no end here", []),
        ("", []),
    ],
)
def test_where_sentences_end(text: str, sentences: list[str]) -> None:
    ends = sentence_ends(text)
    assert [text[a:b] for a, b in zip([0, *ends], ends, strict=False)] == sentences
