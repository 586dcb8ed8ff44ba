"""The neighbourhood of attention sinks.

What other papers see at and around sinks, beside one another: residual-state peaks and drained values (Guo et al. 2024,
arXiv 2410.13835), compression of the states (arXiv 2510.06477), and attention that learned sink logits absorb
(gpt-oss).

1. Measure. Two passes a prompt: the sinks (`sink_found`), then every block's states X[l] [token, dimension], values,
   keys and row sums.
2. Find. By block, mean over prompts:
   a. the length of the sinks' states, values, and keys before and after rotary embedding, over the median length at
      the prompt's ordinary tokens (for values and keys head by head, then the mean over heads): at the anchor in every
      block, at other sinks in the blocks where they are sinks. A key's length changes between the two only where a norm
      stands between them.
   b. with sigma the singular values of X[l], not centred, and p_i = sigma_i^2 / sum of sigma^2: matrix entropy, minus
      the sum of p log p, in nats and over log(min(tokens, dimensions)); anisotropy, the largest p, with and without the
      sinks' rows; the mean cosine over pairs of tokens.
   c. attention the anchor receives, and the share of heads above eps; 1 minus the row sum, by layer and head.
3. Check. Give the anchor's state the median length in the blocks that form it and, apart, shorten an ordinary token's
   state by the same factor; note the anisotropy of the later blocks of the anchor's spans (`neighbourhood_check`).
4. Conclude. Verified when the first lowers the anisotropy more than the second.

``summary["claims"]``, each {mean, low, high, n} over prompts, or None with ``why``: ``neighbourhood.`` + ``norm_peak``
(largest over blocks), ``value``, ``key``, ``rotated_key`` (ratios at the anchor, mean over the blocks that read it as a
sink), ``mass``, ``rate`` (the same blocks), ``anisotropy_inside``, ``anisotropy_outside``, ``anisotropy_rest`` (inside,
without sinks), ``entropy_inside``, ``entropy_outside`` (shares), ``anisotropy_least``, ``anisotropy_most`` (over
blocks), ``absorbed``; and from the check ``anisotropy_change``, ``control_change``, ``entropy_change``,
``loss_change``, ``loss_change_control``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from interp.finders import neighbourhood_check, neighbourhood_words
from interp.finders.base import ModelFacts, Unit
from interp.finders.neighbourhood_curves import claim, mean_over, stacked
from interp.finders.neighbourhood_measure import COLUMNS, measure
from interp.finders.sink_config import SinksConfig, reading_layers
from interp.findings import Findings
from interp.registry import finder
from probes.base import Prompt

NONE = "no prompt has a sink, or the family does not hand these vectors out"


@finder("sink-neighbourhood", config=SinksConfig)
class SinkNeighbourhood:
    """The finder; see the module docstring and `interp.finders.base.Finder`."""

    reads = 4.0  # every block's output, keys, rotated keys and values; the latter smaller where heads share them

    def measure(self, model: Any, prompt: Prompt, config: SinksConfig) -> Unit:
        """1. Two passes."""
        return measure(model, prompt, config)

    def find(
        self, prompts: Sequence[Prompt], units: Sequence[Unit], config: SinksConfig, facts: ModelFacts
    ) -> Findings:
        """2. One row a block."""
        told = [
            {"name": prompt.name, **{key: unit.facts[key] for key in ("anchor", "spans", "others", "ordinary", "loss")}}
            for prompt, unit in zip(prompts, units, strict=True)
        ]
        table = by_layer(units, facts.n_layers)
        summary = {
            "settings": asdict(config),
            "T": [len(prompt) for prompt in prompts],
            "missing": sorted({name for unit in units for name in unit.facts["missing"]}),
            "prompts": told,
            "claims": {f"neighbourhood.{name}": value for name, value in claims(units, facts.n_layers, config).items()},
        }
        findings = Findings("sink-neighbourhood", table, COLUMNS, "", arrays(units[: config.keep_arrays]), summary)
        findings.verdict = neighbourhood_words.verdict(findings, facts)
        findings.caveats = neighbourhood_words.caveats(findings, prompts, facts)
        findings.charts = neighbourhood_words.charts(units, told, config)
        findings.heatmaps = neighbourhood_words.heatmaps(units)
        return findings

    def check(self, model: Any, prompt: Prompt, index: int, findings: Findings, config: SinksConfig) -> Unit | None:
        """3. Compression without the anchor's extra length."""
        return neighbourhood_check.check(model, prompt, index, findings, config)

    def conclude(self, findings: Findings, checks: Sequence[Unit | None], config: SinksConfig) -> Findings:
        """4. Verdict of the check."""
        told = findings.summary["prompts"]
        verification = neighbourhood_check.effects([one["name"] for one in told], checks, config).verification()
        if verification.prompts == 0 and any(one["anchor"] is not None for one in told):
            verification = replace(verification, verdict="not run", how=neighbourhood_check.NO_CONTROL)
        made = [unit for unit in checks if unit is not None]
        change, none = neighbourhood_check.change, "the check did not run"
        losses = [
            [unit.facts["loss"][case] - unit.facts["loss"]["untouched"] for unit in made]
            for case in ("anchor", "control")
        ]
        effects = {
            "anisotropy_change": [change(unit, "anisotropy", "anchor") for unit in made],
            "control_change": [change(unit, "anisotropy", "control") for unit in made],
            "entropy_change": [change(unit, "entropy_share", "anchor") for unit in made],
            "loss_change": losses[0],
            "loss_change_control": losses[1],
        }
        said = {
            **findings.summary["claims"],
            **{f"neighbourhood.{name}": claim(values, config.seed, none) for name, values in effects.items()},
        }
        drawn = neighbourhood_words.edits_chart(checks, config)
        return replace(
            findings,
            verification=verification,
            summary={**findings.summary, "claims": said},
            verdict=f"{findings.verdict} {neighbourhood_words.effect_sentence(verification, said)}",
            charts=[*findings.charts, *([drawn] if drawn else [])],
        )


