"""Where the norm-law finder runs the model: one pass with some MLP outputs rescaled or written to, and what became of
the sinks in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.finders.norm_law_config import NormLawConfig
from interp.finders.sink_config import Measured, Sink
from interp.finders.sink_measure import RESIDUAL, RULES, cosines, next_token_loss, refuse_broken
from interp.interventions.positions import SetNorm, lengths
from interp.tracing import calls
from interp.tracing.statistics import Received
from interp.tracing.tracer import trace
from probes.base import Prompt

WRITES = "blocks.{}.hook_mlp_out"
Places = Sequence[tuple[int, int, float]]
"""(block, position, norm that the MLP's output is to have there)."""


class Glance:
    """A site edit that changes nothing: it keeps, by layer, what `reduce` makes of the one sequence's value [position,
    ...], so that no residual stream outlives its block. Listed last, it sees what the edits made."""

    def __init__(self, site: str, layers: Iterable[int], reduce: Callable[[Tensor], Any]):
        self.sites = tuple(site.format(layer) for layer in sorted(set(layers)))
        self.reduce, self.kept = reduce, {}

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """The value as it is."""
        self.kept[layer] = self.reduce(value[0].detach())
        return value


@dataclass(frozen=True)
class Seen:
    """One pass over a prompt.

    Attributes:
        measured: what the rules take, cosines with the anchor's state in this pass.
        loss: next-token loss, nats; None for a single token, or when it was not asked for.
        written: block -> float64 [position], l2 norm of what its MLP adds.
        anchor_states: float32 [layer, d_model].
    """

    measured: Measured
    loss: float | None
    written: dict[int, np.ndarray]
    anchor_states: Tensor


def look(
    model: Any, prompt: Prompt, anchor: int, blocks: Sequence[int], edits: Sequence[Any] = (), *, loss: bool = True
) -> Seen:
    """One traced pass under edits. The anchor stays the one given, whatever the edits make of it. Without `loss` the
    logits are not computed.

    Raises:
        NumbersError: the edits drove the model to NaN or infinity.
    """

    def reduced(value: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, Tensor, torch.dtype]:
        state = value.float()
        plain, centred = cosines(state, anchor)
        norm = state.norm(dim=-1)
        # a copy: a view of the anchor's state would keep the whole stream
        own = state[anchor].clone().cpu()
        return norm.cpu().numpy(), plain.cpu().numpy(), centred.cpu().numpy(), own, value.dtype

    states = Glance(RESIDUAL, range(model.n_layers), reduced)
    writes = Glance(WRITES, blocks, lambda value: lengths(value[None])[0].cpu().numpy())
    loss = loss and len(prompt) > 1
    with trace(model, stats=[Received()], edit=[*edits, writes, states]) as traced:
        out = traced.run(list(prompt.ids), **({} if loss else calls.skip_logits(model)))
        received = traced.stats["received"][:, 0].numpy().astype(np.float32)
    *arrays, own, dtypes = zip(*(states.kept[layer] for layer in range(model.n_layers)), strict=True)
    norm, plain, centred = (np.stack(parts) for parts in arrays)
    nats = next_token_loss(out.logits, prompt.ids) if loss else None
    refuse_broken(prompt, norm, received, nats, dtypes[0])
    return Seen(Measured(received, norm, plain, centred, anchor, anchor), nats, writes.kept, torch.stack(own))


def alike(one: Seen, other: Seen) -> float:
    """Largest difference between two passes in attention received, state norms and loss; 0.0 = bit for bit the same."""
    gaps = [
        np.abs(getattr(one.measured, name).astype(np.float64) - getattr(other.measured, name)).max()
        for name in ("received", "norm", "cosine")
    ]
    return float(max(*gaps, abs((one.loss or 0.0) - (other.loss or 0.0))))


def forming(model: Any, prompt: Prompt, sinks: Sequence[Sink], anchor: int, reach: int) -> list[tuple[int, float]]:
    """(block, l2 norm) of the MLP output that forms each span: the one with the largest part along the anchor's state
    after the start block, among the start block and `reach` blocks before it."""
    places = sorted({sink.position for sink in sinks})
    blocks = {block for sink in sinks for block in candidates(sink.start, reach)}
    writes = Glance(WRITES, blocks, lambda value: value[places].float().cpu())
    states = Glance(RESIDUAL, {sink.start for sink in sinks}, lambda value: value[anchor].float().cpu().clone())
    with trace(model, edit=[writes, states]) as traced:
        traced.run(list(prompt.ids), **calls.skip_logits(model))
    toward = {start: torch.nn.functional.normalize(state, dim=0) for start, state in states.kept.items()}
    made = []
    for sink in sinks:
        added = {block: writes.kept[block][places.index(sink.position)] for block in candidates(sink.start, reach)}
        along = {block: float(one @ toward[sink.start]) for block, one in added.items()}
        best = max(along, key=lambda block: (along[block], block))
        made.append((best, float(added[best].double().norm())))
    return made


def rescaled(span: Mapping[str, Any], joint: int, n_layers: int) -> range:
    """Blocks whose MLP output at the span's position is rescaled: the forming one and `joint` after it."""
    return range(span["forming_layer"], min(span["forming_layer"] + joint + 1, n_layers))


def candidates(start: int, reach: int) -> range:
    """Blocks that may have formed a span."""
    return range(max(0, start - reach), start + 1)


def rescale(places: Places) -> list[SetNorm]:
    """The edits that give MLP outputs their norms, one a block."""
    blocks: dict[int, list[tuple[int, float]]] = {}
    for block, position, norm in places:
        blocks.setdefault(block, []).append((position, norm))
    return [
        SetNorm([WRITES.format(block)], *(list(part) for part in zip(*here, strict=True)))
        for block, here in sorted(blocks.items())
    ]


def response(seen: Seen, span: Mapping[str, Any], found: Sequence[Sink], config: NormLawConfig) -> dict[str, float]:
    """What is left of one span in a pass: ``score`` over the blocks that read it by nature, ``peak``, ``lifetime``,
    ``state`` (norm after the start block)."""
    start, position = span["start_layer"], span["position"]
    mass = seen.measured.received[:, :, position].mean(axis=1, dtype=np.float64)
    return {
        "score": score(seen, position, span["reading"]),
        "peak": float(mass[start + 1 :].max()) if start + 1 < len(mass) else 0.0,
        "lifetime": float(lifetime(found, position, start, config.near)),
        "state": float(seen.measured.norm[start, position]),
    }


def score(seen: Seen, position: int, layers: Sequence[int]) -> float:
    """Attention received at a position, mean over heads and layers; 0 over no layers."""
    if not layers:
        return 0.0
    return float(seen.measured.received[list(layers), :, position].mean(dtype=np.float64))


def lifetime(found: Sequence[Sink], position: int, start: int, near: int) -> int:
    """Lifetime of the longest span at a position that starts within `near` blocks of `start`; 0 without one."""
    return max(
        (sink.lifetime for sink in found if sink.position == position and abs(sink.start - start) <= near), default=0
    )


def spans_of(seen: Seen, config: NormLawConfig) -> list[Sink]:
    """The rule's sinks in a pass."""
    return RULES[config.rule].find(seen.measured, config)
