"""What a run of `retrieval-heads` asks of the model, from its settings and prompts, for ``--dry-run``."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from interp.finders.base import Effort
from interp.retrieval import closed_book, plain_text
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.proof import STEPS
from interp.retrieval.split import split
from interp.retrieval.task import task_of
from probes.base import Prompt

QUESTION = 256
"""Tokens of a question with the solved examples before it, roughly."""


def effort(config: RetrievalConfig, prompts: Sequence[Prompt], shape: tuple[int, int] | None = None) -> Effort:
    """An upper bound: as if no two prompts began alike, every answer took all the tokens it may, every needle were
    answered, and the model had heads for every K."""
    tasks = [task_of(prompt) for prompt in prompts]
    _, judging = split([task.needle for task in tasks], config)
    held_out = [task for task in tasks if task.needle in judging]
    sets, batch = sum(k > 0 for k in config.ks), config.at_once
    passes, decodes = len(tasks) + 1, sum(task.max_new_tokens for task in tasks)  # one more: the event that is shown
    tokens, steps, caches = 2 * config.random_tokens * len(tasks), 0, 1 + config.share_prefix
    if sets and len(held_out) < len(tasks):
        arms, once = 1 + sets * (1 + config.draws), config.when == "decode"
        proof = 2 * (3 if config.how == "block" else 2)  # two masks (and none, for block), each there twice
        passes += len(held_out) * (2 if once else arms + proof)
        decodes += sum(ceil(arms / batch) * task.max_new_tokens + min(STEPS, task.max_new_tokens) for task in held_out)
        caches += min(batch, arms)
        if config.how != "block":
            tokens += config.texts * plain_text.LENGTH * (1 + sets * (1 + min(plain_text.DRAWS, config.draws)))
        questions, asked = len(closed_book.KINDS) * config.closed_book, 2 + config.draws
        tokens += questions * QUESTION * (1 if once else asked)
        steps += questions * closed_book.MOST * ceil(asked / batch)
    held = {"reads": 0.0, "maps": 0, "logits": plain_text.LENGTH, "edits": False}  # prompts are read in chunks
    return Effort(passes / len(tasks), ceil(decodes / len(tasks)), caches, tokens, steps, **held)
