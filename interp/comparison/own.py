"""What a comparison draws itself: effects of the causal checks, the anchor by depth, levels by depth, caveats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.comparison.facts import Compared
from interp.findings import Chart, Column, Series, Sheet

LEVEL_COLUMNS = (
    Column("run", "string", "run", "Which run the level comes from."),
    Column("among", "string", "among", "Which sinks were clustered: all of them, or the secondary ones alone."),
    Column("start_layer", "Int64", "start layer", "Forming block of the level's most frequent pair, 0-based."),
    Column("lifetime", "Int64", "lifetime", "Its lifetime, in blocks."),
    Column("start_depth", "float64", "start / depth", "Start layer as a share of the model's number of blocks."),
    Column("life_depth", "float64", "lifetime / depth", "Lifetime as a share of the model's number of blocks."),
    Column("sinks", "Int64", "sinks", "Spans that belong to it, over all prompts."),
    Column("share_of_prompts", "float64", "share of prompts", "Share of the run's prompts that have such a span."),
    Column("stability", "float64", "stability", "Share of the resamples of the prompts in which it is found again."),
    Column("norm", "float64", "norm, median", "l2 norm of the states, median over its spans."),
    Column("commonest", "string", "commonest tokens", "The tokens that are such sinks most often."),
)
AMONG = {"levels": "all sinks", "secondary_levels": "secondary sinks"}


def charts(runs: Sequence[Compared]) -> list[Chart]:
    """Those for which any run has the numbers."""
    made = (_effects(runs), _anchor(runs), *(_levels(runs, key) for key in AMONG))
    return [chart for chart in made if chart is not None]


def sheets(runs: Sequence[Compared]) -> list[Sheet]:
    """Levels of all runs, and the caveats of each."""
    rows = tuple(
        (run.name, among, level["start_layer"], level["lifetime"], *_shares(run, level), level["sinks"],
         level["share_of_prompts"], level.get("stability"), level["norm"]["median"], _tokens(level))
        for key, among in AMONG.items() for run in runs for level in _list(run, key)
    )  # fmt: skip
    caption = "Depth is the model's number of blocks: shares of it compare models of different depth."
    levels = [Sheet("levels", "Levels side by side", LEVEL_COLUMNS, rows, caption)] if rows else []
    told = tuple((run.name, caveat) for run in runs for caveat in run.result.findings.caveats)
    columns = (
        Column("run", "string", "run", "Which run it is said of."),
        Column("caveat", "string", "caveat", "What it says."),
    )
    return [*levels, Sheet("caveats", "What each run asks its reader to bear in mind", columns, told)]


def _effects(runs: Sequence[Compared]) -> Chart | None:
    """Effect and controls of every check that ran; None where the runs measured different things, or nothing."""
    checks = [(place, run.result.findings.verification) for place, run in enumerate(runs)]
    ran = [(place, check) for place, check in checks if check is not None and check.effect is not None]
    if len({check.metric for _, check in ran}) != 1:
        return None
    series = []
    for name, key in (("what was found", "effect"), ("matched controls", "control")):
        kept = [(place, check) for place, check in ran if getattr(check, key) is not None]
        values = [tuple(getattr(check, key + end) for _, check in kept) for end in ("", "_low", "_high")]
        bounded = all(value is not None for value in (*values[1], *values[2]))
        low, high = (values[1], values[2]) if bounded else ((), ())
        series.append(Series(name, tuple(float(place) for place, _ in kept), values[0], low, high, "points"))
    return Chart(
        "effects",
        "Does it matter to the model? The causal checks",
        "run",
        f"change in {ran[0][1].metric}",
        tuple(series),
        "Point and bar: mean over prompts and its interval, for what was found and for matched controls.",
        x_names=tuple(run.name for run in runs),
        equal=0.0,
    )


def _anchor(runs: Sequence[Compared]) -> Chart | None:
    """Attention the anchor receives by depth: mean over heads, and where the middle 80 % of the heads lie."""
    series = []
    for run in runs:
        mass = run.result.findings.summary.get("anchor_mass")
        if not mass:
            continue
        heads = np.asarray(mass, dtype=np.float64)
        means = tuple(heads.mean(axis=1).tolist())
        low, high = (tuple(ends) for ends in np.quantile(heads, (0.1, 0.9), axis=1).tolist())
        depth = tuple(float(layer) / max(len(heads) - 1, 1) for layer in range(len(heads)))
        labels = tuple(f"layer {layer}" for layer in range(len(heads)))
        series.append(Series(run.name, depth, means, low, high, labels=labels))
    return None if not series else Chart(
        "anchor_depth",
        "Attention the anchor receives, by depth",
        "layer / last layer",
        "mean attention received",
        tuple(series),
        "Line: mean over heads and prompts; band: the middle 80 % of the layer's heads.",
    )  # fmt: skip


def _levels(runs: Sequence[Compared], key: str) -> Chart | None:
    """Levels as points: where they start and how long they last, as shares of the depth."""
    series = []
    for run in runs:
        told = [(level, _shares(run, level)) for level in _list(run, key) if run.layers]
        if told:
            x, y = (tuple(shares[i] for _, shares in told) for i in (0, 1))
            labels = tuple(_spelled(level) for level, _ in told)
            series.append(Series(run.name, x, y, draw="points", labels=labels))  # type: ignore[arg-type]
    return None if not series else Chart(
        key,
        f"Levels of {AMONG[key]}, by depth",
        "start layer / number of layers",
        "lifetime / number of layers",
        tuple(series),
        "One point a level. Points of several models that lie together are levels they share.",
    )  # fmt: skip


def _list(run: Compared, key: str) -> list[dict[str, Any]]:
    return run.result.findings.summary.get(key) or []


def _shares(run: Compared, level: dict[str, Any]) -> tuple[float | None, float | None]:
    """Start and lifetime over the number of layers."""
    if run.layers is None:
        return None, None
    return level["start_layer"] / run.layers, level["lifetime"] / run.layers


def _spelled(level: dict[str, Any]) -> str:
    sinks = f"{level['sinks']} span{'s' * (level['sinks'] != 1)}"
    return f"starts in layer {level['start_layer']}, lasts {level['lifetime']}; {sinks}; {_tokens(level)}"


def _tokens(level: dict[str, Any]) -> str:
    return ", ".join(f"'{told['token']}' x{told['sinks']}" for told in level["tokens"][:3])
