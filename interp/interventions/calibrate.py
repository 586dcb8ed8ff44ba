"""Attention calibration: ACT (Yu et al. 2024, arXiv 2406.15765) and two siblings, as edits of attention rows.

All of them find, per head, the keys that draw too much attention, S = {k : sum_i A[i,k] / (T-k) > threshold}, from the
rows the layer forms in the edited run itself, so what earlier layers' edits did counts. The anchor, the first key
found, is left out of S. Then they take mass from S and give it to the other keys.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import TraceError, UsageError
from interp.interventions.rows import Pairs, checked_pairs, heads_in, key_set, layers_of, move_mass, with_heads
from interp.tracing.blocks import PassFrame, RowBlock


@dataclass
class Ledger:
    """What one layer's keys have received so far in a pass.

    Attributes:
        sums: [batch, head, key] mass received from real queries.
        until: positions taken in.
        first_call: whether all of them came in one call (the prefill).
    """

    sums: Float[Tensor, "batch head key"]
    until: int = 0
    first_call: bool = True

    def take(self, block: RowBlock) -> None:
        """Add a block of rows."""
        rows, real = block.rows.detach(), block.query_mask
        self.sums = torch.nn.functional.pad(self.sums, (0, block.frame.seen - self.sums.shape[-1]))
        mass = rows.sum(2) if real is None else (rows * real[:, None, :, None]).sum(2)
        self.sums[..., block.key_start : block.key_start + mass.shape[-1]] += mass
        self.until = block.query_start + rows.shape[2]

    def found(self, frame: PassFrame, threshold: float, least: int, ripe: int) -> Bool[Tensor, "batch head key"]:
        """Keys over the threshold, of those that enough queries have seen (see `SinkEdit`)."""
        valid = frame.valid_on(self.sums.device)
        real = torch.ones(1, self.until, dtype=torch.bool, device=self.sums.device) if valid is None else valid
        behind = real.long().flip(-1).cumsum(-1).flip(-1)  # real queries at and after each key
        # of a sequence shorter than 2 * ripe, the first half of the keys
        enough = least if self.first_call else (behind[:, :1] // 2).clamp(max=ripe).clamp(min=least)
        over = self.sums / behind.clamp_min(1)[:, None] > threshold
        return over & (behind >= enough)[:, None]


@dataclass(frozen=True, eq=False)
class SinkEdit(ABC):
    """What ACT and its siblings share: how S is found, in prefill and while decoding.

    Prefill: S comes from all rows of the call at once, before any of them is changed (the paper's rule). A call that
    goes on from a KV cache, where the paper says nothing: its rows are added to the running sums first, and S is found
    anew from these, among the keys that `ripe` queries have seen (half of all, in a sequence shorter than twice that).
    So keys join and drop out as their mean moves, the anchor is always the first of them, and S after n + m tokens is,
    of those keys, the S of a prefill of n + m tokens. What a key got from its own first queries alone, which made many
    of a prompt's last tokens "sinks" in its prefill, is not carried on. Sums are of the rows as they were before this
    edit. Padded queries do not count, and T is each sequence's own length.

    Attributes:
        heads: (layer, head) pairs; None = all heads of all layers.
        threshold: mean attention received above which a key is a sink.
        keep_anchor: leave the first key found out of S.
        sinks: S given instead of found: key positions, or a bool mask [key] or [batch, key], for every head.
        least: queries that must see a key before it can be found in prefill; 1 = the paper's rule, by which the last
            tokens, seen by themselves alone, are often found.
        ripe: the same in calls that go on from a cache.
    """

    heads: Pairs | None = None
    threshold: float = 0.1
    keep_anchor: bool = True
    sinks: Any = None
    least: int = 1
    ripe: int = 32
    full_rows: ClassVar[bool] = False  # none of them puts mass on a key that had none

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", checked_pairs(self.heads))
        name = type(self).__name__
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"{name}(threshold={self.threshold}): expected a number from 0 to 1")
        if self.least < 1 or self.ripe < 1:
            raise UsageError(f"{name}(least={self.least}, ripe={self.ripe}): a key is seen by 1 query or more")

    @property
    def layers(self) -> frozenset[int] | None:
        """Layers it changes; None = all."""
        return layers_of(self.heads)

    @property
    def whole_layer(self) -> bool:
        """Whether it must see every row of a call before it changes one (see `interp.tracing.taps.RowEdit`)."""
        return self.sinks is None

    def survey(self, block: RowBlock) -> None:
        """Take a block of the layer's rows into the running sums.

        Raises:
            TraceError: the trace began with a filled cache, or the same edit stands in it twice.
        """
        name, key = type(self).__name__, (id(self), block.layer)
        ledger = block.frame.kept.get(key)
        if ledger is None:
            if block.frame.start:
                raise TraceError(
                    f"{name} finds its sinks from the whole sequence, and this trace began after {block.frame.start} "
                    "tokens were cached; run the prompt inside the trace, or give sinks=..."
                )
            ledger = block.frame.kept[key] = Ledger(block.rows.new_zeros(*block.rows.shape[:2], 0))
        elif ledger.until != block.query_start:
            raise TraceError(f"the same {name} stands in one trace twice; make one edit for each")
        elif ledger.until == ledger.sums.shape[-1]:
            ledger.first_call = False
        ledger.take(block)

    def rows(self, block: RowBlock) -> Tensor:
        """The calibrated rows."""
        chosen = heads_in(block, self.heads)
        source, spared = self.sets(block)
        if self.sinks is None:
            source, spared = source[:, chosen], spared[:, chosen]
        if not bool(source.any()):
            return block.rows
        changed = self.changed(block.rows[:, chosen], source[:, :, None], spared[:, :, None])
        return with_heads(block.rows, chosen, changed)

    @abstractmethod
    def changed(self, rows: Tensor, sinks: Tensor, found: Tensor) -> Tensor:
        """Rows [batch, head, row, key] given S and every key found (S and the anchor), bool [batch, head, 1, key]."""

    def sets(self, block: RowBlock) -> tuple[Tensor, Tensor]:
        """(S, every key found), bool [batch or 1, head or 1, key] over the block's columns."""
        if self.sinks is not None:
            given = key_set(self.sinks, block, f"{type(self).__name__}(sinks=...)")[:, None]
            return given, given
        ledger = block.frame.kept[id(self), block.layer]
        every = ledger.found(block.frame, self.threshold, self.least, self.ripe)
        first = torch.where(every.any(-1), every.int().argmax(-1), -1)
        found = every[..., block.key_start : block.key_start + block.rows.shape[3]]
        anchor = block.key_positions == first[..., None]
        return found & ~anchor if self.keep_anchor else found, found


@dataclass(frozen=True, eq=False)
class ACT(SinkEdit):
    """Attention calibration: mass on sinks times `beta`, what is freed goes to all other keys in proportion.

    ``A'[i,k in S] = beta * A[i,k]`` (Yu et al. 2024, arXiv 2406.15765, section 4); rows keep their sum. A row that sees
    nothing but sinks stays as it is. See `SinkEdit` for the other settings.

    Attributes:
        beta: share of a sink's mass that stays.
    """

    beta: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self, self.beta)

    def changed(self, rows: Tensor, sinks: Tensor, found: Tensor) -> Tensor:
        """See `SinkEdit.changed`."""
        return move_mass(rows, sinks, ~sinks, 1 - self.beta)


@dataclass(frozen=True, eq=False)
class RemoveSinks(SinkEdit):
    """All mass on sinks goes to the other keys in proportion: ACT with beta 0. See `SinkEdit` for the settings."""

    def changed(self, rows: Tensor, sinks: Tensor, found: Tensor) -> Tensor:
        """See `SinkEdit.changed`."""
        return move_mass(rows, sinks, ~sinks, 1.0)


@dataclass(frozen=True, eq=False)
class UniformSinks(SinkEdit):
    """ACT with the freed mass spread evenly over the keys a query sees that are no sinks (nor the anchor).

    "Sees" means holding any mass. See `SinkEdit` for the other settings.

    Attributes:
        beta: share of a sink's mass that stays.
    """

    beta: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self, self.beta)

    def changed(self, rows: Tensor, sinks: Tensor, found: Tensor) -> Tensor:
        """See `SinkEdit.changed`."""
        return move_mass(rows, sinks, ~found, 1 - self.beta, evenly=True)


def check_share(edit: SinkEdit, beta: float) -> None:
    """Refuse a beta that is no share."""
    if not 0 <= beta <= 1:
        raise UsageError(f"{type(edit).__name__}(beta={beta}): expected a number from 0 to 1")
