"""What the report draws of formation: charts and further tables, from numbers that are already there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.finders.base import Unit
from interp.finders.formation_config import MEANING, QUANTITIES, FormationConfig
from interp.finders.formation_pca import Inputs, scales
from interp.findings import Chart, Column, Findings, Series, Sheet


def cosine_chart(claims: dict[str, Any]) -> Chart:
    """Cosine with the anchor by quantity, sinks against controls, with intervals over prompts."""
    names = [name for name in QUANTITIES if claims[f"cosine.{name}.sinks"]["mean"] is not None]
    series = []
    for side, label in (("sinks", "sinks"), ("controls", "controls")):
        found = [claims[f"cosine.{name}.{side}"] for name in names]
        series.append(
            Series(
                label,
                tuple(float(i) for i in range(len(names))),
                tuple(one["mean"] for one in found),
                tuple(one["low"] for one in found),
                tuple(one["high"] for one in found),
                "points",
            )
        )
    return Chart(
        "cosine-by-quantity",
        "Where in the block a sink becomes like the anchor",
        "quantity, in the order of the forward pass",
        "cosine with the anchor's, same block",
        tuple(series),
        "Each quantity in a sink's forming block, against the anchor's in the same block: mean over prompts with 95 % "
        "bootstrap intervals. Where sinks rise above their controls, the block has told them apart.",
        x_names=tuple(MEANING[name] for name in names),
        equal=0.0,
    )


def cosine_sheet(claims: dict[str, Any]) -> Sheet:
    """The same numbers, with the difference, and why a quantity is missing."""
    columns = [Column("quantity", "string", "quantity", "What is compared with the anchor's, in the forming block.")]
    for side, label in (("sinks", "sinks"), ("controls", "controls"), ("difference", "difference")):
        for part, end in (("mean", ""), ("low", ", from"), ("high", ", to")):
            columns.append(
                Column(f"{side}_{part}", "float64", label + end, f"{label}{end}: mean over prompts, cosine.")
            )
    columns.append(Column("prompts", "Int64", "prompts", "Prompts with such a sink and a control."))
    columns.append(Column("missing", "string", "missing because", "Why the model has no such quantity."))
    rows = []
    for name in QUANTITIES:
        found = [claims[f"cosine.{name}.{side}"] for side in ("sinks", "controls", "difference")]
        numbers = [one[part] for one in found for part in ("mean", "low", "high")]
        rows.append((MEANING[name], *numbers, found[0]["n"], found[0].get("why")))
    caption = "Cosine of sinks beside the anchor, and of their controls, with the anchor in the same block."
    return Sheet("formation-cosines", "Cosines in the forming block", tuple(columns), tuple(rows), caption)


def former_sheet(rows: Sequence[Sequence[dict[str, Any]]]) -> Sheet:
    """Which modules formed how many sinks, and with what shares."""
    columns = (
        Column("block", "Int64", "block", "Forming block."),
        Column("formed_by", "string", "formed by", "The module named; missing where the block did not form them."),
        Column("kind", "string", "kind", "Kind of the sinks; anchor = the anchor's own spans."),
        Column("sinks", "Int64", "sinks", "How many spans."),
        Column("mlp_share", "float64", "MLP share", "Mean share of the gain along the new state that the MLP wrote."),
        Column("attention_share", "float64", "attention share", "The same for attention."),
        Column("carried", "float64", "carried", "Mean share of the new state that was there before the block."),
    )
    groups: dict[tuple[int, str, str | None], list[dict[str, Any]]] = {}
    for row in (row for told in rows for row in told):
        key = (row["start"], "anchor" if row["anchor"] else row["kind"], row["formed_by"])
        groups.setdefault(key, []).append(row)
    made = [
        (
            block,
            module,
            kind,
            len(found),
            *(None if module is None else _mean([row[name] for row in found]) for name in ("mlp", "attention")),
            _mean([row["carried"] for row in found]),
        )
        for (block, kind, module), found in sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1])))
    ]
    caption = "Shares add up to 1; none are given where nobody is named, for those of next to nothing mean nothing."
    return Sheet("formed-by", "Who formed the sinks", columns, tuple(made), caption)


def expert_sheet(found: Sequence[dict[str, Any]]) -> Sheet:
    """Experts that fired at the sinks."""
    columns = (
        Column("block", "Int64", "block", "Forming block."),
        Column("expert", "string", "expert", "Index of the expert; shared = one that sees every token."),
        Column("fired", "Int64", "fired at", "Sinks that were sent to it."),
        Column("sinks", "Int64", "of sinks", "Sinks formed in this block."),
        Column("weight", "float64", "routing weight", "Mean routing weight where it fired."),
        Column(
            "share", "float64", "share", "Mean share of what the MLP wrote along the sink's new state, where it fired."
        ),
    )
    rows = tuple(
        (e["block"], "shared" if e["expert"] < 0 else str(e["expert"]), e["fired"], e["sinks"], e["weight"], e["share"])
        for e in found
    )
    return Sheet("experts", "Experts that fired at the sinks", columns, rows)


def scatter(inputs: Inputs, scores: np.ndarray, explained: Sequence[float]) -> Chart:
    """MLP inputs on their first two principal components."""
    n = len(inputs.sinks)
    second = scores[:, 1] if scores.shape[1] > 1 else np.zeros(2 * n)
    series = tuple(
        Series(name, tuple(scores[part, 0].tolist()), tuple(second[part].tolist()), draw="points", labels=labels)
        for name, part, labels in (
            ("sinks", slice(0, n), inputs.labels),
            ("controls", slice(n, 2 * n), tuple(f"control of {label}" for label in inputs.labels)),
        )
    )
    shares = [f"{100 * share:.0f} %" for share in [*explained, 0.0][:2]]
    return Chart(
        f"mlp-inputs-{inputs.key}",
        f"MLP inputs of block {inputs.block}: {n} {inputs.among} and as many controls",
        f"component 1 ({shares[0]} of the variance)",
        f"component 2 ({shares[1]})",
        series,
        "Principal components of the centred inputs; every point is one token."
        + (f" {inputs.anchors} of the sinks are the anchor itself." if inputs.anchors else ""),
    )


def sweep_charts(told: dict[str, Any], examined: Unit, config: FormationConfig) -> list[Chart]:
    """Norm of the MLP's output, and its cosine with the anchor's, over the scale of each component."""
    factors = tuple(scales(config).astype(float).tolist())
    made = []
    for name, label, tail in (
        ("cosine", "cosine with the anchor's MLP output", f"Effective: beyond {config.effective:g} at scale 1 or -1."),
        ("norm", "norm of the MLP's output", "Scale 0 is a zero input."),
    ):
        values = examined.arrays[f"{name}.{told['key']}"]
        series = tuple(
            Series(f"component {i + 1}", factors, tuple(float(v) if np.isfinite(v) else None for v in row))
            for i, row in enumerate(values)
        )
        made.append(
            Chart(
                f"sweep-{name}-{told['key']}",
                f"Block {told['block']}: components of the MLP's input at {told['among']}, scaled",
                "scale of the unit component",
                label,
                series,
                "Each component alone, times the scale, put where the MLP reads (after its norm). " + tail,
                log_y=False,
            )
        )
    return made


def component_sheet(signed: Sequence[dict[str, Any]], config: FormationConfig) -> Sheet:
    """Signed unit components and what the MLP makes of them."""
    columns = (
        Column("block", "Int64", "block", "Forming block whose MLP it is."),
        Column("among", "string", "inputs of", "All sinks of the block, or the secondary ones alone."),
        Column("component", "Int64", "component", "Number of the principal component, the largest first."),
        Column("sign", "string", "sign", "+ is the sinks' side."),
        Column("explained", "float64", "variance", "Share of the inputs' variance along it."),
        Column("norm", "float64", "output norm", "Norm of the MLP's output for the unit component."),
        Column("cosine", "float64", "cosine", "Of that output with the anchor's own MLP output."),
        Column(
            "direction", "float64", "cosine with state", "Of what is added with the anchor's state after the block."
        ),
        Column("effective", "boolean", "effective", f"Whether |cosine| exceeds {config.effective:g}."),
    )
    rows = tuple(tuple(one[column.name] for column in columns) for one in signed)
    caption = "Principal components of the centred MLP inputs, each signed unit vector fed through that MLP alone."
    return Sheet("components", "Directions that make the MLP write the sink", columns, rows, caption)


def with_examined(
    findings: Findings, examined: Unit, signed: Sequence[dict[str, Any]], config: FormationConfig
) -> None:
    """Add to `findings` what `examine` measured."""
    for told in findings.summary["pca"][: config.draw]:
        if told["explained"]:
            findings.charts.extend(sweep_charts(told, examined, config))
    if signed:
        findings.sheets.append(component_sheet(signed, config))
    findings.arrays.update({f"sweep.{name}": values for name, values in examined.arrays.items()})


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
