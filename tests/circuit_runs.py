"""Findings of the finders `circuit` and `repair` made up for tests of what papers say of them: no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.circuits.config import COLUMNS, Head
from interp.findings import Findings, Verification
from interp.repairs.config import COLUMNS as REPAIR_COLUMNS

N, SHAPE = 20, (12, 12)
"""Prompts, of which the second half is held out; layers and heads."""
STAGES = {"logits": "logits@end", "q": "q@end", "v": "v@auto", "k": "k@auto"}
SIDES = {"mover": "logits", "negative mover": "logits", "inhibition": "q", "content gatherer": "q"}
SIDES |= {"induction": "v", "duplicate token": "v", "previous token": "k"}
CLASSES: dict[str, list[Head]] = {
    "mover": [(9, 6), (9, 9)],
    "negative mover": [(10, 7)],
    "inhibition": [(7, 3), (8, 6)],
    "induction": [(5, 5)],
    "duplicate token": [(3, 0)],
    "previous token": [(2, 2)],
}


def about(mean: float | None, n: int = N, half: float = 0.05) -> dict[str, Any]:
    """A figure with its interval."""
    if mean is None:
        return {"mean": None, "low": None, "high": None, "n": 0, "why": "not there"}
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


def by_prompt(mean: float) -> np.ndarray:
    """Values [prompt] around a mean; those of the prompts that choose lie far above it."""
    values = mean + 0.01 * (-1.0) ** np.arange(N)
    values[: N // 2] = 9.0
    return values


def circuit(
    classes: Mapping[str, Sequence[Head]] = CLASSES,
    *,
    effect: Mapping[str, float] | None = None,
    dla: Mapping[str, float] | None = None,
    queries: float = 0.0,
    can: bool = True,
    held: bool = True,
    gap: float = -3.0,
    why: Mapping[str, str] | None = None,
    verdict: Any = "verified",
    backups: Sequence[Head] = ((10, 10),),
    gained: float = 0.4,
    claims: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
) -> Findings:
    """A run.

    Args:
        classes: class -> heads.
        effect, dla: class -> what each of its heads does on the held-out prompts.
        queries: effect on queries of heads that are in no stage.
        can: the model does the task.
        held: half of the prompts did not choose.
        gap: what the twins change.
        why: side of a stage -> why it has no heads.
        gained: what each backup's DLA gains; each mover loses 1.
        claims, evaluation: figures other than those of a run in which every claim holds.
    """
    effect, dla, why = effect or {}, dla or {}, why or {}
    side_of = {head: SIDES[name] for name, heads in classes.items() for head in heads}
    arrays = {f"stage.{i}": np.full((*SHAPE, N), queries, np.float32) for i in range(len(STAGES))}
    arrays |= {"dla": np.zeros((*SHAPE, N)), "gap": np.full(N, gap), "backup": np.zeros(SHAPE)}
    for name, heads in classes.items():
        sign = -1 if name == "negative mover" else 1
        for head in heads:
            number = list(STAGES).index(SIDES[name])
            arrays[f"stage.{number}"][head] = by_prompt(effect.get(name, 0.2 * sign))
            arrays["dla"][head] = by_prompt(dla.get(name, 1.0 * sign))
            arrays["backup"][head] = -1.0 if name == "mover" else 0.0
    for head in backups:
        arrays["backup"][head] = gained
    every, kinds = list(np.ndindex(*SHAPE)), {head: name for name, heads in classes.items() for head in heads}
    table = pd.DataFrame(  # the columns that are read
        {
            "layer": [layer for layer, _ in every],
            "head": [head for _, head in every],
            "class": [kinds.get(head, "none") for head in every],
            "stability": [0.9 if head in kinds else None for head in every],
            "held_out_found": pd.array([True if head in kinds else None for head in every], dtype="boolean"),
        }
    )
    stages = [
        {
            "name": name,
            "side": side,
            "position": "end",
            "heads": [[*head, 0.2] for head, one in side_of.items() if one == side],
            "why": why.get(side, ""),
        }
        for side, name in STAGES.items()
    ]
    seen = {
        f"{layer}.{head}": {"side": side, "looks_from": "end", "looks_at": "answer", "attention": 0.5}
        for (layer, head), side in side_of.items()
    }
    told = {"difference": about(3.0), "accuracy": about(0.9), "top1": about(0.5, half=0.1), "p_answer": about(0.4)}
    told |= {"knocked_out": about(-2.0, 10), "knocked_out_difference": about(-1.5, 10)}
    summary = {
        "settings": {"seed": 0, "position": "all", "share": 0.02, "least": 1},
        "shape": list(SHAPE),
        "behaviour": {"can": can, "why": "it guesses.", "chance": 0.5},
        "prompts": [{"name": f"p{i}", "held_out": held and i >= N // 2, "sequence": i} for i in range(N)],
        "stages": stages,
        "circuit": sorted(list(head) for head in side_of),
        "classes": {name: [list(head) for head in heads] for name, heads in classes.items() if heads},
        "evidence": seen,
        "backups": [list(head) for head in backups],
        "evaluation": {**judged(len(side_of)), **(evaluation or {})},
        "claims": {**told, **(claims or {})},
    }
    return Findings("circuit", table, COLUMNS, "", arrays, summary, verification=Verification(verdict, "", ""))


def judged(size: int, kept: float = 0.95, distance: float = 0.1, low: float = 0.1, n: int = 10) -> dict[str, Any]:
    """An evaluation: F(M) = 3, F(C) / F(M) = `kept`, `distance` without a part, and `low` the smallest change that the
    removal of a head makes."""
    sets = [
        {"kind": kind, "name": kind, "heads": [[9, 6]], "distance": distance, "difference": about(distance, n)}
        for kind in ("class", "random", "greedy")
    ]
    heads = [
        {"head": [i, 0], "change": about(-change, n, change / 2), "needed": change >= 0.03}
        for i, change in enumerate([low, 0.5])
    ]
    return {
        "how": "mean",
        "size": size,
        "heads": SHAPE[0] * SHAPE[1],
        "faithfulness": {
            "mean": {
                "whole": about(3.0, n),
                "circuit": about(3.0 * kept, n),
                "of_whole": about(kept, n, 0.02),
                "share": about(kept, n),
                "random": {"difference": about(2.0, n)},
            }
        },
        "completeness": {"sets": sets},
        "minimality": {"threshold": 0.01, "heads": heads},
    }


def repair(
    oracle: Sequence[Head] = ((7, 3), (10, 7)),
    *,
    change: float = 0.4,
    before: float = 0.5,
    alone: float = 0.8,
    verdict: str = "verified",
    movers: tuple[float | None, float | None] = (0.1, 0.5),
    free: bool = True,
    undefined: Mapping[str, str] | None = None,
    n: int = 10,
) -> Findings:
    """A repair run with the edits oracle and, if `free`, inhibit; each head of the first is tried alone."""
    undefined = undefined or {}
    edits = {name: [list(head) for head in oracle] for name in ("oracle", "inhibit") if name not in undefined}
    edits = {name: heads for name, heads in edits.items() if free or name == "oracle"}
    figures = {
        "top1_before": about(before, n),
        "choice_before": about(before, n),
        "top1": about(before + change, n),
        "choice": about(before + change, n),
        "change": about(change, n),
        "random": about(before, n),
        "repaired": 4,
        "broken": 0,
        "mover_before": movers[0],
        "mover_after": movers[1],
        "verdict": verdict,
        "heads": [list(head) for head in oracle],
    }
    variants = [{"edit": name, "part": "all", "heads": heads} for name, heads in edits.items() if heads]
    variants += [{"edit": "oracle", "part": "one", "heads": [list(head)]} for head in oracle if "oracle" in edits]
    rows = [
        {"edit": one["edit"], "top1": alone, "top1_low": alone - 0.1, "top1_high": alone + 0.1, "top1_before": before}
        for one in variants
    ]
    columns = ["edit", "top1", "top1_low", "top1_high", "top1_before"]
    table = pd.DataFrame(rows, columns=columns)
    summary = {
        "settings": {"metric": "top1"},
        "undefined": dict(undefined),
        "edits": {name: {"heads": heads} for name, heads in edits.items()},
        "variants": variants,
        "judged": "inhibit" if edits.get("inhibit") else None,
        "movers": [[11, 2]],
        "claims": {name: figures for name, heads in edits.items() if heads},
    }
    return Findings("repair", table, REPAIR_COLUMNS, "", {}, summary)
