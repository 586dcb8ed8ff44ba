"""Short names for models, by family. The names themselves are data: `catalog.json`, beside this file.

Imports nothing heavy: `interp ls models` and ``--help`` must not wait for torch.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from interp.errors import UsageError


@dataclass(frozen=True)
class Entry:
    """One catalogued model.

    Attributes:
        alias: the short name, lower case; matched in any letter case.
        hub_id: ``owner/name`` on the Hugging Face hub, in the hub's spelling.
        family: heading it is listed under.
        architecture: transformers class.
        params: size as text, e.g. ``14B`` or ``30B (3B active)``.
        note: what to know before use; empty when nothing.
        packaged: whether `interp get` can fetch it as a Python package, without a hub.
    """

    alias: str
    hub_id: str
    family: str
    architecture: str
    params: str
    note: str = ""
    packaged: bool = False


@cache
def entries() -> tuple[Entry, ...]:
    """Every catalogued model, in the file's order."""
    families = json.loads(Path(__file__).with_name("catalog.json").read_text(encoding="utf-8"))
    return tuple(
        Entry(**{"family": family["family"], "architecture": family["architecture"], **model})
        for family in families
        for model in family["models"]
    )


@cache
def _by_name() -> dict[str, Entry]:
    """Aliases first; then the last part of the hub id, where that is not an alias of another model."""
    names = {entry.alias.lower(): entry for entry in entries()}
    for entry in entries():
        names.setdefault(entry.hub_id.rsplit("/", 1)[-1].lower(), entry)
    return names


def find(name: str) -> Entry | None:
    """The entry an alias, or the last part of a catalogued hub id, stands for; None if it is not catalogued."""
    return _by_name().get(name.strip().lower())


def resolve(name: str) -> Entry:
    """Like `find`, but an unknown name is a `UsageError` that suggests the nearest ones."""
    entry = find(name)
    if entry is None:
        raise UsageError(f"no model is called {name!r} in the catalog{suggest(name)}; `interp ls models` lists all")
    return entry


def suggest(name: str) -> str:
    """A did-you-mean clause over the catalog, or nothing."""
    return did_you_mean(name, _by_name())


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` (did you mean a, b?)``, or the empty string when nothing is near."""
    near = difflib.get_close_matches(name.strip().lower(), list(known), n=3, cutoff=0.6)
    return f" (did you mean {', '.join(near)}?)" if near else ""
