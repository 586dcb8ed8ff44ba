"""Tables of a comparison of circuits: overlap of each pair, every head of either, counts by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.circuits.config import NONE
from interp.circuits.pictures import classes_of, name_of
from interp.comparison.circuits import Pair, circuit_of, summary_of, totals
from interp.finders.norm_law_correlation import spearman
from interp.findings import Column, Sheet

_OF = "Shared heads as a share of"
OVERLAP = (
    Column("first", "string", "first", "One run."),
    Column("second", "string", "second", "The other run."),
    Column("heads_first", "Int64", "heads, first", "Heads of the first circuit."),
    Column("heads_second", "Int64", "heads, second", "Heads of the second circuit."),
    Column("shared", "Int64", "shared", "Heads in both."),
    Column("union", "Int64", "union", "Heads in either."),
    Column("shared_union", "float64", "shared / union", f"{_OF} the heads in either (Jaccard)."),
    Column("of_larger", "float64", "of the larger", f"{_OF} the larger circuit; Merullo et al. 2023: 25 of 32 = 0.78."),
    Column("of_first", "float64", "of the first", f"{_OF} the first circuit."),
    Column("of_second", "float64", "of the second", f"{_OF} the second circuit."),
    Column("random_shared", "float64", "random, shared", "Heads that random circuits share, mean."),
    Column("random_low", "Int64", "random, low", "Low end of the middle 95 % of random circuits."),
    Column("random_high", "Int64", "random, high", "High end of the middle 95 % of random circuits."),
    Column("p", "float64", "p", "Probability that random circuits share as many or more."),
    Column("rank_correlation", "float64", "rank correlation", "Spearman's rho of the total effects of all heads."),
    Column("why", "string", "why not", "Why these two are not compared."),
)
HEADS = (
    Column("first", "string", "first", "One run."),
    Column("second", "string", "second", "The other run."),
    Column("head", "string", "head", "layer.head."),
    Column("where", "string", "in", "Which of the two circuits it is in."),
    Column("class_first", "string", "class, first", "What it does in the first run."),
    Column("class_second", "string", "class, second", "What it does in the second run."),
    Column("total_first", "float64", "total, first", "Its total effect in the first run, a share of the gap."),
    Column("total_second", "float64", "total, second", "Its total effect in the second run, a share of the gap."),
)
BY_CLASS = (
    Column("first", "string", "first", "One run."),
    Column("second", "string", "second", "The other run."),
    Column("class", "string", "class", "What the heads do."),
    Column("heads_first", "Int64", "heads, first", "Heads of that class in the first circuit."),
    Column("heads_second", "Int64", "heads, second", "Heads of that class in the second circuit."),
    Column("shared", "Int64", "same class in both", "Heads of that class in both."),
    Column("first_in_second", "Int64", "of the first, in second", "Those of the first that the second has at all."),
    Column("second_in_first", "Int64", "of the second, in first", "Those of the second that the first has at all."),
)


def sheets(made: Sequence[Pair]) -> list[Sheet]:
    """Overlap of each pair; every head of either circuit; counts by class."""
    caption = (
        "Random circuits have as many heads in each layer as the two compared; what they share is computed exactly "
        "(a sum of hypergeometric counts), not drawn."
    )
    rows = tuple(_row(pair) for pair in made)
    heads = tuple(row for pair in made for row in _head_rows(pair))
    classes = tuple(row for pair in made for row in _class_rows(pair))
    return [
        Sheet("overlap", "What the circuits share", OVERLAP, rows, caption),
        *([Sheet("shared_heads", "Heads in both, and in one alone", HEADS, heads)] if heads else []),
        *([Sheet("overlap_by_class", "What they share, by class", BY_CLASS, classes)] if classes else []),
    ]


def _row(pair: Pair) -> tuple[Any, ...]:
    found, names = pair.found, (pair.first.name, pair.second.name)
    if found is None:
        return (*names, *(len(circuit_of(run)) for run in (pair.first, pair.second)), *([None] * 11), pair.why)
    n = len(found.both)
    sizes = (n + len(found.only_first), n + len(found.only_second))
    shares = (found.jaccard, found.of_larger, found.of_first, found.of_second)
    luck = found.chance
    rho = rank_correlation(*(totals(run) for run in (pair.first, pair.second)))
    return (*names, *sizes, n, sum(sizes) - n, *shares, luck.mean, luck.low, luck.high, luck.p, rho, None)


def _head_rows(pair: Pair) -> list[tuple[Any, ...]]:
    if pair.found is None:
        return []
    runs = (pair.first, pair.second)
    class_of, total = [classes_of(summary_of(run)) for run in runs], [totals(run) for run in runs]
    parts = ((pair.found.both, "both"), (pair.found.only_first, runs[0].name), (pair.found.only_second, runs[1].name))
    return [
        (runs[0].name, runs[1].name, name_of(head), where, *(one.get(head, NONE) for one in class_of),
         *(None if np.isnan(one[head]) else float(one[head]) for one in total))
        for part, where in parts for head in part
    ]  # fmt: skip


def _class_rows(pair: Pair) -> list[tuple[Any, ...]]:
    if pair.found is None:
        return []
    circuits = [set(circuit_of(run)) for run in (pair.first, pair.second)]
    class_of = [classes_of(summary_of(run)) for run in (pair.first, pair.second)]
    names = dict.fromkeys(name for run in (pair.first, pair.second) for name in summary_of(run).get("classes") or {})
    rows = []
    for name in names:
        first, second = (
            {head for head in circuit if known.get(head) == name}
            for circuit, known in zip(circuits, class_of, strict=True)
        )
        counts = (len(first), len(second), len(first & second), len(first & circuits[1]), len(second & circuits[0]))
        if first or second:
            rows.append((pair.first.name, pair.second.name, name, *counts))
    return rows


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's rho over the heads measured in both [layer, head]; None where it is not defined."""
    there = np.isfinite(first) & np.isfinite(second)
    return spearman(first[there], second[there])
