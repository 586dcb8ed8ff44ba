"""How much of the answer the best edges of a ranking carry (MIB; `interp.circuits.curves` has the definitions)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from interp.circuits.curves import SHARES, area, normalised, taken
from interp.circuits.edge_parts import EdgeParts
from interp.circuits.edge_runs import MEMORY, kept_edge_sets
from interp.circuits.edge_scores import EdgeScores
from interp.circuits.states import Sides
from interp.errors import UsageError

SIGNS = {False: "signed", True: "absolute"}
"""How a ranking takes the scores, by whether their sign is dropped."""


def edge_curve(
    model: Any,
    sides_list: Sequence[Sides],
    scores: EdgeScores,
    shares: Sequence[float] = SHARES,
    *,
    seed: int = 0,
    memory: int = MEMORY,
    parts: EdgeParts | None = None,
) -> dict[str, Any]:
    """The curve of one ranking of edges, by signed scores and by their size.

    Args:
        sides_list: the pairs to judge on, any number of batches.
        scores: from `edge_attributions` (of these or other pairs), or `random_scores`.
        seed: orders edges of equal score.

    Returns:
        JSON-able: ``shares``, ``kept`` (edges by share), ``whole`` and ``empty`` (mean logit difference of the clean
        and of the corrupted prompts), ``pairs``, ``signed`` and ``absolute`` ({f by share, cpr, cmd}), ``cpr`` (of
        signed) and ``cmd`` (of absolute), as MIB scores the two.

    Raises:
        UsageError: no pairs, scores of another model's graph, or prompts that corruption leaves as they are.
    """
    parts = parts or EdgeParts(model)
    if not sides_list or scores.graph != parts.graph:
        raise UsageError(
            f"{len(sides_list)} batches and scores of {scores.graph.n_edges} edges; expected at least one batch, and "
            f"scores of this model's {parts.graph.n_edges} edges"
        )
    whole, empty = (
        float(torch.cat([getattr(sides, side).difference for sides in sides_list]).double().mean())
        for side in ("clean", "corrupt")
    )
    n_edges = parts.graph.n_edges
    kept = [taken(share, n_edges) for share in shares]
    run = {count for count in kept if 0 < count < n_edges}  # with none and with all the result is known
    wanted = {
        (absolute, count): scores.best(count, absolute=absolute, seed=seed) for absolute in SIGNS for count in run
    }
    values = dict.fromkeys(((absolute, 0) for absolute in SIGNS), empty)
    values.update(dict.fromkeys(((absolute, n_edges) for absolute in SIGNS), whole))
    runs = [kept_edge_sets(parts, sides, list(wanted.values()), memory=memory) for sides in sides_list if wanted]
    if runs:
        values.update(zip(wanted, torch.cat(runs, 1).double().mean(1).tolist(), strict=True))
    found: dict[str, Any] = {}
    for absolute, label in SIGNS.items():
        f = normalised(np.array([values[absolute, count] for count in kept]), empty, whole)
        cpr, cmd = area(shares, f)
        found[label] = {"f": f.tolist(), "cpr": cpr, "cmd": cmd}
    return {
        "shares": list(shares),
        "kept": kept,
        "whole": whole,
        "empty": empty,
        "pairs": sum(len(sides.batch) for sides in sides_list),
        **found,
        "cpr": found["signed"]["cpr"],
        "cmd": found["absolute"]["cmd"],
    }
