"""The released rule of Wong et al. 2025 (arXiv 2512.22213), step by step as METHODS 1.2 tells it.

Shares no code with `interp`.

Hidden states come from transformers' own ``output_hidden_states``, but for the last block's: there the model hands out
the final-normed state, so a hook takes what the block itself leaves. Everything else is loops over layers and
positions, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Released:
    """What the rule says of one prompt.

    Attributes:
        anchor: b.
        start, end: the layers [start, end) that count.
        layers: for every position after b with any, the layers at which it is recorded.
        kinds: for the same positions: primary, secondary or noise.
    """

    anchor: int
    start: int
    end: int
    layers: dict[int, list[int]]
    kinds: dict[int, str]


@torch.no_grad()
def states(hf: Any, last_block: Any, ids: Sequence[int]) -> list[Tensor]:
    """H[l] [position, d_model] after each block l, float64."""
    kept: list[Tensor] = []
    hook = last_block.register_forward_hook(
        lambda _, __, out: kept.append((out if isinstance(out, Tensor) else out[0]).clone())
    )
    out = hf(torch.tensor([list(ids)]), output_hidden_states=True, use_cache=False)
    hook.remove()
    blocks = list(out.hidden_states[1:])  # the first is the embeddings
    blocks[-1] = kept[0]
    return [state.reshape(len(ids), -1).double() for state in blocks]


def released(hidden: list[Tensor], chat: bool) -> Released:
    """Steps 1 to 5."""
    n_layers, length = len(hidden), len(hidden[0])
    # 1. Candidates for b, and the one with the largest norm averaged over layers.
    best, anchor = -1.0, 0
    for candidate in [0, 1, 2] if chat else [0, 1]:
        if candidate < length:
            mean = sum(float(state[candidate].norm()) for state in hidden) / n_layers
            if mean > best:
                best, anchor = mean, candidate
    # 2. The largest rise of its norm, and from there the largest fall.
    norms = [float(state[anchor].norm()) for state in hidden]
    rises = [norms[layer + 1] - norms[layer] for layer in range(n_layers - 1)]
    start = rises.index(max(rises)) + 1
    later = rises[start:]
    end = later.index(min(later)) + start + 1 if later else n_layers
    # 3. Recorded where the cosine with b, without its sign, exceeds 0.9.
    layers: dict[int, list[int]] = {}
    for position in range(anchor + 1, length):
        for layer in range(start, end):
            one, other = hidden[layer][position], hidden[layer][anchor]
            cosine = float(one @ other) / (float(one.norm()) * float(other.norm()))
            if abs(cosine) > 0.9:
                layers.setdefault(position, []).append(layer)
    # 4 and 5. The lifetime is the number of recorded layers, gaps or not, and decides the kind.
    kinds = {}
    for position, recorded in layers.items():
        lifetime = len(recorded)
        kinds[position] = "primary" if lifetime >= n_layers - 15 else "secondary" if lifetime > 4 else "noise"
    return Released(anchor, start, end, layers, kinds)
