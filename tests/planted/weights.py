"""A block's weights as views that can be written through: what every family's reader hands over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from tests.planted.plan import HEADS, HIDDEN, LAYERS, WIDTH


@dataclass
class Expert:
    """An MLP, or one of several that share the work. `gate` and `up` [hidden, residual] read the residual stream,
    `down` [residual, hidden] writes to it; `idle` is an up projection that multiplies by 1 where its row is zero."""

    gate: Tensor
    down: Tensor
    up: Tensor | None = None
    idle: Tensor | None = None


@dataclass
class Block:
    """One block's weights; `query`, `key`, `value` are [head x head width, residual] or [head, head width, residual].

    Attributes:
        ones: norm weights for which 1 means: leave the scale alone; given with the offset the family adds to them.
        after_attention, after_mlp: norms of what is written (post-norm families), with that offset.
        query_norm, key_norm: norms over the head width, or over all heads at once.
        others: further matrices that read the residual stream (routers).
    """

    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    experts: list[Expert]
    ones: list[Tensor]
    offset: float = 0.0
    after_attention: Tensor | None = None
    after_mlp: Tensor | None = None
    query_norm: Tensor | None = None
    key_norm: Tensor | None = None
    others: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Family:
    """Config settings, modules of the blocks, and a reader of a block's weights."""

    settings: dict[str, Any]
    blocks: Callable[[Any], list[Any]]
    read: Callable[[Any], Block]
    embedding_scale: float = 1.0
    positions: Callable[[Any], Tensor] | None = None


DECODER: dict[str, Any] = {
    "num_hidden_layers": LAYERS,
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS // 2,
    "head_dim": WIDTH // HEADS,
}
"""Settings that most families share."""
MIXED = ["sliding_attention", "full_attention"] * (LAYERS // 2)


def layers(model: Any) -> list[Any]:
    """The blocks, where most families keep them."""
    return list(model.model.layers)
