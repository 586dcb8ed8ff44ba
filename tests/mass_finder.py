"""A small real finder for the runner's tests: the most attended key of every prompt, checked by zeroing one head.

It counts its calls, can be slowed, and can be told to stop at a prompt, so that tests see what the runner asks of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from interp.finders.base import ModelFacts, Unit
from interp.findings import Column, Findings, Heatmap, TokenStrip, Verdict, Verification
from interp.registry import FINDERS
from probes.base import Prompt

COLUMNS = (
    Column("prompt", "string", "prompt", "Name of the prompt."),
    Column("position", "Int64", "position", "0-based position of the most attended key."),
    Column("token", "string", "token", "The token there."),
    Column("mass", "float64", "mass", "Mean over layers and heads of the attention it receives."),
    Column("rank", "Int64", "rank", "Always missing: keeps a column of missing values in the tests."),
)


@dataclass(frozen=True)
class MassConfig:
    verdict: Literal["verified", "failed", "too few to say"] = "verified"
    floor: float = 0.0
    seed: int = 0
    keep_arrays: int = 2


@dataclass
class MassFinder:
    """See the module docstring. `stop_at` raises KeyboardInterrupt when that many prompts were measured."""

    name: str = "mass"
    config_type: type = MassConfig
    version: str = "1"
    delay: float = 0.0
    stop_at: int | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)

    def measure(self, model: Any, prompt: Prompt, config: MassConfig) -> Unit:
        from interp.tracing.calls import received

        if self.stop_at is not None and len(self.calls) >= self.stop_at:
            raise KeyboardInterrupt
        time.sleep(self.delay)
        self.calls.append(("measure", prompt.name))
        alpha = received(model, list(prompt.ids))[:, 0].numpy()
        return Unit({"received": alpha}, {"tokens": len(prompt)})

    def find(self, prompts: Sequence[Prompt], units: Sequence[Unit], config: MassConfig, facts: ModelFacts) -> Findings:
        rows = []
        for prompt, unit in zip(prompts, units, strict=True):
            mass = unit.arrays["received"].mean((0, 1))
            top = int(mass.argmax())
            if mass[top] >= config.floor:
                rows.append([prompt.name, top, prompt.tokens[top], float(mass[top]), None])
        first = units[0].arrays["received"]
        pattern = np.tril(np.ones((len(prompts[0]),) * 2, np.float32))
        return Findings(
            self.name,
            pd.DataFrame(rows, columns=[column.name for column in COLUMNS]),
            COLUMNS,
            f"{len(rows)} keys found.",
            arrays={f"received.{i}": unit.arrays["received"] for i, unit in enumerate(units[: config.keep_arrays])},
            summary={"tokens": [unit.facts["tokens"] for unit in units], "nothing": float("nan")},
            caveats=["A test finder."] + [f"{prompt.name} was truncated." for prompt in prompts if prompt.truncated],
            heatmaps=[
                Heatmap("heads", "By head", first.mean(-1), "layer", "head", "mass", kind="layer-head"),
                Heatmap(
                    "keys",
                    "By key",
                    np.where(first.mean(1) > 0.5, np.nan, first.mean(1)),
                    "layer",
                    "position",
                    "mass",
                    kind="layer-position",
                    prompt=0,
                    column_labels=prompts[0].tokens,
                ),
            ],
            strips=[
                TokenStrip(0, prompts[0].name, prompts[0].tokens, first.mean((0, 1)), {1: "top"}, {"0.1": pattern})
            ],
        )

    def check(self, model: Any, prompt: Prompt, index: int, findings: Findings, config: MassConfig) -> Unit | None:
        from interp.interventions.ablate import ZeroHeads
        from interp.tracing.tracer import trace

        self.calls.append(("check", prompt.name))
        if prompt.name not in set(findings.table["prompt"]):
            return None
        with trace(model, edit=[ZeroHeads([(0, 0)])]) as t:
            out = t.run(list(prompt.ids))
        return Unit(facts={"logit": float(out.logits[0, -1].max())})

    def conclude(self, findings: Findings, checks: Sequence[Unit | None], config: MassConfig) -> Findings:
        done = [unit.facts["logit"] for unit in checks if unit is not None]
        verdict: Verdict = config.verdict if done else "nothing to verify"
        how = "Head 0.0 was zeroed."
        effect = float(np.mean(done)) if done else None
        verification = Verification(
            verdict, "top logit", how, len(done), effect, effect, effect, per_prompt=({"name": "x", "effect": 1.0},)
        )
        return replace(findings, verification=verification)


@contextmanager
def registered(**options: Any) -> Iterator[MassFinder]:
    """The finder under the name ``mass``, for the length of a block."""
    made = MassFinder(**options)
    FINDERS._targets["mass"] = made
    try:
        yield made
    finally:
        del FINDERS._targets["mass"]


def save_tiny(folder: Any, arch: str = "llama", seed: int = 0) -> str:
    """A tiny model with its tokenizer as a model folder; returns its path."""
    from tests.tiny import tiny, tiny_tokenizer

    tiny(arch, seed).save_pretrained(folder)
    tiny_tokenizer(128).save_pretrained(folder)
    return str(folder)
