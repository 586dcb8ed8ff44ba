"""What the report draws of the scores: maps, charts and further tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.findings import Chart, Column, Heatmap, Series, Sheet
from interp.report.text import number
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.instances import Instances
from interp.retrieval.stability import ALWAYS, Halves
from interp.retrieval.table import Scores, label
from interp.retrieval.task import Task

MAPS = (
    ("score", "Retrieval score", "share of the answer's tokens copied"),
    ("released", "Retrieval score as released (repeats count)", "copying steps / tokens of the span"),
    ("active", "Share of the kept instances in which the head copies", "share of kept instances"),
    ("mass_in_needle", "Mass in the needle while the answer is written (HeadKV)", "attention on the answer span"),
    ("qr_score", "Attention from the question to the needle less that from N/A (QRHead)", "difference of attention"),
    ("induction", "Induction on repeated random tokens", "attention to the tokens behind earlier copies"),
)
BINS = 5
"""Depths of own material are drawn in so many equal parts of the text."""
DRAWN = 60
"""Heads the activity chart shows."""

RECALL_COLUMNS = (
    Column("form", "string", "form", "How it is asked: bare, prefix (the answer's beginning is given), chat, or own."),
    Column("length", "string", "length", "Length of the prompts, in tokens."),
    Column("depth", "string", "depth", "Where the needle stands: share of the context's tokens before it."),
    Column("instances", "Int64", "instances", "Prompts of this kind."),
    Column("kept", "Int64", "kept", "Those whose recall is above min_recall: they count for the scores."),
    Column("recall", "float64", "recall", "ROUGE-1 recall of the answer, mean; 0 to 1."),
    Column("exact", "float64", "exact", "Share that holds the whole answer word for word."),
)
INSTANCE_COLUMNS = (
    Column("prompt", "string", "prompt", "Name of the prompt."),
    Column("recall", "float64", "recall", "ROUGE-1 recall of the answer; 0 to 1."),
    Column("kept", "string", "kept", "Whether it counts for the scores (recall above min_recall)."),
    Column("answer", "string", "answer", "What the model wrote."),
    Column("wanted", "string", "wanted", "The answer in the needle."),
    Column("exact", "string", "exact", "Whether the whole answer came back word for word."),
    Column("needle", "string", "needle", "The needle: its instances count as one when intervals are taken."),
    Column(
        "part",
        "string",
        "part",
        "choosing: its scores choose the heads that are masked; judging: masking is tested on it; neither: its needle "
        "was never answered.",
    ),
    Column("form", "string", "form", "How it is asked."),
    Column("tokens", "Int64", "tokens", "Length of the prompt."),
    Column("depth", "float64", "depth", "Share of the context's tokens before the needle."),
)


def heatmaps(instances: Instances, found: Scores) -> list[Heatmap]:
    """Layer x head maps of what was measured, and recall by length and depth."""
    drawn = [
        Heatmap(
            name,
            title,
            found.by_head(name),
            "layer",
            "head",
            value,
            kind="layer-head",
            diverging=name == "qr_score",
            limits=None if name in ("qr_score", "released") else (0.0, 1.0),
        )
        for name, title, value in MAPS
        if np.isfinite(getattr(found, name)).any()
    ]
    return [*drawn, recall_map(instances)]


def lengths_of(tasks: Sequence[Task]) -> list[float]:
    """The length of each instance as it is grouped: as asked for, or of own material the power of two it fits into."""
    return [
        float(2 ** int(np.ceil(np.log2(len(task.prompt)))) if task.length is None else task.length) for task in tasks
    ]


def depths_of(tasks: Sequence[Task]) -> list[float]:
    """The depth of each instance as it is grouped: as asked for, or of own material the middle of its part."""
    return [
        (min(int(task.depth_achieved * BINS), BINS - 1) + 0.5) / BINS if task.depth is None else task.depth
        for task in tasks
    ]


def length_name(task: Task, length: float) -> str:
    """``1,024``, or ``up to 1,024``."""
    return f"up to {length:,.0f}" if task.length is None else f"{length:,.0f}"


def recall_map(instances: Instances) -> Heatmap:
    """Mean recall [length, depth]."""
    lengths, depths = np.array(lengths_of(instances.tasks)), np.array(depths_of(instances.tasks))
    rows, columns = np.unique(lengths), np.unique(depths)
    values = np.full((len(rows), len(columns)), np.nan)
    for r, length in enumerate(rows):
        for c, depth in enumerate(columns):
            these = (lengths == length) & (depths == depth)
            if these.any():
                values[r, c] = instances.recall[these].mean()
    names = {length: length_name(task, length) for task, length in zip(instances.tasks, lengths, strict=True)}
    return Heatmap(
        "recall",
        "How much of the answer comes back, by length and depth of the needle",
        values,
        "length, tokens",
        "depth (share of the text before the needle)",
        "ROUGE-1 recall",
        row_labels=tuple(names[length] for length in rows),
        column_labels=tuple(f"{depth:.2g}" for depth in columns),
        limits=(0.0, 1.0),
    )


def charts(found: Scores, halves: Halves | None, config: RetrievalConfig) -> list[Chart]:
    """The sorted scores, the halves against each other, and how often each retrieval head copies."""
    if not found.kept:
        return []
    drawn = [ranking(found, config)]
    if halves is not None:
        drawn.append(halves_chart(halves, found, config))
    if found.retrieval(config.threshold).any():
        drawn.append(activity_chart(found, config))
    return drawn


def order_of(found: Scores) -> np.ndarray:
    """Heads, best first."""
    return np.argsort(-found.score, kind="stable")


def ranking(found: Scores, config: RetrievalConfig) -> Chart:
    """Scores from the best head to the worst."""
    order = order_of(found)
    values, low, high = (tuple(map(float, one[order])) for one in (found.score, found.low, found.high))
    return Chart(
        "ranking",
        "Scores of all heads, best first",
        "rank of the head",
        "retrieval score",
        (
            Series(
                "heads",
                tuple(float(place) for place in range(1, len(order) + 1)),
                values,
                low,
                high,
                labels=tuple(label(found.pair(at)) for at in order),
            ),
        ),
        f"Heads above the dashed line ({config.threshold:g}) are called retrieval heads. A curve that falls fast "
        "means that few heads do the copying; where it reaches 0 the heads never copied. The band is the 95 % "
        "bootstrap interval over needles, head by head.",
        log_x=True,
        equal=config.threshold,
    )


def halves_chart(halves: Halves, found: Scores, config: RetrievalConfig) -> Chart:
    """Scores on one half of the needles against those on the other."""
    left, right = halves.example
    copying = np.flatnonzero((left > 0) | (right > 0))
    mean = float(halves.correlation.mean()) if len(halves.correlation) else None
    silent = len(left) - len(copying)
    return Chart(
        "halves",
        "The same heads on other needles?",
        "score on one half of the needles",
        "score on the other half",
        (
            Series(
                "heads",
                tuple(map(float, left[copying])),
                tuple(map(float, right[copying])),
                draw="points",
                labels=tuple(label(found.pair(at)) for at in copying),
            ),
        ),
        f"One random parting of the {halves.needles} needles; {silent} heads that copy on neither side are left out. "
        "Points near the diagonal are heads that score alike on needles they were not chosen by. Rank correlation of "
        f"all heads, mean over {len(halves.correlation)} partings: {number(mean)}.",
        marks=((config.threshold, "threshold"),),
    )


def activity_chart(found: Scores, config: RetrievalConfig) -> Chart:
    """How often each retrieval head copies."""
    retrieval = found.retrieval(config.threshold)
    order = [int(at) for at in order_of(found) if retrieval[at]][:DRAWN]
    return Chart(
        "activity",
        "Always active or only sometimes",
        "head",
        "share of kept instances",
        (
            Series(
                "retrieval heads",
                tuple(float(place) for place in range(len(order))),
                tuple(float(found.active[at]) for at in order),
                draw="bars",
                labels=tuple(f"score {number(float(found.score[at]))}" for at in order),
                role="found",
            ),
        ),
        f"Retrieval heads, best first{f' (the first {DRAWN})' if retrieval.sum() > DRAWN else ''}. Above the dashed "
        f"line ({ALWAYS:g}) a head copies whatever is asked for; the paper finds that others do so in some contexts "
        "only.",
        x_names=tuple(label(found.pair(at)) for at in order),
        equal=ALWAYS,
    )


def sheets(instances: Instances, choosing: frozenset[str], judging: frozenset[str]) -> list[Sheet]:
    """Recall by form, length and depth; and every instance with its answer."""
    return [recall_sheet(instances), instance_sheet(instances, choosing, judging)]


def recall_sheet(instances: Instances) -> Sheet:
    """Recall of every kind of instance."""
    tasks = instances.tasks
    keys = list(zip([task.form for task in tasks], lengths_of(tasks), depths_of(tasks), strict=True))
    rows: list[tuple[Any, ...]] = []
    for key in sorted(set(keys)):
        these = np.array([other == key for other in keys])
        first = tasks[int(np.flatnonzero(these)[0])]
        rows.append(
            (
                key[0],
                length_name(first, key[1]),
                f"{key[2]:.2g}",
                int(these.sum()),
                int(instances.kept[these].sum()),
                float(instances.recall[these].mean()),
                float(instances.exact[these].mean()),
            )
        )
    return Sheet(
        "recall",
        "How well the model answers, by length and depth",
        RECALL_COLUMNS,
        tuple(rows),
        "Scores are taken from kept instances alone: where few are kept, they say little about that length or depth.",
    )


def instance_sheet(instances: Instances, choosing: frozenset[str], judging: frozenset[str]) -> Sheet:
    """Every instance: where its needle stood, and what came back."""
    part = dict.fromkeys(choosing, "choosing") | dict.fromkeys(judging, "judging")
    rows = [
        (
            task.prompt.name,
            float(recall),
            "yes" if kept else "no",
            str(unit.facts["text"]),
            task.answer,
            "yes" if exact else "no",
            task.needle,
            part.get(task.needle, "neither"),
            task.form,
            len(task.prompt),
            float(task.depth_achieved),
        )
        for task, unit, kept, recall, exact in zip(
            instances.tasks, instances.units, instances.kept, instances.recall, instances.exact, strict=True
        )
    ]
    return Sheet(
        "instances",
        "Every instance and its answer",
        INSTANCE_COLUMNS,
        tuple(rows),
        "What the model wrote beside what it should have: read some before trusting the scores.",
    )
