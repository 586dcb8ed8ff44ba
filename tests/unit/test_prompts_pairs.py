"""Own pairs by --prompts: known by their keys whatever the finder's own probe is; a file holds texts or pairs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import interp
from interp.circuits.pairs import pair_of
from interp.errors import UsageError
from interp.runs import sources
from tests.pair_words import model_of, tokenizer

KEYS = {"clean": "The keys to the cabinet", "corrupt": "The key to the cabinet", "answer": " are", "wrong": " is"}
BOOK = {"clean": "The book on the shelf", "corrupt": "The books on the shelf", "answer": " is", "wrong": [" are"]}
TEXT = {"text": "The keys to the cabinet are on the shelf."}
PAIR_PROBES = ("ioi", "colored-objects", "greater-than", "induction", "pairs")


def write(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.fixture(scope="module")
def model() -> interp.Model:
    return model_of(tokenizer())


@pytest.mark.parametrize("default", ["text", *PAIR_PROBES])
def test_pairs_are_known_by_their_keys(default: str, model: interp.Model, tmp_path: Path) -> None:
    path = write(tmp_path, {**KEYS, "positions": {"noun": "The keys"}, "mine": 3}, {**BOOK, "name": "book"})
    source = sources.choose(prompts=path, default=default)
    assert (source.told, source.settings, source.plain) == (f"2 pairs (--prompts {path})", {}, "")
    keys, book = source.prompts(model, None, None, 0)
    assert (keys.name, keys.extra["mine"], book.name) == ("mine.jsonl:1", 3, "book")
    answers = [model.decode_tokens([pair_of(prompt).answer, *pair_of(prompt).wrong]) for prompt in (keys, book)]
    assert [[token.strip() for token in told] for told in answers] == [["are", "is"], ["is", "are"]]
    assert pair_of(keys).positions["noun"] == 2  # <s>, The, keys
    assert len(source.prompts(model, 1, None, 0)) == 1


def test_texts_stay_texts(model: interp.Model, tmp_path: Path) -> None:
    source = sources.choose(prompts=write(tmp_path, {**TEXT, "clean": 1, "context": "x"}, {**TEXT, "name": "two"}))
    one, two = source.prompts(model, None, None, 0)
    assert (source.told[:7], source.plain, one.extra, two.name) == (
        "2 texts",
        "mine.jsonl:1",
        {"clean": 1, "context": "x"},
        "two",
    )


def test_a_pipe_is_read_once(model: interp.Model) -> None:
    here, there = os.pipe()
    os.write(there, json.dumps(KEYS).encode())
    os.close(there)
    source = sources.choose(prompts=f"/dev/fd/{here}")
    os.close(here)
    assert len(pair_of(source.prompts(model, None, None, 0)[0]).wrong) == 1


MIXED = [
    (
        "text",
        (KEYS, BOOK, TEXT),
        r"line 3: a text \('text'\), but line 1 has a pair \('clean', 'corrupt'\)",
    ),
    ("text", (TEXT, KEYS), r"mine.jsonl, line 2: a pair \('clean', 'corrupt'\), but line 1 has a text \('text'\)"),
    ("text", ({"name": "neither"}, KEYS, TEXT), r"mine.jsonl, line 3: a text .* line 2 has a pair"),
    ("text", ({**KEYS, **TEXT},), r"line 1: a text \('text'\) and a pair \('clean', 'corrupt'\) in one line"),
    ("text", (KEYS, {"name": "neither"}), r"line 2: no 'clean' in this object \(found 'name'\)"),
    ("text", (TEXT, {"name": "neither"}), r"line 2: no 'text' in this object \(found 'name'\)"),
    ("text", ({"name": "neither"},), r"line 1: no 'text' in this object"),
    ("text", ({"clean": "The keys", "answer": " are", "wrong": " is"},), r"line 1: no 'corrupt' in this object"),
    ("ioi", (KEYS, TEXT), r"line 2: no 'clean' in this object \(found 'text'\)"),
    ("ioi", (TEXT,), r"line 1: no 'clean' in this object"),
    ("needle", (KEYS,), r"line 1: no 'context' in this object \(found 'clean', 'corrupt', 'answer', 'wrong'\)"),
]


@pytest.mark.parametrize(("default", "lines", "message"), MIXED)
def test_a_file_that_mixes_kinds_is_refused(
    default: str, lines: tuple[dict[str, Any], ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        sources.choose(prompts=write(tmp_path, *lines), default=default)


@pytest.mark.parametrize(("default", "message"), [("text", "--probe-set goes with a probe"), ("ioi", "order")])
def test_a_probes_settings_do_not_go_with_own_pairs(default: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        sources.choose(prompts=write(tmp_path, KEYS), default=default, probe_set={"order": "ABBA"})
