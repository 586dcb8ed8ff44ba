"""Which prompts choose the circuit and which judge it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from interp.circuits.config import CircuitConfig
from interp.circuits.pairs import pair_of
from interp.verify import MIN_PROMPTS
from probes.base import Prompt

MIN_SELECT = 3
"""Prompts that are to be left to choose by, before `MIN_PROMPTS` are held out at any share."""
MIN_TEMPLATES = 4
"""With fewer templates one of them would make up half of a half; prompts are held out instead."""


def halves(prompts: Sequence[Prompt], config: CircuitConfig) -> tuple[list[int], list[int]]:
    """(select, held out): indices of the prompts that choose and of those that judge, each in order, seeded.

    Whole templates are held out where there are `MIN_TEMPLATES` and their sizes allow, else prompts; prompts of the
    same tokens stay together. At least `MIN_PROMPTS` are held out where that leaves `MIN_SELECT`. One prompt (or one
    sequence of tokens) chooses, and nothing judges.

    Raises:
        UsageError: a prompt without a pair.
    """
    n = len(prompts)
    least = MIN_PROMPTS if n >= MIN_PROMPTS + MIN_SELECT else min(1, n - 1)
    want = max(n - int(n * config.select), least)
    templates = [pair_of(prompt).template for prompt in prompts]
    tokens = [prompt.ids for prompt in prompts]
    by_template = _together(templates, tokens)
    if len(by_template) >= MIN_TEMPLATES:
        held_out = _drawn(by_template, want, config.seed)
        if len(held_out) >= min(want, MIN_PROMPTS) and 2 * (n - len(held_out)) >= n - want:
            return _rest(n, held_out), held_out
    held_out = _drawn(_together(tokens), want, config.seed)
    return _rest(n, held_out), held_out


def _rest(n: int, held_out: list[int]) -> list[int]:
    return sorted(set(range(n)) - set(held_out))


def _together(*labels: Sequence[object]) -> list[list[int]]:
    """Groups of indices: those that share a label of any kind are in one."""
    group: dict[int, list[int]] = {}
    for kind in labels:
        first: dict[object, int] = {}
        for index, label in enumerate(kind):
            mine = group.setdefault(index, [index])
            other = group[first.setdefault(label, index)]
            if mine is not other:
                other.extend(mine)
                group.update(dict.fromkeys(mine, other))
    return [sorted(one) for one in {id(one): one for one in group.values()}.values()]


def _drawn(groups: list[list[int]], want: int, seed: int) -> list[int]:
    """Whole groups in an order drawn, each where it brings their number nearer to `want`; one group is always left."""
    held_out: list[int] = []
    left = len(groups)
    for at in np.random.default_rng((seed, len(groups))).permutation(len(groups)):
        more = len(held_out) + len(groups[at])
        if left > 1 and abs(more - want) <= abs(len(held_out) - want):
            held_out += groups[at]
            left -= 1
    return sorted(held_out)
