"""Display strings for single tokens: what each id stands for in the text, also where it is only a part of a
character."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any


class TokenDisplay:
    """Turns ids into strings, one a token, for one tokenizer. The strings are untrusted text.

    Byte-level pieces become the text of their bytes, bytes that are not UTF-8 on their own become ``<0xE2>``; a
    SentencePiece space becomes a space; special tokens are shown as they are spelled; an id without a token becomes
    ``<id 7>``.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._decoder = _decoder_types(tokenizer)
        self._added = {} if tokenizer is None else getattr(tokenizer, "added_tokens_decoder", {})

    def __call__(self, ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(self._one(int(token)) for token in ids)

    def _one(self, token: int) -> str:
        if token in self._added:
            return str(self._added[token].content)
        piece = None if self._tokenizer is None or token < 0 else self._tokenizer.convert_ids_to_tokens(token)
        if piece is None:
            return f"<id {token}>"
        if "ByteLevel" in self._decoder:
            return _byte_level_text(piece)
        if self._decoder & {"Metaspace", "Replace", "ByteFallback"}:
            return piece.replace("\u2581", " ")
        return piece


def _decoder_types(tokenizer: Any) -> set[str]:
    """The ``type`` of every decoder step of a fast tokenizer; empty for others, whose pieces are shown as they are."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = getattr(backend, "decoder", None)
    if decoder is None:
        return set()
    state = json.loads(decoder.__getstate__())
    return {state["type"], *(step["type"] for step in state.get("decoders", ()))}


@cache
def _byte_of() -> dict[str, int]:
    """The printable stand-in of every byte in GPT-2's byte-level vocabulary: printable Latin-1 bytes stand for
    themselves, the others are numbered from U+0100 in order (Radford et al. 2019, released encoder)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + rank): byte for rank, byte in enumerate(others)}


def _byte_level_text(piece: str) -> str:
    table = _byte_of()
    if any(character not in table for character in piece):
        return piece
    text = bytes(table[character] for character in piece).decode("utf-8", "surrogateescape")
    return "".join(f"<0x{ord(c) - 0xDC00:02X}>" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)
