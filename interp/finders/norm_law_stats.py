"""From the units of the norm law to its figures: dose-response, correlations, removal, written direction. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from interp.finders.base import Unit
from interp.finders.norm_law_config import FIRST, GROUPS, MEASURES, NormLawConfig
from interp.finders.norm_law_correlation import over_groups, spearman
from interp.verify import Paired, over_prompts, paired

Claim = dict[str, Any]
LEAST_ALIVE = 3
"""With fewer points a rank correlation within a sink says nothing."""

REMOVAL = (
    "In every prompt the output of the MLP that formed each swept sink was set to zero at the sink's position, and, "
    "apart, in the same blocks, at as many ordinary positions near by ({draws}); compared is the share of the "
    "attention received, over the layers that read the sinks, that is lost."
)
WRITTEN = (
    "In every prompt the sink direction (the anchor's state after the forming block, at the length of a sink's) was "
    "added to what that block's MLP writes at ordinary positions, and apart, random directions of the same length "
    "({draws}); compared is the change in attention received there."
)


def members(told: Mapping[str, Any], unit: Unit | None, group: str) -> tuple[str, list[int]]:
    """The sweep a group's sinks of one prompt are in, and their columns in its arrays."""
    sweep = "anchor" if group == "anchor" else "tokens"
    indices = [] if unit is None else unit.facts["swept"].get(sweep, [])
    return sweep, [column for column, i in enumerate(indices) if told["spans"][i]["group"] == group]


def swept_units(
    prompts: Sequence[Mapping[str, Any]], checks: Sequence[Unit | None], group: str
) -> Iterator[tuple[Unit, str, list[int]]]:
    """Units of the prompts in which sinks of a group were swept, with the sweep and the columns."""
    for told, unit in zip(prompts, checks, strict=True):
        sweep, columns = members(told, unit, group)
        if columns and unit is not None:
            yield unit, sweep, columns


def doses(
    prompts: Sequence[Mapping[str, Any]], checks: Sequence[Unit | None], group: str, config: NormLawConfig
) -> list[Claim]:
    """One dict a multiple: the target norm, what is left of the sinks and the change in loss, each a mean over prompts
    (in a prompt: over its sinks) with an interval. Empty when no prompt has such sinks."""
    taken = list(swept_units(prompts, checks, group))
    if not taken:
        return []
    order = sorted(range(len(config.sweep)), key=lambda i: config.sweep[i])
    told = []
    for i in order:
        one: Claim = {"multiple": config.sweep[i], "of": group, "sinks": sum(len(columns) for _, _, columns in taken)}
        for measure in MEASURES:
            values = [unit.arrays[f"{sweep}.{measure}"][i, columns].mean() for unit, sweep, columns in taken]
            one[measure] = over_prompts(values, config.seed, "")
        losses = [unit.arrays[f"{sweep}.loss"][i] for unit, sweep, _ in taken]
        one["loss"] = over_prompts(losses, config.seed, "")
        changes = [loss - unit.facts["loss"] for loss, (unit, _, _) in zip(losses, taken, strict=True)]
        one["loss_change"] = over_prompts(changes, config.seed, "")
        told.append(one)
    return told


def causal(
    prompts: Sequence[Mapping[str, Any]],
    checks: Sequence[Unit | None],
    group: str,
    measure: str,
    config: NormLawConfig,
) -> Claim:
    """Spearman's rho of target norm and a measure within each sink's sweep, 0 where the measure does not move at all;
    mean over a prompt's sinks, then over prompts."""
    values = [
        float(
            np.mean(
                [
                    spearman(unit.arrays[f"{sweep}.norm"][:, column], unit.arrays[f"{sweep}.{measure}"][:, column]) or 0
                    for column in columns
                ]
            )
        )
        for unit, sweep, columns in swept_units(prompts, checks, group)
    ]
    return {**over_prompts(values, config.seed, "no sink was swept"), "of": group}


def graded(
    prompts: Sequence[Mapping[str, Any]],
    checks: Sequence[Unit | None],
    group: str,
    measure: str,
    config: NormLawConfig,
) -> Claim:
    """As `causal`, without removal and without what it leaves: over the multiples above 0 at which a sink still lives,
    of the ``sinks`` with at least 3 of them. ``flat`` of those count as rho 0, for the measure does not move there."""
    values, sinks, flat = [], 0, 0
    for unit, sweep, columns in swept_units(prompts, checks, group):
        own = []
        for column in columns:
            norm, answer, life = (unit.arrays[f"{sweep}.{name}"][:, column] for name in ("norm", measure, "lifetime"))
            alive = (np.array(config.sweep) > 0) & (life >= 1)
            if alive.sum() >= LEAST_ALIVE:
                rho = spearman(norm[alive], answer[alive])
                own.append(rho or 0.0)
                flat += rho is None
        if own:
            values.append(float(np.mean(own)))
            sinks += len(own)
    why = f"no swept sink lives at {LEAST_ALIVE} or more multiples above 0"
    return {**over_prompts(values, config.seed, why), "of": group, "sinks": sinks, "flat": flat}


