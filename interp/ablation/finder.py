"""Ablation and calibration of heads: which ones, chosen on some prompts, and what that does on others.

The edits are ACT (Yu et al. 2024, arXiv 2406.15765: attention sinks calibrated in heads where that helps) and its
siblings, StreamingLLM's window (Xiao et al. 2023, arXiv 2309.17453), and plain ablations of heads.

1. Measure. On a calibration text, the same for every run, note how much the edit would change each head; the heads it
   changes most are the candidates. For every prompt, the metric untouched and under the edit of each candidate alone.
2. Find. Split the prompts, seeded, into a training and a held-out half. A candidate counts when its change on the
   training half lies on the side aimed at by its whole 95 % bootstrap interval; with `select`, the best so many by
   their mean are taken instead, whatever their intervals. (p values of a sign-flip test, corrected for the number of
   candidates, are given beside.) Heads that were named are taken as they are, and every prompt is held out.
3. Check. On each held-out prompt, the metric under the edit of all chosen heads together, and of as many random heads
   of the same layers.
4. Conclude. The figure reported is the held-out one. It is verified when it differs from the random heads' in the
   direction aimed at, by an interval over prompts.

``summary["claims"]``: ``untouched`` (loss), ``held_out_effect``, ``random_effect``, ``difference``, each {mean, low,
high, n, unit} on held-out prompts, None with a ``why`` where nothing was chosen or compared; and
``train_effect_of_chosen``, the mean of the chosen heads' single effects on the training half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from interp.ablation import choose, pictures, words
from interp.ablation.config import COLUMNS, AblationConfig, Head, label_of
from interp.ablation.measure import calibration_ids, loss, measure
from interp.ablation.ways import sizes
from interp.finders.base import ModelFacts, Unit
from interp.findings import Findings
from interp.registry import finder
from interp.verify import paired
from probes.base import Prompt


@finder("ablation", config=AblationConfig)
class Ablation:
    """The finder; see the module docstring and `interp.finders.base.Finder`."""

    passes = 22.0  # forward passes a prompt with the default number of candidates, for --dry-run

    def measure(self, model: Any, prompt: Prompt, config: AblationConfig) -> Unit:
        """1. Losses, untouched and candidate by candidate."""
        return measure(model, prompt, config)

    def find(
        self, prompts: Sequence[Prompt], units: Sequence[Unit], config: AblationConfig, facts: ModelFacts
    ) -> Findings:
        """2. Choose on the training half."""
        groups: list[tuple[Head, ...]] = [
            tuple((layer, head) for layer, head in group) for group in units[0].facts["candidates"]
        ]
        changes = np.stack([unit.arrays["edited"] - unit.facts["loss"] for unit in units])  # [prompt, candidate]
        train, test = choose.split(len(prompts), config)
        trials = [choose.trial(changes[train, i], config) for i in range(len(groups))]
        selected = list(range(len(groups))) if config.heads else choose.chosen(trials, config)
        tried = [i for i, one in enumerate(trials) if one.p is not None]
        p_corrected = dict(
            zip(tried, choose.corrected([trials[i].p or 0.0 for i in tried], config.correct), strict=True)
        )
        rows = []
        for i, (group, one) in enumerate(zip(groups, trials, strict=True)):
            held_out = float(changes[test, i].mean()) if test else math.nan
            rows.append(
                {
                    "name": label_of(group),
                    "layer": group[0][0],
                    "head": group[0][1] if len(group) == 1 else None,
                    "size": float(units[0].arrays["size"][i]),
                    "effect": one.effect,
                    "effect_low": one.low,
                    "effect_high": one.high,
                    "p_value": one.p,
                    "p_corrected": p_corrected.get(i),
                    "held_out": held_out if math.isfinite(held_out) else None,
                    "selected": i in selected,
                }
            )
        table = pd.DataFrame(rows, columns=[c.name for c in COLUMNS]).astype({c.name: c.dtype for c in COLUMNS})
        singles = [trials[i].effect for i in selected if trials[i].effect is not None]
        summary = {
            "settings": asdict(config),
            "shape": [facts.n_layers, facts.n_heads],
            "helps": config.helps,
            "train": [prompts[i].name for i in train],
            "test": [prompts[i].name for i in test],
            "selected": [label_of(groups[i]) for i in selected],
            "selected_heads": sorted({head for i in selected for head in groups[i]}),
            "train_effect_of_chosen": float(np.mean([e for e in singles if e is not None])) if singles else None,
            "prompts": [
                {"name": prompt.name, "T": len(prompt), "loss": unit.facts["loss"], "held_out": i in test}
                for i, (prompt, unit) in enumerate(zip(prompts, units, strict=True))
            ],
        }
        findings = Findings("ablation", table, COLUMNS, "", {"changes": changes}, summary)
        findings.verdict = words.found(findings, config, facts)
        findings.caveats = words.caveats(prompts, len(groups), config, facts)
        findings.heatmaps = pictures.heatmaps(table, config, facts)
        findings.charts = pictures.charts(table, config)
        return findings

    def check(self, model: Any, prompt: Prompt, index: int, findings: Findings, config: AblationConfig) -> Unit | None:
        """3. All chosen heads together, against random ones.

        Facts: ``loss``, ``edited``, ``control`` (mean over the draws; None where the model has too few other heads).
        """
        heads = [(layer, head) for layer, head in findings.summary["selected_heads"]]
        told = findings.summary["prompts"][index]
        if not heads or not told["held_out"]:
            return None
        shape = (model.n_layers, model.n_heads)
        draws = [choose.random_heads(heads, shape, (config.seed, index, draw)) for draw in range(config.controls)]
        means = sizes(model, calibration_ids(model), config)[1] if config.how == "mean" else {}
        control = [loss(model, prompt, config, draw, means) for draw in draws if draw is not None]
        return Unit(
            facts={
                "loss": told["loss"],
                "edited": loss(model, prompt, config, heads, means),
                "control": float(np.mean(control)) if control else None,
            }
        )

    def conclude(self, findings: Findings, checks: Sequence[Unit | None], config: AblationConfig) -> Findings:
        """4. The held-out figure, and whether it is more than that of random heads."""
        ran = [
            (told["name"], unit.facts)
            for told, unit in zip(findings.summary["prompts"], checks, strict=True)
            if unit is not None
        ]
        both = [(name, facts) for name, facts in ran if facts["control"] is not None]
        verification = paired(
            [name for name, _ in both],
            [facts["edited"] - facts["loss"] for _, facts in both],
            [facts["control"] - facts["loss"] for _, facts in both],
            metric=words.metric(config),
            how=words.how(config),
            expected="lower" if config.helps else "higher",
            seed=config.seed,
        ).verification()
        if not both and findings.summary["selected"]:
            verification = replace(verification, verdict="not run", how=words.NO_CONTROL)
        effects = [facts["edited"] - facts["loss"] for _, facts in ran]
        claims = words.claims(findings, effects, [facts["loss"] for _, facts in ran], verification, config)
        done = replace(findings, verification=verification, summary={**findings.summary, "claims": claims})
        done.verdict = words.verdict(done, config)
        done.charts = [*findings.charts, *pictures.check_charts(verification)]
        return done


ablation = Ablation()
"""What the registry's built-in line points at."""
