"""What the named positions of a pair are for: where the answer stands, where what is asked about comes again, ...

Heads are told apart by where they look, so their names need these roles. A probe states them in ``Prompt.extra``; of
pairs that came without, they follow from the tokens as far as these tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from interp.circuits.pairs import Pair, pair_of
from interp.errors import UsageError
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
    """Positions by role, in the order of `ROLES`; a role that the prompt does not have is empty.

    Stated roles (``extra["roles"]``: role -> names of positions) are taken as they are. Without any, they follow from
    the tokens, and a position that is named like a role has it. ``end`` is always the last token.

    Raises:
        UsageError: what is stated names no role, or no position.
    """
    pair = pair_of(prompt)
    stated = prompt.extra.get(KEY) or {}
    if stated:
        found = _stated(pair, stated)
    else:
        named = {name: (at,) for name, at in pair.positions.items() if name in ROLES}
        found = {**_by_tokens(pair), **named}
    return {**found, "end": (len(prompt) - 1,)}


def _stated(pair: Pair, stated: Any) -> dict[str, tuple[int, ...]]:
    """Names of positions looked up."""
    where = f"prompt {pair.prompt.name!r}: roles"
    if not isinstance(stated, Mapping):
        raise UsageError(f'{where} are {stated!r}; expected role -> names of positions, such as {{"repeat": ["S2"]}}')
    found: dict[str, tuple[int, ...]] = dict.fromkeys(ROLES, ())
    for role, names in stated.items():
        if role not in ROLES:
            raise UsageError(f"{where}: {role!r} is none; there are {', '.join(ROLES)}")
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise UsageError(f"{where}: {role!r} is {names!r}; expected a list of names of positions")
        unknown = [name for name in names if name not in pair.positions]
        if unknown:
            raise UsageError(f"{where}: {role!r} names {unknown}; the pair's positions are {list(pair.positions)}")
        found[role] = tuple(pair.positions[name] for name in names)
    return found


def _by_tokens(pair: Pair) -> dict[str, tuple[int, ...]]:
    """Earlier places of the answer and of the wrong tokens; and the last differing token that came before.

    Tokens are compared by id, so a word at the start of a text is another one than behind a space where the tokenizer
    tells these apart.
    """
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


def stand_ins(prompt: Prompt) -> tuple[int, ...]:
    """The prompt's ids, those at the places of answer and wrong tokens as they would be said at the end.

    The answer may be written otherwise where it stands before (Colored Objects lists colours in small letters and asks
    for a capital). Places of wrong tokens stand for these in order, where there are as many and none holds one itself.
    """
    pair, roles = pair_of(prompt), roles_of(prompt)
    ids = list(prompt.ids)
    said = {pair.answer, *pair.wrong}
    for at in roles["answer"]:
        ids[at] = pair.answer
    places = roles["wrong"]
    if len(places) == len(pair.wrong) and not any(prompt.ids[at] in said for at in places):
        for at, token in zip(places, pair.wrong, strict=True):
            ids[at] = token
    return tuple(ids)


@dataclass(frozen=True)
class RoleFacts:
    """How roles lie in a set of prompts.

    Attributes:
        positions: role -> positions that have it, mean over the prompts that have any.
        tokens: role -> different tokens there, likewise.
        repeat_wrong: share of the prompts with a ``repeat`` in which it holds one of the ``wrong`` (IOI: all; Colored
            Objects: none, for an object is no colour).
        repeat_end: share of them in which ``repeat`` is the last token.
        answer_follows: share of them in which, besides, the answer stands behind ``first``: induction alone answers.
        names: name of a position -> the role that it alone has in every prompt (IOI: S2 -> repeat).
    """

    positions: Mapping[str, float] = field(default_factory=dict)
    tokens: Mapping[str, float] = field(default_factory=dict)
    repeat_wrong: float = 0.0
    repeat_end: float = 0.0
    answer_follows: float = 0.0
    names: Mapping[str, str] = field(default_factory=dict)


def role_facts(prompts: Sequence[Prompt]) -> RoleFacts:
    """Facts of the prompts' roles, for `interp.circuits.classes.classify`."""
    found = [(prompt, roles_of(prompt)) for prompt in prompts]
    positions, tokens = {}, {}
    for role in ROLES:
        held = [(len(at), len({prompt.ids[one] for one in at})) for prompt, roles in found if (at := roles[role])]
        if held:
            positions[role] = sum(n for n, _ in held) / len(held)
            tokens[role] = sum(n for _, n in held) / len(held)
    asked = [roles for _, roles in found if roles["repeat"]]
    wrong = sum(bool({*roles["repeat"]} & {*roles["wrong"]}) for roles in asked)
    last = [roles for roles in asked if roles["repeat"] == roles["end"]]
    follows = sum(bool({*roles["answer"]} & {*roles["after_first"]}) for roles in last)
    n = max(1, len(asked))
    return RoleFacts(positions, tokens, wrong / n, len(last) / n, follows / n, _named(found))


def _named(found: Sequence[tuple[Prompt, Mapping[str, tuple[int, ...]]]]) -> dict[str, str]:
    """Name of a position -> the role that it alone has in every prompt; of several, the last of `ROLES`."""
    spots = [(pair_of(prompt).positions, roles) for prompt, roles in found]
    shared = set.intersection(*(set(positions) for positions, _ in spots)) if spots else set()
    return {
        name: role
        for role in ROLES
        for name in sorted(shared)
        if all(roles[role] == (positions[name],) for positions, roles in spots)
    }
