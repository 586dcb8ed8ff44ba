"""Which lengths, depths and needles a needle probe goes through, and which of them a limit takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from interp.errors import UsageError
from probes.needle_material import Needle
from probes.problem_base import Draw

LADDER = (8, 4, 2, 1)
"""The default lengths are the longest that fits, divided by each of these."""


@dataclass(frozen=True)
class Place:
    """One instance: a needle in a haystack of a length, at a depth."""

    length: int
    depth: float
    needle: Needle

    @property
    def name(self) -> str:
        return f"{self.needle.name}-{self.length}-{100 * self.depth:.4g}"


def ladder(lengths: Sequence[int], most: int, least: int, why: str) -> tuple[tuple[int, ...], list[str]]:
    """The lengths in tokens, ascending: those asked for, or the default ones that hold needle and question; and what a
    reader must be told of default ones that do not.

    Args:
        most: tokens that a prompt may have; `why` says what sets that limit.
        least: tokens that needle, question and a little haystack take.

    Raises:
        UsageError: one that was asked for is too long or too short, or none is left.
    """
    needs = f"needle, question and a little haystack take up to {least} tokens"
    for length in lengths:
        if length > most:
            raise UsageError(f"lengths={length}: prompts have at most {most} tokens here ({why})")
        if length < least:
            raise UsageError(f"lengths={length}: too short, for {needs}; give {least} or more")
    if lengths:
        return tuple(sorted(lengths)), []
    usual = sorted({most // part for part in LADDER})
    made = tuple(length for length in usual if length >= least)
    if not made:
        raise UsageError(f"no haystack fits in {most} tokens ({why}): {needs}; give --max-length {least} or more")
    if made == tuple(usual):
        return made, []
    short, used = (", ".join(map(str, some)) for some in (usual[: -len(made)], made))
    return made, [f"default lengths of {short} tokens were left out, for {needs}; used: {used}"]


def grid(
    lengths: Sequence[int], depths: Sequence[float], needles: Sequence[Needle], each: int, seed: int
) -> list[Place]:
    """Every length with every depth, with `each` needles a cell, ordered so that neighbours begin alike: by length,
    from the deepest needle up.

    The needles go round, in an order drawn by the seed, so that all are used as evenly as can be.
    """
    order = Draw("needles", seed).some(needles, len(needles))
    places = []
    for row, length in enumerate(lengths):
        for column, depth in enumerate(depths):
            first = (row * len(depths) + column) * each
            places += [Place(length, depth, order[(first + i) % len(order)]) for i in range(each)]
    return sorted(places, key=lambda one: (one.length, -one.depth))


def balanced(places: Sequence[Place], limit: int | None) -> list[Place]:
    """At most `limit` of them, lengths, depths and needles each as even as can be, in the order given.

    Taken one after another, so a larger limit only adds some.
    """
    if limit is None or limit >= len(places):
        return list(places)
    left, taken = list(range(len(places))), []
    used: Counter[object] = Counter()
    while len(taken) < limit:
        best = min(left, key=lambda at: (*_uses(places[at], used), -places[at].length, at))
        taken.append(best)
        left.remove(best)
        one = places[best]
        used.update([one.needle.name, ("length", one.length), ("depth", one.depth), (one.length, one.depth)])
    return [places[at] for at in sorted(taken)]


def _uses(one: Place, used: Counter[object]) -> tuple[int, int, int, int]:
    """How often its needle, its length, its depth and both together were taken, what must be even first."""
    both = used[one.length, one.depth]
    length, depth = used["length", one.length], used["depth", one.depth]
    return used[one.needle.name], length + depth, both, max(length, depth)
