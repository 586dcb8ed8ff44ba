"""What stands at position 0: the BOS policy, the chat template, and the sentence that says what came of them.

Sinks depend on it, tokenizers differ in it, and so it is decided here once and shown everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from interp.errors import LoadError, UsageError

POLICIES = ("auto", "add", "none")


@dataclass(frozen=True)
class FirstPosition:
    """Encodes text under one policy.

    Attributes:
        tokenizer: the model's tokenizer.
        bos: ``auto`` = what the tokenizer does by itself; ``add`` = a BOS exactly once at the front; ``none`` = no BOS.
        chat: put the text into the chat template as a single user turn, followed by the prompt for an answer.
        config_bos: BOS id the model's config states, used where the tokenizer names none (Qwen).
    """

    tokenizer: Any
    bos: str
    chat: bool
    config_bos: int | None

    def __post_init__(self) -> None:
        if self.bos not in POLICIES:
            raise UsageError(f"bos must be one of {', '.join(POLICIES)}, not {self.bos!r}")
        if self.chat and not getattr(self.tokenizer, "chat_template", None):
            raise LoadError(
                "a chat template was asked for, but this tokenizer has none; leave chat off or give another tokenizer"
            )
        if self.bos == "add" and (self.chat or not self.own_prefix):
            self.added_token()  # tells at load when there is nothing to add

    @cached_property
    def own_prefix(self) -> tuple[int, ...]:
        """The ids the tokenizer puts before a text by itself: one BOS, several ids (GLM-4), or none."""
        plain = self._ids("a", special=False)
        full = self._ids("a", special=True)
        for start in range(len(full) - len(plain) + 1):
            if full[start : start + len(plain)] == plain:
                return tuple(full[:start])
        return ()

    def added_token(self) -> tuple[int, str]:
        """What `add` adds, and where it is from: the tokenizer's BOS, its CLS, the config's BOS, the tokenizer's EOS.

        Raises:
            LoadError: none of them is there.
        """
        named = [
            (getattr(self.tokenizer, "bos_token_id", None), "the tokenizer's BOS"),
            (getattr(self.tokenizer, "cls_token_id", None), "the tokenizer's CLS, as it has no BOS"),
            (self.config_bos, "the model config's BOS, as the tokenizer names none"),
            (getattr(self.tokenizer, "eos_token_id", None), "the tokenizer's EOS, as it has no BOS"),
        ]
        for token, origin in named:
            if isinstance(token, int) and 0 <= token < len(self.tokenizer):
                return token, origin
        raise LoadError(
            "--bos add: neither the tokenizer nor the model names a BOS, CLS or EOS token; use --bos auto or none"
        )

    def encode(self, text: str) -> list[int]:
        """Ids of ``text`` under the policy; may be empty when the text is."""
        if self.chat:
            rendered = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
            ids = self._ids(rendered, special=False)
        else:
            ids = self._ids(text, special=self.bos != "none")
        if self.bos == "auto":
            return ids
        if self.bos == "none":
            return self._without_bos(ids)
        if self.own_prefix and not self.chat:
            front = list(self.own_prefix)
            return front + self._stripped(ids[len(front) :], front[-1])
        token = self.added_token()[0]
        return ids if self._is_turn_marker(ids, token) else [token, *self._stripped(ids, token)]

    def _without_bos(self, ids: list[int]) -> list[int]:
        token = getattr(self.tokenizer, "bos_token_id", None)
        if token is not None and self._is_turn_marker(ids, token):
            return ids
        prefix = list(self.own_prefix)
        if prefix and ids[: len(prefix)] == prefix:  # written out in the text or by the template
            ids = ids[len(prefix) :]
        return ids if token is None else self._stripped(ids, token)

    def _is_turn_marker(self, ids: Sequence[int], token: int) -> bool:
        """A template that opens every turn with the BOS token (ChatML in SmolLM2) already has it at the front, and
        needs it there."""
        return self.chat and bool(ids) and ids[0] == token and token in ids[1:]

    @staticmethod
    def _stripped(ids: list[int], token: int) -> list[int]:
        first = next((i for i, other in enumerate(ids) if other != token), len(ids))
        return ids[first:]

    def _ids(self, text: str, *, special: bool) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])

    def describe(self, show: Any) -> str:
        """One phrase: what stands at position 0. ``show`` turns ids into display strings."""
        policy = f"--bos {self.bos}"
        if self.chat:
            first = self.encode("a")[0]
            return f"{show([first])[0]!r} (id {first}, the chat template's first token, {policy})"
        if self.bos == "none":
            return f"the text's first token (no BOS: {policy})"
        if self.own_prefix:
            first = self.own_prefix[0]
            return f"{show([first])[0]!r} (id {first}, added by the tokenizer itself, {policy})"
        if self.bos == "auto":
            return f"the text's first token (this tokenizer adds no BOS, {policy})"
        token, origin = self.added_token()
        return f"{show([token])[0]!r} (id {token}, {origin}, added: {policy})"
