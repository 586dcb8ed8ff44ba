"""Findings of the circuit finder made up for tests: its table, its summary, run folders without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.circuits import pictures
from interp.circuits.config import COLUMNS, NONE, Head
from interp.circuits.sheets import sheets
from interp.findings import Findings
from interp.runs.archive import save_findings
from interp.runs.result import prompt_record
from interp.runs.store import SCHEMA, RunFolder
from tests import sample_findings

SHAPE = (12, 9)
STAGES = (
    ("logits@end", "logits", "end", ((9, 1), (10, 7), (11, 2))),
    ("q@end", "q", "end", ((7, 3), (8, 6))),
    ("v@auto", "v", "repeat", ((5, 5), (3, 0))),
    ("k@auto", "k", "after_first", ((2, 2), (4, 1))),
)
CLASSES = {
    "mover": ((9, 1), (11, 2)),
    "negative mover": ((10, 7),),
    "inhibition": ((7, 3), (8, 6)),
    "induction": ((5, 5),),
    "duplicate token": ((3, 0),),
    "previous token": ((2, 2),),
    "other": ((4, 1),),
}
CIRCUIT = tuple(sorted(head for heads in CLASSES.values() for head in heads))


def about(mean: float, n: int = 20) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": n}


def figures(accuracy: float) -> dict[str, Any]:
    return {
        "accuracy": about(accuracy), "top1": about(accuracy / 2), "difference": about(3 * accuracy),
        "p_answer": about(accuracy / 3), "corrupt_difference": about(-2 * accuracy),
    }  # fmt: skip


def effects(seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.02, shape)


def summary(task: str = "ioi", shift: Sequence[Head] = (), shape: tuple[int, int] = SHAPE) -> dict[str, Any]:
    """A whole summary; each head of `shift` is left out of the circuit, and the one beside it is in it instead."""

    def moved(head: Head) -> list[int]:
        return [head[0], (head[1] + 1) % shape[1]] if head in shift else list(head)

    stages, before = [], []
    for name, side, position, heads in STAGES:
        taken = [moved(head) for head in heads]
        stages.append(
            {
                "name": name, "side": side, "position": position, "receivers": before, "found_again": 0.5, "why": "",
                "heads": [[*head, 0.3 / (1 + i) * (1, -1)[head == [10, 7]]] for i, head in enumerate(taken)],
            }
        )  # fmt: skip
        before = taken
    circuit = sorted(moved(head) for head in CIRCUIT)
    f = [0.0, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.0, 1.0]
    curve = {"signed": {"f": f, "cpr": 0.95, "cmd": 0.1}, "absolute": {"f": f, "cpr": 0.9, "cmd": 0.12}}
    return {
        "settings": {"share": 0.02},
        "shape": list(shape),
        "task": task,
        "behaviour": {
            **figures(0.9), "chance": 0.5, "can": True, "why": "It can.", "prompts": 20,
            "groups": {"template": {"ABBA 1": figures(1.0), "BABA 1": figures(0.8)}},
        },
        "select": ["a"], "held_out": ["b"], "stages": stages, "circuit": circuit,
        "classes": {name: [moved(head) for head in heads] for name, heads in CLASSES.items()},
        "evaluation": {
            "how": "mean", "prompts": 10, "size": len(circuit), "heads": shape[0] * shape[1],
            "faithfulness": {
                how: {
                    "whole": about(3.5), "circuit": about(3.0 - i), "empty": about(0.1), "of_whole": about(0.86),
                    "share": about(0.85), "random": {"draws": 2, "circuit": about(0.3), "share": about(0.06)},
                }
                for i, how in enumerate(("resample", "zero", "mean"))
            },
            "completeness": {
                "sets": [
                    {"kind": "class", "name": "mover", "heads": [[9, 1]], "circuit": 1.0, "model": 2.5},
                    {"kind": "random", "name": "random 1", "heads": [[9, 1], [2, 2]], "circuit": 2.0, "model": 2.2},
                ]
            },
            "minimality": {
                "threshold": 0.01,
                "share": 1.0,
                "heads": [{"head": [9, 1], "class": "mover", "without": "no other", "k": 0, "change": about(-1.2),
                           "share": 0.34, "needed": True}],
            },
            "curves": {
                "shares": [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0],
                "kept": [0, 0, 0, 1, 2, 5, 10, 21, 54, 108], "whole": 3.5, "empty": 0.1,
                "curves": {"total effect": curve, "random 1": curve},
            },
        },
        "claims": {},
    }  # fmt: skip


def table(told: dict[str, Any], seed: int = 0) -> pd.DataFrame:
    """The finder's table for a summary: every head a row."""
    shape = tuple(told["shape"])
    total, class_of = effects(seed, shape), pictures.classes_of(told)
    rows = [
        {
            "layer": layer, "head": head, "class": class_of.get((layer, head), NONE), "total": total[layer, head],
            "direct": total[layer, head] / 2, "attribution_ig": total[layer, head] * 1.1, "looks_at": "S2",
            "looks_from": "end", "attention": 0.5, "copying": 0.9, "dla": 0.1,
        }
        for layer, head in np.ndindex(*shape)
    ]  # fmt: skip
    made = pd.DataFrame(rows, columns=[column.name for column in COLUMNS])
    return made.astype({column.name: column.dtype for column in COLUMNS})


def findings(task: str = "ioi", shift: Sequence[Head] = (), shape: tuple[int, int] = SHAPE, seed: int = 0) -> Findings:
    told = summary(task, shift, shape)
    rows, drawn = table(told, seed), pictures.graph(told)
    return Findings(
        "circuit", rows, COLUMNS, f"A circuit for {task}.", summary=told, heatmaps=pictures.heatmaps(rows, shape),
        charts=pictures.charts(told), sheets=sheets(told, rows), graphs=[] if drawn is None else [drawn],
    )  # fmt: skip


def save(folder: Path, model: str = "tiny", task: str = "ioi", **how: Any) -> Path:
    """A finished run of the circuit finder in `folder`."""
    made = findings(task, **how)
    prompts = sample_findings.sample(heads=1, count=2, length=64)[2]
    layers, heads = made.summary["shape"]
    store = RunFolder(folder)
    store.prepare()
    record = {
        "schema": SCHEMA,
        "status": "finished",
        "provenance": {"model": {"name": model, "layers": layers, "heads": heads}, "effect": {"set": {"share": 0.02}}},
        "prompts": [prompt_record(prompt) for prompt in prompts],
        "findings": save_findings(store, made),
    }
    store.write_json(record)
    return folder
