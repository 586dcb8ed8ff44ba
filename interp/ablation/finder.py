"""Ablation and calibration of heads: which ones, chosen on some prompts, and what that does on others.

The edits are ACT (Yu et al. 2024, arXiv 2406.15765: attention sinks calibrated in heads where that helps) and its
siblings, StreamingLLM's window (Xiao et al. 2023, arXiv 2309.17453), plain ablations of heads (zero, mean, resample),
and attention knocked out between named positions. The metric is a loss, or of pairs the logit difference between the
answer and what it is compared with.

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

``summary["claims"]``: ``untouched`` (the metric), ``held_out_effect``, ``random_effect``, ``difference``, each {mean,
low, high, n, unit} on held-out prompts, None with a ``why`` where nothing was chosen or compared;
``train_effect_of_chosen``, the mean of the chosen heads' single effects on the training half; and of pairs
``accuracy``: {``untouched``, ``edited``, ``random``}, the share of prompts whose answer has a higher logit than all
wrong tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from interp.ablation import choose, pictures, words
from interp.ablation.config import COLUMNS, AblationConfig, Head, label_of
from interp.ablation.measure import (
    Calibrated,
    calibrated,
    common_metric,
    means_of_twins,
    measure,
    one_by_one,
    score,
    share_right,
)
from interp.ablation.outputs import TwinMeans, twin_outputs
from interp.ablation.places import places_of
from interp.ablation.ways import Outputs
from interp.circuits.pairs import batch_of, pair_of
from interp.errors import UsageError
from interp.finders.base import Kept, ModelFacts, Unit
from interp.findings import Findings
from interp.registry import finder
from interp.verify import paired
from probes.base import Prompt


@finder("ablation", config=AblationConfig, version="3")
class Ablation:
    """The finder; see the module docstring and `interp.finders.base.Finder`."""

    passes = 22.0  # forward passes a prompt with the default number of candidates, for --dry-run

    def __init__(self) -> None:
        # while a run goes on: means over twins, and what the calibration text told under which settings
        self._means: WeakKeyDictionary[Any, TwinMeans] = WeakKeyDictionary()
        self._known: WeakKeyDictionary[Any, dict[str, Calibrated]] = WeakKeyDictionary()

    def prepare(self, model: Any) -> None:
        """The calibration text is the same for every prompt: read it once."""
        self._known[model] = {}

    def release(self, model: Any) -> None:
        """Forget the means and the calibration."""
        self._means.pop(model, None)
        self._known.pop(model, None)

    def _calibrated(self, model: Any, config: AblationConfig) -> Calibrated:
        known, key = self._known.get(model, {}), repr(config)
        if key not in known:
            known[key] = calibrated(model, config)
        return known[key]

    def suits(self, prompt: Prompt, config: AblationConfig) -> None:
        """Refuse a prompt that has no twin, or not the positions, that the settings speak of."""
        places_of(prompt, config)
        if config.way == "resample" or config.metric == "difference":
            batch_of([pair_of(prompt)])

    def measure(self, model: Any, prompt: Prompt, config: AblationConfig) -> Unit:
        """1. The metric, untouched and candidate by candidate."""
        return measure(model, prompt, config, self._calibrated(model, config))

    def explore(
        self, model: Any, prompts: Sequence[Prompt], units: Sequence[Unit], config: AblationConfig, kept: Kept
    ) -> Unit:
        """1, where a head's mean is one over the twins of all prompts: the metric candidate by candidate.

        Array ``edited`` [prompt, candidate]; none where `measure` has measured it.
        """
        pairs = [means_of_twins(prompt, config) for prompt in prompts]
        if not all(pairs):
            if any(pairs):
                raise UsageError("how=mean: pairs have means over their twins, other prompts have none; give one kind")
            return Unit()
        means = self._means[model] = TwinMeans(prompts)
        groups = candidates_of(prompts, units)
        if not one_by_one(config, groups):
            return Unit()
        kept.phase("means", len(prompts))

        def edited(prompt: Prompt) -> Unit:
            outputs = means.of(model, prompt)
            values = [score(model, prompt, config, group, outputs).value for group in groups]
            return Unit({"edited": np.array(values, dtype=np.float64)})

        alone = [kept.unit(prompt.name, lambda prompt=prompt: edited(prompt)) for prompt in prompts]
        return Unit({"edited": np.stack([unit.arrays["edited"] for unit in alone])})

    def find(
        self,
        prompts: Sequence[Prompt],
        units: Sequence[Unit],
        config: AblationConfig,
        facts: ModelFacts,
        explored: Unit | None = None,
    ) -> Findings:
        """2. Choose on the training half."""
        given, config = config, replace(config, metric=common_metric(prompts, units))
        groups = candidates_of(prompts, units)
        sequences = choose.numbered([prompt.hash for prompt in prompts])
        edited = np.stack([unit.arrays["edited"] for unit in units])  # [prompt, candidate]
        if explored is not None and explored.arrays:
            edited = explored.arrays["edited"]
        changes = edited - np.array([[unit.facts["untouched"]] for unit in units])
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
                    "size": known(units[0].arrays["size"][i]),
                    "effect": one.effect,
                    "effect_low": one.low,
                    "effect_high": one.high,
                    "p_value": one.p,
                    "p_corrected": p_corrected.get(i),
                    "held_out": known(held_out),
                    "selected": i in selected,
                }
            )
        table = pd.DataFrame(rows, columns=[c.name for c in COLUMNS]).astype({c.name: c.dtype for c in COLUMNS})
        singles = [trials[i].effect for i in selected if trials[i].effect is not None]
        heads = sorted({head for i in selected for head in groups[i]})
        summary = {
            "settings": asdict(given),
            "shape": [facts.n_layers, facts.n_heads],
            "helps": config.helps,
            "metric": config.metric,
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
                    "untouched": unit.facts["untouched"],
                    "right": unit.facts["right"],
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

        Facts: ``untouched``, ``edited``, ``control`` (mean over the draws; None where the model has too few other
        heads); of pairs ``right``: [untouched, edited, control] (of the draws: the share).
        """
        heads = [(layer, head) for layer, head in findings.summary["selected_heads"]]
        told = findings.summary["prompts"][index]
        if not heads or not told["held_out"]:
            return None
        config = replace(config, metric=findings.summary["metric"])
        shape = (model.n_layers, model.n_heads)
        draws = [choose.random_heads(heads, shape, (config.seed, index, draw)) for draw in range(config.controls)]
        outputs = self._outputs(model, prompt, config)
        control = [score(model, prompt, config, draw, outputs) for draw in draws if draw is not None]
        edited = score(model, prompt, config, heads, outputs)
        return Unit(
            facts={
                "untouched": told["untouched"],
                "edited": edited.value,
                "control": float(np.mean([one.value for one in control])) if control else None,
                "right": None if edited.right is None else [told["right"], edited.right, share_right(control)],
            }
        )

    def _outputs(self, model: Any, prompt: Prompt, config: AblationConfig) -> Outputs:
        """What heads are made to put out in a prompt, by `mean` and `resample`."""
        if config.way == "resample":
            return twin_outputs(model, prompt)
        if model in self._means:
            return self._means[model].of(model, prompt)
        return self._calibrated(model, config)[1] if config.way == "mean" else {}

    def conclude(self, findings: Findings, checks: Sequence[Unit | None], config: AblationConfig) -> Findings:
        """4. The held-out figure, and whether it is more than that of random heads."""
        config = replace(config, metric=findings.summary["metric"])
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
            expected="lower" if config.lowers else "higher",
            seed=config.seed,
            also_alone=True,
        ).verification()
        if not both and findings.summary["selected"]:
            verification = replace(verification, verdict="not run", how=words.NO_CONTROL)
        claims = words.claims(findings, by_sequence(ran, "edited"), by_sequence(ran), verification, config)
        claims |= words.accuracy([unit.facts["right"] for unit in checks if unit is not None], config)
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


def known(value: float) -> float | None:
    """A number, None for NaN."""
    return float(value) if math.isfinite(value) else None


def by_sequence(ran: Sequence[tuple[str, int, dict[str, Any]]], under: str | None = None) -> np.ndarray:
    """By token sequence, the metric of checked prompts (name, sequence, facts), or what it changes by under an edit."""
    values = [facts[under] - facts["untouched"] if under else facts["untouched"] for _, _, facts in ran]
    return choose.per_sequence([sequence for _, sequence, _ in ran], values)


ablation = Ablation()
"""What the registry's built-in line points at."""
