"""Edge attribution patching: what every edge does to the answer, from one gradient (Syed et al. 2023, arXiv
2310.10348), or from gradients on the way between the two prompts (EAP-IG; Hanna et al. 2024, arXiv 2403.17806).

score(u -> v) = (out_u corrupted - out_u clean) . d(logit difference)/d(input of v), summed over positions.

1. out_u is what the writer adds to the residual stream in its own run, post-norm counted (see
   `interp.circuits.edge_parts`).
2. The gradient at a head's query is taken behind the projection, where heads are apart, and led back through its slice
   of the projection and the block's norm to the residual stream, as that head alone reads it. Keys, values and MLPs
   likewise.
3. With more than one point the gradient is averaged over inputs on the straight line between the embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.circuits.attribution import Nudge
from interp.circuits.curves import ordered
from interp.circuits.edge_parts import EdgeParts
from interp.circuits.edge_runs import MEMORY, Group, Stream, corrupted, groups, residual_sites, residuals
from interp.circuits.edges import SIDES, EdgeGraph
from interp.circuits.edits import SetStates
from interp.circuits.states import Sides
from interp.errors import UsageError
from interp.tracing.calls import skip_logits
from interp.tracing.tracer import trace


@dataclass(frozen=True)
class EdgeScores:
    """Estimated change of the logit difference when one edge carries the corrupted run.

    Attributes:
        graph: the edges.
        change: float64 [writer, receiver], in logits, mean over pairs; NaN where there is no edge.
        gap: mean change [logits] when the whole prompt is corrupted.
        pairs: how many.
    """

    graph: EdgeGraph
    change: np.ndarray
    gap: float
    pairs: int

    def ratio(self) -> np.ndarray:
        """[writer, receiver]: `change` as a share of `gap`; positive = the edge supports the answer."""
        if self.gap == 0:
            raise UsageError("corrupting the prompts leaves the mean logit difference as it is: no share can be taken")
        return self.change / self.gap

    def best(self, n: int, *, absolute: bool = False, seed: int = 0) -> np.ndarray:
        """bool [writer, receiver]: the `n` edges that support the answer most (`absolute`: of the largest score
        either way); equal scores in an order drawn with `seed`."""
        if not 0 <= n <= self.graph.n_edges:
            raise UsageError(f"{n} edges; the graph has {self.graph.n_edges}")
        kept = np.zeros(self.change.size, dtype=bool)
        kept[ordered(self.ratio().ravel(), absolute=absolute, seed=seed)[:n]] = True
        return kept.reshape(self.change.shape)

    def top(self, n: int = 20) -> list[tuple[str, float]]:
        """The `n` edges of the largest share either way: (name, share of the gap)."""
        shares = self.ratio()
        first = ordered(shares.ravel(), absolute=True)[: min(n, self.graph.n_edges)]
        where = [divmod(one, shares.shape[1]) for one in first]
        return [(self.graph.name(*one), float(shares[one])) for one in where]


def edge_attributions(
    model: Any, sides: Sides, points: int = 1, *, memory: int = MEMORY, parts: EdgeParts | None = None
) -> EdgeScores:
    """EAP (one point) or EAP-IG on inputs of every edge.

    Args:
        points: 1 = the gradient of the clean run; m = its mean over inputs at shares 0, 1/m, ... (m - 1)/m of the way
            from the clean to the corrupted embeddings.
        memory: bytes for the writers' outputs; pairs run in groups that keep within it.
        parts: of an earlier call, for this model.

    Raises:
        UsageError: no point.
        SiteError: a family in which heads cannot be given inputs of their own.
    """
    if points < 1:
        raise UsageError(f"points={points}: at least 1 is needed")
    parts = parts or EdgeParts(model)
    graph = parts.graph
    total = torch.zeros(len(graph.writers), len(graph.receivers), dtype=torch.float64)
    for group in groups(parts, sides, memory):
        way = corrupted(parts, group)[0]  # 1
        clean = Stream(parts)
        with trace(model, edit=[clean]) as t:
            t.run(group.clean, cache=group.cache(), **skip_logits(model))
        start = clean.added()[0]
        way -= clean.added()
        for point in range(points):  # 3
            states = start + way[0] * (point / points)
            for where, gradient in input_gradients(parts, sides, group, states):  # 2
                reach = graph.reach[where.start]
                part = way[:reach].flatten(1) @ gradient.flatten(1).T
                total[:reach, where] += part.double().cpu() / points
    change = np.where(graph.edges, total.numpy() / len(sides.batch), np.nan)
    return EdgeScores(graph, change, float(sides.gap.double().mean()), len(sides.batch))


def input_gradients(parts: EdgeParts, sides: Sides, group: Group, states: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Receivers of one layer and kind, and the gradient of the logit difference at what each reads, [receiver, pair,
    position, d_model], in the run that starts from embeddings `states`."""
    nudge, reads = Nudge(tuple(parts.read_sites())), residual_sites(parts)
    edit = [SetStates(0, states), nudge]
    with sides.metric.on(parts.model), torch.enable_grad(), trace(parts.model, read=reads, edit=edit, grad=True) as t:
        out = t.run(group.clean, cache=group.cache(), **skip_logits(parts.model))
        difference = sides.metric.of(out, group.pairs).sum()
        at = residuals(parts, {site: t[site].detach() for site in reads})
    gradients = {site: value.float() for site, value in nudge.gradients(difference).items()}
    yield parts.graph.of("logits"), gradients[parts.last][None]
    for layer in range(parts.n_layers):
        for side in SIDES if layer in parts.attention else ():
            behind = gradients[f"blocks.{layer}.attn.hook_{side}"]
            rows = torch.einsum("pshk,dhk->hpsd", behind, parts.weight(layer, side)[0])
            yield parts.graph.of(side, layer), _before(parts, "attn", layer, at["attn", layer], rows)
        if layer in parts.mlps:
            rows = gradients[f"blocks.{layer}.mlp.hook_in"][None]
            yield parts.graph.of("mlp", layer), _before(parts, "mlp", layer, at["mlp", layer], rows)


def _before(parts: EdgeParts, kind: str, layer: int, states: Tensor, rows: Tensor) -> Tensor:
    """Gradients `rows` [receiver, pair, position, d_model] behind a norm, led back to the states it reads."""
    with torch.enable_grad():
        read = states.expand_as(rows).clone().requires_grad_()
        return torch.autograd.grad(parts.normed(kind, layer, read), read, rows)[0]


def merged(scores: Sequence[EdgeScores]) -> EdgeScores:
    """Scores of several batches as one, every pair counted once.

    Raises:
        UsageError: none, or of different models.
    """
    if not scores or any(one.graph != scores[0].graph for one in scores):
        raise UsageError(f"{len(scores)} sets of edge scores; at least one is needed, all of one graph")
    pairs = sum(one.pairs for one in scores)
    change = sum(one.change * (one.pairs / pairs) for one in scores)
    return EdgeScores(scores[0].graph, np.asarray(change), sum(one.gap * one.pairs for one in scores) / pairs, pairs)


def random_scores(graph: EdgeGraph, seed: int = 0) -> EdgeScores:
    """Scores drawn from a normal distribution: the ranking to compare with."""
    drawn = np.random.default_rng(seed).standard_normal(graph.edges.shape)
    return EdgeScores(graph, np.where(graph.edges, drawn, np.nan), 1.0, 0)
