"""Levels: the few (start layer, lifetime) pairs that sinks of many prompts fall into (Wong et al. 2025, arXiv
2512.22213), and how well other prompts of the same kind would show the same ones."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interp.findings import Column, Sheet

TOLERANCE = 1
"""A pair joins a more frequent one that starts, and ends, within so many layers of it."""
RESAMPLES = 2_000
"""Bootstrap resamples of the prompts."""

COLUMNS = (
    Column("among", "string", "among", "Which sinks were clustered: all of them, or the secondary ones alone."),
    Column("level", "Int64", "level", "Its number by start, then lifetime; the big table has those among all sinks."),
    Column("start_layer", "Int64", "start layer", "Forming block of its most frequent pair, 0-based."),
    Column("lifetime", "Int64", "lifetime", "Lifetime of its most frequent pair, in blocks."),
    Column("sinks", "Int64", "sinks", "Spans that belong to it, over all prompts."),
    Column("share_of_prompts", "float64", "share of prompts", "Share of the prompts that have such a span."),
    Column(
        "stability",
        "float64",
        "stability",
        "Share of the bootstrap resamples of the prompts in which a level whose start and end are within "
        f"{TOLERANCE} layer of this one's is found again.",
    ),
    Column("kinds", "string", "kinds", "Spans by kind."),
    Column("commonest", "string", "commonest tokens", "The tokens that are such sinks most often, with counts."),
    Column("norm_low", "float64", "norm, 10 %", "l2 norm of their states, mean over life: 10 % quantile over spans."),
    Column("norm_median", "float64", "norm, median", "l2 norm of their states, mean over life: median over spans."),
    Column("norm_high", "float64", "norm, 90 %", "l2 norm of their states, mean over life: 90 % quantile over spans."),
)


def levels(pairs: list[tuple[int, int]]) -> tuple[list[int], list[tuple[int, int]]]:
    """Cluster (start, lifetime) pairs: the most frequent pair takes in its neighbours, then the next; nothing chains.

    Returns:
        the level of every pair, and the pair each level is named after, in order of start, then lifetime.
    """
    counts = Counter(pairs)
    heads: list[tuple[int, int]] = []
    belongs: dict[tuple[int, int], tuple[int, int]] = {}
    for pair in sorted(counts, key=lambda pair: (-counts[pair], pair)):
        near = [head for head in heads if _near(head, pair)]
        if not near:
            heads.append(pair)
        belongs[pair] = near[0] if near else pair
    heads.sort()
    numbers = {head: number for number, head in enumerate(heads)}
    of_pair = {pair: numbers[head] for pair, head in belongs.items()}
    return [of_pair[pair] for pair in pairs], heads


def describe(
    rows: Sequence[Mapping[str, Any]], heads: Sequence[tuple[int, int]], prompts: Sequence[int], n_prompts: int
) -> list[dict[str, Any]]:
    """One dict a level: how often, in which share of the prompts, which kinds and tokens, how long the states are.

    Args:
        rows: the rows of the sinks table, `level` filled in.
        heads: pair each level is named after.
        prompts: index of the prompt of each row (names may repeat).
        n_prompts: how many prompts were scanned.
    """
    told, by_level = [], defaultdict(list)
    for row, prompt in zip(rows, prompts, strict=True):
        by_level[row["level"]].append((row, prompt))
    for level, (start, lifetime) in enumerate(heads):
        members = by_level[level]
        tokens = Counter((row["token_id"], row["token"]) for row, _ in members)
        low, median, high = np.quantile([row["norm"] for row, _ in members], (0.1, 0.5, 0.9)).tolist()
        holding = {prompt for _, prompt in members}
        told.append(
            {
                "level": level,
                "start_layer": start,
                "lifetime": lifetime,
                "sinks": len(members),
                "kinds": dict(sorted(Counter(row["kind"] for row, _ in members).items())),
                "prompts": len(holding),
                "share_of_prompts": len(holding) / n_prompts,
                "tokens": [{"token_id": i, "token": text, "sinks": n} for (i, text), n in tokens.most_common(10)],
                "norm": {"low": low, "median": median, "high": high},
            }
        )
    return told


def stability(
    pairs: Sequence[tuple[int, int]],
    prompts: Sequence[int],
    n_prompts: int,
    heads: Sequence[tuple[int, int]],
    seed: int,
) -> tuple[list[float | None], dict[str, Any]]:
    """How levels fare when the prompts are drawn anew, `RESAMPLES` times with replacement.

    Args:
        pairs: (start, lifetime) of every span; `prompts`: the index of its prompt.
        n_prompts: how many prompts were scanned.
        heads: pair each level is named after.
        seed: of the draws.

    Returns:
        for each level the share of resamples that hold a level within `TOLERANCE` of it; and the number of levels as
        ``found`` (in the prompts as they are), ``mean``, ``low``, ``high`` (95 % of the resamples), ``n`` prompts, with
        ``why`` where a single prompt leaves nothing to draw from.
    """
    told: dict[str, Any] = {"found": len(heads), "mean": None, "low": None, "high": None, "n": n_prompts}
    if n_prompts < 2:
        return [None] * len(heads), told | {"why": "a single prompt cannot be resampled"}
    if not heads:
        return [], told | {"mean": 0.0, "low": 0.0, "high": 0.0}
    from interp.scoring.level_heads import level_heads

    known = sorted(set(pairs))
    place = {pair: column for column, pair in enumerate(known)}
    counts = np.zeros((n_prompts, len(known)), dtype=np.int64)
    np.add.at(counts, (np.array(prompts), np.array([place[pair] for pair in pairs])), 1)
    draws = np.random.default_rng(seed).integers(0, n_prompts, (RESAMPLES, n_prompts))
    names = level_heads(np.array(known), counts, draws, TOLERANCE)
    near = np.array([[_near(head, pair) for pair in known] for head in heads])
    shares = (names.astype(np.float32) @ near.T.astype(np.float32) > 0).mean(axis=0)
    numbers = names.sum(axis=1)
    low, high = np.quantile(numbers, (0.025, 0.975)).tolist()
    return shares.tolist(), told | {"mean": float(numbers.mean()), "low": low, "high": high}


def _near(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(one[0] - other[0]) <= TOLERANCE and abs(sum(one) - sum(other)) <= TOLERANCE


def secondary_levels(
    rows: Sequence[Mapping[str, Any]], prompts: Sequence[int], n_prompts: int, seed: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The paper's levels: those of the secondary sinks, clustered alone; described, and their number (see
    `stability`)."""
    own = [(row, prompt) for row, prompt in zip(rows, prompts, strict=True) if row["kind"] == "secondary"]
    pairs, places = [(row["start_layer"], row["lifetime"]) for row, _ in own], [prompt for _, prompt in own]
    numbers, heads = levels(pairs)
    shares, number = stability(pairs, places, n_prompts, heads, seed)
    renumbered = [{**row, "level": level} for (row, _), level in zip(own, numbers, strict=True)]
    return with_stability(describe(renumbered, heads, places, n_prompts), shares), number


