"""Phase 1b of the circuit finder: effects, the search by stages, classes, and how the circuit stands up on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.circuits.backup import gained
from interp.circuits.behaviour import behaviour, require
from interp.circuits.classes import Found, Told, backups, classify
from interp.circuits.config import CLASSES, CircuitConfig, Head
from interp.circuits.curves import head_curve, random_rankings
from interp.circuits.edge_facts import edges_of
from interp.circuits.faithful import evaluate
from interp.circuits.knockout import Knockout
from interp.circuits.measured import effects_of, looks_of
from interp.circuits.rediscovery import rediscovery
from interp.circuits.roles import role_facts
from interp.circuits.split import halves
from interp.circuits.stages import Stage, search
from interp.finders.base import Kept, Unit
from probes.base import Prompt

RANKED = {
    "total effect": "total",
    "direct effect": "direct",
    "attribution": "attribution",
    "attribution, IG": "attribution_ig",
}
"""Rankings of heads whose curves are compared, by the effect behind each."""
RANDOM = 3
"""Random rankings beside them."""
COMPARED = 16
"""Prompts that rankings are compared on, at most: each ranking asks for a dozen circuits, most of the whole model."""


def explore(model: Any, prompts: Sequence[Prompt], units: Sequence[Unit], config: CircuitConfig, kept: Kept) -> Unit:
    """All that needs the prompts together.

    Arrays: those of `interp.circuits.measured.effects_of`; ``stage.<n>`` [layer, head, pair] as shares of the gap;
    ``stability.<n>`` and ``again.<n>`` [layer, head]; ``backup`` [layer, head] in logits, NaN without movers.
    Facts: ``behaviour``; ``select`` and ``held_out`` (indices); ``stages``; ``circuit``; ``told`` (``layer.head`` ->
    class and evidence); ``backups``; ``evaluation``.

    Raises:
        UsageError: the model cannot do the task, and was not told to go on.
    """
    did = behaviour(prompts, units, config)
    require(did, config, model.name)
    select, held_out = halves(prompts, config)
    arrays = effects_of(model, prompts, config, kept)
    names, attention = looks_of(units)
    kind = "direct" + "_frozen_mlps" * config.freeze_mlps
    direct = arrays[kind], arrays[f"{kind}_mlps"], arrays["gap"].astype(np.float64)
    stages = search(model, prompts, (names, attention), config, kept, direct)
    told, backup, taking_over = classes_of(model, prompts, units, stages, select, config, kept)
    circuit = sorted({head for stage in stages for head in stage.heads})
    again = {number: _again(stage, select, held_out, config) for number, stage in enumerate(stages) if stage.heads}
    for number, one in again.items():
        arrays[f"stage.{number}"] = stages[number].effects
        arrays[f"stability.{number}"] = one.stability
        if one.held_out is not None:
            arrays[f"again.{number}"] = one.held_out
    gap = arrays["gap"][select].mean()
    ranked = {name: arrays[kind][..., select].mean(-1) / gap for name, kind in RANKED.items()}
    judging = held_out or select
    classes, judged = by_class(told), [prompts[index] for index in judging]
    evaluated = evaluate(model, judged, circuit, classes, config, kept, means_from=prompts)
    del evaluated["work"]  # more where a run was broken off and known runs had to be made again
    facts = {
        "behaviour": did,
        "select": select,
        "held_out": held_out,
        "stages": [
            {**stage_facts(stage, select), "found_again": again[number].jaccard if number in again else None}
            for number, stage in enumerate(stages)
        ],
        "circuit": [list(head) for head in circuit],
        "told": {f"{layer}.{head}": one for (layer, head), one in told.items()},
        "backups": [list(head) for head in taking_over],
        "evaluation": {
            **evaluated,
            **_edges(model, prompts, select, judged, config, kept),
            "curves": curves_of(model, judged[:COMPARED], ranked, prompts, config, kept),
        },
    }
    return Unit({**arrays, "backup": backup}, facts)


def _edges(
    model: Any,
    prompts: Sequence[Prompt],
    select: Sequence[int],
    judged: Sequence[Prompt],
    config: CircuitConfig,
    kept: Kept,
) -> dict[str, Any]:
    """What is asked of edges, if anything."""
    if not config.edges:
        return {}
    told = edges_of(model, [prompts[index] for index in select], judged[:COMPARED], config, kept)
    return {"edges": {name: told[name] for name in ("nodes", "edges", "top")}, "edge_curves": told["curves"]}


def curves_of(
    model: Any,
    judged: Sequence[Prompt],
    ranked: dict[str, np.ndarray],
    prompts: Sequence[Prompt],
    config: CircuitConfig,
    kept: Kept,
) -> dict[str, Any]:
    """Curves of the rankings of heads, and of random ones (`interp.circuits.curves.head_curve`), if asked for."""
    if not config.curves:
        return {}
    rankings = ranked | random_rankings(next(iter(ranked.values())).shape, RANDOM, config.seed)
    kept.phase("comparing rankings", 1)

    def make() -> Unit:
        options = {"means_from": prompts, "tokens": config.tokens, "seed": config.seed}
        knockout = Knockout(model, judged, config.knockout, **options)
        return Unit(facts=head_curve(knockout, rankings, seed=config.seed))

    of = {"how": config.knockout, "rankings": {name: scores.tolist() for name, scores in ranked.items()}}
    return kept.unit("curves", make, of=of).facts


def _again(stage: Stage, select: Sequence[int], held_out: Sequence[int], config: CircuitConfig) -> Any:
    how = {"share": config.share, "least": config.least, "resamples": config.resamples, "seed": config.seed}
    return rediscovery(stage.effects, select, held_out, **how)


def classes_of(
    model: Any,
    prompts: Sequence[Prompt],
    units: Sequence[Unit],
    stages: Sequence[Stage],
    select: Sequence[int],
    config: CircuitConfig,
    kept: Kept,
) -> tuple[dict[Head, Told], np.ndarray, list[Head]]:
    """(class and evidence by head; what each head's DLA gains without the movers [layer, head]; backup movers, also
    those that no stage found), all on the prompts that choose."""
    some, chosen = [prompts[index] for index in select], [units[index] for index in select]
    names, attention = looks_of(chosen)
    looks = mean_there(attention)
    means = {key: _mean(chosen, key) for key in ("dla", "copying", "elsewhere")}
    found = [
        Found(head, stage.side, stage.position, float(stage.effects[head][list(select)].mean()))
        for stage in stages
        for head in stage.heads
    ]
    roles = role_facts(some)

    def classed(gain: np.ndarray | None) -> dict[Head, Told]:
        return classify(
            found,
            looks,
            names,
            means["dla"],
            means["copying"],
            gain,
            config,
            roles=roles,
            elsewhere=means["elsewhere"],
        )

    movers = [head for head, one in classed(None).items() if one["class"] == "mover"]
    if not movers or np.isnan(means["dla"]).all():
        return classed(None), np.full(means["dla"].shape, np.nan, np.float32), []
    kept.phase("taking the movers away", 1)
    unit = kept.unit(
        "backups",
        lambda: Unit({"gained": gained(model, some, movers, config)}),
        of={"movers": [list(head) for head in movers], "prompts": [prompt.hash for prompt in some]},
    )
    gain = unit.arrays["gained"].mean(-1)
    return classed(gain), gain, backups(looks, names, gain, movers, roles=roles, copying=means["copying"])


def mean_there(values: np.ndarray) -> np.ndarray:
    """Mean over prompts [prompt, ...] of those that have a value; NaN where none has (a role that all lack)."""
    n = np.isfinite(values).sum(0)
    return np.where(n, np.nansum(values, 0, dtype=np.float64) / np.maximum(n, 1), np.nan)


def by_class(told: dict[Head, Told]) -> dict[str, list[Head]]:
    """Class -> its heads, in order; classes without heads are left out."""
    found = {name: sorted(head for head, one in told.items() if one["class"] == name) for name in CLASSES}
    return {name: heads for name, heads in found.items() if heads}


def stage_facts(stage: Stage, select: Sequence[int]) -> dict[str, Any]:
    """What `Findings.summary` keeps of a stage."""
    return {
        "name": stage.name,
        "side": stage.side,
        "position": stage.position,
        "receivers": [list(head) for head in stage.receivers],
        "heads": [[layer, head, float(stage.effects[layer, head][list(select)].mean())] for layer, head in stage.heads],
        "looked": stage.looked,
        "why": stage.why,
    }


def _mean(units: Sequence[Unit], key: str) -> np.ndarray:
    return np.asarray(np.mean([unit.arrays[key] for unit in units], 0, dtype=np.float64))
