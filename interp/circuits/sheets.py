"""Further tables of a circuit's report: stages, evidence of each class, faithfulness, minimality. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from interp.circuits.pictures import classes_of, head_of, name_of, stage_label
from interp.findings import Column, Sheet

_SHARE = "as a share of what corrupting the whole prompt does"
STAGES = (
    Column("stage", "Int64", "stage", "Number of the stage; 0 = to the logits."),
    Column("asked", "string", "asked for", "Side and position as set; auto = where the heads before look most."),
    Column("path", "string", "path", "Input of the receivers that was patched, and the position used."),
    Column("receivers", "string", "receivers", "Heads (layer.head) whose input it was."),
    Column("heads", "string", "heads taken", f"Heads taken, the strongest first, with their effect {_SHARE}."),
    Column("found_again", "float64", "found again", "Shared / union with the heads taken on the held-out prompts."),
    Column("why", "string", "why none", "Why the stage took no heads."),
)
EVIDENCE = (
    Column("class", "string", "class", "What the head does."),
    Column("head", "string", "head", "layer.head."),
    Column("stage", "Int64", "stage", "Stage that found it."),
    Column("effect", "float64", "effect in stage", f"Along that stage's path, {_SHARE}."),
    Column("looks_from", "string", "from", "Position at which it is read."),
    Column("looks_at", "string", "looks at", "Position that it attends to most from there."),
    Column("attention", "float64", "attention", "Mean attention paid there."),
    Column("copying", "float64", "copying", "1 = raises the token it attends to most of all the prompt's, -1 = least."),
    Column("dla", "float64", "DLA", "Direct logit attribution, logits."),
    Column("evidence", "string", "evidence", "The same in words."),
)
FAITHFUL = (
    Column("how", "string", "replaced by", "What stands for the heads outside."),
    Column("whole", "float64", "F(M)", "Logit difference of the whole model."),
    Column("circuit", "float64", "F(C)", "Logit difference of the circuit."),
    Column("empty", "float64", "F(none)", "Logit difference without any head."),
    Column("of_whole", "float64", "F(C)/F(M)", "Faithfulness as Wang et al. 2022 tell it."),
    Column("share", "float64", "share", "(F(C) - F(none)) / (F(M) - F(none))."),
    Column("share_low", "float64", "share, low", "Low end of its 95 % interval."),
    Column("share_high", "float64", "share, high", "High end of its 95 % interval."),
    Column("random", "float64", "share, random", "The same of as many random heads of the same layers, mean of draws."),
)
MINIMAL = (
    Column("head", "string", "head", "layer.head."),
    Column("class", "string", "class", "Its class."),
    Column("without", "string", "without", "Which other heads K are away as well."),
    Column("k", "Int64", "of K", "Number of heads in K."),
    Column("change", "float64", "change", "F(C without K and it) - F(C without K), logits."),
    Column("low", "float64", "low", "Low end of its 95 % interval."),
    Column("high", "float64", "high", "High end of its 95 % interval."),
    Column("share", "float64", "of F(M)", "Size of the change as a share of F(M)."),
    Column("needed", "boolean", "needed", "Whether that reaches the threshold."),
)

EDGES = (
    Column("ranking", "string", "ranking", "Which attribution."),
    Column(
        "edge", "string", "edge", "Writer -> reader: a3.h1 = layer 3, head 1; m3 = its MLP; <q>, <k>, <v> = what reads."
    ),
    Column("share", "float64", "effect", f"Estimated effect of the edge {_SHARE}."),
)


MLPS = (
    Column("layer", "Int64", "layer", "Layer, counted from 0."),
    Column("total", "float64", "total effect", f"Of the MLP's output taken from the corrupted run, {_SHARE}."),
    Column("direct", "float64", "direct effect", "The same at the last position, heads held, later MLPs anew."),
    Column("direct_frozen_mlps", "float64", "direct, MLPs held", "The same with later MLPs held as well."),
    Column("dla", "float64", "DLA", "Direct logit attribution, logits."),
    Column("attribution", "float64", "attribution", "First-order estimate of the total effect."),
    Column("attribution_ig", "float64", "attribution, IG", "The same by integrated gradients."),
)


def sheets(summary: Mapping[str, Any], table: pd.DataFrame | None = None) -> list[Sheet]:
    """Those for which there are numbers; evidence also needs the finder's table, or ``summary["evidence"]``."""
    evaluation = summary.get("evaluation") or {}
    made = (
        _stages(summary),
        _evidence(summary, table),
        _faithful(summary),
        _minimal(evaluation.get("minimality") or {}),
        _edges(evaluation.get("edges") or {}),
        _mlps(summary),
    )
    return [sheet for sheet in made if sheet.rows]


