"""What the report draws of head classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from interp.findings import Chart, Column, Findings, Heatmap, Series, Sheet
from interp.heads.classes import Score
from interp.heads.config import KINDS, NAMES, SHOWN, HeadsConfig

_TITLES = {
    "previous": ("Attention to the token before", "share of attention"),
    "duplicate": ("Attention to earlier copies of the own token", "share of attention"),
    "induction": ("Attention to what followed earlier copies (induction)", "share of attention"),
    "copy": ("Copying: the attended token's logit is raised", "copy score"),
    "sink": ("Attention on the anchor (sink)", "share of attention"),
    "retrieval": ("Retrieval score", "share of the answer copied"),
}


def heatmaps(table: pd.DataFrame, scores: Mapping[str, Score]) -> list[Heatmap]:
    """The class of every head, and a map for each score that was measured."""
    shape = scores["sink"].mean.shape
    number = {name: float(place) for place, name in enumerate(SHOWN)}
    values = np.array([number[name] for name in table["class"]]).reshape(shape)
    maps = [Heatmap("class", "Class of each head", values, "layer", "head", "class", "layer-head", categories=SHOWN)]
    for kind in KINDS:
        mean = scores[kind].mean
        if np.isfinite(mean).any():
            title, unit = _TITLES[kind]
            ends = (-1.0, 1.0) if kind == "copy" else (0.0, 1.0)
            maps.append(
                Heatmap(kind, title, mean, "layer", "head", unit, "layer-head", diverging=ends[0] < 0, limits=ends)
            )
    return maps


def charts(table: pd.DataFrame, config: HeadsConfig) -> list[Chart]:
    """Where retrieval heads stand among induction heads and among sinks; without retrieval, induction and previous."""
    if table["retrieval"].notna().any():
        return [
            scatter(
                table,
                "induction",
                "retrieval",
                "Retrieval heads and induction heads",
                f"One point a head. Right of {config.induction:g} it is an induction head on random tokens, above "
                f"{config.retrieval:g} it copies needles; top right it does both.",
                config,
            ),
            scatter(
                table,
                "sink",
                "retrieval",
                "Retrieval heads and sinks",
                "One point a head. A retrieval head may rest on the anchor nearly all the time, since it works only "
                "while an answer is copied; low and right stand the heads that only sink.",
                config,
            ),
        ]
    return [
        scatter(
            table,
            "induction",
            "previous",
            "Induction heads and previous-token heads",
            "One point a head. Induction heads read what previous-token heads of earlier layers wrote.",
            config,
        )
    ]


def scatter(table: pd.DataFrame, x: str, y: str, title: str, caption: str, config: HeadsConfig) -> Chart:
    """Two scores of every head against each other, by class."""
    series = []
    for name in reversed(SHOWN):
        rows = table[(table["class"] == name) & table[x].notna() & table[y].notna()]
        if len(rows):
            labels = tuple(f"{layer}.{head}" for layer, head in zip(rows["layer"], rows["head"], strict=True))
            series.append(
                Series(
                    name,
                    tuple(map(float, rows[x])),
                    tuple(map(float, rows[y])),
                    draw="points",
                    labels=labels,
                    role=SHOWN.index(name),
                )
            )
    label = {kind: f"{kind} ({_TITLES[kind][1]})" for kind in (x, y)}
    marks = ((float(getattr(config, x)), f"{x} threshold"),)
    return Chart(f"{x}-{y}", title, label[x], label[y], tuple(series), caption, marks, equal=float(getattr(config, y)))


def check_charts(claims: Mapping[str, Any]) -> list[Chart]:
    """The change of the loss on the second copy by class, beside random heads."""
    kinds = [kind for kind in KINDS if claims[f"change.{kind}"]["mean"] is not None]
    if not kinds:
        return []
    x = tuple(float(place) for place in range(len(kinds)))
    series = []
    roles: dict[str, tuple[str, Literal["found", "control"]]] = {
        "change": ("heads of the class", "found"),
        "change_random": ("as many random heads", "control"),
    }
    for claim, (name, role) in roles.items():
        told = [claims[f"{claim}.{kind}"] for kind in kinds]
        mean, low, high = (tuple(one[key] for one in told) for key in ("mean", "low", "high"))
        series.append(Series(name, x, mean, low, high, "points", role=role))
    return [
        Chart(
            "check-classes",
            "What the second copy costs without the heads of a class",
            "class taken out",
            "change of that loss, nats",
            tuple(series),
            "Mean and 95 % interval over fresh random sequences. The loss on the second copy is low because the first "
            "copy can be looked up: classes that take part in that lie above the random heads. Nothing is shown of a "
            "class that does not.",
            x_names=tuple(kinds),
            equal=0.0,
        )
    ]


def sheets(findings: Findings) -> list[Sheet]:
    """Class by class: how many heads, what taking them out does to the loss, and to the induction heads."""
    claims, counts = findings.summary["claims"], findings.summary["counts"]
    figures = {
        "change": ("change of loss", "Change of the loss on the second copy with all heads of the class zeroed, nats."),
        "change_random": ("random heads", "The same with as many random heads."),
        "difference": ("difference", "The first less the second."),
        "induction_change": ("change of induction", "Change of the induction heads' mean score."),
        "induction_change_random": ("random heads", "The same with as many random heads."),
    }
    columns = [
        Column("class", "string", "class", "Class of heads."),
        Column("heads", "Int64", "heads", "Heads that belong to it, whatever else they belong to."),
    ]
    for name, (label, told) in figures.items():
        columns.append(Column(name, "float64", label, told))
        columns.append(Column(f"{name}_low", "float64", "low", "Low end of its 95 % interval over fresh sequences."))
        columns.append(Column(f"{name}_high", "float64", "high", "High end of its 95 % interval over fresh sequences."))
    rows = []
    for kind in KINDS:
        cells: list[Any] = [NAMES[kind].removesuffix(" head"), counts[kind]]
        for name in figures:
            cells += [claims[f"{name}.{kind}"][key] for key in ("mean", "low", "high")]
        rows.append(tuple(cells))
    caption = "The verdict rests on the induction heads. Nothing is verified of a class whose interval reaches 0."
    return [Sheet("classes", "Classes, and what taking them out does", tuple(columns), tuple(rows), caption)]
