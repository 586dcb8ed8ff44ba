"""The two places where the sinks finder runs the model: one traced pass a prompt, and one a cut.

Whole residual streams are reduced on the spot to lengths and cosines, [layer, position].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.errors import NumbersError
from interp.finders import sink_rules, sink_wong2025
from interp.finders.base import Unit
from interp.finders.sink_config import Measured, SinksConfig
from interp.interventions.attention import CutKeys, same_path
from interp.tracing import calls
from interp.tracing.statistics import Received, Rows
from interp.tracing.tracer import trace
from probes.base import Prompt

RULES = {"relative": sink_rules, "wong2025": sink_wong2025}
Cut = tuple[tuple[int, tuple[int, ...]], ...]
"""Positions, each with the layers in which attention to it is cut."""
RESIDUAL = "blocks.{}.hook_resid_post"


def measure(model: Any, prompt: Prompt, config: SinksConfig) -> Unit:
    """Attention received, state lengths and cosines with the anchor's state, and the next-token loss of one prompt.

    Arrays: ``received`` float32 [layer, head, position]; ``resid_norm``, ``anchor_cosine``, ``centred_cosine``
    float32 [layer, position], of block outputs. Facts: ``anchor`` (None when there is none), ``reference`` (what the
    cosines are taken with), ``loss`` (nats; None for a single token), ``attention_path``.
    """
    with trace(model, read=[RESIDUAL.format("*")], stats=[Received()]) as traced:
        out = traced.run(list(prompt.ids))
        states = [traced[RESIDUAL.format(layer)][0] for layer in range(model.n_layers)]
        received = traced.stats["received"][:, 0].numpy()
        path = traced.attention_path
    # layers may be on several devices
    norm = torch.stack([_float(state).norm(dim=-1).cpu() for state in states]).numpy()
    anchor = RULES[config.rule].anchor(received, norm, config, model.chat)
    reference = int(received.mean(axis=(0, 1)).argmax()) if anchor is None else anchor
    pairs = [cosines(_float(state), reference) for state in states]
    arrays = {
        "received": received.astype(np.float32),
        "resid_norm": norm,
        "anchor_cosine": np.stack([plain.cpu().numpy() for plain, _ in pairs]),
        "centred_cosine": np.stack([centred.cpu().numpy() for _, centred in pairs]),
    }
    loss = next_token_loss(out.logits, prompt.ids) if len(prompt) > 1 else None
    refuse_broken(prompt, norm, received, loss, states[0].dtype)
    facts = {"anchor": anchor, "reference": reference, "loss": loss, "attention_path": path}
    return Unit(arrays, facts)


def refuse_broken(prompt: Prompt, norm: np.ndarray, received: np.ndarray, loss: float | None, dtype: Any) -> None:
    """NaN and infinity compare as "no sink", so they must not get as far as a rule.

    Raises:
        NumbersError: names the prompt, the first block whose output is not finite, and the dtype.
    """
    bad = np.flatnonzero(~np.isfinite(norm).all(axis=1) | ~np.isfinite(received).all(axis=(1, 2)))
    if len(bad) or (loss is not None and not np.isfinite(loss)):
        where = f"from block {bad[0]} on" if len(bad) else "in the logits"
        raise NumbersError(
            f"prompt {prompt.name!r}: the model's numbers are not finite {where} in "
            f"{str(dtype).removeprefix('torch.')}; try --dtype float32 (or bfloat16), or check the weights"
        )


def measured(unit: Unit) -> Measured:
    """A stored unit as the rules take it."""
    arrays = unit.arrays
    return Measured(
        arrays["received"],
        arrays["resid_norm"],
        arrays["anchor_cosine"],
        arrays["centred_cosine"],
        unit.facts["anchor"],
        unit.facts["reference"],
    )


def cosines(state: Tensor, reference: int) -> tuple[Tensor, Tensor]:
    """Cosine of every position's state [position, d_model] with the reference's, plain and centred.

    The centre is the mean of the shorter half of the states: sinks are long, so they do not move it.
    """
    lengths = state.norm(dim=-1)
    centre = state[lengths <= lengths.median()].mean(dim=0)
    return _cosine(state, reference), _cosine(state - centre, reference)


def _cosine(state: Tensor, reference: int) -> Tensor:
    unit = torch.nn.functional.normalize(state, dim=-1)
    return unit @ unit[reference]


def cut_loss(model: Any, ids: Sequence[int], cut: Cut) -> float:
    """Next-token loss when, in the layers given with each position, no other query attends to it (rows keep their
    sums)."""
    by_layer: dict[int, set[int]] = {}
    for position, layers in cut:
        for layer in layers:
            by_layer.setdefault(layer, set()).add(position)
    alike: dict[tuple[int, ...], list[int]] = {}
    for layer, positions in by_layer.items():
        alike.setdefault(tuple(sorted(positions)), []).append(layer)
    edits = [CutKeys(list(positions), layers=frozenset(layers)) for positions, layers in alike.items()]
    with trace(
        model, edit=[*same_path(model), *edits]
    ) as traced:  # the untouched run's: statistics look at every layer
        out = traced.run(list(ids))
    loss = next_token_loss(out.logits, ids)
    if not np.isfinite(loss):
        positions = [position for position, _ in cut]
        raise NumbersError(f"with attention to positions {positions} cut, the loss is {loss}; try --dtype float32")
    return loss


def patterns(model: Any, ids: Sequence[int], heads: Sequence[tuple[int, int]]) -> dict[tuple[int, int], np.ndarray]:
    """The pattern [query, key] of each (layer, head)."""
    if not heads:
        return {}
    with trace(model, stats=[Rows(heads=list(heads))]) as traced:
        traced.run(list(ids), **calls.skip_logits(model))
        rows = traced.stats["rows"]
    return {head: rows[head][0].numpy() for head in heads}


def next_token_loss(logits: Tensor, ids: Sequence[int]) -> float:
    """Mean over the prompt's tokens but the first (two tokens at least), in nats."""
    return float(calls.next_token_loss(logits, list(ids)).mean())


def _float(value: Tensor) -> Tensor:
    return value.detach().to(torch.float32)
