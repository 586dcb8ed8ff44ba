"""What every probe yields: prompts, tokenised for one model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

NOTES = "notes_for_the_reader"
"""Where `Prompt.extra` keeps the notes of its probe."""


@dataclass(frozen=True)
class Prompt:
    """One tokenised prompt.

    Attributes:
        name: short label for tables and reports, e.g. ``prose`` or ``prompts.jsonl:3`` (untrusted text).
        text: the text as given, before any template or BOS (untrusted text).
        ids: exact token ids fed to the model, BOS and chat template included.
        tokens: display string of each id, same length as ``ids`` (untrusted text).
        truncated: whether ``max_length`` cut it.
        extra: probe-specific JSON-able facts (spans, answers, ...).
    """

    name: str
    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    truncated: bool = False
    extra: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)

    @property
    def notes(self) -> list[str]:
        """What a reader of the results must be told of this prompt: sentences without a full stop, from `extra`."""
        notes = self.extra.get(NOTES)
        return list(notes) if isinstance(notes, list) else []

    @property
    def hash(self) -> str:
        """SHA-256 of the exact token ids: what resume and provenance identify the prompt by."""
        return hashlib.sha256(",".join(map(str, self.ids)).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.ids)
