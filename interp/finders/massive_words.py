"""What is said and drawn of massive activations. Pure: it only arranges what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.finders.base import ModelFacts, Unit
from interp.finders.massive_check import EDITS, changes
from interp.finders.massive_measure import TOP, MassiveConfig
from interp.finders.neighbourhood_curves import curve, estimate, stacked
from interp.finders.sink_words import LONGEST_NAME, count, lengths
from interp.findings import Chart, Column, Findings, Series, Sheet, Verification
from interp.text import printable
from probes.base import Prompt

DIMS = (
    Column("dim", "Int64", "dimension", "Dimension of the residual stream, 0-based."),
    Column("rows", "Int64", "massive activations", "How many massive activations it holds over all prompts."),
    Column("prompts", "Int64", "prompts", "In how many prompts."),
    Column("at_sinks", "Int64", "at sinks", "How many of them belong to a token that is an attention sink."),
    Column("value", "float64", "mean value", "Mean of their largest values, sign included."),
)
LARGEST = (
    Column("prompt", "string", "prompt", "Name of the prompt."),
    Column("layer", "Int64", "layer", "Block whose output holds the largest ratio; 0-based."),
    Column("position", "Int64", "position", "0-based position of the token."),
    Column("token", "string", "token", "The token as text."),
    Column("dim", "Int64", "dimension", "Dimension of the residual stream."),
    Column("value", "float64", "value", "The activation, sign included."),
    Column("ratio", "float64", "ratio", "Its magnitude over the median magnitude of its hidden state."),
)

SAME = 0.001
"""Activations that differ from their mean by a smaller share of their size are as good as equal to it."""


def verdict(findings: Findings, facts: ModelFacts, config: MassiveConfig) -> str:
    """How many prompts have massive activations, in which dimensions, where, and the largest ratio seen."""
    table, prompts = findings.table, findings.summary["prompts"]
    name = printable(facts.name, LONGEST_NAME)
    told = max(prompts, key=lambda one: one["largest"][4], default=None)
    criterion = f"(|x| > {config.size:g} and at least {config.ratio:g} times the median)"
    largest = ""
    if told is not None:
        layer, position, dim, value, ratio = told["largest"]
        largest = (
            f" The largest is {value:.4g}, {ratio:.4g} times the median: block {layer}, position {position}, dimension "
            f"{dim}."
        )
    if len(table) == 0:
        return (
            f"No massive activation was found in {name}, {count(len(prompts), 'prompt')} of "
            f"{lengths(findings.summary['T'])}. The criterion {criterion} is absolute in size and was set on larger "
            f"models.{largest.replace('The largest is', 'The largest ratio is that of')}"
        )
    having = len(set(table["prompt"]))
    by_dim = Counter(int(dim) for dim in table["dim"])
    dims = ", ".join(str(dim) for dim, _ in by_dim.most_common(6)) + (", ..." if len(by_dim) > 6 else "")
    places = Counter(int(position) for position in table["position"])
    place, times = places.most_common(1)[0]
    at_sinks = int((table["sink"] != "no").sum())
    meeting = len(table) + sum(one["left_out"] for one in prompts)
    return (
        f"{name} has massive activations in {having} of {count(len(prompts), 'prompt')}, in "
        f"{count(len(by_dim), 'dimension')} ({dims}). "
        f"{count(meeting, '(token, dimension) pair')} {'meets' if meeting == 1 else 'meet'} the criterion {criterion}; "
        f"of the {len(table)} listed {times} {'is' if times == 1 else 'are'} at position {place} and {at_sinks} at "
        f"attention sinks.{largest}"
    )


def caveats(findings: Findings, prompts: Sequence[Prompt], config: MassiveConfig) -> list[str]:
    """What a reader must know beside the verdict."""
    said = []
    left_out = sum(one["left_out"] for one in findings.summary["prompts"])
    if left_out:
        said.append(f"The {config.most} largest of a prompt are listed and edited; {left_out} more met the criterion.")
    if len(findings.table):
        said.append(
            "The mean an activation is set to is that of the other prompts' massive activations of the same dimension "
            "that first appear in the same block; one without such others is left as it is."
        )
    apart = findings.summary["claims"]["massive.deviation"]["mean"]
    if apart is not None and apart < SAME:
        said.append(
            f"They differ from that mean by {apart:.2g} of their size on average, so setting them to it is close to no "
            "edit at all: the state of a token that every prompt begins with depends on nothing else."
        )
    short = sum(prompt.truncated for prompt in prompts)
    if short:
        said.append(f"{count(short, 'prompt')} {'was' if short == 1 else 'were'} truncated; what follows was not seen.")
    return said


def sizes_chart(units: Sequence[Unit], config: MassiveConfig) -> Chart:
    """Top-3 magnitudes and the median by block."""
    top = stacked([unit.arrays["top"] for unit in units])
    names = ["largest", "second", "third"]
    series = [curve(f"{names[i]} magnitude", top[:, :, i], config.seed) for i in range(TOP)]
    series.append(curve("median magnitude", stacked([unit.arrays["median"] for unit in units]), config.seed))
    return Chart(
        "massive_sizes",
        "Largest and median magnitudes of the hidden state",
        "block (its output)",
        "magnitude |x|",
        tuple(series),
        "Means over prompts with 95 % bootstrap intervals. Massive activations show as a gap of orders of magnitude "
        "between the upper curves and the median.",
        log_y=True,
    )


def edits_chart(checks: Sequence[Unit | None], config: MassiveConfig) -> Chart | None:
    """Change in loss under each edit; None when none was made."""
    found = [estimate(changes(checks, name), config.seed) for name in EDITS]
    if all(one is None for one in found):
        return None
    at = [(i, one) for i, one in enumerate(found) if one is not None]
    series = Series(
        "change in loss",
        tuple(float(i) for i, _ in at),
        tuple(one.mean for _, one in at),
        tuple(one.low for _, one in at),
        tuple(one.high for _, one in at),
        "points",
    )
    return Chart(
        "massive_edits",
        "Next-token loss under each edit",
        "edit",
        "change in loss, nats",
        (series,),
        "Means over prompts with 95 % bootstrap intervals. As published, zeroing the massive activations destroys the "
        "model's predictions while setting them to their mean does not: they act as constants.",
        x_names=tuple(EDITS.values()),
        equal=0.0,
    )


def sheets(table: pd.DataFrame, prompts: Sequence[Prompt], told: Sequence[dict[str, Any]]) -> list[Sheet]:
    """Massive dimensions, and the largest ratio of every prompt."""
    rows = []
    for dim, group in table.groupby("dim"):
        sinks = int((group["sink"] != "no").sum())
        rows.append((int(str(dim)), len(group), len(set(group["prompt"])), sinks, float(group["value"].mean())))
    rows.sort(key=lambda row: (-row[1], row[0]))
    largest = []
    for prompt, one in zip(prompts, told, strict=True):
        layer, position, dim, value, ratio = one["largest"]
        largest.append((prompt.name, layer, position, prompt.tokens[position], dim, value, ratio))
    made = [Sheet("massive_dims", "Massive dimensions", DIMS, tuple(rows), "All prompts together.")] if rows else []
    return [
        *made,
        Sheet(
            "massive_largest",
            "The largest ratio of each prompt",
            LARGEST,
            tuple(largest),
            "The single activation with the largest ratio to the median, whether or not it meets the criterion.",
        ),
    ]


def effect_sentence(check: Verification, checks: Sequence[Unit | None], config: MassiveConfig) -> str:
    """What the edits did."""
    if check.effect is None or check.control is None:
        return "There was nothing to verify."
    mean = estimate(changes(checks, "mean"), config.seed)
    said = (
        f"Setting them to zero changes the next-token loss by {nats(check.effect, check.effect_low, check.effect_high)}"
        f", setting as many ordinary ones by {nats(check.control, check.control_low, check.control_high)}: "
        f"{check.verdict} ({count(check.prompts, 'prompt')}, 95 % bootstrap intervals)."
    )
    if mean is None:
        return f"{said} No other prompt has the same ones, so there is no mean to set them to."
    number = int(np.isfinite(changes(checks, "mean")).sum())
    return (
        f"{said} Setting them to their mean changes it by {nats(mean.mean, mean.low, mean.high)} "
        f"({count(number, 'prompt')})."
    )


def nats(mean: float, low: float | None, high: float | None) -> str:
    """``+1.234 nats (+1.000 to +1.500)``."""
    return f"{mean:+.3f} nats ({low:+.3f} to {high:+.3f})"
