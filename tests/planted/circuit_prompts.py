"""Pairs for the model of `circuit_plan`: two names, one of them again, in sentences of made-up words."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from interp.circuits.pairs import Pair
from interp.circuits.roles import as_extra
from probes.base import Prompt
from tests.planted.circuit_plan import ENDINGS, FILLERS, NAMES, SPECIAL

Twin = Literal["flip", "abc"]
TEMPLATES = ("aNbNccS", "aaNbbNcS", "NabNcccS", "aNbbbNcS", "aaNbNccSd", "NaNbbccSdd")
"""N = a name, S = one of them again, small letters = other words; the first token goes first, and an ending last."""
ORDERS = ("ABBA", "BABA")


def prompts_of(count: int = 24, *, corrupt: Twin = "abc", seed: int = 0, task: str = "planted") -> list[Prompt]:
    """`count` pairs, orders and templates in turn; with another `corrupt` the clean prompts stay the same.

    Twins: flip = the other one comes again; abc = three other names.
    """
    return [_pair(index, corrupt, seed, task) for index in range(count)]


def _pair(index: int, corrupt: Twin, seed: int, task: str) -> Prompt:
    number, order = index // 2 % len(TEMPLATES), ORDERS[index % 2]
    rng = np.random.default_rng([seed, index])
    io, subject, *new = (int(name) for name in rng.permutation(NAMES)[:5])
    template = f"{order}-{number}"
    first, second = (io, subject) if order == "ABBA" else (subject, io)
    clean, at = _said(number, first, second, subject)
    twins = {"flip": _said(number, first, second, io)[0], "abc": _said(number, *new)[0]}
    here, there = ("IO", "S1") if order == "ABBA" else ("S1", "IO")
    places = {here: at[0], there: at[1], "S2": at[2]}
    places["S1+1"] = places["S1"] + 1
    prompt = Prompt(f"{task}-{index}", "", clean, tuple(f"<{one}>" for one in clean))
    pair = Pair(prompt, twins[corrupt], SPECIAL + io, (SPECIAL + subject,), places, template)
    roles = as_extra(answer=["IO"], wrong=["S1", "S2"], first=["S1"], after_first=["S1+1"], repeat=["S2"])
    extra: dict[str, Any] = {
        **pair.as_extra(),
        **roles,
        "twins": {name: list(ids) for name, ids in twins.items()},
        "groups": {"order": order, "template": template},
    }
    return Prompt(prompt.name, "", prompt.ids, prompt.tokens, extra=extra)


def _said(number: int, first: int, second: int, again: int) -> tuple[tuple[int, ...], list[int]]:
    """(ids, places of the three names). A template has words of its own, no two of them the same."""
    rng = np.random.default_rng([7, number])
    fillers = iter(int(word) for word in rng.permutation(FILLERS))
    names = iter((first, second, again))
    words = [next(names) if one in "NS" else next(fillers) for one in TEMPLATES[number]]
    places = [1 + at for at, one in enumerate(TEMPLATES[number]) if one in "NS"]
    return (1, *(SPECIAL + word for word in (*words, ENDINGS[number % len(ENDINGS)]))), places
