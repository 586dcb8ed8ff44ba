"""Whether a head raises or lowers what it looks at, from the last token of a pair.

Wang et al. 2022 (arXiv 2211.00593, section 3.2 and appendix) ask of name movers whether what they write at the end
raises the name they look at, and of negative ones whether it lowers it. Here the question is a rank, as in
`interp.heads.copying`: of the tokens of the prompt, how many are raised less than the one that the head looks at most?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.errors import SiteError
from interp.heads.copying import copying

FIRST = 1
"""The first position is no token looked at: heads that have nothing to do rest there, whatever it holds."""


def looked_at(row: Tensor) -> tuple[int, float]:
    """(position, weight) of the most attended key of a row [key], from `FIRST` on, or just (-1, 0) if it has none."""
    if len(row) <= FIRST:
        return -1, 0.0
    weight, index = row[FIRST:].max(-1)
    return (int(index) + FIRST, float(weight)) if weight > 0 else (-1, 0.0)


def copy_signs(
    model: Any, z: Mapping[int, Tensor], rows: Mapping[tuple[int, int], Tensor], ids: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """How far each head raises the token that it looks at most.

    Args:
        model: a loaded `Model`.
        z: layer -> `hook_z` at the last position [head, d_head].
        rows: (layer, head) -> its attention at the last position [key].
        ids: token that stands for each position (`interp.circuits.roles.stand_ins`).

    Returns:
        (float32 [layer, head]: 1 = it adds most to the logit of that token, of all different tokens of the prompt from
        `FIRST` on; -1 = least; 0 = half of them are raised more; NaN = it attends to none, there is one token alone,
        or what a head adds to the logits cannot be told in this model;
        int64 [layer, head]: that token's position; -1 = none).
    """
    tokens = sorted(set(ids[FIRST:]))
    signs = np.full((model.n_layers, model.n_heads), np.nan, dtype=np.float32)
    places = np.full(signs.shape, -1, dtype=np.int64)
    told = len(tokens) > 1
    for layer, states in z.items():
        seen = [looked_at(rows[layer, head]) for head in range(len(states))]
        places[layer, : len(seen)] = [at for at, _ in seen]
        if not told:
            continue
        attended = torch.tensor([[tokens.index(ids[at]) if at >= 0 else -1] for at, _ in seen])
        weight = torch.tensor([[share] for _, share in seen])
        try:
            scores = copying(model.sites, layer, states[None], attended, weight, tokens)
        except SiteError:  # this model's heads add nothing to the logits that could be told apart
            told = False
        else:
            signs[layer, : len(seen)] = scores.numpy()
    return signs, places
