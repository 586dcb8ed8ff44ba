"""The causal check of a probe: its directions taken out where it reads, against moves of the same size at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from interp.errors import NumbersError
from interp.finders.base import Unit
from interp.findings import Findings
from interp.probing.config import ProbeConfig
from interp.probing.labels import places
from interp.verify import Paired, paired
from probes.base import Prompt

METRICS = {
    "pairs": "drop in the logit difference of answer and wrong tokens, logits",
    "loss": "rise of the next-token loss, nats",
    "moved": "divergence of the next-token distribution from the untouched one at and behind the position, nats",
}
REMOVAL = ("read", "write", "centre", "spread")
"""Arrays of the findings: `interp.probing.fit.Removal` of the best probe."""
HOW = (
    "In every held-out prompt, what the best probe's {directions} {noun} of the states at {position} of {site} "
    "was replaced by its training mean (in standardised states); as the control, the same states were moved by exactly "
    "as much in random directions, {draws} times."
)


def metric_of(prompts: Sequence[Prompt], position: str) -> str:
    """What the model is asked, a key of `METRICS`: the answer where all prompts have one."""
    if prompts and all("pair" in prompt.extra for prompt in prompts):
        return "pairs"
    return "loss" if position == "all" else "moved"


def check(model: Any, prompt: Prompt, index: int, findings: Findings, config: ProbeConfig) -> Unit | None:
    """One held-out prompt. Facts: ``removed`` and ``random`` [draw], changes of the metric; None where nothing was
    found, or the prompt trained the probe."""
    from interp.probing.edit import MoveAlong, at_random
    from interp.tracing.tracer import trace

    best = findings.summary["best"]
    if best is None or not best["found"] or not findings.summary["prompts"][index]["held_out"]:
        return None
    at = tuple(places(prompt, best["position"]))
    if not at or (best["metric"] == "loss" and len(prompt) < 2):
        return None
    read, write, centre, spread = (findings.arrays[name] for name in REMOVAL)
    rng = np.random.default_rng((config.seed, index))

    def logits(along: np.ndarray | None) -> Any:
        edits = [] if along is None else [MoveAlong((best["site"],), at, read, along, centre)]
        with trace(model, edit=edits) as traced:
            found = traced.run(list(prompt.ids)).logits[0].float().cpu()
        if not bool(found.isfinite().all()):
            raise NumbersError(f"prompt {prompt.name!r}: the logits are not finite; try --dtype float32")
        return found

    plain = logits(None)
    changes = [
        change(best["metric"], prompt, min(at), plain, logits(along))
        for along in (write, *(at_random(write, spread, rng) for _ in range(config.draws)))
    ]
    return Unit(facts={"removed": changes[0], "random": changes[1:]})


def change(metric: str, prompt: Prompt, first: int, plain: Any, edited: Any) -> float:
    """How far an edit from position `first` on changed the metric; higher = more harm. Logits are [position, vocab]."""
    import torch

    from interp.tracing.calls import next_token_loss

    if metric == "pairs":
        pair = prompt.extra["pair"]
        answer, wrong = int(pair["answer"]), list(pair["wrong"])
        return float((plain[-1, answer] - plain[-1, wrong].mean()) - (edited[-1, answer] - edited[-1, wrong].mean()))
    if metric == "loss":
        losses = [next_token_loss(one[None], prompt.ids).mean() for one in (edited, plain)]
        return float(losses[0] - losses[1])
    before, after = (torch.log_softmax(one[first:].double(), -1) for one in (plain, edited))
    return float((before.exp() * (before - after)).sum(-1).mean())


def effects(findings: Findings, checks: Sequence[Unit | None], config: ProbeConfig) -> Paired:
    """Removing against moving at random, prompt by prompt."""
    best, told_of = findings.summary["best"], findings.summary["prompts"]
    made = [(one["name"], unit) for one, unit in zip(told_of, checks, strict=True) if unit is not None]
    told = (
        HOW.format(
            directions=best["directions"],
            noun="direction holds" if best["directions"] == 1 else "directions hold",
            position="all positions but the first" if best["position"] == "all" else f"position {best['position']}",
            site=best["site"],
            draws=config.draws,
        )
        if best is not None
        else "No probe was fitted, so there was nothing to intervene on."
    )
    return paired(
        [name for name, _ in made],
        [unit.facts["removed"] for _, unit in made],
        [float(np.mean(unit.facts["random"])) for _, unit in made],
        metric=METRICS[best["metric"]] if best is not None else METRICS["loss"],
        how=told,
        seed=config.seed,
        also_alone=True,
    )
