"""Run folders made up for the tests of comparisons: finished, of any finder, without a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from interp.findings import Findings
from interp.runs.archive import save_findings
from interp.runs.result import prompt_record
from interp.runs.store import SCHEMA, RunFolder
from tests import sample_findings

LEVELS = [
    {
        "level": 0, "start_layer": 2, "lifetime": 7, "sinks": 31, "kinds": {"primary": 31}, "prompts": 2,
        "share_of_prompts": 1.0, "tokens": [{"token_id": 7, "token": " the", "sinks": 20}],
        "norm": {"low": 300.0, "median": 640.0, "high": 700.0}, "stability": 1.0,
    },
    {
        "level": 1, "start_layer": 12, "lifetime": 6, "sinks": 4, "kinds": {"secondary": 4}, "prompts": 1,
        "share_of_prompts": 0.5, "tokens": [{"token_id": 8, "token": ".", "sinks": 4}],
        "norm": {"low": 900.0, "median": 950.0, "high": 990.0}, "stability": 0.75,
    },
]  # fmt: skip


def sinks_findings(layers: int, heads: int, seed: int, hostile: bool) -> tuple[Findings, Any]:
    """Sample findings whose summary is that of the sinks finder, as far as a comparison reads it."""
    findings, _, prompts = sample_findings.sample(layers, heads, 2, 64, seed, hostile=hostile)
    number = {"found": 1, "mean": 0.9, "low": 0.0, "high": 1.0, "n": 2}
    findings.summary |= {
        "sink_rate": {"anchor": {"percent": 50.0 + seed, "mean_mass": 0.4, "prompts": 2}},
        "anchor_mass": findings.heatmaps[0].values.tolist(),
        "levels": LEVELS,
        "level_count": number | {"found": 2},
        "secondary_levels": LEVELS[1:],
        "claims": {"secondary_levels": number},
    }
    return findings, prompts


def save(
    folder: Path, model: str, layers: int = 30, heads: int = 3, seed: int = 0, hostile: bool = False, **changes: Any
) -> Path:
    """A finished run in `folder`; `changes` go into its findings. Returns the folder."""
    findings, prompts = sinks_findings(layers, heads, seed, hostile)
    store = RunFolder(folder)
    store.prepare()
    record = {
        "schema": SCHEMA,
        "status": "finished",
        "provenance": {
            "model": {"name": model, "layers": layers, "heads": heads},
            "effect": {"bos": "auto", "set": {"rule": "relative"}},
        },
        "prompts": [prompt_record(prompt) for prompt in prompts],
        "findings": save_findings(store, dataclasses.replace(findings, **changes)),
    }
    store.write_json(record)
    return folder
