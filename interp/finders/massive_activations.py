"""Massive activations.

Sun et al. 2024, arXiv 2402.17762: a few numbers of the residual stream, in fixed dimensions and at few tokens, are
orders of magnitude larger than all others and act as constants of the model. They stand at attention sinks.

1. Measure. Two passes a prompt: the sinks (`sink_found`), and every block's output h[l], [token, dimension].
2. Find. h[l][i,d] is massive when |h[l][i,d]| > `size` and at least `ratio` times the median of |h[l]| over all tokens
   and dimensions (section 2; 100 and 1,000). One row for each (prompt, token i, dimension d) that is massive after
   some block: from which block to which, the value where it is largest, and whether the token is a sink.
3. Check. Set exactly these activations, in the output of the block where each first appears, to zero; to their mean,
   that over the *other* prompts' massive activations of the same dimension that first appear in the same block (one
   without such others is left as it is); and set as many ordinary activations to zero (`massive_check`). Note the
   next-token loss.
4. Conclude. Verified when zeroing the massive ones raises the loss more than zeroing the ordinary ones. Published:
   zeroing destroys the model, setting to the mean does not.

``summary["claims"]``: ``massive.prompts_with`` (share of prompts that have any), ``massive.at_sinks`` (share of a
prompt's massive activations that stand at sinks), ``massive.largest_ratio`` (to the median, whether massive or not),
``massive.deviation`` (how far they are from their mean where they first appear, relative to their size),
``massive.zero``, ``massive.mean``, ``massive.control``, ``massive.control_beside``, ``massive.control_elsewhere``
(changes of the loss, nats). Each is {mean, low, high, n}, over
prompts; None, with ``why``, where not measurable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from interp.finders import massive_check, massive_words
from interp.finders.base import ModelFacts, Unit
from interp.finders.massive_measure import COLUMNS, MassiveConfig, measure, over
from interp.finders.neighbourhood_curves import claim
from interp.findings import Findings
from interp.registry import finder
from probes.base import Prompt

NO_OTHERS = "no two prompts have the same massive activations"


@finder("massive-activations", config=MassiveConfig)
class MassiveActivations:
    """The finder; see the module docstring and `interp.finders.base.Finder`."""

    reads = 3.0  # every block's output, in half precision with a copy in float32

    def measure(self, model: Any, prompt: Prompt, config: MassiveConfig) -> Unit:
        """1. Two passes."""
        return measure(model, prompt, config)

    def find(
        self, prompts: Sequence[Prompt], units: Sequence[Unit], config: MassiveConfig, facts: ModelFacts
    ) -> Findings:
        """2. One row a massive (token, dimension)."""
        rows = [row(prompt, unit, number) for prompt, unit in zip(prompts, units, strict=True) for number in each(unit)]
        table = pd.DataFrame(rows, columns=[c.name for c in COLUMNS]).astype({c.name: c.dtype for c in COLUMNS})
        told = [told_of(prompts, units, index) for index in range(len(prompts))]
        shares = [np.nan if not one["entries"] else one["at_sinks"] / len(one["entries"]) for one in told]
        having = [float(bool(one["entries"])) for one in told]
        none = "no massive activation was found"
        summary = {
            "settings": asdict(config),
            "T": [len(prompt) for prompt in prompts],
            "prompts": told,
            "claims": {
                "massive.prompts_with": claim(having, config.seed, "no prompt"),
                "massive.at_sinks": claim(shares, config.seed, none),
                "massive.largest_ratio": claim([one["largest"][4] for one in told], config.seed, "no prompt"),
                "massive.deviation": claim([deviation(one["entries"]) for one in told], config.seed, NO_OTHERS),
            },
        }
        findings = Findings("massive-activations", table, COLUMNS, "", {}, summary)
        for i, unit in enumerate(units[: config.keep_arrays]):
            findings.arrays[f"top.{i}"], findings.arrays[f"median.{i}"] = unit.arrays["top"], unit.arrays["median"]
        findings.verdict = massive_words.verdict(findings, facts, config)
        findings.caveats = massive_words.caveats(findings, prompts, config)
        findings.charts = [massive_words.sizes_chart(units, config)] if units else []
        findings.sheets = massive_words.sheets(table, prompts, told)
        return findings

    def check(self, model: Any, prompt: Prompt, index: int, findings: Findings, config: MassiveConfig) -> Unit | None:
        """3. Losses under the edits."""
        return massive_check.check(model, prompt, index, findings, config)

    def conclude(self, findings: Findings, checks: Sequence[Unit | None], config: MassiveConfig) -> Findings:
        """4. Verdict of the check."""
        names = [one["name"] for one in findings.summary["prompts"]]
        verification = massive_check.effects(names, checks, config).verification()
        zero, mean = (massive_check.changes(checks, name) for name in ("zero", "mean"))
        beside, elsewhere = (massive_check.changes(checks, name) for name in ("beside", "elsewhere"))
        control = [one["control"] for one in verification.per_prompt]
        none = "no massive activation to edit"
        effects = {
            "massive.zero": claim(zero, config.seed, none),
            "massive.mean": claim(mean, config.seed, NO_OTHERS),
            "massive.control": claim(control, config.seed, none),
            "massive.control_beside": claim(beside, config.seed, none),
            "massive.control_elsewhere": claim(elsewhere, config.seed, none),
        }
        drawn = massive_words.edits_chart(checks, config)
        return replace(
            findings,
            verification=verification,
            summary={**findings.summary, "claims": {**findings.summary["claims"], **effects}},
            verdict=f"{findings.verdict} {massive_words.effect_sentence(verification, checks, config)}",
            charts=[*findings.charts, *([drawn] if drawn else [])],
        )


def each(unit: Unit) -> range:
    """Numbers of a unit's massive activations."""
    return range(len(unit.arrays["position"]))


