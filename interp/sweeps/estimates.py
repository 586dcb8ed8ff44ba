"""What the units of a sweep need, each within a worker's share of the memory; a model's shapes are read once."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

from interp.errors import InterpError, UsageError
from interp.runs import memory
from interp.sweeps.sizing import PROCESS_BYTES, Need, need
from interp.sweeps.units import SweepUnit


def estimated(
    units: Sequence[SweepUnit], engine: str = "pool", budget: int | None = None, workers: int | None = None
) -> list[Need]:
    """What each unit needs when its scan keeps within its worker's share of `budget` bytes.

    The share is all of it where `workers` are not named. A unit that cannot keep within its share may take more, up to
    all; one that cannot keep within all needs what it does in the smallest pieces. For a cluster, whose GPUs are not
    here, a unit on ``cuda`` is estimated on the CPU.

    Raises:
        UsageError: a unit cannot be run as it is asked for; names it.
    """
    memory.warm()
    sketches, needs = _Sketches(), []
    shares = () if budget is None else tuple(dict.fromkeys((budget // (workers or 1), budget)))
    for unit in units:
        if engine == "ray" and str(unit.load.get("device", "")).startswith("cuda"):
            here = need(unit, sketches.of(unit), device="cpu", dtype=unit.load.get("dtype") or "auto")
            needs.append(dataclasses.replace(here, device="cuda", seconds=None))
        else:
            needs.append(_within(unit, sketches.of(unit), shares))
    return needs


def _within(unit: SweepUnit, sketched: Any, shares: Sequence[int]) -> Need:
    """The need of a unit, with the smaller pieces that the first share it fits into takes."""
    freely = need(unit, sketched)
    if freely.device != "cpu" or freely.bytes is None or not shares or freely.bytes <= shares[0]:
        return freely
    for share in shares:
        limit = share - PROCESS_BYTES + memory.held()  # estimates count what this process holds, not what a worker does
        with contextlib.suppress(UsageError):  # it went without a limit: even the smallest pieces do not fit
            return need(unit, sketched, memory=limit)
    return freely


class _Sketches:
    """The last model without its weights: units of one model follow each other."""

    def __init__(self) -> None:
        self._loads, self._made = "", None

    def of(self, unit: SweepUnit) -> Any:
        """None where it is not on this machine, or damaged: whoever needs it then tells."""
        from interp.runs.outline import outline

        if unit.loads != self._loads and not unit.name.lower().endswith(".gguf"):  # that would be loaded, and kept
            self._loads, self._made = unit.loads, None
            with contextlib.suppress(InterpError):
                self._made = outline(unit.name, unit.load)
        return self._made if unit.loads == self._loads else None
