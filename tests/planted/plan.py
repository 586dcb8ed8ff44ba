"""What is planted: tokens that become attention sinks at a known block and stop being sinks at another.

A sink is a token whose state is long in one fixed direction. Every other direction used here is a zero-mean pair of
dimensions, so that RMSNorm and LayerNorm treat it alike. The plan is the same for each architecture; `families` says
where a family keeps its weights.

1. The embedding gives every token a constant (`BIAS`) and each planted token a flag of its own.
2. In block `start` a neuron of the MLP reads the flag and writes `LENGTH` in direction `SINK`; in block `start +
   lifetime` another one takes it away again. Normalisation makes a sink's input that direction and little else.
3. In all blocks queries read `BIAS` and keys read `SINK`, through the slowest rotary pair, so that all heads attend
   to sinks.
4. All other weights are noise that neither reads nor writes these dimensions, so nothing else can become a sink.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LAYERS = 12
WIDTH = 64
HEADS = 4
HEAD_WIDTH = WIDTH // HEADS
HIDDEN = 32
LENGTH = 200.0
FLAG = 6.0
CONSTANT = 3.0
TOKENS = 72


@dataclass(frozen=True)
class Planted:
    """A token that is a sink in the states after blocks `start` to `start + lifetime - 1`."""

    token: int
    position: int
    kind: str
    start: int
    lifetime: int


PLANTED = (
    Planted(1, 0, "primary", 1, 9),
    Planted(7, 18, "secondary", 4, 4),
    Planted(9, 41, "secondary", 5, 5),
)
FLAGS = {planted.token: i for i, planted in enumerate(PLANTED)}
BIAS = len(PLANTED)
SINK = BIAS + 1
RESERVED = 2 * (SINK + 1)
"""The first so many dimensions of the residual stream belong to the plan."""


def direction(index: int) -> Tensor:
    """Unit vector [WIDTH] of flag `index`, `BIAS` or `SINK`: one dimension against another, so its mean is zero."""
    made = torch.zeros(WIDTH)
    made[2 * index], made[2 * index + 1] = 0.5**0.5, -(0.5**0.5)
    return made


def prompt(seed: int = 0, vocabulary: int = 128, positions: dict[int, int] | None = None) -> tuple[int, ...]:
    """Token ids: ordinary ones, and the planted ones at their places (or at `positions`, token -> place)."""
    places = {planted.token: planted.position for planted in PLANTED} if positions is None else positions
    ids = torch.randint(20, vocabulary, (TOKENS,), generator=torch.Generator().manual_seed(seed))
    for token, place in places.items():
        ids[place] = token
    return tuple(ids.tolist())
