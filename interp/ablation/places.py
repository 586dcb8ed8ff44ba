"""Which tokens of a prompt an edit is held to: named positions and roles of its pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from interp.ablation.config import EVERYWHERE, KNOCKOUT, AblationConfig, edges_of
from interp.circuits.pairs import KEY, pair_of
from interp.circuits.roles import roles_of
from interp.errors import UsageError
from probes.base import Prompt


@dataclass(frozen=True)
class Places:
    """Positions in one prompt.

    Attributes:
        at: where an edit of outputs acts; None = everywhere.
        queries, keys: between which a knockout cuts attention.
    """

    at: tuple[int, ...] | None = None
    queries: tuple[int, ...] = ()
    keys: tuple[int, ...] = ()


ANYWHERE = Places()


def names_of(prompt: Prompt) -> dict[str, tuple[int, ...]]:
    """Positions by role (`interp.circuits.roles`) and by name; a prompt that is no pair has ``end`` alone. A role that
    is empty here is left out; where a role and a position share a name it is the role."""
    if KEY not in prompt.extra:
        return {"end": (len(prompt) - 1,)}
    named = {name: (at,) for name, at in pair_of(prompt).positions.items()}
    return {**named, **{role: at for role, at in roles_of(prompt).items() if at}}


def positions_in(prompt: Prompt, names: Sequence[str], option: str) -> tuple[int, ...]:
    """Positions of some names together, ascending.

    Raises:
        UsageError: a name the prompt does not have; it lists those it has.
    """
    known = names_of(prompt)
    for name in names:
        if name not in known:
            bare = "" if KEY in prompt.extra else " (only pairs have names and roles: --probe ioi, or --prompts a file)"
            raise UsageError(
                f"{option}: prompt {prompt.name!r} has no position {name!r}; it has {', '.join(known)}{bare}"
            )
    return tuple(sorted({at for name in names for at in known[name]}))


def places_of(prompt: Prompt, config: AblationConfig) -> Places:
    """Where the edit of the settings acts in a prompt.

    Raises:
        UsageError: a name the prompt does not have.
    """
    if config.way == KNOCKOUT:
        queries, keys = edges_of(config.how)
        told = f"how={config.how}"
        return Places(None, positions_in(prompt, queries, told), positions_in(prompt, keys, told))
    if config.position == EVERYWHERE:
        return ANYWHERE
    return Places(positions_in(prompt, [config.position], f"position={config.position}"))
