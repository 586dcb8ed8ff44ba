"""Heads that attend to everything alike: their queries at zero, as the released code of Wu et al. 2024 (arXiv
2404.15574) masks them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from interp.errors import UsageError
from interp.interventions.ablate import as_pairs, check_heads, heads_of

BIASED = frozenset({"alibi"})
"""Kinds of positions that add to the scores themselves: without a query the rows follow them, and are not uniform."""


def query_site(model: Any, layer: int) -> str:
    """The site of a layer's queries that nothing mixes across heads any more (after any norm), by its full name.

    Raises:
        UsageError: the family adds a position bias to the scores, so that no query makes its rows uniform.
    """
    sites = model.sites
    if sites.structure.positions in BIASED:
        raise UsageError(
            f"{sites.family} adds a position bias to its attention scores, so heads without a query do not attend "
            "uniformly; zero or mean their outputs instead"
        )
    rotated = f"blocks.{layer}.attn.hook_rot_q"
    return rotated if rotated in sites.names() else f"blocks.{layer}.attn.hook_q"


@dataclass(frozen=True)
class UniformHeads:
    """Set the queries of (layer, head) pairs to zero: every key a query may see gets the same weight.

    What the model does to scores is done to zeros too: a soft cap leaves them, a learned sink logit still takes its
    share (gpt-oss), windows and padding hide what they hid. Make it with `of`, which knows where a model's queries are.

    Attributes:
        heads: the pairs.
        sites: the queries' site in every layer named.
    """

    heads: tuple[tuple[int, int], ...]
    sites: tuple[str, ...]

    @classmethod
    def of(cls, model: Any, heads: Iterable[tuple[int, int]]) -> UniformHeads:
        """The edit for one model.

        Raises:
            UsageError: pairs that are none, or a family whose rows it would not make uniform.
        """
        pairs = as_pairs(heads)
        return cls(pairs, tuple(query_site(model, layer) for layer in sorted({layer for layer, _ in pairs})))

    def apply(self, value: Tensor, site: str, layer: int | None) -> Tensor:
        """Queries [batch, position, head, d] with the heads' at zero."""
        heads = heads_of(self.heads, int(site.split(".")[1]))
        check_heads(value, heads, site)
        out = value.clone()
        out[:, :, heads] = 0
        return out
