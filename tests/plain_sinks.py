"""Sinks the plain way: eager attention matrices, whole residual streams, loops. Shares no code with `interp`.

What `interp.finders.sinks` streams, counts in NumPy and runs through Numba is done here with lists, in float64, so
that agreement between the two means something.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor


@contextmanager
def eager(hf: Any) -> Iterator[None]:
    """The model on its own eager attention, which hands out its patterns; what it used before comes back."""
    before = hf.config._attn_implementation
    hf.set_attn_implementation("eager")
    try:
        yield
    finally:
        hf.set_attn_implementation(before)


@torch.no_grad()
def observe(hf: Any, blocks: Sequence[Any], ids: Sequence[int]) -> tuple[Tensor, Tensor, float]:
    """alpha [layer, head, key], block outputs [layer, position, d_model] (both float64) and the next-token loss."""
    states: list[Tensor] = []
    hooks = [
        block.register_forward_hook(
            lambda _, __, out: states.append((out if isinstance(out, Tensor) else out[0])[0].double())
        )
        for block in blocks
    ]
    with eager(hf):
        out = hf(torch.tensor([list(ids)]), output_attentions=True, use_cache=False)
    for hook in hooks:
        hook.remove()
    length = len(ids)
    alpha = torch.stack([pattern[0].double().sum(dim=1) for pattern in out.attentions])
    alpha = alpha / torch.arange(length, 0, -1)
    log_p = out.logits[0].log_softmax(dim=-1)
    loss = -sum(float(log_p[i, ids[i + 1]]) for i in range(length - 1)) / (length - 1)
    return alpha, torch.stack(states), loss


def find(alpha: Tensor, states: Tensor) -> list[dict[str, Any]]:
    """Rows of the relative rule with its default settings: position, kind, start, lifetime, cosine, norm, received,
    heads."""
    layers, _, length = alpha.shape
    mass = alpha.mean(dim=1).tolist()
    norms = states.norm(dim=-1)
    usable = length - min(32, length // 4)

    def like_a_sink(layer: int, key: int) -> bool:
        if layer + 1 >= layers or key >= usable:
            return False
        first = min(max(key - min(65, usable) // 2, 0), usable - min(65, usable))
        company = median(mass[layer + 1][first : first + min(65, usable)])
        drawn = mass[layer + 1][key]
        usual = median(norms[layer].tolist())
        return drawn >= 0.03 and drawn >= 5 * company and float(norms[layer, key]) >= 2 * usual

    flagged = {key: [layer for layer in range(layers) if like_a_sink(layer, key)] for key in range(length)}
    runs = {key: stretches(found) for key, found in flagged.items()}
    totals = {
        key: (length - key) * sum(mass[layer + 1][key] for start, stop in found for layer in range(start, stop))
        for key, found in runs.items()
        if found
    }
    if not totals:
        return []
    anchor = max(totals, key=lambda key: totals[key])
    cosine = torch.stack([similar(state, anchor) for state in states])
    centred = torch.stack([similar(state - ordinary_mean(state), anchor) for state in states])
    crowded = [int((row > 0.9).sum()) > 0.1 * length for row in cosine]

    def points_alike(layer: int, key: int) -> bool:
        near = float(cosine[layer, key]) > 0.9
        return near and (not crowded[layer] or float(centred[layer, key]) > 0.9)

    runs = {key: stretches([layer for layer in found if points_alike(layer, key)]) for key, found in flagged.items()}
    rows = []
    for key, found in runs.items():
        for start, stop in found:
            life, reading = slice(start, stop), slice(start + 1, stop + 1)
            rows.append(
                {
                    "position": key,
                    "kind": "primary" if key == anchor else kind(start, stop, runs[anchor]),
                    "start_layer": start,
                    "lifetime": stop - start,
                    "cosine": float(cosine[life, key].mean()),
                    "norm": float(norms[life, key].mean()),
                    "received": float(alpha[reading, :, key].mean()),
                    "heads": float((alpha[reading, :, key] > 0.3).double().mean()),
                }
            )
    return rows


def stretches(layers: list[int]) -> list[tuple[int, int]]:
    """[start, stop) of layers that follow one another with at most one missing between, at least two of them side by
    side."""
    groups: list[list[int]] = []
    for layer in layers:
        if groups and layer - groups[-1][-1] <= 2:
            groups[-1].append(layer)
        else:
            groups.append([layer])
    return [(group[0], group[-1] + 1) for group in groups if any(layer + 1 in group for layer in group)]


def kind(start: int, stop: int, anchored: list[tuple[int, int]]) -> str:
    """METHODS 1.2, sentence by sentence."""
    for first, last in anchored:
        if first - 1 <= start <= first + 1 and last - 1 <= stop <= last + 1:
            return "primary"
    for first, last in anchored:
        if start > first + 1 and start < last:
            return "secondary"
    return "transient"


def similar(state: Tensor, anchor: int) -> Tensor:
    """Cosine of each position's state with the anchor's."""
    return torch.nn.functional.cosine_similarity(state, state[anchor][None], dim=-1)


def ordinary_mean(state: Tensor) -> Tensor:
    """Mean of the states no longer than the (lower) median one."""
    lengths = state.norm(dim=-1)
    bound = sorted(lengths.tolist())[(len(lengths) - 1) // 2]
    return state[lengths <= bound].mean(dim=0)
