"""From fitted probes to rows of the table: ratios with intervals over held-out prompts, paired by prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.probing.config import COLUMNS
from interp.probing.fit import Fitted
from interp.probing.task import Task
from interp.scoring.bootstrap import draws, ends

RESAMPLES, LEVEL = 10_000, 0.95


def row(site: str, layer: int | None, position: str, fitted: Fitted, task: Task, seed: int) -> dict[str, Any]:
    """One row of the table (`interp.probing.config.COLUMNS`)."""
    times = draws(len(fitted.prompts), seed, RESAMPLES)
    score, scores = ratio(fitted.gained, fitted.possible, times)
    base, bases = ratio(fitted.baseline, fitted.possible, times)
    control, controls = ratio(fitted.control, fitted.control_possible, times)
    low, high = ends(np.stack([scores, scores - bases, scores - controls]), LEVEL)
    return {
        "site": site,
        "layer": layer,
        "position": position,
        "score": score,
        "score_low": low[0],
        "score_high": high[0],
        "baseline": base,
        "gain": score - base,
        "gain_low": low[1],
        "gain_high": high[1],
        "control": control,
        "selectivity": score - control,
        "selectivity_low": low[2],
        "selectivity_high": high[2],
        "validation": fitted.validation,
        "strength": fitted.strength,
        "converged": fitted.converged,
        "train": int(task.train.sum()),
        "test": int(task.test.sum()),
    }


def ratio(gained: np.ndarray, possible: np.ndarray, times: np.ndarray) -> tuple[float, np.ndarray]:
    """(sum / sum, the same under each draw of prompts [draw]); NaN where nothing is possible."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.divide(gained.sum(), possible.sum())), (times @ gained) / (times @ possible)


def table_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The table in its schema, the row with the best cross-validated score first (`interp.probing.fit.best_of`)."""
    table = pd.DataFrame(rows, columns=[column.name for column in COLUMNS])
    table = table.astype({column.name: column.dtype for column in COLUMNS})
    order = {"by": ["validation", "strength"], "ascending": [False, True], "kind": "stable", "na_position": "last"}
    return table.sort_values(**order).reset_index(drop=True)
