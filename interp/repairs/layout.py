"""Where the candidates of a prompt stand, which of them is pointed at, and the rows that the edits make of it.

Only `oracle_row` is told which candidate is right. All else here is computed from `Layout`, which does not know it.
Pure NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from interp.circuits.roles import roles_of
from probes.base import Prompt

GROUPS = ("said", "unsaid", "repeat", "end", "start")
"""Of a donor's row: mass on the candidate to be said, on the others, where the question names it, last, first token."""


@dataclass(frozen=True)
class Layout:
    """What can be known of a prompt without the answer.

    Attributes:
        length: tokens.
        slots: the candidates in order of their first place; each is the positions of one token.
        repeat: where the prompt names again what it asks about; None = not known.
    """

    length: int
    slots: tuple[tuple[int, ...], ...]
    repeat: int | None

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """[start, stop) of each candidate with what follows it: all as wide as two candidates are apart at the least.
        Only places before `repeat` count."""
        stop = self.length if self.repeat is None else self.repeat
        starts = [slot[0] for slot in self.slots]
        gaps = [later - start for start, later in pairwise(starts)]
        width = max(1, min(gaps, default=stop))
        return tuple((start, min(start + width, stop)) for start in starts)


def layout_of(prompt: Prompt) -> Layout:
    """The layout of a prompt; the order in which its roles name the candidates changes nothing."""
    roles = roles_of(prompt)
    by_token: dict[int, list[int]] = {}
    for at in sorted({*roles["answer"], *roles["wrong"]}):
        by_token.setdefault(prompt.ids[at], []).append(at)
    repeat = roles["repeat"][0] if roles["repeat"] else None
    return Layout(len(prompt), tuple(tuple(places) for places in by_token.values()), repeat)


def answer_slot(prompt: Prompt) -> int | None:
    """The slot that holds the answer (a label); None where the answer stands nowhere before."""
    answer = set(roles_of(prompt)["answer"])
    return next((i for i, slot in enumerate(layout_of(prompt).slots) if answer & set(slot)), None)


def pointed(layout: Layout, rows: np.ndarray) -> int:
    """The slot on whose span the pointers' attention from `repeat` lies most.

    Args:
        rows: [head, key] of the pointers at `repeat`.
    """
    mass = rows.sum(0)
    return int(np.argmax([mass[start:stop].sum() for start, stop in layout.spans]))


@dataclass(frozen=True)
class Meant:
    """Positions of the candidates that the model's own heads speak for (`said`) and against (`unsaid`)."""

    said: tuple[int, ...]
    unsaid: tuple[int, ...]


def meant(layout: Layout, slot: int, spare: bool) -> Meant:
    """`spare`: the slot pointed at is the one to be said (Colored Objects); else the one not to be (IOI)."""
    at = set(layout.slots[slot])
    rest = {place for places in layout.slots for place in places} - at
    said, unsaid = (at, rest) if spare else (rest, at)
    return Meant(tuple(sorted(said)), tuple(sorted(unsaid)))


def even(length: int, places: Sequence[int]) -> np.ndarray:
    """A row [key] of mass 1, evenly on the places."""
    row = np.zeros(length, dtype=np.float32)
    row[list(places)] = 1 / len(places)
    return row


def oracle_row(prompt: Prompt) -> np.ndarray:
    """The published edit (Merullo et al. 2023): 1 / number of the wrong candidates' tokens on each. Uses the label."""
    return even(len(prompt), roles_of(prompt)["wrong"])


def donor_masses(rows: np.ndarray, prompt: Prompt) -> np.ndarray:
    """[..., group]: mass of the last token's rows [..., key] of an IOI prompt on each of `GROUPS`."""
    roles = roles_of(prompt)
    again = set(roles["repeat"])
    unsaid = tuple(at for at in roles["wrong"] if at not in again)
    places = (roles["answer"], unsaid, roles["repeat"], roles["end"], (0,))
    return np.stack([rows[..., list(at)].sum(-1) for at in places], -1)


def donor_row(layout: Layout, says: Meant, own: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """A row [key] with a donor's masses on this prompt's groups; what is left lies on the other keys as in the head's
    `own` row.

    Args:
        own: [key]; masses: [group].
    """
    again = () if layout.repeat is None else (layout.repeat,)
    unsaid = tuple(at for at in says.unsaid if at not in again)
    groups = (says.said, unsaid, again, (layout.length - 1,), (0,))
    row = np.zeros(layout.length, dtype=np.float32)
    for mass, places in zip(masses, groups, strict=True):
        if places:
            row[list(places)] += mass / len(places)
    others = own.copy()
    others[sorted({at for places in groups for at in places})] = 0
    left = max(0.0, float(own.sum() - row.sum()))
    return (row + (left / others.sum() * others if others.sum() > 0 else 0)).astype(np.float32)
