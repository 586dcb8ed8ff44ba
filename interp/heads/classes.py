"""From scores by prompt to one row for every head: means, intervals, classes. Pure NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.finders.base import Unit
from interp.heads.config import BOTH, BY_IMPORTANCE, COLUMNS, KINDS, NONE, HeadsConfig
from interp.retrieval.resample import intervals
from interp.retrieval.task import has_task, task_of
from probes.base import Prompt

Head = tuple[int, int]


@dataclass(frozen=True)
class Score:
    """One score of every head, float64 [layer, head]; NaN where nothing was measured.

    `n` = units behind it: random sequences, or needles (prompts that hold none).
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: int


def first_of_each(prompts: Sequence[Prompt]) -> list[int]:
    """Indices of prompts, one for each token sequence: another prompt of the same tokens tells nothing new."""
    seen: dict[str, int] = {}
    for index, prompt in enumerate(prompts):
        seen.setdefault(prompt.hash, index)
    return list(seen.values())


def answered(unit: Unit, config: HeadsConfig) -> bool:
    """Whether it is a needle prompt whose answer came back."""
    return unit.facts["recall"] is not None and unit.facts["recall"] > config.min_recall


def scores(prompts: Sequence[Prompt], units: Sequence[Unit], config: HeadsConfig) -> dict[str, Score]:
    """Every score by name, ``qr_score`` too. Intervals are bootstrapped over random sequences for the scores that are
    measured on these, else over needles, whose prompts stay together."""
    usable = first_of_each(prompts)
    kept = [index for index in usable if answered(units[index], config)]
    out = {}
    for name in (*KINDS, "qr_score"):
        these = kept if name in ("retrieval", "qr_score") else usable
        by_needle = name in ("retrieval", "qr_score", "sink")
        groups = [group_of(prompts[i]) if by_needle else prompts[i].hash for i in these]
        out[name] = score([units[i].arrays[name] for i in these], groups, units[0].arrays["sink"].shape, config.seed)
    return out


def group_of(prompt: Prompt) -> str:
    """The prompt's needle, else the prompt itself."""
    return f"needle {task_of(prompt).needle}" if has_task(prompt) else prompt.hash


def score(arrays: Sequence[np.ndarray], groups: Sequence[str], shape: tuple[int, ...], seed: int) -> Score:
    """Mean over arrays [layer, head] and its interval over groups of them."""
    if not arrays:
        nothing = np.full(shape, np.nan)
        return Score(nothing, nothing, nothing, 0)
    values = np.stack([array.ravel() for array in arrays]).astype(np.float64)
    numbers = {one: number for number, one in enumerate(dict.fromkeys(groups))}
    low, high = intervals(values, np.array([numbers[one] for one in groups]), seed)
    return Score(values.mean(0).reshape(shape), low.reshape(shape), high.reshape(shape), len(numbers))


def members(found: Mapping[str, Score], config: HeadsConfig) -> dict[str, list[Head]]:
    """The heads of every class, in order of layer and head; a head may be in several."""
    out = {}
    for kind in KINDS:
        reached = np.nan_to_num(found[kind].mean, nan=-np.inf) >= getattr(config, kind)
        out[kind] = [(int(layer), int(head)) for layer, head in np.argwhere(reached)]
    return out


def shown_as(classes: Sequence[str]) -> str:
    """What a head of these classes is called."""
    if {"retrieval", "induction"} <= set(classes):
        return BOTH
    return next((kind for kind in BY_IMPORTANCE if kind in classes), NONE)


def best_first(rows: pd.DataFrame) -> pd.DataFrame:
    """The table's rows by class, those that matter most first, and within a class by its score."""
    places = {name: place for place, name in enumerate((BOTH, *BY_IMPORTANCE, NONE))}
    own = [one if one in KINDS else "retrieval" if one == BOTH else "sink" for one in rows["class"]]
    scored = [float(rows[kind].iloc[at]) for at, kind in enumerate(own)]
    shown = list(rows["class"])
    order = sorted(range(len(rows)), key=lambda at: (places[shown[at]], -scored[at]))
    return rows.iloc[order].reset_index(drop=True)


def table(found: Mapping[str, Score], sets: Mapping[str, Sequence[Head]]) -> pd.DataFrame:
    """One row a head."""
    layers, heads = found["sink"].mean.shape
    rows = []
    for layer in range(layers):
        for head in range(heads):
            own = [kind for kind in BY_IMPORTANCE if (layer, head) in sets[kind]]
            row = {"layer": layer, "head": head, "class": shown_as(own), "classes": ", ".join(own)}
            for kind in KINDS:
                one = found[kind]
                row |= {kind: one.mean[layer, head], f"{kind}_low": one.low[layer, head]}
                row[f"{kind}_high"] = one.high[layer, head]
            rows.append(row | {"qr_score": found["qr_score"].mean[layer, head]})
    return pd.DataFrame(rows, columns=[c.name for c in COLUMNS]).astype({c.name: c.dtype for c in COLUMNS})
