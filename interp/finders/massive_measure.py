"""Settings and schema of the massive-activations finder, and the pass that looks for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from interp.finders.base import Unit
from interp.finders.sink_config import SinksConfig
from interp.finders.sink_found import found_sinks
from interp.finders.sink_measure import RESIDUAL
from interp.finders.sink_pictures import ORDER
from interp.findings import Column
from interp.tracing import calls
from interp.tracing.tracer import trace
from probes.base import Prompt

TOP = 3
"""So many largest magnitudes are kept of every block."""


@dataclass(frozen=True)
class MassiveConfig(SinksConfig):
    """The criterion of Sun et al. 2024 (section 2); the rest says what counts as a sink (`SinksConfig`)."""

    size: float = 100.0  # an activation is massive when its magnitude is above it ...
    ratio: float = 1000.0  # ... and at least so many times the median magnitude of its hidden state
    most: int = 32  # so many of a prompt's massive activations are taken, the largest first

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, bound in (("size", 0), ("ratio", 0), ("most", 1)):
            if getattr(self, name) < bound:
                raise ValueError(f"{name}={getattr(self, name)}: expected {bound} or more")


COLUMNS = (
    Column("prompt", "string", "prompt", "Name of the prompt."),
    Column("position", "Int64", "position", "0-based position of the token, BOS included."),
    Column("token_id", "Int64", "token id", "Id of the token in the vocabulary."),
    Column("token", "string", "token", "The token as text."),
    Column("dim", "Int64", "dimension", "Dimension of the residual stream, 0-based."),
    Column("first_layer", "Int64", "first layer", "First block whose output meets the criterion there; 0-based."),
    Column("last_layer", "Int64", "last layer", "Last block whose output meets it."),
    Column("layers", "Int64", "layers", "Number of blocks whose output meets it, gaps not counted."),
    Column("value", "float64", "value", "The activation where its magnitude is largest, sign included."),
    Column("ratio", "float64", "ratio", "That magnitude over the median magnitude of the hidden state there."),
    Column("sink", "string", "sink", "Whether the token is an attention sink and of which kind; no = it is none."),
)


def measure(model: Any, prompt: Prompt, config: MassiveConfig) -> Unit:
    """Two passes over one prompt: its sinks, then its residual stream.

    Arrays: ``top`` float32 [layer, 3], the largest magnitudes of every block's output; ``median`` float32 [layer], its
    median magnitude over all tokens and dimensions; of the n massive activations, largest first: ``position`` and
    ``dim`` int64 [n], ``values`` float32 [layer, n] and ``massive`` bool [layer, n], where the criterion is met.
    Facts: ``largest`` = [layer, position, dim, value, ratio] of the largest ratio to the median, ``sinks`` =
    [[position, kind]], ``ordinary`` = ranked positions that are no sinks, ``left_out`` = how many massive activations
    were more than `most`, ``loss`` in nats.
    """
    found = found_sinks(model, prompt, config)
    sites = [RESIDUAL.format(layer) for layer in range(model.n_layers)]
    with trace(model, read=sites) as traced:
        traced.run(list(prompt.ids), **calls.skip_logits(model))
        states = [traced[site][0].to("cpu", torch.float32).numpy() for site in sites]
    arrays, facts = massive(states, config)
    kinds = {sink.position: sink.kind for sink in sorted(found.sinks, key=lambda sink: -ORDER.index(sink.kind))}
    facts["sinks"] = [[position, kind] for position, kind in sorted(kinds.items())]
    facts["ordinary"] = list(found.ordinary)
    facts["loss"] = found.unit.facts["loss"]
    return Unit(arrays, facts)


def massive(states: list[np.ndarray], config: MassiveConfig) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The criterion on block outputs, each [position, dim] (see `measure`)."""
    medians = np.array([np.median(np.abs(state)) for state in states], dtype=np.float32)
    tops, largest = [], (0, 0, 0, 0.0, -1.0)
    peaks: dict[tuple[int, int], float] = {}
    for layer, (state, median) in enumerate(zip(states, medians, strict=True)):
        size = np.abs(state)
        flat = np.sort(size, axis=None)[::-1][:TOP]
        tops.append(np.pad(flat, (0, TOP - len(flat))))
        position, dim = (int(i) for i in np.unravel_index(size.argmax(), size.shape))
        ratio = over(size[position, dim], median)
        if ratio > largest[4]:
            largest = (layer, position, dim, float(state[position, dim]), ratio)
        for place in np.argwhere(meets(size, median, config)):
            key = int(place[0]), int(place[1])
            peaks[key] = max(peaks.get(key, 0.0), float(size[key]))
    order = sorted(peaks, key=lambda key: (-peaks[key], key))
    taken = order[: config.most]
    places = np.array(taken, dtype=np.int64).reshape(-1, 2)
    values = np.stack([state[places[:, 0], places[:, 1]] for state in states]).astype(np.float32)
    arrays = {
        "top": np.stack(tops).astype(np.float32),
        "median": medians,
        "position": places[:, 0],
        "dim": places[:, 1],
        "values": values,
        "massive": meets(np.abs(values), medians[:, None], config),
    }
    return arrays, {"largest": list(largest), "left_out": len(order) - len(taken)}


def meets(size: np.ndarray, median: Any, config: MassiveConfig) -> np.ndarray:
    """bool: magnitudes that meet the criterion, beside the median magnitude of their hidden state."""
    return (size > config.size) & (size >= config.ratio * median)


def over(size: float, median: float) -> float:
    """Magnitude over median; a median of 0 counts as 1e-12."""
    return float(size) / max(float(median), 1e-12)
