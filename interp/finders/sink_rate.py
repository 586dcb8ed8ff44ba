"""The sink rate of natural, random and repeated tokens.

Gu et al. 2024, arXiv 2410.10781, sections 3 and 4: how often the first token is an attention sink, and whether it needs
meaning (random tokens) or a first token unlike the others (one token repeated).

1. Measure. alpha[l,h,k] = sum over queries i >= k of A[l,h,i,k] / (T - k), for k = position 0, the paper's first token
   (it counts from 1 and writes Sink_1), on three kinds of input of T = 64 tokens: the first T of each prompt; T random
   tokens; one random token T times. The first two begin with what the model's BOS policy puts before a text. The third
   does not: it is the paper's, in which all positions hold the same token; where the model puts BOS before a text, it
   is measured after BOS too, as a fourth kind.
2. Find. Sink_1^eps = share of (prompt, layer, head) with alpha[l,h,0] > eps, in percent; the interval is a bootstrap
   over prompts. eps is 0.3; a second eps of 0.8 (Barbero et al. 2025, arXiv 2504.02732) is reported beside it.
3. Check. On natural text, cut attention to position 0 in the layers in which some head's alpha exceeds eps and, apart,
   to an ordinary position in the same layers; note the next-token loss (`sink_rate_check`).
4. Conclude. The sink is verified when the first cut raises the loss more than the second.

``summary["claims"]``: ``sink_rate.natural``, ``sink_rate.random``, ``sink_rate.repeated`` and
``sink_rate.repeated_prefixed`` (after BOS), each {mean, low, high, n, T, eps} in percent; the same names followed by
``.beside`` for the second eps and by ``.mass`` for the mean alpha. None, with ``why``, where not measured. From the
check ``sink_rate.loss_change`` and ``sink_rate.loss_change_control``, nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from interp.finders import sink_rate_check, sink_rate_words
from interp.finders.base import ModelFacts, Unit
from interp.finders.neighbourhood_curves import claim
from interp.finders.sink_rate_measure import COLUMNS, KINDS, SinkRateConfig, measure
from interp.findings import Findings
from interp.registry import finder
from probes.base import Prompt

WHY = {
    "natural": "no prompt has T tokens",
    "repeated_prefixed": "this model puts nothing before a text",
}


@finder("sink-rate", config=SinkRateConfig)
class SinkRate:
    """The finder; see the module docstring and `interp.finders.base.Finder`."""

    def measure(self, model: Any, prompt: Prompt, config: SinkRateConfig) -> Unit:
        """1. The prompt and its counterparts."""
        return measure(model, prompt, config)

    def find(
        self, prompts: Sequence[Prompt], units: Sequence[Unit], config: SinkRateConfig, facts: ModelFacts
    ) -> Findings:
        """2. Sink_1 by kind of input."""
        said: dict[str, dict[str, Any]] = {}
        length = units[0].facts["T"] if units else config.length
        for kind in KINDS:
            alphas = of_kind(units, kind)
            why = WHY.get(kind, "there is no prompt")
            for name, eps in ((kind, config.eps), (f"{kind}.beside", config.beside)):
                percents = [100 * float((alpha > eps).mean()) for alpha in alphas]
                said[f"sink_rate.{name}"] = claim(percents, config.seed, why, T=length, eps=eps)
            masses = [float(alpha.mean(dtype=np.float64)) for alpha in alphas]
            said[f"sink_rate.{kind}.mass"] = claim(masses, config.seed, why, T=length)
        told = [
            {
                "name": prompt.name,
                "T": unit.facts["T"],
                "layers": layers(unit, config.eps),
                "ordinary": unit.facts["ordinary"],
                "loss": unit.facts["loss"],
            }
            for prompt, unit in zip(prompts, units, strict=True)
        ]
        summary = {
            "settings": asdict(config),
            "T": length,
            "prefix": units[0].facts["prefix"] if units else "",
            "prompts": told,
            "claims": said,
        }
        table = by_kind(said, units, facts)
        kept = {
            f"{name}.{i}": a for i, unit in enumerate(units[: config.keep_arrays]) for name, a in unit.arrays.items()
        }
        findings = Findings("sink-rate", table, COLUMNS, "", kept, summary)
        findings.verdict = sink_rate_words.verdict(findings, facts, config)
        findings.caveats = sink_rate_words.caveats(findings, prompts, facts)
        findings.charts = sink_rate_words.charts(units, config)
        findings.heatmaps = sink_rate_words.heatmaps(units)
        return findings

    def check(self, model: Any, prompt: Prompt, index: int, findings: Findings, config: SinkRateConfig) -> Unit | None:
        """3. Losses under the cuts."""
        return sink_rate_check.check(model, prompt, index, findings, config)

    def conclude(self, findings: Findings, checks: Sequence[Unit | None], config: SinkRateConfig) -> Findings:
        """4. Verdict of the check."""
        verification = sink_rate_check.effects(findings, checks, config).verification()
        rows, none = verification.per_prompt, "position 0 is no sink on natural text, or there is no control"
        effects = {
            "sink_rate.loss_change": claim([row["effect"] for row in rows], config.seed, none),
            "sink_rate.loss_change_control": claim([row["control"] for row in rows], config.seed, none),
        }
        return replace(
            findings,
            verification=verification,
            summary={**findings.summary, "claims": {**findings.summary["claims"], **effects}},
            verdict=f"{findings.verdict} {sink_rate_words.effect_sentence(verification)}",
        )


def of_kind(units: Sequence[Unit], kind: str) -> list[np.ndarray]:
    """Alpha at position 0 [layer, head] of every input of one kind."""
    return [unit.arrays[f"alpha.{kind}"] for unit in units if f"alpha.{kind}" in unit.arrays]


def layers(unit: Unit, eps: float) -> list[int]:
    """Layers in which some head gives position 0 of the natural input more than eps."""
    alpha = unit.arrays.get("alpha.natural")
    return [] if alpha is None else [int(i) for i in np.flatnonzero((alpha > eps).any(axis=1))]


def by_kind(said: dict[str, dict[str, Any]], units: Sequence[Unit], facts: ModelFacts) -> pd.DataFrame:
    """The table: one row for each kind of input that was measured."""
    rows = []
    before = units[0].facts["prefix"] if units else ""
    for kind, label in KINDS.items():
        rate, mass = said[f"sink_rate.{kind}"], said[f"sink_rate.{kind}.mass"]
        if rate["mean"] is None:
            continue
        own = {"natural": facts.position0, "random": "a random token", "repeated": "the repeated token"}
        first = own[kind] if kind in ("natural", "repeated") or not before else before
        rows.append(
            {
                "kind": label,
                "first": first,
                "prompts": rate["n"],
                "T": rate["T"],
                "sink_rate": rate["mean"],
                "low": rate["low"],
                "high": rate["high"],
                "sink_rate_beside": said[f"sink_rate.{kind}.beside"]["mean"],
                "mass": mass["mean"],
                "mass_low": mass["low"],
                "mass_high": mass["high"],
            }
        )
    return pd.DataFrame(rows, columns=[c.name for c in COLUMNS]).astype({c.name: c.dtype for c in COLUMNS})


sink_rate = SinkRate()
"""What the registry's built-in line points at."""
