"""Tokenizers that know the words of the probes of pairs, of several makes, and a small model that takes them."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, Literal

from transformers import PreTrainedTokenizerFast

import interp
from interp.resources import data_path
from probes.colored_objects import OPENINGS, SHOT, SURFACES
from probes.greater_than import SENTENCE
from probes.ioi_templates import TEMPLATES
from tests.tiny import tiny

Make = Literal["space", "bytes", "sentencepiece"]
SIZE = 1024


@cache
def corpus() -> tuple[str, ...]:
    """Texts that hold every word where the probes put it."""
    words = [
        word for kind in json.loads(data_path("circuits", "words.json").read_text("utf-8")).values() for word in kind
    ]
    listed = " ".join([*words, *(word.capitalize() for word in words), *SURFACES, *OPENINGS])
    bare = [re.sub(r"\{\w+\}", "box", text) for text in (*TEMPLATES, SHOT, SENTENCE)]
    lines = [json.loads(line) for line in data_path("circuits", "agreement.jsonl").read_text("utf-8").splitlines()]
    own = [one[key] + one["answer"] for one in lines for key in ("clean", "corrupt")]
    years = [f"the year {century}{year:02}" for century in range(11, 19) for year in range(100)]
    return (f"so {listed}", *bare, *own, *years, "\n\nQ: On\nA:")


def tokenizer(make: Make = "space", bos: bool = True, digits: int = 1, without: str = "") -> PreTrainedTokenizerFast:
    """A tokenizer of whole words.

    Args:
        make: whether a piece holds the space before it as it is, as GPT-2's byte-level letter, or as SentencePiece's.
        bos: it puts ``<s>`` before a text.
        digits: digits that a piece may have.
        without: pieces matching this pattern are unknown.
    """
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import WordLevel
    from tokenizers.processors import TemplateProcessing

    split = pre_tokenizers.Split(Regex(rf" ?[A-Za-z]+|\d{{1,{digits}}}|[^A-Za-z\d]"), "isolated")
    made: Any = {
        "space": (split, decoders.Fuse()),
        "bytes": (
            pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
            decoders.ByteLevel(),
        ),
        "sentencepiece": (
            pre_tokenizers.Sequence([split, pre_tokenizers.Metaspace(prepend_scheme="first", split=False)]),
            decoders.Metaspace(prepend_scheme="first"),
        ),
    }[make]
    pieces = {piece for text in corpus() for piece, _ in made[0].pre_tokenize_str(text)}
    kept = sorted(piece for piece in pieces if not (without and re.search(without, piece)))
    vocabulary = {piece: at for at, piece in enumerate(["<pad>", "<s>", "</s>", "<unk>", *kept])}
    assert len(vocabulary) <= SIZE
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = made
    if bos:
        backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def model_of(words: PreTrainedTokenizerFast, family: str = "llama", **options: Any) -> interp.Model:
    """A random model that takes such a tokenizer's ids."""
    return interp.load(tiny(family, vocab_size=SIZE), tokenizer=words, check=False, **options)