def with_stability(told: Sequence[dict[str, Any]], shares: Sequence[float | None]) -> list[dict[str, Any]]:
    """The levels of `describe` with the shares of `stability`."""
    return [{**level, "stability": share} for level, share in zip(told, shares, strict=True)]


def sheet(of_all: Sequence[Mapping[str, Any]], secondary: Sequence[Mapping[str, Any]]) -> Sheet:
    """The levels as a table of the report, those of all sinks first, then those of the secondary ones."""
    groups = (("all sinks", of_all), ("secondary sinks", secondary))
    rows = tuple(_sheet_row(among, level) for among, levels_ in groups for level in levels_)
    caption = (
        "A level gathers spans whose start and end are within one layer of its most frequent pair. Stability near 1: "
        "another draw of such prompts would show it as well; a low one: it hangs on few prompts."
    )
    return Sheet("levels", "Levels: start layer and lifetime over the prompts", COLUMNS, rows, caption)


def _sheet_row(among: str, level: Mapping[str, Any]) -> tuple[Any, ...]:
    kinds = ", ".join(f"{kind} {count}" for kind, count in level["kinds"].items())
    tokens = ", ".join(f"'{told['token']}' x{told['sinks']}" for told in level["tokens"][:5])
    plain = (level[name] for name in ("level", "start_layer", "lifetime", "sinks", "share_of_prompts"))
    norms = (level["norm"][name] for name in ("low", "median", "high"))
    return (among, *plain, level["stability"], kinds, tokens, *norms)
