"""The causal check of massive activations (Sun et al. 2024, arXiv 2402.17762, section 3.2): set them to zero and to
their mean where they first appear, and set as many ordinary activations to zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.errors import NumbersError
from interp.finders.base import Unit
from interp.finders.massive_measure import MassiveConfig
from interp.finders.sink_measure import RESIDUAL, next_token_loss
from interp.findings import Findings
from interp.interventions.attention import same_path
from interp.interventions.dims import Entry, SetDims
from interp.tracing.tracer import trace
from interp.verify import Paired, paired
from probes.base import Prompt

EDITS = {
    "zero": "massive set to zero",
    "mean": "massive set to their mean",
    "beside": "ordinary ones of the same token set to zero",
    "elsewhere": "same dimensions of ordinary tokens set to zero",
}
NEAREST = 32
"""A control is drawn from so many candidates: the dimensions nearest to the median in magnitude, or the ordinary
positions nearest to the token."""
METRIC = "next-token loss, nats"
HOW = (
    "In every prompt, the massive activations were set to zero in the output of the block where they first appear, and "
    f"apart, in the same blocks, as many ordinary activations: of the same tokens (from the {NEAREST} other dimensions "
    f"nearest to the median magnitude), and of the same dimensions (at the {NEAREST} ordinary positions nearest to the "
    "token); the control is the mean of the two."
)


def check(model: Any, prompt: Prompt, index: int, findings: Findings, config: MassiveConfig) -> Unit | None:
    """Losses of one prompt under the edits.

    Facts: ``loss`` (untouched) and ``edited`` = {edit: loss}, nats, for those of `EDITS` that there are: ``mean`` needs
    other prompts with the same massive activations, the controls enough ordinary ones.
    """
    told = findings.summary["prompts"][index]
    entries = told["entries"]
    if not entries or told["loss"] is None:
        return None
    layers = sorted({one["first"] for one in entries})
    sites = [RESIDUAL.format(layer) for layer in layers]
    with trace(model, read=sites) as traced:
        loss = next_token_loss(traced.run(list(prompt.ids)).logits, prompt.ids)
        states = {layer: traced[RESIDUAL.format(layer)][0].to("cpu").float().numpy() for layer in layers}
    rng = np.random.default_rng((config.seed, index))
    edits = {
        "zero": [(RESIDUAL.format(one["first"]), one["position"], one["dim"], 0.0) for one in entries],
        "mean": [
            (RESIDUAL.format(one["first"]), one["position"], one["dim"], one["mean"])
            for one in entries
            if one["mean"] is not None
        ],
        "beside": beside(entries, states, rng),
        "elsewhere": elsewhere(entries, told["ordinary"], rng),
    }
    edited = {name: edited_loss(model, prompt, places, name) for name, places in edits.items() if places}
    return Unit(facts={"loss": loss, "edited": edited})


def edited_loss(model: Any, prompt: Prompt, entries: Sequence[Entry], name: str) -> float:
    """Next-token loss with activations set.

    Raises:
        NumbersError: it is not finite.
    """
    with trace(model, edit=[*same_path(model), SetDims(entries)]) as traced:  # the path of the untouched loss
        loss = next_token_loss(traced.run(list(prompt.ids)).logits, prompt.ids)
    if not np.isfinite(loss):
        raise NumbersError(f"prompt {prompt.name!r}: with {EDITS[name]} the loss is {loss}; try --dtype float32")
    return loss


def beside(entries: list[dict[str, Any]], states: dict[int, np.ndarray], rng: np.random.Generator) -> list[Entry]:
    """One activation of ordinary magnitude of the same token for each entry; none if a token has too few."""
    made: list[Entry] = []
    taken = {(one["first"], one["position"], one["dim"]) for one in entries}
    for one in entries:
        layer, position = one["first"], one["position"]
        size = np.abs(states[layer])
        order = np.argsort(np.abs(size[position] - np.median(size)), kind="stable")
        free = [int(dim) for dim in order if (layer, position, int(dim)) not in taken][:NEAREST]
        if not free:
            return []
        dim = int(rng.choice(free))
        taken.add((layer, position, dim))
        made.append((RESIDUAL.format(layer), position, dim, 0.0))
    return made


def elsewhere(entries: list[dict[str, Any]], ordinary: Sequence[int], rng: np.random.Generator) -> list[Entry]:
    """The same dimension of an ordinary token nearby for each entry; none if there are too few such tokens."""
    made: list[Entry] = []
    taken: set[tuple[int, int, int]] = set()
    for one in entries:
        layer, dim = one["first"], one["dim"]
        near = sorted(ordinary, key=lambda at, own=one["position"]: (abs(at - own), at))
        free = [at for at in near if (layer, at, dim) not in taken][:NEAREST]
        if not free:
            return []
        position = int(rng.choice(free))
        taken.add((layer, position, dim))
        made.append((RESIDUAL.format(layer), position, dim, 0.0))
    return made


def changes(checks: Sequence[Unit | None], name: str) -> np.ndarray:
    """Change in loss [prompt] under one of `EDITS`; NaN where it was not made."""
    made = [
        np.nan if unit is None or name not in unit.facts["edited"] else unit.facts["edited"][name] - unit.facts["loss"]
        for unit in checks
    ]
    return np.array(made, dtype=np.float64)


def effects(names: Sequence[str], checks: Sequence[Unit | None], config: MassiveConfig) -> Paired:
    """Zeroing the massive activations against zeroing ordinary ones, prompts that have a control."""
    zero = changes(checks, "zero")
    both = np.stack([changes(checks, "beside"), changes(checks, "elsewhere")])
    known = np.isfinite(both).any(axis=0) & np.isfinite(zero)
    control = np.nanmean(both[:, known], axis=0) if known.any() else np.empty(0)
    kept = [name for name, there in zip(names, known, strict=True) if there]
    return paired(kept, zero[known].tolist(), control.tolist(), metric=METRIC, how=HOW, seed=config.seed)
