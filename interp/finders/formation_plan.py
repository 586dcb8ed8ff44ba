"""Which tokens of a prompt are looked at for formation: its sinks, and for each ordinary tokens to hold it against."""

from __future__ import annotations

from dataclasses import dataclass

from interp.finders.formation_config import CONTROLS, FormationConfig
from interp.finders.sink_config import Sink, reading_layers
from interp.finders.sink_found import Found
from probes.base import Prompt


@dataclass(frozen=True)
class Case:
    """One sink and its controls.

    Attributes:
        sink: the span.
        anchor: whether it is the anchor's own.
        control: kind of the controls (one of `CONTROLS`), None without any.
        controls: their positions, the nearest first; the first one is also what the causal check edits.
        reading: blocks whose attention reads the sink's states.
    """

    sink: Sink
    anchor: bool
    control: str | None
    controls: tuple[int, ...]
    reading: tuple[int, ...]


def cases(prompt: Prompt, found: Found, config: FormationConfig) -> list[Case]:
    """Every sink of a prompt, with its controls.

    They are ordinary tokens with the same id, the nearest `matches` of them; without one, the nearest ordinary token,
    which no other sink of the block was given if that can be helped.
    """
    n_layers = len(found.measured.norm)
    given: set[tuple[int, int]] = set()
    made = []
    for sink in found.sinks:
        near = sorted(found.ordinary, key=lambda at: (abs(at - sink.position), at))
        alike = [at for at in near if prompt.ids[at] == prompt.ids[sink.position]]
        free = [at for at in alike or near if (sink.start, at) not in given] or alike or near
        first = free[:1]
        given.update((sink.start, at) for at in first)
        rest = [at for at in alike if at not in first] if alike else []
        controls = tuple([*first, *rest][: config.matches])
        kind = None if not controls else CONTROLS[0] if alike else CONTROLS[2]
        reading = tuple(reading_layers(sink.layers, n_layers))
        made.append(Case(sink, sink.position == found.anchor, kind, controls, reading))
    return made
