"""The edits `interp ablate` knows by name, and how much each would change every head of a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.ablation.config import EVERYWHERE, KNOCKOUT, ON_PAIRS, AblationConfig, Head, edges_of
from interp.ablation.places import ANYWHERE, Places
from interp.interventions.ablate import MeanHeads, ZeroHeads
from interp.interventions.attention import CutKeys
from interp.interventions.calibrate import ACT, RemoveSinks, UniformSinks
from interp.interventions.knock_edges import KnockEdges
from interp.interventions.resample import AtPositions, ResampleHeads
from interp.interventions.streaming import StreamingWindow
from interp.tracing.blocks import RowBlock
from interp.tracing.calls import skip_logits
from interp.tracing.tracer import trace

Outputs = Mapping[Head, Tensor]
"""What heads are made to put out: means, or another run's z."""


@dataclass(frozen=True)
class Way:
    """One value of `how`.

    Attributes:
        told: what is done to the heads, for a sentence ("... on 3 heads").
        make: (heads, config, outputs, places) -> edits of a trace; for `edits`, which holds them to a position.
        on_rows: it changes attention rows; else heads' outputs.
    """

    told: Callable[[AblationConfig], str]
    make: Callable[[Sequence[Head], AblationConfig, Outputs, Places], list[Any]]
    on_rows: bool = True


def cut_keys(heads: Sequence[Head], config: AblationConfig) -> list[Any]:
    """One `CutKeys` a layer."""
    layers = sorted({layer for layer, _ in heads})
    return [
        CutKeys(list(config.keys), frozenset({at}), [head for layer, head in heads if layer == at]) for at in layers
    ]


WAYS: dict[str, Way] = {
    "act": Way(
        lambda c: f"ACT (beta {c.beta:g})",
        lambda heads, c, *_: [ACT(heads, c.threshold, c.keep_anchor, beta=c.beta)],
    ),
    "remove-sinks": Way(
        lambda c: "removing the attention to sinks",
        lambda heads, c, *_: [RemoveSinks(heads, c.threshold, c.keep_anchor)],
    ),
    "uniform": Way(
        lambda c: f"spreading sinks' attention evenly (beta {c.beta:g})",
        lambda heads, c, *_: [UniformSinks(heads, c.threshold, c.keep_anchor, beta=c.beta)],
    ),
    "streaming": Way(
        lambda c: f"a window of the first {c.first} and the last {c.recent} keys",
        lambda heads, c, *_: [StreamingWindow(c.first, c.recent, heads)],
    ),
    "cut": Way(
        lambda c: f"cutting attention to position{'s' if len(c.keys) > 1 else ''} {', '.join(map(str, c.keys))}",
        lambda heads, c, *_: cut_keys(heads, c),
    ),
    "zero": Way(
        lambda c: f"zeroing the output{where(c)}",
        lambda heads, *_: [ZeroHeads(heads)],
        on_rows=False,
    ),
    "mean": Way(
        lambda c: f"setting the output{where(c)} to its mean",
        lambda heads, _, means, __: [MeanHeads({head: means[head] for head in heads})],
        on_rows=False,
    ),
    "resample": Way(
        lambda c: f"taking the output{where(c)} from the corrupted prompt",
        lambda heads, _, outputs, __: [ResampleHeads({head: outputs[head] for head in heads})],
        on_rows=False,
    ),
    KNOCKOUT: Way(
        lambda c: "cutting attention from {} to {}".format(*(" and ".join(side) for side in edges_of(c.how))),
        lambda heads, c, _, places: [KnockEdges(heads, places.queries, places.keys, c.renormalise)],
    ),
}


def where(config: AblationConfig) -> str:
    """`` at end``, or nothing where the edit acts at all positions."""
    return "" if config.position == EVERYWHERE else f" at {config.position}"


def edits(heads: Sequence[Head], config: AblationConfig, outputs: Outputs, places: Places = ANYWHERE) -> list[Any]:
    """What a trace is to do to `heads`."""
    made = WAYS[config.way].make(heads, config, outputs, places)
    return made if places.at is None else [AtPositions(edit, places.at) for edit in made]


class Spy:
    """A row edit that lets another work on every row, notes how much mass it moves, and changes nothing."""

    def __init__(self, edit: Any):
        self.edit = edit
        self.layers: frozenset[int] | None = edit.layers
        self.full_rows = getattr(edit, "full_rows", True)
        self.whole_layer = getattr(edit, "whole_layer", False)
        self.moved: dict[int, Tensor] = {}  # layer -> [head], summed over rows

    def survey(self, block: RowBlock) -> None:
        """Shown to the other edit, if it asked for all rows first."""
        self.edit.survey(block)

    def rows(self, block: RowBlock) -> Tensor:
        """The rows as they were."""
        half = (self.edit.rows(block) - block.rows).abs().sum(-1).sum((0, 2)) / 2
        before = self.moved.get(block.layer)
        self.moved[block.layer] = half if before is None else before + half
        return block.rows


def sizes(model: Any, ids: Sequence[int], config: AblationConfig) -> tuple[np.ndarray, dict[Head, Tensor]]:
    """One pass over a text: how much the edit would change each head, float64 [layer, head] (see column `size`; NaN for
    resample and knockout), and, for ``mean``, every head's mean output [d_head] over the positions after the first."""
    n_layers, n_heads = model.n_layers, model.n_heads
    if config.way in ON_PAIRS:
        return np.full((n_layers, n_heads), np.nan), {}
    everything = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    way = WAYS[config.way]
    if way.on_rows:
        spies = [Spy(edit) for edit in way.make(everything, config, {}, ANYWHERE)]
        with trace(model, edit=spies) as t:
            t.run(list(ids), **skip_logits(model))
        moved = {layer: rows for spy in spies for layer, rows in spy.moved.items()}
        return np.stack([moved[layer].cpu().double().numpy() / len(ids) for layer in range(n_layers)]), {}
    sites = [f"blocks.{layer}.attn.hook_z" for layer in range(n_layers)]
    with trace(model, read=sites) as t:
        t.run(list(ids), **skip_logits(model))
    size, means = np.zeros((n_layers, n_heads)), {}
    for layer, site in enumerate(sites):
        z = t[site][0].float()  # [position, head, d_head]
        mean = z[1:].mean(0)
        target = mean if config.how == "mean" else torch.zeros_like(mean)
        size[layer] = (z - target).norm(dim=-1).mean(0).cpu().double().numpy()
        means.update({(layer, head): mean[head].cpu() for head in range(n_heads)})
    return size, means if config.how == "mean" else {}
