"""One attention row at a time replaced in the plain eager attention of transformers, written out."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

MODULES = {"llama": "llama", "gpt2": "gpt2", "gemma3": "gemma3"}


def last_logits(
    hf: Any, arch: str, ids: list[int], rows: Mapping[tuple[int, int], np.ndarray], monkeypatch: Any
) -> Any:
    """(logits [vocab] of the last token, [layer, head, key] rows at the last token) with the rows of some (layer, head)
    replaced there; the whole prompt is run, and every head's output is its row times the values of all tokens."""
    seen: dict[int, Tensor] = {}

    def eager(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any) -> Any:
        shared = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
        scaling = kwargs.get("scaling")
        scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        n = query.shape[2]
        hidden = torch.ones(n, n, dtype=torch.bool).triu(1)
        window = getattr(module, "sliding_window", None)
        if window:
            hidden = hidden | torch.ones(n, n, dtype=torch.bool).tril(-window)
        pattern = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        for (layer, head), row in rows.items():
            if layer == module.layer_idx:
                pattern[0, head, -1] = torch.from_numpy(row)
        seen[module.layer_idx] = pattern[0, :, -1]
        return (pattern @ value).transpose(1, 2).contiguous(), pattern

    where = importlib.import_module(f"transformers.models.{MODULES[arch]}.modeling_{MODULES[arch]}")
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(where, "eager_attention_forward", eager)
        logits = hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float()
    return logits, torch.stack([seen[layer] for layer in sorted(seen)]).numpy()
