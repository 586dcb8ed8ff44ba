"""Plain, slow, independent computations from whole attention patterns, for tests to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

PADDINGS = ("none", "right", "left")


def padded_batch(padding: str, batch: int = 2, length: int = 20, cut: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random ids [batch, length] and their mask; every sequence but the first is padded on the named side."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 60, (batch, length), generator=generator)
    ids[:, length // 2] = ids[:, 2]  # so that duplicate and induction offsets have something to find
    mask = torch.ones(batch, length, dtype=torch.long)
    if padding == "right":
        mask[1:, -cut:] = 0
    elif padding == "left":
        mask[1:, :cut] = 0
    return ids, mask


def eager(hf: Any, ids: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits and every layer's pattern [batch, head, query, key] from the model's own eager attention."""
    before = hf.config._attn_implementation
    hf.config._attn_implementation = "eager"
    try:
        with torch.no_grad():
            out = hf(ids, attention_mask=mask, output_attentions=True, use_cache=False)
    finally:
        hf.config._attn_implementation = before
    return out.logits, [pattern.float() for pattern in out.attentions]


def received(patterns: list[Tensor], mask: Tensor) -> Tensor:
    """[layer, batch, head, key]: for each key, the mean over real queries at and after it; written with loops."""
    stacked = torch.stack(patterns).double()
    out = torch.zeros(stacked.shape[:-1], dtype=torch.float64)
    for b, real_tokens in enumerate(mask.tolist()):
        for key in range(len(real_tokens)):
            queries = [q for q in range(key, len(real_tokens)) if real_tokens[q]]
            if queries and real_tokens[key]:
                out[:, b, :, key] = stacked[:, b, :, queries, key].mean(-1)
    return out


def offsets(pattern: Tensor, ids: Tensor) -> dict[str, Tensor]:
    """Offset masses [batch, head, query] of one layer's pattern; written with loops."""
    p, out = pattern.numpy(), {}
    batch, heads, length, _ = p.shape
    for kind in ("previous", "current", "duplicate", "induction"):
        out[kind] = np.zeros((batch, heads, length), dtype=np.float64)
    for b, tokens in enumerate(ids.tolist()):
        for q in range(length):
            out["current"][b, :, q] = p[b, :, q, q]
            if q:
                out["previous"][b, :, q] = p[b, :, q, q - 1]
            for k in range(q):
                if tokens[k] == tokens[q]:
                    out["duplicate"][b, :, q] += p[b, :, q, k]
                    out["induction"][b, :, q] += p[b, :, q, k + 1]
    return {kind: torch.from_numpy(values) for kind, values in out.items()}


def real(values: Tensor, mask: Tensor) -> Tensor:
    """Entries of [layer, batch, head, position] at real tokens."""
    return values[:, mask.bool()[:, None].expand(-1, values.shape[2], -1)]
