"""One-call forms of a trace."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.tracing.budget import loss_rows
from interp.tracing.statistics import Received
from interp.tracing.tracer import trace


def skip_logits(model: Any) -> dict[str, Any]:
    """Keywords that spare the unembedding of all but the last position, where the family has them."""
    import inspect

    hf = getattr(model, "hf", model)
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(hf.forward).parameters else {}


def received(
    model: Any,
    token_ids: Any,
    attention_mask: Any = None,
    *,
    chunk: int | None = None,
    engine: str | None = None,
) -> Float[Tensor, "layer batch head key"]:
    """Mean attention each key gets from the queries at and after it (Gu et al. 2024, arXiv 2410.10781; METHODS 1.1).

    Args:
        model: a loaded `Model`, or a Hugging Face causal LM.
        token_ids: ints [position] or [batch, position].
        attention_mask: [batch, position], 1 at real tokens; padded queries do not count, padded keys get 0.
        chunk, engine: see `interp.tracing.tracer.Trace.run` and `interp.trace`.

    Returns:
        float32 [layer, batch, head, key].
    """
    with trace(model, stats=[Received()], engine=engine) as t:
        t.run(token_ids, attention_mask, chunk=chunk, **skip_logits(model))
    return t.stats["received"]


def next_token_loss(logits: Float[Tensor, "batch position vocab"], token_ids: Any) -> Float[Tensor, "batch position-1"]:
    """Cross-entropy of each next token, in nats, float32."""
    ids = torch.as_tensor(token_ids, device=logits.device)
    ids = ids[None] if ids.dim() == 1 else ids
    targets = ids[:, 1:].long()
    # [position, vocab], never the other way: a softmax along a strided axis is off by 1e-4 on a vocabulary of 49,000
    step = loss_rows(logits.shape[-1])
    pieces = [
        torch.nn.functional.cross_entropy(scores.float(), wanted, reduction="none")
        for scores_of, wanted_of in zip(logits[:, :-1], targets, strict=True)
        for scores, wanted in zip(scores_of.split(step), wanted_of.split(step), strict=True)
    ]
    return torch.cat(pieces).view(targets.shape)
