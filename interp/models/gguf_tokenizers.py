"""Tokenizers built straight from a GGUF file, where transformers' own conversion loses something.

Two kinds, told by what the file says of itself; any other file's tokenizer is left to transformers.

- ``tokenizer.ggml.pre = smollm`` (SmolLM, SmolLM2): byte-level BPE that first splits every digit off (llama.cpp,
  src/llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_SMOLLM). transformers drops that step, which shows at runs of spaces before
  digits.
- SentencePiece BPE without a space put in front (Gemma): transformers 5.17 reads it as a Unigram model and drops the
  BOS, 5.24 reads it right, and is what the result here is equal to. The merges, which the file does not hold, follow
  from the order of the vocabulary: two pieces are joined in the order of the id of the piece they make, the left one
  with the higher id first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_CONTROL, _USER_DEFINED = 3, 4  # gguf.TokenType


def build_tokenizer(path: Path) -> Any | None:
    """A ``PreTrainedTokenizerFast`` for the two kinds above, None for any other."""
    from gguf import GGUFReader

    fields = GGUFReader(str(path)).fields

    def value(name: str, default: Any = None) -> Any:
        field = fields.get(f"tokenizer.{name}")
        return default if field is None else field.contents()

    if value("ggml.model") == "gpt2" and value("ggml.pre") == "smollm":
        backend = _digits_then_bytes(value("ggml.tokens"), value("ggml.merges"))
    elif value("ggml.model") == "llama" and value("ggml.add_space_prefix") is False:
        backend = _sentencepiece(value("ggml.tokens"))
    else:
        return None
    return _finished(backend, value)


def _finished(backend: Any, value: Any) -> Any:
    """Special tokens, BOS and chat template as the file states them."""
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokens, types = value("ggml.tokens"), value("ggml.token_type", ())
    added = [
        AddedToken(token, normalized=False, special=kind == _CONTROL)
        for token, kind in zip(tokens, types, strict=True)
        if kind == _CONTROL or (kind == _USER_DEFINED and token.strip(" "))  # runs of spaces are pieces like any other
    ]
    backend.add_tokens(added)
    ids = {
        "bos_token": value("ggml.bos_token_id"),
        "eos_token": value("ggml.eos_token_id"),
        "unk_token": value("ggml.unknown_token_id"),
        "pad_token": value("ggml.padding_token_id"),
    }
    bos = ids["bos_token"]
    add_bos = bos is not None and value("ggml.add_bos_token", value("ggml.model") == "llama")
    front = f"{tokens[bos]} " if add_bos else ""
    second = f"{tokens[bos]}:1 " if add_bos else ""
    backend.post_processor = TemplateProcessing(
        single=f"{front}$A", pair=f"{front}$A {second}$B:1", special_tokens=[(tokens[bos], bos)] if add_bos else []
    )
    names = {name: tokens[token] for name, token in ids.items() if token is not None}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **names)
    tokenizer.chat_template = value("chat_template")
    return tokenizer


def _digits_then_bytes(tokens: list[str], merges: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(tokens: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers

    vocabulary = {token.replace(" ", "\u2581"): index for index, token in enumerate(tokens)}
    backend = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=_merges(vocabulary),
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Replace(" ", "\u2581")
    backend.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return backend


def _merges(vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to join two pieces into a third, in the order the module docstring gives."""
    found = [
        (joined, -vocabulary[left], -vocabulary[right], left, right)
        for token, joined in vocabulary.items()
        for cut in range(1, len(token))
        if (left := token[:cut]) in vocabulary and (right := token[cut:]) in vocabulary
    ]
    return [(left, right) for *_, left, right in sorted(found)]
