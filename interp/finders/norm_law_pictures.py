"""What the report draws of the norm law. Pure: it only arranges figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from interp.finders.norm_law_config import FIRST
from interp.finders.norm_law_words import NAMES
from interp.findings import Chart, Column, Series, Sheet, Verification

CURVES = (
    ("score", "sink score (attention received)", "Attention the rescaled sinks receive"),
    ("lifetime", "lifetime, layers", "How many layers the rescaled sinks live"),
    ("loss_change", "change in next-token loss, nats", "What the rescaling does to the model"),
)
RULES = "by the sinks finder's rule; a lifetime of 0 means that no sink is left"


def curves(doses: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Chart]:
    """Dose-response: multiple of the natural norm against score, lifetime and loss, a line a group."""
    if not any(doses.values()):
        return []
    made = []
    for measure, label, title in CURVES:
        lines = []
        for group, dose in doses.items():
            if dose:
                values = [one[measure] for one in dose]
                lines.append(
                    Series(
                        f"{NAMES[group]} ({values[0]['n']} prompts)",
                        tuple(one["multiple"] for one in dose),
                        tuple(value["mean"] for value in values),
                        tuple(value["low"] for value in values),
                        tuple(value["high"] for value in values),
                    )
                )
        made.append(
            Chart(
                f"dose.{measure}",
                f"{title}, by the norm given to the forming MLP's output",
                "norm, in multiples of its natural one",
                label,
                tuple(lines),
                f"Each point is a mean over prompts with its 95 % bootstrap interval. At 1 nothing is changed, at 0 "
                f"the MLP writes nothing at the sinks' positions{f'; {RULES}' if measure == 'lifetime' else ''}.",
                marks=((1.0, "natural norm"),),
                equal=0.0 if measure == "loss_change" else None,
            )
        )
    return made


def natural(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """The found sinks as they are: norm of the forming MLP's output against score and lifetime."""
    made = []
    for measure, label in (("score", "sink score (attention received)"), ("lifetime", "lifetime, layers")):
        clouds = []
        for group in ("secondary", "other"):
            own = [row for row in rows if row["group"] == group and row["position"] >= FIRST]
            if own:
                clouds.append(
                    Series(
                        NAMES[group],
                        tuple(row["mlp_norm"] for row in own),
                        tuple(float(row[measure]) for row in own),
                        draw="points",
                        labels=tuple(f"{row['prompt']}, position {row['position']}: {row['token']}" for row in own),
                    )
                )
        if clouds:
            made.append(
                Chart(
                    f"natural.{measure}",
                    f"Sinks as they are: MLP norm and {measure}",
                    "l2 norm of the forming MLP's output",
                    label,
                    tuple(clouds),
                    "One point a found span, all prompts, nothing edited; the anchor and the first three positions are "
                    "left out.",
                    log_x=all(x > 0 for cloud in clouds for x in cloud.x),
                )
            )
    return made


def sheets(
    doses: Mapping[str, Sequence[Mapping[str, Any]]],
    claims: Mapping[str, Any],
    removal: Verification,
    written: Verification,
) -> list[Sheet]:
    """The curves, the correlations and both interventions as tables."""
    made = []
    numbers = [
        _number(f"{measure}_{end}", f"{measure} {end}", f"{text} ({what}).")
        for measure, text in (
            ("norm", "Target norm"),
            ("score", "Attention received, mean over heads and reading layers"),
            ("lifetime", "Lifetime in layers"),
            ("loss_change", "Change in next-token loss, nats"),
        )
        for end, what in (("mean", "mean over prompts"), ("low", "lower end of it"), ("high", "upper end of it"))
    ]
    rows = [
        (
            NAMES[group],
            one["multiple"],
            one["score"]["n"],
            *(one[m][end] for m in ("norm", "score", "lifetime", "loss_change") for end in ("mean", "low", "high")),
        )
        for group, dose in doses.items()
        for one in dose
    ]
    if rows:
        columns = (
            Column("group", "string", "sinks", "Which sinks were rescaled."),
            _number("multiple", "multiple", "Target norm in multiples of the natural one."),
            Column("prompts", "Int64", "prompts", "Prompts with such sinks."),
            *numbers,
        )
        made.append(Sheet("dose", "Dose and response", columns, tuple(rows), "Intervals: 95 % bootstrap over prompts."))
    correlations = tuple(
        (measure, way, claim.get("of"), claim["mean"], claim["low"], claim["high"], claim["n"])
        for measure in ("score", "lifetime")
        for way in ("natural", "causal", "graded")
        for claim in [claims[f"correlation.{measure}.{way}"]]
    )
    columns = (
        Column("measure", "string", "measure", "What the norm is correlated with."),
        Column(
            "way",
            "string",
            "way",
            "natural: over sinks as they are; causal: in each sweep, removal included; graded: in each sweep, over the "
            "multiples above 0 at which the sink lives.",
        ),
        Column("of", "string", "sinks", "Which sinks."),
        _number("rho", "rho", "Spearman's rank correlation with the norm."),
        _number("low", "low", "Lower end of its 95 % bootstrap interval over prompts."),
        _number("high", "high", "Upper end."),
        Column("n", "Int64", "n", "Sinks (natural) or prompts (causal, graded) behind it."),
    )
    made.append(Sheet("correlations", "Norm against score and lifetime", columns, correlations))
    tests = tuple(
        (
            name,
            check.metric,
            check.effect,
            check.control,
            check.difference,
            check.difference_low,
            check.difference_high,
            check.prompts,
            check.verdict,
        )
        for name, check in (("removed", removal), ("written", written))
    )
    columns = (
        Column("edit", "string", "edit", "removed: forming MLP at 0; written: sink direction onto ordinary tokens."),
        Column("metric", "string", "metric", "What is compared."),
        _number("effect", "effect", "Mean over prompts for the sinks or the sink direction."),
        _number("control", "control", "The same for ordinary tokens or random directions."),
        _number("difference", "difference", "Effect minus control, paired by prompt."),
        _number("low", "low", "Lower end of its 95 % bootstrap interval."),
        _number("high", "high", "Upper end."),
        Column("prompts", "Int64", "prompts", "Prompts behind it."),
        Column("verdict", "string", "verdict", "What the comparison says."),
    )
    made.append(Sheet("interventions", "Removing and writing a sink", columns, tests, f"{removal.how} {written.how}"))
    return made


def _number(name: str, label: str, told: str) -> Column:
    return Column(name, "float64", label, told)
