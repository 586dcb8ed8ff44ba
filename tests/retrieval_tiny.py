"""Needle tasks for tiny models: made of ids, with no sense, and with a needle that can be hidden."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

import interp
from interp.retrieval.task import Task, task_of
from probes.base import Prompt
from tests.tiny import tiny, tiny_tokenizer


def model_of(arch: str) -> interp.Model:
    """A tiny model with a tokenizer."""
    return interp.load(tiny(arch), tokenizer=tiny_tokenizer(128))


def task_for(model: Any, tokens: int = 40, most: int = 6) -> Task:
    """A random prompt with its needle at 8..15, asked from token `tokens` - 6 on."""
    drawn = torch.randint(20, 128, (tokens,), generator=torch.Generator().manual_seed(tokens)).tolist()
    prompt = Prompt("made up", "", (1, *drawn), tuple(map(str, (1, *drawn))))
    tail, end = tokens - 6, tokens + 1
    spans = {"span": (10, 14), "sentence": (8, 15), "tail": tail, "query": (tail + 1, end)}
    null = {"null_tail": prompt.ids[tail:], "null_query": (tail + 1, end)}
    facts = {"length": None, "depth": None, "depth_achieved": 0.2, "form": "own", "max_new_tokens": most}
    task = Task(prompt, "needle", "w60 w61", "q", **spans, **null, **facts)
    return task_of(replace(prompt, extra=task.as_extra()))
