"""Settings and schema of the sink-rate finder, and the passes over one prompt and its synthetic counterparts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from interp.finders.base import Unit
from interp.finders.sink_config import SinksConfig
from interp.finders.sink_found import found_sinks
from interp.findings import Column
from interp.tracing import calls
from probes.base import Prompt
from probes.random_tokens import probe as random_tokens
from probes.repeated import probe as repeated_token
from probes.synthetic import prefix

KINDS = {
    "natural": "natural text",
    "random": "random tokens",
    "repeated": "one token repeated",
    "repeated_prefixed": "one token repeated, after BOS",
}
"""Kinds of input, and what the table and the report call them."""


@dataclass(frozen=True)
class SinkRateConfig(SinksConfig):
    """Gu et al. take eps = 0.3 (`eps`) and T = 64; the rest says which positions are no sinks (for the controls)."""

    length: int = 64  # T, tokens of every input; longer prompts are taken from the front, shorter ones left out
    beside: float = 0.8  # a second eps, reported beside the first (Barbero et al. 2504.02732)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length < 2:
            raise ValueError(f"length={self.length}: expected 2 or more")
        if not 0 <= self.beside <= 1:
            raise ValueError(f"beside={self.beside}: expected a number from 0 to 1")


COLUMNS = (
    Column("kind", "string", "input", "Kind of input."),
    Column("first", "string", "position 0", "What stands at position 0."),
    Column("prompts", "Int64", "prompts", "How many inputs of this kind were measured."),
    Column("T", "Int64", "T", "Tokens of each input; Sink_1 falls as T grows."),
    Column(
        "sink_rate", "float64", "Sink_1, %", "Share of (prompt, layer, head) whose alpha at position 0 exceeds eps."
    ),
    Column("low", "float64", "low", "Lower end of its 95 % bootstrap interval over prompts."),
    Column("high", "float64", "high", "Upper end of it."),
    Column("sink_rate_beside", "float64", "Sink_1 at the second eps, %", "The same share for the second eps."),
    Column("mass", "float64", "mean mass", "Alpha at position 0, mean over prompts, layers and heads."),
    Column("mass_low", "float64", "mass, low", "Lower end of its interval."),
    Column("mass_high", "float64", "mass, high", "Upper end of it."),
)


def measure(model: Any, prompt: Prompt, config: SinkRateConfig) -> Unit:
    """Alpha at position 0 on the first `length` tokens of a prompt and on as long synthetic inputs, drawn by the hash
    of the prompt: random tokens and one token repeated, by the `random` and `repeated` probes.

    Arrays, float32 [layer, head]: ``alpha.<kind>`` for every one of `KINDS` there is: ``natural`` needs `length`
    tokens, ``repeated_prefixed`` a model that puts something before a text. Facts: ``T``; ``prefix`` = what it puts
    there, as text; of the natural input ``ordinary`` positions and ``loss`` in nats.
    """
    length = config.length if model.max_positions is None else min(config.length, model.max_positions)
    made = inputs(model, length, seed_of(prompt, config))
    alpha = calls.received(model, list(made.values()))[:, :, :, 0].numpy()
    unit = Unit({f"alpha.{kind}": alpha[:, i].astype(np.float32) for i, kind in enumerate(made)})
    unit.facts = {"T": length, "prefix": "".join(model.decode_tokens(prefix(model))), "ordinary": [], "loss": None}
    if len(prompt) >= length:
        found = found_sinks(model, front(prompt, length), config)
        unit.arrays["alpha.natural"] = found.measured.received[:, :, 0].astype(np.float32)
        unit.facts["ordinary"] = [position for position in found.ordinary if position > 0]
        unit.facts["loss"] = found.unit.facts["loss"]
    return unit


def inputs(model: Any, length: int, seed: int) -> dict[str, list[int]]:
    """Synthetic inputs of `length` tokens by kind.

    Raises:
        UsageError: the model was loaded with a chat template, or `length` leaves no room for tokens.
    """
    (random,) = random_tokens.prompts(model, limit=1, max_length=length, seed=seed)
    (repeated,) = repeated_token.prompts(model, limit=1, max_length=length, seed=seed)
    made = {"random": list(random.ids), "repeated": [repeated.ids[-1]] * length}
    if prefix(model):
        made["repeated_prefixed"] = list(repeated.ids)
    return made


def seed_of(prompt: Prompt, config: SinkRateConfig) -> int:
    """What a prompt's counterparts are drawn by."""
    return int(prompt.hash[:8], 16) + config.seed


def front(prompt: Prompt, length: int) -> Prompt:
    """The first `length` tokens of a prompt."""
    return replace(prompt, ids=prompt.ids[:length], tokens=prompt.tokens[:length])
