"""The causal check of a sink at position 0: cut attention to it where heads attend to it, and to an ordinary position
in the same layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.finders.base import Unit
from interp.finders.sink_check import METRIC, NEAREST, controls
from interp.finders.sink_measure import Cut, cut_loss
from interp.finders.sink_rate_measure import SinkRateConfig, front
from interp.findings import Findings
from interp.verify import Paired, paired
from probes.base import Prompt

HOW = (
    "On every natural input, attention to position 0 was cut in the layers in which some head gives it more than eps, "
    "all heads, rows renormalised; and apart, in the same layers, attention to an ordinary position (one of the "
    "{nearest} nearest to it, {draws})."
)


def check(model: Any, prompt: Prompt, index: int, findings: Findings, config: SinkRateConfig) -> Unit | None:
    """Losses of one natural input: ``loss`` untouched, ``cut``, and ``control`` (mean over the draws), nats."""
    told = findings.summary["prompts"][index]
    if told["loss"] is None or not told["layers"]:
        return None
    ids = front(prompt, told["T"]).ids
    cut: Cut = ((0, tuple(told["layers"])),)
    draws = controls(cut, told["ordinary"], config.controls, (config.seed, index))
    if not draws:
        return None
    control = float(np.mean([cut_loss(model, ids, draw) for draw in draws]))
    return Unit(facts={"loss": told["loss"], "cut": cut_loss(model, ids, cut), "control": control})


def effects(findings: Findings, checks: Sequence[Unit | None], config: SinkRateConfig) -> Paired:
    """Change in loss by prompt, position 0 against its control."""
    made = [
        (told["name"], unit.facts)
        for told, unit in zip(findings.summary["prompts"], checks, strict=True)
        if unit is not None
    ]
    draws = "1 draw" if config.controls == 1 else f"mean of {config.controls} draws"
    return paired(
        [name for name, _ in made],
        [facts["cut"] - facts["loss"] for _, facts in made],
        [facts["control"] - facts["loss"] for _, facts in made],
        metric=METRIC,
        how=HOW.format(nearest=NEAREST, draws=draws),
        seed=config.seed,
    )
