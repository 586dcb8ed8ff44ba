"""Plain text: the shipped texts (the default of a scan), or any texts the user brings.

Each text is one prompt. A text longer than `max_length` tokens is cut there, and its prompt says so (`truncated`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from interp.resources import data_path
from probes.base import Prompt

if TYPE_CHECKING:
    from interp.models.model import Model


def shipped_texts() -> list[tuple[str, str]]:
    """(name, text) of every text in ``data/texts``, sorted by name; each has a card ``<name>.card.json`` beside it."""
    paths = sorted(data_path("texts").glob("*.txt"))
    return [(path.stem, path.read_bytes().decode("utf-8")) for path in paths]


def from_texts(
    model: Model,
    texts: Iterable[tuple[str, str] | tuple[str, str, dict[str, Any]]],
    max_length: int | None = None,
) -> list[Prompt]:
    """Tokenise (name, text) or (name, text, extra) with the model's own BOS policy and chat template."""
    prompts = []
    for name, text, *extra in texts:
        prompt = model.encode(text, name=name, max_length=max_length)
        prompts.append(replace(prompt, extra={**prompt.extra, **extra[0]}) if extra else prompt)
    return prompts


@dataclass(frozen=True)
class Texts:
    """The shipped texts, or those given; the same for every seed."""

    name: str = "text"
    help: str = "the shipped texts: prose, code, arithmetic, dialogue, lists, a licence and more"
    texts: Sequence[tuple[str, str]] | None = None

    def prompts(
        self, model: Model, *, limit: int | None = None, max_length: int | None = None, seed: int = 0
    ) -> list[Prompt]:
        """One prompt a text; `limit` takes the first ones in order of name."""
        texts = shipped_texts() if self.texts is None else self.texts
        return from_texts(model, texts[:limit], max_length)


probe = Texts()
