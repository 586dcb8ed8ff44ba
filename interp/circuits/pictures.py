"""What the report draws of a circuit: maps of all heads, the layered graph, charts. Pure.

All of it is made from the finder's table (`interp.circuits.config.COLUMNS`) and summary; what is not there is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.circuits.config import CLASSES, NONE, Head
from interp.findings import Chart, Edge, Graph, Heatmap, Node, Series

LOGITS = "logits"
ENDS = "ends"
"""Kind of the graph's node that is no head."""
SHARE_OF_GAP = "share of what corrupting the prompt does"
_EFFECTS = {
    "total": "Total effect of each head",
    "direct": "Direct effect of each head on the logits",
    "attribution_ig": "Total effect as estimated by integrated gradients",
}
_WAYS = ("mean", "zero", "resample")
_BARS = {
    "whole": ("whole model", None),
    "circuit": ("circuit alone", "found"),
    "random": ("random heads, as many, of the same layers", "control"),
    "empty": ("no head", None),
}


def heatmaps(table: pd.DataFrame, shape: Sequence[int] | None = None) -> list[Heatmap]:
    """Layer x head maps: total and direct effect (and their estimate) and the class of every head.

    Args:
        table: the finder's.
        shape: (layers, heads) of the model; None = the largest in the table.
    """
    if shape is None:
        shape = tuple(int(table[name].max()) + 1 for name in ("layer", "head")) if len(table) else (0, 0)
    if not shape[0] or not shape[1]:
        return []
    maps = []
    for name, title in _EFFECTS.items():
        values = grid(table, name, shape)
        if np.isfinite(values).any():
            maps.append(Heatmap(name, title, values, "layer", "head", SHARE_OF_GAP, kind="layer-head", diverging=True))
    if "class" in table:
        kinds = (NONE, *CLASSES)
        coded = table.assign(coded=table["class"].map(lambda kind: kinds.index(kind) if kind in kinds else np.nan))
        values = grid(coded, "coded", shape)
        maps.append(
            Heatmap(
                "classes", "What each head does", values, "layer", "head", "class", kind="layer-head", categories=kinds
            )
        )
    return maps


def grid(table: pd.DataFrame, column: str, shape: Sequence[int]) -> np.ndarray:
    """float64 [layer, head] of one column; NaN = not measured, or no such column."""
    values = np.full(tuple(shape), np.nan)
    if column in table:
        for layer, head, value in zip(table["layer"], table["head"], table[column], strict=True):
            if not pd.isna(value):
                values[int(layer), int(head)] = float(value)
    return values


def graph(summary: Mapping[str, Any]) -> Graph | None:
    """The circuit by layer: heads by class, and each stage's senders joined to its receivers; None without a circuit.

    An arrow's weight is the sender's effect through all receivers of its stage together, since that is what a stage
    measures; receivers that the sender cannot reach (not in a later layer) get none.
    """
    circuit = [head_of(head) for head in summary.get("circuit") or []]
    if not circuit:
        return None
    layers = int((summary.get("shape") or [max(layer for layer, _ in circuit) + 1])[0])
    class_of = classes_of(summary)
    inside, edges, roles = set(circuit), [], {head: [] for head in circuit}
    for number, stage in enumerate(summary.get("stages") or []):
        receivers = [head_of(head) for head in stage.get("receivers") or []]
        where = stage_label(stage)
        for layer, head, effect in stage.get("heads") or []:
            sender = (int(layer), int(head))
            if sender not in inside:
                continue
            roles[sender].append(f"stage {number}, {where}: {effect:+.3f}")
            targets = [name_of(one) for one in receivers if one[0] > sender[0] and one in inside]
            if stage.get("side") == LOGITS:
                targets = [LOGITS]
            edges += [Edge(name_of(sender), target, float(effect), where) for target in targets]
    nodes = [
        Node(name_of(head), head[0], class_of.get(head, "other"), name_of(head), "\n".join(roles[head]))
        for head in sorted(circuit)
    ]
    caption = (
        "An arrow's weight is the effect of its sender through all receivers of that stage together; positive: the "
        "path supports the answer."
    )
    return Graph(
        "circuit",
        "The circuit",
        (*nodes, Node(LOGITS, layers, ENDS, LOGITS)),
        tuple(edges),
        (ENDS, *CLASSES),
        f"effect in its stage, {SHARE_OF_GAP}",
        caption,
    )


def charts(summary: Mapping[str, Any]) -> list[Chart]:
    """Behaviour by group, faithfulness, curves of rankings, completeness."""
    evaluation = summary.get("evaluation") or {}
    made = [
        *behaviour_charts(summary.get("behaviour") or {}),
        faithfulness_chart(evaluation, bool(summary.get("held_out"))),
        *curve_charts(evaluation.get("curves") or {}, "head"),
        *curve_charts(evaluation.get("edge_curves") or {}, "edge"),
        completeness_chart(evaluation),
    ]
    return [chart for chart in made if chart is not None]


def behaviour_charts(told: Mapping[str, Any]) -> list[Chart]:
    """Shares (accuracy, top-1, P(answer)) and logit differences, over all prompts and group by group."""
    rows = [("all prompts", told)]
    for kind, by_value in (told.get("groups") or {}).items():
        rows += [(f"{kind} {value}", figures) for value, figures in by_value.items()]
    names = tuple(name for name, _ in rows)
    parts = (
        (
            "behaviour",
            "Does the model do the task?",
            "share or probability",
            {"accuracy": "answer above every wrong token", "top1": "answer above all tokens", "p_answer": "P(answer)"},
            told.get("chance"),
            "Point and bar: mean over prompts and its 95 % interval. Dashed: guessing among answer and wrong tokens.",
        ),
        (
            "logit_difference",
            "Logit difference, answer less wrong",
            "logits",
            {"difference": "clean prompts", "corrupt_difference": "corrupted twins"},
            0.0,
            "Point and bar: mean over prompts and its 95 % interval.",
        ),
    )
    made = []
    for name, title, unit, figures, equal, caption in parts:
        series = [
            one
            for key, label in figures.items()
            if (one := estimates(label, [(place, row.get(key)) for place, (_, row) in enumerate(rows)]))
        ]
        if series:
            made.append(Chart(name, title, "prompts", unit, tuple(series), caption, x_names=names, equal=equal))
    return made


