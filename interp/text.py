"""Untrusted text (prompts, tokens, model names) made safe for a terminal and for a file name."""

from __future__ import annotations

import re
import unicodedata

_VISIBLE = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def printable(text: str, width: int | None = None) -> str:
    """`text` on one line, control, format and surrogate characters escaped, cut to `width` with an ellipsis."""
    shown = "".join(
        _VISIBLE.get(c) or (_escape(c) if unicodedata.category(c) in {"Cc", "Cf", "Cs"} else c) for c in text
    )
    if width is not None and len(shown) > width:
        shown = shown[: width - 1] + "…"
    return shown


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def file_name(text: str, limit: int = 60) -> str:
    """A safe part of a file name: never empty, hidden or a dot path; only a-z, 0-9, dot, dash and underscore."""
    kept = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:limit].rstrip("-._")
    return kept or "unnamed"