def span(unit: Unit, number: int) -> np.ndarray:
    """The blocks [n], ascending, in which one of them is massive."""
    return np.flatnonzero(unit.arrays["massive"][:, number])


def row(prompt: Prompt, unit: Unit, number: int) -> dict[str, Any]:
    """One row of the table."""
    arrays, layers = unit.arrays, span(unit, number)
    position = int(arrays["position"][number])
    values = arrays["values"][:, number]
    peak = int(layers[np.abs(values[layers]).argmax()])
    return {
        "prompt": prompt.name,
        "position": position,
        "token_id": prompt.ids[position],
        "token": prompt.tokens[position],
        "dim": int(arrays["dim"][number]),
        "first_layer": int(layers[0]),
        "last_layer": int(layers[-1]),
        "layers": len(layers),
        "value": float(values[peak]),
        "ratio": over(abs(float(values[peak])), float(arrays["median"][peak])),
        "sink": dict(map(tuple, unit.facts["sinks"])).get(position, "no"),
    }


def told_of(prompts: Sequence[Prompt], units: Sequence[Unit], index: int) -> dict[str, Any]:
    """What the summary says of one prompt, and what the causal check goes by; means are over the other prompts."""
    unit = units[index]
    others: dict[tuple[int, int], list[float]] = {}
    for other, one in enumerate(units):
        for number in each(one) if other != index else ():
            first = int(span(one, number)[0])
            others.setdefault((first, int(one.arrays["dim"][number])), []).append(
                float(one.arrays["values"][first, number])
            )
    entries = []
    for number in each(unit):
        first, dim = int(span(unit, number)[0]), int(unit.arrays["dim"][number])
        alike = others.get((first, dim))
        entries.append(
            {
                "position": int(unit.arrays["position"][number]),
                "dim": dim,
                "first": first,
                "value": float(unit.arrays["values"][first, number]),
                "mean": float(np.mean(alike)) if alike else None,
            }
        )
    massive_at = {one["position"] for one in entries}
    sinks = {position for position, _ in unit.facts["sinks"]}
    return {
        "name": prompts[index].name,
        "T": len(prompts[index]),
        "loss": unit.facts["loss"],
        "largest": unit.facts["largest"],
        "left_out": unit.facts["left_out"],
        "entries": entries,
        "at_sinks": sum(one["position"] in sinks for one in entries),
        "ordinary": [position for position in unit.facts["ordinary"] if position not in massive_at],
    }


def deviation(entries: Sequence[dict[str, Any]]) -> float:
    """Mean distance of activations from what they are set to, relative to their size; NaN without any."""
    known = [abs(one["mean"] - one["value"]) / abs(one["value"]) for one in entries if one["mean"] is not None]
    return float(np.mean(known)) if known else float("nan")


massive_activations = MassiveActivations()
"""What the registry's built-in line points at."""
