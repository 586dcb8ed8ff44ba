"""What surrounds a sink, the plain way: forward hooks, eager attention, singular values, loops. Shares no code with
`interp`."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor


@torch.no_grad()
def block_outputs(hf: Any, blocks: Sequence[Any], ids: Sequence[int]) -> list[np.ndarray]:
    """Output [token, dimension] of each block."""
    seen: list[np.ndarray] = []

    def keep(_: Any, __: Any, out: Any) -> None:
        seen.append((out if isinstance(out, Tensor) else out[0])[0].double().numpy())

    hooks = [block.register_forward_hook(keep) for block in blocks]
    hf(torch.tensor([list(ids)]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen


@torch.no_grad()
def projected(hf: Any, modules: Sequence[Any], ids: Sequence[int], heads: int) -> list[np.ndarray]:
    """What each projection returns, [token, head, head width]."""
    seen: list[np.ndarray] = []
    hooks = [m.register_forward_hook(lambda _, __, out: seen.append(out[0].double().numpy())) for m in modules]
    hf(torch.tensor([list(ids)]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return [one.reshape(len(ids), heads, -1) for one in seen]


def length_ratio(vectors: np.ndarray, position: int, ordinary: Sequence[int]) -> float:
    """Mean over heads of |v at position| / median |v at ordinary positions|; vectors [token, head, width]."""
    ratios = []
    for head in range(vectors.shape[1]):
        sizes = [float(np.sqrt((vectors[i, head] ** 2).sum())) for i in range(len(vectors))]
        ratios.append(sizes[position] / median(sizes[i] for i in ordinary))
    return sum(ratios) / len(ratios)


def spectrum(states: np.ndarray) -> tuple[float, float]:
    """(matrix entropy in nats, anisotropy) from the singular values."""
    p = [s**2 for s in np.linalg.svd(states, compute_uv=False)]
    p = [one / sum(p) for one in p]
    return -sum(one * float(np.log(one)) for one in p if one > 0), max(p)


def mean_cosine(states: np.ndarray) -> float:
    """Over all pairs of different rows."""
    found = []
    for i, left in enumerate(states):
        for j, right in enumerate(states):
            if i != j:
                found.append(float(left @ right / np.sqrt((left @ left) * (right @ right))))
    return sum(found) / len(found)


def massive(states: Sequence[np.ndarray], size: float, ratio: float) -> dict[tuple[int, int], list[int]]:
    """(token, dimension) -> blocks in which |x| > size and >= ratio times the median |x| of the block."""
    found: dict[tuple[int, int], list[int]] = {}
    for layer, state in enumerate(states):
        usual = median(abs(float(x)) for x in state.flatten())
        for i, row in enumerate(state):
            for d, x in enumerate(row):
                if abs(x) > size and abs(x) >= ratio * usual:
                    found.setdefault((i, d), []).append(layer)
    return found


@torch.no_grad()
def loss_with(hf: Any, block: Any, ids: Sequence[int], entries: Sequence[tuple[int, int, float]]) -> float:
    """Next-token loss with numbers (token, dimension, value) set in one block's output."""

    def change(_: Any, __: Any, out: Any) -> Any:
        state = (out if isinstance(out, Tensor) else out[0]).clone()
        for token, dim, value in entries:
            state[0, token, dim] = value
        return state if isinstance(out, Tensor) else (state, *out[1:])

    hook = block.register_forward_hook(change)
    log_p = hf(torch.tensor([list(ids)]), use_cache=False).logits[0].double().log_softmax(-1)
    hook.remove()
    return -sum(float(log_p[i, ids[i + 1]]) for i in range(len(ids) - 1)) / (len(ids) - 1)


def first_key_rate(patterns: Sequence[Tensor], eps: float) -> tuple[float, float]:
    """(Sink_1 in percent, mean alpha) of one input, from eager patterns [1, head, query, key] of every layer."""
    above, total, n = 0, 0.0, 0
    for pattern in patterns:
        for head in pattern[0]:
            alpha = sum(float(row[0]) for row in head) / len(head)
            above, total, n = above + (alpha > eps), total + alpha, n + 1
    return 100 * above / n, total / n
