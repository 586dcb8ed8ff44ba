"""The findings' table: every head with its effects, its class and the evidence for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.circuits.config import COLUMNS, NONE, CircuitConfig, Head
from interp.circuits.measured import KINDS
from interp.circuits.shares import interval, share
from interp.circuits.tests_of_heads import p_values
from interp.finders.base import Unit


def table(explored: Unit, sequences: list[int], config: CircuitConfig) -> pd.DataFrame:
    """One row a head that the model has, in order of layer and head.

    Args:
        explored: what `interp.circuits.explore.explore` returned.
        sequences: a number for each prompt; prompts of one number are of the same tokens, and count once in effects,
            intervals and tests.
    """
    arrays, facts = explored.arrays, explored.facts
    select, held_out = facts["select"], facts["held_out"]

    def of(name: str, some: list[int]) -> np.ndarray:
        return once(arrays[name][..., some], [sequences[index] for index in some])

    columns: dict[str, np.ndarray] = {}
    gap = of("gap", select)
    for kind in ("total", "direct"):
        columns[kind] = share(of(kind, select), gap)
        columns[f"{kind}_low"], columns[f"{kind}_high"] = interval(of(kind, select), gap, config.seed)
        if held_out:
            columns[f"{kind}_held_out"] = share(of(kind, held_out), of("gap", held_out))
    for kind in ("direct_frozen_mlps", "attribution", "attribution_ig"):
        columns[kind] = share(of(kind, select), gap)
    columns["dla"] = of("dla", select).mean(-1)
    columns["backup"] = arrays["backup"]
    tested = p_values(arrays["total"][..., select], sequences=[sequences[index] for index in select], seed=config.seed)
    columns |= {"total_p": tested.p, "total_holm": tested.holm, "total_bh": tested.bh}
    first = first_stages(facts["stages"])
    along = {number: of(f"stage.{number}", select).mean(-1) for number in {number for number, _ in first.values()}}
    rows = []
    for layer, head in np.ndindex(*columns["total"].shape):
        if np.isnan(columns["total"][layer, head]):
            continue
        row: dict[str, Any] = {"layer": layer, "head": head, "class": NONE}
        row |= {name: float(values[layer, head]) for name, values in columns.items()}
        row |= evidence_of(facts, layer, head)
        if (layer, head) in first:
            number, _ = first[layer, head]
            row["stage"] = number
            row["stage_effect"] = float(along[number][layer, head])
            row["stability"] = float(arrays[f"stability.{number}"][layer, head])
            if f"again.{number}" in arrays:
                row["held_out_found"] = bool(arrays[f"again.{number}"][layer, head])
        rows.append(row)
    made = pd.DataFrame(rows, columns=[column.name for column in COLUMNS])
    return made.astype({column.name: column.dtype for column in COLUMNS})


def mlps(explored: Unit, sequences: list[int]) -> list[dict[str, Any]]:
    """Effects of every MLP, one row a layer, taken and named as in `table`: shares of the gap, ``dla`` in logits."""
    arrays, select = explored.arrays, explored.facts["select"]
    chosen = [sequences[index] for index in select]
    gap = once(arrays["gap"][select], chosen)
    changes = {kind: once(arrays[f"{kind}_mlps"][..., select], chosen) for kind in KINDS}
    means = {kind: each.mean(-1) if kind == "dla" else share(each, gap) for kind, each in changes.items()}
    return [
        {"layer": layer}
        | {kind: None if np.isnan(values[layer]) else float(values[layer]) for kind, values in means.items()}
        for layer in range(len(means["total"]))
    ]


def once(values: np.ndarray, sequences: list[int]) -> np.ndarray:
    """[..., sequence]: the mean of values [..., prompt] over the prompts of each sequence."""
    return np.stack([values[..., np.equal(sequences, one)].mean(-1) for one in dict.fromkeys(sequences)], -1)


def best_first(made: pd.DataFrame) -> pd.DataFrame:
    """The circuit by stage, then all other heads; each by the size of its effect."""
    size = made["stage_effect"].abs().fillna(made["total"].abs())
    order = made.assign(_stage=made["stage"].fillna(made["stage"].max() + 1 if len(made) else 0), _size=-size)
    return made.loc[order.sort_values(["_stage", "_size"], kind="stable").index].reset_index(drop=True)


def evidence_of(facts: dict[str, Any], layer: int, head: int) -> dict[str, Any]:
    """Class and evidence of one head; nothing for a head outside the circuit that takes over for no mover."""
    told = facts["told"].get(f"{layer}.{head}")
    if told is None:
        return {"class": "backup mover"} if [layer, head] in facts["backups"] else {}
    return {
        "class": told["class"],
        "looks_from": told["looks_from"],
        "looks_at": told["looks_at"],
        "attention": told["attention"],
        "copying": told["copying"],
    }


def first_stages(stages: Sequence[dict[str, Any]]) -> dict[Head, tuple[int, float]]:
    """Each head found, with the first stage that took it and its effect there."""
    found: dict[Head, tuple[int, float]] = {}
    for number, stage in enumerate(stages):
        for layer, head, effect in stage["heads"]:
            found.setdefault((layer, head), (number, effect))
    return found
