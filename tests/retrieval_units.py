"""Made-up instances of the needle task: what phase 1 of `retrieval-heads` would have measured, head by head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from interp.finders.base import ModelFacts, Unit
from interp.findings import Findings
from interp.retrieval.sets import arms_of
from interp.retrieval.task import Task
from probes.base import Prompt

SPAN = 10


def facts(shape: tuple[int, int] = (3, 4), hub_id: str | None = None, name: str = "made-up") -> ModelFacts:
    return ModelFacts(name, "llama", "Made", shape[0], shape[1], 8, False, "nothing", hub_id)


def prompt(name: str, needle: str, length: int | None = 64, depth: float | None = 0.5, **more: Any) -> Prompt:
    """64 tokens, the last eight of which ask."""
    base = Prompt(name, name, tuple(range(64)), tuple(f" t{i}" for i in range(64)))
    task = Task(
        prompt=base,
        needle=needle,
        answer=f"the answer of {needle}",
        question="where?",
        span=(20, 20 + SPAN),
        sentence=(18, 31),
        tail=56,
        query=(58, 60),
        null_tail=(1, 2, 3),
        null_query=(57, 58),
        length=length,
        depth=depth,
        depth_achieved=0.4,
        form="bare",
        max_new_tokens=8,
    )
    return replace(base, extra=task.as_extra(), **more)


def unit(copies: Any, recall: float = 1.0, **arrays: Any) -> Unit:
    """One instance from the paper's score of every head [layer, head]."""
    copies = np.asarray(copies, dtype=np.float32)
    return Unit(
        {
            "copies": copies,
            "copies_released": 1.5 * copies,
            "events": np.rint(SPAN * copies).astype(np.int32),
            "mass_in_needle": 0.5 * copies,
            "qr_score": copies - np.float32(0.1),
            "induction": 0.25 * copies,
            **arrays,
        },
        {"generated": [1, 2], "text": "it said so", "recall": recall, "exact": recall == 1.0, "steps": 2},
    )


def made(
    needles: Sequence[str], copies: Any, recalls: Sequence[float] | None = None
) -> tuple[tuple[Prompt, ...], list[Unit]]:
    """(prompts, units), one of each needle named; `copies` [instance, layer, head]."""
    recalls = [1.0] * len(needles) if recalls is None else recalls
    prompts = tuple(prompt(f"{name}-{i}", name) for i, name in enumerate(needles))
    return prompts, [unit(one, recall) for one, recall in zip(copies, recalls, strict=True)]


def chance(n: int, shape: tuple[int, int] = (3, 4), seed: int = 0) -> np.ndarray:
    """[instance, layer, head] scores in tenths: a strong head 0.1, a weaker one 2.3, one that copies now and then."""
    rng = np.random.default_rng(seed)
    out = np.zeros((n, *shape))
    out[:, 0, 1] = rng.integers(7, 11, n) / 10
    out[:, 2, 3] = rng.integers(1, 5, n) / 10
    out[::4, 1, 0] = 0.1
    return out


def checked(findings: Findings, best: float, other: float) -> list[Unit | None]:
    """Made-up units of phase 3: recall 1 untouched, `best` with the best heads masked, `other` with random ones; and
    the event that is shown, in which heads look at themselves."""
    summary, arms = findings.summary, []
    if summary["masks"]:
        recalls = {"untouched": 1.0, "retrieval": best, "random": other}
        arms = [
            {
                **arm.told,
                "recall": recalls[arm.kind],
                "exact": recalls[arm.kind] == 1,
                "tokens": 2,
                "text": "it said so",
            }
            for arm in arms_of(summary["masks"])
        ]
    proof = {
        "prompt": "p",
        "how": "zero",
        "when": "decode",
        "heads": 1,
        "layers": [0],
        "phases": ["decode"],
        "failed": [],
        "nothing": [],
        "worst": 0.0,
    }
    units: list[Unit | None] = []
    for index, told in enumerate(summary["prompts"]):
        unit = Unit()
        if arms and told["judging"]:
            unit.facts["masked"] = {
                "prompt": told["name"],
                "index": index,
                "needle": told["needle"],
                "dtype": "torch.float32",
                "arms": arms,
                "proof": proof,
            }
        if summary["shown"] and summary["shown"]["prompt"] == index:
            heads = len(summary["shown"]["heads"])
            unit.arrays["event"] = np.tile(np.eye(6, dtype=np.float32), (heads, 1, 1))
            unit.facts["event"] = {
                "cells": [" The", " key", " is", " [… 90 tokens …] ", " where", " key"],
                "marks": [[1, "answer in the needle"], [2, "needle"], [4, "question"], [5, "answer written"]],
                "answer": [4, 5],
                "tokens": 95,
                "whole": False,
            }
        units.append(unit if unit.facts else None)
    return units


def concluded(best: float = 0.1, other: float = 0.95, n: int = 24, shape: tuple[int, int] = (6, 4)) -> tuple[Any, ...]:
    """(findings, provenance, prompts) of a whole made-up run: `n` instances of half as many needles."""
    from interp.retrieval.config import RetrievalConfig
    from interp.retrieval.finder import retrieval_heads

    config = RetrievalConfig(ks=(0, 1, 2), draws=2)
    prompts, units = made([f"needle {i % (n // 2)}" for i in range(n)], chance(n, shape))
    findings = retrieval_heads.find(prompts, units, config, facts(shape))
    done = retrieval_heads.conclude(findings, checked(findings, best, other), config, None)
    return done, {"model": {"name": "made-up"}}, prompts
