"""The own checks of runs on circuits: whether their numbers can be trusted, apart from what a paper says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interp.circuits.config import Head
from interp.findings import Findings
from interp.papers.checks import ROUGH, TOLERANCE, eager
from interp.papers.circuit_figures import names_of
from interp.papers.claims import Check
from probes.base import Prompt

HEADS = 3
"""Heads whose total effect is computed a second time, plainly."""


def checks(model: Any, prompts: Sequence[Prompt], findings: Mapping[str, Findings]) -> list[Check]:
    """Everything that has to hold before a verdict on the paper means anything."""
    circuits = {name: found for name, found in findings.items() if found.finder == "circuit"}
    again = [check for name, found in circuits.items() for check in total(model, prompts, name, found)]
    return [eager(model, prompts), *again, *verified(circuits)]


def verified(circuits: Mapping[str, Findings]) -> list[Check]:
    """Whether the answer hangs on the heads that a run calls its circuit.

    No check of a task that the model does not do: nothing there hangs on any head.
    """
    return [
        Check(f"causal check of {name}", found.verification.verdict != "failed", found.verification.verdict)
        for name, found in circuits.items()
        if found.verification is not None and found.summary["behaviour"]["can"]
    ]


def total(model: Any, prompts: Sequence[Prompt], name: str, found: Findings) -> list[Check]:
    """Total effects of the strongest heads on the shortest prompt, against whole runs of that one prompt, one head at a
    time. No check where the run's total effects are of one position, or of prompts that are not there.
    """
    measured, rows = found.arrays.get("total"), found.summary["prompts"]
    at = {row["name"]: index for index, row in enumerate(rows)}
    mine = [prompt for prompt in prompts if prompt.name in at]
    if measured is None or not mine or found.summary["settings"].get("position", "all") != "all":
        return []
    prompt = min(mine, key=len)
    heads = strongest(measured, HEADS)
    plain, scale = plainly(model, prompt, heads)
    gap = max(abs(float(measured[head][at[prompt.name]]) - plain[head]) for head in heads)
    bound = TOLERANCE.get(str(model.dtype).removeprefix("torch."), ROUGH) * max(1.0, scale)
    told = (
        f"{names_of(heads)} on {prompt.name!r}: largest difference {gap:.1e} logits (bound {bound:.1e}, logits up to "
        f"{scale:.0f})"
    )
    return [Check(f"total effects of {name}, recomputed", gap <= bound, told)]


def strongest(effects: np.ndarray, number: int) -> list[Head]:
    """Heads of the largest mean change [layer, head, pair]."""
    size = np.nan_to_num(np.abs(effects.mean(-1)))
    order = np.argsort(-size, axis=None, kind="stable")[:number]
    return [(int(at) // effects.shape[1], int(at) % effects.shape[1]) for at in order]


def plainly(model: Any, prompt: Prompt, heads: Sequence[Head]) -> tuple[dict[Head, float], float]:
    """(change of the logit difference when a head puts out what it puts out in the twin, by head; the largest logit in
    it): two whole runs to begin with, and one a head."""
    from interp.circuits.pairs import pair_of
    from interp.interventions.resample import ResampleHeads
    from interp.tracing.tracer import trace

    pair = pair_of(prompt)
    read = [pair.answer, *pair.wrong]

    def difference(edits: Sequence[Any]) -> tuple[float, float]:
        with trace(model, edit=list(edits)) as t:
            logits = t.run(list(prompt.ids)).logits[0, -1, read].double().cpu()
        return float(logits[0] - logits[1:].mean()), float(logits.abs().max())

    sites = {layer: f"blocks.{layer}.attn.hook_z" for layer, _ in heads}
    with trace(model, list(sites.values())) as t:
        t.run(list(pair.corrupt))
        other = {layer: t[site][0].clone() for layer, site in sites.items()}
    clean, scale = difference([])
    found = {}
    for layer, head in heads:
        found[layer, head] = difference([ResampleHeads({(layer, head): other[layer][:, head]})])[0] - clean
    return found, scale