def natural(rows: Sequence[Mapping[str, Any]], of_prompt: Sequence[int], measure: str, config: NormLawConfig) -> Claim:
    """Correlation of the forming MLP's norm with a measure over the sinks of all prompts, as they are: Spearman's rho,
    and Pearson's r under ``pearson``; of the secondary sinks, or of all tokens where those are too few."""
    tokens = [i for i, row in enumerate(rows) if row["group"] != "anchor" and row["position"] >= FIRST]
    secondary = [i for i in tokens if rows[i]["group"] == "secondary"]
    of = "secondary" if len({of_prompt[i] for i in secondary}) > 1 and len(secondary) >= config.few else "all tokens"
    chosen = secondary if of == "secondary" else tokens
    made = {}
    for kind in ("spearman", "pearson"):
        found = over_groups(
            [rows[i]["mlp_norm"] for i in chosen],
            [rows[i][measure] for i in chosen],
            [of_prompt[i] for i in chosen],
            kind=kind,
            resamples=config.resamples,
            seed=config.seed,
        )
        made[kind] = {"mean": found.value, "low": found.low, "high": found.high, "n": found.n}
    told = {**made["spearman"], "of": of, "prompts": len({of_prompt[i] for i in chosen}), "pearson": made["pearson"]}
    if told["mean"] is None:
        told["why"] = f"of {len(chosen)} sinks the norm or the {measure} does not vary" if chosen else "no sink"
    return told


def headline(prompts: Sequence[Mapping[str, Any]], checks: Sequence[Unit | None]) -> str | None:
    """The group the claims are about: secondary sinks where any were swept, else the other tokens, else the anchor."""
    return next((group for group in GROUPS if any(True for _ in swept_units(prompts, checks, group))), None)


def arrays(prompts: Sequence[Mapping[str, Any]], checks: Sequence[Unit | None]) -> dict[str, np.ndarray]:
    """``sweep.<tokens or anchor>.<measure>`` [multiple, sink] over all prompts, and ``sweep.<...>.row`` [sink], the
    sink's row in the table."""
    parts: dict[str, list[np.ndarray]] = {}
    first = 0
    for told, unit in zip(prompts, checks, strict=True):
        swept = {} if unit is None else {name: (unit, indices) for name, indices in unit.facts["swept"].items()}
        for sweep, (taken, indices) in swept.items():
            parts.setdefault(f"sweep.{sweep}.row", []).append(first + np.array(indices, dtype=np.int64))
            for measure in MEASURES:
                parts.setdefault(f"sweep.{sweep}.{measure}", []).append(taken.arrays[f"{sweep}.{measure}"])
        first += len(told["spans"])
    return {name: np.concatenate(pieces, axis=-1) for name, pieces in parts.items()}


def removal(prompts: Sequence[Mapping[str, Any]], checks: Sequence[Unit | None], config: NormLawConfig) -> Paired:
    """Share of the attention received that is lost with the forming MLP's output, sinks against controls."""
    names, found, control = [], [], []
    for told, unit in zip(prompts, checks, strict=True):
        facts = None if unit is None else unit.facts["removal"]
        if facts and facts["before"] > 0 and facts["control_before"] > 0:
            names.append(told["name"])
            found.append(1 - facts["after"] / facts["before"])
            control.append(1 - facts["control_after"] / facts["control_before"])
    how = REMOVAL.format(draws=draws(config))
    return paired(names, found, control, metric="share of attention received lost", how=how, seed=config.seed)


def written(prompts: Sequence[Mapping[str, Any]], checks: Sequence[Unit | None], config: NormLawConfig) -> Paired:
    """Change in attention received where the sink direction was written, against random directions."""
    names, found, control = [], [], []
    for told, unit in zip(prompts, checks, strict=True):
        facts = None if unit is None else unit.facts["reverse"]
        if facts:
            names.append(told["name"])
            found.append(facts["received"] - facts["before"])
            control.append(facts["random"] - facts["before"])
    how = WRITTEN.format(draws=draws(config))
    return paired(names, found, control, metric="attention received (alpha)", how=how, seed=config.seed)


def draws(config: NormLawConfig) -> str:
    """How many controls stand behind a figure."""
    return "1 draw" if config.controls == 1 else f"mean of {config.controls} draws"


def claims(
    prompts: Sequence[Mapping[str, Any]],
    checks: Sequence[Unit | None],
    natural_claims: Mapping[str, Claim],
    config: NormLawConfig,
) -> dict[str, Any]:
    """What `interp reproduce` reads; see `interp.finders.sink_norm_law`."""
    group = headline(prompts, checks)
    facts = [unit.facts["reverse"] for unit in checks if unit is not None and unit.facts["reverse"]]
    why = "no prompt has a sink and an ordinary token to write on"
    made: dict[str, Any] = {"dose": [] if group is None else doses(prompts, checks, group, config), **natural_claims}
    for measure in ("score", "lifetime"):
        for way, correlate in (("causal", causal), ("graded", graded)):
            made[f"correlation.{measure}.{way}"] = correlate(prompts, checks, group or "secondary", measure, config)
    for name, key in (
        ("became_sinks", "became"),
        ("received", "received"),
        ("random", "random"),
        ("random_became_sinks", "random_became"),
        ("before", "before"),
    ):
        made[f"reverse.{name}"] = over_prompts([one[key] for one in facts], config.seed, why)
    own = [one for one in facts if one["of"] == "secondary"]
    gains = [one["received"] - one["random"] for one in own]
    why = "in no prompt was the direction taken from secondary sinks"
    made["reverse.secondary.became_sinks"] = over_prompts([one["became"] for one in own], config.seed, why)
    made["reverse.secondary.received_gain"] = over_prompts(gains, config.seed, why)
    return made
