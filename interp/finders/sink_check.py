"""The causal check of sinks: cut attention to them, and to as many ordinary keys that stand about as deep in the same
prompt.

A sink is cut in the blocks whose attention reads its states, and nowhere else. Cut from the first block on, it may
only move: on SmolLM2-135M, where the first token is a sink for having nothing before it, the second token then takes
its place and the loss stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.finders.base import Unit
from interp.finders.sink_config import SinksConfig
from interp.finders.sink_measure import Cut, cut_loss, patterns
from interp.finders.sink_pictures import pool, pool_size
from interp.findings import Findings
from interp.verify import Paired, paired
from probes.base import Prompt

KINDS = ("all", "primary", "secondary")
"""What is cut: every found sink and, in prompts with secondary sinks, those and the primary ones alone."""
NEAREST = 32
"""A control is drawn from so many ordinary positions around its sink."""
HOW = (
    "In every prompt, attention to the found sinks was cut in the layers that read them, all heads, rows renormalised; "
    "and apart, in the same layers, attention to as many positions that are no sinks, each from the {nearest} ordinary "
    "ones nearest to its sink ({draws})."
)
NO_CONTROL = (
    "No prompt has a second token and as many ordinary positions as sinks, so there is nothing to compare with."
)
METRIC = "next-token loss, nats"


def check(model: Any, prompt: Prompt, index: int, findings: Findings, config: SinksConfig) -> Unit | None:
    """Losses of one prompt under the cuts; for the first prompts also the patterns its token strip shows.

    Facts: ``loss`` (untouched), ``cut`` = {kind: loss}, ``control`` = {kind: mean loss over the draws}, nats. Kinds
    without sinks, or with more sinks than ordinary positions, are absent. Arrays: ``pattern.<layer>.<head>``.
    """
    told = findings.summary["prompts"][index]
    unit = Unit(facts={"loss": told["loss"], "cut": {}, "control": {}})
    if index < config.draw:
        size = pool_size(len(prompt))
        found = patterns(model, prompt.ids, [(layer, head) for layer, head in findings.summary["heads_drawn"]])
        unit.arrays = {f"pattern.{layer}.{head}": pool(rows, size) for (layer, head), rows in found.items()}
    if told["loss"] is not None:
        losses: dict[Cut, float] = {}

        def loss(cut: Cut) -> float:
            if cut not in losses:
                losses[cut] = cut_loss(model, prompt.ids, cut)
            return losses[cut]

        ordinary = sorted(set(range(told["ranked"])) - {position for position, _ in told["sinks"]["all"]})
        for kind in KINDS if told["sinks"]["secondary"] else KINDS[:1]:
            sinks: Cut = tuple((position, tuple(layers)) for position, layers in told["sinks"][kind])
            draws = controls(sinks, ordinary, config.controls if kind == "all" else 1, (config.seed, index))
            if draws:
                unit.facts["cut"][kind] = loss(sinks)
                unit.facts["control"][kind] = float(np.mean([loss(draw) for draw in draws]))
    return unit if unit.facts["cut"] or unit.arrays else None


def controls(sinks: Cut, ordinary: Sequence[int], draws: int, seed: tuple[int, ...]) -> list[Cut]:
    """`draws` cuts of ordinary positions, one for each sink, near it and in its layers; none if there are fewer of
    them than sinks."""
    if not sinks or len(ordinary) < len(sinks):
        return []
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(draws):
        free = np.array(ordinary)
        chosen = []
        for position, layers in (sinks[i] for i in rng.permutation(len(sinks))):
            pick = rng.choice(free[np.argsort(np.abs(free - position), kind="stable")[:NEAREST]])
            chosen.append((int(pick), layers))
            free = free[free != pick]
        made.append(tuple(sorted(chosen)))
    return made


def effects(findings: Findings, checks: Sequence[Unit | None], kind: str, config: SinksConfig) -> Paired:
    """Change in loss by prompt for one kind of sinks, found against control."""
    names, found, control = [], [], []
    for told, unit in zip(findings.summary["prompts"], checks, strict=True):
        if unit is not None and kind in unit.facts["cut"]:
            names.append(told["name"])
            found.append(unit.facts["cut"][kind] - unit.facts["loss"])
            control.append(unit.facts["control"][kind] - unit.facts["loss"])
    draws = "1 draw" if kind != "all" or config.controls == 1 else f"mean of {config.controls} draws"
    return paired(names, found, control, metric=METRIC, how=HOW.format(nearest=NEAREST, draws=draws), seed=config.seed)
