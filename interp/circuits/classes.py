"""What the heads of a circuit do, told from where they were found, where they look and what they write. Pure.

Classes and their signs are those of Wang et al. 2022 (arXiv 2211.00593, section 3) and Merullo et al. 2023 (arXiv
2310.08744); ``docs/circuits_classes.md`` has every rule with its source and what is our reading of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from interp.circuits.class_words import sentence
from interp.circuits.config import CircuitConfig, Head
from interp.circuits.looks import LOOKS, MOST, Looks
from interp.circuits.roles import RoleFacts

BACKUP = 0.05
"""A backup takes over at least this share of what the movers lose. Wang et al. name eight heads for three movers."""
Told = dict[str, Any]
"""JSON-able: ``class``, the evidence (``side``, ``looks_from``, ``looks_at``, ``attention``, ``copying``, ``dla``,
``effect``, ``gained``; None = not known) and ``sentence``, which says it in words."""


class Found(NamedTuple):
    """A head that a stage took."""

    head: Head
    side: str
    """What its receivers read: ``logits``, ``q``, ``k`` or ``v``."""
    looks_from: str
    """Name of the position at which it was read."""
    effect: float
    """Mean effect along the path, as a share of the gap: positive = it supports the answer."""


def classify(
    stages: Sequence[Found],
    attention: np.ndarray,
    names: Sequence[str],
    dla: np.ndarray,
    copying: np.ndarray,
    gained: np.ndarray | None,
    config: CircuitConfig,
    *,
    roles: RoleFacts,
    elsewhere: np.ndarray | None = None,
) -> dict[Head, Told]:
    """The class of every head found, the first of `interp.circuits.config.CLASSES` that applies.

    Args:
        stages: heads found, in the order of the stages; a head may be in several.
        attention: [layer, head, query, key] between `names`, mean over prompts (`interp.circuits.evidence`).
        names: the roles, and other named positions.
        dla, copying: [layer, head], mean over prompts.
        gained: [layer, head] mean over prompts of what DLA gains without the movers (`interp.circuits.backup.gained`);
            None = not measured, and there are no backup movers.
        config: of the finder.
        roles: how the roles lie in these prompts (`interp.circuits.roles.role_facts`).
        elsewhere: [layer, head]: attention from the end to tokens without a name (`interp.circuits.evidence`).
    """
    looks = Looks(attention, tuple(names), roles, elsewhere)
    case = _Case(looks, dla, copying, gained)
    by_head: dict[Head, list[Found]] = {}
    for found in stages:
        role = found.looks_from if found.looks_from in names else roles.names.get(found.looks_from, found.looks_from)
        by_head.setdefault(found.head, []).append(found._replace(looks_from=role))
    movers = [head for head, entries in by_head.items() if any(mover(case, one) for one in entries)]
    lost = lost_by(movers, gained)
    told = {}
    for head, entries in by_head.items():
        applies = ((name, one) for name, rule in RULES.items() for one in entries if rule(case, one, lost))
        name, one = next(applies, ("other", entries[0]))
        told[head] = _told(case, name, one)
    return told


def backups(
    attention: np.ndarray,
    names: Sequence[str],
    gained: np.ndarray,
    movers: Collection[Head],
    *,
    roles: RoleFacts,
    copying: np.ndarray | None = None,
) -> list[Head]:
    """All backup movers, the strongest first, also those that no stage found: a head whose place others fill only when
    these are gone has little effect of its own. Arguments as `classify`'s."""
    looks, lost = Looks(attention, tuple(names), roles), lost_by(movers, gained)
    heads = [(int(layer), int(head)) for layer, head in np.ndindex(*gained.shape)]
    found = [head for head in heads if head not in movers and takes_over(looks, gained, head, lost, copying)]
    return sorted(found, key=lambda head: -float(gained[head]))


def takes_over(looks: Looks, gained: np.ndarray, head: Head, lost: float, copying: np.ndarray | None = None) -> bool:
    """Whether a head looks at the answer from the end, copies, and adds more when the movers are gone. One that lowers
    what it looks at gains, too, when it has less to lower: that is no backup.

    Args:
        lost: what the movers' DLA loses, in logits (`lost_by`).
    """
    copies = copying is None or _sign(copying[head], 1)
    return lost > 0 and copies and looks.at(head, "end", "answer") >= LOOKS and float(gained[head]) >= BACKUP * lost


def lost_by(movers: Collection[Head], gained: np.ndarray | None) -> float:
    """What the movers' own DLA loses when they are taken out, in logits; 0 without movers."""
    return -float(sum(gained[head] for head in movers)) if gained is not None and movers else 0.0


class _Case(NamedTuple):
    looks: Looks
    dla: np.ndarray
    copying: np.ndarray
    gained: np.ndarray | None


def mover(case: _Case, one: Found, lost: float = 0.0) -> bool:
    """It writes at the end, looks more at the answer than at a wrong token, and raises it."""
    return (
        _last(case, one)
        and case.looks.roles.answer_follows < MOST
        and one.effect > 0
        and _sign(case.dla[one.head], 1)
        and _sign(case.copying[one.head], 1)
    )


