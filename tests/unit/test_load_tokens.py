"""Display strings of single tokens, on each kind of vocabulary."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from interp.models.display import TokenDisplay
from interp.models.first_position import FirstPosition
from tests.tiny import tiny_tokenizer


def byte_level() -> PreTrainedTokenizerFast:
    """One token a byte, two merges, one special token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(letters)} | {"Ġt": 256, "Ġth": 257}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ġ", "t"), ("Ġt", "h")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|Ġ|>")


BYTES = byte_level()


def shown(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[str, ...]:
    return TokenDisplay(tokenizer)(tokenizer(text)["input_ids"])


def test_byte_level_pieces() -> None:
    assert shown(BYTES, " the\n") == (" th", "e", "\n")
    assert shown(BYTES, "é") == ("<0xC3>", "<0xA9>")
    assert shown(BYTES, "<|Ġ|>x") == ("<|Ġ|>", "x")  # a special token is shown as spelled, not as bytes


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_byte_level_bytes_are_all_there(text: str) -> None:
    """Put together again, the display strings are the text's UTF-8 bytes."""
    pieces = shown(BYTES, text.replace("<", ""))
    joined = b"".join(bytes([int(piece[3:5], 16)]) if piece.startswith("<0x") else piece.encode() for piece in pieces)
    assert joined == text.replace("<", "").encode()


def test_sentencepiece_pieces() -> None:
    vocabulary = [
        ("<unk>", 0.0),
        ("▁the", -1.0),
        ("▁", -2.0),
        ("s", -3.0),
        *((f"<0x{b:02X}>", -9.0) for b in range(256)),
    ]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert shown(tokenizer, "the s é") == (" the", " ", "s", " ", "<0xC3>", "<0xA9>")


def test_plain_words_are_left_alone() -> None:
    assert shown(tiny_tokenizer(), "the cat") == ("<s>", "the", " ", "cat")


def test_ids_without_a_token() -> None:
    assert TokenDisplay(tiny_tokenizer())([999, -1]) == ("<id 999>", "<id -1>")
    assert TokenDisplay(None)([3]) == ("<id 3>",)


def test_encoding_leaves_the_tokenizer_as_it_is() -> None:
    tokenizer = tiny_tokenizer()
    before = tokenizer.backend_tokenizer.to_str()
    for bos in ("auto", "add", "none"):
        FirstPosition(tokenizer, bos, False, None).encode("the cat")
    assert tokenizer.backend_tokenizer.to_str() == before
