"""Pairs that were to be measured together, measured in parts: memory may have run out since the pieces were settled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from interp.finders.base import Unit


def cut(n: int, step: int) -> Iterator[slice]:
    """`n` things, at most `step` at a time."""
    return (slice(at, min(at + step, n)) for at in range(0, n, step))


def joined(parts: Iterable[Unit]) -> Unit:
    """Units of arrays [..., pair] as one."""
    each = [part.arrays for part in parts]
    return Unit({name: np.concatenate([one[name] for one in each], -1) for name in each[0]})
