"""A problem with its worked solution, and the random choices it is made with."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

T = TypeVar("T")

LEVELS = (1, 2, 3)

_OPENINGS = (
    "Let me work through this step by step.",
    "I will take it one step at a time.",
    "There are a few steps here, so I write each of them down.",
    "Let me see what is given and what is asked.",
    "I start from what is given.",
)
_SO = ("So", "Therefore", "Hence", "Thus", "This means that")
_CHECKS = ("Check:", "Let me check this:", "To be sure, I check it:", "Wait, let me make sure:", "Now the check:")


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        kind: what sort of problem it is, e.g. ``linear equation``.
        level: difficulty, one of `LEVELS`.
        statement: the problem as it is put.
        steps: the way to the answer, sentence by sentence.
        check: a second way to the answer, or the answer put back in.
        answer: the answer alone; for unknowns as equations, ``x = 2, y = -1``; several solutions joined by `` or ``.
    """

    kind: str
    level: int
    statement: str
    steps: tuple[str, ...]
    check: tuple[str, ...]
    answer: str

    def solution(self) -> str:
        """Steps, check and answer as they stand in a worked solution."""
        return f"{' '.join(self.steps)}\n{' '.join(self.check)}\nThe answer is {self.answer}."


class Draw:
    """Random choices that depend on the key alone: on no platform, and on no version of Python.

    Only `random.Random.random` is promised to stay as it is, so nothing else of it is used.
    """

    def __init__(self, *key: int | str) -> None:
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        self._random = random.Random(int.from_bytes(digest, "big"))

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def nonzero(self, size: int) -> int:
        """An integer from -`size` to `size` that is not 0."""
        value = self.between(1, 2 * size)
        return value if value <= size else size - value

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.between(0, len(options) - 1)]

    def some(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different ones of the options, in random order."""
        left = list(options)
        return [left.pop(self.between(0, len(left) - 1)) for _ in range(count)]

    def opening(self) -> str:
        """A sentence to begin a solution with."""
        return self.pick(_OPENINGS)

    def so(self) -> str:
        """A word or two that draw a conclusion."""
        return self.pick(_SO)

    def checking(self) -> str:
        """What announces a check."""
        return self.pick(_CHECKS)


def plus(value: int | Fraction) -> str:
    """The value as a further summand: `` + 7``, `` - 3/4``; nothing for 0."""
    if value == 0:
        return ""
    return f" + {value}" if value > 0 else f" - {-value}"


def wrapped(value: int | Fraction) -> str:
    """The value as a factor, in brackets where it has a sign or a fraction bar."""
    return f"({value})" if value < 0 or Fraction(value).denominator != 1 else str(value)


def times(coefficient: int, letter: str) -> str:
    """``3x``, ``x``, ``-x``."""
    return {1: letter, -1: f"-{letter}"}.get(coefficient, f"{coefficient}{letter}")


def plus_times(coefficient: int, letter: str) -> str:
    """The product as a further summand: `` + 3x``, `` - x``; nothing for 0."""
    if coefficient == 0:
        return ""
    return f" + {times(coefficient, letter)}" if coefficient > 0 else f" - {times(-coefficient, letter)}"


def ordinal(place: int) -> str:
    """``1st``, ``12th``."""
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"


def counted(count: int, unit: str) -> str:
    """``1 crown``, ``7 crowns``."""
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def listed(items: Sequence[int | str]) -> str:
    """``2, 5, 8``."""
    return ", ".join(map(str, items))
