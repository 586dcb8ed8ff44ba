"""Mass on chosen keys: named sets, and keys in a fixed relation to the query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from interp.errors import TraceError, UsageError
from interp.scoring.asked import Asked, Folded
from interp.tracing.blocks import PassFrame, RowBlock
from interp.tracing.statistics.base import PerQuery


@dataclass(frozen=True)
class MassOn:
    """Each query's mass on named sets of keys. Result: dict set -> [layer, batch, head, query].

    Attributes:
        sets: name -> key positions (ints), or a bool mask [key] or [batch, key].
    """

    sets: Mapping[str, Any] = field(default_factory=dict)
    layers: frozenset[int] | None = None
    name: str = "mass_on"

    def accumulator(self, frame: PassFrame) -> PerQuery:
        """See `Statistic`."""
        if not self.sets:
            raise UsageError("MassOn(sets=...) needs at least one named set of key positions")

        def mass(block: RowBlock) -> dict[str, Tensor]:
            return {name: masked_mass(block, members) for name, members in self.sets.items()}

        def asked(block: RowBlock) -> Asked:
            sets = [indicator(block, members) for members in self.sets.values()]
            batch = max(len(one) for one in sets)
            return Asked(sets=np.stack([one.expand(batch, -1).numpy() for one in sets]))

        def taken(folded: Folded, sets: slice) -> dict[str, np.ndarray]:
            return dict(zip(self.sets, folded.sets[sets], strict=True))

        return PerQuery(self.name, frame, mass, asked, taken)


def masked_mass(block: RowBlock, members: Any) -> Tensor:
    """[batch, head, row] mass on `members` (positions, or a bool mask over absolute key positions)."""
    inside = indicator(block, members).expand(block.rows.shape[0], -1)
    return (block.rows @ inside[:, None, :, None]).squeeze(-1)


def indicator(block: RowBlock, members: Any) -> Tensor:
    """[batch or 1, key] 1 at the block's keys that are `members`, else 0."""
    given = torch.as_tensor(members, device=block.rows.device)
    positions = block.key_positions
    if given.dtype != torch.bool:
        inside = torch.isin(positions, given.long().flatten())
    elif given.shape[-1] <= int(positions[-1]):
        raise TraceError(f"MassOn: a key mask of shape {tuple(given.shape)} does not cover key {int(positions[-1])}")
    else:
        inside = given[..., positions]
    inside = inside if inside.dim() > 1 else inside[None]
    return inside.to(block.rows.dtype)


@dataclass(frozen=True)
class TopMass:
    """Each query's mass on chosen keys, as far as they are among its `count` most attended keys (the retrieval score of
    Fu et al. 2024, HeadKV, arXiv 2410.19258, counts so). Result: [layer, batch, head, query].

    Attributes:
        positions: absolute key positions.
        count: so many of the largest weights of a row are looked at.
    """

    positions: Sequence[int] = ()
    count: int = 1
    layers: frozenset[int] | None = None
    name: str = "top_mass"

    def accumulator(self, frame: PassFrame) -> PerQuery:
        """See `Statistic`."""
        if not len(self.positions) or self.count < 1:
            raise UsageError(
                f"TopMass(positions={list(self.positions)}, count={self.count}): at least one key and one weight needed"
            )

        def mass(block: RowBlock) -> dict[str, Tensor]:
            weights, index = block.rows.topk(min(self.count, block.rows.shape[-1]), sorted=False)
            index = index + block.key_start
            if isinstance(self.positions, range) and self.positions.step == 1:  # no tensor to make at every step
                outside = (index < self.positions.start) | (index >= self.positions.stop)
            else:
                outside = ~torch.isin(index, torch.as_tensor(list(self.positions), device=index.device))
            return {"": weights.masked_fill(outside, 0.0).sum(-1)}

        return PerQuery(self.name, frame, mass)


@dataclass(frozen=True)
class Offsets:
    """Mass on keys in a fixed relation to the query. Result: dict kind -> [layer, batch, head, query].

    `previous`: the token before; `current`: the query itself; `duplicate`: earlier copies of the query's own token;
    `induction`: the tokens right after those copies (Olsson et al. 2022, arXiv 2209.11895; Wang et al. 2022, sec. 3).
    """

    KINDS: ClassVar[tuple[str, ...]] = ("previous", "current", "duplicate", "induction")
    kinds: Sequence[str] = KINDS
    layers: frozenset[int] | None = None
    name: str = "offsets"

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in self.KINDS]
        if unknown:
            raise UsageError(f"Offsets: unknown kinds {unknown}; there are {list(self.KINDS)}")

    def accumulator(self, frame: PassFrame) -> PerQuery:
        """See `Statistic`."""
        matching = bool({"duplicate", "induction"} & set(self.kinds))

        def asked(block: RowBlock) -> Asked:
            return Asked(offsets=self.kinds, ids=block.frame.ids(block.rows.device).numpy() if matching else None)

        return PerQuery(
            self.name,
            frame,
            lambda block: {kind: offset_mass(block, kind) for kind in self.kinds},
            asked,
            lambda folded, sets: {kind: folded.offsets[kind] for kind in self.kinds},
        )


def offset_mass(block: RowBlock, kind: str) -> Tensor:
    """[batch, head, row] mass on the keys that stand in relation `kind` to each query."""
    queries, keys = block.query_positions[:, None], block.key_positions[None, :]
    if kind == "previous":
        related = (keys == queries - 1)[None]
    elif kind == "current":
        related = (keys == queries)[None]
    else:
        ids = block.frame.ids(block.rows.device)
        own = ids[:, block.query_positions][:, :, None]
        if kind == "duplicate":
            related = (ids[:, block.key_positions][:, None] == own) & (keys < queries)
        else:
            before = ids[:, (block.key_positions - 1).clamp_min(0)][:, None]
            related = (before == own) & (keys >= 1) & (keys <= queries)
    return (block.rows * related[:, None]).sum(-1)
