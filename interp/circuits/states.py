"""What runs of clean and corrupted prompts leave for patching: states, outputs of heads and MLPs, the metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp.circuits.metric import Metric
from interp.circuits.pairs import Batch
from interp.tracing.budget import BUDGET, Budget
from interp.tracing.calls import skip_logits
from interp.tracing.tracer import trace


@dataclass(frozen=True)
class States:
    """One side of a batch, by layer; every tensor [pair, position, ...].

    Attributes:
        resid: what enters each block; empty when it was not asked for.
        z: `hook_z` [pair, position, head, d_head] of layers with attention.
        mlp: `hook_mlp_out` of layers with an MLP.
        difference: logit difference [pair].
        final: what leaves the last block; empty when `resid` was not asked for.
    """

    resid: dict[int, Tensor]
    z: dict[int, Tensor]
    mlp: dict[int, Tensor]
    difference: Tensor
    final: Tensor


def states_of(model: Any, ids: Tensor, metric: Metric, *, resid: bool) -> States:
    """One traced run of `ids` [pair, position]."""
    names = model.sites.names()
    kinds = {"resid": "hook_resid_pre", "z": "attn.hook_z", "mlp": "hook_mlp_out"}
    wanted = {
        kind: {layer: f"blocks.{layer}.{name}" for layer in range(model.n_layers) if f"blocks.{layer}.{name}" in names}
        for kind, name in kinds.items()
        if resid or kind != "resid"
    }
    end = f"blocks.{model.n_layers - 1}.hook_resid_post"
    sites = [site for by_layer in wanted.values() for site in by_layer.values()] + [end] * resid
    with metric.on(model), trace(model, read=sites) as t:
        out = t.run(ids, **skip_logits(model))
        kept = {kind: {layer: t[site] for layer, site in by_layer.items()} for kind, by_layer in wanted.items()}
        final = t[end] if resid else torch.empty(0)
    difference = metric.of(out, torch.arange(len(ids)))
    return States(kept.get("resid", {}), kept["z"], kept["mlp"], difference, final)


@dataclass(frozen=True)
class Sides:
    """Both sides of a batch, and its metric."""

    batch: Batch
    metric: Metric
    clean: States
    corrupt: States

    @property
    def gap(self) -> Tensor:
        """[pair]: what corrupting the whole prompt does to the logit difference."""
        return self.corrupt.difference - self.clean.difference


BATCH = Budget().states
"""Bytes that both sides of one batch may take, unless the memory plan of the run says otherwise."""


def bytes_of_a_token(model: Any) -> int:
    """What `Sides` keep of one token: residual, MLPs and z of the clean side, MLPs and z of the other."""
    return max(1, 4 * model.n_layers * (3 * model.d_model + 2 * model.n_heads * model.d_head))


def side_by_side(model: Any, length: int, most: int) -> int:
    """Pairs of `length` tokens, at most `most`, whose sides fit into `BATCH`, or into what the memory plan grants; one
    in any case."""
    return max(1, min(most, BUDGET.get().states // (bytes_of_a_token(model) * length)))


def sides_of(model: Any, batch: Batch) -> Sides:
    """Run both sides."""
    from interp.circuits.metric import metric_of

    metric = metric_of(batch)
    return Sides(
        batch,
        metric,
        states_of(model, batch.clean, metric, resid=True),
        states_of(model, batch.corrupt, metric, resid=False),
    )
