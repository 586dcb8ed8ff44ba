"""Primary weakening: the anchor in the layers where secondary sinks begin.

Wong et al. 2025 (arXiv 2512.22213) say that the primary weakens in the middle layers in which secondary sinks appear.

1. Measure. Find the sinks of a prompt (`sink_found`). Of the anchor, and of the median token that is no sink, keep by
   layer: attention received (alpha, mean over heads), and the norms, mean over key-value heads, of key before rotary
   (``attn.hook_k``), key as attended to (``attn.hook_rot_k``) and value (``attn.hook_v``).
2. Find. In a prompt with secondary sinks let R be the layers that read the anchor as a sink, and S those of R that read
   the first state of a secondary (its start layer + 1; with ``where=life``, any of its states). The statistic is the
   mean of the anchor's alpha over S minus its mean over the rest of R, averaged over prompts: bootstrap interval,
   sign test, and a test that shifts S in a circle over R, every shift counted (`weakening_stats`). "Weaker" takes an
   interval below 0 and p <= 0.05 against other layers, in at least 8 prompts; with fewer than 20 layers p cannot get
   there, and it cannot be told. Prompts without secondary sinks, or without other layers, do not count.
3. Check. Keep the secondaries from forming: their forming MLP's output is set to zero at their positions; apart, the
   same outputs at as many ordinary tokens. Compare the anchor's share of the mass on the other keys, in the layers that
   read the secondaries, over queries that can see one; the secondaries and those ordinary tokens are left out of both,
   for the edits change them. The attention the anchor draws is given beside it, and proves nothing: without the
   secondaries it rises by softmax competition alone.
4. Conclude. Verified when the share rises more by removing the secondaries than by the removal at ordinary tokens.

``summary["claims"]``: ``weakening.outcome`` {verdict: weaker, not weaker or cannot be told; why},
``weakening.difference`` {mean, low, high, n, p, p_smallest, shifts, below, above, p_sign}, ``weakening.ratio`` {mean,
low, high, n}, ``secondary_start_layers`` {mean, low, high, n (prompts), sinks, counts}. A mean of None comes with a
``why``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from interp.finders import weakening_passes, weakening_pictures, weakening_stats, weakening_words
from interp.finders.base import ModelFacts, Unit
from interp.finders.sink_words import effect_facts
from interp.finders.weakening_config import COLUMNS, WeakeningConfig, chosen_layers, counted
from interp.findings import Findings, Verification
from interp.registry import finder
from interp.verify import over_prompts, paired
from probes.base import Prompt

HOW = (
    "In every prompt with {what} the outputs of the MLPs that formed them were set to zero at their positions, to keep "
    "them from forming; apart, the same blocks' outputs at as many ordinary positions near by ({draws}). Compared is "
    "the change in {metric}, over the layers that read those sinks and the queries that can see one; neither is one of "
    "the edited tokens."
)
METRICS = {
    "share": "the anchor's share of the attention to keys other than the edited tokens",
    "mass": "attention to the anchor",
}


@finder("primary-weakening", config=WeakeningConfig, version="2")
class PrimaryWeakening:
    """The finder; see the module docstring and `interp.finders.base.Finder`."""

    reads = 3.0  # keys, rotated keys and values of every block; as large as a state where no heads share them

    def measure(self, model: Any, prompt: Prompt, config: WeakeningConfig) -> Unit:
        """1. The anchor beside ordinary keys, by layer."""
        return weakening_passes.measure(model, prompt, config)

    def find(
        self, prompts: Sequence[Prompt], units: Sequence[Unit], config: WeakeningConfig, facts: ModelFacts
    ) -> Findings:
        """2. The statistic and its curves."""
        told = [summarised(prompt, unit, config) for prompt, unit in zip(prompts, units, strict=True)]
        rows = [
            row(prompt, one, span, unit)
            for prompt, one, unit in zip(prompts, told, units, strict=True)
            for span in one["spans"]
            if counted(span, config)
        ]
        cases = [
            weakening_stats.Case(unit.arrays["received"][0], tuple(one["there"]), tuple(one["elsewhere"]))
            for one, unit in zip(told, units, strict=True)
            if one["there"] and one["elsewhere"] and "received" in unit.arrays
        ]
        claims = weakening_stats.weakening(cases, config.seed)
        claims["weakening.outcome"] = dict(weakening_stats.outcome(claims["weakening.difference"]))
        claims["secondary_start_layers"] = start_layers(told, config)
        starts = weakening_pictures.start_counts(rows)
        summary = {
            "model": facts.name,
            "settings": asdict(config),
            "T": [len(prompt) for prompt in prompts],
            "claims": claims,
            "attention_path": sorted({unit.facts["attention_path"] for unit in units}),
            "prompts": told,
        }
        table = pd.DataFrame(rows, columns=[c.name for c in COLUMNS]).astype({c.name: c.dtype for c in COLUMNS})
        findings = Findings("primary-weakening", table, COLUMNS, "", kept(units, config), summary)
        findings.verdict = weakening_words.observed(findings, config)
        lacks = {name: why for unit in units for name, why in unit.facts["lacks"].items()}
        findings.caveats = weakening_words.caveats(findings, prompts, lacks, config, facts)
        drawn = [(unit.arrays, any(counted(s, config) for s in unit.facts["spans"])) for unit in units if unit.arrays]
        findings.charts = weakening_pictures.charts(
            [arrays for arrays, _ in drawn],
            [has for _, has in drawn],
            starts,
            config.seed,
            weakening_words.SINKS[config.of],
        )
        return findings

    def check(self, model: Any, prompt: Prompt, index: int, findings: Findings, config: WeakeningConfig) -> Unit | None:
        """3. The anchor without the secondaries."""
        return weakening_passes.check(model, prompt, index, findings.summary["prompts"][index], config)

    def conclude(self, findings: Findings, checks: Sequence[Unit | None], config: WeakeningConfig) -> Findings:
        """4. What the anchor gained."""
        effects = {name: effect(findings, checks, name, config) for name in METRICS}
        kept_mass = left(checks)
        said = weakening_words.checked(effects["share"], effects["mass"], kept_mass)
        removal = {**{name: effect_facts(one) for name, one in effects.items()}, "left": kept_mass}
        return replace(
            findings,
            verification=effects["share"],
            summary={**findings.summary, "removal": removal},
            verdict=f"{findings.verdict} {said}".strip(),
            sheets=weakening_pictures.sheets([(METRICS[name], one) for name, one in effects.items()]),
        )


def summarised(prompt: Prompt, unit: Unit, config: WeakeningConfig) -> dict[str, Any]:
    """What the summary says of one prompt, and what the check goes by."""
    there, elsewhere = chosen_layers(unit.facts, config)
    facts = {name: unit.facts[name] for name in ("anchor", "spans", "ordinary")}
    return {"name": prompt.name, **facts, "there": there, "elsewhere": elsewhere}


def row(prompt: Prompt, told: Mapping[str, Any], span: Mapping[str, Any], unit: Unit) -> dict[str, Any]:
    """One row of the table."""
    mass = unit.arrays["received"][0] if "received" in unit.arrays else None
    reader = span["start_layer"] + 1
    made = {"prompt": prompt.name, "token_id": prompt.ids[span["position"]], "token": prompt.tokens[span["position"]]}
    made.update({c.name: span[c.name] for c in COLUMNS if c.name in span})
    made["anchor_there"] = None if mass is None or reader >= len(mass) else float(mass[reader])
    made["anchor_elsewhere"] = None if mass is None or not told["elsewhere"] else float(mass[told["elsewhere"]].mean())
    return made


def start_layers(prompts: Sequence[Mapping[str, Any]], config: WeakeningConfig) -> dict[str, Any]:
    """Claim ``secondary_start_layers``: mean over a prompt's sinks, then over the ``n`` prompts that have some; how
    many ``sinks`` there are and, as ``counts``, how many start where."""
    per_prompt = [[s["start_layer"] for s in told["spans"] if counted(s, config)] for told in prompts]
    means = [float(np.mean(layers)) for layers in per_prompt if layers]
    counts = {str(layer): n for layer, n in sorted(Counter(chain.from_iterable(per_prompt)).items())}
    return over_prompts(means, config.seed, "there are none", sinks=sum(counts.values()), counts=counts)


def kept(units: Sequence[Unit], config: WeakeningConfig) -> dict[str, np.ndarray]:
    """``<measure>.<i>`` [2 (anchor, median ordinary), layer] of the first prompts."""
    return {
        f"{name}.{i}": values
        for i, unit in enumerate(units[: config.keep_arrays])
        for name, values in unit.arrays.items()
    }


def left(checks: Sequence[Unit | None]) -> float | None:
    """Share of their attention that the sinks keep under the removal: where other blocks form them again, most of it.
    Mean over prompts."""
    facts = [unit.facts for unit in checks if unit is not None and unit.facts["natural"]["sinks"] > 0]
    return float(np.mean([one["removed"]["sinks"] / one["natural"]["sinks"] for one in facts])) if facts else None


def effect(findings: Findings, checks: Sequence[Unit | None], name: str, config: WeakeningConfig) -> Verification:
    """Change of ``mass`` or ``share`` under the removal, against its control."""
    names, found, control = [], [], []
    for told, unit in zip(findings.summary["prompts"], checks, strict=True):
        if unit is not None:
            names.append(told["name"])
            found.append(unit.facts["removed"][name] - unit.facts["natural"][name])
            control.append(unit.facts["control"][name] - unit.facts["natural"][name])
    draws = "1 draw" if config.controls == 1 else f"mean of {config.controls} draws"
    how = HOW.format(what=weakening_words.SINKS[config.of], draws=draws, metric=METRICS[name])
    return paired(names, found, control, metric=METRICS[name], how=how, seed=config.seed).verification()


primary_weakening = PrimaryWeakening()
"""What the registry's built-in line points at."""
