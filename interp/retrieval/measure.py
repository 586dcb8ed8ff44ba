"""Phase 1 of `retrieval-heads`: one needle prompt read, answered and scored."""

from __future__ import annotations

from typing import Any

import numpy as np

from interp.finders.base import Unit
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.copying import copies
from interp.retrieval.decode import decode
from interp.retrieval.rouge import exact, recall
from interp.retrieval.task import task_of
from probes.base import Prompt


def measured(model: Any, prompt: Prompt, config: RetrievalConfig) -> Unit:
    """Scores of every head on one instance, and what the model answered.

    Arrays, float32 [layer, head] unless said: `copies` (share of the span's positions copied: the paper's score of this
    instance), `copies_released` (copying steps per span position), `events` (int32, copying steps), `mass_in_needle`
    (mass on the span among the n best keys, n its length; mean over steps), `qr_score` (mass on the sentence from the
    question minus the same from the null question), `induction` (only with ``config.random_tokens``), `top_key` int32
    and `top_weight` float16, both [layer, head, step].

    Facts: `generated` (ids), `text`, `recall`, `exact`, `steps`.

    Raises:
        UsageError: the prompt carries no needle task.
        NumbersError: the model's logits are not finite.
    """
    task = task_of(prompt)
    decoded = decode(model, task, config)
    copied = copies(decoded.top_key, prompt.ids, decoded.ids, task.span)
    arrays = {
        "copies": copied.distinct,
        "copies_released": copied.released,
        "events": copied.events,
        "mass_in_needle": decoded.span_mass.mean(-1, dtype=np.float64).astype(np.float32),
        "qr_score": decoded.query_mass - decoded.null_mass,
        "top_key": decoded.top_key.astype(np.int32),
        "top_weight": decoded.top_weight.astype(np.float16),
    }
    if config.random_tokens:
        from interp.heads.random_scores import random_scores

        arrays["induction"] = random_scores(model, int(prompt.hash[:8], 16), config.random_tokens)["induction"]
    facts = {
        "generated": list(decoded.ids),
        "text": decoded.text,
        "recall": recall(decoded.text, task.answer),
        "exact": exact(decoded.text, task.answer),
        "steps": len(decoded.ids),
    }
    return Unit(arrays, facts)
