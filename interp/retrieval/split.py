"""Which needles choose the heads that are masked, and which judge what masking does.

Only needles that the untouched model answered take part: the others tell of no head, and masking cannot take an answer
from them. What the model does under a mask decides nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from interp.retrieval.config import RetrievalConfig
from interp.verify import MIN_PROMPTS

MIN_CHOOSING = 3
"""Needles left to choose by where more of them judge than `held_out` asks for, so that there can be a verdict."""


def split(needles: Sequence[str], config: RetrievalConfig) -> tuple[frozenset[str], frozenset[str]]:
    """(choosing, judging): the needles' names parted at random, seeded; none is on both sides.

    Those that judge are the share `held_out`, and at least `MIN_PROMPTS`, which a verdict needs, where that leaves
    `MIN_CHOOSING` to choose by. Of two or more needles each side gets one; a single one judges.

    Args:
        needles: names of those that were answered at least once, in any order.
        config: `held_out` and `seed` are used.
    """
    names = sorted(set(needles))
    n = len(names)
    judging = n - int(n * (1 - config.held_out))
    if n >= MIN_PROMPTS + MIN_CHOOSING:
        judging = max(judging, MIN_PROMPTS)
    judging = min(max(judging, 1), max(n - 1, 1))
    order = np.random.default_rng((config.seed, n)).permutation(n)
    return frozenset(names[i] for i in order[judging:]), frozenset(names[i] for i in order[:judging])