def faithfulness_chart(evaluation: Mapping[str, Any], held_out: bool = True) -> Chart | None:
    """Logit difference of the whole model, the circuit, random heads and no head, by way to ablate."""
    ways = evaluation.get("faithfulness") or {}
    chose = "did not choose" if held_out else "chose"
    names = [*(way for way in _WAYS if way in ways), *(way for way in ways if way not in _WAYS)]
    series = []
    for key, (label, role) in _BARS.items():
        values = [
            (place, _of(ways[way], *((key, "circuit") if key == "random" else (key,))))
            for place, way in enumerate(names)
        ]
        one = estimates(label, values, draw="bars", role=role)
        if one is not None:
            series.append(one)
    return None if not series else Chart(
        "faithfulness",
        "What the circuit does alone",
        "what replaces the other heads",
        "logit difference",
        tuple(series),
        f"Bar: mean over the prompts that {chose} the circuit, with its 95 % interval.",
        x_names=tuple(names),
    )  # fmt: skip


def curve_charts(told: Mapping[str, Any], what: str) -> list[Chart]:
    """f against the share kept, of each ranking: by signed scores (CPR) and by their size (CMD)."""
    rankings = told.get("curves") or {name: one for name, one in told.items() if isinstance(one, Mapping)}
    made = []
    for way, order, area, caption in (
        ("signed", "score", "cpr", "CPR = area under the curve, higher is better."),
        ("absolute", "size of score", "cmd", "CMD = area between the curve and 1, lower is better."),
    ):
        series = []
        for name, one in rankings.items():
            shares, f = one.get("shares", told.get("shares")), _of(one, way, "f")
            if not shares or not f or len(shares) != len(f):
                continue
            value = _of(one, way, area)
            label = name if value is None else f"{name} ({area.upper()} {value:.2f})"
            role = "control" if name.startswith("random") else None
            x, y = tuple(map(float, shares)), tuple(None if v is None else float(v) for v in f)
            series.append(Series(label, x, y, role=role))
        if series:
            made.append(
                Chart(
                    f"{what}_curves_{way}",
                    f"How many {what}s carry the answer: the best by {order} kept",
                    f"share of {what}s kept",
                    "f: 0 = none kept, 1 = whole model",
                    tuple(series),
                    caption,
                    log_x=True,
                    equal=1.0,
                )
            )
    return made


def completeness_chart(evaluation: Mapping[str, Any]) -> Chart | None:
    """F(C without K) against F(M without K), a point each K; on the diagonal, circuit and model do the same."""
    sets = _of(evaluation, "completeness", "sets") or []
    sets = [one for one in sets if one.get("circuit") is not None and one.get("model") is not None]
    if not sets:
        return None
    values = [float(one[side]) for one in sets for side in ("circuit", "model")]
    ends = (min(values), max(values))
    series = [Series("circuit and model the same", ends, ends, role="control")]
    for kind, label in (("class", "a class of heads"), ("random", "random part"), ("greedy", "greedy part")):
        some = [one for one in sets if one.get("kind") == kind]
        if some:
            x, y = (tuple(float(one[side]) for one in some) for side in ("model", "circuit"))
            labels = tuple(f"K = {one.get('name', kind)}, {len(one.get('heads') or [])} heads" for one in some)
            series.append(Series(label, x, y, draw="points", labels=labels))
    return Chart(
        "completeness",
        "Is the circuit complete?",
        "logit difference of the model without K",
        "logit difference of the circuit without K",
        tuple(series),
        "One point a set K of heads of the circuit. Points below the line: heads outside the circuit can do K's work.",
    )


def estimates(
    name: str,
    values: Sequence[tuple[int, Mapping[str, Any] | None]],
    draw: Any = "points",
    role: Any = None,
) -> Series | None:
    """(x, {mean, low, high}) as a series; those without a mean are left out, None when none is left."""
    known = [(x, one) for x, one in values if one and one.get("mean") is not None]
    if not known:
        return None
    low, high = (tuple(one.get(end) for _, one in known) for end in ("low", "high"))
    means = tuple(float(one["mean"]) for _, one in known)
    return Series(name, tuple(float(x) for x, _ in known), means, low, high, draw, role=role)


def classes_of(summary: Mapping[str, Any]) -> dict[Head, str]:
    """Head -> class, of those in the summary's ``classes`` whose class is known."""
    by_class = summary.get("classes") or {}
    return {head_of(head): name for name in reversed(CLASSES) for head in by_class.get(name) or []}


def stage_label(stage: Mapping[str, Any]) -> str:
    """``q@end``; with the position that was used, where it was looked for."""
    side, position = stage.get("side"), stage.get("position")
    return f"{side}@{position}" if side and position else str(stage.get("name", ""))


def head_of(head: Sequence[Any]) -> Head:
    """[layer, head, ...] of JSON as (layer, head)."""
    return int(head[0]), int(head[1])


def name_of(head: Head) -> str:
    """``layer.head``."""
    return f"{head[0]}.{head[1]}"


def _of(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