def _stages(summary: Mapping[str, Any]) -> Sheet:
    rows = tuple(
        (
            number,
            stage.get("name"),
            stage_label(stage),
            ", ".join(name_of(head_of(head)) for head in stage.get("receivers") or []) or None,
            ", ".join(f"{name_of(head_of(head))} ({head[2]:+.3f})" for head in stage.get("heads") or []) or None,
            stage.get("found_again"),
            stage.get("why") or None,
        )
        for number, stage in enumerate(summary.get("stages") or [])
    )
    caption = "Backwards from the logits: each stage asks which heads act through the inputs of those found before."
    return Sheet("stages", "Stages of the search", STAGES, rows, caption)


def _evidence(summary: Mapping[str, Any], table: pd.DataFrame | None) -> Sheet:
    told, class_of = summary.get("evidence") or {}, classes_of(summary)
    measured: dict[str, dict[str, Any]] = {}
    if table is not None and {"layer", "head"} <= set(table.columns):
        plain = table.astype(object).where(table.notna(), None)
        measured = {name_of((int(row["layer"]), int(row["head"]))): row for row in plain.to_dict("records")}
    rows = []
    circuit = sorted(head_of(head) for head in summary.get("circuit") or [])
    for kind in [*(summary.get("classes") or {}), None]:
        for head in circuit:
            if class_of.get(head) != kind:
                continue
            name = name_of(head)
            row, said = measured.get(name, {}), told.get(name) or {}
            if not row and not said:
                continue
            known = {**{key: row.get(key) for key in _TOLD}, **{k: v for k, v in said.items() if v is not None}}
            rows.append(
                (
                    kind or known.get("class"),
                    name,
                    None if row.get("stage") is None else int(row["stage"]),
                    row.get("stage_effect", known.get("effect")),
                    *(known.get(key) for key in _TOLD[1:]),
                    said.get("sentence"),
                )
            )
    return Sheet("evidence", "What each head of the circuit does, and why it is said to", EVIDENCE, tuple(rows))


_TOLD = ("class", "looks_from", "looks_at", "attention", "copying", "dla")


def _faithful(summary: Mapping[str, Any]) -> Sheet:
    rows, evaluation = [], summary.get("evaluation") or {}
    for how, one in (evaluation.get("faithfulness") or {}).items():
        means = [_mean(one.get(key)) for key in ("whole", "circuit", "empty", "of_whole", "share")]
        share = one.get("share") or {}
        rows.append((how, *means, share.get("low"), share.get("high"), _mean((one.get("random") or {}).get("share"))))
    held_out = bool(summary.get("held_out"))
    where = "On prompts that did not choose the circuit." if held_out else "On the prompts that chose the circuit."
    caption = f"{where} Share: 1 = the circuit does all that the heads do together."
    return Sheet("faithfulness", "Faithfulness", FAITHFUL, tuple(rows), caption)


def _minimal(minimality: Mapping[str, Any]) -> Sheet:
    rows = tuple(
        (
            name_of(head_of(one["head"])),
            one.get("class"),
            one.get("without"),
            one.get("k"),
            *((one.get("change") or {}).get(key) for key in ("mean", "low", "high")),
            one.get("share"),
            one.get("needed"),
        )
        for one in minimality.get("heads") or []
    )
    threshold = minimality.get("threshold")
    caption = "" if threshold is None else f"A head is needed when its largest change reaches {threshold:.0%} of F(M)."
    return Sheet("minimality", "Is every head needed?", MINIMAL, rows, caption)


def _edges(told: Mapping[str, Any]) -> Sheet:
    rows = tuple((name, *one) for name, best in (told.get("top") or {}).items() for one in best)
    caption = f"The largest of {told['edges']:,} edges between {told['nodes']:,} nodes." if rows else ""
    return Sheet("edges", "The largest edges", EDGES, rows, caption)


def _mlps(summary: Mapping[str, Any]) -> Sheet:
    rows = tuple(tuple(one[column.name] for column in MLPS) for one in summary.get("mlps") or [])
    caption = "On the prompts that chose. MLPs are no part of the circuit: they are kept and computed anew."
    return Sheet("mlps", "Effects of the MLPs", MLPS, rows, caption)


def _mean(one: Any) -> float | None:
    return one.get("mean") if isinstance(one, Mapping) else one
