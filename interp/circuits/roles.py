"""What the named positions of a pair are for: where the answer stands, where what is asked about comes again, ...

Heads are told apart by where they look, so their names need these roles. A probe states them in ``Prompt.extra``; of
pairs that came without, they follow from the tokens as far as these tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interp.circuits.pairs import Pair, pair_of
from probes.base import Prompt

KEY = "roles"
"""Where `Prompt.extra` keeps the roles."""
ROLES = ("answer", "wrong", "first", "after_first", "repeat", "end")
"""answer, wrong: where the answer and what it is compared with stand before; first: what comes again later (IOI: S1;
Colored Objects: the object in the list); after_first: the token behind it; repeat: where it comes again (S2; the object
asked for); end: the last token."""


def as_extra(**roles: list[str]) -> dict[str, Any]:
    """For `Prompt.extra`: role -> names of positions."""
    return {KEY: roles}


def roles_of(prompt: Prompt) -> dict[str, tuple[int, ...]]:
    """Positions by role; a role that the prompt does not have is empty."""
    pair = pair_of(prompt)
    stated: Mapping[str, list[str]] = prompt.extra.get(KEY) or {}
    if stated:
        found = {role: tuple(pair.positions[name] for name in stated.get(role, ())) for role in ROLES}
    else:
        found = _by_tokens(pair)
    return {**found, "end": (len(prompt) - 1,)}


def _by_tokens(pair: Pair) -> dict[str, tuple[int, ...]]:
    """Earlier places of the answer and of the wrong tokens; and the last word of the prompt that came before."""
    ids = pair.prompt.ids
    found: dict[str, tuple[int, ...]] = dict.fromkeys(ROLES, ())
    found["answer"] = tuple(at for at, one in enumerate(ids) if one == pair.answer)
    found["wrong"] = tuple(at for at, one in enumerate(ids) if one in pair.wrong)
    differing = [at for at, (one, other) in enumerate(zip(ids, pair.corrupt, strict=True)) if one != other]
    again = [at for at in differing if ids[at] in ids[:at]]
    if again:
        first = ids.index(ids[again[-1]])
        found |= {"first": (first,), "after_first": (first + 1,), "repeat": (again[-1],)}
    return found
