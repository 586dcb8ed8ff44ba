"""ACT and its siblings written out with loops over whole patterns, and a way to run a model with them in place.

Shares no code with the tracer: the attention is computed here, under a name of its own in transformers' registry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

TINY = float(np.finfo(np.float32).tiny)
"""Rows with less mass than this on what may take some are left alone, or fall on the query's own key."""
Edit = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""(layer, pattern [head, query, key], real tokens [key]) -> pattern."""


def over_threshold(pattern: np.ndarray, valid: np.ndarray, threshold: float) -> list[list[int]]:
    """For each head the keys whose mean over the real queries at and after them exceeds the threshold."""
    found = []
    for rows in pattern:
        keys = []
        for k in range(rows.shape[1]):
            queries = [i for i in range(k, rows.shape[0]) if valid[i]]
            if valid[k] and queries and sum(rows[i, k] for i in queries) / len(queries) > threshold:
                keys.append(k)
        found.append(keys)
    return found


def act(pattern: np.ndarray, valid: np.ndarray, beta: float, threshold: float = 0.1, anchor: bool = True) -> np.ndarray:
    """METHODS 1.4; `anchor` leaves the first key found alone."""
    out = pattern.copy()
    for head, keys in enumerate(over_threshold(pattern, valid, threshold)):
        sinks = keys[1:] if anchor else keys
        for i in range(pattern.shape[1]):
            others = [k for k in range(pattern.shape[2]) if k not in sinks]
            rest = sum(pattern[head, i, k] for k in others)
            freed = (1 - beta) * sum(pattern[head, i, k] for k in sinks)
            if rest < TINY:
                continue
            for k in range(pattern.shape[2]):
                a = pattern[head, i, k]
                out[head, i, k] = beta * a if k in sinks else a + freed * a / rest
    return out


def uniform(pattern: np.ndarray, valid: np.ndarray, beta: float, threshold: float = 0.1) -> np.ndarray:
    """The freed mass in equal parts on the visible keys that are not over the threshold."""
    out = pattern.copy()
    for head, keys in enumerate(over_threshold(pattern, valid, threshold)):
        sinks = keys[1:]
        for i in range(pattern.shape[1]):
            others = [k for k in range(pattern.shape[2]) if k not in keys and pattern[head, i, k] > 0]
            if sum(pattern[head, i, k] for k in others) < TINY:
                continue
            freed = (1 - beta) * sum(pattern[head, i, k] for k in sinks)
            for k in sinks:
                out[head, i, k] = beta * pattern[head, i, k]
            for k in others:
                out[head, i, k] += freed / len(others)
    return out


def window(pattern: np.ndarray, valid: np.ndarray, first: int, recent: int) -> np.ndarray:
    """The first real keys and the latest ones, rows scaled to their former sum."""
    out = np.zeros_like(pattern)
    kept_first = [k for k in range(pattern.shape[2]) if valid[k]][:first]
    for i in range(pattern.shape[1]):
        keys = [k for k in range(pattern.shape[2]) if k in kept_first or i - k < recent]
        rest = pattern[:, i, keys].sum(-1)
        for head in range(pattern.shape[0]):
            if rest[head] < TINY:
                out[head, i, i] = pattern[head, i].sum()
            else:
                out[head, i, keys] = pattern[head, i, keys] * pattern[head, i].sum() / rest[head]
    return out


def run_with(hf: Any, ids: Tensor, mask: Tensor, edit: Edit) -> tuple[Tensor, list[np.ndarray]]:
    """Logits of `hf` with every layer's pattern passed through `edit`, and the edited patterns by layer
    [batch, head, query, key]."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    seen: list[np.ndarray] = []

    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **given: Any
    ) -> tuple[Tensor, None]:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scaling = given.get("scaling")
        scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        if attention_mask is not None:
            scores = scores + attention_mask[..., : key.shape[2]]
        learned = given.get("s_aux")
        if learned is not None:
            extra = learned.view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
            pattern = torch.cat([scores, extra], -1).softmax(-1)[..., :-1]
        else:
            pattern = scores.softmax(-1)
        layer = len(seen)
        edited = np.stack(
            [edit(layer, one.double().numpy(), real.numpy()) for one, real in zip(pattern, mask, strict=True)]
        )
        seen.append(edited)
        return (torch.from_numpy(edited).float() @ value).transpose(1, 2).contiguous(), None

    ALL_ATTENTION_FUNCTIONS.register("plain_calibration", attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register("plain_calibration", eager_mask)
    before = hf.config._attn_implementation
    hf.config._attn_implementation = "plain_calibration"
    try:
        with torch.no_grad():
            return hf(ids, attention_mask=mask, use_cache=False).logits, seen
    finally:
        hf.config._attn_implementation = before
