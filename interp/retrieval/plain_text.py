"""Next-token loss on plain text under every mask: whether masking harms the model, or only its copying."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from interp.ablation.config import Head
from interp.errors import NumbersError
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.masks import Mask, edits
from interp.tracing.calls import next_token_loss
from interp.tracing.tracer import trace
from probes import text

DRAWS = 2
"""Random sets a K, of those of the needles, that run on plain text; questions run under all of them."""
LENGTH = 256
"""Tokens of a text at most."""
LOGITS = 1 << 27
"""Logits held at once (half a GiB of float32): a vocabulary of 262,000 leaves room for two texts side by side."""
BLOCKED = "blocking the needle has no meaning where there is none"
NO_TEXTS = "no plain text was read (texts=0)"
NO_TOKENIZER = "the model has no tokenizer, so it cannot read text"


def why_not(model: Any, config: RetrievalConfig) -> str | None:
    """Why there is no loss to measure; None when there is."""
    if not config.texts:
        return NO_TEXTS
    if config.how == "block":
        return BLOCKED
    return NO_TOKENIZER if model.tokenizer is None else None


def losses(
    model: Any, mask: Mask, config: RetrievalConfig, means: Mapping[Head, Tensor] | None = None
) -> list[dict[str, Any]]:
    """Of each of the first shipped texts: ``name``, ``tokens``, and ``loss`` by arm, the mean in nats of its next
    tokens, with the heads masked at every position, whatever `config.when` says.

    Raises:
        NumbersError: a loss that is not finite.
    """
    out = []
    for prompt in text.probe.prompts(model, limit=config.texts, max_length=min(LENGTH, model.max_positions or LENGTH)):
        ids = torch.tensor(prompt.ids, device=model.device)
        arms = max(1, min(config.at_once, LOGITS // (len(ids) * model.config.vocab_size)))
        found: list[float] = []
        for part in mask.split(arms):
            rows = ids.expand(len(part), -1)
            with trace(model, edit=edits(model, config.how, part, means)) as t:
                found += next_token_loss(t.run(rows).logits, rows).double().mean(-1).tolist()
        if not all(map(torch.isfinite, torch.tensor(found))):
            raise NumbersError(f"text {prompt.name!r}: the loss under a mask is not finite; try --dtype float32")
        out.append({"name": prompt.name, "tokens": len(ids), "loss": found})
    return out