def negative(case: _Case, one: Found, lost: float = 0.0) -> bool:
    """It looks as a mover does, and lowers what it looks at."""
    return _last(case, one) and one.effect < 0 and _sign(case.dla[one.head], -1) and _sign(case.copying[one.head], -1)


def backup(case: _Case, one: Found, lost: float) -> bool:
    """See `takes_over`."""
    return case.gained is not None and takes_over(case.looks, case.gained, one.head, lost, case.copying)


def inhibition(case: _Case, one: Found, lost: float = 0.0) -> bool:
    """It looks at a wrong token, and keeps the movers off it through their queries, or lowers its logit itself."""
    looks, head = case.looks, one.head
    content = looks.content(head, one.looks_from).values()
    more = looks.wrong(head, one.looks_from) > max(looks.at(head, one.looks_from, "answer"), *content, 0.0)
    lowers = one.side == "logits" and one.effect > 0 and _sign(case.dla[head], 1) and float(case.copying[head]) < 0
    return looks.at(head, one.looks_from, "wrong") >= LOOKS and more and (_to_queries(case, one) or lowers)


def gatherer(case: _Case, one: Found, lost: float = 0.0) -> bool:
    """Through movers' queries it tells them what is asked, at whose words it looks."""
    looks, head = case.looks, one.head
    content = max(looks.content(head, one.looks_from).values(), default=0.0)
    others = max(looks.at(head, one.looks_from, "answer"), looks.wrong(head, one.looks_from))
    return _to_queries(case, one) and content >= LOOKS and content > others


def induction(case: _Case, one: Found, lost: float = 0.0) -> bool:
    """From the repeated token to the one behind its first occurrence (Olsson et al. 2022, arXiv 2209.11895)."""
    return case.looks.at_repeat(one.looks_from) and _most(case, one, "after_first")


def duplicate(case: _Case, one: Found, lost: float = 0.0) -> bool:
    """From the repeated token to its first occurrence."""
    return case.looks.at_repeat(one.looks_from) and _most(case, one, "first")


def previous(case: _Case, one: Found, lost: float = 0.0) -> bool:
    """From the token behind the first occurrence to that."""
    return one.looks_from == "after_first" and _most(case, one, "first")


RULES: dict[str, Callable[[_Case, Found, float], bool]] = {
    "mover": mover,
    "negative mover": negative,
    "backup mover": backup,
    "inhibition": inhibition,
    "content gatherer": gatherer,
    "induction": induction,
    "duplicate token": duplicate,
    "previous token": previous,
}
"""Class -> whether a head found so is one; asked in this order."""
PLACE = {
    "mover": "answer",
    "negative mover": "answer",
    "backup mover": "answer",
    "induction": "after_first",
    "duplicate token": "first",
    "previous token": "first",
}
"""Class -> where its heads look."""


def _last(case: _Case, one: Found) -> bool:
    """Found by its effect on the logits, and looks at the answer."""
    return one.side == "logits" and case.looks.answer_over_wrong(one.head, one.looks_from)


def _to_queries(case: _Case, one: Found) -> bool:
    """Found by what it does to queries at the end, where it supports the answer."""
    return one.side == "q" and case.looks.at_end(one.looks_from) and one.effect > 0


def _sign(value: float, sign: int) -> bool:
    """Whether a value has that sign; what is not known speaks against nothing."""
    return bool(np.isnan(value)) or sign * float(value) > 0


def _most(case: _Case, one: Found, key: str) -> bool:
    """Whether it looks at `key`, and at no other named token more."""
    looks, roles = case.looks.by_place(one.head, one.looks_from), case.looks.roles
    same = {"wrong"} if roles.repeat_wrong >= MOST else set()  # its places are `first` and `repeat` themselves
    same |= {"answer"} if roles.answer_follows >= MOST else set()  # its place is `after_first`
    value = looks.get(key, 0.0)
    return value >= LOOKS and all(value > other for name, other in looks.items() if name not in {key, *same})


def _told(case: _Case, name: str, one: Found) -> Told:
    looks, head, query = case.looks, one.head, "end" if name == "backup mover" else one.looks_from
    at, value = _shown(looks, name, head, query)
    told: Told = {
        "class": name,
        "side": one.side,
        "looks_from": query,
        "looks_at": at,
        "attention": None if at is None else value,
        "copying": _known(case.copying[head]),
        "dla": _known(case.dla[head]),
        "effect": _known(one.effect),
        "gained": None if case.gained is None else _known(case.gained[head]),
    }
    return {**told, "sentence": sentence(told)}


def _shown(looks: Looks, name: str, head: Head, query: str) -> tuple[str | None, float]:
    """(name of the place that made it one, or at which it looks most; attention there)."""
    seen = looks.content(head, query) if name == "content gatherer" else looks.by_place(head, query)
    place = PLACE.get(name)
    if name == "inhibition":  # of the places of wrong tokens, the one that it looks at most
        wrong = ("wrong", "first", "repeat") if looks.roles.repeat_wrong >= MOST else ("wrong",)
        place = max((one for one in wrong if one in seen), key=lambda one: seen[one])
    if place is None and seen and max(seen.values()) > 0:
        place = max(seen, key=lambda one: seen[one])
    return place, 0.0 if place is None else looks.at(head, query, place) if place in looks.names else seen[place]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
