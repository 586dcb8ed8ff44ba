"""The figures of the held-out prompts, and the comparison with random heads. Pure NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.finders.base import Unit
from interp.findings import Findings, Verification
from interp.repairs import words
from interp.repairs.config import ORACLE, RepairConfig
from interp.verify import bootstrap_mean, over_prompts, paired


def judged(edits: Mapping[str, Any]) -> str | None:
    """The edit that the verdict is about: of those without the label the best on the training prompts, in the end that
    with fewer heads; the oracle where no other was tried; None where no edit has heads."""
    usable = {edit: told for edit, told in edits.items() if told["heads"]}
    free = [edit for edit in usable if edit != ORACLE]
    if not free:
        return ORACLE if set(edits) == {ORACLE} and usable else None
    return max(free, key=lambda edit: (*usable[edit]["path"][-1], -len(usable[edit]["heads"])))


def filled(
    findings: Findings, checks: Sequence[Unit | None], texts: Sequence[Mapping[str, Any]], config: RepairConfig
) -> tuple[pd.DataFrame, dict[str, Verification], dict[str, Any]]:
    """(table with the held-out figures, edit -> verification, edit -> claims)."""
    names = [name for name, unit in zip(findings.summary["names"], checks, strict=True) if unit is not None]
    facts = [unit.facts for unit in checks if unit is not None]
    rows = findings.table.astype(object).to_dict("records")
    verifications: dict[str, Verification] = {}
    claims: dict[str, Any] = {}
    if not facts:
        return findings.table, verifications, claims
    before = column([one["before"] for one in facts])
    for number, (row, variant) in enumerate(zip(rows, findings.summary["variants"], strict=True)):
        told = [one["after"][number] for one in facts]
        after = column(told)
        for name in ("top1", "choice", "difference"):
            row[f"{name}_before"] = float(before[name].mean())
            put(row, name, after[name], config.seed)
        was, now = before[config.metric], after[config.metric]
        row["repaired"], row["broken"] = int(((was == 0) & (now == 1)).sum()), int(((was == 1) & (now == 0)).sum())
        for name, key in (("mover_before", "mover_before"), ("mover_after", "mover")):
            row[name] = mean([one[key] for one in told])
        if variant["part"] != "all":
            continue
        edit = variant["edit"]
        both = [i for i, one in enumerate(told) if one["random"] is not None]
        random = np.array([told[i]["random"] for i in both], dtype=np.float64)
        verification = paired(
            [names[i] for i in both],
            list(now[both] - was[both]),
            list(random - was[both]),
            metric=words.metric(config),
            how=words.how(findings, edit, config),
            expected="higher",
            seed=config.seed,
            also_alone=True,
        ).verification()
        verifications[edit] = verification
        if both:
            row["random"] = float(random.mean())
            put(row, "gain", now[both] - random, config.seed)
        row["verdict"] = verification.verdict
        if edit == "scale" and texts:
            row["text_loss"] = float(np.mean([one["edited"] - one["loss"] for one in texts]))
        claims[edit] = {
            **{f"{name}_before": over_prompts(before[name], config.seed, "") for name in before},
            **{name: over_prompts(after[name], config.seed, "") for name in after},
            "change": over_prompts(now - was, config.seed, ""),
            "random": over_prompts(random, config.seed, "the model has too few other heads"),
            **{name: row[name] for name in ("repaired", "broken", "mover_before", "mover_after")},
            "verdict": verification.verdict,
            "heads": variant["heads"],
            "factor": variant["factor"],
        }
    columns = [one.name for one in findings.columns]
    return pd.DataFrame(rows, columns=columns), verifications, claims


def column(told: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """top1, choice (0 or 1) and difference [prompt]."""
    return {name: np.array([one[name] for one in told], dtype=np.float64) for name in ("top1", "choice", "difference")}


def put(row: dict[str, Any], name: str, values: np.ndarray, seed: int) -> None:
    """Mean and interval of values by prompt."""
    found = bootstrap_mean(values, seed=seed)
    row[name], row[f"{name}_low"], row[f"{name}_high"] = found.mean, found.low, found.high


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that are known; None without any."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
