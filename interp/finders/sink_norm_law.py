"""The norm law of attention sinks, causally.

Wong et al. 2025 (arXiv 2512.22213): the length of what the forming MLP writes decides how much attention a secondary
sink draws and how many layers it lives. Here that length is set, and the reverse is tried: a sink is written.

1. Measure. Find the sinks of a prompt of T tokens (`sink_found`). The forming MLP of a span is the one, of the span's
   first block and the `reach` blocks before it, whose output (`hook_mlp_out`, what is added to the residual stream)
   has the largest part along the anchor's state after the first block; note that output's l2 norm, the token's
   sink score (attention received, alpha, mean over heads and over the blocks that read its states) and lifetime.
2. Find. The correlation of norm with score, and with lifetime, over the sinks of all prompts as they are, those
   before position 3 and the anchor left out (Spearman and Pearson; bootstrap over prompts).
3. Check, with the anchor held to the token it is by nature.
   a. Sweep. Give the forming MLP's output at all swept sinks of a prompt a multiple of its own norm (with `joint`, the
      outputs of so many blocks after it as well), one pass a multiple; note score, lifetime (of the span that starts
      within `near` blocks of the natural start; 0 = none), norm of the state, and next-token loss. At multiple 1 the
      pass must equal the unedited one bit for bit.
   b. Removal. Multiple 0 at the sinks, against 0 at as many ordinary tokens in the same blocks.
   c. The reverse. Write the anchor's direction after a forming block, at the length of that block's sinks' states,
      onto ordinary tokens as that block's MLP would; against random directions of the same length.
4. Conclude. Dose-response curves, correlations within each sink's sweep (as removal alone makes them positive, also
   over the multiples above 0 at which the sink still lives), share of written tokens that became sinks, with intervals
   over prompts. Verified when the sinks lose a larger share of their attention by the removal than the
   ordinary tokens do (without swept sinks: when the written direction draws more attention than random ones).

``summary["claims"]``: ``dose`` = one dict a multiple with ``multiple``, ``of`` (group), ``sinks`` and, each {mean, low,
high, n}, ``norm``, ``score``, ``peak``, ``lifetime``, ``state``, ``loss``, ``loss_change``; and, each {mean, low, high,
n}, ``correlation.score.natural``, ``correlation.lifetime.natural`` (n = sinks; ``prompts``, ``pearson`` beside it),
``correlation.score.causal``, ``correlation.lifetime.causal``, ``correlation.score.graded``,
``correlation.lifetime.graded`` (``sinks``, and how many of them are ``flat``, beside it), ``reverse.became_sinks``,
``reverse.received``, ``reverse.random``, ``reverse.random_became_sinks`` (0 by construction: a random direction is not
along the anchor's state), ``reverse.before``; and over the prompts whose direction comes from secondary sinks,
``reverse.secondary.became_sinks``, ``reverse.secondary.received_gain`` (received minus the random directions'). A mean
of None comes with a ``why``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from interp.finders import norm_law_check, norm_law_passes, norm_law_pictures, norm_law_stats, norm_law_words
from interp.finders.base import ModelFacts, Unit
from interp.finders.norm_law_config import COLUMNS, NormLawConfig, swept
from interp.finders.sink_config import Measured, Sink, reading_layers
from interp.finders.sink_found import found_sinks
from interp.findings import Findings
from interp.registry import finder
from probes.base import Prompt


@finder("sink-norm-law", config=NormLawConfig, version="2")
class SinkNormLaw:
    """The finder; see the module docstring and `interp.finders.base.Finder`."""

    def measure(self, model: Any, prompt: Prompt, config: NormLawConfig) -> Unit:
        """1. The sinks of a prompt and the MLP outputs that formed them."""
        found = found_sinks(model, prompt, config)
        spans = []
        if found.anchor is not None:
            formed = norm_law_passes.forming(model, prompt, found.sinks, found.anchor, config.reach)
            for sink, (block, norm) in zip(found.sinks, formed, strict=True):
                spans.append(span(found.measured, sink, block, norm))
        facts = {name: found.unit.facts[name] for name in ("loss", "attention_path")}
        return Unit(facts={**facts, "anchor": found.anchor, "spans": spans, "ordinary": list(found.ordinary)})

    def find(
        self, prompts: Sequence[Prompt], units: Sequence[Unit], config: NormLawConfig, facts: ModelFacts
    ) -> Findings:
        """2. The table, and the correlations nobody intervened for."""
        rows, of_prompt = [], []
        for i, (prompt, unit) in enumerate(zip(prompts, units, strict=True)):
            chosen = {index for indices in swept(unit.facts["spans"], config).values() for index in indices}
            for index, one in enumerate(unit.facts["spans"]):
                at = one["position"]
                told = {"prompt": prompt.name, "token_id": prompt.ids[at], "token": prompt.tokens[at]}
                rows.append({**told, **one, "swept": index in chosen})
                of_prompt.append(i)
        table = pd.DataFrame(rows, columns=[c.name for c in COLUMNS]).astype({c.name: c.dtype for c in COLUMNS})
        summary = {
            "model": facts.name,
            "settings": asdict(config),
            "T": [len(prompt) for prompt in prompts],
            "natural": {
                f"correlation.{measure}.natural": norm_law_stats.natural(rows, of_prompt, measure, config)
                for measure in ("score", "lifetime")
            },
            "attention_path": sorted({unit.facts["attention_path"] for unit in units}),
            "prompts": [
                {"name": prompt.name, **{key: unit.facts[key] for key in ("anchor", "spans", "ordinary", "loss")}}
                for prompt, unit in zip(prompts, units, strict=True)
            ],
        }
        findings = Findings("sink-norm-law", table, COLUMNS, "", summary=summary)
        findings.verdict = norm_law_words.observed(findings)
        findings.caveats = norm_law_words.caveats(findings, prompts, config, facts)
        findings.charts = norm_law_pictures.natural(rows)
        return findings

    def check(self, model: Any, prompt: Prompt, index: int, findings: Findings, config: NormLawConfig) -> Unit | None:
        """3. Sweep, removal, the written direction."""
        return norm_law_check.check(model, prompt, index, findings.summary["prompts"][index], config)

    def conclude(self, findings: Findings, checks: Sequence[Unit | None], config: NormLawConfig) -> Findings:
        """4. Curves, correlations, verdict."""
        prompts = findings.summary["prompts"]
        claims = norm_law_stats.claims(prompts, checks, findings.summary["natural"], config)
        curves = {group: norm_law_stats.doses(prompts, checks, group, config) for group in config.kinds}
        removal, written = (
            made(prompts, checks, config).verification() for made in (norm_law_stats.removal, norm_law_stats.written)
        )
        gaps = [unit.facts["identity"] for unit in checks if unit is not None and unit.facts["identity"] is not None]
        summary = {
            **findings.summary,
            "claims": claims,
            "doses": curves,
            "identity": max(gaps, default=None),
            "removal": norm_law_words.facts_of(removal),
            "written": norm_law_words.facts_of(written),
        }
        done = replace(findings, summary=summary, verification=removal if removal.prompts else written)
        done.arrays = norm_law_stats.arrays(prompts, checks)
        done.verdict = norm_law_words.verdict(done, removal, written)
        done.caveats = findings.caveats + norm_law_words.self_test(summary["identity"])
        done.charts = norm_law_pictures.curves(curves) + findings.charts
        done.sheets = norm_law_pictures.sheets(curves, claims, removal, written)
        return done


def span(measured: Measured, sink: Sink, block: int, norm: float) -> dict[str, Any]:
    """One span as the table and the check take it."""
    mass = measured.received[:, :, sink.position].mean(axis=1, dtype="float64")
    after = mass[sink.start + 1 :]
    group = "anchor" if sink.position == measured.anchor else "secondary" if sink.kind == "secondary" else "other"
    made = {
        "position": sink.position,
        "group": group,
        "start_layer": sink.start,
        "lifetime": sink.lifetime,
        "forming_layer": block,
        "mlp_norm": norm,
        "state_norm": float(measured.norm[sink.start, sink.position]),
        "peak": float(after.max()) if len(after) else 0.0,
        "reading": reading_layers(sink.layers, len(mass)),
    }
    reads = mass[made["reading"]]
    return {**made, "score": float(reads.mean()) if len(reads) else 0.0}


norm_law = SinkNormLaw()
"""What the registry's built-in line points at."""
