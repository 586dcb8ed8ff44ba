"""Edges in a circuit run: attributed on the prompts that choose, their curves on prompts that do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.circuits.config import CircuitConfig
from interp.circuits.edge_curve import edge_curve
from interp.circuits.edge_parts import EdgeParts
from interp.circuits.edge_scores import EdgeScores, edge_attributions, merged, random_scores
from interp.circuits.edges import EdgeGraph
from interp.circuits.measured import pieces
from interp.circuits.pairs import batch_of, pair_of
from interp.circuits.states import sides_of
from interp.finders.base import Kept, Unit
from probes.base import Prompt

SHOWN = 40
"""Edges that are listed."""


def edges_of(
    model: Any, choosing: Sequence[Prompt], judging: Sequence[Prompt], config: CircuitConfig, kept: Kept
) -> dict[str, Any]:
    """EAP and EAP-IG of every edge, on `choosing`, and what the best edges of each carry on `judging`.

    Returns:
        JSON-able: ``nodes``, ``edges`` (their numbers), ``points``, ``top`` (name -> [edge, share of the gap]; the
        largest), ``curves`` (name -> `edge_curve`, a random ranking among them).

    Raises:
        SiteError, UsageError: a family whose edges cannot be told apart.
    """
    parts = EdgeParts(model)
    ways = {"EAP": 1, f"EAP-IG, {config.points} points": config.points} if config.points > 1 else {"EAP": 1}
    groups = [[choosing[index] for index in group] for group in pieces(model, choosing)]
    kept.phase("attributing edges", len(ways) * len(groups))
    scores = {
        name: merged([_scores(model, parts, group, name, points, kept) for group in groups])
        for name, points in ways.items()
    }
    scores["random"] = random_scores(parts.graph, config.seed)
    of = [prompt.hash for prompt in judging]
    kept.phase("keeping edges", len(scores))

    def curve(name: str) -> dict[str, Any]:
        def make() -> Unit:
            sides = [
                sides_of(model, batch_of([pair_of(judging[i]) for i in group])) for group in pieces(model, judging)
            ]
            return Unit(facts=edge_curve(model, sides, scores[name], seed=config.seed, parts=parts))

        return kept.unit(
            f"curve of {name}", make, of={"prompts": of, "chosen by": [one.hash for one in choosing]}
        ).facts

    return {
        "nodes": parts.graph.n_nodes,
        "edges": parts.graph.n_edges,
        "points": config.points,
        "top": {name: [list(one) for one in scores[name].top(SHOWN)] for name in ways},
        "curves": {name: curve(name) for name in scores},
    }


def _scores(model: Any, parts: EdgeParts, group: Sequence[Prompt], name: str, points: int, kept: Kept) -> EdgeScores:
    def make() -> Unit:
        sides = sides_of(model, batch_of([pair_of(prompt) for prompt in group]))
        found = edge_attributions(model, sides, points, parts=parts)
        return Unit({"change": found.change}, {"gap": found.gap, "pairs": found.pairs})

    unit = kept.unit(f"{name}: {group[0].name}", make, of={"points": points, "prompts": [one.hash for one in group]})
    graph: EdgeGraph = parts.graph
    return EdgeScores(graph, np.asarray(unit.arrays["change"]), float(unit.facts["gap"]), int(unit.facts["pairs"]))
