"""What one prompt tells of every head: sink and retrieval scores, and a random sequence of its own for the others."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np

from interp.finders.base import Effort, Unit
from interp.heads.config import KINDS, HeadsConfig
from interp.heads.random_scores import random_scores
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.task import has_task, task_of
from interp.tracing.calls import received
from probes.base import Prompt

LAST = 32
"""So many last keys (at most a quarter of a short prompt) are no anchors: too few queries follow them."""


def measure(model: Any, prompt: Prompt, config: HeadsConfig) -> Unit:
    """Arrays, float32 [layer, head]: ``previous``, ``duplicate``, ``induction``, ``copy``, ``sink``, and of a prompt
    with a needle ``retrieval`` and ``qr_score``. Facts: ``anchor`` (its position), ``recall`` (None without a needle).
    """
    arrays = random_scores(model, seed_of(prompt), config.length)
    anchor, arrays["sink"] = sinking(model, prompt)
    recall = None
    if has_task(prompt):
        from interp.retrieval.measure import measured

        unit = measured(model, prompt, RetrievalConfig(random_tokens=0, min_recall=config.min_recall))
        recall = float(unit.facts["recall"])
        arrays |= {"retrieval": unit.arrays["copies"], "qr_score": unit.arrays["qr_score"]}
    return Unit(
        {name: np.asarray(array, np.float32) for name, array in arrays.items()}, {"anchor": anchor, "recall": recall}
    )


def effort(config: HeadsConfig, prompts: Sequence[Prompt], shape: tuple[int, int] | None = None) -> Effort:
    """For ``--dry-run``: what all phases ask of the model; an upper bound, as if every class had heads and every answer
    took all the tokens it may."""
    tasks = [task_of(prompt) for prompt in prompts if has_task(prompt)]
    runs = 1 + len(KINDS) * (1 + config.controls)
    return Effort(
        passes=1 + len(tasks) / len(prompts),
        decodes=ceil(sum(task.max_new_tokens for task in tasks) / len(prompts)),
        caches=2 if tasks else 0,
        tokens=2 * config.length * (len(prompts) + min(config.checked, len(prompts)) * runs),
        longest=2 * config.length,
        reads=0.0,
        maps=0,
        logits=2 * config.length,
        edits=False,  # of the random segments alone
    )


def seed_of(prompt: Prompt) -> int:
    """A number made of the prompt's tokens: other prompts, other random sequences."""
    return int(prompt.hash[:12], 16)


def sinking(model: Any, prompt: Prompt) -> tuple[int, np.ndarray]:
    """(anchor, mean attention on it from the queries at and after it, float32 [layer, head]).

    The anchor is the key that receives most, mean over all heads (Gu et al. 2024, arXiv 2410.10781, measure attention
    received so).
    """
    alpha = received(model, list(prompt.ids))[:, 0]
    ranked = len(prompt) - min(LAST, len(prompt) // 4)
    anchor = int(alpha.mean((0, 1))[:ranked].argmax())
    return anchor, alpha[:, :, anchor].numpy()
