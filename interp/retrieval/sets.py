"""Which heads are masked: the best K, and random sets of K that stand against them. Pure NumPy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from interp.ablation.choose import random_heads
from interp.ablation.config import Head
from interp.retrieval.config import RetrievalConfig

Sets = Mapping[str, Mapping[str, Any]]
"""What `mask_sets` gives, as a stored summary keeps it."""


@dataclass(frozen=True)
class Arm:
    """One mask of a prompt.

    Attributes:
        k: heads masked.
        kind: ``untouched``, the best K ``retrieval`` heads, or a ``random`` set of as many others.
        draw: number of the random set.
        heads: (layer, head) pairs.
    """

    k: int
    kind: Literal["untouched", "retrieval", "random"]
    draw: int
    heads: tuple[Head, ...]

    @property
    def told(self) -> dict[str, Any]:
        """What a unit says of it."""
        return {"k": self.k, "kind": self.kind, "draw": self.draw}


def mask_sets(
    ranked: Sequence[Head], retrieval: Collection[Head], shape: tuple[int, int], config: RetrievalConfig
) -> dict[str, dict[str, Any]]:
    """The best K of the ranked heads, and `draws` random sets of K, for every K the model has heads for.

    A random set has as many heads of each layer as the best K have, none of them among these or among the retrieval
    heads; where a layer has too few others, the nearest layers give the rest. A K for which there are not K ranked
    heads, or not K other heads, is left out.

    Args:
        ranked: (layer, head), best first.
        retrieval: all retrieval heads.
        shape: (layers, heads a layer).
        config: `ks`, `draws` and `seed` are used.

    Returns:
        JSON-able: {"K": {"retrieval": [[layer, head], ...], "random": [[[layer, head], ...], ...]}}, by ascending K; of
        K = 0 both are empty.
    """
    out: dict[str, dict[str, Any]] = {}
    for k in config.ks:
        best = [(int(layer), int(head)) for layer, head in ranked[:k]]
        drawn = [
            random_heads(best, shape, (config.seed, k, draw), retrieval) for draw in range(config.draws if k else 0)
        ]
        if len(best) == k and None not in drawn:
            out[str(k)] = {
                "retrieval": [list(head) for head in best],
                "random": [[list(head) for head in one] for one in drawn if one is not None],
            }
    return out


def arms_of(sets: Sets, draws: int | None = None) -> list[Arm]:
    """The untouched arm, then each K's best heads and its random sets (the first `draws` of them; None = all)."""
    arms = [Arm(0, "untouched", 0, ())]
    for name, one in sets.items():
        if int(name):
            arms.append(Arm(int(name), "retrieval", 0, pairs(one["retrieval"])))
            arms += [Arm(int(name), "random", i, pairs(heads)) for i, heads in enumerate(one["random"][:draws])]
    return arms


def pairs(heads: Sequence[Sequence[int]]) -> tuple[Head, ...]:
    """Stored heads as (layer, head) pairs."""
    return tuple((int(layer), int(head)) for layer, head in heads)


def judged(sets: Sets, retrieval: int) -> int | None:
    """The K by which masking is judged: the largest that is not above the number of retrieval heads, since beyond it
    heads are masked that are none; the smallest there is where all are above it; None without retrieval heads."""
    counts = [int(name) for name in sets if int(name)]
    if not retrieval or not counts:
        return None
    return max((k for k in counts if k <= retrieval), default=min(counts))


def elsewhere(sets: Sets, k: int) -> int:
    """How many of the K random heads stand in other layers than the best K do (the most of all draws)."""
    one = sets[str(k)]
    wanted = Counter(layer for layer, _ in one["retrieval"])
    return max(((Counter(layer for layer, _ in heads) - wanted).total() for heads in one["random"]), default=0)
