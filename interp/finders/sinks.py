"""Attention sinks, primary and secondary.

Gu et al. 2024 (arXiv 2410.10781) define how much attention a key receives and when a model has a sink; Wong et al.
2025 (arXiv 2512.22213) describe secondary sinks. The relative rule (`sink_rules`, the default) and the released one
(`sink_wong2025`) say which tokens are sinks.

1. Measure. One traced pass a prompt of T tokens, A[l,h,i,k] being the attention of query i on key k: alpha[l,h,k] =
   sum over i >= k of A[l,h,i,k] / (T - k); the length of every state H[l,k], the output of block l (never the
   final-normed copy); its cosine with the anchor's state. The anchor, the primary sink, is chosen by the rule from
   what it receives and how long its states are: it need not be position 0. A second pass reads the blocks where its
   sinks start, for the share of MLP and attention in what was added along their state (`formation_short`).
2. Find.
   a. Apply the rule. It gives spans: the blocks that leave a token in a sink's state. A state that block l leaves is
      read by the attention of block l + 1, so a span of blocks s..e draws attention in blocks s+1..e+1.
   b. Describe each span: mean cosine and norm over its blocks; mean alpha, and the share of heads with alpha > eps,
      where it is read.
   c. Sink_k^eps = share of (prompt, layer, head) with alpha[l,h,k] > eps, in percent (Gu et al., section 3), for k =
      0 and the anchor.
   d. Levels: the (start, lifetime) pairs that recur over prompts (Wong et al.), of all sinks and of the secondary
      ones alone, with their stability over bootstrap resamples of the prompts. ``summary["claims"]`` holds
      ``secondary_levels``: the number ``found``, and ``mean``, ``low``, ``high`` over resamples of ``n`` prompts.
3. Check. Where they are read, cut attention to the sinks of a prompt and, apart, to as many ordinary positions
   nearby; note the next-token loss (`sink_check`).
4. Conclude. The sinks are verified when cutting them raises the loss more than cutting the others does, by an
   interval over prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from interp.finders import formation_short, sink_check, sink_levels, sink_pictures, sink_rules, sink_words
from interp.finders.base import ModelFacts, Unit
from interp.finders.sink_config import COLUMNS, Measured, Sink, SinksConfig, reading_layers
from interp.finders.sink_measure import RULES, measure, measured
from interp.findings import Findings
from interp.registry import finder
from probes.base import Prompt


@finder("sinks", config=SinksConfig, version="2")
class Sinks:
    """The finder; see the module docstring and `interp.finders.base.Finder`."""

    def measure(self, model: Any, prompt: Prompt, config: SinksConfig) -> Unit:
        """1. One traced pass; and another, at the blocks where sinks start, on what formed them."""
        unit = measure(model, prompt, config)
        unit.facts["formation"] = formation_short.formation(model, prompt, unit, config) if config.formation else []
        return unit

    def find(
        self, prompts: Sequence[Prompt], units: Sequence[Unit], config: SinksConfig, facts: ModelFacts
    ) -> Findings:
        """2. Sinks, their levels and Sink_k."""
        taken = [measured(unit) for unit in units]
        found = [RULES[config.rule].find(one, config) for one in taken]  # 2a
        rows = [
            row(prompt, one, sink, config)
            for prompt, one, sinks in zip(prompts, taken, found, strict=True)
            for sink in sinks
        ]  # 2b
        of_prompt = [i for i, sinks in enumerate(found) for _ in sinks]
        pairs = [(r["start_layer"], r["lifetime"]) for r in rows]
        numbers, heads = sink_levels.levels(pairs)  # 2d
        shares, level_count = sink_levels.stability(pairs, of_prompt, len(prompts), heads, config.seed)
        for r, number in zip(rows, numbers, strict=True):
            r["level"] = number
        levels = sink_levels.with_stability(sink_levels.describe(rows, heads, of_prompt, len(prompts)), shares)
        secondary, number = sink_levels.secondary_levels(rows, of_prompt, len(prompts), config.seed)
        table = pd.DataFrame(rows, columns=[c.name for c in COLUMNS]).astype({c.name: c.dtype for c in COLUMNS})
        has_anchor = [one for one, sinks in zip(taken, found, strict=True) if sinks and one.anchor is not None]
        anchor_mass = mean_mass([one.received[:, :, one.anchor] for one in has_anchor])
        secondary_mass = mean_mass(
            [
                one.received[:, :, sink.position]
                for one, sinks in zip(taken, found, strict=True)
                for sink in sinks
                if sink.kind == "secondary"
            ]
        )
        summary = {
            "rule": config.rule,
            "settings": asdict(config),
            "T": [len(prompt) for prompt in prompts],
            "eps": config.eps,
            "sink_rate": sink_rate(taken, has_anchor, config.eps),  # 2c
            "anchor_mass": None if anchor_mass is None else anchor_mass.tolist(),
            "levels": levels,
            "level_count": level_count,
            "secondary_levels": secondary,
            "claims": {"secondary_levels": number},
            "bridged": sum(sink.bridged > 0 for sinks in found for sink in sinks),
            "heads_drawn": sink_pictures.heads_drawn(anchor_mass, secondary_mass, config.heads_drawn),
            "formation": formation_short.groups([row for unit in units for row in unit.facts["formation"]]),
            "attention_path": sorted({unit.facts["attention_path"] for unit in units}),
            "prompts": [told(*each, config) for each in zip(prompts, units, taken, found, strict=True)],
        }
        findings = Findings("sinks", table, COLUMNS, "", arrays(taken[: config.keep_arrays]), summary)
        said = [sink_words.verdict(findings, facts), formation_short.sentence(summary["formation"])]
        findings.verdict = " ".join(text for text in said if text)
        findings.caveats = sink_words.caveats(findings, prompts, taken, config, facts)
        findings.heatmaps = sink_pictures.heatmaps(prompts, taken, anchor_mass, table, config)
        findings.strips = sink_pictures.strips(prompts, taken, found, config)
        findings.sheets += [sink_levels.sheet(levels, secondary)] if levels else []
        findings.sheets += [formation_short.sheet(summary["formation"])] if summary["formation"] else []
        return findings

    def check(self, model: Any, prompt: Prompt, index: int, findings: Findings, config: SinksConfig) -> Unit | None:
        """3. Losses under the cuts."""
        return sink_check.check(model, prompt, index, findings, config)

    def conclude(self, findings: Findings, checks: Sequence[Unit | None], config: SinksConfig) -> Findings:
        """4. Verdict of the check; effects of primary and secondary sinks apart go to the summary."""
        effects = {kind: sink_check.effects(findings, checks, kind, config).verification() for kind in sink_check.KINDS}
        verification = effects.pop("all")
        if verification.prompts == 0 and any(one["sinks"]["all"] for one in findings.summary["prompts"]):
            verification = replace(verification, verdict="not run", how=sink_check.NO_CONTROL)
        return replace(
            findings,
            verification=verification,
            summary={
                **findings.summary,
                "effects": {kind: sink_words.effect_facts(effect) for kind, effect in effects.items()},
            },
            verdict=f"{findings.verdict} {sink_words.effect_sentences(verification, effects['secondary'])}",
            strips=sink_pictures.with_patterns(findings.strips, checks),
        )


def row(prompt: Prompt, one: Measured, sink: Sink, config: SinksConfig) -> dict[str, Any]:
    """One row of the table, `level` still to come (2b)."""
    life = list(sink.layers)
    alpha = one.received[reading_layers(sink.layers, len(one.norm)), :, sink.position]
    return {
        "prompt": prompt.name,
        "position": sink.position,
        "token_id": prompt.ids[sink.position],
        "token": prompt.tokens[sink.position],
        "kind": sink.kind,
        "start_layer": sink.start,
        "lifetime": sink.lifetime,
        "cosine": float(one.cosine[life, sink.position].mean(dtype=np.float64)),
        "norm": float(one.norm[life, sink.position].mean(dtype=np.float64)),
        "received": float(alpha.mean(dtype=np.float64)) if alpha.size else None,
        "heads": float((alpha > config.eps).mean()) if alpha.size else None,
    }


def told(prompt: Prompt, unit: Unit, one: Measured, sinks: list[Sink], config: SinksConfig) -> dict[str, Any]:
    """What the summary says of one prompt, and what the causal check goes by."""
    real = [sink for sink in sinks if config.rule == "relative" or sink.kind != "transient"]  # there it means noise
    cuts = {kind: where_read(real, kind, len(one.norm)) for kind in ("all", *sink_pictures.ORDER)}
    anchor = one.anchor if sinks else None
    return {
        "name": prompt.name,
        "T": len(prompt),
        "ranked": sink_rules.ranked(len(prompt), config),
        "anchor": anchor,
        "anchor_spans": [[sink.start, sink.lifetime] for sink in sinks if sink.position == anchor],
        "sinks": cuts,
        "loss": unit.facts["loss"],
    }


def where_read(sinks: list[Sink], kind: str, n_layers: int) -> list[list[Any]]:
    """[position, blocks whose attention reads it as a sink] for every position with sinks of a kind (``all``: of
    any)."""
    read: dict[int, set[int]] = {}
    for sink in sinks:
        layers = reading_layers(sink.layers, n_layers)
        if layers and kind in ("all", sink.kind):  # what the last block leaves is read by none
            read.setdefault(sink.position, set()).update(layers)
    return [[position, sorted(layers)] for position, layers in sorted(read.items())]


def sink_rate(taken: Sequence[Measured], has_anchor: Sequence[Measured], eps: float) -> dict[str, Any]:
    """Sink_k^eps in percent and mean alpha, over prompts, layers and heads, for k = 0 and k = the anchor's position
    (2c)."""
    groups = {
        "position 0": [one.received[:, :, 0] for one in taken],
        "anchor": [one.received[:, :, one.anchor] for one in has_anchor],
    }
    rates: dict[str, Any] = {"eps": eps, "T": sorted({one.received.shape[2] for one in taken})}
    for name, alphas in groups.items():
        rates[name] = {
            "percent": float(np.mean([100 * (alpha > eps).mean() for alpha in alphas])) if alphas else None,
            "mean_mass": float(np.mean([alpha.mean(dtype=np.float64) for alpha in alphas])) if alphas else None,
            "prompts": len(alphas),
        }
    return rates


def mean_mass(masses: list[np.ndarray]) -> np.ndarray | None:
    """Mean of alphas [layer, head]; None of nothing."""
    return np.stack(masses).mean(axis=0, dtype=np.float64).astype(np.float32) if masses else None


def arrays(taken: Sequence[Measured]) -> dict[str, np.ndarray]:
    """What the run keeps of the first prompts: ``received.<i>``, ``resid_norm.<i>``, ``anchor_cosine.<i>``."""
    kept = {}
    for i, one in enumerate(taken):
        kept[f"received.{i}"], kept[f"resid_norm.{i}"], kept[f"anchor_cosine.{i}"] = one.received, one.norm, one.cosine
    return kept


sinks = Sinks()
"""What the registry's built-in line points at."""
