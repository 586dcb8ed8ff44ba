"""The contract between a finder and the runner.

A finder is an object with a name, a frozen config dataclass and four phases; the runner (interp/runs) calls them,
stores every unit atomically as it finishes, and skips the units that are already on disk. Phases 1 and 3 see the model,
one prompt at a time; phases 2 and 4 are pure functions of stored units, so they can be redone without a model.

A finder whose question to the model belongs to no single prompt (what one MLP makes of directions found over all of
them) has a method ``examine(model, findings, config) -> Unit`` as well. It runs between 3 and 4, its unit is stored
like the others, and `conclude` gets it as a fourth argument, ``examined``.

A finder that has something to ask of all prompts together before anything can be found (which heads reach the heads
that were found before) has ``explore(model, prompts, units, config, kept) -> Unit``. It runs between 1 and 2, anew on
every run, so whatever it measures goes through ``kept`` (`Kept`), which stores it piece by piece; `find` gets what it
returns as a fifth argument, ``explored``.

What else a finder may have:

- ``probe``, ``max_length``: where its prompts come from when none are given, and how long they are at the most.
- ``needs(prompt)``: raises `UsageError` for a prompt that it can make nothing of; asked of all before any is measured.
- ``suits(prompt, config)``: the same for a prompt that does not go with the settings.
- ``passes``: forward passes over a prompt, in all phases together, and ``reads``: states kept of every layer and token
  (see `Effort`), for ``--dry-run`` and the memory plan; or, where these hang on the settings, ``effort(config, prompts,
  shape) -> Effort``, shape being the model's (layers, heads a layer).

One that remembers something of the model from one prompt to the next (KV caches) has ``prepare(model)``, called when a
run begins, and ``release(model)``, which frees it and is called when the run ends, however it ends. Only in between may
it remember: outside a run, nothing says that the model's weights are still the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from interp.findings import Findings
from probes.base import Prompt


@dataclass
class Unit:
    """What one phase measured on one prompt: named arrays plus JSON-able facts."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Effort:
    """What a run asks of the model, in all phases together, for ``--dry-run`` and the memory plan; upper bounds where
    it cannot be known.

    Attributes:
        passes: forward passes over a prompt, mean.
        decodes: steps that decode tokens after a prompt, mean.
        caches: KV caches of a whole prompt that are held at once.
        tokens: tokens read beside the prompts, in the whole run.
        steps: tokens decoded beside, in the whole run.
        longest: tokens of the longest sequence that is read beside the prompts.
        at_once: tokens that run side by side, where they are more than one prompt's.
        reads: states [d_model] that are kept of every layer and token, while one prompt is measured; with `bounded`, of
            all prompts, within what the memory plan grants (`interp.tracing.budget.Budget.states`).
        maps: numbers that are kept of every layer, head and token, for as long as the run goes on.
        logits: tokens whose logits are all taken, with their loss; None = a whole prompt's.
        edits: whether a whole prompt runs under edits, which is done in one piece.
    """

    passes: float
    decodes: int = 0
    caches: int = 0
    tokens: int = 0
    steps: int = 0
    longest: int = 0
    at_once: int = 0
    reads: float = 1.0
    bounded: bool = False
    maps: int = 1
    logits: int | None = None
    edits: bool = True


@dataclass(frozen=True)
class ModelFacts:
    """What a pure phase may know of the model; `hub_id` = owner/name on the hub, None where it is not known."""

    name: str
    family: str
    architecture: str
    n_layers: int
    n_heads: int
    d_model: int
    chat: bool
    position0: str
    hub_id: str | None = None


class Kept(Protocol):
    """Where `explore` leaves what it has measured: a run that goes on after an interruption finds it there."""

    def phase(self, label: str, pieces: int) -> None:
        """Progress begins anew: so many pieces of `label` ("patching") follow."""
        ...

    def unit(self, name: str, make: Callable[[], Unit], of: Any = None) -> Unit:
        """The piece stored under `name` and `of` (JSON-able: whatever else it hangs on, such as the heads found so
        far), or what `make` makes, stored."""
        ...


class Finder(Protocol):
    """See the module docstring. `Model` is `interp.models.model.Model`."""

    name: str
    config_type: type

    def measure(self, model: Any, prompt: Prompt, config: Any) -> Unit:
        """1. Run one prompt and keep what `find` needs."""
        ...

    def find(self, prompts: Sequence[Prompt], units: Sequence[Unit], config: Any, facts: ModelFacts) -> Findings:
        """2. From all units to findings (no verification yet)."""
        ...

    def check(self, model: Any, prompt: Prompt, index: int, findings: Findings, config: Any) -> Unit | None:
        """3. Intervene on what was found in prompt `index`; None when there is nothing to intervene on."""
        ...

    def conclude(self, findings: Findings, checks: Sequence[Unit | None], config: Any) -> Findings:
        """4. Fill in `findings.verification` and the final verdict sentence."""
        ...


def examines(finder: Any) -> bool:
    """Whether a finder has the optional phase `examine` (see the module docstring)."""
    return callable(getattr(finder, "examine", None))


def explores(finder: Any) -> bool:
    """Whether a finder has the optional phase `explore` (see the module docstring)."""
    return callable(getattr(finder, "explore", None))


def prepare(finder: Any, model: Any) -> None:
    """Let a finder remember things of a model until `release`, if it wants to (see the module docstring)."""
    begin = getattr(finder, "prepare", None)
    if callable(begin):
        begin(model)


def release(finder: Any, model: Any) -> None:
    """Have a finder free what it remembers of a model, if it remembers anything (see the module docstring)."""
    free = getattr(finder, "release", None)
    if callable(free):
        free(model)
