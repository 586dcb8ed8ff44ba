"""Planted circuits, loaded, and what the parts of the circuit finder say of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from interp.circuits.config import CircuitConfig
from interp.circuits.evidence import evidence
from interp.circuits.explore import by_class, classes_of
from interp.circuits.measured import looks_of
from interp.circuits.split import halves
from interp.circuits.stages import Stage, search
from interp.finders.base import Unit
from interp.models.load import load
from interp.models.model import Model
from probes.base import Prompt
from tests.planted.circuit import plant
from tests.planted.circuit_plan import HEADS, LAYERS, Circuit, Head, random_circuit
from tests.planted.circuit_prompts import Twin, prompts_of

SHARE = 0.1
"""Of 30, 18, 12 and 6 heads, those of the last layer that was found and of all before it: 3, 2, 2 and 1, as planted."""
SETTINGS: dict[str, Any] = {"share": SHARE, "least": 1, "points": 2, "resamples": 20, "subsets": 2, "controls": 1}
CASES: tuple[tuple[str, Twin], ...] = (("llama", "abc"), ("llama", "flip"), ("gpt2", "abc"), ("gpt2", "flip"))
"""Each has a circuit in places of its own, by its number."""


class Unkept:
    """Makes every piece anew."""

    def phase(self, label: str, pieces: int) -> None: ...

    def unit(self, name: str, make: Callable[[], Unit], of: Any = None) -> Unit:
        return make()


@cache
def planted(arch: str, seed: int, *, inhibits: bool = True) -> tuple[Model, Circuit]:
    """A loaded model with a circuit; see `tests.planted.circuit.plant`."""
    circuit = random_circuit(seed)
    return load(plant(arch, circuit, seed, inhibits=inhibits), check=False), circuit


@cache
def measured(arch: str, twin: Twin) -> tuple[list[Prompt], list[Unit]]:
    """Twelve pairs, one of each template, and the evidence on them."""
    model, _ = planted(arch, CASES.index((arch, twin)))
    prompts = prompts_of(12, corrupt=twin)
    return prompts, [evidence(model, prompt) for prompt in prompts]


@cache
def searched(arch: str, twin: Twin) -> tuple[list[Stage], dict[str, list[Head]], list[Head]]:
    """(stages; class -> heads; backups)."""
    model, _ = planted(arch, CASES.index((arch, twin)))
    prompts, units = measured(arch, twin)
    config = CircuitConfig(share=SHARE, least=1)
    stages = search(model, prompts, looks_of(units), config, Unkept())
    select, _ = halves(prompts, config)
    told, _, backups = classes_of(model, prompts, units, stages, select, config, Unkept())
    return stages, by_class(told), backups


def noise_heads(circuit: Circuit, layer: int) -> list[Head]:
    """Heads of a layer that were not planted."""
    return [(layer, head) for head in range(HEADS) if (layer, head) not in {*circuit.heads, circuit.backup}]


def mean(units: list[Unit], fact: str) -> float:
    """Of a fact over prompts."""
    return float(np.mean([unit.facts[fact] for unit in units]))


assert LAYERS * HEADS == 30
