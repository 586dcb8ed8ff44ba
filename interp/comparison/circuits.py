"""Circuits side by side: which heads they share, against chance (Merullo et al. 2023, arXiv 2310.08744)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from interp.circuits.pictures import grid, head_of
from interp.comparison.facts import Compared, model_of
from interp.comparison.overlap import Head, Overlap, overlap

FINDER = "circuit"


@dataclass(frozen=True)
class Pair:
    """Two runs; `found` is None, and `why` says why, where their circuits cannot be compared."""

    first: Compared
    second: Compared
    found: Overlap | None
    why: str = ""


def is_circuits(runs: Sequence[Compared]) -> bool:
    """Whether these are runs of the circuit finder."""
    return runs[0].result.findings.finder == FINDER


def pairs(runs: Sequence[Compared]) -> list[Pair]:
    """Every two of the runs."""
    return [_pair(first, second) for first, second in combinations(runs, 2)]


def _pair(first: Compared, second: Compared) -> Pair:
    shapes: list[list[int]] = [list(summary_of(run).get("shape") or []) for run in (first, second)]
    if not all(shapes):
        lacking = first.name if not shapes[0] else second.name
        return Pair(first, second, None, f"{lacking} does not say how many layers and heads its model has")
    if shapes[0] != shapes[1]:
        told = " and ".join(f"{layers} layers x {heads} heads" for layers, heads in shapes)
        return Pair(first, second, None, f"the models differ in shape: {told}")
    models = [model_of(run.result) for run in (first, second)]
    names = [model.get("name") for model in models]
    if None not in names and names[0] != names[1]:
        return Pair(first, second, None, f"the models differ: {names[0]} and {names[1]}")
    try:
        found = overlap(circuit_of(first), circuit_of(second), _heads_by_layer(first))
    except ValueError as error:
        return Pair(first, second, None, str(error))
    return Pair(first, second, found)


def verdict(made: Sequence[Pair]) -> str:
    """What the circuits share, a sentence a pair."""
    return " ".join(_sentence(pair) for pair in made)


def _sentence(pair: Pair) -> str:
    one, two, found = pair.first.name, pair.second.name, pair.found
    if found is None:
        return f"The circuits of {one} and {two} are not compared: {pair.why}."
    sizes = [len(found.both) + len(rest) for rest in (found.only_first, found.only_second)]
    if not all(sizes):
        empty = " and ".join(name for name, size in zip((one, two), sizes, strict=True) if not size)
        return f"The circuits of {one} and {two} share nothing: no head was found for {empty}."
    luck = found.chance
    union = sum(sizes) - len(found.both)
    p = f"p = {luck.p:.2g}" if luck.p >= 1e-4 else "p < 0.0001"
    return (
        f"The circuits of {one} ({sizes[0]} heads) and {two} ({sizes[1]}) share {len(found.both)} heads: "
        f"{found.jaccard:.0%} of the {union} in either, {found.of_larger:.0%} of the larger; random circuits of the "
        f"same layers share {luck.mean:.1f} (95 %: {luck.low} to {luck.high}; {p})."
    )


def caveats(made: Sequence[Pair]) -> list[str]:
    """What to bear in mind about overlaps."""
    said = [f"{pair.first.name} and {pair.second.name}: not compared, {pair.why}." for pair in made if not pair.found]
    if any(pair.found for pair in made):
        said.append(
            "A circuit has as many heads as the search was told to take, and the stages decide which layers they are "
            "in: an overlap above chance says that the tasks pick the same heads of those layers."
        )
        said.append(
            "Merullo et al. 2023 give 25 of 32 in-circuit heads (78 %) for GPT-2 medium and do not list the 32; 'of "
            "the larger' reads them as the heads of one circuit, shared / union as those of either."
        )
    return said


def totals(run: Compared) -> np.ndarray:
    """Total effects [layer, head] of a run; NaN where there is none."""
    return grid(run.result.findings.table, "total", summary_of(run)["shape"])


def circuit_of(run: Compared) -> list[Head]:
    """The heads of a run's circuit."""
    return [head_of(head) for head in summary_of(run).get("circuit") or []]


def _heads_by_layer(run: Compared) -> list[int]:
    """Heads in each layer: the table has a row for every head that the model has; else the shape says it."""
    layers, heads = summary_of(run)["shape"]
    table = run.result.findings.table
    counts = [0] * int(layers)
    if {"layer", "head"} <= set(table.columns):
        for layer, head in zip(table["layer"], table["head"], strict=True):
            counts[int(layer)] = max(counts[int(layer)], int(head) + 1)
    return [count or int(heads) for count in counts]


def summary_of(run: Compared) -> dict[str, Any]:
    """The summary of a run's findings."""
    return run.result.findings.summary
