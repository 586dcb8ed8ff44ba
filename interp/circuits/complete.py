"""Completeness of a circuit (Wang et al. 2022, arXiv 2211.00593, section 4): without any part K of it, circuit and
model should still do the same, |F(C \\ K) - F(M \\ K)|. A model that has heads outside the circuit which do the work of
K keeps more than the circuit does.

1. K = each class of heads.
2. K = random parts, each head of the circuit with probability 1/2.
3. K = greedy parts: `STEPS` times the head, out of `POOL` drawn, with which the distance becomes largest. The heads are
   chosen on at most `CHOOSE` of the prompts; the distances told are over all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.circuits.config import CircuitConfig, Head
from interp.circuits.estimates import mean_of

if TYPE_CHECKING:
    from interp.circuits.faithful import Measure

STEPS = 3
POOL = 8
CHOOSE = 8


def completeness(
    measure: Measure, circuit: frozenset[Head], classes: Mapping[str, frozenset[Head]], config: CircuitConfig
) -> dict[str, Any]:
    """Distances for every K.

    Returns:
        ``sets``: [{``kind`` (class, random, greedy), ``name``, ``heads``, ``circuit``: F(C \\ K), ``model``: F(M \\ K),
        ``difference``: F(C \\ K) - F(M \\ K) as {mean, low, high, n}, ``distance``: its size}, greedy ones last and
        growing]; ``distance``: kind -> {``mean``, ``max``} over its sets.
    """
    measure.kept.phase("completeness", min(STEPS, len(circuit)) + 1)
    rows = [("class", name, heads) for name, heads in classes.items()]
    rows += [("random", f"random {i + 1}", part) for i, part in enumerate(parts(circuit, config.subsets, config.seed))]
    taken: list[Head] = []
    for step in range(min(STEPS, len(circuit))):
        taken.append(next_greedy(measure, circuit, taken, [config.seed, step]))
        rows.append(("greedy", f"greedy {step + 1}", frozenset(taken)))
    outside = frozenset(measure.knockout.heads) - circuit
    found = measure("completeness", [one for *_, heads in rows for one in (outside | heads, heads)])
    sets = []
    for (kind, name, heads), (own, model) in zip(rows, found.reshape(len(rows), 2, -1), strict=True):
        sets.append(
            {
                "kind": kind,
                "name": name,
                "heads": [list(head) for head in sorted(heads)],
                "circuit": float(own.mean()),
                "model": float(model.mean()),
                "difference": mean_of(own - model, config.seed),
                "distance": abs(float((own - model).mean())),
            }
        )
    by_kind = {kind: [one["distance"] for one in sets if one["kind"] == kind] for kind in ("class", "random", "greedy")}
    distance = {
        kind: {"mean": float(np.mean(values)), "max": float(max(values))} for kind, values in by_kind.items() if values
    }
    return {"sets": sets, "distance": distance}


def parts(circuit: frozenset[Head], n: int, seed: int) -> list[frozenset[Head]]:
    """`n` random parts of a circuit, each head in it with probability 1/2; none is empty."""
    rng, heads = np.random.default_rng(seed), sorted(circuit)
    found = []
    for _ in range(n):
        keep = rng.random(len(heads)) < 0.5
        if not keep.any():
            keep[rng.integers(len(heads))] = True
        found.append(frozenset(head for head, one in zip(heads, keep, strict=True) if one))
    return found


def next_greedy(measure: Measure, circuit: frozenset[Head], taken: list[Head], seed: list[int]) -> Head:
    """The head to take away next."""
    left = sorted(circuit - set(taken))
    rng = np.random.default_rng(seed)
    pool = [left[i] for i in sorted(rng.permutation(len(left))[:POOL].tolist())]
    n, outside = len(measure.knockout.prompts), frozenset(measure.knockout.heads) - circuit
    part = sorted(set(np.linspace(0, n - 1, min(n, CHOOSE)).round().astype(int).tolist()))
    sets = [one for head in pool for one in (outside | {*taken, head}, {*taken, head})]
    found = measure(f"greedy {len(taken) + 1}", sets, part).mean(1).reshape(-1, 2)
    return pool[int(np.abs(found[:, 0] - found[:, 1]).argmax())]
