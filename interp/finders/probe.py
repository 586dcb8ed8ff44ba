"""Linear probes.

Alain and Bengio 2016, arXiv 1610.01644: a linear classifier on a layer's states tells what can be read off them. Hewitt
and Liang 2019, arXiv 1909.03368: whether it was read or remembered, by a control task of random labels. Elazar et al.
2021, arXiv 2006.00995: whether the model uses it, by taking it out.

1. Measure. One pass a prompt: the states after every block, at the positions asked for (of ``all``, `tokens` drawn).
2. Find. Prompts are parted in two (`interp.probing.task.halves`). At each layer and position a probe is fitted on the
   one half: scikit-learn's LogisticRegression (Ridge for quantities) on standardised states, its regularisation chosen
   by cross-validation over whole prompts of that half. On the other half: its score, that of always saying the
   commonest label (baseline), and that of the same probe on random labels by token type (control task). Intervals are
   bootstrapped over held-out prompts. The best row is the one with the best cross-validated score, so the half that
   judges it has not chosen it.
3. Check. On held-out prompts, where the best probe beats the baseline: replace what its directions hold of the
   (standardised) states there by the training mean, and, apart, move the states by exactly as much in random directions
   (`interp.probing.edit`). Note the logit difference (pairs), the next-token loss (read at all positions), or how far
   the next-token distribution moves (read at one).
4. Conclude. Verified when removing the probe's directions does more than the random ones. A probe that reads nothing
   leaves nothing to verify. A probe that reads something and fails the check has found what is there, not what is used.

``summary["claims"]``: ``probe.score``, ``probe.baseline``, ``probe.control`` and ``probe.selectivity`` of the best row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from interp.errors import NumbersError
from interp.finders.base import ModelFacts, Unit
from interp.findings import Findings
from interp.probing import check, labels, pictures, words
from interp.probing.config import COLUMNS, ProbeConfig, plain_number, selected
from interp.probing.fit import best_of, fit
from interp.probing.rows import row, table_of
from interp.probing.task import Examples, drawn, halves, prefix_of, task_of
from interp.registry import finder
from interp.runs.store import digest
from probes.base import Prompt


@finder("probe", config=ProbeConfig)
class LinearProbe:
    """The finder; see the module docstring and `interp.finders.base.Finder`."""

    passes = 5.0  # one to measure; untouched, edited and `draws` random ones for the half that is checked

    def suits(self, prompt: Prompt, config: ProbeConfig) -> None:
        """`UsageError` for a prompt that has no answer to the question, or no such position."""
        asked = labels.question(config.label)
        labels.requires(prompt, asked)
        for position in config.positions or labels.default_positions(asked):
            labels.places(prompt, position)

    def measure(self, model: Any, prompt: Prompt, config: ProbeConfig) -> Unit:
        """1. One pass. Arrays, for the i-th position asked for: ``position.i`` int64 [n], ``states.i`` float32 [layer,
        n, size]."""
        from interp.tracing.calls import skip_logits
        from interp.tracing.tracer import trace

        asked = labels.question(config.label)
        layers = selected(config, model.n_layers)
        sites = [f"blocks.{layer}.{config.site}" for layer in layers]
        with trace(model, read=sites) as traced:
            traced.run(list(prompt.ids), **skip_logits(model))
            states = [traced[site][0].to("cpu").float().flatten(1).numpy() for site in sites]
        arrays = {}
        for number, name in enumerate(config.positions or labels.default_positions(asked)):
            known = [place for place in labels.places(prompt, name) if asked.of(prompt, place) is not None]
            places = np.array(drawn(prompt, known, config), dtype=np.int64)
            arrays[f"position.{number}"] = places
            arrays[f"states.{number}"] = np.stack([state[places] for state in states])
            if not np.isfinite(arrays[f"states.{number}"]).all():
                raise NumbersError(f"prompt {prompt.name!r}: {config.site} is not finite; try --dtype float32")
        return Unit(arrays, {"layers": layers})

    def find(
        self, prompts: Sequence[Prompt], units: Sequence[Unit], config: ProbeConfig, facts: ModelFacts
    ) -> Findings:
        """2. One row a layer and position."""
        asked = labels.question(config.label)
        positions = config.positions or labels.default_positions(asked)
        split = halves(prompts, strata(prompts, asked), config)
        rows, fits, tasks, fitted_on, why = [], [], [], [], ""
        for number, name in enumerate(positions):
            examples = examples_of(prompts, [unit.arrays[f"position.{number}"] for unit in units], asked)
            task = task_of(examples, split, config)
            tasks.append(task)
            if task.why:
                why = why or task.why
                continue
            for place, layer in enumerate(units[0].facts["layers"]):
                states = np.concatenate([unit.arrays[f"states.{number}"][place] for unit in units])[task.kept]
                fits.append(fit(states, task, config))
                fitted_on.append(task)
                site = f"blocks.{layer}.{config.site}"
                rows.append(row(site, layer, name, fits[-1], task, config.seed))
        table = table_of(rows)
        best = best_of(fits) if fits else None
        summary: dict[str, Any] = {
            "settings": asdict(config),
            "T": [len(prompt) for prompt in prompts],
            "question": {"name": asked.name, "told": asked.told},
            "classes": sorted({name for task in tasks for name in task.classes}),
            "numbers": any(task.numbers for task in tasks),
            "left_out": sum(task.left_out for task in tasks),
            "seen": sum(task.seen for task in tasks),
            "control": "token type" if all(task.by_type for task in tasks) else "prompt",  # of the best row, if any
            "prompts": [{"name": prompt.name, "held_out": number in split[1]} for number, prompt in enumerate(prompts)],
            "why": why,
            "best": None,
            "claims": {},
        }
        findings = Findings("probe", table, COLUMNS, "", {}, summary)
        if best is not None:
            told, chosen = rows[best], fits[best]
            summary["control"] = "token type" if fitted_on[best].by_type else "prompt"
            summary["best"] = {
                **{key: told[key] for key in ("site", "layer", "position")},
                "found": bool(told["gain_low"] > config.margin),
                "metric": check.metric_of(prompts, told["position"]),
                "directions": len(chosen.removal.read),
                "digest": digest(vars(chosen.removal)),
            }
            findings.arrays = {name: getattr(chosen.removal, name) for name in check.REMOVAL}
            summary["claims"] = words.claims(told, len(chosen.prompts))
        findings.verdict = words.verdict(findings, facts, config)
        findings.caveats = words.caveats(findings, prompts, config)
        findings.charts = pictures.charts(findings)
        findings.heatmaps = pictures.heatmaps(findings, positions)
        return findings

    def check(self, model: Any, prompt: Prompt, index: int, findings: Findings, config: ProbeConfig) -> Unit | None:
        """3. The metric untouched, with the directions removed, and moved at random."""
        return check.check(model, prompt, index, findings, config)

    def conclude(self, findings: Findings, checks: Sequence[Unit | None], config: ProbeConfig) -> Findings:
        """4. Verdict of the check."""
        verification = check.effects(findings, checks, config).verification()
        return replace(
            findings,
            verification=verification,
            verdict=f"{findings.verdict} {words.effect_sentence(findings, verification)}",
        )


def strata(prompts: Sequence[Prompt], asked: labels.Question) -> list[Any]:
    """The label of each prompt, where it has one and it is a class."""
    if asked.each_token:
        return [None] * len(prompts)
    given = [asked.of(prompt, len(prompt) - 1) for prompt in prompts]
    return [None if plain_number(label) else label for label in given]


def examples_of(prompts: Sequence[Prompt], places: Sequence[np.ndarray], asked: labels.Question) -> Examples:
    """Examples at the positions of each prompt."""
    empty = np.empty(0, dtype=np.int64)
    return Examples(
        prompts=np.concatenate([empty, *(np.full(len(here), i) for i, here in enumerate(places))]),
        positions=np.concatenate([empty, *places]),
        tokens=np.concatenate([empty, *(np.array(p.ids)[here] for p, here in zip(prompts, places, strict=True))]),
        labels=[asked.of(p, int(at)) for p, here in zip(prompts, places, strict=True) for at in here],
        prefixes=[prefix_of(p, int(at)) for p, here in zip(prompts, places, strict=True) for at in here],
    )


linear_probe = LinearProbe()
"""What the registry's built-in line points at."""
