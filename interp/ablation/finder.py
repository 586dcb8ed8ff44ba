"""Ablation and calibration of heads: which ones, chosen on some prompts, and what that does on others.

The edits are ACT (Yu et al. 2024, arXiv 2406.15765: attention sinks calibrated in heads where that helps) and its
siblings, StreamingLLM's window (Xiao et al. 2023, arXiv 2309.17453), and plain ablations of heads.

1. Measure. On a calibration text, the same for every run and none of the prompts, note how much the edit would change
   each head; the heads it changes most are the candidates. For every prompt, the metric untouched and under the edit of
   each candidate alone.
2. Find. Split the prompts, seeded, into a training and a held-out half; prompts of the same tokens count as one and
   stay together. A candidate counts when its change on the training half lies on the side aimed at by its whole 95 %
   interval (Student's t; a bootstrap of a handful of prompts is too narrow); with `select`, the best so many by their
   mean are taken instead, whatever their intervals. (p values of a sign-flip test, corrected for the number of
   candidates, are given beside.) Heads that were named are taken as they are, and every prompt is held out.
3. Check. On each held-out prompt, the metric under the edit of all chosen heads together, and of as many random heads
   (of the same layers, where these have enough others).
4. Conclude. The figure reported is the held-out one. It is verified when it lies on the side aimed at, and differs
   from the random heads' in that direction, both by a bootstrap interval over prompts.

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
from interp.errors import UsageError
from interp.finders.base import ModelFacts, Unit
from interp.findings import Findings
from interp.registry import finder
from interp.verify import paired
from probes.base import Prompt


@finder("ablation", config=AblationConfig, version="2")
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
        groups = candidates_of(prompts, units)
        sequences = choose.numbered([prompt.hash for prompt in prompts])
        changes = np.stack([unit.arrays["edited"] - unit.facts["loss"] for unit in units])  # [prompt, candidate]
        train, test = choose.split(sequences, config)
        trained, judged = [sequences[i] for i in train], [sequences[i] for i in test]
        trials = [choose.trial(choose.per_sequence(trained, changes[train, i]), config) for i in range(len(groups))]
        selected = list(range(len(groups))) if config.heads else choose.chosen(trials, config)
        tried = [i for i, one in enumerate(trials) if one.p is not None]
        p_corrected = dict(
            zip(tried, choose.corrected([trials[i].p or 0.0 for i in tried], config.correct), strict=True)
        )
        rows = []
        for i, (group, one) in enumerate(zip(groups, trials, strict=True)):
            held_out = float(choose.per_sequence(judged, changes[test, i]).mean()) if test else math.nan
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
        heads = sorted({head for i in selected for head in groups[i]})
        summary = {
            "settings": asdict(config),
            "shape": [facts.n_layers, facts.n_heads],
            "helps": config.helps,
            "train": [prompts[i].name for i in train],
            "trained_on": len(set(trained)),
            "chance_picks": choose.CHANCE * len(tried),
            "test": [prompts[i].name for i in test],
            "selected": [label_of(groups[i]) for i in selected],
            "selected_heads": heads,
            "control_layers": choose.control_layers(heads, (facts.n_layers, facts.n_heads)),
            "train_effect_of_chosen": float(np.mean([e for e in singles if e is not None])) if singles else None,
            "prompts": [
                {
                    "name": prompt.name,
                    "T": len(prompt),
                    "loss": unit.facts["loss"],
                    "held_out": i in test,
                    "sequence": sequences[i],
                }
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
        means = sizes(model, calibration_ids(model, config), config)[1] if config.how == "mean" else {}
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
            (told["name"], told["sequence"], unit.facts)
            for told, unit in zip(findings.summary["prompts"], checks, strict=True)
            if unit is not None
        ]
        both = [one for one in ran if one[2]["control"] is not None]
        names: dict[int, str] = {}
        for name, sequence, _ in both:
            names.setdefault(sequence, name)
        verification = paired(
            list(names.values()),
            list(by_sequence(both, "edited")),
            list(by_sequence(both, "control")),
            metric=words.metric(config),
            how=words.how(findings, config),
            expected="lower" if config.helps else "higher",
            seed=config.seed,
            also_alone=True,
        ).verification()
        if not both and findings.summary["selected"]:
            verification = replace(verification, verdict="not run", how=words.NO_CONTROL)
        claims = words.claims(findings, by_sequence(ran, "edited"), by_sequence(ran), verification, config)
        done = replace(findings, verification=verification, summary={**findings.summary, "claims": claims})
        done.verdict = words.verdict(done, config)
        done.charts = [*findings.charts, *pictures.check_charts(verification, words.controls(findings))]
        return done


def candidates_of(prompts: Sequence[Prompt], units: Sequence[Unit]) -> list[tuple[Head, ...]]:
    """The candidates, which every unit measured alike.

    Raises:
        UsageError: two units had different ones.
    """
    first = units[0].facts["candidates"]
    for prompt, unit in zip(prompts, units, strict=True):
        if unit.facts["candidates"] != first:
            raise UsageError(
                f"prompts {prompts[0].name!r} and {prompt.name!r} were measured with different candidates: on this "
                "machine the calibration text does not give the same figures every time; run again with --fresh, and "
                "name the heads (--heads) or try them all (--candidates 0) if that does not help"
            )
    return [tuple((layer, head) for layer, head in group) for group in first]


def by_sequence(ran: Sequence[tuple[str, int, dict[str, Any]]], under: str | None = None) -> np.ndarray:
    """By token sequence, the loss of checked prompts (name, sequence, facts), or what it changes by under an edit."""
    values = [facts[under] - facts["loss"] if under else facts["loss"] for _, _, facts in ran]
    return choose.per_sequence([sequence for _, sequence, _ in ran], values)


ablation = Ablation()
"""What the registry's built-in line points at."""
