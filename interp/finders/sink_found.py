"""The sinks of one prompt, for finders that ask something about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interp.finders import sink_rules
from interp.finders.base import Unit
from interp.finders.sink_config import Measured, Sink, SinksConfig
from interp.finders.sink_measure import RULES, measure, measured
from probes.base import Prompt


@dataclass(frozen=True)
class Found:
    """What the sinks finder sees in one prompt.

    Attributes:
        unit: what was measured (see `interp.finders.sink_measure.measure`).
        measured: its arrays as the rules take them.
        sinks: spans by position and start, the anchor's own included.
        ordinary: ranked positions [n] that are in no span, ascending.
    """

    unit: Unit
    measured: Measured
    sinks: tuple[Sink, ...]
    ordinary: tuple[int, ...]

    @property
    def anchor(self) -> int | None:
        """The primary sink's position; None without a sink."""
        return self.measured.anchor if self.sinks else None

    def of_kind(self, kind: str) -> tuple[Sink, ...]:
        """The spans of one kind, those of the anchor left out."""
        return tuple(sink for sink in self.sinks if sink.kind == kind and sink.position != self.anchor)


def found_sinks(model: Any, prompt: Prompt, config: SinksConfig) -> Found:
    """Measure one prompt (a single traced pass) and apply the configured rule."""
    unit = measure(model, prompt, config)
    one = measured(unit)
    sinks = tuple(RULES[config.rule].find(one, config))
    taken = {sink.position for sink in sinks}
    ordinary = tuple(i for i in range(sink_rules.ranked(len(prompt), config)) if i not in taken)
    return Found(unit, one, sinks, ordinary)