def by_layer(units: Sequence[Unit], n_layers: int) -> pd.DataFrame:
    """The table: means over the prompts that have a number."""
    table = {"layer": np.arange(n_layers)}
    for column in COLUMNS[1:]:
        each = [unit.arrays[column.name] for unit in units]
        values = stacked([array.mean(axis=1) if array.ndim == 2 else array for array in each]) if each else None
        table[column.name] = np.full(n_layers, np.nan) if values is None else mean_over(values)
    return pd.DataFrame(table).astype({column.name: column.dtype for column in COLUMNS})


def claims(units: Sequence[Unit], n_layers: int, config: SinksConfig) -> dict[str, dict[str, Any]]:
    """Figures inside and outside the anchor's spans, over prompts (see the module docstring)."""
    inside, readers = [], []
    for unit in units:
        life = sorted({layer for start, stop in unit.facts["spans"] for layer in range(start, stop)})
        inside.append(life)
        readers.append(reading_layers(tuple(life), n_layers))
    outside = [sorted(set(range(n_layers)) - set(life)) if life else [] for life in inside]

    def mean(name: str, layers: Sequence[list[int]]) -> list[float]:
        return [
            float(unit.arrays[name][at].mean(dtype=np.float64)) if at else float("nan")
            for unit, at in zip(units, layers, strict=True)
        ]

    figures = {
        "norm_peak": [float(unit.arrays["norm_anchor"].max()) for unit in units],
        **{name: mean(f"{name}_anchor", readers) for name in ("value", "key", "rotated_key")},
        "mass": mean("mass", readers),
        "rate": mean("rate", readers),
        "anisotropy_inside": mean("anisotropy", inside),
        "anisotropy_outside": mean("anisotropy", outside),
        "anisotropy_rest": mean("anisotropy_rest", inside),
        "entropy_inside": mean("entropy_share", inside),
        "entropy_outside": mean("entropy_share", outside),
        "anisotropy_least": [float(unit.arrays["anisotropy"].min()) for unit in units],
        "anisotropy_most": [float(unit.arrays["anisotropy"].max()) for unit in units],
        "absorbed": [float(unit.arrays["absorbed"].mean(dtype=np.float64)) for unit in units],
    }
    return {name: claim(values, config.seed, NONE) for name, values in figures.items()}


def arrays(units: Sequence[Unit]) -> dict[str, np.ndarray]:
    """What the run keeps of the first prompts, ``<name>.<i>`` for every array of `neighbourhood_measure.measure`."""
    return {f"{name}.{i}": array for i, unit in enumerate(units) for name, array in unit.arrays.items()}


sink_neighbourhood = SinkNeighbourhood()
"""What the registry's built-in line points at."""
